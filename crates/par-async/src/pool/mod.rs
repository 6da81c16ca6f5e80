//! The async engine: async tasks are polled beside each other on a tokio runtime, the others run on threads of their own.
//!
//! The protocol, cited by number elsewhere. One lock, [`State`], says what there is; nothing of the user's is run or dropped
//! under it.
//!
//! 1. A job is async or not. An async job is begun as soon as there is room for it, and runs as *pieces*: futures on the runtime, each
//!    of which owns a claim or claims further ones. One of a single part stands in the *line* for a *pump* before, which polls
//!    it first. Any other job waits in a queue for a thread of the *crew*.
//! 2. Room for async jobs from outside: at most `in_flight` of them are under way, up to the bound of the queue wait for their
//!    turn, and then `submit` waits. What a task submits is begun at once, whatever is under way: the task may wait for it (laws 8
//!    and 9). Within one job at most `in_flight` parts are under way.
//! 3. A piece is counted from before it is spawned until it is dropped, by the runtime or by us, and a job in the line as its piece.
//!    So `live` is 0 only when no future of a task is left.
//! 4. The crew leaves when the pool is closed, its queue is empty and `live` is 0: until then async tasks may bring it work.
//! 5. A thread of the crew is blocked while it sleeps in a wait of this pool. When all of them are blocked and there is work for
//!    them, whoever made it so lends a substitute: brought the work, began to sleep, or left.
//! 6. A pending future is woken by the cancellation of its job. The closing of the pool cancels all jobs on the list of those that
//!    sleep, and closes that list first: who comes to it later, or is polled for the first time, cancels its own job.

mod crew;
mod pieces;
mod pump;
mod runtime;
mod shutdown;

use par_core::engine::{Capabilities, Common, Engine, Info, Launch, Refused, Room, SameProgram, TokioTasks};
use par_core::engine::{Shutdown, ShutdownReport};
use par_core::job::{Claim, Job};
use par_core::observe::Observers;
use par_core::{Pool, StartError, TaskError};
use parking_lot::{Condvar, Mutex, MutexGuard};
use pieces::After;
use runtime::Runtime;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A pool on the async engine: async tasks by the thousand on a few threads, others beside them.
///
/// ```
/// use par_async::{AsyncPool, task};
/// use std::time::Duration;
///
/// #[task]
/// async fn nap(ms: u64) -> u64 {
///     tokio::time::sleep(Duration::from_millis(ms)).await;
///     ms
/// }
///
/// let pool = AsyncPool::new(1)?;
/// let naps = pool.map::<nap>((0..1000).map(|_| 20))?; // one thread, 1000 naps at a time
/// assert_eq!(naps.len(), 1000);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "asyncio")]
pub type AsyncPool = Pool<AsyncEngine>;

/// The async engine. See [`AsyncPool`].
pub struct AsyncEngine {
    inner: Arc<Inner>,
}

/// What only the async engine can be told.
///
/// ```
/// use par_async::{AsyncOptions, AsyncPool};
///
/// let options = AsyncOptions { in_flight: 100, ..AsyncOptions::default() };
/// let pool = AsyncPool::builder().workers(1).options(options).build()?;
/// # Ok::<(), par_async::StartError>(())
/// ```
#[derive(Debug, Clone)]
pub struct AsyncOptions {
    /// The runtime to run on; without one the pool has its own, with as many threads as it has workers.
    pub runtime: Option<tokio::runtime::Handle>,
    /// How many async tasks from outside the pool are under way at most, and how many parts of one map. What tasks submit
    /// themselves is not counted. At least 1, default 10,000.
    pub in_flight: usize,
}

impl Default for AsyncOptions {
    fn default() -> Self {
        AsyncOptions {
            runtime: None,
            in_flight: 10_000,
        }
    }
}

impl AsyncOptions {
    /// On the runtime of that handle.
    pub fn on(runtime: tokio::runtime::Handle) -> Self {
        AsyncOptions {
            runtime: Some(runtime),
            ..AsyncOptions::default()
        }
    }

    /// On the runtime that the caller is in.
    ///
    /// # Errors
    /// [`StartError::Unavailable`] outside a tokio runtime.
    pub fn current() -> Result<Self, StartError> {
        let current = tokio::runtime::Handle::try_current();
        current.map(AsyncOptions::on).map_err(|_| {
            StartError::Unavailable(
                "this thread is in no tokio runtime; AsyncPool::new makes one of its own".to_owned(),
            )
        })
    }
}

