//! The broker on a Redis server: all that the peers share is there, and each step is a script that the server runs at once.
//!
//! Rules, cited by number elsewhere:
//!
//! 1. The server says what may run. A message is begun by a step of its own, so that it is known of every worker on any machine what it
//!    had begun; and an outcome is settled before its worker begins anything else.
//! 2. A peer that is buried is gone from the server's list, with all its leases: its later steps do nothing.
//! 3. A step whose answer did not come, as the connection broke, is done again, and changes nothing the second time. Steps whose answers
//!    matter have numbers, and the server keeps the last answer of each peer; replies are dropped when the peer says that it has
//!    read them; and before it leases again, a peer gives back what it has got and does not know of.
//! 4. A server that was started again may have forgotten its last moments, and with them what was begun. If it does not write each step to its disk
//!    before it answers (`appendonly yes`, `appendfsync always`), all that was there before is dropped, and its peers end with an error.
//! 5. Who cannot reach the server tries again until [`Place::outage`] has passed. When one comes back all hearts have stood still, so silence
//!    says nothing for the length of another lease.

mod bell;
mod scripts;
mod text;

use super::{
    Arrival, Broker, BrokerError, BrokerUrl, CallId, Delivery, Joining, Lease, MessageId, Outgoing, Peer,
    PeerId, Place, Result, Role, Settled, Woken,
};
use crate::process::Process;
use crate::redis_server::{Address, is_away};
use ::redis::{Connection, FromRedisValue, RedisError, RedisResult, ScriptInvocation, cmd};
use bell::Bell;
use parking_lot::Mutex;
use scripts::Scripts;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The longest payload of a message: the server takes 512 MiB by default, and copies it some times.
const LONGEST: usize = 256 << 20;
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_millis(500);
/// How long a server that is away is waited for by who leaves.
const LEAVE: Duration = Duration::from_secs(1);
/// What the names of all keys begin with, if the URL does not say.
const PREFIX: &str = "par";

/// A peer of a broker on Redis.
pub(crate) struct Redis {
    url: BrokerUrl,
    address: Address,
    keys: String,
    scripts: Scripts,
    connection: Mutex<Option<Connection>>,
    outage: Duration,
    leaves: AtomicBool,
    me: PeerId,
    joined: Joining,
    this: Process,
    bell: Arc<Bell>,
    /// What this peer has leased.
    held: Mutex<HashSet<i64>>,
    /// Whether it may have leased more, as the answer did not come.
    unsure: AtomicBool,
    /// The number of its last step that has one.
    steps: Mutex<u64>,
    /// How many replies it has read.
    read: Mutex<u64>,
    looks: Mutex<Looks>,
}

/// What was seen of the others.
#[derive(Default)]
struct Looks {
    processes: Vec<(PeerId, Process)>,
    last: Option<Instant>,
    /// Added to all heartbeats, so that they go on when nobody could look (rule 5).
    grace: i64,
}

impl Redis {
    /// Connects and joins as a new peer.
    ///
    /// # Errors
    /// What was wrong with the URL, or what the server refused.
    pub(crate) fn join(url: &str, place: &Place, joining: Joining) -> Result<Arc<Self>> {
        let address = Address::parse(url, &["prefix"]).map_err(|reason| BrokerError::Option {
            option: "broker",
            reason: format!("{}: {reason}", place.url),
        })?;
        let this = Process::this();
        let keys = format!("{{{}}}", address.option("prefix").unwrap_or(PREFIX));
        let mut broker = Redis {
            url: place.url.clone(),
            keys,
            scripts: Scripts::new(),
            connection: Mutex::new(None),
            outage: place.outage,
            leaves: AtomicBool::new(false),
            me: PeerId(0),
            this,
            bell: Arc::default(),
            held: Mutex::default(),
            unsure: AtomicBool::new(false),
            steps: Mutex::default(),
            read: Mutex::default(),
            looks: Mutex::default(),
            joined: joining,
            address,
        };
        let card = text::card(&broker.joined, &broker.this);
        let first = broker.try_once(|connection| {
            let mut join = broker.script(&broker.scripts.join);
            join.arg(&card);
            if let Some(initializer) = &broker.joined.initializer {
                join.arg(initializer);
            }
            join.invoke::<i64>(connection)
        });
        broker.me = PeerId(first.map_err(|error| BrokerError::Open {
            broker: broker.url.clone(),
            reason: error.to_string(),
        })?);
        let mut channels = vec![broker.channel(&broker.me.0.to_string()), broker.channel("news")];
        if broker.joined.role != Role::Pool {
            channels.push(broker.channel(&format!("work:{}", broker.joined.queue)));
        }
        broker
            .bell
            .listen(broker.address.clone(), channels)
            .map_err(|reason| BrokerError::Open {
                broker: broker.url.clone(),
                reason,
            })?;
        Ok(Arc::new(broker))
    }

