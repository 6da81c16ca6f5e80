//! Halves of joins, in the frames of their joiners, and the references by which other workers take them.
//!
//! 1. A reference to a half is in one place: a deque, the queue of injected joins, or the hands of who took it from there.
//!    So a half is run once.
//! 2. The joiner does not leave its frame before it has its reference back or the latch of the half is open.
//! 3. Whoever runs a half touches nothing of it after opening its latch.

use super::latch::Latch;
use super::worker::Worker;
use crate::sync_seam::{AtomicUsize, Ordering, Thread};
use par_core::job::Job;
use par_core::{Carried, Token, carry, push_token};
use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Stands for "nobody has taken it yet".
const NOBODY: usize = usize::MAX;

/// One half of a join. It lives in the joiner's frame.
pub(crate) struct StackJob<'a, F, R> {
    function: UnsafeCell<Option<F>>,
    result: UnsafeCell<Option<Result<R, Carried>>>,
    pub(crate) latch: Latch<'a>,
    thief: AtomicUsize,
    /// The job that the joiner is running a part of, so that the half sees its token; null outside of jobs.
    task: *const Arc<Job>,
}

impl<'a, F, R> StackJob<'a, F, R>
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    pub(crate) fn new(function: F, waiter: &'a Thread, task: *const Arc<Job>) -> Self {
        StackJob {
            function: UnsafeCell::new(Some(function)),
            result: UnsafeCell::new(None),
            latch: Latch::new(waiter),
            thief: AtomicUsize::new(NOBODY),
            task,
        }
    }

    /// The reference by which a worker takes the half.
    ///
    /// # Safety
    /// The caller keeps rules 1 and 2, and what `task` points to outlives the frame of the half.
    pub(crate) unsafe fn reference(&self) -> JobRef {
        JobRef {
            half: std::ptr::from_ref(self).cast(),
            run: run::<F, R>,
        }
    }

    /// The worker that has taken the half, once it has begun.
    pub(crate) fn thief(&self) -> Option<usize> {
        Some(self.thief.load(Ordering::Acquire)).filter(|thief| *thief != NOBODY)
    }

    /// The function of a half whose reference came back.
    pub(crate) fn into_function(self) -> Option<F> {
        self.function.into_inner()
    }

    /// What came out of a half whose latch is open.
    pub(crate) fn into_result(self) -> Option<Result<R, Carried>> {
        self.result.into_inner()
    }
}

/// A half that anybody may run, once.
pub(crate) struct JobRef {
    half: *const (),
    run: unsafe fn(*const (), &Worker),
}

// SAFETY: the function and the result of a half are `Send`, its latch and thief are atomic, and a job that is shared by
// reference is `Sync`; the frame it points to stays (rule 2).
unsafe impl Send for JobRef {}

impl JobRef {
    /// Whether this is the reference to that half.
    #[inline]
    pub(crate) fn is<F, R>(&self, half: &StackJob<'_, F, R>) -> bool {
        std::ptr::eq(self.half, std::ptr::from_ref(half).cast())
    }

    /// Runs the half on this worker.
    pub(crate) fn run(self, worker: &Worker) {
        // SAFETY: the reference was made by `StackJob::reference` for a half of the type of `run`, whose joiner is still
        // there (rule 2), and consuming it keeps rule 1.
        unsafe { (self.run)(self.half, worker) }
    }
}

/// # Safety
/// `half` points to a `StackJob<F, R>` that stays until its latch is open, and this is the only call for it.
unsafe fn run<F, R>(half: *const (), worker: &Worker)
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    let half: *const StackJob<'_, F, R> = half.cast();
    // SAFETY: the joiner touches neither cell before the latch is open, nor does anyone else (rule 1); the job that `task`
    // points to is held by a frame below the joiner's.
    let (function, task) = unsafe {
        (*half).thief.store(worker.index(), Ordering::Release);
        let task = (*half).task;
        (
            (*(*half).function.get()).take(),
            (!task.is_null()).then(|| Arc::clone(&*task)),
        )
    };
    if let Some(function) = function {
        let result = match task {
            None => catch_unwind(AssertUnwindSafe(function)).map_err(Carried::of),
            Some(task) => {
                let _token = push_token(Token::Job(Arc::clone(&task)));
                // A panic of a task is reported as its outcome, not on standard error.
                worker.within(&task, || carry(function))
            }
        };
        // SAFETY: as above.
        unsafe { *(*half).result.get() = Some(result) };
    }
    // SAFETY: the half is still there, and after this nothing of it is touched (rule 3).
    unsafe { Latch::open(&raw const (*half).latch) };
}
