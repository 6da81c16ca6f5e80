//! What a running task can ask: its worker, its token, its pool, its worker-local state.

use crate::engine::Engine;
use crate::error::TaskError;
use crate::job::Job;
use crate::log::Lines;
use crate::observe::Level;
use crate::pool::AnyPool;
use std::any::{Any, TypeId};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

/// The token of tasks that run away from their job: in another process, or encoded.
#[derive(Debug, Default)]
pub struct CancelFlag {
    raised: AtomicBool,
    deadline: Option<Instant>,
}

impl CancelFlag {
    /// A flag that also counts as raised once `deadline` has passed.
    pub fn new(deadline: Option<Instant>) -> Self {
        CancelFlag {
            raised: AtomicBool::new(false),
            deadline,
        }
    }

    /// Raises the flag.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
    }

    /// Whether the flag is up.
    pub fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed) || self.deadline.is_some_and(|at| Instant::now() >= at)
    }
}

/// How the tasks that run on this thread learn that they were cancelled.
#[derive(Debug, Clone)]
pub enum Token {
    /// Through their job, in the process that submitted it.
    Job(Arc<Job>),
    /// Through a flag that an engine raises.
    Flag(Arc<CancelFlag>),
}

/// What is in force on this thread for the task that it runs: its token, which is a job or a flag, and its lines. A cell each, so
/// that a change of tasks, which happens all the time, goes through registers.
struct Frame {
    job: Cell<Option<Arc<Job>>>,
    /// Whether the job is lent: a copy of somebody's reference that is not counted, and must not be dropped.
    lent: Cell<bool>,
    flag: Cell<Option<Arc<CancelFlag>>>,
    /// Where the task's log lines go if it runs from bytes: they travel back with its reply.
    lines: Cell<Option<Arc<Lines>>>,
}

/// Looks into a cell; `look` asks for nothing of the frame.
fn peek<T: ?Sized, R>(cell: &Cell<Option<Arc<T>>>, look: impl FnOnce(&Arc<T>) -> R) -> Option<R> {
    // It may be lent: should `look` panic, it is not dropped.
    let held = ManuallyDrop::new(cell.take());
    let seen = held.as_ref().map(look);
    cell.set(ManuallyDrop::into_inner(held));
    seen
}

struct Worker {
    index: usize,
    engine: Weak<dyn Engine>,
    locals: RefCell<HashMap<TypeId, Box<dyn Any>>>,
}

thread_local! {
    static WORKER: RefCell<Option<Rc<Worker>>> = const { RefCell::new(None) };
    static FRAME: Frame = const {
        Frame { job: Cell::new(None), lent: Cell::new(false), flag: Cell::new(None), lines: Cell::new(None) }
    };
    static NO_BLOCKING: Cell<bool> = const { Cell::new(false) };
}

/// Makes the current thread a worker of `engine` while it lives.
pub struct WorkerGuard {
    before: Option<Rc<Worker>>,
    /// The guard restores this thread's state, so it stays on this thread.
    _here: PhantomData<Rc<()>>,
}

/// Makes this thread worker `index` of `engine` until the guard is dropped. Engines call it on their worker threads.
#[must_use]
pub fn enter_worker(index: usize, engine: Weak<dyn Engine>) -> WorkerGuard {
    WorkerSeat::new(index, engine).enter()
}

/// A worker that this thread is from time to time: its local state stays between the visits. For engines whose tasks are
/// polled on threads that also do other things, such as those of an async runtime.
pub struct WorkerSeat(Rc<Worker>);

impl WorkerSeat {
    /// Worker `index` of `engine`, without any local state.
    pub fn new(index: usize, engine: Weak<dyn Engine>) -> Self {
        WorkerSeat(Rc::new(Worker {
            index,
            engine,
            locals: RefCell::default(),
        }))
    }

    /// Makes this thread that worker until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> WorkerGuard {
        let before = WORKER.with(|slot| slot.replace(Some(Rc::clone(&self.0))));
        WorkerGuard {
            before,
            _here: PhantomData,
        }
    }
}

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        // The worker's locals are dropped outside the borrow: their destructors may ask for the context.
        let mine = WORKER.with(|slot| slot.replace(self.before.take()));
        drop(mine);
    }
}

/// Restores the token that was in force before.
pub struct TokenGuard {
    job: Option<Arc<Job>>,
    flag: Option<Arc<CancelFlag>>,
    lines: Option<Arc<Lines>>,
    _here: PhantomData<Rc<()>>,
}

