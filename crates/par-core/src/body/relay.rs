//! The body of a relayed claim: parts of a job in another process, passed on as one part of a job in this one.

use crate::error::TaskError;
use crate::job::{Body, Job, Spec};
use crate::observe::Observers;
use crate::plan::{Plan, Schedule};
use crate::registry;
use crate::remote::{Call, Part, Prepared};
use crate::share::{self, AnyShare};
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::Arc;

/// A claim that was encoded in another process: a worker's task submitted to the pool that it belongs to.
pub struct Relay {
    /// How the code is found.
    pub call: Call,
    /// Which items the input holds.
    pub part: Part,
    /// The encoded items.
    pub input: Vec<u8>,
    /// The shared values that the input names.
    pub shares: Vec<Arc<dyn AnyShare>>,
    /// Whether it may be run again after a loss.
    pub idempotent: bool,
    /// How often it may be delivered, if it may be run again.
    pub attempts: u32,
}

type End = Box<dyn FnOnce(Result<&[u8], TaskError>) + Send>;

struct RelayBody {
    relay: Relay,
    /// Taken by the first end.
    end: Mutex<Option<End>>,
    failed: Mutex<Option<TaskError>>,
}

impl RelayBody {
    fn end(&self, outcome: Result<&[u8], TaskError>) {
        if let Err(error) = &outcome {
            *self.failed.lock() = Some(error.clone());
        }
        let end = self.end.lock().take();
        if let Some(end) = end {
            end(outcome);
        }
    }
}

impl Body for RelayBody {
    fn run(&self, _: Range<usize>) {
        let Relay {
            call, part, input, ..
        } = &self.relay;
        match Prepared::new(call) {
            Ok(prepared) => {
                let mut reply = Vec::new();
                prepared.run(*part, input, &mut reply);
                self.end(Ok(&reply));
            }
            Err(error) => self.end(Err(error)),
        }
    }

    fn call(&self, same_program: bool) -> Result<Call, TaskError> {
        if !same_program && self.relay.call.task_name().is_none() {
            return Err(TaskError::Rejected(
                "a relayed function has no name by which the workers of this engine could find it".to_owned(),
            ));
        }
        Ok(self.relay.call.clone())
    }

    fn encode(&self, _: Range<usize>, out: &mut Vec<u8>) -> Result<Part, TaskError> {
        self.relay.shares.iter().for_each(share::note);
        out.extend_from_slice(&self.relay.input);
        Ok(self.relay.part)
    }

    fn complete(&self, _: Range<usize>, reply: &[u8]) {
        self.end(Ok(reply));
    }

    fn fail(&self, _: Range<usize>, error: TaskError) {
        self.end(Err(error));
    }

    fn failure(&self) -> Option<TaskError> {
        self.failed.lock().clone()
    }

    fn ended_early(&self, error: &TaskError) {
        self.end(Err(error.clone()));
    }
}

impl Job {
    /// A job of one part that stands for a claim of another process. `on_end` gets the worker's reply, for
    /// [`Claim::complete`](crate::job::Claim::complete) over there, or the error to fail that claim with; it is called once.
    ///
    /// For engines whose workers hand what their tasks submit to the process that holds the pool.
    pub fn relay(
        relay: Relay,
        observers: &Observers,
        on_end: impl FnOnce(Result<&[u8], TaskError>) + Send + 'static,
    ) -> Arc<Job> {
        let known = relay.call.task_name().and_then(|name| registry::find(name).ok());
        let plan = Plan::default().attempts(relay.attempts.max(1));
        let name = known.map_or("relay", |found| found.name());
        let spec = Spec::new(name, relay.idempotent, &plan, observers);
        let body = RelayBody {
            relay,
            end: Mutex::new(Some(Box::new(on_end))),
            failed: Mutex::new(None),
        };
        Job::new(spec, 1, Schedule::single(), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Claimant;
    use crate::share::Recorder;
    use std::sync::mpsc::channel;

    #[par_macros::task]
    fn triple(x: u64) -> u64 {
        3 * x
    }

    fn relay_of(x: u64) -> Relay {
        Relay {
            call: Call::to_task::<triple>(),
            part: Part { first: 0, items: 1 },
            input: crate::wire::to_bytes(&x).expect("a number"),
            shares: Vec::new(),
            idempotent: true,
            attempts: 2,
        }
    }

    #[test]
    fn a_relay_passes_on_its_bytes_and_ends_once() {
        let (tell, told) = channel();
        let job = Job::relay(relay_of(7), &Observers::default(), move |outcome| {
            // The test may have failed and gone.
            let _ = tell.send(outcome.map(<[u8]>::to_vec));
        });
        assert!(job.name().ends_with("triple"), "{}", job.name());
        assert_eq!((job.idempotent(), job.attempts()), (true, 2));
        let mut claim = job.claim(Claimant::Any).expect("one part");
        let (mut bytes, mut shares) = (Vec::new(), Recorder::new());
        let part = claim.encode(&mut bytes, &mut shares).expect("bytes");
        assert_eq!((part.items, bytes), (1, vec![7]));
        claim.delivered(0);
        claim.fail(TaskError::Cancelled);
        assert_eq!(told.try_recv(), Ok(Err(TaskError::Cancelled)));
        drop(job);
        assert!(told.try_recv().is_err(), "it ended a second time");
    }

    #[test]
    fn a_relay_runs_here_as_well() {
        let (tell, told) = channel();
        let job = Job::relay(relay_of(7), &Observers::default(), move |outcome| {
            // The test may have failed and gone.
            let _ = tell.send(outcome.map(<[u8]>::to_vec));
        });
        job.claim(Claimant::Any).expect("one part").run();
        assert!(job.is_done());
        let reply = told.try_recv().expect("ended").expect("a value");
        assert_eq!(reply.last(), Some(&21));
    }
}
