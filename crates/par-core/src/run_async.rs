//! Claims that run as futures: async tasks that an engine polls beside each other, instead of a thread each.
//!
//! 1. A part is begun by its first poll, and ends once: with what its future gave, or abandoned, with an error.
//! 2. Each poll, and the drop of a future, happens under the job's token, and in each a blocking wait is an error. Nothing of that is in
//!    force between polls.
//! 3. A future that is pending is on the list of its job's sleepers, and looks at the job again after it went there. Whoever cancels
//!    the job says so first and then wakes the list. So no cancellation is slept through.
//! 4. A part that is pending at a poll after its job was cancelled is abandoned: its future is dropped, which is how async code
//!    ends early. The future had this one poll to see its token.

use crate::context::{self, Token};
use crate::error::TaskError;
use crate::job::{Claim, Job};
use crate::kernel::Kernel;
use crate::observe::Event;
use crate::panics;
use parking_lot::Mutex;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// The future of a part that was begun, whatever the type of its value.
pub type Running = Box<dyn Any + Send>;

/// Begins a part, or goes on with it: one poll. The future is gone when this is ready.
pub(crate) fn poll_kernel<K: Kernel>(
    kernel: K,
    running: &mut Option<Running>,
    input: impl FnOnce() -> K::In,
    cx: &mut Context<'_>,
) -> Poll<Result<K::Out, TaskError>> {
    type Started<K> = Pin<Box<dyn Future<Output = Result<<K as Kernel>::Out, TaskError>> + Send>>;
    // The future is also dropped in here: what it owns may panic.
    let polled = panics::catch(|| {
        if let Some(held) = running {
            let Some(future) = held.downcast_mut::<Started<K>>() else {
                return Poll::Ready(Err(TaskError::Rejected(
                    "the engine went on with another part".to_owned(),
                )));
            };
            let poll = future.as_mut().poll(cx);
            if poll.is_ready() {
                *running = None;
            }
            return poll;
        }
        let mut future: Started<K> = Box::pin(kernel.start(input()));
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() {
            *running = Some(Box::new(future));
        }
        poll
    });
    polled.unwrap_or_else(|panic| {
        abandon(running);
        Poll::Ready(Err(panic))
    })
}

/// Drops the future of a part. What it owns may panic: the part has an outcome already, and that stands.
fn abandon(running: &mut Option<Running>) {
    let running = running.take();
    abandon_by(|| drop(running));
}

/// As `abandon`, where the future is elsewhere.
pub(crate) fn abandon_by(drop: impl FnOnce()) {
    panics::report("the future of a task, dropped", drop);
}

/// The futures of a job that want to hear of its cancellation (rule 3).
#[derive(Default)]
pub(crate) struct Sleepers {
    /// Made when the first comes: most jobs have none.
    list: Mutex<Option<Box<Seats>>>,
}

#[derive(Default)]
struct Seats {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Sleepers {
    /// Puts `waker` in the seat `seat`, which is given out if there is none yet.
    fn register(&self, seat: &mut Option<usize>, waker: &Waker) {
        // Wakers are cloned before the lock is held and dropped after it: whoever polls a claim may have written them.
        let mine = waker.clone();
        let mut guard = self.list.lock();
        let list = guard.get_or_insert_default();
        let at = *seat.get_or_insert_with(|| {
            list.free.pop().unwrap_or_else(|| {
                list.wakers.push(None);
                list.wakers.len() - 1
            })
        });
        let before = list.wakers[at].replace(mine);
        drop(guard);
        drop(before);
    }

    fn leave(&self, seat: usize) {
        let waker = self.list.lock().as_mut().and_then(|list| {
            list.free.push(seat);
            list.wakers[seat].take()
        });
        drop(waker);
    }

