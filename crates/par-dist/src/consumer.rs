//! The working side of a peer: messages are leased ahead, run on threads, and settled in batches.
//!
//! 1. A thread may run a message while fewer run than the concurrency and the blocked threads together. A thread that blocks
//!    in a wait inside its task so lends its place to another one, which is started if none is free (law 9).
//! 2. Leased ahead is what takes about [`AHEAD`] to run, by the running mean. What is leased and not begun while everybody is busy
//!    for longer than [`PATIENCE`] is given back.
//! 3. The mark of a message is left last before its code runs: what fails earlier was never begun.
//! 4. An outcome is kept before the next message begins, or settled if it cannot be: the death of this process loses no
//!    message that has ended.

mod flags;
mod run;

pub(crate) use run::current_root;

use crate::broker::{Broker, CallId, Delivery, Lease, PeerId, Settled};
use flags::Flags;
use par_core::engine::{Engine, Initializer};
use par_core::remote::Prepared;
use par_core::share::{self, ShareId};
use par_core::{TaskError, enter_worker};
use parking_lot::{Condvar, Mutex};
use run::initialize;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How much work is leased ahead.
const AHEAD: Duration = Duration::from_millis(10);
/// How long leased messages wait behind a task that does not end.
const PATIENCE: Duration = Duration::from_millis(50);
/// Stack of a thread that runs tasks: as much as a program's first thread usually has.
const STACK: usize = 8 << 20;

/// Runs messages.
pub(crate) struct Consumer {
    broker: Arc<dyn Broker>,
    concurrency: usize,
    prefetch: usize,
    /// The index of the first of its threads as a worker.
    first_index: usize,
    state: Mutex<State>,
    /// There is something to run, a place to run it, or it is over.
    changed: Condvar,
    calls: Mutex<HashMap<CallId, Arc<Prepared>>>,
    /// Keys of the shared values that came from the broker.
    shares: Mutex<HashMap<Vec<u8>, ShareId>>,
    flags: Mutex<Flags>,
}

#[derive(Default)]
struct State {
    ahead: VecDeque<Delivery>,
    done: Vec<Settled>,
    /// Outcomes that are not kept and not settled.
    heavy: usize,
    running: HashMap<i64, Instant>,
    blocked: usize,
    threads: usize,
    /// How long a message takes, in the mean.
    mean: Option<Duration>,
    /// Leases only what its own tasks wait for.
    closing: bool,
    stopping: bool,
}

impl State {
    fn free(&self, concurrency: usize) -> usize {
        (concurrency + self.blocked).saturating_sub(self.running.len())
    }

    fn is_stuck(&self) -> bool {
        self.running.values().any(|since| since.elapsed() > PATIENCE)
    }
}