/// Puts `token` in force on this thread until the guard is dropped. Engines call it around tasks.
#[must_use]
#[inline]
pub fn push_token(token: Token) -> TokenGuard {
    let (job, flag) = match token {
        Token::Job(job) => (Some(job), None),
        Token::Flag(flag) => (None, Some(flag)),
    };
    FRAME.with(|frame| {
        if frame.lent.replace(false) {
            // The guard may outlive the loan, and then brings back what it has.
            std::mem::forget(peek(&frame.job, Arc::clone));
        }
        TokenGuard {
            job: frame.job.replace(job),
            flag: frame.flag.replace(flag),
            lines: frame.lines.take(),
            _here: PhantomData,
        }
    })
}

impl Drop for TokenGuard {
    #[inline]
    fn drop(&mut self) {
        FRAME.with(|frame| {
            let lines = frame.lines.replace(self.lines.take());
            let flag = frame.flag.replace(self.flag.take());
            let job = frame.job.replace(self.job.take());
            // A guard dropped out of turn, within a loan.
            if frame.lent.replace(false) {
                std::mem::forget(job);
                return drop((lines, flag));
            }
            // Dropped when all is as it was: the last owner of a job drops the user's values.
            drop((lines, flag, job));
        });
    }
}

/// A job lent to this thread's frame until it is dropped.
pub(crate) struct Loan {
    job: Option<Arc<Job>>,
    lent: bool,
    flag: Option<Arc<CancelFlag>>,
    lines: Option<Arc<Lines>>,
    _here: PhantomData<Rc<()>>,
}

/// As [`push_token`] of a job, for a caller who keeps the job: no reference is counted, which each poll of a task would pay for.
///
/// # Safety
/// The caller keeps the job until after the loan, drops the loan in the function that took it, and has none of its own taken
/// meanwhile that outlives it.
#[must_use]
#[inline]
#[allow(unsafe_code, reason = "an uncounted reference")]
pub(crate) unsafe fn lend_job(job: &Arc<Job>) -> Loan {
    FRAME.with(|frame| {
        // SAFETY: the copy is taken back and forgotten before the job can go, by the promise above; what clones it counts.
        let copy = unsafe { std::ptr::read(job) };
        Loan {
            lent: frame.lent.replace(true),
            job: frame.job.replace(Some(copy)),
            flag: frame.flag.take(),
            lines: frame.lines.take(),
            _here: PhantomData,
        }
    })
}

impl Drop for Loan {
    #[inline]
    fn drop(&mut self) {
        FRAME.with(|frame| {
            let lines = frame.lines.replace(self.lines.take());
            let flag = frame.flag.replace(self.flag.take());
            let job = frame.job.replace(self.job.take());
            if frame.lent.replace(self.lent) {
                std::mem::forget(job);
                drop((lines, flag));
            } else {
                // A guard that was dropped out of turn has put another there.
                drop((lines, flag, job));
            }
        });
    }
}

/// Makes the log lines of this thread's task go to `lines`, until the next token is in force.
pub(crate) fn keep_lines(lines: Option<Arc<Lines>>) {
    drop(FRAME.with(|frame| frame.lines.replace(lines)));
}

/// Where the log lines of a job go that is made here: to the lines of the task that makes it, where that keeps some.
pub(crate) fn lines_for_job() -> Option<Arc<Lines>> {
    FRAME.with(|frame| {
        let lines = peek(&frame.lines, Arc::clone);
        lines.or_else(|| peek(&frame.job, |job| job.lines().cloned()).flatten())
    })
}

