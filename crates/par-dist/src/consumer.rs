//! The working side of a peer: messages are leased ahead, run on threads, and settled in batches.
//!
//! 1. A thread may run a message while fewer run than the concurrency and the blocked threads together. A thread that blocks
//!    in a wait inside its task so lends its place to another one, which is started if none is free (law 9).
//! 2. Leased ahead is what takes about [`AHEAD`] to run, by the running mean. What is leased and not begun while everybody is busy
//!    for longer than [`PATIENCE`] is given back.
//! 3. The mark of a message is left last before its code runs: what fails earlier was never begun.
//! 4. An outcome is kept before the next message begins, or settled if it cannot be: the death of this process loses no
//!    message that has ended.

use crate::broker::{Broker, CallId, Delivery, Lease, PeerId, Settled, Verdict};
use par_core::engine::{Engine, Initializer};
use par_core::remote::{Call, Prepared};
use par_core::share::{self, ShareId};
use par_core::{CancelFlag, TaskError, Token, enter_worker, push_token, wire};
use parking_lot::{Condvar, Mutex};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

/// How much work is leased ahead.
const AHEAD: Duration = Duration::from_millis(10);
/// How long leased messages wait behind a task that does not end.
const PATIENCE: Duration = Duration::from_millis(50);
/// Stack of a thread that runs tasks: as much as a program's first thread usually has.
const STACK: usize = 8 << 20;
/// The most calls that are kept found.
const CALLS: usize = 1024;
/// The most items that a message may claim to hold.
const ITEMS: u64 = 1 << 28;

/// A job of some pool, as workers know it.
type JobKey = (PeerId, u64);

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

