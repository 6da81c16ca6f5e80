//! Streaming maps: outcomes as they come, with a bounded number of items read ahead.

use super::Pool;
use super::blocks::Blocks;
use super::map::{BLOCKS_AHEAD, Running};
use crate::body::stream::{Arrivals, StreamBody};
use crate::context;
use crate::engine::Engine;
use crate::error::TaskError;
use crate::handle::{Blocking, look_again, may_block};
use crate::job::{Body, Job};
use crate::kernel::OfTask;
use crate::plan::Claimant;
use crate::task::Task;
use std::collections::{BTreeMap, VecDeque};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How far a stream reads ahead, unless the plan's window is narrower.
const AHEAD: usize = 4096;

impl<E: ?Sized + Engine> Pool<E> {
    /// Runs task `T` on every item and yields `(index, outcome)` in order of completion, while items are read only a bounded
    /// number ahead: endless input needs constant memory. Dropping the stream cancels what has not begun.
    ///
    /// # Errors
    /// [`TaskError::Rejected`] if the plan cannot be followed.
    #[doc(alias = "imap_unordered")]
    #[doc(alias = "map_as_completed")]
    pub fn map_unordered<T: Task, I: IntoIterator<Item = T::Input>>(
        &self,
        items: I,
    ) -> Result<Stream<'_, E, T, I::IntoIter>, TaskError> {
        self.stream(items, false)
    }

    /// As [`map_unordered`](Pool::map_unordered), in the order of the items.
    ///
    /// # Errors
    /// [`TaskError::Rejected`] if the plan cannot be followed.
    ///
    /// ```
    /// #[par_core::task]
    /// fn square(x: u64) -> u64 { x * x }
    /// let pool = par_core::SerialPool::new(1)?;
    /// let first_above_1000 = pool.map_ordered::<square, _>(0..)?.find(|(_, y)| *y.as_ref().unwrap() > 1000);
    /// assert_eq!(first_above_1000, Some((32, Ok(1024))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "imap")]
    pub fn map_ordered<T: Task, I: IntoIterator<Item = T::Input>>(
        &self,
        items: I,
    ) -> Result<Stream<'_, E, T, I::IntoIter>, TaskError> {
        self.stream(items, true)
    }

    fn stream<T: Task, I: IntoIterator<Item = T::Input>>(
        &self,
        items: I,
        ordered: bool,
    ) -> Result<Stream<'_, E, T, I::IntoIter>, TaskError> {
        self.plan.check()?;
        let window = self.plan.window_items().min(AHEAD);
        Ok(Stream {
            running: Running {
                pool: self,
                jobs: VecDeque::new(),
            },
            blocks: Blocks::new(items.into_iter(), 4, (window / BLOCKS_AHEAD).max(1)),
            window,
            ahead: 0,
            arrivals: Arc::new(Arrivals::new()),
            early: ordered.then(BTreeMap::new),
            next: 0,
            refused: false,
            task: PhantomData,
        })
    }
}

/// An iterator over the outcomes of a streaming map: `(index of the item, how it ended)`.
pub struct Stream<'a, E: ?Sized + Engine, T: Task, I: Iterator<Item = T::Input>> {
    running: Running<'a, E, StreamBody<OfTask<T>>>,
    blocks: Blocks<I>,
    window: usize,
    /// Items that were read and not yet handed on.
    ahead: usize,
    arrivals: Arc<Arrivals<T::Output>>,
    /// Where order is kept: outcomes that came before their turn.
    early: Option<BTreeMap<u64, Result<T::Output, TaskError>>>,
    /// Where order is kept: whose turn it is.
    next: u64,
    /// Whether it ended with the error of a wait in async code: the next call would find the same.
    refused: bool,
    task: PhantomData<T>,
}

