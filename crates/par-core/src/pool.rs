//! `Pool<E>`: what users call, written once for every engine.

mod blocks;
mod borrowed;
mod builder;
mod fold;
mod map;
mod scope;
mod stream;
mod waits;

pub use borrowed::{BorrowScope, SliceError};
pub use builder::Builder;
pub use scope::Scope;
pub use stream::Stream;

use crate::body::Outcome;
use crate::body::single::SingleBody;
use crate::engine::{Elastic, Engine, Info, Launch, Refused, Room, SameProgram, Shutdown, ShutdownReport};
use crate::error::{StartError, TaskError};
use crate::handle::Handle;
use crate::job::{Body, Job, Spec};
use crate::kernel::{Kernel, OfFn, OfTask};
use crate::observe::{Event, Observer};
use crate::plan::{Plan, Schedule};
use crate::share::{self, Shared};
use crate::task::{Data, Task};
use crate::timer;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Workers that run tasks, on engine `E`. Clones are the same pool; the last one that is dropped lets everything that was
/// submitted finish, and then ends the workers ([`shutdown`](Pool::shutdown) ends them otherwise).
///
/// ```
/// use par_core::{SerialPool, Sum};
///
/// #[par_core::task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let pool = SerialPool::new(1)?;
/// assert_eq!(pool.map::<square>(0..5)?, [0, 1, 4, 9, 16]);
/// assert_eq!(pool.map_reduce::<square, _>(0..5, Sum)?, 30);
/// assert_eq!(pool.submit::<square>(12)?.wait()?, 144);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Executor")]
pub struct Pool<E: ?Sized + Engine> {
    engine: Arc<E>,
    erased: Arc<dyn Engine>,
    plan: Plan,
    /// Nothing in a pool that a task got from [`current`](crate::current): it must not end its own workers.
    owner: Option<Arc<Owner>>,
}

/// A pool whose engine is not known at compile time.
pub type AnyPool = Pool<dyn Engine>;

/// Ends the workers when the last pool is dropped.
struct Owner(Arc<dyn Engine>);

impl Drop for Owner {
    fn drop(&mut self) {
        // Somebody who unwinds wants to get out, not to wait for work whose results nobody will read.
        let how = if std::thread::panicking() {
            Shutdown::CancelPending
        } else {
            Shutdown::Drain
        };
        self.0.shutdown(how, None);
    }
}

impl<E: ?Sized + Engine> Clone for Pool<E> {
    fn clone(&self) -> Self {
        Pool {
            engine: Arc::clone(&self.engine),
            erased: Arc::clone(&self.erased),
            plan: self.plan,
            owner: self.owner.clone(),
        }
    }
}

impl<E: ?Sized + Engine> fmt::Debug for Pool<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("info", &self.info())
            .field("plan", &self.plan)
            .finish()
    }
}

/// A task was not taken at once; its input comes back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct TrySubmitError<I> {
    /// The input of the task, for another try.
    pub input: I,
    /// Why it was not taken.
    pub reason: Refused,
}

impl<E: Launch> Pool<E> {
    /// Starts a pool of `workers` workers with the defaults of its engine.
    ///
    /// # Errors
    /// [`StartError::Workers`] for 0 workers, [`StartError::Registry`] if two tasks share a name, others as the engine
    /// has them.
    pub fn new(workers: usize) -> Result<Self, StartError> {
        Self::builder().workers(workers).build()
    }

    /// A pool with options.
    pub fn builder() -> Builder<E> {
        Builder::new()
    }
}

impl<E: Engine> Pool<E> {
    /// A pool on an engine that runs already. The last clone that is dropped shuts it down.
    pub fn from_engine(engine: Arc<E>) -> Self {
        let erased: Arc<dyn Engine> = Arc::clone(&engine) as _;
        Pool {
            engine,
            owner: Some(Arc::new(Owner(Arc::clone(&erased)))),
            erased,
            plan: Plan::default(),
        }
    }

