//! The broker on RabbitMQ: queues on a server, and the pools as the authority over what runs.
//!
//! AMQP delivers at least once: a message comes again after a connection broke, after the server was killed, and when a publish was
//! not confirmed in time and was made anew. Acknowledgements are not confirmed, so a delivery says nothing of whether a message
//! has run. What a queue holds is therefore only an *offer*. Rules of the protocol, cited by number elsewhere:
//!
//! 1. Each peer has a queue of its own for letters (`PREFIX.peer.ID`), and each work queue (`PREFIX.work.NAME`) carries offers to all
//!    workers on it. Queues are durable and messages persistent and mandatory. Whoever writes keeps a letter until the server has
//!    confirmed it, and writes it again over a new connection, before anything new. Whoever reads acknowledges
//!    after it has acted, and a letter that comes twice, or late, changes nothing.
//! 2. A confirmation is not believed for good: a server that is shut down confirms what a queue that ended before has not stored. A
//!    question, a request and a registered letter are written again, at once over a new connection and else after a while, until
//!    there is an answer to them.
//! 3. The pool that published a message has it in its ledger: on offer, or granted to one question of one worker. A worker asks with
//!    a number that it never uses again, about as many offers at a time as it has fetched; a message is granted once, and the
//!    same question gets the same answer. Withdrawing what is on offer needs the ledger alone; its offer, wherever it is, will
//!    be denied.
//! 4. An outcome counts if the ledger has the message granted to its worker; it is taken out with that. What a worker gives back, what
//!    a dead one had not begun, and what the server returned is published again, under a new number.
//! 5. A worker runs what was granted to a question that it has open, and so once. It knows what it asked, holds and runs when an offer
//!    comes again, and asks no second time.
//! 6. The consumer's prefetch follows what the worker wants; one that is busy for long has no consumer and puts back what it has
//!    fetched. Deliveries are acknowledged when their message ended or was denied, all up to a tag in one. As the ledger
//!    decides, an acknowledgement that is lost, or made early, changes nothing of what runs.
//! 7. The marks of rule 2 of delivery, and outcomes of which their pool has not said that it has read them, are in files of the worker in a folder on its
//!    machine, one for each server ([`presence`](super::presence)).
//! 8. A pool that takes a worker for dead sets its fence, and then writes to itself. When it reads that, it has read everything that
//!    the dead had written before and the server had confirmed; the rest is in the files. Then it ends what that worker held:
//!    with a kept outcome, as begun, or as not begun. A worker on another machine, whose files nobody here can read,
//!    counts as having begun all that it held; so it is granted only what it is about to run.
//! 9. Peers know each other by heartbeats over a fanout exchange (`PREFIX.peers`), and on one machine by the locks on their files. As
//!    long as a peer does not hear its own heartbeat, silence says nothing of the others.
//! 10. Who cannot reach the server tries again with at most a second between two tries, until [`Place::outage`] has passed. A peer whose
//!    queue is gone when it comes back was given up by the others.
//! 11. Queues that nobody uses expire. A pool looks now and then whether its work queue is empty while it has had offers in it for
//!    long, and makes them anew: nothing is lost for good, whatever the server has forgotten.

pub mod bare;
mod hands;
mod ledger;
mod letter;
mod link;
mod peers;
mod post;
mod server;

use super::presence::{Peers, Presence};
use super::{
    Arrival, Broker, BrokerError, BrokerUrl, CallId, Delivery, Joining, Lease, MessageId, Outgoing, Peer,
    PeerId, Place, Result, Role, Settled, Woken,
};
use hands::{Hands, Key, Offer, Question};
use ledger::Ledger;
use letter::{Card, Ended, Letter, Offered, What};
use par_core::remote::Part;
use parking_lot::{Condvar, Mutex, MutexGuard};
use peers::Known;
use post::{Outbox, To};
use server::Server;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The longest payload of a message: RabbitMQ takes 128 MiB by default.
const LONGEST: usize = 120 << 20;
/// Bodies of outcomes in one letter, about.
const LETTER: usize = 1 << 20;
/// How long a peer that leaves waits for its last letters to be confirmed.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long an outcome that could not be kept may wait for its confirmation.
const HEAVY: Duration = Duration::from_secs(60);

