//! The process that owns the objects: a thread for each connection.
//!
//! 1. The listening socket comes from the process that starts the manager, so that clients can connect at once, and goes with the
//!    manager's process, so that they are refused at once when it is gone.
//! 2. A connection counts as one that has the key after the proofs ([`key`](super::key)); so many may be in the middle of
//!    that, and so many be let in. Others are closed.
//! 3. When a connection ends, its locks are released; with the last of its session, the session's references go.

use super::address::{Address, Listener, Stream};
use super::collections::{CounterObject, DictObject, ListObject};
use super::error::Fault;
use super::key::{self, Key};
use super::object::{Caller, Confirm, Create, Managed, Object, TYPES, arguments, owned, value};
use super::protocol::{LONGEST, Request, down, read_call, read_number, read_request, up};
use super::table::Table;
use super::waiting::{EventObject, LockObject, QueueObject};
use crate::Descriptor;
use crate::failpoint::reach;
use par_core::wire::{self, FrameDecoder};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Rule 2.
const MOST_STRANGERS: usize = 64;
const MOST_CONNECTIONS: usize = 4096;

/// What the process is told.
#[derive(Serialize, Deserialize)]
pub(super) struct Post {
    pub(super) listener: Descriptor,
    pub(super) address: Address,
    pub(super) key: Key,
}

/// Kinds of objects that every manager knows, beside those of [`TYPES`].
const KINDS: &[(&str, Create)] = &[
    (DictObject::NAME, |_| Ok(owned(DictObject::default()))),
    ("namespace", |_| Ok(owned(DictObject::default()))),
    (ListObject::NAME, |_| Ok(owned(ListObject::default()))),
    (CounterObject::NAME, |from| {
        Ok(owned(CounterObject(arguments(from)?)))
    }),
    ("lock", |_| Ok(Box::new(LockObject::default()))),
    ("event", |_| Ok(Box::new(EventObject::default()))),
    ("queue", |from| {
        let capacity: u64 = arguments(from)?;
        Ok(Box::new(QueueObject::new(
            usize::try_from(capacity).unwrap_or(usize::MAX),
        )))
    }),
];

fn create(kind: &str, from: &[u8]) -> Result<Arc<dyn Object>, Fault> {
    let known = || {
        KINDS
            .iter()
            .copied()
            .chain(TYPES.iter().map(|kind| (kind.name, kind.create)))
    };
    match known().find(|(name, _)| *name == kind) {
        Some((_, create)) => create(from).map(Arc::from),
        None => {
            let known: Vec<_> = known().map(|(name, _)| name).collect();
            Err(Fault::Failed(format!(
                "the manager's program knows no type {kind}; it knows {known:?}. Types are registered by managed!"
            )))
        }
    }
}

#[derive(Default)]
struct Server {
    table: Mutex<Table>,
    strangers: AtomicUsize,
    connections: AtomicUsize,
    numbers: AtomicU64,
}

