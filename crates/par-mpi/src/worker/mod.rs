//! A rank that works for pools, seen from inside.
//!
//! 1. A rank has a *post* for each pool that it works for, with executor threads that run the pool's tasks: one task at a time, and one
//!    more for each thread that waits inside its task (law 9).
//! 2. One thread at a time reads what comes for the rank, for all its posts. An executor that finds nothing to run reads itself, so that
//!    a request crosses no thread on its way; while all are inside tasks, the rank's first thread looks every [`TICK`]. So a rank listens
//!    while its tasks run.
//! 3. The lock of the desk is held for moments. Code of users never runs under it, and nothing is sent under it.
//! 4. What a rank was sent and has not begun it gives back when it is asked, and by itself when a thread begins to wait inside its
//!    task: the place that becomes free is for what the wait needs.
//! 5. A post ends when its pool says so, with the last of its threads. Who is then still inside a task ends its thread afterwards, and
//!    keeps nobody from anything.

mod executor;
mod hear;
mod nested;

use crate::error::MpiError;
use crate::protocol::{HEAD, Hello, Setup, message, put, put_reply, up};
use crate::transport::{Channel, Transport};
use hear::Request;
use nested::Nested;
use par_core::CancelFlag;
use par_core::TaskError;
use par_core::engine::Engine;
use par_core::remote::Prepared;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often a rank that is busy looks after what waits.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without anything to do before the first thread rests.
const PATIENT: u32 = 20;
/// Bytes of replies that are sent before anything else happens.
const ENOUGH: usize = 16 << 10;
/// The rank that has the pool.
pub(crate) const ROOT: usize = 0;

/// What the threads of a rank share.
struct Desk {
    transport: Arc<dyn Transport>,
    state: Mutex<State>,
    /// For executors.
    changed: Condvar,
    /// For the first thread.
    called: Condvar,
}

#[derive(Default)]
struct State {
    posts: HashMap<u64, Post>,
    /// Whether a thread reads.
    reading: bool,
    /// Executors that have nothing to do, and do not read.
    waiting: usize,
    /// Whether the first thread must be called.
    rests: bool,
    leaving: bool,
    failed: Option<MpiError>,
}

/// What a rank has for one pool.
struct Post {
    worker: Arc<Worker>,
    requests: VecDeque<Request>,
    /// The jobs that run, with their tokens.
    running: Vec<(u64, Arc<CancelFlag>)>,
    /// Threads that wait inside tasks.
    blocked: usize,
    threads: usize,
    /// How many other workers have nothing to do.
    idle: usize,
    stopping: bool,
}

impl Post {
    fn has_place(&self) -> bool {
        self.running.len() <= self.blocked
    }

    /// Whether somebody should read for it: for a place that is free, or for those that wait for answers.
    fn wants_reader(&self) -> bool {
        self.has_place() || self.blocked > 0
    }
}

/// A worker of one pool.
struct Worker {
    desk: Arc<Desk>,
    pool: u64,
    index: usize,
    workers: usize,
    /// The longest payload, in bytes.
    longest: u64,
    nested: Arc<Nested>,
    calls: Mutex<HashMap<u32, Result<Arc<Prepared>, TaskError>>>,
    /// Replies that were not sent.
    outbox: Mutex<Vec<u8>>,
}

/// Works for the pools of rank 0 until they say that no other comes.
///
/// # Errors
/// What the transport says, or that what came makes no sense.
pub(crate) fn serve(transport: Arc<dyn Transport>) -> Result<(), MpiError> {
    let desk = Arc::new(Desk {
        transport,
        state: Mutex::default(),
        changed: Condvar::new(),
        called: Condvar::new(),
    });
    let ended = desk.watch();
    desk.state.lock().stop_all();
    desk.changed.notify_all();
    if let Err(error) = &ended {
        say_gone(&*desk.transport, &error.to_string());
    }
    ended
}

/// Tells the pools that this rank serves no longer.
pub(crate) fn say_gone(transport: &dyn Transport, why: &str) {
    let text = format!("rank {} serves no longer: {why}", transport.rank());
    let bytes = message(0, |out| out.extend_from_slice(text.as_bytes()));
    // Where not even this can be sent, the ranks end together.
    let _ = transport.send(Channel::Engine, ROOT, up::GONE, bytes);
}

