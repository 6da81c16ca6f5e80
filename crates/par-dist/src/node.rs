//! A peer at work: one thread that publishes, collects, leases and settles, keeps the heart beating and buries the dead.
//!
//! The thread sleeps on the peer's bell. Whatever it does not hear of, it looks for at every [`Node::tick`].

use crate::BrokerError;
use crate::broker::{Broker, Peer, PeerId, Role, Settled, Verdict, Woken};
use crate::client::{Client, Desk};
use crate::consumer::Consumer;
use par_core::TaskError;
use par_core::engine::Refused;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Payloads that are leased at a time, about.
const LEASE_BYTES: usize = 16 << 20;
/// How long a failing broker is tried again before it is given up, and a supervisor has to tell of the end of its worker.
const PATIENCE: Duration = Duration::from_secs(2);
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// Outcomes that are worth a letter of their own although others are on their way.
const TOGETHER: usize = 64;

/// What a peer is made of.
pub(crate) struct Node {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) client: Client,
    pub(crate) consumer: Option<Arc<Consumer>>,
    queue: String,
    tick: Duration,
    lease: Duration,
    /// Threads of all workers on the queue that this peer did not start.
    workers: AtomicUsize,
    /// The processes that this peer started.
    own: Mutex<HashSet<u32>>,
    /// The index under which a worker is shown, by peer.
    indexes: Mutex<HashMap<PeerId, usize>>,
    /// The first index of workers that this pool did not start.
    others: usize,
    published: usize,
    stopping: AtomicBool,
    /// Why the peer ended by itself, if it did.
    failure: Mutex<Option<BrokerError>>,
    on_failure: Mutex<Option<OnFailure>>,
}

type OnFailure = Box<dyn FnOnce(&BrokerError) + Send>;

/// How a node is set up.
pub(crate) struct Setup {
    pub(crate) queue: String,
    pub(crate) lease: Duration,
    /// Jobs that may wait in the client.
    pub(crate) bound: usize,
    /// Messages that may be out, for each worker.
    pub(crate) published: usize,
    /// Workers with an index of their own.
    pub(crate) own: usize,
}

impl Node {
    pub(crate) fn new(broker: Arc<dyn Broker>, consumer: Option<Arc<Consumer>>, setup: Setup) -> Arc<Self> {
        Arc::new(Node {
            client: Client::new(
                Arc::clone(&broker),
                setup.bound,
                setup.published * setup.own.max(1),
            ),
            broker,
            consumer,
            queue: setup.queue,
            // Four beats a lease, and often enough to notice what no bell told.
            tick: (setup.lease / 4).min(Duration::from_millis(250)),
            lease: setup.lease,
            workers: AtomicUsize::new(0),
            own: Mutex::default(),
            indexes: Mutex::default(),
            others: setup.own,
            published: setup.published,
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            on_failure: Mutex::new(None),
        })
    }

    /// Starts the thread. It runs until [`stop`](Self::stop), or until the broker fails for good.
    pub(crate) fn start(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let me = Arc::clone(self);
        thread::Builder::new()
            .name("par-broker".to_owned())
            .spawn(move || {
                // Code of users runs here too, as observers. Whatever it does, nobody may wait for ever.
                if let Err(error) = par_core::catch(|| Arc::clone(&me).run()) {
                    me.end(BrokerError::Failed {
                        broker: me.broker.place(),
                        reason: format!("its thread ended: {error}"),
                    });
                }
            })
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.broker.stop();
    }

    /// Why the thread ended by itself, if it did.
    pub(crate) fn failure(&self) -> Option<BrokerError> {
        self.failure.lock().clone()
    }

    /// Threads of all workers on the queue that this peer did not start, as of the last look.
    pub(crate) fn workers(&self) -> usize {
        self.workers.load(Ordering::Relaxed)
    }

    /// Calls `call` when the thread ends by itself.
    pub(crate) fn on_failure(&self, call: OnFailure) {
        *self.on_failure.lock() = Some(call);
    }

    /// Notes a process that this peer started.
    pub(crate) fn adopt(&self, pid: u32) {
        self.own.lock().insert(pid);
    }

    /// Forgets a process that this peer started.
    pub(crate) fn disown(&self, pid: u32) {
        self.own.lock().remove(&pid);
    }