    /// Wakes all of them; those that sleep on register again.
    pub(crate) fn wake(&self) {
        let woken: Vec<Waker> = match &mut *self.list.lock() {
            Some(list) => list.wakers.iter_mut().filter_map(Option::take).collect(),
            None => return,
        };
        for waker in woken {
            panics::report("a waker", || waker.wake());
        }
    }
}

/// What became of the parts of a [`RunAsync`] so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Parts that ended with a value or an error of their own.
    pub ran: usize,
    /// Parts that were cancelled, before they began or while they ran.
    pub cancelled: usize,
}

/// What one step of a [`RunAsync`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A part ended; there are more.
    Ended,
    /// The part that is running waits for something.
    Pending,
    /// All parts have ended.
    Done,
}

/// A claim that runs as a future, one part after the other; made by [`Claim::run_async`]. Dropping it ends its parts as
/// cancelled where their job is, and else as lost.
///
/// An engine that runs parts beside each other takes one [`step`](Self::step) at a time and [`detach`](Self::detach)es what
/// is pending.
#[must_use = "a future does nothing until it is polled"]
pub struct RunAsync {
    /// The parts that have not ended; the first is the one that runs.
    claim: Claim,
    begun: bool,
    running: Option<Running>,
    seat: Option<usize>,
    /// When the part began, where somebody watches.
    started: Option<Instant>,
    tally: Tally,
}

impl Claim {
    /// The parts as a future that runs them here, typed, each poll under the job's token and with blocking forbidden. Who
    /// polls it makes the thread a worker of the engine meanwhile ([`WorkerSeat`](crate::WorkerSeat)).
    ///
    /// ```
    /// use par_core::engine::Engine;
    /// use par_core::{Claimant, SerialPool, Task, block_on, job::Job};
    ///
    /// # fn with(job: &std::sync::Arc<Job>) {
    /// // In an engine, for a job whose `is_async` says that its parts wait for something without a thread:
    /// while let Some(claim) = job.claim(Claimant::Any) {
    ///     block_on(claim.run_async()); // or spawned on a runtime
    /// }
    /// # }
    /// ```
    #[inline]
    pub fn run_async(self) -> RunAsync {
        RunAsync {
            claim: self,
            begun: false,
            running: None,
            seat: None,
            started: None,
            tally: Tally::default(),
        }
    }
}

impl RunAsync {
    /// The job that the parts belong to.
    pub fn job(&self) -> &Arc<Job> {
        self.claim.job()
    }

    /// What became of the parts so far; those that were detached count there.
    #[inline]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether a part was begun and has not ended.
    pub fn is_running(&self) -> bool {
        self.begun
    }

    /// Begins the next part, or polls the one that runs, once.
    pub fn step(&mut self, cx: &mut Context<'_>) -> Step {
        let Some(part) = self.claim.first() else {
            return Step::Done;
        };
        if !self.begun && self.unwanted() {
            self.fail_rest();
            return Step::Done;
        }
        let _blocking = context::forbid_blocking();
        let polled = {
            // SAFETY: the claim keeps the job, and stays as it is in this block.
            #[allow(unsafe_code, reason = "the claim keeps what it lends")]
            let _loan = unsafe { context::lend_job(self.claim.job()) };
            let job = self.claim.job();
            if !self.begun {
                self.begun = true;
                if job.observers().any() {
                    self.started = Some(Instant::now());
                    job.observers()
                        .begin(job, &(part..part + 1), context::worker_index());
                }
            }
            job.body.poll_part(part, &mut self.running, cx)
        };
        let job = self.claim.job();
        if polled.is_ready() {
            self.tally.ran += 1;
            if let Some(started) = self.started.take() {
                let worker = context::worker_index();
                job.observers()
                    .end(job, &(part..part + 1), worker, started, started.elapsed());
            }
            // Its failure may be the end of those behind it that sleep.
            if job.parts() > 1 && job.body.moot(&(part + 1..part + 2)) {
                job.core.sleepers.wake();
            }
            return self.ended();
        }
        job.core.sleepers.register(&mut self.seat, cx.waker());
        if self.unwanted() {
            let _token = context::push_token(Token::Job(Arc::clone(self.claim.job())));
            self.abandon(self.early_end());
            return if self.claim.first().is_some() {
                Step::Ended
            } else {
                Step::Done
            };
        }
        Step::Pending
    }