/// Pools on a tokio runtime that is there already. The runtime lives on when the pool ends.
///
/// ```
/// use par_async::{AsyncPool, OnRuntime, task};
///
/// #[task]
/// async fn double(x: u64) -> u64 { 2 * x }
///
/// let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
/// runtime.block_on(async {
///     let pool = AsyncPool::current(1)?;
///     assert_eq!(pool.submit::<double>(4)?.await?, 8);
///     # Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait OnRuntime: Sized {
    /// On the runtime of that handle, with `workers` threads for what is not async.
    ///
    /// # Errors
    /// As [`Pool::new`].
    fn on(runtime: tokio::runtime::Handle, workers: usize) -> Result<Self, StartError>;

    /// On the runtime that the caller is in.
    ///
    /// # Errors
    /// As [`Pool::new`], and [`StartError::Unavailable`] outside a tokio runtime.
    fn current(workers: usize) -> Result<Self, StartError>;
}

impl OnRuntime for AsyncPool {
    fn on(runtime: tokio::runtime::Handle, workers: usize) -> Result<Self, StartError> {
        let builder = AsyncPool::builder().workers(workers);
        builder.options(AsyncOptions::on(runtime)).build()
    }

    fn current(workers: usize) -> Result<Self, StartError> {
        let builder = AsyncPool::builder().workers(workers);
        builder.options(AsyncOptions::current()?).build()
    }
}

impl AsyncEngine {
    /// How many async jobs from outside the pool are under way now.
    pub fn in_flight(&self) -> usize {
        self.inner.state.lock().outside
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// Only what the pool's own tasks submit is still taken.
    Draining,
    Closed,
}

/// What the threads and futures of a pool share.
struct Inner {
    /// Unique in the process; how a thread knows that it is inside this pool.
    number: u64,
    engine: Weak<AsyncEngine>,
    common: Common,
    in_flight: usize,
    runtime: Runtime,
    state: Mutex<State>,
    /// There is work for the crew, or reason to leave.
    work: Condvar,
    /// There is room in a queue.
    room: Condvar,
    /// Threads or pieces have come to be none.
    ended: Condvar,
    /// Whether the phase is `Closed`, for futures that only glance.
    closed: AtomicBool,
    observers: Observers,
}

struct State {
    phase: Phase,
    /// Jobs that the crew runs, in their order, each as long as it may have unclaimed parts.
    jobs: VecDeque<Arc<Job>>,
    waiting_for_room: usize,
    /// Threads of the crew, with substitutes.
    threads: usize,
    /// The workers whose threads sleep in a wait.
    blocked: Vec<usize>,
    /// What each thread of the crew is running parts of.
    desks: Vec<Arc<crew::Desk>>,
    handles: Vec<std::thread::JoinHandle<()>>,
    /// Async jobs that wait for their turn.
    pending: VecDeque<Arc<Job>>,
    /// Async jobs from outside that are under way.
    outside: usize,
    /// Pieces that there are, and jobs in the line.
    live: usize,
    /// Async jobs of one part that are to be begun.
    line: pump::Line,
    /// The jobs of the pieces that are pending.
    sleeping: pieces::Sleeping,
    ran: u64,
    cancelled: u64,
}

impl State {
    /// Whether there is nothing that could become work for the crew (rule 4).
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.pending.is_empty() && self.live == 0
    }
}

impl Inner {
    /// Tells those who wait for room.
    fn made_room(&self, state: &State) {
        if state.waiting_for_room > 0 {
            // All of them: one that gave up meanwhile would swallow the news.
            self.room.notify_all();
        }
    }

