//! The raw trait that an engine implements; users meet it through [`Pool`](crate::Pool).
//!
//! A whole engine, one thread a job: it claims what the job offers, and that is all. (It keeps no bound and no workers, so it
//! would not pass the laws on back-pressure and shutdown.)
//!
//! ```
//! use par_core::engine::{Capabilities, Engine, Info, Refused, Room, Shutdown, ShutdownReport};
//! use par_core::{Claimant, Pool, Sum, enter_worker, job::Job, observe::Observers};
//! use std::sync::{Arc, Weak};
//! use std::time::Duration;
//!
//! struct ThreadPerJob {
//!     me: Weak<ThreadPerJob>,
//!     observers: Observers,
//! }
//!
//! impl Engine for ThreadPerJob {
//!     fn info(&self) -> Info {
//!         Info { name: "thread per job", workers: 1, capabilities: Capabilities::default() }
//!     }
//!     fn submit(&self, job: Arc<Job>, _: Room) -> Result<(), Refused> {
//!         let me = self.me.clone();
//!         std::thread::spawn(move || {
//!             let _worker = enter_worker(0, me); // so that tasks find their pool
//!             while let Some(claim) = job.claim(Claimant::Any) {
//!                 claim.run();
//!             }
//!         });
//!         Ok(())
//!     }
//!     fn cancel(&self, _: &Arc<Job>, _: bool) {} // running tasks see their job's token already
//!     fn observers(&self) -> &Observers {
//!         &self.observers
//!     }
//!     fn shutdown(&self, _: Shutdown, _: Option<Duration>) -> ShutdownReport {
//!         ShutdownReport::default()
//!     }
//! }
//!
//! #[par_core::task]
//! fn square(x: u64) -> u64 { x * x }
//!
//! let engine = Arc::new_cyclic(|me| ThreadPerJob { me: me.clone(), observers: Observers::default() });
//! let pool = Pool::from_engine(engine);
//! assert_eq!(pool.map_reduce::<square, _>(0..1_000, Sum)?, 332_833_500);
//! # Ok::<(), par_core::MapError>(())
//! ```

use crate::error::{StartError, TaskError};
use crate::job::{Claim, Job};
use crate::kernel::{Kernel, OfFn};
use crate::observe::Observers;
use crate::remote::Call;
use crate::share::ShareId;
use crate::task::{Data, Task};
use crate::wire::{self, WireError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an engine can do beyond the laws, and where it keeps one of them in a weaker form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// Runs closures that borrow from their caller: [`Borrowing`].
    pub borrowing: bool,
    /// Its workers run this very build, so that plain `fn` pointers reach them: [`SameProgram`].
    pub same_program: bool,
    /// Can end a running task by force: [`Kill`].
    pub kill: bool,
    /// Can change its number of workers while it runs: [`Elastic`].
    pub elastic: bool,
    /// Gives worker `i` what a static [`Mapping`](crate::Mapping) says: [`Placement`].
    pub placement: bool,
    /// Runs async tasks that need the timers and sockets of tokio: [`TokioTasks`].
    pub tokio_tasks: bool,
    /// Its workers are other processes: inputs and outputs cross as bytes, and a worker can die alone (law 4).
    pub processes: bool,
    /// Its workers are other processes that live and die together with the pool's own: the death of one ends the program, so
    /// that there is nothing to heal (law 4).
    pub shared_fate: bool,
    /// Runs a job before `submit` returns: nothing is ever pending there, and a deadline cannot stop it.
    pub inline: bool,
}

/// What an engine says of itself.
#[derive(Debug, Clone)]
pub struct Info {
    /// Its name, such as `threads`.
    pub name: &'static str,
    /// How many workers it has now.
    pub workers: usize,
    /// What it can do.
    pub capabilities: Capabilities,
}

/// Whether a submission may wait until the queue has room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Wait as long as it takes. On a worker of the same engine it never waits: the bound is passed instead (law 8).
    Wait,
    /// Wait until then.
    Until(Instant),
    /// Do not wait.
    Now,
}

