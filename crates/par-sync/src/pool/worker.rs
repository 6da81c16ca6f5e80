//! What a thread of a pool carries with it, and how the code that it runs finds that again.
//!
//! While a thread serves a pool, `HERE` points to its `Worker`, which lives in the frame of the thread's main function and
//! is never moved; the pointer is taken away before that frame ends.

use super::Inner;
use super::stack_job::JobRef;
use crate::sync_seam::{Thread, current};
use crate::watch::tasks;
use crossbeam_deque::{Steal, Stealer, Worker as Deque};
use par_core::job::{Claim, Job};
use par_core::{Claimant, Token, push_token};
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};

thread_local! {
    static HERE: Cell<*const Worker> = const { Cell::new(std::ptr::null()) };
}

/// A thread of a pool: one of its workers, or a substitute.
pub(crate) struct Worker {
    inner: Arc<Inner>,
    index: usize,
    desk: Arc<Desk>,
    bench: Option<Bench>,
    /// The job that this thread is running a part of, innermost.
    task: Cell<*const Arc<Job>>,
}

/// What a thread is running parts of, outermost first, for a shutdown that raises their tokens.
pub(crate) struct Desk {
    pub(crate) jobs: Mutex<Vec<Arc<Job>>>,
    /// The index of the worker, or of that for which this thread is a substitute.
    pub(crate) worker: usize,
    /// How many parts this thread has run. Only it writes this and what follows.
    pub(crate) ran: AtomicU64,
    /// How many halves it took from others.
    pub(crate) stolen: AtomicU64,
    /// How many times it slept.
    pub(crate) slept: AtomicU64,
}

impl Desk {
    pub(crate) fn new(worker: usize) -> Self {
        Desk {
            jobs: Mutex::default(),
            worker,
            ran: AtomicU64::new(0),
            stolen: AtomicU64::new(0),
            slept: AtomicU64::new(0),
        }
    }
}

