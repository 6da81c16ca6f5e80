//! The thread engine: the workers of a pool are threads of this process, and jobs run typed and in place.

mod blocking;
mod encoded;
#[allow(unsafe_code, reason = "makes references to frames that it keeps")]
mod join;
#[allow(unsafe_code, reason = "is opened by a thread that may not outlive it")]
mod latch;
mod lounge;
mod queue;
mod shutdown;
#[allow(unsafe_code, reason = "halves of joins are run by other threads, in place")]
mod stack_job;
mod statistics;
mod threads;
#[allow(unsafe_code, reason = "finds the worker that this thread is")]
mod worker;

use crate::watch::tasks;
use lounge::Lounge;
use par_core::engine::{
    Borrowing, Common, Elastic, Engine, Launch, Placement, Refused, Room, SameProgram, Shutdown,
    ShutdownReport,
};
use par_core::job::{Claim, Job};
use par_core::observe::Observers;
use par_core::{Capabilities, Info, Pool, StartError, TaskError};
use parking_lot::{Mutex, RwLock};
use queue::{Phase, Queue};
use stack_job::JobRef;
pub use statistics::WorkerStatistics;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use worker::{Seat, Worker};

/// A pool whose workers are threads of this process.
///
/// ```
/// use par_sync::{Sum, ThreadPool};
///
/// #[par_sync::task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let pool = ThreadPool::new(2)?;
/// assert_eq!(pool.map::<square>(0..5)?, [0, 1, 4, 9, 16]);
/// assert_eq!(pool.map_reduce::<square, _>(0..1_000, Sum)?, 332_833_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "ThreadPoolExecutor")]
pub type ThreadPool = Pool<ThreadEngine>;

/// The engine of a [`ThreadPool`].
pub struct ThreadEngine {
    inner: Arc<Inner>,
}

/// What only the thread engine can be told.
///
/// ```
/// use par_sync::{ThreadOptions, ThreadPool};
/// let pool = ThreadPool::builder().workers(2).options(ThreadOptions { encode: true, ..Default::default() }).build()?;
/// assert_eq!(pool.map_fn(0..3u8, |x| x + 1)?, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ThreadOptions {
    /// The threads are named `NAME-0`, `NAME-1`, ...; default `par-worker`.
    pub name: String,
    /// The encoding mode, for tests: inputs and outputs cross to the workers as bytes, as they would to another process, so
    /// that faults of serde show before a cluster is there. What borrows still runs typed.
    pub encode: bool,
    /// The cores that the workers keep to: worker `i` runs on `cores[i % cores.len()]` only. Where it is empty, they run where the system
    /// likes, which is best in most cases. Linux only.
    pub cores: Vec<usize>,
    /// The stack of each thread in bytes; `None` is the default of the standard library (2 MiB, or `RUST_MIN_STACK`).
    pub stack_size: Option<usize>,
}

impl Default for ThreadOptions {
    fn default() -> Self {
        ThreadOptions {
            name: "par-worker".to_owned(),
            encode: false,
            cores: Vec::new(),
            stack_size: None,
        }
    }
}

/// What the threads of a pool share.
struct Inner {
    engine: Weak<ThreadEngine>,
    common: Common,
    options: ThreadOptions,
    queue: Queue,
    lounge: Lounge,
    /// The seats of the workers by index, replaced as a whole; the version goes up with each replacement.
    roster: RwLock<Arc<[Arc<Seat>]>>,
    roster_version: AtomicUsize,
    /// How many workers there are to be.
    target: AtomicUsize,
    /// The most there ever were to be.
    most: AtomicUsize,
    resizing: Mutex<()>,
    /// Parts that were run by threads that have ended.
    ran: AtomicU64,
    observers: Observers,
}

impl Inner {
    fn is_open(&self) -> bool {
        self.queue.phase.load(Ordering::Relaxed) == Phase::Open as u8
    }

    /// The number of workers, and the most there ever were.
    fn sizes(&self) -> (usize, usize) {
        (
            self.target.load(Ordering::Relaxed),
            self.most.load(Ordering::Relaxed),
        )
    }

    fn seats(&self) -> Arc<[Arc<Seat>]> {
        Arc::clone(&self.roster.read())
    }

