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
//!    long as a peer does not hear its own heartbeat, silence says nothing of the others. A pool that is asked counts as seen then: so
//!    the death of one that left offers behind is noticed by peers that had never heard of it.
//! 10. Who cannot reach the server tries again with at most a second between two tries, until [`Place::outage`] has passed. A peer whose
//!     queue is gone when it comes back was given up by the others, or forgotten by the server: it ends. A connection
//!     that brought nothing forward counts as a try that failed.
//! 11. Queues that nobody uses expire. A pool looks now and then whether its work queue is empty while it has had offers in it for
//!     long, and makes them anew: nothing is lost for good, whatever the server has forgotten.
//! 12. Outcomes that are in the worker's file wait while others are on their way to the server, so that a letter carries many when much
//!     ends, and goes at once when little does.

pub mod bare;
mod calls;
mod hands;
mod incoming;
mod ledger;
mod letter;
mod line;
mod link;
mod open;
mod peers;
mod post;
mod read;
mod server;

use super::presence::{Peers, Presence};
use super::{Broker, BrokerError, BrokerUrl, Joining, Lease, MessageId, PeerId, Place, Result, Role, Woken};
use hands::{Hands, Key, Question};
use ledger::Ledger;
use letter::{Card, Letter, What};
use parking_lot::{Condvar, Mutex, MutexGuard};
use peers::Known;
use post::{Outbox, To};
use read::Dropped;
use server::Server;
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

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
    /// This peer has left, whether or not the server was told.
    left: tokio::sync::Notify,
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
    /// The last letter with outcomes, and whether somebody wants to know when the server has it (rule 12).
    told: (u64, bool),
    /// Values on their way to the server: which request of which reader they answer, and the number of their letter.
    sending: HashMap<(i64, u64), u64>,
    dropped: Dropped,
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
            left: tokio::sync::Notify::new(),
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
        shared.reckon_with(&mut state, pool);
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
        self.reckon_with(state, question.pool);
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

impl Drop for Amqp {
    fn drop(&mut self) {
        // Whoever stays notices by the lock.
        let _ = self.leave();
    }
}