/// Adds to a number that only this thread writes.
pub(crate) fn count(number: &AtomicU64, more: u64) {
    number.store(number.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

/// Where a worker offers halves of joins. Substitutes have none.
pub(crate) struct Bench {
    deque: Deque<JobRef>,
    seat: Arc<Seat>,
    pub(crate) thread: Thread,
    /// The seats of all workers, as of the version beside them.
    roster: RefCell<(usize, Arc<[Arc<Seat>]>)>,
}

/// What others see of a worker's bench.
pub(crate) struct Seat {
    stealer: Stealer<JobRef>,
    thread: OnceLock<Thread>,
    /// 1 + the index of a worker that wants to hear of the next half that is offered here.
    watcher: AtomicUsize,
}

impl Seat {
    pub(crate) fn new() -> (Deque<JobRef>, Arc<Seat>) {
        let deque = Deque::new_lifo();
        let seat = Seat {
            stealer: deque.stealer(),
            thread: OnceLock::new(),
            watcher: AtomicUsize::new(0),
        };
        (deque, Arc::new(seat))
    }

    fn steal(&self) -> Option<JobRef> {
        loop {
            match self.stealer.steal() {
                Steal::Success(reference) => return Some(reference),
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    #[cold]
    fn wake_watcher(&self, inner: &Inner) {
        let watcher = self.watcher.swap(0, Ordering::AcqRel);
        let seat = watcher
            .checked_sub(1)
            .and_then(|index| inner.seats().get(index).cloned());
        if let Some(thread) = seat.as_ref().and_then(|seat| seat.thread.get()) {
            thread.unpark();
        }
    }
}

impl Bench {
    pub(crate) fn new(deque: Deque<JobRef>, seat: Arc<Seat>, inner: &Inner) -> Self {
        let thread = current();
        // A seat has one thread, so it is not set yet.
        let _ = seat.thread.set(thread.clone());
        Bench {
            deque,
            seat,
            thread,
            roster: RefCell::new((usize::MAX, inner.seats())),
        }
    }

    /// Offers a half to the others.
    #[inline]
    pub(crate) fn offer(&self, reference: JobRef, inner: &Inner) {
        self.deque.push(reference);
        // Without a fence: who is missed here costs time, not progress, since the owner takes the half back.
        inner.lounge.call_if_seen(1);
        if self.seat.watcher.load(Ordering::Relaxed) != 0 {
            self.seat.wake_watcher(inner);
        }
    }

    /// Takes the newest half back, if no thief has it.
    #[inline]
    pub(crate) fn take_back(&self) -> Option<JobRef> {
        self.deque.pop()
    }

    fn with_seats<R>(&self, inner: &Inner, look: impl FnOnce(&[Arc<Seat>]) -> R) -> R {
        let version = inner.roster_version.load(Ordering::Acquire);
        let mut roster = self.roster.borrow_mut();
        if roster.0 != version {
            *roster = (version, inner.seats());
        }
        look(&roster.1)
    }
}

impl Worker {
    pub(crate) fn new(inner: Arc<Inner>, index: usize, desk: Arc<Desk>, bench: Option<Bench>) -> Self {
        Worker {
            inner,
            index,
            desk,
            bench,
            task: Cell::new(std::ptr::null()),
        }
    }

    /// Makes this thread that worker while `serve` runs.
    pub(crate) fn enter<R>(&self, serve: impl FnOnce(&Worker) -> R) -> R {
        struct Leave(*const Worker);
        impl Drop for Leave {
            fn drop(&mut self) {
                HERE.set(self.0);
            }
        }
        let _leave = Leave(HERE.replace(self));
        serve(self)
    }

    /// Calls `f` with the worker of that pool that this thread is, if it is one.
    #[inline]
    pub(crate) fn here<R>(inner: &Inner, f: impl FnOnce(Option<&Worker>) -> R) -> R {
        let worker = HERE.get();
        // SAFETY: not null means that `enter` is below us on this thread's stack, and borrows the worker.
        let worker = unsafe { worker.as_ref() };
        f(worker.filter(|worker| std::ptr::eq(Arc::as_ptr(&worker.inner), inner)))
    }

    #[inline]
    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    #[inline]
    pub(crate) fn bench(&self) -> Option<&Bench> {
        self.bench.as_ref()
    }

    /// The innermost job that this thread is running a part of; null if there is none. It stays until the part ends.
    #[inline]
    pub(crate) fn task(&self) -> *const Arc<Job> {
        self.task.get()
    }

    /// Runs `f` as a piece of that job.
    pub(crate) fn within<R>(&self, job: &Arc<Job>, f: impl FnOnce() -> R) -> R {
        struct Back<'a>(&'a Cell<*const Arc<Job>>, *const Arc<Job>);
        impl Drop for Back<'_> {
            fn drop(&mut self) {
                self.0.set(self.1);
            }
        }
        let _back = Back(&self.task, self.task.replace(job));
        f()
    }

    /// What this thread counts.
    pub(crate) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Runs a claim to its end, and further ones of its job as long as `next` says for whom.
    pub(crate) fn run_claim(&self, mut claim: Claim, next: impl Fn() -> Option<Claimant>) {
        struct Off<'a>(&'a Desk);
        impl Drop for Off<'_> {
            fn drop(&mut self) {
                let job = self.0.jobs.lock().pop();
                if let Some(job) = &job {
                    tasks::task_ends(job);
                }
                // Outside the lock: it may be the last owner of the job and of the user's values in it.
                drop(job);
            }
        }
        let job = Arc::clone(claim.job());
        self.desk.jobs.lock().push(Arc::clone(&job));
        let _off = Off(&self.desk);
        tasks::task_begins(&job);
        let _token = push_token(Token::Job(Arc::clone(&job)));
        let encoded = self.inner.options.encode && !job.borrows();
        self.within(&job, || {
            loop {
                if claim.is_last() {
                    self.inner.queue.remove(&job);
                }
                let parts = claim.range().len() as u64;
                if encoded {
                    super::encoded::run(claim, self.index);
                    count(&self.desk.ran, parts);
                    break;
                }
                claim.run_here();
                count(&self.desk.ran, parts);
                if !next().is_some_and(|who| claim.next(who)) {
                    break;
                }
            }
        });
    }

    /// A half from the deque of that worker.
    pub(crate) fn steal_from(&self, thief: usize) -> Option<JobRef> {
        let bench = self.bench.as_ref()?;
        bench.with_seats(&self.inner, |seats| seats.get(thief)?.steal())
    }

    /// A half from anybody's deque; for workers that wait for nothing.
    pub(crate) fn steal(&self) -> Option<JobRef> {
        let bench = self.bench.as_ref()?;
        bench.with_seats(&self.inner, |seats| {
            let (before, after) = seats.split_at(self.index.min(seats.len()));
            let half = after.iter().skip(1).chain(before).find_map(|seat| seat.steal())?;
            count(&self.desk.stolen, 1);
            Some(half)
        })
    }

    /// Whether there seems to be something to steal.
    pub(crate) fn sees_halves(&self) -> bool {
        let Some(bench) = &self.bench else { return false };
        bench.with_seats(&self.inner, |seats| {
            seats.iter().any(|seat| !seat.stealer.is_empty())
        })
    }

    /// Asks to be woken when that worker offers its next half. False if there is one now.
    pub(crate) fn watch(&self, thief: usize) -> bool {
        let Some(bench) = &self.bench else { return true };
        bench.with_seats(&self.inner, |seats| {
            let Some(seat) = seats.get(thief) else { return true };
            seat.watcher.store(self.index + 1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            seat.stealer.is_empty()
        })
    }
}
