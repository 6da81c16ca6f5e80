//! Reductions and scans over the values of a pool.

use super::Pool;
use super::blocks::Blocks;
use super::map::{BLOCKS_AHEAD, Running};
use super::waits::{Wait, blocking};
use crate::body::Failures;
use crate::body::fold::{FoldBody, FoldState, Gather};
use crate::engine::{Engine, SameProgram};
use crate::error::MapError;
use crate::fold::{self, ScanKind};
use crate::job::{Body, Job};
use crate::kernel::{Identity, Kernel, OfFn, OfTask};
use crate::plan::{ChunkPlan, Plan, Schedule};
use crate::reduction::{Count, Reduction};
use crate::task::{Data, Task};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

impl<E: ?Sized + Engine> Pool<E> {
    /// Runs task `T` on every item and folds the values. The same items give the same bits on every engine, at every number
    /// of workers (see [`fold`](crate::fold)). Endless input needs constant memory.
    ///
    /// # Errors
    /// [`MapError`] with the lowest index of those that failed.
    pub fn map_reduce<T: Task, R: Reduction<T::Output>>(
        &self,
        items: impl IntoIterator<Item = T::Input>,
        reduction: R,
    ) -> Result<R::Output, MapError> {
        blocking(self.run_fold(Wait::Block, OfTask::<T>::new(), items.into_iter(), reduction))
    }

    /// Folds the items themselves.
    ///
    /// # Errors
    /// [`MapError`] if a fold panics or items cannot cross to the workers.
    pub fn reduce<T: Data, R: Reduction<T>>(
        &self,
        items: impl IntoIterator<Item = T>,
        reduction: R,
    ) -> Result<R::Output, MapError> {
        if self.info().capabilities.same_program {
            let kernel = Identity::<T>::new();
            return blocking(self.run_fold(Wait::Block, kernel, items.into_iter(), reduction));
        }
        // Workers that find code by name cannot find a fold without a task: the order of the tree is the same here.
        self.plan.check().map_err(|error| MapError { index: 0, error })?;
        let gathered = crate::panics::catch(|| {
            let nodes = fold::aligned_nodes(&reduction, self.plan.leaf_items(), 0, items);
            // The nodes of a whole input only need to be combined from the right.
            let rest = nodes.into_iter().map(|(_, acc)| acc).rev();
            let acc = rest.reduce(|right, left| reduction.combine(left, right));
            reduction.finish(acc.unwrap_or_else(|| reduction.identity()))
        });
        gathered.map_err(|error| MapError { index: 0, error })
    }

    /// Runs task `T` on every item for its effect.
    ///
    /// # Errors
    /// [`MapError`] with the lowest index of those that failed.
    pub fn for_each<T: Task>(&self, items: impl IntoIterator<Item = T::Input>) -> Result<(), MapError> {
        blocking(self.run_fold(Wait::Block, OfTask::<T>::new(), items.into_iter(), Count)).map(|_| ())
    }

    /// Runs task `T` on every item and returns the running reductions of the values, up to and with each (inclusive) or
    /// before each (exclusive). The order is that of [`fold::scan`], the same on every engine.
    ///
    /// # Errors
    /// [`MapError`] with the lowest index of those that failed.
    #[doc(alias = "accumulate")]
    pub fn scan<T: Task, R: Reduction<T::Output>>(
        &self,
        items: impl IntoIterator<Item = T::Input>,
        reduction: R,
        kind: ScanKind,
    ) -> Result<Vec<R::Output>, MapError>
    where
        T::Output: Clone,
        R::Acc: Clone,
    {
        let values = self.map::<T>(items)?;
        crate::panics::catch(|| fold::scan(&reduction, kind, self.plan.leaf_items(), &values))
            .map_err(|error| MapError { index: 0, error })
    }

    pub(super) async fn run_fold<K: Kernel, R: Reduction<K::Out>>(
        &self,
        wait: Wait,
        kernel: K,
        items: impl Iterator<Item = K::In>,
        reduction: R,
    ) -> Result<R::Output, MapError> {
        self.plan.check().map_err(|error| MapError { index: 0, error })?;
        let leaf = self.plan.leaf_items();
        let state = Arc::new(FoldState {
            gather: Mutex::new(Gather::new(reduction.clone(), leaf)),
            failures: Failures::new(),
        });
        let mut blocks = Blocks::new(items, 64, self.plan.window_items() / BLOCKS_AHEAD).whole_if_flat();
        let mut running = Running {
            pool: self,
            jobs: VecDeque::new(),
        };
        loop {
            while running.jobs.len() < BLOCKS_AHEAD
                && let Some((first, block)) = blocks.next()
            {
                let parts = block.len();
                let schedule = fold_schedule(&self.plan, parts, leaf, self.workers());
                let body = FoldBody::new(kernel, reduction.clone(), leaf, first, block, Arc::clone(&state));
                let job = Job::new(self.spec::<K>(), parts, schedule, body);
                let plain = Arc::clone(&job) as Arc<Job<dyn Body>>;
                running.jobs.push_back((first, job));
                self.start_by(wait, &plain).await;
            }
            let Some((first, job)) = running.jobs.front() else {
                break;
            };
            let at = |error| MapError { index: *first, error };
            let plain = Arc::clone(job) as Arc<Job<dyn Body>>;
            wait.for_job(&plain, &self.erased).await.map_err(at)?;
            if let Some(error) = job.early_end() {
                return Err(at(error));
            }
            let end = *first + job.parts() as u64;
            running.jobs.pop_front();
            // All before `end` has ended. A failure after it may come from a block that was faster than those before it, in which
            // items with lower indexes may still fail.
            if let Some(failure) = state.failures.get().filter(|failure| failure.index < end) {
                return Err(failure);
            }
        }
        let gather = std::mem::replace(&mut *state.gather.lock(), Gather::new(reduction, leaf));
        crate::panics::catch(|| gather.finish()).map_err(|error| MapError { index: 0, error })
    }
}

/// Chunks of a reduction are whole leaves where they are larger than one, so that little is folded by the caller.
pub(super) fn fold_schedule(plan: &Plan, parts: usize, leaf: usize, workers: usize) -> Schedule {
    let mut chunk = plan.chunk_size(parts, workers);
    if chunk > leaf && plan.chunk_plan() == ChunkPlan::Auto {
        chunk -= chunk % leaf;
    }
    Schedule::new(plan, parts, chunk, workers)
}

impl<E: ?Sized + SameProgram> Pool<E> {
    /// As [`map_reduce`](Pool::map_reduce), for a plain function or a closure without captures.
    ///
    /// # Errors
    /// As [`map_reduce`](Pool::map_reduce).
    pub fn map_reduce_fn<I: Data, O: Data, R: Reduction<O>>(
        &self,
        items: impl IntoIterator<Item = I>,
        function: fn(I) -> O,
        reduction: R,
    ) -> Result<R::Output, MapError> {
        blocking(self.run_fold(Wait::Block, OfFn(function), items.into_iter(), reduction))
    }
}
