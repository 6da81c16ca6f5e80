//! What a peer's threads call: the operations of a broker, most of them on the state alone.

use super::Amqp;
use super::hands::{Key, Offer};
use super::ledger;
use super::letter::{Ended, Letter, Offered, What};
use super::post::To;
use crate::broker::{
    Arrival, Broker, BrokerError, BrokerUrl, CallId, Delivery, Lease, MessageId, Outgoing, Peer, PeerId,
    Result, Settled, Woken,
};
use par_core::remote::Part;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Bodies of outcomes in one letter, about.
const LETTER: usize = 1 << 20;
/// How long a peer that leaves waits for its last letters to be confirmed.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// How long an outcome that could not be kept may wait for its confirmation.
const HEAVY: Duration = Duration::from_secs(60);

impl Broker for Amqp {
    fn place(&self) -> BrokerUrl {
        self.shared.url.clone()
    }

    fn longest(&self) -> usize {
        self.shared.server.longest
    }

    fn me(&self) -> PeerId {
        self.shared.me
    }

    fn store_call(&self, call: &[u8]) -> Result<CallId> {
        let mut state = self.lock();
        let id = self.shared.number(&mut state);
        state.calls.insert(id, call.to_vec());
        Ok(CallId(id))
    }

    fn call(&self, pool: PeerId, id: CallId) -> Result<Option<Vec<u8>>> {
        self.fetch(pool, What::Call(id.0))
    }

    fn initializer(&self, pool: PeerId) -> Result<Option<Vec<u8>>> {
        self.fetch(pool, What::Initializer)
    }

