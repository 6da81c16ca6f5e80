//! The two ways in which a call waits for its jobs: with its thread, or as a future. The calls are written once above them.

use super::Pool;
use crate::engine::{Engine, Refused, Room, Shutdown, ShutdownReport};
use crate::error::{MapError, TaskError};
use crate::executor::block_on;
use crate::handle::{Done, Handle, wait_for};
use crate::job::{Body, Job};
use crate::kernel::OfTask;
use crate::reduction::{Count, Reduction};
use crate::task::Task;
use crate::timer;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// How a call waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// With its thread: its future is ready at the first poll.
    Block,
    /// As a future.
    Await,
}

impl Wait {
    /// Waits until the job is done.
    pub(super) async fn for_job(self, job: &Arc<Job>, engine: &Arc<dyn Engine>) -> Result<(), TaskError> {
        match self {
            Wait::Block => wait_for(job, engine, None).map(|_| ()),
            Wait::Await => {
                let mut waited = false;
                let mut done = pin!(Done::new(job, engine));
                poll_fn(|cx| {
                    let poll = done.as_mut().poll(cx);
                    // On a pool that is always faster, endless input would hold the runtime for ever: it gives way once a job.
                    if poll.is_ready() && !waited {
                        waited = true;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    waited = true;
                    poll
                })
                .await;
                Ok(())
            }
        }
    }
}

/// The value of a call that waits with its thread.
pub(super) fn blocking<F: Future>(call: F) -> F::Output {
    let mut call = pin!(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => block_on(call),
    }
}

/// How long somebody who awaits room in a queue waits before he asks again, at first and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(16));

/// The awaited forms of the calls that block: for async code, on any pool and under any runtime. They hold no thread while they wait.
///
/// ```
/// use par_core::{SerialPool, Sum, block_on};
///
/// #[par_core::task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let pool = SerialPool::new(1)?;
/// block_on(async {
///     assert_eq!(pool.map_async::<square>(0..4).await?, [0, 1, 4, 9]);
///     assert_eq!(pool.map_reduce_async::<square, _>(0..4, Sum).await?, 14);
///     assert_eq!(pool.submit_async::<square>(5).await?.await?, 25);
///     # Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
impl<E: ?Sized + Engine> Pool<E> {
    /// As [`submit`](Pool::submit), but awaits room in the queue.
    ///
    /// # Errors
    /// As [`submit`](Pool::submit).
    pub async fn submit_async<T: Task>(&self, input: T::Input) -> Result<Handle<T::Output>, TaskError> {
        let job = self.single(OfTask::<T>::new(), input)?;
        let plain = Arc::clone(&job) as Arc<Job<dyn Body>>;
        match self.hand_over_async(&plain).await {
            Err(refused) if job.unclaimed() > 0 => Err(refused.into()),
            // Where the engine took it after all, and refused too late, the handle says how it ended.
            _ => Ok(Handle::new(job, Arc::clone(&self.erased))),
        }
    }

    /// As [`map`](Pool::map), awaited.
    ///
    /// # Errors
    /// As [`map`](Pool::map).
    pub async fn map_async<T: Task>(
        &self,
        items: impl IntoIterator<Item = T::Input>,
    ) -> Result<Vec<T::Output>, MapError> {
        self.run_map(Wait::Await, OfTask::<T>::new(), items.into_iter())
            .await
    }

    /// As [`map_reduce`](Pool::map_reduce), awaited.
    ///
    /// # Errors
    /// As [`map_reduce`](Pool::map_reduce).
    pub async fn map_reduce_async<T: Task, R: Reduction<T::Output>>(
        &self,
        items: impl IntoIterator<Item = T::Input>,
        reduction: R,
    ) -> Result<R::Output, MapError> {
        self.run_fold(Wait::Await, OfTask::<T>::new(), items.into_iter(), reduction)
            .await
    }

    /// As [`for_each`](Pool::for_each), awaited.
    ///
    /// # Errors
    /// As [`for_each`](Pool::for_each).
    pub async fn for_each_async<T: Task>(
        &self,
        items: impl IntoIterator<Item = T::Input>,
    ) -> Result<(), MapError> {
        let counted = self.run_fold(Wait::Await, OfTask::<T>::new(), items.into_iter(), Count);
        counted.await.map(|_| ())
    }

    /// As [`shutdown`](Pool::shutdown), awaited: a thread of its own waits meanwhile, the only form that needs one. It begins when it
    /// is first polled, and goes on where its future is dropped. Within a task of the pool, which the end would have to wait for,
    /// nothing is awaited: as with `shutdown` there.
    #[doc(alias = "cancel_futures")]
    pub async fn shutdown_async(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        if crate::context::is_worker_of(&self.erased) {
            return self.engine.shutdown(how, deadline);
        }
        let ended = Arc::new(crate::wait::Completion::new());
        let report = Arc::new(parking_lot::Mutex::new(None));
        let shut = {
            let (engine, ended, report) = (Arc::clone(&self.erased), Arc::clone(&ended), Arc::clone(&report));
            move || {
                crate::panics::report("the end of a pool", move || {
                    *report.lock() = Some(engine.shutdown(how, deadline));
                    drop(engine);
                });
                ended.complete();
            }
        };
        let thread = std::thread::Builder::new().name("par-shutdown".to_owned());
        if thread.spawn(shut).is_err() {
            // No thread to wait on: this one has to.
            return self.engine.shutdown(how, deadline);
        }
        let mut seat = None;
        poll_fn(
            |cx| match ended.is_done() || ended.register(&mut seat, cx.waker()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            },
        )
        .await;
        let report = report.lock().take();
        report.unwrap_or_default()
    }

    /// Starts a job of many parts; a refusal ends its parts with the reason.
    pub(super) async fn start_by(&self, wait: Wait, job: &Arc<Job>) {
        if job.parts() == 0 {
            return;
        }
        let taken = match wait {
            Wait::Block => self.hand_over(Arc::clone(job), Room::Wait),
            Wait::Await => self.hand_over_async(job).await,
        };
        if let Err(refused) = taken {
            job.fail_unclaimed(&refused.into());
        }
    }

    async fn hand_over_async(&self, job: &Arc<Job>) -> Result<(), Refused> {
        self.announce(job);
        let mut pause = ASK_AGAIN.0;
        loop {
            // On a worker of the pool the bound is passed, and nobody waits.
            let room = if crate::context::is_worker_of(&self.erased) {
                Room::Wait
            } else {
                Room::Now
            };
            match self.engine.submit(Arc::clone(job), room) {
                Err(Refused::Full) => timer::pause(pause).await,
                taken => return taken,
            }
            pause = (2 * pause).min(ASK_AGAIN.1);
        }
    }
}
