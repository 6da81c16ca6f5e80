//! Jobs: n parts that engines claim in ranges, run in place or send as bytes, and end exactly once each.
//!
//! The protocol, cited by number elsewhere:
//!
//! 1. A part is handed out once, inside a [`Claim`]. Whoever holds the claim owns the inputs and outputs of its range.
//! 2. A claim ends once, and ending consumes it: `run`, `complete` or `fail`. One that is dropped fails as lost, so a part
//!    cannot be forgotten.
//! 3. When the last part has ended, or the job is ended early (deadline, kill), the job is done: waiters wake, and what is
//!    still running writes into memory that the job owns and nobody reads.
//! 4. `cancel` takes all parts that nobody has claimed and ends them as cancelled; claims that are out see the token.

mod claim;

pub use crate::body::relay::Relay;
pub use crate::run_async::{RunAsync, Running, Step, Tally};
pub use claim::Claim;

use crate::context;
use crate::error::TaskError;
use crate::kernel::Kernel;
use crate::log::Lines;
use crate::observe::{Event, Level, Observers};
use crate::panics;
use crate::plan::{Claimant, Plan, Schedule};
use crate::remote::{Call, Part};
use crate::run_async::Sleepers;
use crate::wait::Completion;
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Number of a job, unique in its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl JobId {
    fn next() -> Self {
        /// How many numbers a thread takes at a time: with one each, all threads that submit would write the same line.
        const SUPPLY: u64 = 1024;
        static NEXT: AtomicU64 = AtomicU64::new(1);
        thread_local! {
            static OWN: Cell<Range<u64>> = const { Cell::new(0..0) };
        }
        let mut own = OWN.take();
        let id = own.next().unwrap_or_else(|| {
            let first = NEXT.fetch_add(SUPPLY, Ordering::Relaxed);
            own = first + 1..first + SUPPLY;
            first
        });
        OWN.set(own);
        JobId(id)
    }
}

/// The typed inside of a job. Pools write it, engines reach it through [`Claim`].
pub trait Body: Send + Sync {
    /// Runs the parts here, moving inputs and outputs in place.
    #[doc(hidden)]
    fn run(&self, range: Range<usize>);
    /// Begins a part of an async job here, or goes on with it, by one poll; `running` holds its future between polls. Ready
    /// when the part has ended.
    #[doc(hidden)]
    fn poll_part(&self, part: usize, _running: &mut Option<Running>, _cx: &mut Context<'_>) -> Poll<()> {
        self.run(part..part + 1);
        Poll::Ready(())
    }
    /// Ends a part that was begun by a poll and is not polled any more: its input is gone.
    #[doc(hidden)]
    fn abandon(&self, part: usize, error: TaskError) {
        self.fail(part..part + 1, error);
    }
    /// How a worker elsewhere finds the code.
    #[doc(hidden)]
    fn call(&self, same_program: bool) -> Result<Call, TaskError>;
    /// Appends the inputs of the parts to `out`; they stay, so that they can be sent again.
    #[doc(hidden)]
    fn encode(&self, range: Range<usize>, out: &mut Vec<u8>) -> Result<Part, TaskError>;
    /// Ends the parts with what a worker replied.
    #[doc(hidden)]
    fn complete(&self, range: Range<usize>, reply: &[u8]);
    /// Ends the parts with an error.
    #[doc(hidden)]
    fn fail(&self, range: Range<usize>, error: TaskError);
    /// Whether the outcome of these parts no longer matters.
    #[doc(hidden)]
    fn moot(&self, _range: &Range<usize>) -> bool {
        false
    }
    /// The failure that the job reports so far; it stays when the outcome is taken.
    #[doc(hidden)]
    fn failure(&self) -> Option<TaskError>;
    /// The job was ended with this error while parts may still run; whoever reads outcomes one by one must not wait for them.
    #[doc(hidden)]
    fn ended_early(&self, _error: &TaskError) {}
    /// Whether the body borrows from a caller that waits for it: it runs typed, in this process, and never ends early.
    #[doc(hidden)]
    fn borrows(&self) -> bool {
        false
    }
}

pub(crate) struct Core {
    id: JobId,
    name: &'static str,
    idempotent: bool,
    asynchronous: bool,
    attempts: u32,
    limit: Option<(Instant, Duration)>,
    schedule: Schedule,
    parts: usize,
    left: AtomicUsize,
    cancelled: AtomicBool,
    pub(crate) sleepers: Sleepers,
    /// What an early end is told as; it counts once the completion says that there was one.
    ended_early: parking_lot::Mutex<Option<Box<TaskError>>>,
    pub(crate) completion: Completion,
    observers: Observers,
    /// Where its log lines go if nobody watches its pool: back with the reply of the task that made it.
    lines: Option<Arc<Lines>>,
}

/// `n` parts with their inputs, outputs and state. Engines see it as `Job`, which is `Job<dyn Body>`.
pub struct Job<B: ?Sized + Body = dyn Body> {
    pub(crate) core: Core,
    pub(crate) body: B,
}