/// Reports something to those who watch the pool that the running task was submitted to, as [`Event::Log`](crate::Event).
///
/// A task that runs in another process sends its lines back with its reply: they arrive when it ends, at most 64 KiB of text
/// a request (a last line says how many were dropped), and are gone if the worker dies. `text` is not even written out where nobody
/// watched when the job began. Lines of tasks that a task submitted go the same way. Outside a task, and in an initialiser,
/// this does nothing.
///
/// ```
/// use par_core::{Event, Level, Observer, SerialPool};
/// use std::sync::{Arc, Mutex};
///
/// #[par_core::task]
/// fn careful(x: u64) -> u64 {
///     if x == 0 {
///         par_core::log(Level::Warn, "a zero");
///     }
///     par_core::log(Level::Debug, format_args!("x is {x}"));
///     x
/// }
///
/// #[derive(Default)]
/// struct Warnings(Mutex<Vec<String>>);
/// impl Observer for Warnings {
///     fn event(&self, event: &Event) {
///         if let Event::Log { level: Level::Warn, text, .. } = event {
///             self.0.lock().unwrap().push(text.clone());
///         }
///     }
/// }
///
/// let warnings = Arc::new(Warnings::default());
/// let pool = SerialPool::new(1)?;
/// pool.observer(warnings.clone());
/// pool.map::<careful>([2, 0, 1])?;
/// assert_eq!(*warnings.0.lock().unwrap(), ["a zero"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn log(level: Level, text: impl fmt::Display) {
    // Cloned out: observers, and the text's own code, may ask for the context.
    let (lines, job) = FRAME.with(|frame| (peek(&frame.lines, Arc::clone), peek(&frame.job, Arc::clone)));
    if let Some(lines) = lines {
        lines.push(level, text.to_string());
    } else if let Some(job) = job {
        job.log(worker_index(), level, || text.to_string());
    }
}

/// Marks this thread as one that must not block, such as a thread of an async runtime.
pub struct NoBlockingGuard {
    before: bool,
    _here: PhantomData<Rc<()>>,
}

/// Makes blocking waits an error on this thread until the guard is dropped (law 9).
#[must_use]
pub fn forbid_blocking() -> NoBlockingGuard {
    NoBlockingGuard {
        before: NO_BLOCKING.replace(true),
        _here: PhantomData,
    }
}

impl Drop for NoBlockingGuard {
    fn drop(&mut self) {
        NO_BLOCKING.set(self.before);
    }
}

pub(crate) fn may_block() -> Result<(), TaskError> {
    if NO_BLOCKING.get() {
        return Err(blocks_async());
    }
    Ok(())
}

/// The error of a blocking wait inside async code, for engines that notice one ([`Engine::may_block`]).
pub fn blocks_async() -> TaskError {
    TaskError::Rejected(
        "a blocking wait inside async code would stall its runtime; use .await on the handle instead, or the form of the \
         call that is awaited, such as map_async(..).await"
            .to_owned(),
    )
}

/// The index of the worker that this thread is, if it is one.
pub fn worker_index() -> Option<usize> {
    WORKER.with(|slot| slot.borrow().as_ref().map(|worker| worker.index))
}

/// The pool that the running task belongs to; nothing outside a task.
///
/// ```
/// #[par_core::task]
/// fn double(x: u64) -> u64 { 2 * x }
/// #[par_core::task]
/// fn nested(x: u64) -> u64 {
///     let pool = par_core::current().expect("inside a task");
///     pool.map::<double>(0..x).unwrap().into_iter().sum()
/// }
/// let pool = par_core::SerialPool::new(1)?;
/// assert_eq!(pool.submit::<nested>(4)?.wait()?, 12);
/// assert!(par_core::current().is_none());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn current() -> Option<AnyPool> {
    worker_engine().map(AnyPool::of_worker)
}

/// The engine that this thread is a worker of.
pub(crate) fn worker_engine() -> Option<Arc<dyn Engine>> {
    WORKER.with(|slot| slot.borrow().as_ref().and_then(|worker| worker.engine.upgrade()))
}

/// Whether the running task was cancelled or is past its deadline. False outside a task.
pub fn cancelled() -> bool {
    FRAME
        .with(|frame| {
            let by_job = peek(&frame.job, |job| job.is_cancelled());
            by_job.or_else(|| peek(&frame.flag, |flag| flag.is_raised()))
        })
        .unwrap_or(false)
}

/// Gives up if the running task was cancelled: `par_core::check_cancelled()?` in a long loop.
///
/// # Errors
/// [`TaskError::Cancelled`] if the token of the task is up.
pub fn check_cancelled() -> Result<(), TaskError> {
    if cancelled() {
        Err(TaskError::Cancelled)
    } else {
        Ok(())
    }
}

