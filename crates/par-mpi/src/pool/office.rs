//! Reading what ranks say, on rank 0, for all pools that it has over them.
//!
//! 1. [`Office::role`] is held while a thread waits for messages and deals with what comes. The office's own thread holds it while nobody
//!    else wants it and a message may come; otherwise it rests.
//! 2. A thread that waits for an outcome asks for the role, and reads until it has what it waits for: an answer crosses no other
//!    thread. If another waiting thread has the role already, it sleeps like any other.
//! 3. After that the office's own thread stays away for a moment, as the next wait often follows at once; it comes back at once when
//!    somebody sleeps who had asked in vain.

use super::Hub;
use crate::error::MpiError;
use crate::protocol::{down, message, split_pool, up};
use crate::transport::{Channel, Match, Message, Received, Transport};
use par_core::job::Job;
use par_core::{NoBlockingGuard, forbid_blocking};
use parking_lot::{Condvar, Mutex};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long the office's own thread stays away after others have read.
const AWAY: Duration = Duration::from_millis(1);
/// Messages that are taken before the ranks are fed.
const MANY: usize = 64;

/// Who reads, and for which pools.
pub(crate) struct Office {
    transport: Arc<dyn Transport>,
    hubs: Mutex<HashMap<u64, Weak<Hub>>>,
    next: AtomicU64,
    role: Mutex<()>,
    /// Whether a thread that waits for an outcome has the role, or is about to.
    driven: AtomicBool,
    /// Whether such a thread had it since the own thread looked.
    was_driven: AtomicBool,
    /// Whether such a thread was turned away.
    turned_away: AtomicBool,
    /// Pools that start or end, and expect messages without having sent requests.
    attention: AtomicUsize,
    /// Whether the own thread waits at `rest` for something to expect.
    resting: AtomicBool,
    rest: Mutex<bool>,
    rested: Condvar,
    over: AtomicBool,
    /// Why the ranks can do nothing more.
    broken: Mutex<Option<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has the role, of any office.
pub(super) fn is_reading() -> bool {
    READING.get()
}

/// While this thread deals with what was read (rule 3 of the pool).
struct Reading(#[allow(dead_code, reason = "held for its destructor")] NoBlockingGuard);

impl Reading {
    fn begin() -> Self {
        READING.set(true);
        Reading(forbid_blocking())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.set(false);
    }
}

/// While a thread that waits for an outcome reads.
struct Driving<'a>(&'a Office);

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.0.driven.store(false, Ordering::SeqCst);
        if self.0.turned_away.swap(false, Ordering::SeqCst) {
            self.0.was_driven.store(false, Ordering::SeqCst);
            self.0.call_own();
        }
    }
}

/// While a pool starts or ends.
pub(super) struct Attention<'a>(&'a Office);

