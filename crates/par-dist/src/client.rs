//! The submitting side of a peer: jobs wait here, go out as messages, and end with what comes back.
//!
//! 1. Only the peer's own thread publishes and collects. So a reply cannot come before its message is known here.
//! 2. A message is entered under the lock under which it was published. Who withdraws does so under that lock too.
//! 3. Whatever ends a claim runs code of others (callbacks, wakers, observers): never under the lock.

use crate::broker::{Arrival, Broker, BrokerError, CallId, MessageId, Outgoing, PeerId, Verdict};
use par_core::TaskError;
use par_core::engine::{Refused, Room};
use par_core::job::{Claim, Job, JobId};
use par_core::observe::Observers;
use par_core::share::Recorder;
use par_core::{Claimant, wire};
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// The most messages of one transaction.
const BATCH: usize = 512;
/// Payloads of one transaction, about.
const BATCH_BYTES: usize = 4 << 20;
/// Payloads that are published and not yet answered, about.
const OUT_BYTES: usize = 256 << 20;

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

/// What a task that did not reach the broker ends with.
fn unsent(error: &BrokerError) -> TaskError {
    match error {
        BrokerError::Full { .. } => TaskError::Rejected(error.to_string()),
        // It may be out, and even run.
        _ => TaskError::Broken(error.to_string()),
    }
}