/// A peer of a broker on RabbitMQ.
pub(crate) struct Amqp {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the peer's threads share with the one that speaks to the server.
struct Shared {
    url: BrokerUrl,
    server: Server,
    me: PeerId,
    card: Card,
    joined: Joining,
    outage: Duration,
    folder: Peers,
    presence: Presence,
    /// Slots of this peer's file that hold no leased message.
    slots: Mutex<Vec<usize>>,
    state: Mutex<State>,
    /// An answer came, something was confirmed, or it is over.
    changed: Condvar,
    rung: Mutex<Woken>,
    bell: Condvar,
    /// Whether the bell was rung since the last sleep, so that many tasks ring once.
    woken: AtomicBool,
    /// There is something to be sent.
    pending: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    hands: Hands,
    peers: Known,
    outbox: Outbox,
    /// How many numbers were taken.
    numbers: u64,
    calls: HashMap<i64, Vec<u8>>,
    shares: HashMap<Vec<u8>, Vec<u8>>,
    fetches: HashMap<u64, Fetch>,
    /// How many messages wait: who wants to know.
    counts: Vec<mpsc::Sender<std::result::Result<u64, String>>>,
    /// Queues of the dead.
    delete: Vec<PeerId>,
    /// A heartbeat is due, and whether it asks for answers.
    beat: Option<bool>,
    failure: Option<BrokerError>,
    leaving: bool,
}

/// A value that a thread waits for.
struct Fetch {
    pool: PeerId,
    what: What,
    since: Instant,
    /// The answer: the value, or that there is none.
    answer: Option<Option<Vec<u8>>>,
}

impl Amqp {
    /// Connects and joins as a new peer.
    ///
    /// # Errors
    /// What was wrong with the URL, or what the server refused.
    pub(crate) fn join(url: &str, place: &Place, joining: Joining) -> Result<Arc<Self>> {
        let option = |option, reason| BrokerError::Option { option, reason };
        let server =
            Server::parse(url).map_err(|reason| option("broker", format!("{}: {reason}", place.url)))?;
        let longest = 255 - server.prefix.len() - ".work.".len();
        if joining.queue.len() > longest {
            let text = format!("has {} bytes, at most {longest} are taken", joining.queue.len());
            return Err(option("queue", text));
        }
        let me = peers::number();
        let (folder, presence) =
            peers::folder(&server, me, joining.leases).map_err(|error| BrokerError::Open {
                broker: place.url.clone(),
                reason: format!("the folder of its peers on this machine: {error}"),
            })?;
        let card = Card {
            id: me.0,
            queue: joining.queue.clone(),
            concurrency: match joining.role {
                Role::Pool => 0,
                Role::Worker { concurrency } => concurrency.max(1) as u64,
            },
            pid: std::process::id(),
            lease_ms: u64::try_from(joining.lease.as_millis()).unwrap_or(u64::MAX),
            folder: folder.identity(),
        };
        let state = State {
            beat: Some(true),
            ..State::default()
        };
        let shared = Arc::new(Shared {
            url: place.url.clone(),
            server,
            me,
            card,
            outage: place.outage,
            folder,
            presence,
            slots: Mutex::new((0..joining.leases).rev().collect()),
            joined: joining,
            state: Mutex::new(state),
            changed: Condvar::new(),
            rung: Mutex::default(),
            bell: Condvar::new(),
            woken: AtomicBool::new(false),
            pending: tokio::sync::Notify::new(),
        });
        let (tell, told) = mpsc::channel();
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("par-amqp".to_owned())
                .spawn(move || link::run(&shared, &tell))
        };
        let opened = thread
            .map_err(|error| format!("cannot start its thread: {error}"))
            .and_then(|thread| match told.recv() {
                Ok(Ok(())) => Ok(thread),
                Ok(Err(reason)) => Err(reason),
                Err(_) => Err("its thread ended".to_owned()),
            });
        match opened {
            Ok(thread) => Ok(Arc::new(Amqp {
                shared,
                thread: Mutex::new(Some(thread)),
            })),
            Err(reason) => {
                shared.tidy_folder();
                Err(BrokerError::Open {
                    broker: place.url.clone(),
                    reason,
                })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock()
    }

    /// Asks a pool for a value; nothing once it is gone.
    fn fetch(&self, pool: PeerId, what: What) -> Result<Option<Vec<u8>>> {
        let shared = &*self.shared;
        let mut state = shared.state.lock();
        if pool == shared.me {
            return Ok(shared.value(&state, &what).map(<[u8]>::to_vec));
        }
        if state.peers.is_buried(pool) {
            return Ok(None);
        }
        state.numbers += 1;
        let request = state.numbers;
        let letter = Letter::Fetch {
            reader: shared.me.0,
            request,
            what: what.clone(),
        };
        let since = Instant::now();
        let fetch = Fetch {
            pool,
            what,
            since,
            answer: None,
        };
        state.fetches.insert(request, fetch);
        shared.post(&mut state, To::Peer(pool), letter.seal(&[]));
        loop {
            if let Some(error) = &state.failure {
                let error = error.clone();
                state.fetches.remove(&request);
                return Err(error);
            }
            if state.leaving {
                return Ok(None);
            }
            match state.fetches.get(&request) {
                Some(Fetch { answer: None, .. }) => shared.changed.wait(&mut state),
                _ => {
                    return Ok(state
                        .fetches
                        .remove(&request)
                        .and_then(|fetch| fetch.answer)
                        .flatten());
                }
            }
        }
    }

    fn failed(&self, reason: String) -> BrokerError {
        BrokerError::Failed {
            broker: self.shared.url.clone(),
            reason,
        }
    }
}

impl Shared {
    /// Puts a letter on its way.
    fn post(&self, state: &mut State, to: To, body: Vec<u8>) -> u64 {
        let number = state.outbox.push(to, Arc::new(body));
        self.pending.notify_one();
        number
    }

