//! Handles: the one outcome of a submitted task, waited for by blocking, awaiting or callback; and waits over several.

use crate::body::Outcome;
use crate::context;
use crate::engine::Engine;
use crate::error::TaskError;
use crate::job::{Body, Job, JobId};
use crate::plan::Claimant;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How far a submitted task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// No worker has it yet.
    Pending,
    /// A worker has it: it is running or about to.
    Running,
    /// It ended; [`Handle::wait`] says how.
    Done,
}

/// The outcome to come of one submitted task, or of a [map](crate::Pool::submit_map) that was submitted.
///
/// Wait for it by blocking ([`wait`](Handle::wait)), by `.await`, or by callback ([`then`](Handle::then)). Dropping a
/// handle detaches the task: it still runs. `E` is how it fails: a [`TaskError`], or a [`MapError`](crate::MapError) for a map.
///
/// ```
/// #[par_core::task]
/// fn half(x: u64) -> Result<u64, String> {
///     if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
/// }
/// let pool = par_core::SerialPool::new(1)?;
/// assert_eq!(pool.submit::<half>(8)?.wait(), Ok(4));
/// let error = pool.submit::<half>(7)?.wait().unwrap_err();
/// assert_eq!(error.to_string(), "task failed: 7 is odd [alloc::string::String]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Future")]
#[doc(alias = "AsyncResult")]
pub struct Handle<O: 'static, E: 'static = TaskError> {
    job: Arc<Job<dyn Outcome<O, E>>>,
    engine: Arc<dyn Engine>,
    waker: Option<u64>,
    /// Whether somebody is told of the outcome who is not this handle.
    told: bool,
}

impl<O: 'static, E: 'static> Handle<O, E> {
    pub(crate) fn new(job: Arc<Job<dyn Outcome<O, E>>>, engine: Arc<dyn Engine>) -> Self {
        Handle {
            job,
            engine,
            waker: None,
            told: false,
        }
    }

    pub(crate) fn plain(&self) -> Arc<Job> {
        Arc::clone(&self.job) as Arc<Job<dyn Body>>
    }

    /// The number of its job, as observers see it.
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// How far the task is.
    pub fn state(&self) -> TaskState {
        if self.job.is_done() {
            TaskState::Done
        } else if self.job.unclaimed() == self.job.parts() {
            TaskState::Pending
        } else {
            TaskState::Running
        }
    }

    /// Whether the task has ended.
    pub fn is_done(&self) -> bool {
        self.job.is_done()
    }

    /// Blocks until the task has ended. On a worker of the same pool, the worker runs the task itself if nobody has begun it.
    ///
    /// # Errors
    /// However the task ended without a value; [`TaskError::Rejected`] for a blocking wait inside async code.
    #[doc(alias = "result")]
    #[doc(alias = "get")]
    pub fn wait(self) -> Result<O, E> {
        match wait_for(&self.plain(), &self.engine, None) {
            Ok(_) => outcome(&self.job),
            Err(error) => Err(self.job.body.whole(error)),
        }
    }

    /// Blocks until the task has ended or `timeout` has passed; then the handle comes back, to be waited for again.
    ///
    /// # Errors
    /// The handle itself when the time is up.
    pub fn wait_timeout(self, timeout: Duration) -> Result<Result<O, E>, Self> {
        // A time beyond what the clock can say is for ever; a worker that gave one waits without helping all the same (law 12).
        let until = Instant::now().checked_add(timeout).unwrap_or_else(far);
        match wait_for(&self.plain(), &self.engine, Some(until)) {
            Ok(true) => Ok(outcome(&self.job)),
            Ok(false) => Err(self),
            Err(error) => Ok(Err(self.job.body.whole(error))),
        }
    }

    /// Cancels the task. One that has not begun never will; one that runs sees its token ([`cancelled`](crate::cancelled)).
    /// Returns whether it is certain that the task did not begin.
    pub fn cancel(&self) -> bool {
        let job = self.plain();
        let pending = job.unclaimed() == job.parts();
        job.cancel();
        self.engine.cancel(&job, false);
        // It may have been claimed, and even ended, since it was looked at.
        pending && job.is_done() && job.failure() == Some(TaskError::Cancelled)
    }