    fn publish(&self, batch: &[Outgoing]) -> Result<Vec<MessageId>> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        let mut ids = Vec::with_capacity(batch.len());
        for message in batch {
            let id = MessageId(shared.number(&mut state));
            let letter = Letter::Offer(Offered {
                pool: shared.me.0,
                id: id.0,
                root: message.root.unwrap_or(shared.me).0,
                job: message.job,
                call: message.call.0,
                first: message.part.first,
                items: message.part.items,
                shares: message.shares.clone(),
            });
            state.ledger.enter(id, message.job);
            shared.post(&mut state, To::Work, letter.seal(&[&message.payload]));
            ids.push(id);
        }
        Ok(ids)
    }

    fn withdraw(&self, job: u64, most: usize) -> Result<Vec<MessageId>> {
        Ok(self.lock().ledger.withdraw(job, most))
    }

    fn reclaim(&self, leases: &[Lease]) -> Result<()> {
        let mut state = self.lock();
        for lease in leases {
            state.ledger.reclaim(lease.id);
            state.hands.end((self.shared.me, lease.id));
        }
        drop(state);
        self.shared.free(leases.iter().copied());
        self.shared.pending.notify_one();
        Ok(())
    }

    fn collect(&self, bytes: usize) -> Result<Vec<Arrival>> {
        Ok(self.lock().ledger.collect(bytes))
    }

    fn raise(&self, job: u64) -> Result<()> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        for worker in state.ledger.raise(job) {
            if worker == shared.me {
                state.hands.raised.insert((shared.me, job));
                shared.ring(|rung| rung.news = true);
            } else {
                let letter = Letter::Raise {
                    pool: shared.me.0,
                    job,
                };
                shared.register(&mut state, worker, letter, &[], 0);
            }
        }
        Ok(())
    }

    fn lower(&self, job: u64) -> Result<()> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        for worker in state.ledger.lower(job) {
            if worker == shared.me {
                state.hands.raised.remove(&(shared.me, job));
            } else {
                let letter = Letter::Lower {
                    pool: shared.me.0,
                    job,
                };
                shared.register(&mut state, worker, letter, &[], 0);
            }
        }
        Ok(())
    }

    fn holders(&self, job: u64) -> Result<Vec<(PeerId, bool)>> {
        let held = self.lock().ledger.holders(job);
        let mut marks: HashMap<PeerId, Option<Vec<i64>>> = HashMap::new();
        let mut begun = |peer: PeerId, id: MessageId| {
            let marks = marks
                .entry(peer)
                .or_insert_with(|| self.shared.folder.marks(peer));
            marks.as_ref().is_none_or(|marks| marks.contains(&id.0))
        };
        Ok(held
            .into_iter()
            .map(|(peer, id)| (peer, begun(peer, id)))
            .collect())
    }

    fn lease(&self, most: usize, bytes: usize) -> Result<Vec<Delivery>> {
        let shared = &*self.shared;
        let mut slots = shared.slots.lock();
        let mut state = shared.state.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        let before = state.hands.level();
        let offers = state.hands.take(most.min(slots.len()), bytes);
        shared.ask(&mut state);
        if state.hands.level() != before {
            shared.pending.notify_one();
        }
        drop(state);
        let delivery = |offer: Offer| {
            let Offer { head, payload, .. } = offer;
            Delivery {
                lease: Lease {
                    id: MessageId(head.id),
                    // As many were taken as there are slots, at most.
                    slot: slots.pop().unwrap_or_default(),
                    apart: false,
                },
                pool: PeerId(head.pool),
                root: PeerId(head.root),
                job: head.job,
                call: CallId(head.call),
                part: Part {
                    first: head.first,
                    items: head.items,
                },
                shares: head.shares,
                payload,
            }
        };
        Ok(offers.into_iter().map(delivery).collect())
    }

    fn pause(&self) {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        if state.hands.level() == 0 {
            return;
        }
        let granted = state.hands.pause();
        shared.release(&mut state, granted);
        shared.pending.notify_one();
    }

    fn has_fetched(&self) -> bool {
        self.lock().hands.has_fetched()
    }

    fn waiting(&self) -> Result<u64> {
        let (tell, told) = mpsc::channel();
        {
            let mut state = self.lock();
            if let Some(error) = &state.failure {
                return Err(error.clone());
            }
            state.counts.push(tell);
        }
        self.shared.pending.notify_one();
        match told.recv_timeout(Duration::from_secs(10)) {
            Ok(Ok(count)) => Ok(count),
            Ok(Err(reason)) => Err(self.failed(reason)),
            Err(_) => {
                Err(self.failed("the server did not tell the length of the queue within 10 s".to_owned()))
            }
        }
    }

    fn begin(&self, lease: Lease) -> Result<bool> {
        self.shared
            .presence
            .begin(lease.slot, lease.id.0)
            .map_err(|error| self.failed(format!("a message cannot be marked as begun: {error}")))
    }

    fn keep(&self, settled: &Settled) -> bool {
        let (kind, body) = ledger::form(&settled.verdict);
        let took = i64::try_from(settled.took.as_micros()).unwrap_or(i64::MAX);
        self.shared
            .presence
            .kept
            .put(settled.lease.id.0, kind.into(), took, &body)
    }

    fn release(&self, leases: &[Lease]) -> Result<()> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        let keys: Vec<Key> = leases
            .iter()
            .filter_map(|lease| state.hands.key_of(lease.id))
            .collect();
        for key in &keys {
            state.hands.end(*key);
        }
        shared.release(&mut state, keys);
        drop(state);
        shared.free(leases.iter().copied());
        shared.pending.notify_one();
        Ok(())
    }

    fn settle(&self, batch: &[Settled]) -> Result<()> {
        let shared = &*self.shared;
        let mut pools: HashMap<PeerId, Vec<&Settled>> = HashMap::new();
        for settled in batch {
            let (_, body) = ledger::form(&settled.verdict);
            let longest = self.longest();
            if body.len() > longest {
                return Err(BrokerError::Full {
                    broker: shared.url.clone(),
                    reason: format!("{} bytes in one message, at most {longest} are taken", body.len()),
                });
            }
            pools.entry(settled.pool).or_default().push(settled);
        }
        let mut state = shared.state.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        let mut last = 0;
        for (pool, list) in pools {
            if pool == shared.me {
                for settled in list {
                    let (kind, body) = ledger::form(&settled.verdict);
                    let ended = Ended {
                        id: settled.lease.id.0,
                        kind,
                        took_us: micros(settled.took),
                        length: body.len() as u64,
                    };
                    // Head and tail are of one making.
                    let _ = state.ledger.end(pool, &[ended], &body);
                    shared.presence.kept.drop_some(usize::from(settled.kept));
                }
                shared.ring(|rung| rung.reply = true);
                continue;
            }
            let mut rest = &list[..];
            while !rest.is_empty() {
                let (letter, bodies, kept) = outcomes(shared.me, rest);
                rest = &rest[bodies.len()..];
                let tail: Vec<&[u8]> = bodies.iter().map(|body| &body[..]).collect();
                last = shared.register(&mut state, pool, letter, &tail, kept);
            }
        }
        // Rule 6: what is not in the file outlives this peer only once the server has it.
        if batch.iter().any(|settled| !settled.kept) {
            let until = Instant::now() + HEAVY;
            while state.outbox.confirmed() < last && state.failure.is_none() && !state.leaving {
                if shared.changed.wait_until(&mut state, until).timed_out() {
                    break;
                }
            }
        }
        state.told.0 = state.told.0.max(last);
        for settled in batch {
            state.hands.end((settled.pool, settled.lease.id));
        }
        drop(state);
        shared.free(batch.iter().map(|settled| settled.lease));
        shared.pending.notify_one();
        Ok(())
    }

    fn is_telling(&self) -> bool {
        let mut state = self.lock();
        let telling = state.told.0 > state.outbox.confirmed() && state.failure.is_none();
        state.told.1 = telling;
        telling
    }

    fn raised(&self) -> Result<Vec<(PeerId, u64)>> {
        Ok(self.lock().hands.raised.iter().copied().collect())
    }

    fn put_share(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let longest = self.longest();
        if value.len() > longest {
            return Err(BrokerError::Full {
                broker: self.shared.url.clone(),
                reason: format!(
                    "a shared value of {} bytes, at most {longest} are taken",
                    value.len()
                ),
            });
        }
        self.lock().shares.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn share(&self, pool: PeerId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let value = self.fetch(pool, What::Share(key.to_vec()))?;
        if value.is_some() {
            self.lock().hands.shares.insert(key.to_vec(), pool);
        }
        Ok(value)
    }

    fn has_share(&self, key: &[u8]) -> Result<bool> {
        Ok(self.lock().hands.shares.contains_key(key))
    }

    fn evict(&self, key: &[u8]) -> Result<()> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        state.shares.remove(key);
        state.hands.shares.remove(key);
        for worker in state.peers.workers() {
            if worker != shared.me {
                let letter = Letter::Evict { key: key.to_vec() };
                shared.register(&mut state, worker, letter, &[], 0);
            }
        }
        drop(state);
        shared.ring(|rung| rung.news = true);
        Ok(())
    }

    fn beat(&self) -> Result<()> {
        let shared = &*self.shared;
        if shared.presence.is_fenced() {
            return Err(BrokerError::Buried {
                lease: shared.joined.lease,
            });
        }
        let mut state = shared.state.lock();
        if let Some(error) = &state.failure {
            return Err(error.clone());
        }
        state.beat.get_or_insert(false);
        drop(state);
        shared.pending.notify_one();
        Ok(())
    }

    fn peers(&self) -> Result<Arc<[Peer]>> {
        Ok(self.lock().peers.list(&self.shared.card))
    }

    fn is_dead(&self, peer: PeerId) -> bool {
        // Its file was there before anybody heard of it.
        let here = self.lock().peers.folder(peer) == Some(self.shared.card.folder);
        here && peer != self.shared.me && self.shared.folder.is_dead(peer)
    }

    fn bury(&self, peer: PeerId, reason: &str) -> Result<()> {
        self.shared.bury(peer, reason)
    }

    fn sleep(&self, timeout: Duration) -> Woken {
        let mut rung = self.shared.rung.lock();
        if !(rung.work || rung.reply || rung.news) {
            self.shared.bell.wait_for(&mut rung, timeout);
        }
        let woken = std::mem::take(&mut *rung);
        drop(rung);
        self.shared.woken.store(false, Ordering::SeqCst);
        woken
    }

    fn wake(&self) {
        if !self.shared.woken.swap(true, Ordering::SeqCst) {
            self.shared.ring(|rung| rung.work = true);
        }
    }

    fn leave(&self) -> Result<()> {
        let Some(thread) = self.thread.lock().take() else {
            return Ok(());
        };
        let shared = &*self.shared;
        // From here on nothing more is begun.
        let fenced = shared.folder.fence(shared.me);
        let mut state = shared.state.lock();
        let granted = state.hands.pause();
        shared.release(&mut state, granted);
        shared.pending.notify_one();
        let until = Instant::now() + FAREWELL;
        while !state.outbox.is_empty() && state.failure.is_none() {
            if shared.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.leaving = true;
        drop(state);
        shared.changed.notify_all();
        shared.pending.notify_one();
        shared.left.notify_one();
        // A panic there has been printed by its hook.
        let _ = thread.join();
        shared.tidy_folder();
        fenced.map_err(|error| self.failed(format!("cannot fence this peer: {error}")))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A letter with the first outcomes of a list, their bodies, and how many of them were kept.
fn outcomes<'a>(me: PeerId, list: &[&'a Settled]) -> (Letter, Vec<Cow<'a, [u8]>>, usize) {
    let mut heads = Vec::new();
    let mut bodies = Vec::new();
    let mut bytes = 0;
    let mut kept = 0;
    for settled in list {
        let (kind, body) = ledger::form(&settled.verdict);
        if bytes > 0 && bytes + body.len() > LETTER {
            break;
        }
        bytes += body.len();
        kept += usize::from(settled.kept);
        heads.push(Ended {
            id: settled.lease.id.0,
            kind,
            took_us: micros(settled.took),
            length: body.len() as u64,
        });
        bodies.push(body);
    }
    let letter = Letter::Outcomes {
        worker: me.0,
        list: heads,
    };
    (letter, bodies, kept)
}