    /// The same pool with its engine's type erased.
    pub fn into_any(self) -> AnyPool {
        Pool {
            engine: Arc::clone(&self.erased),
            erased: self.erased,
            plan: self.plan,
            owner: self.owner,
        }
    }
}

impl AnyPool {
    /// The pool of a worker of `engine`.
    pub(crate) fn of_worker(engine: Arc<dyn Engine>) -> Self {
        Pool {
            erased: Arc::clone(&engine),
            engine,
            plan: Plan::default(),
            owner: None,
        }
    }
}

impl<E: Elastic> Pool<E> {
    /// Grows or shrinks the pool while it runs.
    ///
    /// # Errors
    /// As [`Elastic::resize`].
    pub fn resize(&self, workers: usize) -> Result<(), StartError> {
        self.engine.resize(workers)
    }
}

impl<E: ?Sized + Engine> Pool<E> {
    /// The engine, for what only it can do.
    pub fn engine(&self) -> &Arc<E> {
        &self.engine
    }

    /// Name, number of workers and capabilities of the engine.
    pub fn info(&self) -> Info {
        self.engine.info()
    }

    /// How many workers there are now.
    pub fn workers(&self) -> usize {
        self.info().workers
    }

    /// The same pool, used with another plan.
    #[must_use]
    pub fn with_plan(&self, plan: Plan) -> Self {
        Pool { plan, ..self.clone() }
    }

    /// The plan that is in use.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Adds an observer; it stays as long as the engine.
    pub fn observer(&self, observer: Arc<dyn Observer>) {
        self.engine.observers().add(observer);
    }

    /// Makes `value` known to all workers. It crosses to each once, when a task first names it, and is forgotten there when
    /// the last clone here is gone.
    ///
    /// # Errors
    /// [`TaskError::Codec`] if the value has to cross to another process and does not serialise.
    pub fn share<T: Data + Sync>(&self, value: T) -> Result<Shared<T>, TaskError> {
        let engine = Arc::downgrade(&self.erased);
        let shared = share::share(value, move |id| {
            if let Some(engine) = engine.upgrade() {
                engine.evict(id);
            }
        });
        if self.info().capabilities.processes {
            shared.check_encodes()?;
        }
        Ok(shared)
    }