    fn channel(&self, to: &str) -> String {
        format!("{}:bell:{to}", self.keys)
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.keys)
    }

    fn script<'a>(&self, script: &'a ::redis::Script) -> ScriptInvocation<'a> {
        script.key(&self.keys)
    }

    /// A script whose first argument is this peer.
    fn mine<'a>(&self, script: &'a ::redis::Script) -> ScriptInvocation<'a> {
        let mut invocation = self.script(script);
        invocation.arg(self.me.0);
        invocation
    }

    /// Asks, over a new connection if the last one broke.
    fn try_once<T>(&self, ask: impl Fn(&mut Connection) -> RedisResult<T>) -> RedisResult<T> {
        let mut slot = self.connection.lock();
        let connection = match &mut *slot {
            Some(open) => open,
            none => {
                let mut fresh = self.address.connect()?;
                self.greet(&mut fresh)?;
                none.insert(fresh)
            }
        };
        let answer = ask(connection);
        if answer.as_ref().is_err_and(is_away) {
            *slot = None;
        }
        answer
    }

    /// Rule 4.
    fn greet(&self, connection: &mut Connection) -> RedisResult<()> {
        let about: String = cmd("INFO").arg("server").query(connection)?;
        let run = about.lines().find_map(|line| line.strip_prefix("run_id:"));
        let mut says = |option: &str, value: &str| {
            // A server that does not tell its configuration promises nothing.
            let said: RedisResult<Vec<String>> = cmd("CONFIG").arg("GET").arg(option).query(connection);
            match said {
                Err(error) if is_away(&error) => Err(error),
                said => Ok(said.is_ok_and(|said| said.get(1).is_some_and(|said| said == value))),
            }
        };
        let whole = says("appendonly", "yes")? && says("appendfsync", "always")?;
        let mut greet = self.script(&self.scripts.greet);
        greet.arg(run.unwrap_or_default()).arg(i32::from(whole));
        greet.invoke(connection)
    }

    /// Rules 3 and 5.
    fn call<T>(&self, ask: impl Fn(&mut Connection) -> RedisResult<T>) -> Result<T> {
        let (since, mut pause) = (Instant::now(), PAUSE / 32);
        loop {
            let error = match self.try_once(&ask) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let patience = if self.leaves.load(Ordering::SeqCst) {
                LEAVE
            } else {
                self.outage
            };
            if !is_away(&error) || since.elapsed() >= patience {
                return Err(self.failed(&error));
            }
            std::thread::sleep(pause);
            pause = (2 * pause).min(PAUSE);
        }
    }

    fn failed(&self, error: &RedisError) -> BrokerError {
        let (broker, reason) = (self.url.clone(), error.to_string());
        if error.code() == Some("OOM") {
            BrokerError::Full { broker, reason }
        } else {
            BrokerError::Failed { broker, reason }
        }
    }

    fn invoke<T: FromRedisValue>(&self, invocation: &ScriptInvocation<'_>) -> Result<T> {
        self.call(|connection| invocation.invoke(connection))
    }

    /// Rule 2.
    fn buried(&self) -> BrokerError {
        BrokerError::Buried {
            lease: self.joined.lease,
        }
    }

    fn forget(&self, leases: impl Iterator<Item = Lease>) {
        let mut held = self.held.lock();
        for lease in leases {
            held.remove(&lease.id.0);
        }
    }
}

impl Drop for Redis {
    /// Also where it could not leave.
    fn drop(&mut self) {
        self.bell.close();
    }
}

impl Broker for Redis {
    fn place(&self) -> BrokerUrl {
        self.url.clone()
    }

    fn longest(&self) -> usize {
        LONGEST
    }

