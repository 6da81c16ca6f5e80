//! What workers say: replies, what their tasks submit, how they are.

use super::Hub;
use crate::protocol::{Ended, Hello, Replies, Submit, down, put_answer, read_number, read_numbers, up};
use par_core::job::{Job, Relay};
use par_core::share::AnyShare;
use par_core::{Event, ShareId, StartError, TaskError, wire};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// A shared value that was made in a worker.
struct Foreign {
    id: ShareId,
    value: Arc<[u8]>,
}

impl AnyShare for Foreign {
    fn id(&self) -> ShareId {
        self.id
    }
    fn bytes(&self) -> Result<Arc<[u8]>, TaskError> {
        Ok(Arc::clone(&self.value))
    }
}

impl Hub {
    /// Deals with a message of the worker on that seat; the error says why it makes no sense.
    pub(super) fn hear(&self, index: usize, kind: u32, payload: &[u8]) -> Result<(), String> {
        match kind {
            up::HELLO => self.hello(index, wire::from_bytes(payload).map_err(text)?),
            up::REPLIES => return self.replies(index, payload),
            up::SUBMIT => return self.submitted(index, payload),
            up::BLOCKED => {
                let (threads, returned) = payload.split_first_chunk().ok_or("a number was expected")?;
                // A worker with so many threads has other troubles.
                let threads = usize::try_from(u64::from_le_bytes(*threads))
                    .unwrap_or(0)
                    .min(1 << 16);
                self.seats[index].state.lock().blocked = threads;
                self.returned(index, returned)?;
            }
            up::RETURNED => {
                {
                    let mut state = self.seats[index].state.lock();
                    state.recalls = state.recalls.saturating_sub(1);
                }
                self.returned(index, payload)?;
            }
            up::CANCEL => {
                let (id, _) = payload.split_last_chunk::<1>().ok_or("a number was expected")?;
                if let Some(job) = self.nested_job(index, read_number(id).map_err(text)?) {
                    job.cancel();
                    self.cancel(&job);
                }
            }
            up::PREFER => {
                if let Some(job) = self.nested_job(index, read_number(payload).map_err(text)?) {
                    self.prefer(&job);
                }
            }
            up::SHARE => {
                let mut rest = payload;
                let id: ShareId = wire::decode(&mut rest).map_err(text)?;
                let value: Arc<dyn AnyShare> = Arc::new(Foreign {
                    id,
                    value: rest.into(),
                });
                let before = self.seats[index].state.lock().foreign.insert(id, value);
                drop(before);
            }
            up::EVICT => {
                let id: ShareId = wire::from_bytes(payload).map_err(text)?;
                self.evict(id);
            }
            up::ENDED => {
                self.seats[index].state.lock().ended = true;
                self.health.lock().ended += 1;
                self.health_changed.notify_all();
            }
            other => return Err(format!("a message of the unknown kind {other}")),
        }
        Ok(())
    }

    fn hello(&self, index: usize, hello: Hello) {
        let failed = match hello {
            Hello::Ready(pid) => {
                self.seats[index].state.lock().ready = true;
                self.health.lock().ready += 1;
                self.health_changed.notify_all();
                return self.observers.emit(|| Event::WorkerUp {
                    worker: index,
                    pid: Some(pid),
                });
            }
            Hello::Initializer(error) => StartError::Initializer { worker: index, error },
            Hello::Thread(text) => {
                let rank = index + 1;
                StartError::Unavailable(format!("rank {rank} cannot start a thread for its tasks: {text}"))
            }
        };
        self.health.lock().failed.get_or_insert(failed);
        self.health_changed.notify_all();
    }

    fn replies(&self, index: usize, payload: &[u8]) -> Result<(), String> {
        let mut replies = Replies::new(payload);
        let mut found = Vec::new();
        // Under one lock for all of them.
        {
            let mut state = self.seats[index].state.lock();
            while let Some(reply) = replies.next().map_err(text)? {
                let took = Duration::from_nanos(reply.took_ns);
                state.took(took);
                // What was given up has no claim any more.
                if let Some(taken) = state.landed(reply.number) {
                    found.push((taken.claim, took, reply.ended));
                }
            }
            state.since = Instant::now();
        }
        let now = Instant::now();
        let count = found.len();
        for (mut claim, took, ended) in found {
            claim.begun();
            self.ran.fetch_add(claim.range().len() as u64, Ordering::Relaxed);
            match ended {
                Ended::Reply(reply) => {
                    claim.complete(reply, index, now.checked_sub(took).unwrap_or(now), took)
                }
                Ended::Failed(error) => claim.fail(error),
            }
        }
        self.queue.ended(count);
        Ok(())
    }

    /// Requests come back that were not begun.
    fn returned(&self, index: usize, numbers: &[u8]) -> Result<(), String> {
        let back = {
            let mut state = self.seats[index].state.lock();
            let numbers = read_numbers(numbers).map_err(text)?;
            numbers.filter_map(|number| state.landed(number)).collect()
        };
        self.give_back(back);
        Ok(())
    }

    fn nested_job(&self, index: usize, id: u64) -> Option<Arc<Job>> {
        self.seats[index]
            .state
            .lock()
            .nested
            .get(&id)
            .and_then(Weak::upgrade)
    }

    /// A task waits for the job: it goes first. Where it waits on another rank, that gives it back.
    fn prefer(&self, job: &Arc<Job>) {
        let id = job.id();
        if self.queue.prefer(id) {
            return;
        }
        for (index, seat) in self.seats.iter().enumerate() {
            let mut state = seat.state.lock();
            if state.flies(id) {
                state.recalls += 1;
                self.say(index, down::RECALL, |out| {
                    out.extend_from_slice(&id.0.to_le_bytes())
                });
            }
        }
    }

    fn submitted(&self, index: usize, payload: &[u8]) -> Result<(), String> {
        let mut rest = payload;
        let Submit {
            id,
            call,
            part,
            idempotent,
            attempts,
            shares,
        } = wire::decode(&mut rest).map_err(text)?;
        let found: Option<Vec<_>> = {
            let state = self.seats[index].state.lock();
            shares.iter().map(|id| state.foreign.get(id).cloned()).collect()
        };
        let relay = Relay {
            call,
            part,
            input: rest.to_vec(),
            shares: found.ok_or("a submitted part names a shared value that was not sent")?,
            idempotent,
            attempts,
        };
        let hub = Weak::clone(&self.me);
        let job = Job::relay(relay, &self.observers, move |outcome| {
            if let Some(hub) = hub.upgrade() {
                hub.answer(index, id, outcome);
            }
        });
        let weak = Arc::downgrade(&job);
        self.seats[index].state.lock().nested.insert(id, weak);
        if let Err(error) = self.queue.submit_nested(Arc::clone(&job)) {
            job.fail_unclaimed(&error);
        }
        Ok(())
    }

    fn answer(&self, index: usize, id: u64, outcome: Result<&[u8], TaskError>) {
        let mut state = self.seats[index].state.lock();
        state.nested.remove(&id);
        if !state.ended {
            self.say(index, down::ANSWER, |out| put_answer(out, id, outcome.as_deref()));
        }
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
