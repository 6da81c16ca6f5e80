//! Closures and slices that are borrowed from the caller, on engines whose workers are threads of this process.
//!
//! A borrowed body lives in a job like any other, but points into its caller's frame. The caller therefore does not leave
//! its frame, by return or by panic, before the job is done; such a job never ends early, and `Borrowing` promises that a
//! job that is done is no longer touched.

use super::Pool;
use super::fold::fold_schedule;
use crate::body::Failures;
use crate::body::fold::{Gather, fold_slice};
use crate::engine::Borrowing;
use crate::error::{MapError, TaskError};
use crate::handle::wait_for;
use crate::job::{Body, Job, Spec};
use crate::panics;
use crate::plan::Schedule;
use crate::reduction::Reduction;
use crate::remote::{Call, Part};
use crate::slots::{Progress, Slots};
use parking_lot::Mutex;
use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

/// Why work on a slice failed: that of an item, with its index.
pub type SliceError = MapError;

/// Runs ranges of a call that waits for it.
struct BorrowedBody {
    /// Valid until the job is done: see the top of this module.
    run: &'static (dyn Fn(Range<usize>) -> Result<(), (u64, TaskError)> + Sync),
    failures: Failures,
}

impl Body for BorrowedBody {
    fn run(&self, range: Range<usize>) {
        let first = range.start as u64;
        let result = panics::catch(|| (self.run)(range)).unwrap_or_else(|error| Err((first, error)));
        if let Err((index, error)) = result {
            self.failures.record(index, error);
        }
    }
    fn call(&self, _: bool) -> Result<Call, TaskError> {
        Err(TaskError::Rejected(
            "a closure that borrows cannot cross to another process".to_owned(),
        ))
    }
    fn encode(&self, _: Range<usize>, _: &mut Vec<u8>) -> Result<Part, TaskError> {
        self.call(false).map(|_| Part { first: 0, items: 0 })
    }
    fn complete(&self, range: Range<usize>, _: &[u8]) {
        self.fail(
            range,
            TaskError::Rejected("a closure that borrows has no reply".to_owned()),
        );
    }
    fn fail(&self, range: Range<usize>, error: TaskError) {
        self.failures.record(range.start as u64, error);
    }
    fn moot(&self, range: &Range<usize>) -> bool {
        self.failures.before(range.start as u64)
    }
    fn failure(&self) -> Option<TaskError> {
        self.failures.get().map(|failure| failure.error)
    }
    fn borrows(&self) -> bool {
        true
    }
}

/// Waits for the job when it is dropped, whatever made the caller leave.
struct Joined<'a, E: ?Sized + Borrowing>(&'a Pool<E>, Arc<Job<BorrowedBody>>);

impl<E: ?Sized + Borrowing> Drop for Joined<'_, E> {
    fn drop(&mut self) {
        let plain: Arc<Job> = Arc::clone(&self.1) as Arc<Job<dyn Body>>;
        // A wait inside async code is an error to report, but the frame must not be left either way.
        if wait_for(&plain, &self.0.erased, None).is_err() {
            self.1.core.completion.wait(None);
        }
    }
}

impl<E: Borrowing> Pool<E> {
    /// Runs `run` on ranges that cover `0..parts` and returns when all have ended.
    fn run_borrowed(
        &self,
        name: &'static str,
        parts: usize,
        schedule: Schedule,
        run: &(dyn Fn(Range<usize>) -> Result<(), (u64, TaskError)> + Sync),
    ) -> Result<(), MapError> {
        let at = |error| MapError { index: 0, error };
        self.plan.check().map_err(at)?;
        crate::context::may_block().map_err(at)?;
        // SAFETY: only the lifetime changes. `joined` below keeps this frame, and so what `run` borrows, until the job is
        // done, and a borrowing job is done only when every claim has ended.
        let run = unsafe {
            std::mem::transmute::<
                &(dyn Fn(Range<usize>) -> Result<(), (u64, TaskError)> + Sync),
                &'static (dyn Fn(Range<usize>) -> Result<(), (u64, TaskError)> + Sync),
            >(run)
        };
        let mut spec = Spec::new(name, false, &self.plan, self.engine.observers());
        spec.timeout = None;
        let job = Job::new(
            spec,
            parts,
            schedule,
            BorrowedBody {
                run,
                failures: Failures::new(),
            },
        );
        let joined = Joined(self, Arc::clone(&job));
        self.start(&(Arc::clone(&job) as Arc<Job<dyn Body>>));
        drop(joined);
        job.body.failures.get().map_or(Ok(()), Err)
    }

