//! Maps: every item through a task, the values in the order of the items.

use super::Pool;
use super::blocks::Blocks;
use super::waits::{Wait, blocking};
use crate::body::map::MapBody;
use crate::engine::{Engine, Room, SameProgram};
use crate::error::{MapError, TaskError};
use crate::handle::Handle;
use crate::job::{Body, Job};
use crate::kernel::{Kernel, OfFn, OfTask};
use crate::task::{Data, Task};
use std::collections::VecDeque;
use std::sync::Arc;

/// Blocks that run while the next ones are read.
pub(super) const BLOCKS_AHEAD: usize = 4;

impl<E: ?Sized + Engine> Pool<E> {
    /// Runs task `T` on every item; the values in the order of the items. Items are read as workers become free.
    ///
    /// # Errors
    /// [`MapError`] with the lowest index of those that failed. Items after it may or may not have run.
    #[doc(alias = "starmap")]
    pub fn map<T: Task>(
        &self,
        items: impl IntoIterator<Item = T::Input>,
    ) -> Result<Vec<T::Output>, MapError> {
        blocking(self.run_map(Wait::Block, OfTask::<T>::new(), items.into_iter()))
    }

    /// Runs task `T` on every item; how each of them ended, in the order of the items.
    ///
    /// # Errors
    /// [`TaskError::Rejected`] if the plan cannot be followed.
    pub fn map_outcomes<T: Task>(
        &self,
        items: impl IntoIterator<Item = T::Input>,
    ) -> Result<Vec<Result<T::Output, TaskError>>, TaskError> {
        Ok(self
            .map_ordered::<T, _>(items)?
            .map(|(_, outcome)| outcome)
            .collect())
    }

    /// Starts a [map](Pool::map) and returns its handle at once: wait for it later, or have a callback [told](Handle::then). All
    /// items are read before that; endless or large input is for [`map_ordered`](Pool::map_ordered) and its like.
    ///
    /// ```
    /// use std::sync::mpsc::channel;
    ///
    /// #[par_core::task]
    /// fn root(x: u64) -> Result<u64, String> {
    ///     (0..=x).find(|y| y * y == x).ok_or_else(|| format!("{x} is no square"))
    /// }
    /// let pool = par_core::SerialPool::new(1)?;
    /// let roots = pool.submit_map::<root>([9, 16])?;
    /// assert_eq!(roots.wait()?, [3, 4]);
    ///
    /// let (tell, told) = channel();
    /// pool.submit_map::<root>([9, 16, 17])?.then(move |outcome| match outcome {
    ///     Ok(roots) => tell.send(format!("{roots:?}")).unwrap(),
    ///     Err(error) => tell.send(format!("{error}")).unwrap(),
    /// });
    /// assert_eq!(told.recv()?, "item 2: task failed: 17 is no square [alloc::string::String]");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`submit`](Pool::submit). How the items end is told by the handle, as [`map`](Pool::map) does.
    #[doc(alias = "map_async")]
    #[doc(alias = "starmap_async")]
    #[doc(alias = "AsyncResult")]
    pub fn submit_map<T: Task>(
        &self,
        items: impl IntoIterator<Item = T::Input>,
    ) -> Result<Handle<Vec<T::Output>, MapError>, TaskError> {
        self.start_map(OfTask::<T>::new(), items.into_iter().collect())
    }

    fn start_map<K: Kernel>(
        &self,
        kernel: K,
        items: Vec<K::In>,
    ) -> Result<Handle<Vec<K::Out>, MapError>, TaskError> {
        self.plan.check()?;
        let parts = items.len();
        let body = MapBody::new(kernel, 0, items);
        let job = Job::new(self.spec::<K>(), parts, self.schedule(parts), body);
        let plain = Arc::clone(&job) as Arc<Job<dyn Body>>;
        if parts > 0
            && let Err(refused) = self.hand_over(plain, Room::Wait)
        {
            let error = TaskError::from(refused);
            let untouched = job.unclaimed() == parts;
            job.fail_unclaimed(&error);
            // An engine that took it after all, and refused too late, leaves it to the handle to say how it ended.
            if untouched {
                return Err(error);
            }
        }
        Ok(Handle::new(job, Arc::clone(&self.erased)))
    }

    pub(super) async fn run_map<K: Kernel>(
        &self,
        wait: Wait,
        kernel: K,
        items: impl Iterator<Item = K::In>,
    ) -> Result<Vec<K::Out>, MapError> {
        self.plan.check().map_err(|error| MapError { index: 0, error })?;
        let known = items.size_hint().0;
        let mut blocks = Blocks::new(items, 64, self.plan.window_items() / BLOCKS_AHEAD).whole_if_flat();
        let mut running = Running {
            pool: self,
            jobs: VecDeque::new(),
        };
        let mut all: Vec<K::Out> = Vec::new();
        loop {
            while running.jobs.len() < BLOCKS_AHEAD
                && let Some((first, block)) = blocks.next()
            {
                let parts = block.len();
                let body = MapBody::new(kernel, first, block);
                let job = Job::new(self.spec::<K>(), parts, self.schedule(parts), body);
                let plain = Arc::clone(&job) as Arc<Job<dyn Body>>;
                running.jobs.push_back((first, job));
                self.start_by(wait, &plain).await;
            }
            let Some((first, job)) = running.jobs.front() else {
                return Ok(all);
            };
            let at = |error| MapError { index: *first, error };
            let plain = Arc::clone(job) as Arc<Job<dyn Body>>;
            wait.for_job(&plain, &self.erased).await.map_err(at)?;
            if let Some(error) = job.early_end() {
                return Err(at(error));
            }
            let values = job.body.take()?;
            running.jobs.pop_front();
            if all.is_empty() && running.jobs.is_empty() && values.len() >= known {
                all = values;
            } else {
                // `known` is only a hint, and may be a lie: what fits in a block is believed, the rest grows as it comes.
                if all.is_empty() {
                    all.reserve_exact(known.min(1 << 24).max(values.len()));
                }
                all.extend(values);
            }
        }
    }
}

impl<E: ?Sized + SameProgram> Pool<E> {
    /// Runs a plain function, or a closure without captures, on every item.
    ///
    /// # Errors
    /// As [`map`](Pool::map).
    pub fn map_fn<I: Data, O: Data>(
        &self,
        items: impl IntoIterator<Item = I>,
        function: fn(I) -> O,
    ) -> Result<Vec<O>, MapError> {
        blocking(self.run_map(Wait::Block, OfFn(function), items.into_iter()))
    }

    /// As [`submit_map`](Pool::submit_map), for a plain function, or a closure without captures.
    ///
    /// # Errors
    /// As [`submit_map`](Pool::submit_map).
    pub fn submit_map_fn<I: Data, O: Data>(
        &self,
        items: impl IntoIterator<Item = I>,
        function: fn(I) -> O,
    ) -> Result<Handle<Vec<O>, MapError>, TaskError> {
        self.start_map(OfFn(function), items.into_iter().collect())
    }
}

/// The jobs of one call that are under way, oldest first. What is left when the call ends, in whatever way, is cancelled.
pub(super) struct Running<'a, E: ?Sized + Engine, B: Body + 'static> {
    pub(super) pool: &'a Pool<E>,
    pub(super) jobs: VecDeque<(u64, Arc<Job<B>>)>,
}

impl<E: ?Sized + Engine, B: Body + 'static> Drop for Running<'_, E, B> {
    fn drop(&mut self) {
        for (_, job) in self.jobs.drain(..) {
            if !job.is_done() {
                self.pool.cancel(&(job as Arc<Job<dyn Body>>));
            }
        }
    }
}