impl Drop for Attention<'_> {
    fn drop(&mut self) {
        self.0.attention.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Tells the other ranks that no pool comes any more.
pub(crate) fn release(transport: &dyn Transport) {
    for rank in 1..transport.size() {
        // A rank that cannot be told ends with the others.
        let _ = transport.send(Channel::Engine, rank, down::LEAVE, message(0, |_| {}));
    }
}

impl Office {
    /// Opens an office over ranks that serve.
    pub(crate) fn open(transport: Arc<dyn Transport>) -> std::io::Result<Arc<Self>> {
        let office = Arc::new(Office {
            transport,
            hubs: Mutex::default(),
            next: AtomicU64::new(1),
            role: Mutex::new(()),
            driven: AtomicBool::new(false),
            was_driven: AtomicBool::new(false),
            turned_away: AtomicBool::new(false),
            attention: AtomicUsize::new(0),
            resting: AtomicBool::new(false),
            rest: Mutex::new(false),
            rested: Condvar::new(),
            over: AtomicBool::new(false),
            broken: Mutex::default(),
            thread: Mutex::default(),
        });
        let own = Arc::clone(&office);
        let thread = thread::Builder::new()
            .name("par-mpi".to_owned())
            .spawn(move || own.watch())?;
        *office.thread.lock() = Some(thread);
        Ok(office)
    }

    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.transport
    }

    /// How many ranks serve.
    pub(crate) fn workers(&self) -> usize {
        self.transport.size() - 1
    }

    /// Why no pool can be started any more, if that is so.
    pub(super) fn closed(&self) -> Option<String> {
        let broken = self.broken.lock().clone();
        let over = self.over.load(Ordering::SeqCst);
        broken.or_else(|| {
            over.then(|| "the ranks serve no longer: their part of the program has ended".to_owned())
        })
    }

    /// A number for a new pool.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn enter(&self, hub: &Arc<Hub>) {
        self.hubs.lock().insert(hub.pool, Arc::downgrade(hub));
    }

    pub(super) fn leave(&self, pool: u64) {
        self.hubs.lock().remove(&pool);
    }

    fn hub(&self, pool: u64) -> Option<Arc<Hub>> {
        self.hubs.lock().get(&pool).and_then(Weak::upgrade)
    }

    fn hubs(&self) -> Vec<Arc<Hub>> {
        self.hubs.lock().values().filter_map(Weak::upgrade).collect()
    }

    /// Ends the pools that are left, and lets the ranks go.
    pub(crate) fn close(&self) {
        self.over.store(true, Ordering::SeqCst);
        self.call_own();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // A panic there has been printed by its hook.
            let _ = thread.join();
        }
        for hub in self.hubs() {
            hub.give_up("the ranks serve no longer");
        }
        release(&*self.transport);
    }

    /// Makes whoever waits for messages look around.
    pub(super) fn wake(&self) {
        self.transport.wake(Channel::Engine);
    }

    /// Makes the own thread look around.
    fn call_own(&self) {
        *self.rest.lock() = true;
        self.rested.notify_one();
        self.wake();
    }

    /// Something was sent that will be answered.
    pub(super) fn expect(&self) {
        if self.resting.load(Ordering::SeqCst) {
            self.call_own();
        }
    }

    pub(super) fn attend(&self) -> Attention<'_> {
        self.attention.fetch_add(1, Ordering::SeqCst);
        self.expect();
        Attention(self)
    }

    fn expects(&self) -> bool {
        self.attention.load(Ordering::SeqCst) > 0 || self.hubs().iter().any(|hub| hub.queue.holds())
    }

    /// Everything ends with that reason, once a thread reads that holds no lock.
    pub(super) fn fail_later(&self, why: String) {
        self.broken.lock().get_or_insert(why);
        self.expect();
        self.wake();
    }

    /// The own thread.
    fn watch(&self) {
        while !self.over.load(Ordering::SeqCst) {
            self.stay_away();
            let broken = self.broken.lock().is_some();
            if broken {
                self.give_up();
            }
            if !self.expects() || broken {
                self.rest();
                continue;
            }
            let _role = self.role.lock();
            let enough = || self.driven.load(Ordering::SeqCst) || self.over.load(Ordering::SeqCst);
            while !enough() && self.expects() && self.broken.lock().is_none() {
                self.turn(None, enough);
            }
        }
    }

    /// Stays away while others read (rule 3).
    fn stay_away(&self) {
        let mut called = self.rest.lock();
        while !*called
            && (self.driven.load(Ordering::SeqCst) || self.was_driven.swap(false, Ordering::SeqCst))
        {
            self.rested.wait_for(&mut called, AWAY);
        }
        *called = false;
    }

    fn rest(&self) {
        let mut called = self.rest.lock();
        self.resting.store(true, Ordering::SeqCst);
        let broken = || self.broken.lock().is_some();
        while !*called && !self.over.load(Ordering::SeqCst) && (broken() || !self.expects()) {
            self.rested.wait(&mut called);
        }
        *called = false;
        self.resting.store(false, Ordering::SeqCst);
    }

    /// Reads until the job is done, `until` has passed, or there is no need to (rule 2).
    pub(super) fn drive(&self, job: &Job, until: Option<Instant>) {
        if is_reading() {
            return;
        }
        if self.driven.swap(true, Ordering::SeqCst) {
            self.turned_away.store(true, Ordering::SeqCst);
            return;
        }
        self.was_driven.store(true, Ordering::SeqCst);
        // Also when what it hears makes it panic: else nobody would read any more.
        let _driving = Driving(self);
        {
            let _role = match self.role.try_lock() {
                Some(role) => role,
                None => {
                    // The own thread has it, and looks around.
                    self.wake();
                    self.role.lock()
                }
            };
            let late = || until.is_some_and(|until| Instant::now() >= until);
            let enough = || job.is_done() || self.over.load(Ordering::SeqCst);
            while !enough() && !late() && self.broken.lock().is_none() {
                self.turn(until, enough);
            }
        }
    }

    /// One turn: waits for a message, not longer than `until`, and deals with what came. `enough` says that there is nothing to wait
    /// for; who changes that, wakes.
    fn turn(&self, until: Option<Instant>, enough: impl Fn() -> bool) {
        let _reading = Reading::begin();
        if let Err(why) = self.turn_or_fail(until, enough) {
            self.broken.lock().get_or_insert(why);
        }
        self.give_up();
    }

    /// If the ranks can do nothing more, ends what the pools have.
    fn give_up(&self) {
        let broken = self.broken.lock().clone();
        if let Some(why) = broken {
            for hub in self.hubs() {
                hub.give_up(&why);
            }
        }
    }

    fn turn_or_fail(&self, until: Option<Instant>, enough: impl Fn() -> bool) -> Result<(), String> {
        let text = |error: MpiError| error.to_string();
        let again = self.hubs().iter().filter_map(|hub| hub.balance()).min();
        let again = again.map(|again| Instant::now() + again);
        let until = match (until, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if enough() {
            return Ok(());
        }
        let received = self.transport.receive(Channel::Engine, Match::ANY, until);
        let Received::Message(message) = received.map_err(text)? else {
            return Ok(());
        };
        let mut touched = vec![self.take(&message)?];
        for _ in 0..MANY {
            match self
                .transport
                .try_receive(Channel::Engine, Match::ANY)
                .map_err(text)?
            {
                Some(message) => touched.push(self.take(&message)?),
                None => break,
            }
        }
        touched.sort_unstable();
        touched.dedup();
        for pool in touched {
            if let Some(hub) = self.hub(pool) {
                hub.feed_all();
            }
        }
        Ok(())
    }

    /// Deals with a message; returns the number of its pool.
    fn take(&self, message: &Message) -> Result<u64, String> {
        let rank = message.source;
        let bad = |why: &dyn std::fmt::Display| format!("what rank {rank} says is not readable: {why}");
        let (pool, payload) = split_pool(&message.bytes).map_err(|error| bad(&error))?;
        if message.tag == up::GONE {
            return Err(String::from_utf8_lossy(payload).into_owned());
        }
        // What is said to a pool that has ended is of no interest.
        if let Some(hub) = self.hub(pool) {
            if rank == 0 || rank > hub.seats.len() {
                return Err(bad(&"it has no worker of that pool"));
            }
            hub.hear(rank - 1, message.tag, payload)
                .map_err(|error| bad(&error))?;
        }
        Ok(pool)
    }
}