/// Counts something while it lives.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    /// `None` if there are that many already.
    fn new(counter: &'a AtomicUsize, most: usize) -> Option<Self> {
        let counted = Counted(counter);
        (counter.fetch_add(1, Ordering::Relaxed) < most).then_some(counted)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The process.
pub(super) fn serve(post: Post) {
    crate::before_main::ignore_interrupt();
    let listener = Listener::of_file(post.listener.into_inner(), &post.address);
    let server: &'static Server = Box::leak(Box::default());
    let key: &'static Key = Box::leak(Box::new(post.key));
    loop {
        match listener.accept() {
            Ok(stream) => {
                let Some(stranger) = Counted::new(&server.strangers, MOST_STRANGERS) else {
                    continue;
                };
                let run = move || server.meet(&stream, key, stranger);
                // Without a thread for it, the connection is closed.
                let _ = thread::Builder::new()
                    .name("par-process client".to_owned())
                    .spawn(run);
            }
            // Too many open files, mostly: who connects waits.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

impl Server {
    fn meet(&self, stream: &Stream, key: &Key, stranger: Counted<'_>) {
        let Ok((session, proof)) = key::admit(stream, key) else {
            return;
        };
        drop(stranger);
        let Some(_connection) = Counted::new(&self.connections, MOST_CONNECTIONS) else {
            return;
        };
        self.table.lock().enter(session);
        let mut caller = Caller {
            stream,
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            confirm: None,
            held: Vec::new(),
        };
        // The client learns that it is in when its session counts the connection: it may use another, and end that, before this
        // thread runs again. However it ends, what it held is given back.
        if key::welcome(stream, &proof).is_ok() {
            let _ = self.talk(session, &mut caller);
        }
        if let Some(confirm) = caller.confirm.take() {
            confirm(false);
        }
        for lock in &caller.held {
            lock.release(caller.number);
        }
        let gone = self.table.lock().leave(session);
        drop(gone);
    }

    fn talk(&self, session: u128, caller: &mut Caller<'_>) -> io::Result<()> {
        let mut decoder = FrameDecoder::new(LONGEST);
        let mut out = Vec::new();
        loop {
            let (kind, payload) = match decoder.next_frame().map_err(io::Error::other)? {
                Some(frame) => frame,
                None => {
                    match decoder.read_from(&mut caller.stream) {
                        Ok(0) => return Ok(()),
                        Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                        _ => {}
                    }
                    continue;
                }
            };
            // After a reply that must be confirmed, only that is to the point.
            let confirm: Option<Confirm> = caller.confirm.take();
            match (kind, confirm) {
                (down::CONFIRM, Some(confirm)) => {
                    confirm(true);
                    continue;
                }
                (_, Some(confirm)) => {
                    confirm(false);
                    return Err(io::ErrorKind::InvalidData.into());
                }
                (down::CALL | down::REQUEST | down::FORGET, None) => {}
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
            if kind == down::FORGET {
                let (number, _) = read_number(payload).map_err(|_| io::ErrorKind::InvalidData)?;
                let gone = self.table.lock().forget(session, number);
                drop(gone);
                continue;
            }
            self.answer(kind, payload, session, caller, &mut out)?;
            (&mut caller.stream).write_all(&out)?;
            out.clear();
            out.shrink_to(1 << 20);
        }
    }

    /// Runs a call or a request, and writes the reply.
    fn answer(
        &self,
        kind: u8,
        payload: &[u8],
        session: u128,
        caller: &mut Caller<'_>,
        out: &mut Vec<u8>,
    ) -> io::Result<()> {
        let outcome = wire::append_frame(out, up::VALUE, |reply| {
            let start = reply.len();
            if kind == down::CALL {
                let (number, method, arguments) = read_call(payload)?;
                let object = self.table.lock().object(number)?;
                reach("manager.call.read");
                object.call(&method, arguments, reply, caller)?;
                reach("manager.call.done");
            } else {
                self.request(read_request(payload)?, session, reply)?;
            }
            let length = (reply.len() - start) as u64;
            if length > LONGEST {
                let text = format!("the value has {length} bytes, {LONGEST} are allowed");
                return Err(Fault::Failed(text));
            }
            Ok(())
        });
        let Err(fault) = outcome else { return Ok(()) };
        // What the client does not hear of has not happened.
        if let Some(confirm) = caller.confirm.take() {
            confirm(false);
        }
        if fault == Fault::Abandoned {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        wire::append_frame(out, up::FAULT, |reply| wire::encode(&fault, reply)).map_err(io::Error::other)
    }

    fn request(&self, request: Request, session: u128, reply: &mut Vec<u8>) -> Result<(), Fault> {
        match request {
            Request::Create { kind, from } => {
                let object = create(&kind, &from.0)?;
                value(reply, &self.table.lock().create(session, &kind, object))
            }
            Request::Lend { object } => self.table.lock().lend(session, object),
            Request::Adopt { object, lender } => self.table.lock().adopt(session, lender, object),
            Request::Publish { name, object } => {
                let gone = self.table.lock().publish(name, object)?;
                drop(gone);
                Ok(())
            }
            Request::Find { name, kind } => {
                let found = self.table.lock().find(session, &name, &kind)?;
                value(reply, &found)
            }
            Request::Count => {
                let count = self.table.lock().len() as u64;
                value(reply, &count)
            }
        }
    }
}
