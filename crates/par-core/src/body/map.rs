//! The body of a map: inputs and outputs in slots, written in place.

use super::{Failures, Outcome};
use crate::error::{MapError, TaskError};
use crate::job::Body;
use crate::kernel::{Kernel, encode_items};
use crate::panics;
use crate::remote::{self, Call, Part};
use crate::run_async::{Running, poll_kernel};
use crate::slots::{Progress, Slots};
use parking_lot::Mutex;
use std::cell::Cell;
use std::ops::Range;
use std::task::{Context, Poll, ready};

pub(crate) struct MapBody<K: Kernel> {
    kernel: K,
    /// Index of the first item in the whole input.
    first: u64,
    inputs: Slots<K::In>,
    outputs: Slots<K::Out>,
    /// Ranges whose outputs are written, each pushed by the claim that wrote them.
    written: Mutex<Vec<Range<usize>>>,
    failures: Failures,
}

impl<K: Kernel> MapBody<K> {
    pub(crate) fn new(kernel: K, first: u64, inputs: Vec<K::In>) -> Self {
        // Of a slot, the input is moved out or dropped before the output is written.
        let (inputs, outputs) = Slots::full_and_empty(inputs);
        MapBody {
            kernel,
            first,
            inputs,
            outputs,
            written: Mutex::new(Vec::new()),
            failures: Failures::new(),
        }
    }

    /// The outputs of a job that is done and was not ended early, or its failure with the lowest index. Once.
    pub(crate) fn take(&self) -> Result<Vec<K::Out>, MapError> {
        if let Some(failure) = self.failures.get() {
            return Err(failure);
        }
        self.written.lock().clear();
        // SAFETY: the job is done and nothing failed, so every claim ended by writing all of its outputs; `written` was
        // cleared, so that `drop` does not touch them again.
        Ok(unsafe { self.outputs.take_all() })
    }

    /// Notes that the outputs of a range are there, where somebody must drop them should nobody take them.
    fn wrote(&self, range: Range<usize>) {
        if std::mem::needs_drop::<K::Out>() {
            let mut written = self.written.lock();
            match written.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => written.push(range),
            }
        }
    }

    fn index(&self, part: usize) -> u64 {
        self.first + part as u64
    }
}

impl<K: Kernel> Body for MapBody<K> {
    fn run(&self, range: Range<usize>) {
        // How many inputs have been moved out of their slots.
        let taken = Cell::new(0);
        let (kernel, count) = (self.kernel, range.len());
        let inputs = self.inputs.run(range.clone());
        let outputs = inputs
            .in_place()
            .unwrap_or_else(|| self.outputs.run(range.clone()));
        let result = panics::catch(|| {
            let mut progress = Progress::new(&taken);
            while progress.at < count {
                let part = progress.at;
                // SAFETY: our claim holds the range; each input is taken once, in order.
                let input = unsafe { inputs.take(part) };
                progress.at += 1;
                let output = kernel.call(input)?;
                // SAFETY: our claim holds the range; each output is written once.
                unsafe { outputs.put(part, output) };
            }
            Ok(())
        });
        let reached = range.start + taken.get();
        match result.and_then(|outcome| outcome) {
            Ok(()) => self.wrote(range),
            Err(error) => {
                // The part before `reached` failed: its output is missing.
                self.wrote(range.start..reached - 1);
                self.failures.record(self.index(reached - 1), error);
                // SAFETY: inputs from `reached` on were not taken.
                unsafe { self.inputs.clear(reached..range.end) };
            }
        }
    }

    fn poll_part(&self, part: usize, running: &mut Option<Running>, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: our claim holds the part; the first poll, and no other, takes its input.
        let input = || unsafe { self.inputs.take(part) };
        match ready!(poll_kernel(self.kernel, running, input, cx)) {
            Ok(output) => {
                // SAFETY: our claim holds the part; its input was taken, and its output is written once.
                unsafe { self.outputs.put(part, output) };
                self.wrote(part..part + 1);
            }
            Err(error) => self.failures.record(self.index(part), error),
        }
        Poll::Ready(())
    }

    fn abandon(&self, part: usize, error: TaskError) {
        self.failures.record(self.index(part), error);
    }

    fn call(&self, same_program: bool) -> Result<Call, TaskError> {
        self.kernel.call_for(same_program)
    }

    fn encode(&self, range: Range<usize>, out: &mut Vec<u8>) -> Result<Part, TaskError> {
        // SAFETY: the claim is out to a worker elsewhere, so its inputs stay in their slots until it ends.
        let inputs = range.clone().map(|part| unsafe { self.inputs.peek(part) });
        encode_items(inputs, out)?;
        Ok(Part {
            first: self.index(range.start),
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
        // The part that is read.
        let at = Cell::new(range.start);
        // The user's own code for that may panic. One net for all: an item costs little more than its bytes.
        let read = panics::catch(|| {
            for part in range.clone() {
                at.set(part);
                let output = remote::read_outcome(&mut rest).unwrap_or(Err(TaskError::Cancelled))?;
                // SAFETY: our claim holds the range; each output is written once.
                unsafe { self.outputs.put(part, output) };
            }
            Ok(())
        });
        match read.and_then(|outcome| outcome) {
            Ok(()) => self.wrote(range),
            Err(error) => {
                self.wrote(range.start..at.get());
                self.failures.record(self.index(at.get()), error);
            }
        }
    }

    fn fail(&self, range: Range<usize>, error: TaskError) {
        self.failures.record(self.index(range.start), error);
        // SAFETY: the claim ends here and its inputs were never taken.
        unsafe { self.inputs.clear(range) };
    }

    fn moot(&self, range: &Range<usize>) -> bool {
        self.failures.before(self.index(range.start))
    }

    fn failure(&self) -> Option<TaskError> {
        self.failures.get().map(|failure| failure.error)
    }
}

impl<K: Kernel> Outcome<Vec<K::Out>, MapError> for MapBody<K> {
    unsafe fn take(&self) -> Option<Result<Vec<K::Out>, MapError>> {
        (!self.outputs.were_taken()).then(|| MapBody::take(self))
    }

    fn whole(&self, error: TaskError) -> MapError {
        MapError {
            index: self.first,
            error,
        }
    }
}

impl<K: Kernel> Drop for MapBody<K> {
    fn drop(&mut self) {
        for range in self.written.get_mut().drain(..) {
            // SAFETY: these outputs were written and not taken, and the last reference to the job is gone.
            unsafe { self.outputs.clear(range) };
        }
    }
}