    /// Cancels the task and, where the engine can, ends it by force ([`Capabilities::kill`](crate::Capabilities)); the
    /// outcome is `Cancelled` at once.
    #[doc(alias = "terminate")]
    pub fn kill(&self) {
        let job = self.plain();
        job.end_early(TaskError::Cancelled);
        self.engine.cancel(&job, true);
    }

    /// Calls `call` once the task has ended, on the thread that ends it; at once, on this one, if it has. The outcome stays with
    /// the handle; [`then`](Handle::then) gives it to the callback.
    #[doc(alias = "add_done_callback")]
    pub fn on_done(&self, call: impl FnOnce() + Send + 'static) {
        self.job.core.completion.on_done(Box::new(call));
    }

    /// Gives the outcome to `call` once there is one, on the thread that ends the task; at once, on this one, if it has ended.
    ///
    /// That thread has others to serve: a callback should be brief. It may submit to the pool, but not wait for it. Its panic is
    /// printed, and ends nothing else.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    ///
    /// #[par_core::task]
    /// fn half(x: u64) -> Result<u64, String> {
    ///     if x % 2 == 0 { Ok(x / 2) } else { Err(format!("{x} is odd")) }
    /// }
    /// let pool = par_core::SerialPool::new(1)?;
    /// let (tell, told) = channel();
    /// for x in [8, 7] {
    ///     let tell = tell.clone();
    ///     pool.submit::<half>(x)?.then(move |outcome| match outcome {
    ///         Ok(half) => tell.send(format!("{half}")).unwrap(),
    ///         Err(error) => tell.send(format!("{error}")).unwrap(),
    ///     });
    /// }
    /// assert_eq!(told.recv()?, "4");
    /// assert_eq!(told.recv()?, "task failed: 7 is odd [alloc::string::String]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "callback")]
    #[doc(alias = "error_callback")]
    pub fn then(mut self, call: impl FnOnce(Result<O, E>) + Send + 'static) {
        self.told = true;
        let job = Arc::clone(&self.job);
        // The job holds itself until it ends, which every job does (law 2).
        self.on_done(move || call(outcome(&job)));
    }
}

/// The outcome of a job that is done. Only its handle takes it, by `&mut` or in its last act, or the callback that the handle was
/// given up for.
fn outcome<O, E>(job: &Job<dyn Outcome<O, E>>) -> Result<O, E> {
    if let Some(error) = job.early_end() {
        return Err(job.body.whole(error));
    }
    let taken = if job.ended_by_itself() {
        // SAFETY: it has ended, and not early; there is one taker at a time, as said above.
        unsafe { job.body.take() }
    } else {
        None
    };
    taken.unwrap_or_else(|| {
        let gone = TaskError::Rejected("the outcome was taken before".to_owned());
        Err(job.body.whole(gone))
    })
}

impl<O: 'static, E: 'static> Future for Handle<O, E> {
    type Output = Result<O, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !this.job.is_done() {
            awaited(this.job.unclaimed(), || this.plain(), &this.engine);
        }
        if this.job.is_done() || this.job.core.completion.register(&mut this.waker, cx.waker()) {
            return Poll::Ready(outcome(&this.job));
        }
        Poll::Pending
    }
}

/// Somebody awaits a job that is not done.
fn awaited(unclaimed: usize, job: impl FnOnce() -> Arc<Job>, engine: &Arc<dyn Engine>) {
    let worker = context::is_worker_of(engine);
    if worker && context::may_block().is_ok() {
        // On a worker without a runtime there may be nobody else to run it (law 9).
        run_awaited(&job(), engine);
    } else if unclaimed > 0 {
        if worker {
            engine.expedite(&job());
        } else {
            engine.awaited(&job());
        }
    }
}

/// Ready when a job is done.
pub(crate) struct Done<'a> {
    job: &'a Arc<Job>,
    engine: &'a Arc<dyn Engine>,
    waker: Option<u64>,
}