    /// Puts a letter on its way that is written again until its reader has said so (rule 2), and the outcomes in it kept so long.
    fn register(&self, state: &mut State, to: PeerId, letter: Letter, tail: &[&[u8]], kept: usize) -> u64 {
        state.numbers += 1;
        let number = state.numbers;
        let letter = Letter::Registered {
            writer: self.me.0,
            number,
            letter: Box::new(letter),
        };
        let body = Arc::new(letter.seal(tail));
        state.outbox.register(number, to, Arc::clone(&body), kept);
        self.pending.notify_one();
        state.outbox.push(To::Peer(to), body)
    }

    fn ring(&self, change: impl FnOnce(&mut Woken)) {
        change(&mut self.rung.lock());
        self.bell.notify_one();
    }

    /// A value that this peer keeps for its workers.
    fn value<'a>(&'a self, state: &'a State, what: &What) -> Option<&'a [u8]> {
        match what {
            What::Call(id) => state.calls.get(id).map(Vec::as_slice),
            What::Initializer => self.joined.initializer.as_deref(),
            What::Share(key) => state.shares.get(key).map(Vec::as_slice),
        }
    }

    /// A number that no other peer's messages or calls have, by all odds.
    fn number(&self, state: &mut State) -> i64 {
        state.numbers += 1;
        peers::mix((self.me.0 as u64).wrapping_add(state.numbers.wrapping_mul(0x9e37_79b9_7f4a_7c15))) as i64
    }