    fn me(&self) -> PeerId {
        self.me
    }

    fn store_call(&self, call: &[u8]) -> Result<CallId> {
        self.invoke(self.mine(&self.scripts.store_call).arg(call))
            .map(CallId)
    }

    fn call(&self, pool: PeerId, id: CallId) -> Result<Option<Vec<u8>>> {
        let key = self.key(&format!("calls:{}", pool.0));
        self.call(|connection| cmd("HGET").arg(&key).arg(id.0).query(connection))
    }

    fn initializer(&self, pool: PeerId) -> Result<Option<Vec<u8>>> {
        let key = self.key(&format!("init:{}", pool.0));
        self.call(|connection| cmd("GET").arg(&key).query(connection))
    }

    fn publish(&self, batch: &[Outgoing]) -> Result<Vec<MessageId>> {
        let mut steps = self.steps.lock();
        // One that failed may have been done: its number is not for another.
        *steps += 1;
        let mut publish = self.mine(&self.scripts.publish);
        publish.arg(*steps).arg(&self.joined.queue);
        for message in batch {
            publish
                .arg(message.root.unwrap_or(self.me).0)
                .arg(message.job)
                .arg(message.call.0)
                .arg(message.part.first)
                .arg(message.part.items)
                .arg(&message.shares[..])
                .arg(&message.payload[..]);
        }
        let first: Option<i64> = self.invoke(&publish)?;
        let first = first.ok_or_else(|| self.buried())?;
        Ok((first..).take(batch.len()).map(MessageId).collect())
    }

    fn withdraw(&self, job: u64, most: usize) -> Result<Vec<MessageId>> {
        let mut steps = self.steps.lock();
        *steps += 1;
        let mut withdraw = self.mine(&self.scripts.withdraw);
        withdraw.arg(*steps).arg(&self.joined.queue).arg(job);
        withdraw.arg(most.min(1 << 20));
        let taken: Vec<i64> = self.invoke(&withdraw)?;
        Ok(taken.into_iter().map(MessageId).collect())
    }

    fn reclaim(&self, leases: &[Lease]) -> Result<()> {
        let mut finish = self.mine(&self.scripts.finish);
        for lease in leases {
            finish.arg(lease.id.0);
        }
        self.invoke::<()>(&finish)?;
        self.forget(leases.iter().copied());
        Ok(())
    }

    fn collect(&self, bytes: usize) -> Result<Vec<Arrival>> {
        let mut read = self.read.lock();
        let mut collect = self.mine(&self.scripts.collect);
        let replies: Vec<Vec<u8>> = self.invoke(collect.arg(*read).arg(bytes))?;
        *read += replies.len() as u64;
        Ok(replies.iter().filter_map(|reply| text::arrival(reply)).collect())
    }

    fn raise(&self, job: u64) -> Result<()> {
        self.invoke(self.mine(&self.scripts.raise).arg(job))
    }

    fn lower(&self, job: u64) -> Result<()> {
        let (key, job) = (self.key("cancels"), format!("{}:{job}", self.me.0));
        self.call(|connection| cmd("SREM").arg(&key).arg(&job).query(connection))
    }

    fn holders(&self, job: u64) -> Result<Vec<(PeerId, bool)>> {
        let holders: Vec<i64> = self.invoke(self.mine(&self.scripts.holders).arg(job))?;
        let pairs = holders.chunks_exact(2);
        Ok(pairs.map(|pair| (PeerId(pair[0]), pair[1] == 1)).collect())
    }

    fn lease(&self, messages: usize, bytes: usize) -> Result<Vec<Delivery>> {
        let most = messages.min(self.joined.leases.saturating_sub(self.held.lock().len()));
        if most == 0 {
            return Ok(Vec::new());
        }
        let mut lease = self.mine(&self.scripts.lease);
        lease.arg(&self.joined.queue).arg(most).arg(bytes);
        let fields: Vec<Vec<u8>> = self.call(|connection| {
            if self.unsure.swap(true, Ordering::Relaxed) {
                let mut reconcile = self.mine(&self.scripts.reconcile);
                reconcile.arg(&self.joined.queue);
                for id in self.held.lock().iter() {
                    reconcile.arg(*id);
                }
                reconcile.invoke::<()>(connection)?;
            }
            lease.invoke(connection)
        })?;
        let deliveries: Vec<Delivery> = text::deliveries(fields);
        let ids = deliveries.iter().map(|delivery| delivery.lease.id.0);
        self.held.lock().extend(ids);
        self.unsure.store(false, Ordering::Relaxed);
        Ok(deliveries)
    }