impl<B: Body> Job<B> {
    #[inline]
    pub(crate) fn new(spec: Spec, parts: usize, schedule: Schedule, body: B) -> Arc<Self> {
        // A deadline beyond what the clock can say never comes.
        let limit = spec
            .timeout
            .and_then(|limit| Some((Instant::now().checked_add(limit)?, limit)));
        let job = Arc::new(Job {
            core: Core {
                id: JobId::next(),
                name: spec.name,
                idempotent: spec.idempotent,
                asynchronous: spec.asynchronous,
                attempts: spec.attempts,
                limit,
                schedule,
                parts,
                left: AtomicUsize::new(parts),
                cancelled: AtomicBool::new(false),
                sleepers: Sleepers::default(),
                ended_early: parking_lot::Mutex::new(None),
                completion: Completion::new(),
                observers: spec.observers,
                lines: context::lines_for_job(),
            },
            body,
        });
        if parts == 0 {
            job.core.completion.complete();
        }
        job
    }
}

/// What a job is told at its birth.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) idempotent: bool,
    pub(crate) asynchronous: bool,
    pub(crate) attempts: u32,
    pub(crate) timeout: Option<Duration>,
    pub(crate) observers: Observers,
}

impl Spec {
    pub(crate) fn new(name: &'static str, idempotent: bool, plan: &Plan, observers: &Observers) -> Self {
        Spec::with(name, idempotent, false, plan, observers)
    }

    #[inline(always)]
    fn with(
        name: &'static str,
        idempotent: bool,
        asynchronous: bool,
        plan: &Plan,
        observers: &Observers,
    ) -> Self {
        Spec {
            name,
            idempotent,
            asynchronous,
            attempts: plan.attempt_limit(),
            timeout: plan.time_limit(),
            observers: observers.of_job(),
        }
    }

    /// For the task of that kernel.
    #[inline(always)]
    pub(crate) fn of<K: Kernel>(plan: &Plan, observers: &Observers) -> Self {
        Spec::with(K::NAME, K::IDEMPOTENT, K::ASYNC, plan, observers)
    }
}

impl<B: ?Sized + Body> Job<B> {
    /// The number of the job.
    pub fn id(&self) -> JobId {
        self.core.id
    }