    /// Asks pools about what was fetched, as far as it is wanted (rule 3).
    fn ask(&self, state: &mut State) {
        loop {
            let mut own = false;
            for question in state.hands.ask() {
                if question.pool == self.me {
                    let (ledger, me) = (&mut state.ledger, self.me);
                    let (granted, denied): (Vec<_>, Vec<_>) = question
                        .ids
                        .into_iter()
                        .partition(|id| ledger.grant(*id, me, question.number));
                    let raw = |ids: Vec<MessageId>| ids.into_iter().map(|id| id.0).collect::<Vec<_>>();
                    if state
                        .hands
                        .answer(me, question.number, &raw(granted), &raw(denied))
                    {
                        self.ring(|rung| rung.work = true);
                    }
                    own = true;
                    continue;
                }
                self.post_question(state, &question);
            }
            if !own {
                return;
            }
        }
    }

    fn post_question(&self, state: &mut State, question: &Question) {
        let letter = Letter::Ask {
            card: self.card.clone(),
            ask: question.number,
            ids: question.ids.iter().map(|id| id.0).collect(),
        };
        self.post(state, To::Peer(question.pool), letter.seal(&[]));
    }

    /// Writes again what was written before that time and has no answer, and what was not heard of (rule 2).
    fn write_again(&self, state: &mut State, before: Instant) {
        for question in state.hands.unanswered(before) {
            self.post_question(state, &question);
        }
        let mut letters = Vec::new();
        let open = |fetch: &&mut Fetch| fetch.answer.is_none() && fetch.since < before;
        for (request, fetch) in &mut state.fetches {
            let Some(fetch) = Some(fetch).filter(open) else {
                continue;
            };
            fetch.since = Instant::now();
            let letter = Letter::Fetch {
                reader: self.me.0,
                request: *request,
                what: fetch.what.clone(),
            };
            letters.push((fetch.pool, letter));
        }
        for (peer, reason) in state.peers.open_graves() {
            letters.push((self.me, Letter::Bury { peer: peer.0, reason }));
        }
        for (to, letter) in letters {
            self.post(state, To::Peer(to), letter.seal(&[]));
        }
        state.outbox.write_again(before);
        self.pending.notify_one();
    }

    fn release(&self, state: &mut State, keys: Vec<Key>) {
        let mut pools: HashMap<PeerId, Vec<i64>> = HashMap::new();
        for (pool, id) in keys {
            if pool == self.me {
                state.ledger.release(id, self.me);
                self.ring(|rung| rung.reply = true);
            } else {
                pools.entry(pool).or_default().push(id.0);
            }
        }
        for (pool, ids) in pools {
            let letter = Letter::Release {
                worker: self.me.0,
                ids,
            };
            self.register(state, pool, letter, &[], 0);
        }
    }

    fn free(&self, leases: impl Iterator<Item = Lease>) {
        self.slots.lock().extend(leases.map(|lease| lease.slot));
    }
}

impl Broker for Amqp {
    fn place(&self) -> BrokerUrl {
        self.shared.url.clone()
    }

    fn longest(&self) -> usize {
        LONGEST
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
            if body.len() > LONGEST {
                return Err(BrokerError::Full {
                    broker: shared.url.clone(),
                    reason: format!("{} bytes in one message, at most {LONGEST} are taken", body.len()),
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
        for settled in batch {
            state.hands.end((settled.pool, settled.lease.id));
        }
        drop(state);
        shared.free(batch.iter().map(|settled| settled.lease));
        shared.pending.notify_one();
        Ok(())
    }

    fn raised(&self) -> Result<Vec<(PeerId, u64)>> {
        Ok(self.lock().hands.raised.iter().copied().collect())
    }

    fn put_share(&self, key: &[u8], value: &[u8]) -> Result<()> {
        if value.len() > LONGEST {
            return Err(BrokerError::Full {
                broker: self.shared.url.clone(),
                reason: format!(
                    "a shared value of {} bytes, at most {LONGEST} are taken",
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
        // A panic there has been printed by its hook.
        let _ = thread.join();
        shared.tidy_folder();
        fenced.map_err(|error| self.failed(format!("cannot fence this peer: {error}")))
    }
}

impl Drop for Amqp {
    fn drop(&mut self) {
        // Whoever stays notices by the lock.
        let _ = self.leave();
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
