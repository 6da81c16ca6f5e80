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

pub use crate::body::relay::Relay;
pub use crate::run_async::{RunAsync, Running, Step, Tally};

use crate::context::{self, Token};
use crate::error::TaskError;
use crate::kernel::Kernel;
use crate::log::{self, Lines};
use crate::observe::{Event, Level, Observers};
use crate::panics;
use crate::plan::{Claimant, Plan, Schedule};
use crate::remote::{Call, Part};
use crate::run_async::Sleepers;
use crate::share::Recorder;
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

/// A range of parts that one worker, or one attempt of an engine, owns. See the rules at the top of this module.
#[must_use = "a claim that is dropped reports its parts as lost"]
pub struct Claim {
    job: Arc<Job>,
    range: Range<usize>,
    attempts: u32,
    begun: bool,
    /// Whether the parts were ended; what is dropped before that is lost.
    ended: bool,
    /// How many parts ended here that the job was not told of yet: one message for many ranges, as all workers write there.
    untold: usize,
}

impl Claim {
    /// The job that the parts belong to.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// The parts, as indexes into the job.
    #[inline]
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Whether nobody can claim anything of the job after this.
    #[inline]
    pub fn is_last(&self) -> bool {
        self.job.core.schedule.ends_with(&self.range)
    }

    /// Deliveries so far.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Cuts the claim in two: `self` keeps the first `count` parts, the rest is returned if there is any.
    pub fn split_off(&mut self, count: usize) -> Option<Claim> {
        let middle = self.range.start.saturating_add(count).min(self.range.end);
        if middle == self.range.end {
            return None;
        }
        let rest = middle..self.range.end;
        self.range.end = middle;
        Some(Claim {
            job: Arc::clone(&self.job),
            range: rest,
            attempts: self.attempts,
            begun: self.begun,
            ended: false,
            untold: 0,
        })
    }

    /// Runs the parts on this thread, typed and in place, under the job's token.
    pub fn run(mut self) {
        let _token = context::push_token(Token::Job(Arc::clone(&self.job)));
        self.run_here();
    }

    /// As [`run`](Claim::run), where the caller has put the job's token in force. Afterwards the claim is empty, until
    /// [`next`](Claim::next) fills it again. The job is done no earlier than `next` finds nothing, or the claim is dropped.
    pub fn run_here(&mut self) {
        self.ended = true;
        let (job, range) = (&self.job, self.range.clone());
        if job.core.observers.any() {
            self.run_observed();
        } else {
            job.body.run(range);
        }
        self.untold += self.range.len();
    }

    #[cold]
    fn run_observed(&self) {
        let (job, range, worker) = (&self.job, &self.range, context::worker_index());
        let observers = &job.core.observers;
        observers.begin(job, range, worker);
        let started = Instant::now();
        job.body.run(range.clone());
        observers.end(job, range, worker, started, started.elapsed());
    }

    /// The first part, if there is any left.
    #[inline]
    pub(crate) fn first(&self) -> Option<usize> {
        (!self.ended && !self.range.is_empty()).then_some(self.range.start)
    }

    /// Takes out the first part, as a claim of its own.
    pub(crate) fn take_first(&mut self) -> Option<Claim> {
        let rest = self.split_off(1);
        let left = rest.unwrap_or_else(|| {
            let end = self.range.end;
            Claim {
                job: Arc::clone(&self.job),
                range: end..end,
                attempts: self.attempts,
                begun: self.begun,
                ended: true,
                untold: 0,
            }
        });
        let mut first = std::mem::replace(self, left);
        self.untold = std::mem::take(&mut first.untold);
        Some(first)
    }

    /// The first part has ended; whether there are more. The job hears of it with the last, or when the claim is dropped.
    #[inline]
    pub(crate) fn first_ended(&mut self) -> bool {
        self.untold += 1;
        self.range.start += 1;
        self.ended = self.range.is_empty();
        if self.ended {
            self.tell();
        }
        !self.ended
    }

    /// Ends what is left with `error`.
    pub(crate) fn fail_rest(&mut self, error: TaskError) {
        if !self.ended {
            self.end_with(error);
        }
        self.tell();
    }

    #[inline]
    fn tell(&mut self) {
        match std::mem::take(&mut self.untold) {
            0 => {}
            count => self.job.finished(count),
        }
    }

