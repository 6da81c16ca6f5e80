//! The body of the streaming forms: each outcome goes into a queue as soon as it is there.

use super::Failures;
use crate::error::TaskError;
use crate::job::Body;
use crate::kernel::{Kernel, encode_items};
use crate::panics;
use crate::remote::{self, Call, Part};
use crate::run_async::{Running, poll_kernel};
use crate::slots::Slots;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// Index in the whole input, and how that item ended.
pub(crate) type Indexed<O> = (u64, Result<O, TaskError>);

/// Where the outcomes of a stream's jobs arrive, in order of completion.
pub(crate) struct Arrivals<O> {
    queue: Mutex<VecDeque<Indexed<O>>>,
    came: Condvar,
}

impl<O> Arrivals<O> {
    pub(crate) fn new() -> Self {
        Arrivals {
            queue: Mutex::new(VecDeque::new()),
            came: Condvar::new(),
        }
    }

    fn put(&self, batch: impl Iterator<Item = Indexed<O>>) {
        self.queue.lock().extend(batch);
        self.came.notify_all();
    }

    pub(crate) fn try_take(&self) -> Option<Indexed<O>> {
        self.queue.lock().pop_front()
    }

    /// Waits until something arrives, but not beyond `deadline`.
    pub(crate) fn take(&self, deadline: Option<Instant>) -> Option<Indexed<O>> {
        let mut queue = self.queue.lock();
        loop {
            if let Some(item) = queue.pop_front() {
                return Some(item);
            }
            match deadline {
                None => self.came.wait(&mut queue),
                Some(at) => {
                    if self.came.wait_until(&mut queue, at).timed_out() {
                        return queue.pop_front();
                    }
                }
            }
        }
    }
}

pub(crate) struct StreamBody<K: Kernel> {
    kernel: K,
    first: u64,
    inputs: Slots<K::In>,
    arrivals: Arc<Arrivals<K::Out>>,
    failures: Failures,
    /// Which parts have an outcome already: the first wins, where a job is ended early.
    arrived: Mutex<Vec<bool>>,
}

impl<K: Kernel> StreamBody<K> {
    pub(crate) fn new(kernel: K, first: u64, inputs: Vec<K::In>, arrivals: Arc<Arrivals<K::Out>>) -> Self {
        let arrived = Mutex::new(vec![false; inputs.len()]);
        StreamBody {
            arrived,
            kernel,
            first,
            inputs: Slots::full(inputs),
            arrivals,
            failures: Failures::new(),
        }
    }

    fn put(&self, mut batch: Vec<Indexed<K::Out>>) {
        let mut arrived = self.arrived.lock();
        batch.retain(|(index, _)| {
            let part = usize::try_from(index - self.first).unwrap_or(usize::MAX);
            arrived
                .get_mut(part)
                .is_some_and(|there| !std::mem::replace(there, true))
        });
        if let Some((index, Err(error))) = batch.iter().find(|(_, outcome)| outcome.is_err()) {
            self.failures.record(*index, error.clone());
        }
        self.arrivals.put(batch.into_iter());
    }
}

impl<K: Kernel> Body for StreamBody<K> {
    fn run(&self, range: Range<usize>) {
        for part in range {
            // SAFETY: our claim holds the range; each input is taken once.
            let input = unsafe { self.inputs.take(part) };
            let outcome = panics::catch(|| self.kernel.call(input)).and_then(|outcome| outcome);
            // One at a time: the reader may be waiting for just this one.
            self.put(vec![(self.first + part as u64, outcome)]);
        }
    }

    fn poll_part(&self, part: usize, running: &mut Option<Running>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: our claim holds the part; the first poll, and no other, takes its input.
        let input = || unsafe { self.inputs.take(part) };
        let outcome = ready!(poll_kernel(self.kernel, running, input, cx));
        self.put(vec![(self.first + part as u64, outcome)]);
        Poll::Ready(())
    }

    fn abandon(&self, part: usize, error: TaskError) {
        self.put(vec![(self.first + part as u64, Err(error))]);
    }

    fn call(&self, same_program: bool) -> Result<Call, TaskError> {
        let mut call = self.kernel.call_for(same_program)?;
        call.all_outcomes = true;
        Ok(call)
    }

    fn encode(&self, range: Range<usize>, out: &mut Vec<u8>) -> Result<Part, TaskError> {
        // SAFETY: the claim is out to a worker elsewhere, so its inputs stay in their slots until it ends.
        let inputs = range.clone().map(|part| unsafe { self.inputs.peek(part) });
        encode_items(inputs, out)?;
        Ok(Part {
            first: self.first + range.start as u64,
            items: range.len() as u64,
        })
    }

    fn complete(&self, range: Range<usize>, reply: &[u8]) {
        let mut rest = match remote::form(reply, remote::ITEMS) {
            Ok(rest) => rest,
            Err(error) => return self.fail(range, error),
        };
        // SAFETY: our claim ends here and its inputs were never taken.
        unsafe { self.inputs.clear(range.clone()) };
        let mut cut = TaskError::Cancelled;
        let batch = range.map(|part| {
            let outcome = remote::next_outcome(&mut rest).unwrap_or_else(|| Err(cut.clone()));
            if let Err(error) = &outcome {
                // An input that the worker could not read ends its reply: the rest shares that fate.
                cut.clone_from(error);
            }
            (self.first + part as u64, outcome)
        });
        self.put(batch.collect());
    }

    fn fail(&self, range: Range<usize>, error: TaskError) {
        // SAFETY: the claim ends here and its inputs were never taken.
        unsafe { self.inputs.clear(range.clone()) };
        self.put(
            range
                .map(|part| (self.first + part as u64, Err(error.clone())))
                .collect(),
        );
    }

    fn failure(&self) -> Option<TaskError> {
        self.failures.get().map(|failure| failure.error)
    }

    fn ended_early(&self, error: &TaskError) {
        let parts = self.arrived.lock().len() as u64;
        self.put(
            (0..parts)
                .map(|part| (self.first + part, Err(error.clone())))
                .collect(),
        );
    }
}
