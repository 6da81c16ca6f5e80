//! What workers say: replies, what their tasks submit, how they are.

use super::Hub;
use super::seat::State;
use crate::arena::Side;
use crate::protocol::{Ended, Hello, Replies, Submit, down, put_answer, read_number, up};
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
    /// Deals with a frame of the worker that sat there in that life; the error says why it makes no sense.
    pub(super) fn hear(&self, index: usize, life: u64, kind: u8, payload: &[u8]) -> Result<(), String> {
        match kind {
            up::HELLO => self.hello(index, life, wire::from_bytes(payload).map_err(text)?),
            up::REPLIES => return self.replies(index, life, payload),
            up::SUBMIT => return self.submitted(index, life, payload),
            up::BLOCKED => self.blocked(index, life, read_number(payload).map_err(text)?),
            up::CANCEL => {
                let (id, kill) = payload
                    .split_last_chunk::<1>()
                    .ok_or("a number was expected")
                    .map(|(id, [kill])| (id, *kill != 0))?;
                if let Some(job) = self.nested_job(index, life, read_number(id).map_err(text)?) {
                    job.cancel();
                    self.cancel(&job, kill);
                }
            }
            up::PREFER => {
                if let Some(job) = self.nested_job(index, life, read_number(payload).map_err(text)?) {
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
                self.living(index, life, |state| state.foreign.insert(id, value));
            }
            up::WORN => {
                let back = self.living(index, life, |state| {
                    state.worn = true;
                    state.recall()
                });
                self.give_back(back.unwrap_or_default());
            }
            up::EVICT => {
                let id: ShareId = wire::from_bytes(payload).map_err(text)?;
                self.evict(id);
            }
            other => return Err(format!("a frame of the unknown kind {other}")),
        }
        Ok(())
    }

    /// Changes the seat if that worker still sits there. What `change` returns is dropped outside of the lock.
    fn living<R>(&self, index: usize, life: u64, change: impl FnOnce(&mut State) -> R) -> Option<R> {
        let mut state = self.seats[index].state.lock();
        (state.life == life).then(|| change(&mut state))
    }

    fn hello(&self, index: usize, life: u64, hello: Hello) {
        let failed = match hello {
            Hello::Ready { arena } => {
                let pid = self.living(index, life, |state| {
                    if let (Some(link), Some(pen)) = (&mut state.link, &mut state.pen) {
                        link.arena.take_if(|_| !arena);
                        pen.arena.clone_from(&link.arena);
                    }
                    state.link.as_ref().map(|link| link.child.id())
                });
                let Some(pid) = pid else { return };
                // Before anybody who waits for the worker goes on: who watches from then on does not take it for another.
                self.observers.emit(|| Event::WorkerUp { worker: index, pid });
                self.living(index, life, |state| state.ready = true);
                self.health.lock().ready += 1;
                self.health_changed.notify_all();
                return;
            }
            Hello::Initializer(error) => StartError::Initializer { worker: index, error },
            Hello::Refused(text) => StartError::Unavailable(format!("worker {index}: {text}")),
        };
        let why = failed.to_string();
        let unwanted = self.living(index, life, |state| state.killed.is_some());
        let first = {
            let mut health = self.health.lock();
            // Whoever waits for workers is told, also where a pool grows; but of one that is not wanted any more nobody hears.
            if unwanted != Some(true) {
                health.failed.get_or_insert(failed);
            }
            !health.started
        };
        self.health_changed.notify_all();
        // Once the pool has started, this is one more death.
        if !first {
            self.worker_gone(index, life, &why);
        }
    }

    pub(super) fn replies(&self, index: usize, life: u64, payload: &[u8]) -> Result<(), String> {
        let mut replies = Replies::new(payload);
        let mut found = Vec::new();
        let mut arena = None;
        // Under one lock for all of them.
        let read = self.living(index, life, |state| {
            let link = state.link.as_ref();
            arena = link.and_then(|link| link.arena.clone());
            while let Some(reply) = replies.next()? {
                let took = Duration::from_nanos(reply.took_ns);
                state.took(took);
                // What was given up, or recalled and begun all the same by a worker that errs, has no claim any more.
                let claim = state.answered(reply.number).map(|taken| taken.claim);
                if claim.is_some() || matches!(reply.ended, Ended::Shared(_)) {
                    found.push((claim, took, reply.ended));
                }
            }
            state.since = Instant::now();
            Ok::<(), crate::protocol::Bad>(())
        });
        let now = Instant::now();
        let mut count = 0;
        let mut missing = false;
        for (claim, took, ended) in found {
            let (reply, release) = match ended {
                Ended::Reply(reply) => (Ok(reply), None),
                Ended::Failed(error) => (Err(error), None),
                Ended::Shared(place) => {
                    let bytes = arena
                        .as_deref()
                        .and_then(|arena| arena.get(Side::Up, place.offset, place.length));
                    missing |= bytes.is_none();
                    let reply = bytes.ok_or_else(|| TaskError::Codec("reply: it lies nowhere".to_owned()));
                    (reply, Some(place.release))
                }
            };
            if let Some(mut claim) = claim {
                count += 1;
                claim.begun();
                self.ran.fetch_add(claim.range().len() as u64, Ordering::Relaxed);
                match reply {
                    Ok(reply) => claim.complete(reply, index, now.checked_sub(took).unwrap_or(now), took),
                    Err(error) => claim.fail(error),
                }
            }
            // In the order in which they were written, whoever still wanted them.
            if let Some(release) = release {
                self.living(index, life, |state| {
                    if let Some(link) = &state.link {
                        link.page.free(release);
                    }
                });
            }
        }
        self.queue.ended(count);
        if missing {
            return Err("a reply lies outside of the memory for it".to_owned());
        }
        // What was readable counts, whatever came after it.
        read.unwrap_or(Ok(())).map_err(text)
    }

    fn blocked(&self, index: usize, life: u64, threads: u64) {
        let recalled = self.living(index, life, |state| {
            let before = state.blocked;
            // A worker with so many threads has other troubles.
            state.blocked = usize::try_from(threads).unwrap_or(0).min(1 << 16);
            // Its free place is for what its tasks wait for, before what was sent ahead.
            if state.blocked > before {
                state.recall()
            } else {
                Vec::new()
            }
        });
        self.give_back(recalled.unwrap_or_default());
    }

    fn nested_job(&self, index: usize, life: u64, id: u64) -> Option<Arc<Job>> {
        self.living(index, life, |state| state.nested.get(&id).and_then(Weak::upgrade))?
    }

    /// A task waits for the job: it goes first.
    fn prefer(&self, job: &Arc<Job>) {
        if self.queue.prefer(job.id()) {
            return;
        }
        for seat in self.seats.iter() {
            let back = {
                let mut state = seat.state.lock();
                let begun = state.begun();
                let waits = state
                    .flight
                    .iter()
                    .skip(begun)
                    .any(|flight| flight.taken.claim.job().id() == job.id());
                if !waits {
                    continue;
                }
                state.recall()
            };
            self.give_back(back);
            self.queue.prefer(job.id());
            return;
        }
    }

    fn submitted(&self, index: usize, life: u64, payload: &[u8]) -> Result<(), String> {
        let mut rest = payload;
        let Submit {
            id,
            call,
            part,
            idempotent,
            attempts,
            shares,
        } = wire::decode(&mut rest).map_err(text)?;
        let found = self.living(index, life, |state| {
            shares
                .iter()
                .map(|id| state.foreign.get(id).cloned())
                .collect::<Option<Vec<_>>>()
        });
        let Some(shares) = found else { return Ok(()) };
        let relay = Relay {
            call,
            part,
            input: rest.to_vec(),
            shares: shares.ok_or("a submitted part names a shared value that was not sent")?,
            idempotent,
            attempts,
        };
        let hub = Weak::clone(&self.me);
        let job = Job::relay(relay, &self.observers, move |outcome| {
            if let Some(hub) = hub.upgrade() {
                hub.answer(index, life, id, outcome);
            }
        });
        self.living(index, life, |state| state.nested.insert(id, Arc::downgrade(&job)));
        if let Err(error) = self.queue.submit_nested(Arc::clone(&job)) {
            job.fail_unclaimed(&error);
        }
        Ok(())
    }

    fn answer(&self, index: usize, life: u64, id: u64, outcome: Result<&[u8], TaskError>) {
        self.living(index, life, |state| {
            state.nested.remove(&id);
            state.send(|out| {
                // Infallible: it writes into memory.
                let _ = wire::append_frame(out, down::ANSWER, |out| {
                    put_answer(out, id, outcome.as_deref());
                    Ok::<(), wire::WireError>(())
                });
            });
            if state.is_clogged() {
                self.pump.kick();
            }
        });
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
