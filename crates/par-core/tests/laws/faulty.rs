//! A small thread engine that keeps all laws, or breaks one of them.
//!
//! Workers are threads on one queue under one lock. They run claims typed, or encoded as for another process, or hand them
//! to a thread that plays a process and can die (`run.rs`).

#[allow(unsafe_code, reason = "to promise what a borrowing engine promises")]
mod borrowing;
mod run;

use par_core::engine::{Capabilities, Common, Elastic, Engine, Info, Launch, Refused, Room, SameProgram};
use par_core::job::{Claim, Job};
use par_core::observe::{Event, Observers};
use par_core::{
    Claimant, Shutdown, ShutdownReport, StartError, TaskError, WorkerGuard, enter_worker, worker_index,
};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How workers run claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Mode {
    /// Typed, in place.
    #[default]
    Typed,
    /// Through bytes and names.
    Encoded,
    /// Through bytes and names, on threads that play at being processes.
    Processes,
}

/// What is wrong with the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// Runs the initialiser on no worker.
    SkipsInitializer,
    /// Runs a task under whatever signature it was called by.
    IgnoresSignature,
    /// Cuts the log lines from replies.
    CutsLogs,
    /// Forgets every tenth claim.
    ForgetsClaims,
    /// Runs a request twice, as if its reply had been lost.
    RunsTwice,
    /// A worker that dies takes along what it had not begun.
    LosesDelivered,
    /// A worker that dies takes along all that waits.
    LosesAll,
    /// Restarts workers for ever.
    NeverBreaks,
    /// Claims early, and starts what was cancelled meanwhile.
    StartsCancelled,
    /// Tasks never see that they were cancelled.
    HidesTokens,
    /// Gives the items of a range each other's values.
    SwapsReplies,
    /// Folds leaves that begin elsewhere.
    ShiftsLeaves,
    /// Takes jobs without bound.
    Unbounded,
    /// A waiting worker runs a stranger before what it waits for.
    RunsStrangers,
    /// A waiting worker that finds nothing to claim runs somebody else.
    AssistsAnyone,
    /// Workers go on after the shutdown.
    LeavesThreads,
    /// Reports what did not happen.
    LiesInReport,
    /// Drops what waits when it should drain.
    DropsQueue,
    /// Tells cancelled tasks as ended while they run.
    EndsEarly,
    /// A shutdown takes as long as it takes.
    IgnoresDeadlines,
    /// Says that async tasks go on beside each other, and gives each a worker until it ends.
    BlocksOnAsync,
    /// Says that it has grown, and has not.
    GrowsInName,
    /// Says that it has grown before its new workers are ready.
    GrowsTooSoon,
    /// Ends what runs on a worker that is to go.
    ShrinksByForce,
    /// Keeps workers that are too many.
    KeepsWorkers,
    /// Keeps the size that it could not have.
    KeepsSize,
}

/// The options of the engine.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) mode: Mode,
    pub(crate) fault: Fault,
}

impl From<Mode> for Options {
    fn from(mode: Mode) -> Self {
        Options {
            mode,
            fault: Fault::None,
        }
    }
}

pub(crate) struct Faulty {
    me: Weak<Faulty>,
    common: Common,
    options: Options,
    state: Mutex<State>,
    /// Something entered or left the queue, a worker left, or the pool closed.
    changed: Condvar,
    ran: AtomicU64,
    claims: AtomicU64,
    observers: Observers,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Job>>,
    /// Claims that a faulty engine takes before it has a worker for them.
    early: VecDeque<Claim>,
    running: Vec<Option<Arc<Job>>>,
    threads: Vec<JoinHandle<()>>,
    /// How many workers there are to be.
    wanted: usize,
    /// Which workers have a thread.
    present: Vec<bool>,
    alive: usize,
    closed: bool,
    deaths: u32,
    broken: Option<String>,
}

impl Launch for Faulty {
    type Options = Options;

    fn launch(common: Common, options: Options) -> Result<Arc<Self>, StartError> {
        let workers = common.workers;
        let engine = Arc::new_cyclic(|me| Faulty {
            me: Weak::clone(me),
            common,
            options,
            state: Mutex::default(),
            changed: Condvar::new(),
            ran: AtomicU64::new(0),
            claims: AtomicU64::new(0),
            observers: Observers::default(),
        });
        engine.state.lock().wanted = workers;
        if let Err(error) = engine.fill(workers) {
            engine.shutdown(Shutdown::Kill, None);
            return Err(error);
        }
        Ok(engine)
    }
}