/// Why an engine did not take a job. The job's parts are still unclaimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The queue is at its bound.
    #[error("the queue of the pool is full")]
    Full,
    /// The pool was shut down.
    #[error("the pool is shut down")]
    Closed,
    /// The pool is past its restart budget.
    #[error("the pool is broken: {0}")]
    Broken(String),
    /// The engine cannot run this job at all.
    #[error("{0}")]
    Unfit(TaskError),
}

impl From<Refused> for TaskError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Broken(reason) => TaskError::Broken(reason),
            Refused::Unfit(error) => error,
            other => TaskError::Rejected(other.to_string()),
        }
    }
}

/// How a pool ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// Everything that was submitted is still run.
    Drain,
    /// What has not begun is cancelled; what runs may end, and sees its token.
    CancelPending,
    /// As `CancelPending`, and what runs is ended by force where the engine can.
    Kill,
}

/// What became of a pool that was shut down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ShutdownReport {
    /// Parts that ended with a value or an error of their own, over the life of the pool.
    pub ran: u64,
    /// Parts that were cancelled by the shutdown.
    pub cancelled: u64,
    /// Parts that were running when their worker was ended by force.
    pub lost: u64,
    /// Workers that were still busy at the deadline and could not be ended: threads go on, detached.
    pub detached: usize,
}

/// The engine side of a pool. The rules of jobs and claims stand at the top of the `job` module.
///
/// An engine keeps a job in its queue, claims ranges of its parts for its workers and ends each claim. It drops the job from
/// the queue once nothing in it is unclaimed.
pub trait Engine: Send + Sync + 'static {
    /// Name, workers and capabilities, as of now.
    fn info(&self) -> Info;

    /// Takes a job, waiting for room in the queue as `room` says.
    ///
    /// # Errors
    /// A [`Refused`] says why; the caller then ends the job.
    fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused>;

    /// Called after a job was cancelled or ended early: workers elsewhere must see the token, and with `kill` what still
    /// runs may be ended by force.
    fn cancel(&self, job: &Arc<Job>, kill: bool);

    /// Runs a claim that a waiting worker took of the job it waits for (law 9).
    fn run_inline(&self, claim: Claim) {
        claim.run();
    }

    /// Called by a worker that waits for `job`, or awaits it, while parts of it are unclaimed; whether the worker may claim them
    /// itself. An engine that begins jobs in another way does so now, beyond its bounds, and says no.
    fn expedite(&self, job: &Arc<Job>) -> bool {
        let _ = job;
        true
    }

    /// Called in async code that awaits `job`, by who is no worker of this pool, while parts of it are unclaimed. An engine that could
    /// begin it right there, within its bounds, does so.
    fn awaited(&self, job: &Arc<Job>) {
        let _ = job;
    }

    /// Called by a thread that is about to block in a wait for this pool.
    ///
    /// # Errors
    /// [`TaskError::Rejected`] where that would stall what runs the tasks, or other async code, and says what to do instead.
    fn may_block(&self) -> Result<(), TaskError> {
        Ok(())
    }

    /// Called by a worker that waits for `job` and found nothing left to claim: does one unit of what that wait needs, if the
    /// engine knows one, and says whether it did.
    fn assist(&self, job: &Job) -> bool {
        let _ = job;
        false
    }

    /// How long a worker may sleep in a wait before it asks [`assist`](Self::assist) again: where what it waits for may be
    /// under way when it falls asleep, and then come to lie where only this worker can run it. `None` where that cannot be.
    fn look_again(&self) -> Option<Duration> {
        None
    }

    /// Called on a worker thread just before it sleeps in a wait (`true`) and after (`false`): the engine may lend a
    /// substitute meanwhile.
    fn blocking(&self, begins: bool) {
        let _ = begins;
    }

    /// Called by a thread that is about to sleep until `job` is done or `until` has passed: an engine whose workers answer over
    /// sockets may let the thread read them meanwhile, so that an answer does not have to cross another thread. It runs no
    /// task, and may return at any time.
    fn drive(&self, job: &Job, until: Option<Instant>) {
        let _ = (job, until);
    }

    /// Called by a thread that is about to sleep until `job` is done or `until` has passed. An engine that knows that this would be for ever
    /// refuses.
    ///
    /// # Errors
    /// The wait fails with it.
    fn sleeps(&self, job: &Job, until: Option<Instant>) -> Result<(), TaskError> {
        let _ = (job, until);
        Ok(())
    }

    /// Called by a thread after it was [told](Self::sleeps) that it may sleep, and slept.
    fn slept(&self, job: &Job) {
        let _ = job;
    }

    /// The shared value is gone: workers may forget it.
    fn evict(&self, share: ShareId) {
        let _ = share;
    }

    /// Those who watch this pool.
    fn observers(&self) -> &Observers;

    /// Ends the pool; a second call returns the report of what happened since.
    fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport;
}