    /// Takes out the part that runs, as a future of its own; the rest goes on with the next part. Poll it at once: it is the
    /// old waker that is registered with whatever it waits for.
    pub fn detach(&mut self) -> Option<RunAsync> {
        if !self.begun {
            return None;
        }
        let part = self.claim.take_first()?;
        self.begun = false;
        Some(RunAsync {
            claim: part,
            begun: true,
            running: self.running.take(),
            seat: self.seat.take(),
            started: self.started.take(),
            tally: Tally::default(),
        })
    }

    /// Whether the outcome of the first part no longer matters.
    fn unwanted(&self) -> bool {
        let job = self.claim.job();
        job.is_cancelled()
            || self
                .claim
                .first()
                .is_some_and(|part| job.parts() > 1 && job.body.moot(&(part..part + 1)))
    }

    /// The error of a part that is not run to its end.
    fn early_end(&self) -> TaskError {
        let job = self.claim.job();
        if job.was_cancelled() || !job.is_cancelled() {
            TaskError::Cancelled
        } else {
            job.timed_out()
        }
    }

    /// Ends the part that runs with `error` (rule 4).
    fn abandon(&mut self, error: TaskError) {
        abandon(&mut self.running);
        self.started = None;
        self.tally.cancelled += 1;
        let job = self.claim.job();
        if let Some(part) = self.claim.first() {
            job.observers().emit(|| Event::Failed {
                job: job.id(),
                parts: part..part + 1,
                error: error.clone(),
            });
            job.body.abandon(part, error);
        }
        self.ended();
    }

    /// The first part has ended.
    fn ended(&mut self) -> Step {
        self.begun = false;
        if let Some(seat) = self.seat.take() {
            self.claim.job().core.sleepers.leave(seat);
        }
        if self.claim.first_ended() {
            Step::Ended
        } else {
            Step::Done
        }
    }

    /// Ends the parts that were not begun.
    fn fail_rest(&mut self) {
        let error = self.early_end();
        self.tally.cancelled += self.claim.range().len();
        self.claim.fail_rest(error);
    }
}

impl Future for RunAsync {
    type Output = Tally;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Tally> {
        loop {
            match self.step(cx) {
                Step::Ended => {}
                Step::Pending => return Poll::Pending,
                Step::Done => return Poll::Ready(self.tally),
            }
        }
    }
}

impl RunAsync {
    /// Ends what has not ended, as dropping it does, and says what became of the parts.
    pub fn end(&mut self) -> Tally {
        if self.claim.first().is_none() {
            return self.tally;
        }
        let error = |maybe_ran| {
            if self.claim.job().is_cancelled() {
                self.early_end()
            } else {
                TaskError::Lost {
                    attempts: self.claim.attempts(),
                    maybe_ran,
                    reason: "its future was dropped: the runtime that ran it is gone".to_owned(),
                }
            }
        };
        let (begun, rest) = (error(true), error(false));
        if self.begun {
            let _blocking = context::forbid_blocking();
            let _token = context::push_token(Token::Job(Arc::clone(self.claim.job())));
            self.abandon(begun);
        }
        if let Some(left) = self.claim.first().map(|_| self.claim.range().len()) {
            if matches!(rest, TaskError::Cancelled | TaskError::TimedOut { .. }) {
                self.tally.cancelled += left;
            }
            self.claim.fail_rest(rest);
        }
        self.tally
    }
}

impl Drop for RunAsync {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for RunAsync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunAsync")
            .field("claim", &self.claim)
            .field("begun", &self.begun)
            .field("tally", &self.tally)
            .finish()
    }
}
