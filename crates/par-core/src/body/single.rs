//! The body of a submit: one input, one outcome.

use super::Outcome;
use crate::error::TaskError;
use crate::job::Body;
use crate::kernel::{Kernel, encode_item};
use crate::panics;
use crate::remote::{self, Call, Part};
use crate::run_async::{Running, poll_kernel};
use parking_lot::Mutex;
use std::ops::Range;
use std::task::{Context, Poll, ready};

pub(crate) struct SingleBody<K: Kernel> {
    kernel: K,
    state: Mutex<State<K>>,
}

/// Errors are kept elsewhere, as they are large and rare: a job is small then, and many of them stay in the caches.
struct State<K: Kernel> {
    input: Option<K::In>,
    outcome: Option<Result<K::Out, Box<TaskError>>>,
    /// Stays when the outcome is taken: a scope asks for it.
    failure: Option<Box<TaskError>>,
}

impl<K: Kernel> SingleBody<K> {
    pub(crate) fn new(kernel: K, input: K::In) -> Self {
        SingleBody {
            kernel,
            state: Mutex::new(State {
                input: Some(input),
                outcome: None,
                failure: None,
            }),
        }
    }

    /// The input of a job that was never claimed.
    pub(crate) fn take_input(&self) -> Option<K::In> {
        self.state.lock().input.take()
    }

    fn end(&self, outcome: Result<K::Out, TaskError>) {
        let outcome = outcome.map_err(Box::new);
        let failure = outcome.as_ref().err().cloned();
        let before = {
            let mut state = self.state.lock();
            if failure.is_some() {
                state.failure = failure;
            }
            (state.input.take(), state.outcome.replace(outcome))
        };
        // Outside the lock: these are the user's values.
        drop(before);
    }
}

impl<K: Kernel> Body for SingleBody<K> {
    fn run(&self, _: Range<usize>) {
        if let Some(input) = self.take_input() {
            self.end(panics::catch(|| self.kernel.call(input)).and_then(|outcome| outcome));
        }
    }

    fn poll_part(&self, _: usize, running: &mut Option<Running>, cx: &mut Context<'_>) -> Poll<()> {
        let input = match running {
            None => self.take_input(),
            Some(_) => None,
        };
        if running.is_none() && input.is_none() {
            // Its outcome is there already.
            return Poll::Ready(());
        }
        let first = || input.expect("the first poll has the input");
        let outcome = ready!(poll_kernel(&self.kernel, running, first, cx));
        self.end(outcome);
        Poll::Ready(())
    }

    fn call(&self, same_program: bool) -> Result<Call, TaskError> {
        self.kernel.call_for(same_program)
    }

    fn encode(&self, _: Range<usize>, out: &mut Vec<u8>) -> Result<Part, TaskError> {
        match &self.state.lock().input {
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
        self.state.lock().failure.as_deref().cloned()
    }
}

impl<K: Kernel> Outcome<K::Out, TaskError> for SingleBody<K> {
    fn take(&self) -> Option<Result<K::Out, TaskError>> {
        let outcome = self.state.lock().outcome.take();
        outcome.map(|outcome| outcome.map_err(|error| *error))
    }

    fn whole(&self, error: TaskError) -> TaskError {
        error
    }
}
