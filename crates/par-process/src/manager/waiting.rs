//! Objects of a manager in which clients wait: locks, events and queues.
//!
//! 1. A call that waits looks at intervals whether its client is still there, and gives up when it is not.
//! 2. A lock belongs to a connection, which does nothing else while it holds it. When the connection ends, the lock is free.
//! 3. An item that was got belongs to the client when the client has confirmed that it has it; when the client goes before
//!    that, the item is first in the queue again. A client confirms before it gives the item to its caller, so that no
//!    caller ever sees an item that another gets as well.

use super::blob::Blob;
use super::error::Fault;
use super::object::{Caller, Object, arguments, unknown, value};
use parking_lot::{Condvar, Mutex};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A deadline as it crosses: how long from now.
fn deadline(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| Instant::now().checked_add(timeout))
}

/// The lock of a manager.
#[derive(Default)]
pub(super) struct LockState {
    /// The number of the connection that holds it.
    owner: Mutex<Option<u64>>,
    free: Condvar,
}

impl LockState {
    fn acquire(&self, caller: &Caller<'_>, until: Option<Instant>) -> Result<bool, Fault> {
        let mut owner = self.owner.lock();
        while owner.is_some() {
            let Some(slice) = caller.slice(until)? else {
                return Ok(false);
            };
            self.free.wait_for(&mut owner, slice);
        }
        *owner = Some(caller.number);
        Ok(true)
    }

    /// Frees it, if the connection of that number holds it.
    pub(super) fn release(&self, number: u64) -> bool {
        let mut owner = self.owner.lock();
        let held = *owner == Some(number);
        if held {
            *owner = None;
            drop(owner);
            // All: one that is woken may find that its client is gone.
            self.free.notify_all();
        }
        held
    }
}

/// The lock as an object.
#[derive(Default)]
pub(super) struct LockObject(Arc<LockState>);

impl Object for LockObject {
    fn call(
        &self,
        method: &str,
        args: &[u8],
        reply: &mut Vec<u8>,
        caller: &mut Caller<'_>,
    ) -> Result<(), Fault> {
        let LockObject(lock) = self;
        match method {
            "acquire" => {
                let (timeout,): (Option<Duration>,) = arguments(args)?;
                if *lock.owner.lock() == Some(caller.number) {
                    let text = "the connection holds this lock already";
                    return Err(Fault::Failed(text.to_owned()));
                }
                let acquired = lock.acquire(caller, deadline(timeout))?;
                if acquired {
                    caller.held.push(Arc::clone(lock));
                }
                value(reply, &acquired)
            }
            "release" => {
                let released = lock.release(caller.number);
                caller.held.retain(|held| !Arc::ptr_eq(held, lock));
                if released {
                    value(reply, &())
                } else {
                    Err(Fault::Failed(
                        "the lock is not held by who releases it".to_owned(),
                    ))
                }
            }
            "is_locked" => value(reply, &lock.owner.lock().is_some()),
            other => Err(unknown("a lock", other, &["acquire", "release", "is_locked"])),
        }
    }
}

/// The event of a manager.
#[derive(Default)]
pub(super) struct EventObject {
    set: Mutex<bool>,
    change: Condvar,
}

impl Object for EventObject {
    fn call(
        &self,
        method: &str,
        args: &[u8],
        reply: &mut Vec<u8>,
        caller: &mut Caller<'_>,
    ) -> Result<(), Fault> {
        match method {
            "set" => {
                *self.set.lock() = true;
                self.change.notify_all();
                value(reply, &())
            }
            "clear" => {
                *self.set.lock() = false;
                value(reply, &())
            }
            "is_set" => value(reply, &*self.set.lock()),
            "wait" => {
                let (timeout,): (Option<Duration>,) = arguments(args)?;
                let until = deadline(timeout);
                let mut set = self.set.lock();
                while !*set {
                    let Some(slice) = caller.slice(until)? else { break };
                    self.change.wait_for(&mut set, slice);
                }
                value(reply, &*set)
            }
            other => Err(unknown("an event", other, &["set", "clear", "is_set", "wait"])),
        }
    }
}

/// How a queue answers a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Put {
    Done,
    Full,
    Closed,
}

/// How a queue answers a get.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Got {
    Item(Blob),
    Empty,
    Closed,
}

/// The queue of a manager.
pub(super) struct QueueObject {
    capacity: usize,
    state: Arc<QueueState>,
}

#[derive(Default)]
struct QueueState {
    items: Mutex<Items>,
    change: Condvar,
}

#[derive(Default)]
struct Items {
    waiting: VecDeque<Blob>,
    /// Got and not confirmed.
    out: usize,
    closed: bool,
}

impl QueueObject {
    pub(super) fn new(capacity: usize) -> Self {
        QueueObject {
            capacity,
            state: Arc::default(),
        }
    }

    fn put(&self, item: Blob, until: Option<Instant>, caller: &Caller<'_>) -> Result<Put, Fault> {
        // A client that gave up while the manager was stopped was told so.
        if caller.stream.is_gone() {
            return Err(Fault::Abandoned);
        }
        let mut items = self.state.items.lock();
        loop {
            if items.closed {
                return Ok(Put::Closed);
            }
            // What may come back keeps its place.
            if items.waiting.len() + items.out < self.capacity {
                items.waiting.push_back(item);
                drop(items);
                self.state.change.notify_all();
                return Ok(Put::Done);
            }
            let Some(slice) = caller.slice(until)? else {
                return Ok(Put::Full);
            };
            self.state.change.wait_for(&mut items, slice);
        }
    }

    fn get(&self, until: Option<Instant>, caller: &mut Caller<'_>) -> Result<Got, Fault> {
        let mut items = self.state.items.lock();
        loop {
            if let Some(item) = items.waiting.pop_front() {
                items.out += 1;
                let (state, kept) = (Arc::clone(&self.state), item.clone());
                caller.confirm = Some(Box::new(move |confirmed| {
                    let mut items = state.items.lock();
                    items.out -= 1;
                    if !confirmed {
                        items.waiting.push_front(kept);
                    }
                    drop(items);
                    state.change.notify_all();
                }));
                return Ok(Got::Item(item));
            }
            if items.closed && items.out == 0 {
                return Ok(Got::Closed);
            }
            let Some(slice) = caller.slice(until)? else {
                return Ok(Got::Empty);
            };
            self.state.change.wait_for(&mut items, slice);
        }
    }
}

impl Object for QueueObject {
    fn call(
        &self,
        method: &str,
        args: &[u8],
        reply: &mut Vec<u8>,
        caller: &mut Caller<'_>,
    ) -> Result<(), Fault> {
        match method {
            "put" => {
                let (item, timeout): (Blob, Option<Duration>) = arguments(args)?;
                let put = self.put(item, deadline(timeout), caller)?;
                value(reply, &put)
            }
            "get" => {
                let (timeout,): (Option<Duration>,) = arguments(args)?;
                let got = self.get(deadline(timeout), caller)?;
                value(reply, &got)
            }
            "len" => value(reply, &(self.state.items.lock().waiting.len() as u64)),
            "close" => {
                self.state.items.lock().closed = true;
                self.state.change.notify_all();
                value(reply, &())
            }
            other => Err(unknown("a queue", other, &["put", "get", "len", "close"])),
        }
    }
}