impl<'a> Done<'a> {
    pub(crate) fn new(job: &'a Arc<Job>, engine: &'a Arc<dyn Engine>) -> Self {
        Done {
            job,
            engine,
            waker: None,
        }
    }
}

impl Future for Done<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if !this.job.is_done() {
            awaited(this.job.unclaimed(), || Arc::clone(this.job), this.engine);
        }
        if this.job.is_done() || this.job.core.completion.register(&mut this.waker, cx.waker()) {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Done<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.waker {
            self.job.core.completion.unregister(key);
        }
    }
}

impl<O: 'static, E: 'static> Drop for Handle<O, E> {
    fn drop(&mut self) {
        // Whoever turns it on takes the wakers with it.
        if self.job.is_done() {
            return;
        }
        if let Some(key) = self.waker {
            self.job.core.completion.unregister(key);
        }
        if self.told {
            return;
        }
        // Somebody should hear of a panic that no one will ask for.
        let name = self.job.name();
        let weak = Arc::downgrade(&self.job);
        self.job.core.completion.on_done(Box::new(move || {
            if let Some(job) = weak.upgrade()
                && let Some(error @ TaskError::Panicked(_)) = job.failure()
            {
                eprintln!("par: detached task {name}: {error}");
            }
        }));
    }
}

impl<O: 'static, E: 'static> fmt::Debug for Handle<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Handle").field(&self.job).finish()
    }
}

/// Waits for a job as laws 9 and 12 say; whether it is done.
pub(crate) fn wait_for(
    job: &Arc<Job>,
    engine: &Arc<dyn Engine>,
    deadline: Option<Instant>,
) -> Result<bool, TaskError> {
    if job.is_done() {
        return Ok(true);
    }
    may_block(&**engine)?;
    let here = context::is_worker_of(engine);
    let until = earlier(deadline, job.deadline());
    loop {
        let helps = here && deadline.is_none();
        if helps {
            run_awaited(job, engine);
            if job.is_done() {
                return Ok(true);
            }
        }
        let _lent = here.then(|| Blocking::begin(engine));
        engine.drive(job, until);
        let again = helps.then(|| look_again(engine)).flatten();
        engine.sleeps(job, until)?;
        let done = job.core.completion.wait(earlier(until, again));
        engine.slept(job);
        if done {
            return Ok(true);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            break;
        }
    }
    if job.expire() {
        engine.cancel(job, true);
    }
    Ok(job.is_done())
}

/// Whether this thread may wait with its hands in its lap for a task of that engine.
pub(crate) fn may_block<E: ?Sized + Engine>(engine: &E) -> Result<(), TaskError> {
    context::may_block()?;
    engine.may_block()
}

/// So far away that nobody waits for it, and every clock can say it.
pub(crate) fn far() -> Instant {
    Instant::now() + Duration::from_secs(100 * 365 * 24 * 3600)
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// When a worker that goes to sleep now looks again for what it can do for its wait.
pub(crate) fn look_again(engine: &Arc<dyn Engine>) -> Option<Instant> {
    engine.look_again().map(|pause| Instant::now() + pause)
}

/// Runs, on a worker, only what a wait for `job` needs: the job itself, then what the engine knows to belong to it.
fn run_awaited(job: &Arc<Job>, engine: &Arc<dyn Engine>) {
    if job.unclaimed() > 0 && engine.expedite(job) {
        while let Some(claim) = job.claim(Claimant::Any) {
            engine.run_inline(claim);
        }
    }
    while !job.is_done() && engine.assist(job) {}
}

/// Tells the engine that this worker sleeps, also if the wait ends by a panic.
pub(crate) struct Blocking<'a>(&'a Arc<dyn Engine>);

impl<'a> Blocking<'a> {
    pub(crate) fn begin(engine: &'a Arc<dyn Engine>) -> Self {
        engine.blocking(true);
        Blocking(engine)
    }
}

impl Drop for Blocking<'_> {
    fn drop(&mut self) {
        self.0.blocking(false);
    }
}

