//! The submitting side of a peer: jobs wait here, go out as messages, and end with what comes back.
//!
//! 1. Only the peer's own thread publishes and collects. So a reply cannot come before its message is known here.
//! 2. A message is entered under the lock under which it was published. Who withdraws does so under that lock too.
//! 3. Whatever ends a claim runs code of others (callbacks, wakers, observers): never under the lock.

mod collect;
mod send;

use crate::broker::{Broker, CallId, MessageId, PeerId};
use par_core::TaskError;
use par_core::engine::{Refused, Room};
use par_core::job::{Claim, Job, JobId};
use par_core::observe::Observers;
use par_core::share::Recorder;
use parking_lot::{Condvar, Mutex};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// What a peer has submitted.
pub(crate) struct Client {
    broker: Arc<dyn Broker>,
    pub(crate) observers: Observers,
    state: Mutex<State>,
    /// Something left the state.
    changed: Condvar,
    /// Jobs that may wait.
    bound: usize,
    /// Messages that may be out at a time.
    window: AtomicUsize,
    ran: AtomicU64,
    lost: AtomicU64,
    cancelled: AtomicU64,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Waiting>,
    /// Claims of lost messages that are to be sent again.
    again: VecDeque<Ready>,
    /// Claims that the peer's thread holds on their way out.
    in_hand: usize,
    out: HashMap<MessageId, Out>,
    out_bytes: usize,
    /// Messages that are out, by job.
    out_of: HashMap<JobId, OutOf>,
    refusing: Option<Refused>,
}

struct Waiting {
    job: Arc<Job>,
    root: Option<PeerId>,
}

struct Ready {
    claim: Claim,
    root: Option<PeerId>,
}

struct Out {
    claim: Claim,
    root: Option<PeerId>,
    bytes: usize,
}

#[derive(Default)]
struct OutOf {
    messages: usize,
    /// Whether the workers were told that it is cancelled.
    raised: bool,
}

/// What only the peer's thread needs to publish.
#[derive(Default)]
pub(crate) struct Desk {
    calls: HashMap<Vec<u8>, CallId>,
    /// The call of the job that was encoded last: jobs come in runs.
    last: Option<(JobId, CallId)>,
    shared: HashSet<Vec<u8>>,
    recorder: Recorder,
}

impl State {
    fn remove(&mut self, id: MessageId) -> Option<Out> {
        let out = self.out.remove(&id)?;
        self.out_bytes -= out.bytes;
        if let Some(of) = self.out_of.get_mut(&out.claim.job().id()) {
            of.messages -= 1;
        }
        Some(out)
    }

    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.again.is_empty() && self.in_hand == 0 && self.out.is_empty()
    }
}

impl Client {
    pub(crate) fn new(broker: Arc<dyn Broker>, bound: usize, window: usize) -> Self {
        Client {
            broker,
            observers: Observers::default(),
            state: Mutex::default(),
            changed: Condvar::new(),
            bound,
            window: AtomicUsize::new(window),
            ran: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
        }
    }

    /// Sets how many messages may be out at a time.
    pub(crate) fn set_window(&self, window: usize) {
        self.window.store(window, Ordering::Relaxed);
    }

    /// Parts that were answered so far.
    pub(crate) fn ran(&self) -> u64 {
        self.ran.load(Ordering::Relaxed)
    }

    /// Parts that went with their worker so far, and were not sent again.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Parts so far that had been leased when their job was cancelled, and that their worker did not begin.
    pub(crate) fn cancelled_there(&self) -> u64 {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Takes a job; `passes` says that the bound does not hold for it (law 8).
    pub(crate) fn submit(
        &self,
        job: Arc<Job>,
        room: Room,
        root: Option<PeerId>,
        passes: bool,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        loop {
            if let Some(refused) = &state.refusing {
                return Err(refused.clone());
            }
            if state.jobs.len() < self.bound || (passes && room != Room::Now) {
                break;
            }
            match room {
                Room::Now => return Err(Refused::Full),
                Room::Wait => self.changed.wait(&mut state),
                Room::Until(at) => {
                    if self.changed.wait_until(&mut state, at).timed_out() && state.jobs.len() >= self.bound {
                        return Err(Refused::Full);
                    }
                }
            }
        }
        state.jobs.push_back(Waiting { job, root });
        drop(state);
        self.broker.wake();
        Ok(())
    }

    /// Counts parts that were run by this process itself.
    pub(crate) fn ran_here(&self, parts: usize) {
        self.ran.fetch_add(parts as u64, Ordering::Relaxed);
    }

    /// Refuses jobs from now on. The first reason stays, except that a broken pool is broken.
    pub(crate) fn refuse(&self, why: Refused) {
        let mut state = self.state.lock();
        if state.refusing.is_none() || matches!(why, Refused::Broken(_)) {
            state.refusing = Some(why);
        }
        self.changed.notify_all();
    }

    /// Ends what waits here and was not published; the number of parts.
    pub(crate) fn fail_waiting(&self, error: &TaskError) -> u64 {
        let (jobs, again) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.jobs), std::mem::take(&mut state.again))
        };
        let mut parts = 0;
        for Waiting { job, .. } in jobs {
            parts += job.unclaimed() as u64;
            job.fail_unclaimed(error);
        }
        for Ready { claim, .. } in again {
            parts += claim.range().len() as u64;
            claim.fail(error.clone());
        }
        self.changed.notify_all();
        parts
    }

    /// The jobs that have messages out.
    pub(crate) fn jobs_out(&self) -> Vec<Arc<Job>> {
        let state = self.state.lock();
        let mut seen = HashSet::new();
        let claims = state.out.values().map(|out| out.claim.job());
        claims
            .filter(|job| seen.insert(job.id()))
            .map(Arc::clone)
            .collect()
    }

    /// Whether nothing waits here and nothing is out.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.lock().is_idle()
    }

    /// Waits until nothing waits here and nothing is out; false when the deadline passes first.
    pub(crate) fn wait_idle(&self, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.is_idle() {
                return true;
            }
            match deadline {
                None => self.changed.wait(&mut state),
                Some(at) => {
                    if self.changed.wait_until(&mut state, at).timed_out() {
                        return state.is_idle();
                    }
                }
            }
        }
    }
}