    /// Ends the pool: drains it, or cancels what is pending, or ends it by force. After `deadline` what still runs is
    /// killed where the engine can, and reported as detached where it cannot. Without a deadline it waits.
    #[doc(alias = "close")]
    #[doc(alias = "terminate")]
    pub fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        self.engine.shutdown(how, deadline)
    }

    /// Submits one task and returns its handle. Waits for room when the queue is at its bound, except inside a task.
    ///
    /// # Errors
    /// [`TaskError::Rejected`] if the pool is shut down, [`TaskError::Broken`] if it is past its restart budget.
    #[doc(alias = "apply")]
    #[doc(alias = "apply_async")]
    pub fn submit<T: Task>(&self, input: T::Input) -> Result<Handle<T::Output>, TaskError> {
        self.start_single(OfTask::<T>::new(), input, Room::Wait, |_, reason| reason.into())
    }

    /// As [`submit`](Pool::submit), but never waits for room.
    ///
    /// # Errors
    /// [`TrySubmitError`] hands the input back and says why: full, shut down, broken.
    pub fn try_submit<T: Task>(
        &self,
        input: T::Input,
    ) -> Result<Handle<T::Output>, TrySubmitError<T::Input>> {
        let refused = |input, reason| TrySubmitError { input, reason };
        self.start_single(OfTask::<T>::new(), input, Room::Now, refused)
    }

    /// Runs two tasks, at the same time where there are workers for it, and returns both values.
    ///
    /// # Errors
    /// The failure of the first, or else of the second; both have ended by then.
    pub fn join<A: Task, B: Task>(
        &self,
        a: A::Input,
        b: B::Input,
    ) -> Result<(A::Output, B::Output), TaskError> {
        let a = self.submit::<A>(a)?;
        let b = self.submit::<B>(b);
        // Both have ended before this returns, whatever happened to either.
        let a = a.wait();
        let b = b.and_then(Handle::wait);
        Ok((a?, b?))
    }

    /// As [`submit`](Pool::submit), for a call that the laws made up.
    #[cfg(feature = "conformance")]
    pub(crate) fn submit_kernel<K: Kernel>(
        &self,
        kernel: K,
        input: K::In,
    ) -> Result<Handle<K::Out>, TaskError> {
        self.start_single(kernel, input, Room::Wait, |_, reason| reason.into())
    }

    /// `refused` makes the error of a task that was not taken, of its input and the reason.
    #[inline]
    fn start_single<K: Kernel, R>(
        &self,
        kernel: K,
        input: K::In,
        room: Room,
        refused: impl FnOnce(K::In, Refused) -> R,
    ) -> Result<Handle<K::Out>, R> {
        if let Err(error) = self.plan.check() {
            return Err(refused(input, Refused::Unfit(error)));
        }
        let body = SingleBody::new(kernel, input, K::start);
        let job = Job::new(self.spec::<K>(), 1, Schedule::single(), body);
        let plain: Arc<Job> = Arc::clone(&job) as Arc<Job<dyn Body>>;
        if let Err(reason) = self.hand_over(plain, room)
            && let Some(input) = job.take_input()
        {
            return Err(refused(input, reason));
        }
        // An engine that took it after all, and refused too late, lets the handle say how it ended.
        Ok(Handle::new(
            job as Arc<Job<dyn Outcome<K::Out, TaskError>>>,
            Arc::clone(&self.erased),
        ))
    }

    /// A job of one part.
    fn single<K: Kernel>(
        &self,
        kernel: K,
        input: K::In,
    ) -> Result<Arc<Job<impl Outcome<K::Out, TaskError> + 'static>>, TaskError> {
        self.plan.check()?;
        let body = SingleBody::new(kernel, input, K::start);
        Ok(Job::new(self.spec::<K>(), 1, Schedule::single(), body))
    }

    fn hand_over(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        self.announce(&job);
        if let Room::Wait | Room::Until(_) = room
            && let Err(error) = crate::context::may_block()
            && !crate::context::is_worker_of(&self.erased)
        {
            // In async code a full queue must not stop the runtime.
            return self
                .engine
                .submit(job, Room::Now)
                .map_err(|refused| match refused {
                    Refused::Full => Refused::Unfit(error),
                    other => other,
                });
        }
        self.engine.submit(job, room)
    }

    /// Tells the clock and those who watch of a job that is about to be handed over.
    fn announce(&self, job: &Arc<Job>) {
        timer::watch(job, &self.erased);
        job.observers().emit(|| Event::Submitted {
            job: job.id(),
            name: job.name(),
            parts: job.parts(),
        });
    }

    /// Starts a job of many parts; a refusal ends its parts with the reason.
    fn start(&self, job: &Arc<Job>) {
        if job.parts() > 0
            && let Err(refused) = self.hand_over(Arc::clone(job), Room::Wait)
        {
            job.fail_unclaimed(&refused.into());
        }
    }

    fn cancel(&self, job: &Arc<Job>) {
        job.cancel();
        self.engine.cancel(job, false);
    }

    fn schedule(&self, parts: usize) -> Schedule {
        let workers = self.workers();
        Schedule::new(&self.plan, parts, self.plan.chunk_size(parts, workers), workers)
    }

    #[inline(always)]
    fn spec<K: Kernel>(&self) -> Spec {
        Spec::of::<K>(&self.plan, self.engine.observers())
    }
}

impl<E: ?Sized + SameProgram> Pool<E> {
    /// Submits a plain function, or a closure without captures, which needs no `#[task]`.
    ///
    /// # Errors
    /// As [`submit`](Pool::submit).
    pub fn submit_fn<I: Data, O: Data>(
        &self,
        input: I,
        function: fn(I) -> O,
    ) -> Result<Handle<O>, TaskError> {
        self.start_single(OfFn(function), input, Room::Wait, |_, reason| reason.into())
    }
}