/// State of this worker, made by `init` the first time and kept until the worker ends; one value a type and worker.
/// Outside a worker it is made for the one call.
///
/// ```
/// struct Connection(u32);
/// let used = par_core::with_local(|| Connection(0), |c| { c.0 += 1; c.0 });
/// assert_eq!(used, 1);
/// ```
///
/// # Panics
/// If `f` asks for the state of the same type again: that would be two exclusive references to one value.
pub fn with_local<T: 'static, R>(init: impl FnOnce() -> T, f: impl FnOnce(&mut T) -> R) -> R {
    let Some(worker) = WORKER.with(|slot| slot.borrow().clone()) else {
        return f(&mut init());
    };
    // Taken out while in use, so that `f` may use the state of other types.
    let key = TypeId::of::<T>();
    let taken = worker.locals.borrow_mut().insert(key, Box::new(Busy));
    let mut value: Box<T> = match taken.map(|any| any.downcast::<T>()) {
        Some(Ok(value)) => value,
        Some(Err(_)) => panic!(
            "worker-local state of type {} is already in use",
            std::any::type_name::<T>()
        ),
        None => {
            // Should `init` panic, the next caller starts afresh.
            let reset = Reset { worker: &worker, key };
            let value = Box::new(init());
            std::mem::forget(reset);
            value
        }
    };
    let reset = Reset { worker: &worker, key };
    let result = f(&mut value);
    std::mem::forget(reset);
    worker.locals.borrow_mut().insert(key, value);
    result
}

/// Stands in for a worker-local value while it is in use.
struct Busy;

/// Forgets a worker-local value whose user panicked: nobody knows what state it is in.
struct Reset<'a> {
    worker: &'a Worker,
    key: TypeId,
}

impl Drop for Reset<'_> {
    fn drop(&mut self) {
        self.worker.locals.borrow_mut().remove(&self.key);
    }
}

/// Whether this thread is a worker of `engine`.
pub(crate) fn is_worker_of(engine: &Arc<dyn Engine>) -> bool {
    WORKER.with(|slot| {
        slot.borrow()
            .as_ref()
            .is_some_and(|worker| std::ptr::addr_eq(worker.engine.as_ptr(), Arc::as_ptr(engine)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SerialPool;

    /// The job of a task that runs now, as the frame has it.
    fn here() -> Option<Arc<Job>> {
        FRAME.with(|frame| peek(&frame.job, Arc::clone))
    }

    /// Any job, from a task that is submitted and ended.
    fn job() -> Arc<Job> {
        let pool = SerialPool::new(1).expect("starts");
        pool.submit_fn((), |()| ()).expect("open").plain()
    }

    #[test]
    fn a_loan_counts_nothing_and_gives_back_what_was_there() {
        let (one, two) = (job(), job());
        let counts = || (Arc::strong_count(&one), Arc::strong_count(&two));
        let before = counts();
        let outer = push_token(Token::Job(Arc::clone(&one)));
        {
            // SAFETY: `two` outlives the block.
            #[allow(unsafe_code, reason = "what is tested")]
            let _loan = unsafe { lend_job(&two) };
            assert!(here().is_some_and(|job| Arc::ptr_eq(&job, &two)));
            assert_eq!(counts(), (before.0 + 1, before.1));
            // A loan within a loan.
            {
                // SAFETY: `one` outlives the block.
                #[allow(unsafe_code, reason = "what is tested")]
                let _inner = unsafe { lend_job(&one) };
                assert!(here().is_some_and(|job| Arc::ptr_eq(&job, &one)));
            }
            // A token in its turn.
            drop(push_token(Token::Flag(Arc::default())));
            assert!(here().is_some_and(|job| Arc::ptr_eq(&job, &two)));
        }
        assert!(here().is_some_and(|job| Arc::ptr_eq(&job, &one)));
        drop(outer);
        assert!(here().is_none());
        assert_eq!(counts(), before);
    }

    #[test]
    fn guards_dropped_out_of_turn_free_nothing_twice() {
        let (one, two) = (job(), job());
        let before = (Arc::strong_count(&one), Arc::strong_count(&two));
        let late = {
            // SAFETY: `one` outlives the block.
            #[allow(unsafe_code, reason = "what is tested")]
            let _loan = unsafe { lend_job(&one) };
            push_token(Token::Job(Arc::clone(&two)))
        };
        {
            // SAFETY: `two` outlives the block.
            #[allow(unsafe_code, reason = "what is tested")]
            let _loan = unsafe { lend_job(&two) };
            // It brings back the job of the first loan, of which it has a reference that counts.
            drop(late);
            assert!(here().is_some_and(|job| Arc::ptr_eq(&job, &one)));
        }
        drop(FRAME.with(|frame| frame.job.take()));
        assert_eq!((Arc::strong_count(&one), Arc::strong_count(&two)), before);
    }
}
