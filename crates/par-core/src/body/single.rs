//! The body of a submit: one input, one outcome.

use crate::error::TaskError;
use crate::job::Body;
use crate::kernel::{Kernel, encode_item};
use crate::panics;
use crate::remote::{self, Call, Part};
use crate::run_async::{Running, poll_kernel};
use parking_lot::Mutex;
use std::ops::Range;
use std::task::{Context, Poll, ready};

/// Where a handle finds the outcome, whatever the kernel was.
pub(crate) trait Outcome<O>: Body {
    /// The outcome of a job that is done; the first taker gets it.
    fn take(&self) -> Option<Result<O, TaskError>>;
}

pub(crate) struct SingleBody<K: Kernel> {
    kernel: K,
    input: Mutex<Option<K::In>>,
    outcome: Mutex<Option<Result<K::Out, TaskError>>>,
    /// Stays when the outcome is taken: a scope asks for it.
    failure: Mutex<Option<TaskError>>,
}

impl<K: Kernel> SingleBody<K> {
    pub(crate) fn new(kernel: K, input: K::In) -> Self {
        SingleBody {
            kernel,
            input: Mutex::new(Some(input)),
            outcome: Mutex::new(None),
            failure: Mutex::new(None),
        }
    }

    /// The input of a job that was never claimed.
    pub(crate) fn take_input(&self) -> Option<K::In> {
        self.input.lock().take()
    }

    fn end(&self, outcome: Result<K::Out, TaskError>) {
        let input = self.input.lock().take();
        self.end_begun(outcome);
        drop(input);
    }

    /// As `end`, where the input was taken before.
    fn end_begun(&self, outcome: Result<K::Out, TaskError>) {
        if let Err(error) = &outcome {
            *self.failure.lock() = Some(error.clone());
        }
        *self.outcome.lock() = Some(outcome);
    }
}

impl<K: Kernel> Body for SingleBody<K> {
    fn run(&self, _: Range<usize>) {
        let input = self.input.lock().take();
        if let Some(input) = input {
            self.end_begun(panics::catch(|| self.kernel.call(input)).and_then(|outcome| outcome));
        }
    }

    fn poll_part(&self, _: usize, running: &mut Option<Running>, cx: &mut Context<'_>) -> Poll<()> {
        let input = match running {
            None => self.input.lock().take(),
            Some(_) => None,
        };
        if running.is_none() && input.is_none() {
            // Its outcome is there already.
            return Poll::Ready(());
        }
        let first = || input.expect("the first poll has the input");
        let outcome = ready!(poll_kernel(&self.kernel, running, first, cx));
        self.end_begun(outcome);
        Poll::Ready(())
    }

    fn call(&self, same_program: bool) -> Result<Call, TaskError> {
        self.kernel.call_for(same_program)
    }

    fn encode(&self, _: Range<usize>, out: &mut Vec<u8>) -> Result<Part, TaskError> {
        match &*self.input.lock() {
            Some(input) => encode_item(input, out)?,
            None => return Err(TaskError::Codec("input: it is gone".to_owned())),
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
        self.failure.lock().clone()
    }
}

impl<K: Kernel> Outcome<K::Out> for SingleBody<K> {
    fn take(&self) -> Option<Result<K::Out, TaskError>> {
        self.outcome.lock().take()
    }
}