    /// The name of its task, for logs and monitors.
    pub fn name(&self) -> &'static str {
        self.core.name
    }

    /// How many parts it has.
    #[inline]
    pub fn parts(&self) -> usize {
        self.core.parts
    }

    /// How many parts nobody has claimed yet. An engine drops a job from its queue when this is 0.
    #[inline]
    pub fn unclaimed(&self) -> usize {
        self.core.schedule.left()
    }

    /// Whether each worker has a share that no other worker takes: then all of them must look at the job.
    pub fn is_static(&self) -> bool {
        self.core.schedule.is_static()
    }

    /// Whether parts that a lost worker may have begun may be run again.
    pub fn idempotent(&self) -> bool {
        self.core.idempotent
    }

    /// Whether its task is an `async fn`: [`Claim::run_async`] then runs it without holding a thread while it waits.
    #[inline]
    pub fn is_async(&self) -> bool {
        self.core.asynchronous
    }

    /// How often a part may be delivered before its loss is reported.
    pub fn attempts(&self) -> u32 {
        self.core.attempts
    }

    /// Whether the job borrows from its caller: it can only be run in place, never encoded.
    pub fn borrows(&self) -> bool {
        self.body.borrows()
    }

    /// When the job times out, if it does.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.core.limit.map(|(at, _)| at)
    }

    /// Whether every part has ended, or the job was ended early.
    #[inline]
    pub fn is_done(&self) -> bool {
        self.core.completion.is_done()
    }

    /// Whether every part has ended, and that was the end of the job.
    #[inline]
    pub(crate) fn ended_by_itself(&self) -> bool {
        self.core.completion.is_done() && !self.core.completion.is_early()
    }

    /// Whether the job was cancelled or is past its deadline; running tasks see it as their token.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.core.cancelled.load(Ordering::Relaxed) || self.past_deadline()
    }

    /// Whether it was cancelled, rather than late.
    pub(crate) fn was_cancelled(&self) -> bool {
        self.core.cancelled.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn observers(&self) -> &Observers {
        &self.core.observers
    }

    #[inline]
    fn past_deadline(&self) -> bool {
        self.core.limit.is_some_and(|(at, _)| Instant::now() >= at)
    }

    /// Why the job failed, if it did so far.
    pub(crate) fn failure(&self) -> Option<TaskError> {
        self.early_end().or_else(|| self.body.failure())
    }

    /// What the waiters of a job that was ended early report instead of values.
    #[inline]
    pub(crate) fn early_end(&self) -> Option<TaskError> {
        if !self.core.completion.is_early() {
            return None;
        }
        self.core.ended_early.lock().as_deref().cloned()
    }

    pub(crate) fn lines(&self) -> Option<&Arc<Lines>> {
        self.core.lines.as_ref()
    }

    /// Passes on what a task of this job logged.
    pub(crate) fn log(&self, worker: Option<usize>, level: Level, text: impl FnOnce() -> String) {
        if self.core.observers.any() {
            self.core.observers.emit(|| Event::Log {
                job: self.id(),
                worker,
                level,
                text: text(),
            });
        } else if let Some(lines) = self.lines() {
            lines.push(level, text());
        }
    }

    /// The error of a job whose deadline has passed.
    pub(crate) fn timed_out(&self) -> TaskError {
        let limit = self.core.limit.map_or(Duration::ZERO, |(_, limit)| limit);
        TaskError::TimedOut {
            limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Ends all unclaimed parts as cancelled and raises the token for the claimed ones.
    pub fn cancel(&self) {
        self.fail_unclaimed(&TaskError::Cancelled);
        self.core.cancelled.store(true, Ordering::Relaxed);
        self.core.sleepers.wake();
    }

    /// Ends all unclaimed parts with `error`: the pool is closing, or broken.
    pub fn fail_unclaimed(&self, error: &TaskError) {
        while let Some(range) = self.take_range() {
            self.end_with(range, error.clone());
        }
    }

    /// Takes the next range out of the schedule, for who ends it with `end_with`.
    pub(crate) fn take_range(&self) -> Option<Range<usize>> {
        self.core.schedule.next(Claimant::Any)
    }

    /// Ends parts that are not run to their end.
    pub(crate) fn end_with(&self, range: Range<usize>, error: TaskError) {
        self.core.observers.emit(|| Event::Failed {
            job: self.id(),
            parts: range.clone(),
            error: error.clone(),
        });
        let count = range.len();
        // It drops inputs, which may panic; somebody waits for the end of the job all the same.
        panics::report("an input of a task, dropped", || self.body.fail(range, error));
        self.finished(count);
    }

    /// Ends the job now, whatever is still running; the first end wins. Used for deadlines and kills.
    pub fn end_early(&self, error: TaskError) {
        if self.body.borrows() {
            // Its caller's memory is in use until every claim has ended.
            return self.cancel();
        }
        self.core.cancelled.store(true, Ordering::Relaxed);
        if !self.turn_early(error.clone()) {
            return;
        }
        self.core.completion.wake();
        self.body.ended_early(&error);
        // Nobody may start what is left; its results would not be read.
        self.fail_unclaimed(&error);
        self.core.sleepers.wake();
    }

    /// Ends the job as timed out if its deadline has passed. Engines with a clock of their own call it.
    pub fn expire(&self) -> bool {
        let late = self.past_deadline() && !self.is_done();
        if late {
            self.end_early(self.timed_out());
        }
        late
    }

    #[inline]
    fn finished(&self, count: usize) {
        // Who ended all parts at once shares the count with nobody.
        let last = count == self.core.parts || self.core.left.fetch_sub(count, Ordering::AcqRel) == count;
        if last && self.turn_done() {
            self.core.completion.wake();
        }
    }

    /// Makes the job done; whether it was not before.
    fn turn_done(&self) -> bool {
        // A task that sees its deadline before the clock does gives up as cancelled: it was late all the same.
        let late = self.past_deadline() && !self.core.cancelled.load(Ordering::Relaxed);
        if late {
            return self.turn_early(self.timed_out());
        }
        self.core.completion.turn_on()
    }

    /// Makes the job done with that error; whether it was not before.
    fn turn_early(&self, error: TaskError) -> bool {
        let mut end = self.core.ended_early.lock();
        if self.is_done() {
            return false;
        }
        // The error is there before anybody can look for it. Should the job come to its own end first, nobody will.
        *end = Some(Box::new(error));
        self.core.completion.turn_on_early()
    }
}

impl Job {
    /// Claims the next range of parts for `who`; nothing when there is none left for it.
    pub fn claim(self: &Arc<Self>, who: Claimant) -> Option<Claim> {
        Arc::clone(self).into_claim(who)
    }

    /// As [`claim`](Job::claim), for who needs the job itself no more.
    #[inline]
    pub fn into_claim(self: Arc<Self>, who: Claimant) -> Option<Claim> {
        let range = self.next_range(who)?;
        Some(Claim {
            job: self,
            range,
            attempts: 0,
            begun: false,
            ended: false,
            untold: 0,
        })
    }

    /// The next range for `who` that is still to be run.
    #[inline]
    fn next_range(&self, who: Claimant) -> Option<Range<usize>> {
        loop {
            let range = self.core.schedule.next(who)?;
            let late = self.past_deadline();
            if !late && !self.body.moot(&range) {
                return Some(range);
            }
            let error = if late {
                self.timed_out()
            } else {
                TaskError::Cancelled
            };
            self.end_with(range, error);
        }
    }
}

impl<B: ?Sized + Body> Drop for Job<B> {
    fn drop(&mut self) {
        // An engine let go of a job that it had not finished. Ending the rest drops its inputs.
        if self.unclaimed() > 0 {
            self.fail_unclaimed(&TaskError::Cancelled);
        }
    }
}

impl<B: ?Sized + Body> fmt::Debug for Job<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.core.id.0)
            .field("name", &self.core.name)
            .field("parts", &self.core.parts)
            .field("unclaimed", &self.unclaimed())
            .field("done", &self.is_done())
            .finish()
    }
}