impl Desk {
    /// The rank's first thread (rule 2).
    fn watch(self: &Arc<Self>) -> Result<(), MpiError> {
        let mut quiet = 0;
        let mut now = self.state.lock();
        loop {
            if let Some(error) = now.failed.take() {
                return Err(error);
            }
            if now.leaving {
                return Ok(());
            }
            if now.posts.is_empty() && !now.reading {
                now = self.read(now, true);
                continue;
            }
            if now.posts.values().all(|post| post.running.is_empty()) {
                quiet += 1;
            } else {
                quiet = 0;
            }
            if quiet > PATIENT && now.reading {
                now.rests = true;
                self.called.wait(&mut now);
                now.rests = false;
                quiet = 0;
            } else {
                self.called.wait_for(&mut now, TICK);
            }
            if !now.reading {
                now = self.read(now, false);
            }
            let posts: Vec<_> = now
                .posts
                .values()
                .map(|post| (Arc::clone(&post.worker), post.idle))
                .collect();
            MutexGuard::unlocked(&mut now, || {
                for (worker, idle) in posts {
                    worker.flush();
                    worker.offer_some(idle);
                }
            });
        }
    }

    /// Reads: waits for one message, or takes those that are there.
    fn read<'a>(self: &'a Arc<Self>, mut now: MutexGuard<'a, State>, wait: bool) -> MutexGuard<'a, State> {
        now.reading = true;
        let heard = MutexGuard::unlocked(&mut now, || if wait { self.hear() } else { self.hear_all() });
        now.reading = false;
        if let Err(error) = heard {
            now.fail(error);
        }
        if now.waiting > 0 {
            self.changed.notify_all();
        }
        if now.failed.is_some() || now.leaving || now.posts.is_empty() {
            self.called.notify_one();
        }
        now
    }

    fn set_up(self: &Arc<Self>, pool: u64, setup: Setup) {
        let worker = Arc::new_cyclic(|me: &Weak<Worker>| Worker {
            desk: Arc::clone(self),
            pool,
            index: setup.index,
            workers: setup.workers,
            longest: setup.longest,
            nested: Nested::new(Weak::clone(me)),
            calls: Mutex::default(),
            outbox: Mutex::default(),
        });
        self.state.lock().posts.insert(
            pool,
            Post {
                worker: Arc::clone(&worker),
                requests: VecDeque::new(),
                running: Vec::new(),
                blocked: 0,
                threads: 0,
                idle: 0,
                stopping: false,
            },
        );
        if let Err(error) = worker.spawn(Some(setup.initializer)) {
            let hello = Hello::Thread(error.to_string());
            worker.say(up::HELLO, |out| put(out, &hello));
            self.state.lock().posts.remove(&pool);
        }
    }
}

impl State {
    fn stop_all(&mut self) {
        self.posts.values_mut().for_each(|post| post.stopping = true);
    }

    fn fail(&mut self, error: MpiError) {
        self.failed.get_or_insert(error);
    }
}

impl Worker {
    fn engine(&self) -> Weak<dyn Engine> {
        self.nested.engine()
    }

    /// Sends a message to the pool.
    fn say(&self, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) {
        let bytes = message(self.pool, fill);
        let sent = self.desk.transport.send(Channel::Engine, ROOT, kind, bytes);
        if let Err(error) = sent {
            self.desk.state.lock().fail(error);
            self.desk.called.notify_one();
        }
    }

    /// Gathers a reply; returns whether it should be sent before the next request begins.
    fn reply(&self, number: u64, took_ns: u64, failed: bool, bytes: &[u8]) -> bool {
        let mut outbox = self.outbox.lock();
        if outbox.is_empty() {
            outbox.extend_from_slice(&self.pool.to_le_bytes());
        }
        put_reply(&mut outbox, number, took_ns, failed, bytes);
        outbox.len() >= ENOUGH
    }

    /// Sends the replies that were gathered.
    fn flush(&self) {
        let mut outbox = self.outbox.lock();
        if outbox.len() > HEAD {
            let bytes = std::mem::take(&mut *outbox);
            // Sent under the lock, so that nobody says that the worker has ended in between.
            let sent = self
                .desk
                .transport
                .send(Channel::Engine, ROOT, up::REPLIES, bytes);
            drop(outbox);
            if let Err(error) = sent {
                self.desk.state.lock().fail(error);
                self.desk.called.notify_one();
            }
        }
    }
}
