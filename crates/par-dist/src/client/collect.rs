//! How what is out comes back: answered, lost, taken back or given up.

use super::{Client, Out, Ready, State};
use crate::broker::{Arrival, BrokerError, MessageId, PeerId, Verdict};
use par_core::TaskError;
use par_core::job::{Claim, Job, JobId};
use std::sync::atomic::Ordering;
use std::time::Instant;

impl Client {
    /// Ends claims with what came back; whether anything did. `worker` gives the index of a peer.
    pub(crate) fn collect(&self, worker: impl Fn(PeerId) -> usize) -> Result<bool, BrokerError> {
        if self.state.lock().out.is_empty() {
            return Ok(false);
        }
        let arrivals = self.broker.collect(16 << 20)?;
        if arrivals.is_empty() {
            return Ok(false);
        }
        let mut ended = Vec::with_capacity(arrivals.len());
        let mut lowered = Vec::new();
        {
            let mut state = self.state.lock();
            for arrival in arrivals {
                // A message that was withdrawn or given up has no claim any more.
                if let Some(out) = state.remove(arrival.id) {
                    let job = out.claim.job().id();
                    if state.out_of.get(&job).is_some_and(|of| of.messages == 0)
                        && state.out_of.remove(&job).is_some_and(|of| of.raised)
                    {
                        lowered.push(job);
                    }
                    // Counted as in hand until it has ended, so that nobody takes this peer for idle before.
                    state.in_hand += 1;
                    ended.push((out, arrival));
                }
            }
        }
        let count = ended.len();
        for (out, arrival) in ended {
            self.end(out, arrival, &worker);
        }
        let mut state = self.state.lock();
        state.in_hand -= count;
        self.changed.notify_all();
        drop(state);
        for job in lowered {
            self.broker.lower(job.0)?;
        }
        Ok(true)
    }

    fn end(&self, out: Out, arrival: Arrival, worker: impl Fn(PeerId) -> usize) {
        let Out { mut claim, root, .. } = out;
        let parts = claim.range().len() as u64;
        match arrival.verdict {
            Verdict::Reply(bytes) => {
                let now = Instant::now();
                let started = now.checked_sub(arrival.took).unwrap_or(now);
                self.ran.fetch_add(parts, Ordering::Relaxed);
                claim.complete(&bytes, worker(arrival.worker), started, arrival.took);
            }
            Verdict::Failed(error) => {
                let ended = match error {
                    // Its worker heard of it before it ran anything.
                    TaskError::Cancelled => &self.cancelled,
                    _ => &self.ran,
                };
                ended.fetch_add(parts, Ordering::Relaxed);
                claim.fail(error);
            }
            Verdict::Lost { begun, reason } => {
                if begun {
                    claim.begun();
                }
                match claim.lost(&reason) {
                    Some(claim) => self.state.lock().again.push_back(Ready { claim, root }),
                    None => {
                        // What was never begun is sent again unless nobody wants it any more.
                        let ended = if begun { &self.lost } else { &self.cancelled };
                        ended.fetch_add(parts, Ordering::Relaxed);
                    }
                }
            }
        }
    }

    /// After `job.cancel()`: takes back what no worker has, and tells those that have the rest. The number of parts that were
    /// taken back, and whether workers have some.
    pub(crate) fn cancel(&self, job: &Job) -> Result<(u64, bool), BrokerError> {
        let id = job.id();
        let mut state = self.state.lock();
        state
            .jobs
            .retain(|waiting| waiting.job.id() != id || waiting.job.unclaimed() > 0);
        let mut taken = Vec::new();
        let mut held = false;
        if state.out_of.contains_key(&id) {
            for message in self.broker.withdraw(id.0, usize::MAX)? {
                taken.extend(state.remove(message));
            }
            held = state.out_of.get(&id).is_some_and(|of| of.messages > 0);
            if !held {
                state.out_of.remove(&id);
            } else if let Some(of) = state.out_of.get_mut(&id)
                && !of.raised
            {
                of.raised = true;
                self.broker.raise(id.0)?;
            }
        }
        self.changed.notify_all();
        drop(state);
        let mut parts = 0;
        for out in taken {
            parts += out.claim.range().len() as u64;
            out.claim.fail(TaskError::Cancelled);
        }
        Ok((parts, held))
    }

    /// Takes one claim of a job back that is out and that nobody has leased (law 9).
    pub(crate) fn take_back(&self, job: JobId) -> Option<Claim> {
        let mut state = self.state.lock();
        if !state.out_of.contains_key(&job) {
            return None;
        }
        let ids = self.broker.withdraw(job.0, 1).ok()?;
        self.taken(&mut state, ids.first().copied()?)
    }

    /// Takes the claim of a message back that this peer has leased itself and ended without a reply.
    pub(crate) fn reclaimed(&self, id: MessageId) -> Option<Claim> {
        self.taken(&mut self.state.lock(), id)
    }

    fn taken(&self, state: &mut State, id: MessageId) -> Option<Claim> {
        let out = state.remove(id)?;
        let job = out.claim.job().id();
        // A job that was raised is lowered with the peer: its number is not used again.
        if state.out_of.get(&job).is_some_and(|of| of.messages == 0) {
            state.out_of.remove(&job);
        }
        self.changed.notify_all();
        Some(out.claim)
    }

    /// Ends everything that is out; the number of parts.
    pub(crate) fn give_up(&self, error: impl Fn(&Claim) -> TaskError) -> u64 {
        let out = {
            let mut state = self.state.lock();
            state.out_bytes = 0;
            state.out_of.clear();
            std::mem::take(&mut state.out)
        };
        let mut parts = 0;
        for (_, Out { claim, .. }) in out {
            parts += claim.range().len() as u64;
            let error = error(&claim);
            claim.fail(error);
        }
        self.changed.notify_all();
        parts
    }
}
