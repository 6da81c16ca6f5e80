//! Scopes: children that have all ended when the scope does (law 11).

use super::Pool;
use crate::engine::Engine;
use crate::error::TaskError;
use crate::handle::{Handle, may_block, wait_for};
use crate::job::Job;
use crate::task::Task;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

impl<E: ?Sized + Engine> Pool<E> {
    /// Runs `body`, which submits children to the scope, and waits for all of them, also if `body` panics. The first child
    /// that fails cancels the others.
    ///
    /// ```
    /// #[par_core::task]
    /// fn square(x: u64) -> u64 { x * x }
    /// let pool = par_core::SerialPool::new(1)?;
    /// let sum = pool.scope(|scope| {
    ///     let a = scope.submit::<square>(3)?;
    ///     let b = scope.submit::<square>(4)?;
    ///     Ok(a.wait()? + b.wait()?)
    /// })?;
    /// assert_eq!(sum, 25);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// The error of `body`, or else that of the first child that failed.
    #[doc(alias = "TaskGroup")]
    pub fn scope<R>(&self, body: impl FnOnce(&Scope<'_, E>) -> Result<R, TaskError>) -> Result<R, TaskError> {
        self.run_scope(None, body)
    }

    /// As [`scope`](Pool::scope); when `timeout` has passed the children are cancelled, and still waited for.
    ///
    /// # Errors
    /// As [`scope`](Pool::scope), and [`TaskError::TimedOut`] when the deadline cancelled a child.
    pub fn scope_timeout<R>(
        &self,
        timeout: Duration,
        body: impl FnOnce(&Scope<'_, E>) -> Result<R, TaskError>,
    ) -> Result<R, TaskError> {
        self.run_scope(Some(timeout), body)
    }

    fn run_scope<R>(
        &self,
        timeout: Option<Duration>,
        body: impl FnOnce(&Scope<'_, E>) -> Result<R, TaskError>,
    ) -> Result<R, TaskError> {
        // The scope waits for its children before it returns, and the children may need the thread that it waits with.
        may_block(&*self.engine)?;
        let limit = timeout.and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
        let scope = Scope {
            pool: self,
            children: Arc::default(),
            limit,
        };
        // Its drop waits for the children, whether `body` returns or unwinds.
        let end = End(&scope);
        let result = body(&scope);
        drop(end);
        let failure = scope.children.lock().failure.take();
        match (result, failure) {
            // What made the children fail is better news than the cancellation that followed from it.
            (Err(TaskError::Cancelled), Some(failure)) => Err(failure),
            (Err(error), _) => Err(error),
            (Ok(_), Some(failure)) => Err(failure),
            (Ok(value), None) => Ok(value),
        }
    }
}

/// Where children are submitted; made by [`Pool::scope`].
pub struct Scope<'a, E: ?Sized + Engine> {
    pool: &'a Pool<E>,
    children: Arc<Mutex<Children>>,
    limit: Option<(Instant, Duration)>,
}

#[derive(Default)]
struct Children {
    jobs: Vec<Arc<Job>>,
    failure: Option<TaskError>,
    closed: bool,
}

impl<E: ?Sized + Engine> Scope<'_, E> {
    /// Submits a child.
    ///
    /// # Errors
    /// [`TaskError::Cancelled`] once a child has failed or the deadline has passed; others as [`Pool::submit`].
    pub fn submit<T: Task>(&self, input: T::Input) -> Result<Handle<T::Output>, TaskError> {
        if self.limit.is_some_and(|(at, _)| Instant::now() >= at) {
            self.cancel_all();
        }
        if self.children.lock().closed {
            return Err(TaskError::Cancelled);
        }
        let handle = self.pool.submit::<T>(input)?;
        let job = handle.plain();
        {
            let mut children = self.children.lock();
            children.jobs.retain(|child| !child.is_done());
            children.jobs.push(Arc::clone(&job));
        }
        let (children, erased, weak) = (
            Arc::clone(&self.children),
            Arc::downgrade(&self.pool.erased),
            Arc::downgrade(&job),
        );
        handle.on_done(move || {
            let Some(job) = weak.upgrade() else { return };
            let Some(error) = job.failure() else { return };
            let siblings = {
                let mut children = children.lock();
                if children.closed {
                    return;
                }
                children.closed = true;
                children.failure = Some(error);
                children.jobs.clone()
            };
            for sibling in &siblings {
                sibling.cancel();
                if let Some(engine) = erased.upgrade() {
                    engine.cancel(sibling, false);
                }
            }
        });
        if self.children.lock().closed {
            // A sibling failed while this one was being submitted.
            self.pool.cancel(&job);
        }
        Ok(handle)
    }

    /// Cancels all children; those that have not begun never will.
    pub fn cancel(&self) {
        self.cancel_all();
    }

    fn cancel_all(&self) {
        let jobs = {
            let mut children = self.children.lock();
            children.closed = true;
            children.jobs.clone()
        };
        jobs.iter().for_each(|job| self.pool.cancel(job));
    }

    fn wait_for_all(&self) {
        loop {
            let next = self
                .children
                .lock()
                .jobs
                .iter()
                .find(|job| !job.is_done())
                .cloned();
            let Some(job) = next else { return };
            let until = self
                .limit
                .map(|(at, _)| at)
                .filter(|at| *at > Instant::now() && !self.children.lock().closed);
            match wait_for(&job, &self.pool.erased, until) {
                Ok(true) => {}
                Ok(false) => {
                    let limit = self.limit.map_or(Duration::ZERO, |(_, limit)| limit);
                    self.cancel_all();
                    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
                    self.children
                        .lock()
                        .failure
                        .get_or_insert(TaskError::TimedOut { limit_ms });
                }
                Err(_) => {
                    // In async code: the children must end before the borrow does, so this waits all the same.
                    self.cancel_all();
                    job.core.completion.wait(None);
                }
            }
        }
    }
}

struct End<'a, 'b, E: ?Sized + Engine>(&'a Scope<'b, E>);

impl<E: ?Sized + Engine> Drop for End<'_, '_, E> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel_all();
        }
        self.0.wait_for_all();
    }
}