    /// Takes a job.
    fn take(this: &Arc<Self>, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        let inside = runtime::is_inside(this.number);
        let mut state = this.state.lock();
        loop {
            match state.phase {
                Phase::Open => {}
                Phase::Draining if inside => {}
                Phase::Draining | Phase::Closed => return Err(Refused::Closed),
            }
            if job.unclaimed() == 0 {
                // It timed out, or was cancelled, while it waited.
                return Ok(());
            }
            let beyond = inside && room != Room::Now;
            if job.is_async() {
                if state.line.is_dead() {
                    return Err(Refused::Broken(pump::RUNTIME_GONE.to_owned()));
                }
                if inside || (state.pending.is_empty() && state.outside < this.in_flight) {
                    let mut after = After::default();
                    this.admit(&mut state, job, !inside, &mut after);
                    drop(state);
                    after.follow(this);
                    return Ok(());
                }
                if state.pending.len() < this.common.queue {
                    state.pending.push_back(job);
                    return Ok(());
                }
            } else if state.jobs.len() < this.common.queue || beyond {
                match job.parts() {
                    1 => drop(this.work.notify_one()),
                    _ => drop(this.work.notify_all()),
                }
                state.jobs.push_back(job);
                let lend = state.lend();
                drop(state);
                this.substitute(lend);
                return Ok(());
            }
            let until = match room {
                Room::Now => return Err(Refused::Full),
                Room::Wait => job.deadline(),
                Room::Until(at) if Instant::now() >= at => return Err(Refused::Full),
                Room::Until(at) => Some(job.deadline().map_or(at, |end| end.min(at))),
            };
            MutexGuard::unlocked(&mut state, runtime::may_block).map_err(Refused::Unfit)?;
            if state.jobs.len().max(state.pending.len()) < this.common.queue {
                continue;
            }
            state.waiting_for_room += 1;
            match until {
                None => this.room.wait(&mut state),
                Some(at) => {
                    this.room.wait_until(&mut state, at);
                }
            }
            state.waiting_for_room -= 1;
            // Its deadline may be what ended the wait; this ends its parts, and drops their inputs, outside the lock.
            MutexGuard::unlocked(&mut state, || job.expire());
        }
    }
}

impl Launch for AsyncEngine {
    type Options = AsyncOptions;

    fn launch(common: Common, options: AsyncOptions) -> Result<Arc<Self>, StartError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        if options.in_flight == 0 {
            return Err(StartError::Option {
                option: "in_flight",
                reason: "at least 1 async task must be under way, got 0".to_owned(),
            });
        }
        let runtime = Runtime::start(options.runtime, common.workers)?;
        let workers = common.workers;
        let engine = Arc::new_cyclic(|engine| AsyncEngine {
            inner: Arc::new(Inner {
                number: NEXT.fetch_add(1, Ordering::Relaxed),
                engine: Weak::clone(engine),
                common,
                in_flight: options.in_flight,
                runtime,
                state: Mutex::new(State {
                    phase: Phase::Open,
                    jobs: VecDeque::new(),
                    waiting_for_room: 0,
                    threads: 0,
                    blocked: Vec::new(),
                    desks: Vec::new(),
                    handles: Vec::new(),
                    pending: VecDeque::new(),
                    outside: 0,
                    live: 0,
                    line: pump::Line::default(),
                    sleeping: pieces::Sleeping::default(),
                    ran: 0,
                    cancelled: 0,
                }),
                work: Condvar::new(),
                room: Condvar::new(),
                ended: Condvar::new(),
                closed: AtomicBool::new(false),
                observers: Observers::default(),
            }),
        });
        pump::Pump::start(&engine.inner, engine.inner.runtime.threads());
        // Where this fails, dropping the engine ends the threads that did start.
        engine.inner.muster(workers)?;
        Ok(engine)
    }
}

impl Engine for AsyncEngine {
    fn info(&self) -> Info {
        let capabilities = Capabilities {
            same_program: true,
            tokio_tasks: true,
            ..Capabilities::default()
        };
        Info {
            name: "async",
            workers: self.inner.common.workers,
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        Inner::take(&self.inner, job, room)
    }

    fn cancel(&self, job: &Arc<Job>, _: bool) {
        if job.unclaimed() == 0 {
            self.inner.remove(job);
        }
    }

    fn run_inline(&self, claim: Claim) {
        self.inner.run_here(claim);
    }

    fn expedite(&self, job: &Arc<Job>) -> bool {
        if job.is_async() {
            Inner::begin_now(&self.inner, job);
        }
        !job.is_async()
    }

    fn awaited(&self, job: &Arc<Job>) {
        if job.is_async() && job.parts() == 1 && self.inner.runtime.is_here() {
            Inner::begin_here(&self.inner, job);
        }
    }

    fn may_block(&self) -> Result<(), TaskError> {
        if crew::is_crew(self.inner.number) {
            return Ok(());
        }
        runtime::may_block()
    }

    fn blocking(&self, begins: bool) {
        self.inner.blocking(begins);
    }

    fn observers(&self) -> &Observers {
        &self.inner.observers
    }

    fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        Inner::shutdown(&self.inner, how, deadline)
    }
}

impl SameProgram for AsyncEngine {}
impl TokioTasks for AsyncEngine {}

impl Drop for AsyncEngine {
    fn drop(&mut self) {
        // Pools shut their engine down before they let go of it, and what they drain goes on. This is for whoever launched one
        // without a pool, and for a start that failed.
        let open = self.inner.state.lock().phase == Phase::Open;
        if open {
            Inner::shutdown(&self.inner, Shutdown::CancelPending, None);
        }
    }
}
