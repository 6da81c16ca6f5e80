//! A claim: a range of parts of a job that one worker owns, until it has ended each of them.

use super::Job;
use crate::context::{self, Token};
use crate::error::TaskError;
use crate::log;
use crate::observe::Event;
use crate::panics;
use crate::plan::Claimant;
use crate::remote::{Call, Part};
use crate::share::Recorder;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A range of parts that one worker, or one attempt of an engine, owns. See the rules at the top of [`job`](super).
#[must_use = "a claim that is dropped reports its parts as lost"]
pub struct Claim {
    pub(super) job: Arc<Job>,
    pub(super) range: Range<usize>,
    pub(super) attempts: u32,
    pub(super) begun: bool,
    /// Whether the parts were ended; what is dropped before that is lost.
    pub(super) ended: bool,
    /// How many parts ended here that the job was not told of yet: one message for many ranges, as all workers write there.
    pub(super) untold: usize,
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
