//! How jobs become messages and go out.

use super::{Client, Desk, Out, Ready, State};
use crate::broker::{BrokerError, CallId, MessageId, Outgoing};
use par_core::TaskError;
use par_core::engine::Refused;
use par_core::job::Claim;
use par_core::{Claimant, wire};
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The most messages of one transaction.
const BATCH: usize = 512;
/// Payloads of one transaction, about.
const BATCH_BYTES: usize = 4 << 20;
/// Payloads that are published and not yet answered, about.
const OUT_BYTES: usize = 256 << 20;

impl Client {
    /// Publishes what there is room for; whether anything went out.
    pub(crate) fn publish(&self, desk: &mut Desk) -> Result<bool, BrokerError> {
        let ready = self.take_ready();
        if ready.is_empty() {
            return Ok(false);
        }
        let held = ready.len();
        let mut batch = Vec::with_capacity(held);
        let mut claims = Vec::with_capacity(held);
        let mut refused = Vec::new();
        let mut result = Ok(true);
        for mut ready in ready {
            match self.prepare(&mut ready, desk) {
                Ok(Ok(message)) => {
                    batch.push(message);
                    claims.push(ready);
                }
                Ok(Err(error)) => refused.push((ready.claim, error)),
                Err(error) => {
                    refused.push((ready.claim, unsent(&error)));
                    result = Err(error);
                }
            }
        }
        let mut state = self.state.lock();
        state.in_hand -= held;
        refused.extend(self.send(&mut state, batch, claims, &mut result));
        self.changed.notify_all();
        drop(state);
        for (claim, error) in refused {
            claim.fail(error);
        }
        result
    }