    /// Gives a worker that this pool started its index.
    pub(crate) fn set_index(&self, peer: PeerId, index: usize) {
        self.indexes.lock().insert(peer, index);
    }

    fn index(&self, peer: PeerId) -> usize {
        let mut indexes = self.indexes.lock();
        let next = self.others + indexes.values().filter(|index| **index >= self.others).count();
        *indexes.entry(peer).or_insert(next)
    }

    fn run(self: Arc<Self>) {
        let mut rounds = Rounds::default();
        let mut failing: Option<Instant> = None;
        while !self.stopping.load(Ordering::SeqCst) {
            match self.round(&mut rounds) {
                Ok(()) => failing = None,
                Err(error @ (BrokerError::Buried { .. } | BrokerError::Open { .. })) => {
                    return self.end(error);
                }
                // It may pass: somebody may end a long transaction, or make room. Who finds none for a whole lease shows no
                // sign of life either.
                Err(error) => {
                    let patience = match error {
                        BrokerError::Full { .. } => self.lease,
                        _ => PATIENCE,
                    };
                    if failing.get_or_insert_with(Instant::now).elapsed() > patience {
                        return self.end(error);
                    }
                    // The hearts of the others may stand still for the same reason.
                    rounds.beats.clear();
                    thread::sleep(BETWEEN_TRIES);
                }
            }
        }
        // What has ended is still told.
        if let Some(consumer) = &self.consumer {
            let _ = self.settle(consumer);
        }
    }

    fn end(&self, error: BrokerError) {
        let reason = error.to_string();
        *self.failure.lock() = Some(error.clone());
        if let Some(consumer) = &self.consumer {
            consumer.stop();
        }
        self.client.refuse(Refused::Broken(reason.clone()));
        let broken = TaskError::Broken(reason);
        self.client.fail_waiting(&broken);
        self.client.give_up(|_| broken.clone());
        let call = self.on_failure.lock().take();
        if let Some(call) = call {
            call(&error);
        }
    }

    /// One turn: everything that can be done now, then a sleep if that was nothing.
    fn round(&self, rounds: &mut Rounds) -> Result<(), BrokerError> {
        let mut busy = false;
        if let Some(consumer) = &self.consumer {
            if !(consumer.may_settle_later(TOGETHER) && self.broker.is_telling()) {
                busy |= self.settle(consumer)?;
            }
            busy |= self.lease(consumer)?;
        }
        // What has no room is told to who submitted it, also where replies cannot be taken out for want of room.
        let collected = self.client.collect(|peer| self.index(peer));
        busy |= self.client.publish(&mut rounds.desk)?;
        busy |= collected?;
        let due = rounds.last.is_none_or(|last| last.elapsed() >= self.tick);
        if due || rounds.woken.news {
            self.look_around(rounds, due)?;
        }
        if due {
            rounds.last = Some(Instant::now());
        }
        rounds.woken = Woken::default();
        if !busy {
            let behind = self
                .consumer
                .as_ref()
                .is_some_and(|consumer| consumer.is_behind() || self.broker.has_fetched());
            let most = if behind {
                Duration::from_millis(25)
            } else {
                self.tick
            };
            let left = rounds
                .last
                .map_or(self.tick, |last| self.tick.saturating_sub(last.elapsed()));
            rounds.woken = self.broker.sleep(most.min(left));
        } else if rounds
            .drained
            .is_none_or(|at| at.elapsed() > Duration::from_millis(5))
        {
            // Hears of news while it is busy.
            rounds.woken = self.broker.sleep(Duration::ZERO);
            rounds.drained = Some(Instant::now());
        }
        Ok(())
    }

    fn settle(&self, consumer: &Consumer) -> Result<bool, BrokerError> {
        let done = consumer.take_done();
        if done.is_empty() {
            return Ok(false);
        }
        match self.broker.settle(&done) {
            Ok(()) => {
                consumer.settled(&done);
                Ok(true)
            }
            Err(BrokerError::Full { .. }) => self.settle_each(consumer, done),
            Err(error) => {
                consumer.put_done(done);
                Err(error)
            }
        }
    }