    /// Runs two closures, at the same time where a worker is free for the second, and returns both values.
    ///
    /// # Panics
    /// With the panic of a closure, after both have ended.
    pub fn join_with<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        self.engine.join(a, b)
    }

    /// Calls `function` on every element of a slice; the values in order.
    ///
    /// # Errors
    /// [`MapError`] with the lowest index at which it panicked.
    pub fn map_slice<T: Sync, O: Send>(
        &self,
        slice: &[T],
        function: impl Fn(&T) -> O + Sync,
    ) -> Result<Vec<O>, SliceError> {
        let outputs = Slots::empty(slice.len());
        let written = Mutex::new(Vec::new());
        let result = self.run_borrowed("map_slice", slice.len(), self.schedule(slice.len()), &|range| {
            let (items, slots) = (&slice[range.clone()], outputs.run(range.clone()));
            let function = &function;
            let result = for_range(range.clone(), move |index| {
                // SAFETY: claims hold disjoint ranges, and each slot is written once; indexes are below the range's length.
                unsafe { slots.put(index, function(items.get_unchecked(index))) };
            });
            if std::mem::needs_drop::<O>() {
                let end = result
                    .as_ref()
                    .map_or_else(|(at, _)| *at as usize, |()| range.end);
                written.lock().push(range.start..end);
            }
            result
        });
        if let Err(error) = result {
            for range in written.into_inner() {
                // SAFETY: these were written, and every claim has ended.
                unsafe { outputs.clear(range) };
            }
            return Err(error);
        }
        // SAFETY: nothing failed, so every slot was written, and every claim has ended.
        Ok(unsafe { outputs.take_all() })
    }

    /// Folds the elements of a slice, in place, with the bits of every other reduction of the same values.
    ///
    /// # Errors
    /// [`MapError`] if the reduction panics.
    pub fn reduce_slice<T: Copy + Send + Sync, R: Reduction<T>>(
        &self,
        slice: &[T],
        reduction: R,
    ) -> Result<R::Output, SliceError> {
        let leaf = self.plan.leaf_items();
        let schedule = fold_schedule(&self.plan, slice.len(), leaf, self.workers());
        let gather = Mutex::new(Gather::new(reduction.clone(), leaf));
        self.run_borrowed("reduce_slice", slice.len(), schedule, &|range| {
            let (first, count) = (range.start as u64, range.len() as u64);
            let pieces = fold_slice(&reduction, leaf as u64, first, &slice[range])?;
            gather
                .lock()
                .push(first, count, pieces)
                .map_err(|error| (first, error))
        })?;
        panics::catch(|| gather.into_inner().finish()).map_err(|error| MapError { index: 0, error })
    }

    /// Calls `function` on every element of a slice, each with exclusive access.
    ///
    /// # Errors
    /// [`MapError`] with the lowest index at which it panicked; other elements may or may not have been visited.
    ///
    pub fn for_each_mut<T: Send>(
        &self,
        slice: &mut [T],
        function: impl Fn(&mut T) + Sync,
    ) -> Result<(), SliceError> {
        let elements = Elements::new(slice);
        self.run_borrowed(
            "for_each_mut",
            elements.len,
            self.schedule(elements.len),
            &|range| {
                // SAFETY: claims hold disjoint ranges within the slice, which this call borrows exclusively.
                let items = unsafe { elements.range(range.clone()) };
                let function = &function;
                for_range(range, move |index| {
                    // SAFETY: indexes are below the range's length.
                    function(unsafe { items.get_unchecked_mut(index) });
                })
            },
        )
    }

    /// Cuts a slice into chunks of `size` elements and calls `function` with the number of each and exclusive access to it.
    /// The last chunk may be shorter.
    ///
    /// # Errors
    /// [`MapError`] for a size of 0, and with the number of the first chunk at which it panicked.
    #[doc(alias = "par_chunks_mut")]
    pub fn for_each_chunk_mut<T: Send>(
        &self,
        slice: &mut [T],
        size: usize,
        function: impl Fn(usize, &mut [T]) + Sync,
    ) -> Result<(), SliceError> {
        if size == 0 {
            let error = TaskError::Rejected("the chunk size must be at least 1, got 0".to_owned());
            return Err(MapError { index: 0, error });
        }
        let elements = Elements::new(slice);
        let chunks = elements.len.div_ceil(size);
        self.run_borrowed("for_each_chunk_mut", chunks, self.schedule(chunks), &|range| {
            let first = range.start;
            for_range(range, |index| {
                let chunk = first + index;
                let start = chunk * size;
                // SAFETY: as above; chunks are disjoint.
                function(chunk, unsafe {
                    elements.range(start..elements.len.min(start + size))
                });
            })
        })
    }

    /// Runs `body`, which spawns closures that may borrow from around the call, and waits for all of them, also if `body`
    /// panics.
    ///
    /// # Errors
    /// [`TaskError::Panicked`] of the first closure that panicked.
    #[doc(alias = "scoped threads")]
    pub fn scope_with<'env, R>(
        &self,
        body: impl for<'scope> FnOnce(&'scope BorrowScope<'scope, 'env, E>) -> R,
    ) -> Result<R, TaskError> {
        crate::context::may_block()?;
        let scope = BorrowScope {
            pool: self.clone(),
            jobs: Mutex::new(Vec::new()),
            failures: Arc::new(Failures::new()),
            scope: PhantomData,
            env: PhantomData,
        };
        let result = {
            let _joined = ScopeEnd(&scope);
            body(&scope)
        };
        scope
            .failures
            .get()
            .map_or(Ok(result), |failure| Err(failure.error))
    }
}