    /// Claims as many parts as there is room for.
    fn take_ready(&self) -> Vec<Ready> {
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            let front = {
                let mut state = self.state.lock();
                let room = self
                    .window
                    .load(Ordering::Relaxed)
                    .saturating_sub(state.out.len() + ready.len());
                if room == 0 || ready.len() >= BATCH || state.out_bytes >= OUT_BYTES {
                    return ready;
                }
                if let Some(again) = state.again.pop_front() {
                    state.in_hand += 1;
                    ready.push(again);
                    continue;
                }
                let Some(front) = state.jobs.front() else {
                    return ready;
                };
                (Arc::clone(&front.job), front.root, room.min(BATCH - ready.len()))
            };
            let (job, root, room) = front;
            // Claiming may end parts that are moot, and with them the job: not under the lock.
            let before = ready.len();
            while ready.len() < before + room
                && let Some(claim) = job.claim(Claimant::Any)
            {
                ready.push(Ready { claim, root });
            }
            let mut state = self.state.lock();
            state.in_hand += ready.len() - before;
            if job.unclaimed() == 0 {
                // Almost always it is still the front; who goes through all of them slows with their number.
                match state.jobs.front() {
                    Some(front) if front.job.id() == job.id() => drop(state.jobs.pop_front()),
                    _ => state.jobs.retain(|waiting| waiting.job.id() != job.id()),
                }
                self.changed.notify_all();
            }
            // Large inputs are encoded a few at a time; the size is not known before, so what came is a guess.
            if ready.len() - before == room {
                return ready;
            }
        }
    }

    /// Encodes a claim and stores what it needs. The inner error is the claim's own, the outer one the broker's.
    fn prepare(
        &self,
        ready: &mut Ready,
        desk: &mut Desk,
    ) -> Result<Result<Outgoing, TaskError>, BrokerError> {
        let claim = &mut ready.claim;
        let job = claim.job().id();
        let call = match desk.last {
            Some((last, call)) if last == job => call,
            _ => match claim.call(false) {
                Ok(call) => {
                    let call = match wire::to_bytes(&call) {
                        Ok(bytes) => self.call_id(bytes, desk)?,
                        Err(error) => return Ok(Err(TaskError::Codec(error.to_string()))),
                    };
                    desk.last = Some((job, call));
                    call
                }
                Err(error) => return Ok(Err(error)),
            },
        };
        let mut payload = Vec::new();
        let part = match claim.encode(&mut payload, &mut desk.recorder) {
            Ok(part) => part,
            Err(error) => return Ok(Err(error)),
        };
        let longest = self.broker.longest();
        if payload.len() > longest {
            let text = format!(
                "inputs of {} bytes in one message, at most {longest} are taken",
                payload.len()
            );
            return Ok(Err(TaskError::Codec(text)));
        }
        let mut keys = Vec::new();
        if !desk.recorder.is_empty() {
            for share in desk.recorder.take() {
                let start = keys.len();
                let bytes = match wire::encode(&share.id(), &mut keys)
                    .map_err(|e| TaskError::Codec(e.to_string()))
                    .and_then(|()| share.bytes())
                {
                    Ok(bytes) => bytes,
                    Err(error) => return Ok(Err(error)),
                };
                if !desk.shared.contains(&keys[start..]) {
                    self.broker.put_share(&keys[start..], &bytes)?;
                    desk.shared.insert(keys[start..].to_vec());
                }
            }
        }
        claim.delivered(None);
        Ok(Ok(Outgoing {
            job: job.0,
            root: ready.root,
            call,
            part,
            shares: keys,
            payload,
        }))
    }

    fn call_id(&self, bytes: Vec<u8>, desk: &mut Desk) -> Result<CallId, BrokerError> {
        if let Some(id) = desk.calls.get(&bytes) {
            return Ok(*id);
        }
        let id = self.broker.store_call(&bytes)?;
        desk.calls.insert(bytes, id);
        Ok(id)
    }

    /// Publishes a batch (rule 2) and returns the claims that did not go, with the reason of each.
    fn send(
        &self,
        state: &mut MutexGuard<'_, State>,
        mut batch: Vec<Outgoing>,
        mut claims: Vec<Ready>,
        result: &mut Result<bool, BrokerError>,
    ) -> Vec<(Claim, TaskError)> {
        let mut refused = Vec::new();
        let mut index = 0;
        while index < claims.len() {
            // Cancelled while it was encoded: nobody withdrew it, for it was not out.
            let cancelled = claims[index]
                .claim
                .job()
                .is_cancelled()
                .then_some(TaskError::Cancelled);
            let reason = cancelled.or_else(|| {
                state
                    .refusing
                    .clone()
                    .filter(|r| *r != Refused::Closed)
                    .map(Into::into)
            });
            match reason {
                Some(reason) => {
                    batch.swap_remove(index);
                    refused.push((claims.swap_remove(index).claim, reason));
                }
                None => index += 1,
            }
        }
        let mut start = 0;
        while start < batch.len() {
            let mut end = start;
            let mut bytes = 0;
            while end < batch.len() && (end == start || bytes + batch[end].payload.len() <= BATCH_BYTES) {
                bytes += batch[end].payload.len();
                end += 1;
            }
            let count = end - start;
            let outcome = match self.broker.publish(&batch[start..end]) {
                // What has no room together may have it one by one.
                Err(BrokerError::Full { .. }) if count > 1 => {
                    for (message, ready) in batch[start..end].iter().zip(claims.drain(..count)) {
                        match self.broker.publish(std::slice::from_ref(message)) {
                            Ok(ids) => Self::enter(state, &ids, [(message, ready)]),
                            Err(error) => refused.push((ready.claim, unsent(&error))),
                        }
                    }
                    Ok(())
                }
                Ok(ids) => {
                    Self::enter(state, &ids, batch[start..end].iter().zip(claims.drain(..count)));
                    Ok(())
                }
                Err(error) => {
                    refused.extend(claims.drain(..count).map(|ready| (ready.claim, unsent(&error))));
                    Err(error)
                }
            };
            if let Err(error) = outcome
                && !matches!(error, BrokerError::Full { .. })
            {
                *result = Err(error);
            }
            start = end;
        }
        refused
    }

    fn enter<'a>(
        state: &mut State,
        ids: &[MessageId],
        sent: impl IntoIterator<Item = (&'a Outgoing, Ready)>,
    ) {
        for (id, (message, ready)) in ids.iter().zip(sent) {
            let bytes = message.payload.len();
            state.out_bytes += bytes;
            state.out_of.entry(ready.claim.job().id()).or_default().messages += 1;
            state.out.insert(
                *id,
                Out {
                    claim: ready.claim,
                    root: ready.root,
                    bytes,
                },
            );
        }
    }
}

/// What a task that did not reach the broker ends with.
fn unsent(error: &BrokerError) -> TaskError {
    match error {
        BrokerError::Full { .. } => TaskError::Rejected(error.to_string()),
        // It may be out, and even run.
        _ => TaskError::Broken(error.to_string()),
    }
}
