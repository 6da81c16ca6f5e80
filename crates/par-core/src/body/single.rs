//! The body of a submit: one input, one outcome.

use super::Outcome;
use crate::error::TaskError;
use crate::job::{Body, Job};
use crate::kernel::{Kernel, encode_items};
use crate::panics;
use crate::remote::{self, Call, Part};
use crate::run_async::{Running, abandon_by};
use crate::slots::Owned;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

/// The stage belongs to whoever holds the job's one claim, then to whoever takes the outcome, so it needs no lock. An outcome
/// that comes after an early end stays where it is.
pub(crate) struct SingleBody<K: Kernel, F> {
    kernel: K,
    start: fn(K, K::In) -> F,
    stage: Owned<Stage<K, F>>,
    /// Stays when the outcome is taken: a scope asks for it.
    failure: OnceLock<Box<TaskError>>,
}

/// How far the part is. Errors are kept elsewhere, as they are large and rare: a job is small then, and many of them stay in the
/// caches.
enum Stage<K: Kernel, F> {
    /// Nothing once it was taken.
    Input(Option<K::In>),
    /// Its future, which stays here until it is dropped here: it is pinned.
    Running(F),
    Ended(Result<K::Out, Box<TaskError>>),
    /// The outcome was taken, or the future has ended and was dropped.
    Empty,
}

impl<K: Kernel, F> Stage<K, F> {
    fn take_input(&mut self) -> Option<K::In> {
        match self {
            Stage::Input(input) => input.take(),
            _ => None,
        }
    }

    fn take_outcome(&mut self) -> Option<Result<K::Out, Box<TaskError>>> {
        if !matches!(self, Stage::Ended(_)) {
            return None;
        }
        match std::mem::replace(self, Stage::Empty) {
            Stage::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }
}

impl<K, F> SingleBody<K, F>
where
    K: Kernel,
    F: Future<Output = Result<K::Out, TaskError>> + Send,
{
    /// `start` is the kernel's own, which has no other name for the type of its future.
    pub(crate) fn new(kernel: K, input: K::In, start: fn(K, K::In) -> F) -> Self {
        SingleBody {
            kernel,
            start,
            stage: Owned::new(Stage::Input(Some(input))),
            failure: OnceLock::new(),
        }
    }

    /// Ends the part; what was there before is dropped in its place.
    fn end(&self, outcome: Result<K::Out, TaskError>) {
        let outcome = outcome.map_err(Box::new);
        if let Err(error) = &outcome {
            // A claim ends once: it is not set yet.
            let _ = self.failure.set(error.clone());
        }
        // SAFETY: whoever ends the part holds the claim.
        *unsafe { self.stage.get() } = Stage::Ended(outcome);
    }

    /// Begins the part or goes on with it; whether it has ended.
    fn poll(&self, cx: &mut Context<'_>) -> bool {
        // SAFETY: whoever polls the part holds the claim.
        let stage = unsafe { self.stage.get() };
        if let Some(input) = stage.take_input() {
            *stage = Stage::Running((self.start)(self.kernel, input));
        }
        let Stage::Running(future) = stage else {
            return true;
        };
        // SAFETY: a job is made in its `Arc` and does not move; nothing moves a running future out of its stage.
        let outcome = match unsafe { Pin::new_unchecked(future) }.poll(cx) {
            Poll::Pending => return false,
            Poll::Ready(outcome) => outcome,
        };
        // What the future owns may panic as it is dropped here, and the caller catches it.
        self.end(outcome);
        true
    }
}

impl<K, F> Job<SingleBody<K, F>>
where
    K: Kernel,
    F: Future<Output = Result<K::Out, TaskError>> + Send,
{
    /// The input of a job that nobody has claimed; nobody can afterwards.
    pub(crate) fn take_input(&self) -> Option<K::In> {
        let claimed = self.take_range()?;
        // SAFETY: the range is ours, and it is the whole job.
        let input = unsafe { self.body.stage.get() }.take_input();
        self.end_with(claimed, TaskError::Cancelled);
        input
    }
}

impl<K, F> Body for SingleBody<K, F>
where
    K: Kernel,
    F: Future<Output = Result<K::Out, TaskError>> + Send,
{
    fn run(&self, _: Range<usize>) {
        // SAFETY: whoever runs the part holds the claim.
        let input = unsafe { self.stage.get() }.take_input();
        if let Some(input) = input {
            self.end(panics::catch(|| self.kernel.call(input)).and_then(|outcome| outcome));
        }
    }

    fn poll_part(&self, part: usize, _: &mut Option<Running>, cx: &mut Context<'_>) -> Poll<()> {
        match panics::catch(|| self.poll(cx)) {
            Ok(false) => return Poll::Pending,
            Ok(true) => {}
            Err(panic) => self.abandon(part, panic),
        }
        Poll::Ready(())
    }

    fn abandon(&self, _: usize, error: TaskError) {
        // SAFETY: whoever ends the part holds the claim.
        abandon_by(|| *unsafe { self.stage.get() } = Stage::Empty);
        self.end(Err(error));
    }

    fn call(&self, same_program: bool) -> Result<Call, TaskError> {
        self.kernel.call_for(same_program)
    }

    fn encode(&self, _: Range<usize>, out: &mut Vec<u8>) -> Result<Part, TaskError> {
        // SAFETY: whoever encodes the part holds the claim, and does nothing else with it meanwhile.
        match unsafe { self.stage.peek() } {
            Stage::Input(Some(input)) => encode_items(std::iter::once(input), out)?,
            _ => return Err(TaskError::Codec("input: it is gone".to_owned())),
        }
        Ok(Part { first: 0, items: 1 })
    }

    fn complete(&self, _: Range<usize>, reply: &[u8]) {
        let outcome = remote::form(reply, remote::ITEMS)
            .and_then(|mut rest| remote::next_outcome(&mut rest).unwrap_or(Err(TaskError::Cancelled)));
        self.end(outcome);
    }

    fn fail(&self, _: Range<usize>, error: TaskError) {
        self.end(Err(error));
    }

    fn failure(&self) -> Option<TaskError> {
        self.failure.get().map(|error| TaskError::clone(error))
    }
}

impl<K, F> Outcome<K::Out, TaskError> for SingleBody<K, F>
where
    K: Kernel,
    F: Future<Output = Result<K::Out, TaskError>> + Send,
{
    unsafe fn take(&self) -> Option<Result<K::Out, TaskError>> {
        // SAFETY: the claim has ended, and the completion of the job comes after that; the rest is the caller's promise.
        let outcome = unsafe { self.stage.get() }.take_outcome();
        outcome.map(|outcome| outcome.map_err(|error| *error))
    }

    fn whole(&self, error: TaskError) -> TaskError {
        error
    }
}