    /// Hands a join from outside to the workers; false if the pool is closed.
    fn inject(&self, half: JobRef) -> bool {
        let (taken, lend) = self.queue.inject(half);
        if taken {
            self.lounge.call(1);
            self.substitute(lend);
        }
        taken
    }

    fn is_inside(&self) -> bool {
        Worker::here(self, |worker| worker.is_some())
    }
}

impl Launch for ThreadEngine {
    type Options = ThreadOptions;

    fn launch(common: Common, options: ThreadOptions) -> Result<Arc<Self>, StartError> {
        if options.name.contains('\0') {
            let reason = format!("a thread's name must not hold a NUL byte, got {:?}", options.name);
            return Err(StartError::Option {
                option: "name",
                reason,
            });
        }
        if let Err(reason) = statistics::check_cores(&options.cores) {
            return Err(StartError::Option {
                option: "cores",
                reason,
            });
        }
        let workers = common.workers;
        let engine = Arc::new_cyclic(|engine| ThreadEngine {
            inner: Arc::new(Inner {
                engine: Weak::clone(engine),
                queue: Queue::new(common.queue),
                common,
                options,
                lounge: Lounge::new(),
                roster: RwLock::new(Arc::new([])),
                roster_version: AtomicUsize::new(0),
                target: AtomicUsize::new(0),
                most: AtomicUsize::new(0),
                resizing: Mutex::new(()),
                ran: AtomicU64::new(0),
                observers: Observers::default(),
            }),
        });
        // Where this fails, dropping the engine ends the workers that did start.
        engine.inner.resize(workers)?;
        Ok(engine)
    }
}

impl Engine for ThreadEngine {
    fn info(&self) -> Info {
        let capabilities = Capabilities {
            borrowing: true,
            same_program: true,
            elastic: true,
            placement: true,
            ..Capabilities::default()
        };
        Info {
            name: "threads",
            workers: self.inner.sizes().0,
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        let inner = &*self.inner;
        // A share that is only one worker's must not wait for somebody else to wake that one.
        let most = if job.is_static() { usize::MAX } else { job.parts() };
        let lend = inner.queue.push(job, room, inner.is_inside())?;
        inner.lounge.call(most);
        inner.substitute(lend);
        Ok(())
    }

    fn cancel(&self, job: &Arc<Job>, _: bool) {
        if job.unclaimed() == 0 {
            self.inner.queue.remove(job);
        }
    }

    fn run_inline(&self, claim: Claim) {
        Worker::here(&self.inner, |worker| match worker {
            Some(worker) => worker.run_claim(claim, || None),
            None => claim.run(),
        });
    }

    fn blocking(&self, begins: bool) {
        if let Some(index) = Worker::here(&self.inner, |worker| worker.map(Worker::index)) {
            self.inner.blocking(index, begins);
        }
    }

    fn sleeps(&self, job: &Job, until: Option<Instant>) -> Result<(), TaskError> {
        tasks::task_sleeps(job, until).map_err(|deadlock| TaskError::Rejected(deadlock.to_string()))
    }

    fn slept(&self, job: &Job) {
        tasks::task_slept(job);
    }

    fn observers(&self) -> &Observers {
        &self.inner.observers
    }

    fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        self.inner.shutdown(how, deadline)
    }
}

// SAFETY: jobs are run by this process's threads only, each claim by the thread that took it, and `run_claim` touches of a
// job that is done only what the job itself owns. A job that borrows is never encoded.
#[allow(unsafe_code, reason = "a promise, not an access")]
unsafe impl Borrowing for ThreadEngine {
    fn join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        join::join(&self.inner, a, b)
    }
}

impl SameProgram for ThreadEngine {}
impl Placement for ThreadEngine {}

impl Elastic for ThreadEngine {
    fn resize(&self, workers: usize) -> Result<(), StartError> {
        self.inner.resize(workers)
    }
}

impl Drop for ThreadEngine {
    fn drop(&mut self) {
        // Pools shut their engine down before they let go of it; this is for whoever launched one without a pool, and for
        // a start that failed.
        self.inner.shutdown(Shutdown::CancelPending, None);
    }
}