    fn begin(&self, lease: Lease) -> Result<bool> {
        self.invoke(self.mine(&self.scripts.begin).arg(lease.id.0))
    }

    fn keep(&self, _: &Settled) -> bool {
        // Rule 1.
        false
    }

    fn waiting(&self) -> Result<u64> {
        let key = self.key(&format!("ready:{}", self.joined.queue));
        self.call(|connection| cmd("ZCARD").arg(&key).query(connection))
    }

    fn release(&self, leases: &[Lease]) -> Result<()> {
        let mut release = self.mine(&self.scripts.release);
        release.arg(&self.joined.queue);
        for lease in leases {
            release.arg(lease.id.0);
        }
        self.invoke::<()>(&release)?;
        self.forget(leases.iter().copied());
        Ok(())
    }

    fn settle(&self, batch: &[Settled]) -> Result<()> {
        let mut settle = self.mine(&self.scripts.settle);
        for settled in batch {
            settle.arg(settled.lease.id.0).arg(text::reply(self.me, settled));
        }
        self.invoke::<()>(&settle)?;
        self.forget(batch.iter().map(|settled| settled.lease));
        Ok(())
    }

    fn raised(&self) -> Result<Vec<(PeerId, u64)>> {
        let key = self.key("cancels");
        let raised: Vec<String> = self.call(|connection| cmd("SMEMBERS").arg(&key).query(connection))?;
        let pair = |text: &String| {
            let (pool, job) = text.split_once(':')?;
            Some((PeerId(pool.parse().ok()?), job.parse().ok()?))
        };
        Ok(raised.iter().filter_map(pair).collect())
    }

    fn put_share(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.invoke(self.mine(&self.scripts.share).arg(key).arg(value))
    }

    fn share(&self, _: PeerId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let shares = self.key("shares");
        self.call(|connection| cmd("HGET").arg(&shares).arg(key).query(connection))
    }

    fn has_share(&self, key: &[u8]) -> Result<bool> {
        let shares = self.key("shares");
        self.call(|connection| cmd("HEXISTS").arg(&shares).arg(key).query(connection))
    }

    fn evict(&self, key: &[u8]) -> Result<()> {
        self.invoke(self.mine(&self.scripts.evict).arg(key))
    }

    fn beat(&self) -> Result<()> {
        if self.invoke(&self.mine(&self.scripts.beat))? {
            Ok(())
        } else {
            Err(self.buried())
        }
    }

    fn peers(&self) -> Result<Arc<[Peer]>> {
        let fields: Vec<String> = self.invoke(&self.script(&self.scripts.peers))?;
        let mut looks = self.looks.lock();
        // Rule 5.
        if looks
            .last
            .is_some_and(|last| last.elapsed() > self.joined.lease / 2)
        {
            looks.grace += 1;
        }
        looks.last = Some(Instant::now());
        let found: Vec<(Peer, Process)> = text::peers(&fields, looks.grace);
        looks.processes = found
            .iter()
            .map(|(peer, process)| (peer.id, process.clone()))
            .collect();
        Ok(found.into_iter().map(|(peer, _)| peer).collect())
    }

    fn is_dead(&self, peer: PeerId) -> bool {
        let looks = self.looks.lock();
        let mut processes = looks.processes.iter();
        peer != self.me && processes.any(|(id, process)| *id == peer && process.is_dead(&self.this))
    }

    fn bury(&self, peer: PeerId, reason: &str) -> Result<()> {
        let mut bury = self.script(&self.scripts.bury);
        bury.arg(peer.0).arg(reason).arg(text::LOST).arg(text::LOST_BEGUN);
        self.invoke(&bury)
    }

    fn sleep(&self, timeout: Duration) -> Woken {
        self.bell.sleep(timeout)
    }

    fn wake(&self) {
        self.bell.wake();
    }

    fn stop(&self) {
        self.leaves.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn leave(&self) -> Result<()> {
        self.stop();
        self.bury(self.me, "its worker left")
    }
}