impl Elastic for Faulty {
    fn resize(&self, workers: usize) -> Result<(), StartError> {
        if workers == 0 {
            return Err(StartError::Workers(0));
        }
        let before = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(StartError::Unavailable("the pool is shut down".to_owned()));
            }
            if self.has(Fault::ShrinksByForce) {
                for job in state.running.iter().skip(workers).flatten() {
                    job.end_early(TaskError::Cancelled);
                }
            }
            std::mem::replace(&mut state.wanted, workers)
        };
        self.changed.notify_all();
        if workers <= before || self.has(Fault::GrowsInName) {
            return Ok(());
        }
        self.fill(workers).inspect_err(|_| {
            if !self.has(Fault::KeepsSize) {
                self.state.lock().wanted = before;
                self.changed.notify_all();
            }
        })
    }
}

type Ready = mpsc::Sender<(usize, Result<(), TaskError>)>;

impl Faulty {
    /// Starts the workers that are missing, and waits until they are ready.
    fn fill(&self, workers: usize) -> Result<(), StartError> {
        let (ready, told) = mpsc::channel();
        let mut started = 0;
        for index in 0..workers {
            let mut state = self.state.lock();
            let places = state.present.len().max(index + 1);
            state.present.resize(places, false);
            state.running.resize(places, None);
            let Some(engine) = self.me.upgrade().filter(|_| !state.present[index]) else {
                continue;
            };
            state.present[index] = true;
            state.alive += 1;
            started += 1;
            let ready = ready.clone();
            let thread = thread::spawn(move || engine.work(index, &ready));
            state.threads.push(thread);
        }
        if self.has(Fault::GrowsTooSoon) && workers > self.common.workers {
            return Ok(());
        }
        let failed = told
            .iter()
            .take(started)
            .filter_map(|(worker, outcome)| outcome.err().map(|error| (worker, error)));
        match failed.last() {
            Some((worker, error)) => Err(StartError::Initializer { worker, error }),
            None => Ok(()),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.options.fault == fault
    }

    /// Makes this thread worker `index` and runs the initialiser on it.
    fn enter(&self, index: usize) -> (WorkerGuard, Result<(), TaskError>) {
        let guard = enter_worker(index, Weak::clone(&self.me) as Weak<dyn Engine>);
        let outcome = match &self.common.initializer {
            Some(initializer) if !self.has(Fault::SkipsInitializer) => initializer.run(),
            _ => Ok(()),
        };
        (guard, outcome)
    }

    fn work(&self, index: usize, ready: &Ready) {
        let mut worker = run::Worker::start(self, index);
        let failed = worker.outcome().is_err();
        if failed {
            // Before it is told, as another may be wanted at once.
            self.state.lock().present[index] = false;
        } else {
            self.observers.emit(|| Event::WorkerUp {
                worker: index,
                pid: None,
            });
        }
        // Nobody listens where the pool has given up on it.
        let _ = ready.send((index, worker.outcome()));
        if !failed {
            while let Some(claim) = self.next(index) {
                worker.run(self, claim);
                self.state.lock().running[index] = None;
                self.changed.notify_all();
            }
        }
        self.state.lock().alive -= 1;
        self.changed.notify_all();
        if self.has(Fault::LeavesThreads) {
            thread::sleep(Duration::from_secs(8));
        }
    }

    fn next(&self, index: usize) -> Option<Claim> {
        let mut state = self.state.lock();
        loop {
            if index >= state.wanted && !self.has(Fault::KeepsWorkers) {
                state.present[index] = false;
                return None;
            }
            if let Some(claim) = self.take(&mut state) {
                state.running[index] = Some(Arc::clone(claim.job()));
                return Some(claim);
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    fn take(&self, state: &mut State) -> Option<Claim> {
        if let Some(claim) = state.early.pop_front() {
            return Some(claim);
        }
        while let Some(job) = state.queue.front() {
            let claim = job.claim(Claimant::Any);
            if job.unclaimed() == 0 {
                state.queue.pop_front();
                self.changed.notify_all();
            }
            if claim.is_some() {
                return claim;
            }
        }
        None
    }

    /// Counts a claim as run; whether it is one to forget.
    fn count(&self, claim: &Claim) -> bool {
        self.ran.fetch_add(claim.range().len() as u64, Ordering::Relaxed);
        self.claims.fetch_add(1, Ordering::Relaxed) % 10 == 9 && self.has(Fault::ForgetsClaims)
    }

    /// A worker died; whether there may be another in its place.
    fn died(&self, index: usize) -> bool {
        let reason = "it only played at dying".to_owned();
        self.observers.emit(|| Event::WorkerLost {
            worker: index,
            reason,
        });
        let mut state = self.state.lock();
        state.deaths += 1;
        if state.deaths > self.common.restarts && !self.has(Fault::NeverBreaks) {
            let reason = format!(
                "{} workers died, {} restarts are allowed",
                state.deaths, self.common.restarts
            );
            state.broken = Some(reason.clone());
            for job in std::mem::take(&mut state.queue) {
                job.fail_unclaimed(&TaskError::Broken(reason.clone()));
            }
            self.changed.notify_all();
        }
        let taken_along = match self.options.fault {
            Fault::LosesDelivered => 1,
            Fault::LosesAll => usize::MAX,
            _ => 0,
        };
        for _ in 0..taken_along {
            let Some(mut claim) = self.take(&mut state) else {
                break;
            };
            claim.begun();
            drop(claim);
        }
        state.broken.is_none()
    }

    fn broken(&self) -> Option<TaskError> {
        self.state.lock().broken.clone().map(TaskError::Broken)
    }

    /// Cancels what waits and raises the tokens of what runs.
    fn cancel_all(state: &mut State) -> u64 {
        let mut cancelled = 0;
        for job in std::mem::take(&mut state.queue) {
            cancelled += job.unclaimed() as u64;
            job.cancel();
        }
        for job in state.running.iter().flatten() {
            cancelled += job.unclaimed() as u64;
            job.cancel();
        }
        cancelled
    }
}

impl Engine for Faulty {
    fn info(&self) -> Info {
        let typed = self.options.mode == Mode::Typed;
        let capabilities = Capabilities {
            borrowing: typed,
            same_program: true,
            elastic: true,
            processes: self.options.mode == Mode::Processes,
            tokio_tasks: self.has(Fault::BlocksOnAsync),
            ..Capabilities::default()
        };
        Info {
            name: "faulty",
            workers: self.state.lock().wanted,
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let bounded = worker_index().is_none() && !self.has(Fault::Unbounded);
        loop {
            if let Some(reason) = &state.broken {
                return Err(Refused::Broken(reason.clone()));
            }
            if state.closed {
                return Err(Refused::Closed);
            }
            if !bounded || state.queue.len() < self.common.queue {
                break;
            }
            // Those that a waiter has claimed, or that were cancelled, wait for nothing.
            state.queue.retain(|job| job.unclaimed() > 0);
            match room {
                _ if state.queue.len() < self.common.queue => {}
                Room::Now => return Err(Refused::Full),
                Room::Wait => self.changed.wait(&mut state),
                Room::Until(at) => {
                    if self.changed.wait_until(&mut state, at).timed_out() {
                        return Err(Refused::Full);
                    }
                }
            }
        }
        if self.has(Fault::StartsCancelled) {
            while let Some(claim) = job.claim(Claimant::Any) {
                state.early.push_back(claim);
            }
        } else {
            state.queue.push_back(job);
        }
        self.changed.notify_all();
        Ok(())
    }

    fn cancel(&self, job: &Arc<Job>, _: bool) {
        if self.has(Fault::EndsEarly) {
            job.end_early(TaskError::Cancelled);
        }
        self.changed.notify_all();
    }

    fn run_inline(&self, claim: Claim) {
        if self.has(Fault::RunsStrangers) {
            let stranger = self.take(&mut self.state.lock());
            if let Some(stranger) = stranger {
                run::in_place(self, stranger);
            }
        }
        run::in_place(self, claim);
    }

    fn assist(&self, _: &Job) -> bool {
        if !self.has(Fault::AssistsAnyone) {
            return false;
        }
        let anyone = self.take(&mut self.state.lock());
        anyone.map(|claim| run::in_place(self, claim)).is_some()
    }

    fn observers(&self) -> &Observers {
        &self.observers
    }

    fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        let until = deadline
            .filter(|_| !self.has(Fault::IgnoresDeadlines))
            .map(|limit| Instant::now() + limit);
        let mut state = self.state.lock();
        state.closed = true;
        self.changed.notify_all();
        let mut report = ShutdownReport::default();
        if how != Shutdown::Drain || self.has(Fault::DropsQueue) {
            report.cancelled = Self::cancel_all(&mut state);
        }
        while state.alive > 0 {
            let Some(until) = until else {
                self.changed.wait(&mut state);
                continue;
            };
            if self.changed.wait_until(&mut state, until).timed_out() {
                report.cancelled += Self::cancel_all(&mut state);
                for job in state.running.iter().flatten() {
                    job.end_early(TaskError::Cancelled);
                }
                report.detached = state.alive;
                break;
            }
        }
        let threads = std::mem::take(&mut state.threads);
        drop(state);
        if report.detached == 0 && !self.has(Fault::LeavesThreads) {
            for thread in threads {
                // A worker only panics where the engine is wrong, and then its tasks were told as lost.
                let _ = thread.join();
            }
        }
        report.ran = self.ran.load(Ordering::Relaxed);
        if self.has(Fault::LiesInReport) {
            ShutdownReport {
                ran: 1,
                ..ShutdownReport::default()
            }
        } else {
            report
        }
    }
}

impl SameProgram for Faulty {}