/// Calls `step` once for each index into a range, counted from its start; a panic becomes the failure of that part.
fn for_range(range: Range<usize>, mut step: impl FnMut(usize)) -> Result<(), (u64, TaskError)> {
    let (first, count, reached) = (range.start, range.len(), Cell::new(0));
    let told = &reached;
    // By value: what only this loop can reach stays in registers.
    panics::catch(move || {
        let mut progress = Progress::new(told);
        while progress.at < count {
            step(progress.at);
            progress.at += 1;
        }
    })
    .map_err(|error| ((first + reached.get()) as u64, error))
}

/// A slice whose disjoint parts are handed to different threads.
struct Elements<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: the parts that threads reach through it are disjoint, so it moves values of `T` between threads, never shares one.
unsafe impl<T: Send> Sync for Elements<'_, T> {}

impl<'a, T> Elements<'a, T> {
    fn new(slice: &'a mut [T]) -> Self {
        Elements {
            start: slice.as_mut_ptr(),
            len: slice.len(),
            slice: PhantomData,
        }
    }

    /// # Safety
    /// No two references to the same element live at the same time.
    #[allow(clippy::mut_from_ref, reason = "disjoint parts, by the caller's promise")]
    unsafe fn range(&self, range: Range<usize>) -> &mut [T] {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "range {range:?} of {}",
            self.len
        );
        // SAFETY: in bounds by the assertion, unshared by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// Where borrowing closures are spawned; made by [`Pool::scope_with`].
pub struct BorrowScope<'scope, 'env: 'scope, E: Borrowing> {
    pool: Pool<E>,
    jobs: Mutex<Vec<Arc<Job>>>,
    failures: Arc<Failures>,
    /// Invariant, as in `std::thread::Scope`: the closures may borrow from anything that outlives the scope.
    scope: PhantomData<&'scope mut &'scope ()>,
    env: PhantomData<&'env mut &'env ()>,
}

impl<'scope, E: Borrowing> BorrowScope<'scope, '_, E> {
    /// Spawns a closure; the scope waits for it.
    pub fn spawn(&'scope self, closure: impl FnOnce() + Send + 'scope) {
        let closure: Box<dyn FnOnce() + Send + 'scope> = Box::new(closure);
        // SAFETY: only the lifetime changes. The scope's end waits for the job before anything of 'scope ends, and a
        // borrowing job is done only when its claim has ended, that is, when the closure was called or dropped.
        let closure = unsafe {
            std::mem::transmute::<Box<dyn FnOnce() + Send + 'scope>, Box<dyn FnOnce() + Send + 'static>>(
                closure,
            )
        };
        let body = ClosureBody {
            closure: Mutex::new(Some(closure)),
            failures: Arc::clone(&self.failures),
        };
        let mut spec = Spec::new("scope_with", false, &self.pool.plan, self.pool.engine.observers());
        spec.timeout = None;
        let job: Arc<Job> = Job::new(spec, 1, Schedule::single(), body) as Arc<Job<dyn Body>>;
        {
            let mut jobs = self.jobs.lock();
            if jobs.len() >= 64 {
                jobs.retain(|job| !job.is_done());
            }
            jobs.push(Arc::clone(&job));
        }
        self.pool.start(&job);
    }
}

struct ScopeEnd<'a, 'scope, 'env, E: Borrowing>(&'a BorrowScope<'scope, 'env, E>);

impl<E: Borrowing> Drop for ScopeEnd<'_, '_, '_, E> {
    fn drop(&mut self) {
        loop {
            let next = self.0.jobs.lock().pop();
            let Some(job) = next else { return };
            if wait_for(&job, &self.0.pool.erased, None).is_err() {
                job.core.completion.wait(None);
            }
        }
    }
}

/// One spawned closure.
struct ClosureBody {
    closure: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    failures: Arc<Failures>,
}

impl Body for ClosureBody {
    fn run(&self, _: Range<usize>) {
        let closure = self.closure.lock().take();
        if let Some(closure) = closure
            && let Err(error) = panics::catch(closure)
        {
            self.failures.record(0, error);
        }
    }
    fn call(&self, _: bool) -> Result<Call, TaskError> {
        Err(TaskError::Rejected(
            "a closure that borrows cannot cross to another process".to_owned(),
        ))
    }
    fn encode(&self, _: Range<usize>, _: &mut Vec<u8>) -> Result<Part, TaskError> {
        self.call(false).map(|_| Part { first: 0, items: 0 })
    }
    fn complete(&self, range: Range<usize>, _: &[u8]) {
        self.fail(
            range,
            TaskError::Rejected("a closure that borrows has no reply".to_owned()),
        );
    }
    fn fail(&self, _: Range<usize>, error: TaskError) {
        let closure = self.closure.lock().take();
        drop(closure);
        self.failures.record(0, error);
    }
    fn failure(&self) -> Option<TaskError> {
        self.failures.get().map(|failure| failure.error)
    }
    fn borrows(&self) -> bool {
        true
    }
}