/// An engine whose workers may run borrowed closures while their caller waits.
///
/// # Safety
/// A job that was taken by `submit` is run by threads of this process only, and every claim on it has ended, and its memory
/// is no longer touched by the engine, once the job is done and not ended early.
pub unsafe trait Borrowing: Engine {
    /// Runs `a` here and offers `b` to another worker, and returns when both are done; the caller is a worker of this
    /// engine or not. A panic in either comes back as a panic, after both are done.
    fn join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send;
}

/// An engine whose workers run this build: `fn` pointers reach them.
pub trait SameProgram: Engine {}

/// An engine that can end a running task by force.
pub trait Kill: Engine {}

/// An engine that honours the static mappings.
pub trait Placement: Engine {}

/// An engine whose async tasks may use tokio.
pub trait TokioTasks: Engine {}

/// An engine that can change its number of workers.
pub trait Elastic: Engine {
    /// Grows or shrinks to `workers`; a worker that is to go finishes what it runs.
    ///
    /// # Errors
    /// [`StartError::Workers`] for 0, others when a worker cannot be started.
    fn resize(&self, workers: usize) -> Result<(), StartError>;
}

/// What every engine is told when it starts.
#[derive(Debug, Clone)]
pub struct Common {
    /// Number of workers, at least 1.
    pub workers: usize,
    /// How many jobs may wait before `submit` does; at least 1.
    pub queue: usize,
    /// A task that each worker runs before its first job.
    pub initializer: Option<Initializer>,
    /// Restarts of dead workers before the pool counts as broken.
    pub restarts: u32,
}

/// Code with its argument, run once: by each worker before its first job, or as the whole work of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Initializer {
    call: Call,
    input: Vec<u8>,
}

impl Initializer {
    /// A task, found by its name.
    ///
    /// # Errors
    /// [`WireError`] if the input does not encode.
    pub fn of_task<T: Task>(input: &T::Input) -> Result<Self, WireError> {
        Ok(Initializer {
            call: Call::to_task::<T>(),
            input: wire::to_bytes(input)?,
        })
    }

    /// A plain function, found in processes that run this very program.
    ///
    /// # Errors
    /// [`WireError`] if the input does not encode.
    pub fn of_fn<I: Data>(function: fn(I), input: &I) -> Result<Self, WireError> {
        Ok(Initializer {
            call: OfFn(function).entry(),
            input: wire::to_bytes(input)?,
        })
    }

    /// Runs the initialiser on this worker.
    ///
    /// # Errors
    /// Whatever the task ended with.
    pub fn run(&self) -> Result<(), TaskError> {
        crate::remote::run_once(&self.call, &self.input)
    }
}

/// An engine that [`Pool::new`](crate::Pool::new) and [`Pool::builder`](crate::Pool::builder) can start.
pub trait Launch: Engine + Sized {
    /// What only this engine can be told.
    type Options: Default;

    /// Starts the workers.
    ///
    /// # Errors
    /// What was wrong with an option, or refused by the system.
    fn launch(common: Common, options: Self::Options) -> Result<Arc<Self>, StartError>;
}