    /// Replies that have no room together may have it one by one; one that has none becomes the error that says so.
    fn settle_each(&self, consumer: &Consumer, done: Vec<Settled>) -> Result<bool, BrokerError> {
        let mut left = Vec::new();
        let mut problem = None;
        for settled in done {
            let settled = match self.broker.settle(std::slice::from_ref(&settled)) {
                Ok(()) => settled,
                Err(error) => {
                    let text = format!("its reply did not fit: {error}");
                    let short = Settled {
                        verdict: Verdict::Failed(TaskError::Rejected(text)),
                        ..settled
                    };
                    if let Err(error) = self.broker.settle(std::slice::from_ref(&short)) {
                        left.push(short);
                        problem = Some(error);
                        continue;
                    }
                    short
                }
            };
            consumer.settled(std::slice::from_ref(&settled));
        }
        consumer.put_done(left);
        problem.map_or(Ok(true), Err)
    }

    fn lease(&self, consumer: &Arc<Consumer>) -> Result<bool, BrokerError> {
        let stuck = consumer.take_stuck();
        if !stuck.is_empty() {
            self.broker.release(&stuck)?;
        }
        let want = consumer.want(|| !self.client.is_idle());
        if want == 0 {
            if consumer.is_full(|| !self.client.is_idle()) {
                self.broker.pause();
            }
            return Ok(false);
        }
        let leased = self.broker.lease(want, LEASE_BYTES)?;
        if leased.is_empty() {
            return Ok(false);
        }
        // Among them may be some that another worker gave back after their job was cancelled.
        consumer.raise(self.broker.raised()?);
        consumer.push(leased);
        Ok(true)
    }

    fn look_around(&self, rounds: &mut Rounds, due: bool) -> Result<(), BrokerError> {
        if due {
            self.broker.beat()?;
        }
        let peers = self.broker.peers()?;
        let own = self.own.lock().clone();
        if due {
            self.bury_dead(&peers, &own, rounds)?;
        }
        let threads = |peer: &Peer| match peer.role {
            Role::Worker { concurrency } if peer.queue == self.queue && !own.contains(&peer.pid) => {
                concurrency
            }
            _ => 0,
        };
        self.workers
            .store(peers.iter().map(threads).sum(), Ordering::Relaxed);
        self.client.set_window(
            self.published
                .saturating_mul((self.others + self.workers()).max(1)),
        );
        if let Some(consumer) = &self.consumer {
            consumer.raise(self.broker.raised()?);
            consumer.raise_orphans(|pool| peers.iter().any(|peer| peer.id == pool));
            // An answer that does not come keeps the value.
            consumer.forget(|key| self.broker.has_share(key).unwrap_or(true));
        }
        Ok(())
    }

    /// Rule 3 of the broker: the dead are buried by whoever notices, by their lock or by their heartbeat. Nobody's clock is
    /// compared with another's.
    fn bury_dead(&self, peers: &[Peer], own: &HashSet<u32>, rounds: &mut Rounds) -> Result<(), BrokerError> {
        let now = Instant::now();
        for peer in peers.iter().filter(|peer| peer.id != self.broker.me()) {
            let (beat, since) = rounds.beats.entry(peer.id).or_insert((peer.beat, now));
            if *beat != peer.beat {
                (*beat, *since) = (peer.beat, now);
            }
            if self.broker.is_dead(peer.id) {
                // Whoever started it knows more of its end, and has until the next look to say so; this pool itself has longer.
                let dead = *rounds.dead.entry(peer.id).or_insert(now);
                let patience = if own.contains(&peer.pid) {
                    PATIENCE
                } else {
                    self.tick / 2
                };
                if now.duration_since(dead) >= patience {
                    self.broker
                        .bury(peer.id, &format!("worker process {} ended", peer.pid))?;
                }
            } else if now.duration_since(*since) > peer.lease {
                let text = format!(
                    "worker process {} gave no sign of life for {} ms",
                    peer.pid,
                    peer.lease.as_millis()
                );
                self.broker.bury(peer.id, &text)?;
            }
        }
        rounds
            .dead
            .retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        rounds
            .beats
            .retain(|id, _| peers.iter().any(|peer| peer.id == *id));
        Ok(())
    }
}

/// What the thread keeps from turn to turn.
#[derive(Default)]
struct Rounds {
    desk: Desk,
    last: Option<Instant>,
    drained: Option<Instant>,
    woken: Woken,
    /// Peers that were seen dead, and since when.
    dead: HashMap<PeerId, Instant>,
    /// The heartbeat of each peer, and since when it stands there.
    beats: HashMap<PeerId, (i64, Instant)>,
}