/// Waits for all handles; the outcomes, in their order.
///
/// # Errors
/// None as a whole: each outcome says how its task ended.
pub fn wait_all<O: 'static, E: 'static>(
    handles: impl IntoIterator<Item = Handle<O, E>>,
) -> Vec<Result<O, E>> {
    handles.into_iter().map(Handle::wait).collect()
}

/// Waits until one of the handles is done and takes it out of the vector; `None` if there is none, or `deadline` passed.
pub fn wait_any<O: 'static, E: 'static>(
    handles: &mut Vec<Handle<O, E>>,
    deadline: Option<Instant>,
) -> Option<Handle<O, E>> {
    if handles.is_empty() {
        return None;
    }
    if let Some(done) = handles.iter().position(Handle::is_done) {
        return Some(handles.swap_remove(done));
    }
    // A worker must not sleep over a task that only it could run.
    if deadline.is_none() && context::is_worker_of(&handles[0].engine) {
        let first = handles.swap_remove(0);
        // How it ended is for whoever takes the handle.
        let _ = wait_for(&first.plain(), &first.engine, None);
        return Some(first);
    }
    let signal = Arc::new(crate::wait::Completion::new());
    for handle in handles.iter() {
        let signal = Arc::clone(&signal);
        handle.on_done(move || signal.complete());
    }
    signal.wait(deadline);
    handles
        .iter()
        .position(Handle::is_done)
        .map(|done| handles.swap_remove(done))
}

/// The outcomes of the handles as their tasks end, each with the place of its handle.
///
/// ```
/// #[par_core::task]
/// fn square(x: u64) -> u64 { x * x }
/// let pool = par_core::SerialPool::new(1)?;
/// let handles = [1, 2, 3].map(|x| pool.submit::<square>(x)).into_iter().collect::<Result<Vec<_>, _>>()?;
/// let total: u64 = par_core::as_completed(handles).map(|(_, outcome)| outcome.unwrap()).sum();
/// assert_eq!(total, 14);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<O: 'static, E: 'static>(
    handles: impl IntoIterator<Item = Handle<O, E>>,
) -> AsCompleted<O, E> {
    let arrived = Arc::new(Arrived::default());
    let handles: Vec<Option<Handle<O, E>>> = handles.into_iter().map(Some).collect();
    for (place, handle) in handles.iter().enumerate() {
        let arrived = Arc::clone(&arrived);
        if let Some(handle) = handle {
            handle.on_done(move || {
                arrived.places.lock().push_back(place);
                arrived.came.notify_one();
            });
        }
    }
    AsCompleted {
        left: handles.len(),
        handles,
        arrived,
    }
}

#[derive(Default)]
struct Arrived {
    places: parking_lot::Mutex<std::collections::VecDeque<usize>>,
    came: parking_lot::Condvar,
}

/// See [`as_completed`].
pub struct AsCompleted<O: 'static, E: 'static = TaskError> {
    handles: Vec<Option<Handle<O, E>>>,
    left: usize,
    arrived: Arc<Arrived>,
}

impl<O: 'static, E: 'static> Iterator for AsCompleted<O, E> {
    type Item = (usize, Result<O, E>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let arrived = self.arrived.places.lock().pop_front();
        let place = match arrived {
            Some(place) => place,
            None => self.wait_next()?,
        };
        // A handle that `wait_next` drove to its end arrives as well; its place is then empty.
        match self.handles.get_mut(place).and_then(Option::take) {
            Some(handle) => Some((place, handle.wait())),
            None => {
                self.left += 1;
                self.next()
            }
        }
    }
}

impl<O: 'static, E: 'static> AsCompleted<O, E> {
    fn wait_next(&mut self) -> Option<usize> {
        let next = self.handles.iter().position(Option::is_some)?;
        if let Some(handle) = &self.handles[next]
            && context::is_worker_of(&handle.engine)
        {
            return Some(next);
        }
        let mut places = self.arrived.places.lock();
        loop {
            if let Some(place) = places.pop_front() {
                return Some(place);
            }
            self.arrived.came.wait(&mut places);
        }
    }
}