impl Consumer {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        concurrency: usize,
        prefetch: usize,
        first_index: usize,
    ) -> Self {
        Consumer {
            broker,
            concurrency,
            prefetch,
            first_index,
            state: Mutex::default(),
            changed: Condvar::new(),
            calls: Mutex::default(),
            shares: Mutex::default(),
            flags: Mutex::default(),
        }
    }

    /// Starts the threads. `home` is the pool whose initialiser they run at once; the first of them tells how that ended.
    pub(crate) fn start(
        self: &Arc<Self>,
        engine: &Weak<dyn Engine>,
        home: Option<(PeerId, Initializer)>,
    ) -> std::io::Result<Result<(), TaskError>> {
        let (tell, told) = std::sync::mpsc::channel();
        for index in 0..self.concurrency {
            self.spawn(engine.clone(), index, home.clone(), Some(tell.clone()))?;
        }
        drop(tell);
        let outcomes: Vec<Result<(), TaskError>> = told.iter().take(self.concurrency).collect();
        if outcomes.len() < self.concurrency {
            return Ok(Err(TaskError::Rejected(
                "a thread of the worker ended before it began".to_owned(),
            )));
        }
        Ok(outcomes.into_iter().collect())
    }

    fn spawn(
        self: &Arc<Self>,
        engine: Weak<dyn Engine>,
        index: usize,
        home: Option<(PeerId, Initializer)>,
        tell: Option<std::sync::mpsc::Sender<Result<(), TaskError>>>,
    ) -> std::io::Result<()> {
        let me = Arc::clone(self);
        self.state.lock().threads += 1;
        let started = thread::Builder::new()
            .name("par-worker".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let _worker = enter_worker(me.first_index + index % me.concurrency.max(1), engine.clone());
                let ready = match &home {
                    Some((pool, initializer)) => initialize(*pool, initializer),
                    None => Ok(()),
                };
                let go = ready.is_ok();
                if let Some(tell) = tell {
                    // Nobody listens any more where the start was given up.
                    let _ = tell.send(ready);
                }
                if go {
                    me.work();
                }
                me.state.lock().threads -= 1;
                me.changed.notify_all();
            });
        if started.is_err() {
            self.state.lock().threads -= 1;
        }
        started.map(|_| ())
    }

    /// How many messages should be leased now (rule 2). `needs` says whether tasks of this peer wait for messages of its own.
    pub(crate) fn want(&self, needs: impl Fn() -> bool) -> usize {
        let state = self.state.lock();
        if state.stopping || (state.closing && !needs()) {
            return 0;
        }
        let free = state.free(self.concurrency);
        let ahead = match state.mean {
            Some(mean) if !state.is_stuck() => {
                let fits = AHEAD.as_nanos() / mean.as_nanos().max(1);
                usize::try_from(fits).unwrap_or(usize::MAX).min(self.prefetch)
            }
            _ => 0,
        };
        let have = state.ahead.len();
        let want = (free + ahead).saturating_sub(have);
        // Not one by one: what is leased together costs little more.
        if have > free && want < ahead / 2 { 0 } else { want }
    }

    /// Whether nothing should be fetched ahead: what came would wait behind tasks that do not end, or for nobody.
    pub(crate) fn is_full(&self, needs: impl Fn() -> bool) -> bool {
        let state = self.state.lock();
        state.stopping
            || (state.closing && !needs())
            || (state.free(self.concurrency) == 0 && state.is_stuck())
    }

    /// Takes leased messages to be run.
    pub(crate) fn push(&self, deliveries: Vec<Delivery>) {
        let count = deliveries.len();
        self.state.lock().ahead.extend(deliveries);
        for _ in 0..count.min(self.concurrency + 1) {
            self.changed.notify_one();
        }
    }

    /// What is to be settled.
    pub(crate) fn take_done(&self) -> Vec<Settled> {
        std::mem::take(&mut self.state.lock().done)
    }

    /// Whether what is to be settled is little, and kept: it may wait for more.
    pub(crate) fn may_settle_later(&self, enough: usize) -> bool {
        let state = self.state.lock();
        state.heavy == 0 && state.done.len() < enough
    }

    /// Notes that outcomes were settled.
    pub(crate) fn settled(&self, batch: &[Settled]) {
        let heavy = batch.iter().filter(|settled| !settled.kept).count();
        if heavy > 0 {
            self.state.lock().heavy -= heavy;
            self.changed.notify_all();
        }
    }

    /// Puts back what could not be settled now.
    pub(crate) fn put_done(&self, settled: Vec<Settled>) {
        let mut state = self.state.lock();
        let later = std::mem::replace(&mut state.done, settled);
        state.done.extend(later);
    }

    /// What waits behind tasks that do not end (rule 2).
    pub(crate) fn take_stuck(&self) -> Vec<Lease> {
        let mut state = self.state.lock();
        if state.ahead.is_empty() || state.free(self.concurrency) > 0 || !state.is_stuck() {
            return Vec::new();
        }
        state.ahead.drain(..).map(|delivery| delivery.lease).collect()
    }

    /// Whether messages wait behind busy threads.
    pub(crate) fn is_behind(&self) -> bool {
        !self.state.lock().ahead.is_empty()
    }

    /// Takes a leased message of that job out that nobody has begun.
    pub(crate) fn take_ahead(&self, pool: PeerId, job: u64) -> Option<Lease> {
        let mut state = self.state.lock();
        let found = state
            .ahead
            .iter()
            .position(|delivery| delivery.pool == pool && delivery.job == job)?;
        state.ahead.remove(found).map(|delivery| delivery.lease)
    }

    /// A thread of a task begins or ends a wait (rule 1).
    pub(crate) fn blocking(self: &Arc<Self>, begins: bool, engine: &Weak<dyn Engine>) {
        let mut state = self.state.lock();
        if !begins {
            state.blocked -= 1;
            return;
        }
        state.blocked += 1;
        let enough = state.threads >= self.concurrency + state.blocked;
        drop(state);
        if enough {
            self.changed.notify_one();
        } else {
            // Without a substitute this wait may last until other workers come to its help.
            let index = par_core::worker_index().map_or(0, |own| own.saturating_sub(self.first_index));
            let _ = self.spawn(engine.clone(), index, None, None);
        }
        self.broker.wake();
    }

    /// Forgets the shared values that are gone.
    pub(crate) fn forget(&self, is_there: impl Fn(&[u8]) -> bool) {
        let mut shares = self.shares.lock();
        shares.retain(|key, id| {
            let keep = is_there(key);
            if !keep {
                share::forget(*id);
            }
            keep
        });
    }

    /// Leases from now on only what tasks that still run wait for; what was not begun is to be given back.
    pub(crate) fn close(&self) -> Vec<Lease> {
        let mut state = self.state.lock();
        state.closing = true;
        state.ahead.drain(..).map(|delivery| delivery.lease).collect()
    }

    /// Waits, not past `deadline`, until nothing runs, nothing is ahead and nothing has to be settled.
    pub(crate) fn wait_quiet(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.running.is_empty() && state.ahead.is_empty() && state.done.is_empty() {
                return true;
            }
            // Nobody notifies when something was settled: looking every few milliseconds is enough for an end.
            self.changed.wait_for(&mut state, Duration::from_millis(2));
            if deadline.is_some_and(|at| Instant::now() >= at) {
                return false;
            }
        }
    }

    /// Begins nothing any more, and returns what was not begun.
    pub(crate) fn stop(&self) -> Vec<Lease> {
        let mut state = self.state.lock();
        state.stopping = true;
        self.changed.notify_all();
        state.ahead.drain(..).map(|delivery| delivery.lease).collect()
    }

    /// After `stop`: waits until all its threads have ended; false when the deadline passes first.
    pub(crate) fn wait_ended(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while state.threads > 0 {
            match deadline {
                None => self.changed.wait(&mut state),
                Some(at) => {
                    if self.changed.wait_until(&mut state, at).timed_out() {
                        return state.threads == 0;
                    }
                }
            }
        }
        true
    }
}