    /// Goes on with the next range of the same job for `who`, once the parts have ended; whether there is one.
    pub fn next(&mut self, who: Claimant) -> bool {
        if !self.ended {
            return true;
        }
        let Some(range) = self.job.next_range(who) else {
            self.tell();
            return false;
        };
        (self.range, self.attempts, self.begun, self.ended) = (range, 0, false, false);
        true
    }

    /// How a worker elsewhere finds the code: the same for all parts of the job. `same_program` says whether the workers run
    /// this very build.
    ///
    /// # Errors
    /// [`TaskError::Rejected`] if such a worker cannot run the job; [`TaskError::Codec`] if the reduction does not serialise.
    pub fn call(&self, same_program: bool) -> Result<Call, TaskError> {
        let mut call = self.job().body.call(same_program)?;
        call.logs = self.job.core.observers.any() || self.job.lines().is_some();
        Ok(call)
    }

    /// Encodes the parts for a worker elsewhere and records which shared values they name. The claim stays whole, so that
    /// it can be sent again.
    ///
    /// # Errors
    /// [`TaskError::Codec`] if an input does not serialise, [`TaskError::Panicked`] if its `Serialize` panics; end the claim with it.
    pub fn encode(&self, out: &mut Vec<u8>, shares: &mut Recorder) -> Result<Part, TaskError> {
        // Code of users, run by whichever thread feeds a worker: its panic belongs to the task, not to that thread.
        shares
            .record(|| panics::catch(|| self.job().body.encode(self.range.clone(), out)))
            .and_then(|part| part)
    }

    /// Notes that the parts go to `worker`, and counts the attempt. An engine that does not choose the worker gives `None`.
    pub fn delivered(&mut self, worker: impl Into<Option<usize>>) {
        self.attempts += 1;
        self.begun = false;
        let job = &self.job;
        job.core.observers.begin(job, &self.range, worker.into());
    }

    /// Notes that the worker may have begun the parts: from here on only idempotent ones are run again.
    pub fn begun(&mut self) {
        self.begun = true;
    }

    /// Whether a worker may have begun the parts.
    pub fn may_have_run(&self) -> bool {
        self.begun
    }

    /// Ends the parts with the reply of a worker, which took `took` from `started` on.
    pub fn complete(mut self, reply: &[u8], worker: usize, started: Instant, took: Duration) {
        self.ended = true;
        let job = &self.job;
        match log::split(reply) {
            Ok((reply, lines)) => {
                for (level, text) in lines {
                    job.log(Some(worker), level, || text);
                }
                panics::report("an input of a task, dropped", || {
                    job.body.complete(self.range.clone(), &reply);
                });
            }
            Err(error) => panics::report("an input of a task, dropped", || {
                job.body.fail(self.range.clone(), error);
            }),
        }
        if job.core.observers.any() {
            job.core
                .observers
                .end(job, &self.range, Some(worker), started, took);
        }
        job.finished(self.range.len());
    }

    /// Ends the parts with `error`.
    pub fn fail(mut self, error: TaskError) {
        self.end_with(error);
    }

    /// The worker gave the parts back before it began them: the delivery does not count as an attempt.
    pub fn taken_back(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
        self.begun = false;
        self.returned();
    }

    fn returned(&self) {
        let job = &self.job;
        job.core.observers.emit(|| Event::Returned {
            job: job.id(),
            parts: self.range.clone(),
        });
    }

    /// The worker died: gives the claim back if its parts may be delivered again, else ends them as lost. Parts that were
    /// never begun are always given back while their job is wanted: the death of their worker says nothing about them.
    pub fn lost(mut self, reason: &str) -> Option<Claim> {
        let job = self.job();
        let again = !self.begun || (job.idempotent() && self.attempts < job.attempts());
        if again && !job.is_done() && !job.is_cancelled() {
            if self.begun {
                self.returned();
            } else {
                self.taken_back();
            }
            return Some(self);
        }
        let error = if job.core.cancelled.load(Ordering::Relaxed) {
            TaskError::Cancelled
        } else {
            TaskError::Lost {
                attempts: self.attempts,
                maybe_ran: self.begun,
                reason: reason.to_owned(),
            }
        };
        self.end_with(error);
        None
    }

    fn end_with(&mut self, error: TaskError) {
        self.ended = true;
        self.job.end_with(self.range.clone(), error);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.ended {
            self.end_with(TaskError::Lost {
                attempts: self.attempts,
                maybe_ran: self.begun,
                reason: "the engine let go of it".to_owned(),
            });
        }
        self.tell();
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({:?}, {:?})", self.job.id(), self.range)
    }
}