/// The tokens of what runs here.
#[derive(Default)]
struct Flags {
    running: HashMap<JobKey, Weak<CancelFlag>>,
    /// The jobs that are cancelled, as of the last look.
    raised: HashSet<JobKey>,
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

thread_local! {
    /// The pool on whose behalf this thread runs.
    static ROOT: Cell<Option<PeerId>> = const { Cell::new(None) };
    /// The pools whose initialiser has run on this thread.
    static INITIALIZED: RefCell<HashSet<PeerId>> = RefCell::default();
}

/// The pool on whose behalf the current task runs.
pub(crate) fn current_root() -> Option<PeerId> {
    ROOT.get()
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

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return;
            }
            // Rule 4.
            if state.heavy == 0
                && state.free(self.concurrency) > 0
                && let Some(delivery) = state.ahead.pop_front()
            {
                let started = Instant::now();
                state.running.insert(delivery.lease.id.0, started);
                drop(state);
                let settled = self.run(delivery, started).map(|mut settled| {
                    settled.kept = self.broker.keep(&settled);
                    settled
                });
                state = self.state.lock();
                let took = started.elapsed();
                state.mean = Some(
                    state
                        .mean
                        .map_or(took, |mean| mean.mul_f64(0.8) + took.mul_f64(0.2)),
                );
                match settled {
                    Ok(settled) => {
                        state.running.remove(&settled.lease.id.0);
                        state.heavy += usize::from(!settled.kept);
                        state.done.push(settled);
                    }
                    Err(lease) => {
                        state.running.remove(&lease.id.0);
                    }
                }
                // A place is free for whoever waits for one.
                self.changed.notify_one();
                parking_lot::MutexGuard::unlocked(&mut state, || self.broker.wake());
                continue;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Runs a message; its lease alone where this peer must not run it any more.
    fn run(&self, delivery: Delivery, started: Instant) -> Result<Settled, Lease> {
        let Delivery {
            lease,
            pool,
            root,
            job,
            call,
            part,
            shares,
            payload,
        } = delivery;
        let flag = self.flag((pool, job));
        let mut reply = Vec::new();
        let outcome = self.get_ready(pool, root, call, &shares).and_then(|prepared| {
            if part.items > ITEMS {
                Err(too_many(part.items))
            } else {
                Ok(prepared)
            }
        });
        let outcome = match outcome {
            Ok(prepared) => {
                // Rule 3.
                match self.broker.begin(lease) {
                    // To be told that it may begin takes a while where a server says so, and it may have been cancelled meanwhile.
                    Ok(true) if flag.is_raised() => Err(TaskError::Cancelled),
                    Ok(true) => {
                        let before = ROOT.replace(Some(root));
                        let token = push_token(Token::Flag(flag));
                        // Code of users runs outside of tasks as well, while inputs are decoded.
                        let outcome = par_core::catch(|| prepared.run(part, &payload, &mut reply));
                        drop(token);
                        ROOT.set(before);
                        outcome
                    }
                    Ok(false) => return Err(lease),
                    Err(error) => Err(TaskError::Rejected(error.to_string())),
                }
            }
            Err(error) => Err(error),
        };
        let verdict = match outcome {
            Ok(()) => Verdict::Reply(reply),
            Err(error) => Verdict::Failed(error),
        };
        Ok(Settled {
            lease,
            pool,
            took: started.elapsed(),
            verdict,
            kept: false,
        })
    }

    fn get_ready(
        &self,
        pool: PeerId,
        root: PeerId,
        call: CallId,
        shares: &[u8],
    ) -> Result<Arc<Prepared>, TaskError> {
        let lost = |error: crate::BrokerError| TaskError::Rejected(error.to_string());
        if !INITIALIZED.with_borrow(|done| done.contains(&root)) {
            match self.broker.initializer(root).map_err(lost)? {
                Some(bytes) => {
                    let initializer = wire::from_bytes::<Initializer>(&bytes)
                        .map_err(|error| TaskError::Codec(format!("the initialiser of the pool: {error}")))?;
                    initialize(root, &initializer)?;
                }
                None => INITIALIZED.with_borrow_mut(|done| {
                    done.insert(root);
                }),
            }
        }
        let mut rest = shares;
        while !rest.is_empty() {
            let before = rest;
            let id: ShareId = wire::decode(&mut rest)
                .map_err(|error| TaskError::Codec(format!("shared values: {error}")))?;
            let key = &before[..before.len() - rest.len()];
            // What is not there any more is noticed by the input that names it, which says so.
            if !share::has(id)
                && let Some(value) = self.broker.share(pool, key).map_err(lost)?
            {
                share::receive(id, value);
                self.shares.lock().insert(key.to_vec(), id);
            }
        }
        if let Some(prepared) = self.calls.lock().get(&call) {
            return Ok(Arc::clone(prepared));
        }
        let bytes = self.broker.call(pool, call).map_err(lost)?;
        let bytes = bytes.ok_or_else(|| TaskError::Rejected("its pool is gone".to_owned()))?;
        let found =
            wire::from_bytes::<Call>(&bytes).map_err(|error| TaskError::Codec(format!("call: {error}")))?;
        if found.task_name().is_none() {
            // An entry is an address in another program; here nobody has checked that it is this one.
            return Err(TaskError::Rejected(
                "a broker carries tasks by name only".to_owned(),
            ));
        }
        let prepared = Arc::new(Prepared::new(&found)?);
        let mut calls = self.calls.lock();
        if calls.len() >= CALLS {
            calls.clear();
        }
        calls.insert(call, Arc::clone(&prepared));
        Ok(prepared)
    }

    fn flag(&self, job: JobKey) -> Arc<CancelFlag> {
        let mut flags = self.flags.lock();
        if let Some(flag) = flags.running.get(&job).and_then(Weak::upgrade) {
            return flag;
        }
        if flags.running.len() >= 64 {
            flags.running.retain(|_, flag| flag.strong_count() > 0);
        }
        let flag = Arc::new(CancelFlag::new(None));
        if flags.raised.contains(&job) {
            flag.raise();
        }
        flags.running.insert(job, Arc::downgrade(&flag));
        flag
    }

    /// Raises the flags of cancelled jobs, now and when they come to run.
    pub(crate) fn raise(&self, raised: Vec<JobKey>) {
        let mut flags = self.flags.lock();
        for job in &raised {
            if let Some(flag) = flags.running.get(job).and_then(Weak::upgrade) {
                flag.raise();
            }
        }
        flags.raised = raised.into_iter().collect();
    }

    /// Raises the flags of jobs whose pool is gone.
    pub(crate) fn raise_orphans(&self, lives: impl Fn(PeerId) -> bool) {
        for (job, flag) in &self.flags.lock().running {
            if !lives(job.0)
                && let Some(flag) = flag.upgrade()
            {
                flag.raise();
            }
        }
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

fn initialize(pool: PeerId, initializer: &Initializer) -> Result<(), TaskError> {
    initializer.run()?;
    INITIALIZED.with_borrow_mut(|done| {
        done.insert(pool);
    });
    Ok(())
}

fn too_many(items: u64) -> TaskError {
    TaskError::Codec(format!(
        "a message claims to hold {items} items, at most {ITEMS} are believed"
    ))
}