impl<E: ?Sized + Engine, T: Task, I: Iterator<Item = T::Input>> Stream<'_, E, T, I> {
    /// The next outcome, if it comes within `timeout`; `None` when the time is up or there are no more.
    pub fn next_timeout(&mut self, timeout: Duration) -> Option<(u64, Result<T::Output, TaskError>)> {
        let until = Instant::now().checked_add(timeout);
        self.advance(Some(until.unwrap_or_else(crate::handle::far)))
    }

    fn read_ahead(&mut self) {
        if self.ahead == 0 {
            // Every outcome has arrived, so these jobs are at their end even where they do not say so yet.
            self.running.jobs.clear();
        }
        while let Some((_, job)) = self.running.jobs.front()
            && job.is_done()
        {
            self.running.jobs.pop_front();
        }
        while self.running.jobs.len() < BLOCKS_AHEAD
            && self.ahead < self.window
            && let Some((first, block)) = self.blocks.next()
        {
            let parts = block.len();
            self.ahead += parts;
            let pool = self.running.pool;
            let body = StreamBody::new(OfTask::<T>::new(), first, block, Arc::clone(&self.arrivals));
            let job = Job::new(pool.spec::<OfTask<T>>(), parts, pool.schedule(parts), body);
            pool.start(&(Arc::clone(&job) as Arc<Job<dyn Body>>));
            self.running.jobs.push_back((first, job));
        }
    }

    fn advance(&mut self, deadline: Option<Instant>) -> Option<(u64, Result<T::Output, TaskError>)> {
        if self.refused {
            return None;
        }
        loop {
            if let Some(early) = &mut self.early
                && let Some(outcome) = early.remove(&self.next)
            {
                self.ahead -= 1;
                self.next += 1;
                return Some((self.next - 1, outcome));
            }
            self.read_ahead();
            if self.ahead == 0 {
                return None;
            }
            let (index, outcome) = self.arrival(deadline)?;
            if self.refused {
                return Some((index, outcome));
            }
            match &mut self.early {
                Some(early) => {
                    early.insert(index, outcome);
                }
                None => {
                    self.ahead -= 1;
                    return Some((index, outcome));
                }
            }
        }
    }

    fn arrival(&mut self, deadline: Option<Instant>) -> Option<(u64, Result<T::Output, TaskError>)> {
        if let Some(arrived) = self.arrivals.try_take() {
            return Some(arrived);
        }
        let engine = &self.running.pool.erased;
        if let Err(error) = may_block(&**engine) {
            self.refused = true;
            return Some((self.next, Err(error)));
        }
        let here = context::is_worker_of(engine);
        if !here {
            return self.arrivals.take(deadline);
        }
        if deadline.is_some() {
            let _lent = Blocking::begin(engine);
            return self.arrivals.take(deadline);
        }
        loop {
            if self.help() {
                if let Some(arrived) = self.arrivals.try_take() {
                    return Some(arrived);
                }
                continue;
            }
            let again = look_again(engine);
            let _lent = Blocking::begin(engine);
            let arrived = self.arrivals.take(again);
            if arrived.is_some() || again.is_none() {
                return arrived;
            }
        }
    }

    /// A worker of the same pool helps with these very items (law 9); whether there was anything to do.
    fn help(&self) -> bool {
        let engine = &self.running.pool.erased;
        let jobs = self.running.jobs.iter();
        let mut open = jobs
            .map(|(_, job)| Arc::clone(job) as Arc<Job<dyn Body>>)
            .filter(|job| !job.is_done());
        let claims = |job: &Arc<Job>| job.unclaimed() > 0 && engine.expedite(job);
        match open
            .clone()
            .filter(claims)
            .find_map(|job| job.claim(Claimant::Any))
        {
            Some(claim) => {
                engine.run_inline(claim);
                true
            }
            None => open.next().is_some_and(|job| engine.assist(&job)),
        }
    }
}

impl<E: ?Sized + Engine, T: Task, I: Iterator<Item = T::Input>> Iterator for Stream<'_, E, T, I> {
    type Item = (u64, Result<T::Output, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.advance(None)
    }
}
