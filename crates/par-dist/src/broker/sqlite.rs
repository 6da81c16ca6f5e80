//! The embedded broker: one SQLite file in WAL mode, and the folder of its peers beside it. No server.
//!
//! Group commit is what counts: a batch of messages, of leases or of replies is one transaction each. Transactions of several
//! processes exclude each other; a peer looks, without a lock, whether there is anything before it begins one.

mod messages;
mod open;
mod peers;
mod sql;
#[cfg(test)]
mod tests;

pub(crate) use open::Place;

use super::presence::{Peers, Presence};
use super::{
    Arrival, Broker, BrokerError, BrokerUrl, CallId, Delivery, Joining, Lease, MessageId, Outgoing, Peer,
    PeerId, Result, Ring, Role, Settled, Woken,
};
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest payload that is taken: SQLite's own bound is 10^9 bytes a row.
const LONGEST: usize = 900 << 20;

/// A peer of a broker on SQLite.
pub(crate) struct Sqlite {
    path: PathBuf,
    db: Mutex<Connection>,
    folder: Peers,
    presence: Presence,
    me: PeerId,
    queue: i64,
    joined: Joining,
    /// Slots of this peer's file that hold no leased message.
    slots: Mutex<Vec<usize>>,
    /// The peers as of the last look.
    known: RwLock<Arc<[Peer]>>,
    /// Whether a wake is under way, so that many submits ring once.
    woken: AtomicBool,
}

impl Sqlite {
    /// Opens the file, making it where there is none, and joins as a new peer.
    ///
    /// # Errors
    /// What was wrong with the file or its folder.
    pub(crate) fn join(place: &Place, joining: Joining) -> Result<Arc<Self>> {
        let mut db = open::open(place)?;
        let path = place.path.clone();
        let refused = |error: std::io::Error| BrokerError::Open {
            broker: path.clone().into(),
            reason: format!(
                "the folder of its peers, {}: {error}",
                Peers::path(&path).display()
            ),
        };
        let folder = Peers::open(&place.path).map_err(refused)?;
        let failed = |error| failed(&place.path, &error);
        let (me, queue) = peers::number(&mut db, &joining.queue).map_err(failed)?;
        // The lock is held before anyone can know of the peer: who sees it without a lock sees it dead.
        let presence = folder.join(me, joining.leases, true).map_err(refused)?;
        peers::enter(&db, me, queue, &joining).map_err(failed)?;
        let broker = Arc::new(Sqlite {
            path: place.path.clone(),
            db: Mutex::new(db),
            folder,
            presence,
            me,
            queue,
            slots: Mutex::new((0..joining.leases).rev().collect()),
            joined: joining,
            known: RwLock::new(Arc::new([])),
            woken: AtomicBool::new(false),
        });
        broker.peers()?;
        broker.ring_all(Ring::News);
        Ok(broker)
    }

    fn fail(&self, error: rusqlite::Error) -> BrokerError {
        failed(&self.path, &error)
    }

    fn with<R>(&self, run: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R> {
        run(&self.db.lock()).map_err(|error| self.fail(error))
    }

    /// Runs a transaction that writes.
    fn write<R>(&self, run: impl FnOnce(&Transaction<'_>) -> Result<R>) -> Result<R> {
        let mut db = self.db.lock();
        let tx = db
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| self.fail(error))?;
        let result = run(&tx)?;
        tx.commit().map_err(|error| self.fail(error))?;
        Ok(result)
    }

    fn ring_all(&self, why: Ring) {
        for peer in self.known.read().iter() {
            if peer.id != self.me {
                self.folder.ring(peer.id, why);
            }
        }
    }

    fn ring_workers(&self) {
        for peer in self.known.read().iter() {
            if peer.id != self.me && peer.queue == self.joined.queue && peer.role != Role::Pool {
                self.folder.ring(peer.id, Ring::Work);
            }
        }
    }
}

fn failed(path: &std::path::Path, error: &rusqlite::Error) -> BrokerError {
    use rusqlite::ErrorCode::{DiskFull, TooBig};
    match error.sqlite_error_code() {
        Some(DiskFull | TooBig) => BrokerError::Full {
            broker: path.into(),
            reason: error.to_string(),
        },
        _ => BrokerError::Failed {
            broker: path.into(),
            reason: error.to_string(),
        },
    }
}

impl Broker for Sqlite {
    fn place(&self) -> BrokerUrl {
        self.path.clone().into()
    }

    fn longest(&self) -> usize {
        LONGEST
    }

    fn me(&self) -> PeerId {
        self.me
    }

    fn store_call(&self, call: &[u8]) -> Result<CallId> {
        self.write(|tx| {
            // A number that was never used: workers keep what they found under it.
            let store = || -> rusqlite::Result<i64> {
                let next: i64 = tx
                    .prepare_cached(sql::TAKE_NUMBERS)?
                    .query_row([1], |row| row.get(0))?;
                tx.prepare_cached(sql::ADD_CALL)?
                    .execute(params![next - 1, self.me.0, call])?;
                Ok(next - 1)
            };
            store().map(CallId).map_err(|error| self.fail(error))
        })
    }

    fn call(&self, _: PeerId, id: CallId) -> Result<Option<Vec<u8>>> {
        self.with(|db| {
            db.prepare_cached(sql::CALL)?
                .query_row([id.0], |row| row.get(0))
                .optional()
        })
    }

    fn initializer(&self, pool: PeerId) -> Result<Option<Vec<u8>>> {
        self.with(|db| {
            db.prepare_cached(sql::INITIALIZER)?
                .query_row([pool.0], |row| row.get(0))
                .optional()
        })
        .map(Option::flatten)
    }

    fn publish(&self, batch: &[Outgoing]) -> Result<Vec<MessageId>> {
        let ids = messages::publish(self, batch)?;
        self.ring_workers();
        Ok(ids)
    }

    fn withdraw(&self, job: u64, most: usize) -> Result<Vec<MessageId>> {
        messages::withdraw(self, job, most)
    }

    fn reclaim(&self, leases: &[Lease]) -> Result<()> {
        messages::end(self, leases)
    }

    fn collect(&self, bytes: usize) -> Result<Vec<Arrival>> {
        messages::collect(self, bytes)
    }

    fn raise(&self, job: u64) -> Result<()> {
        self.with(|db| {
            db.prepare_cached(sql::RAISE)?
                .execute(params![self.me.0, job as i64])
        })?;
        self.ring_all(Ring::News);
        Ok(())
    }

    fn lower(&self, job: u64) -> Result<()> {
        self.with(|db| {
            db.prepare_cached(sql::LOWER)?
                .execute(params![self.me.0, job as i64])
        })
        .map(|_| ())
    }

    fn holders(&self, job: u64) -> Result<Vec<(PeerId, bool)>> {
        let held = self.with(|db| {
            let mut statement = db.prepare_cached(sql::HOLDERS)?;
            let rows = statement.query_map(params![self.me.0, job as i64], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<(i64, i64)>>>()
        })?;
        let begun = |id, owner| {
            self.folder
                .marks(PeerId(owner))
                .is_none_or(|marks| marks.contains(&id))
        };
        Ok(held
            .into_iter()
            .map(|(id, owner)| (PeerId(owner), begun(id, owner)))
            .collect())
    }

    fn lease(&self, most: usize, bytes: usize) -> Result<Vec<Delivery>> {
        messages::lease(self, most, bytes)
    }

    fn waiting(&self) -> Result<u64> {
        self.with(|db| {
            db.prepare_cached(sql::HOW_MANY_READY)?
                .query_row([self.queue], |row| row.get::<_, i64>(0))
        })
        .map(|count| count.max(0) as u64)
    }

    fn begin(&self, lease: Lease) -> Result<bool> {
        self.presence
            .begin(lease.slot, lease.id.0)
            .map_err(|error| BrokerError::Failed {
                broker: self.path.clone().into(),
                reason: format!("a message cannot be marked as begun: {error}"),
            })
    }

    fn keep(&self, settled: &Settled) -> bool {
        let (kind, took, body) = messages::row(settled);
        self.presence.kept.put(settled.lease.id.0, kind, took, &body)
    }

    fn release(&self, leases: &[Lease]) -> Result<()> {
        messages::release(self, leases)?;
        self.ring_workers();
        Ok(())
    }

    fn settle(&self, batch: &[Settled]) -> Result<()> {
        messages::settle(self, batch)?;
        let mut pools: Vec<PeerId> = batch.iter().map(|settled| settled.pool).collect();
        pools.sort_unstable();
        pools.dedup();
        for pool in pools {
            self.folder.ring(pool, Ring::Reply);
        }
        Ok(())
    }

    fn raised(&self) -> Result<Vec<(PeerId, u64)>> {
        self.with(|db| {
            let mut statement = db.prepare_cached(sql::RAISED)?;
            let rows =
                statement.query_map([], |row| Ok((PeerId(row.get(0)?), row.get::<_, i64>(1)? as u64)))?;
            rows.collect()
        })
    }

    fn put_share(&self, key: &[u8], value: &[u8]) -> Result<()> {
        self.with(|db| {
            db.prepare_cached(sql::ADD_SHARE)?
                .execute(params![key, self.me.0, value])
        })
        .map(|_| ())
    }

    fn share(&self, _: PeerId, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.with(|db| {
            db.prepare_cached(sql::SHARE)?
                .query_row([key], |row| row.get(0))
                .optional()
        })
    }

    fn has_share(&self, key: &[u8]) -> Result<bool> {
        self.with(|db| db.prepare_cached(sql::HAS_SHARE)?.exists([key]))
    }

    fn evict(&self, key: &[u8]) -> Result<()> {
        self.with(|db| db.prepare_cached(sql::REMOVE_SHARE)?.execute([key]))?;
        self.ring_all(Ring::News);
        Ok(())
    }

    fn beat(&self) -> Result<()> {
        let lives = self.with(|db| db.prepare_cached(sql::BEAT)?.execute([self.me.0]))?;
        if lives == 0 {
            Err(BrokerError::Buried {
                lease: self.joined.lease,
            })
        } else {
            Ok(())
        }
    }

    fn peers(&self) -> Result<Arc<[Peer]>> {
        let peers: Arc<[Peer]> = self.with(peers::all)?.into();
        *self.known.write() = Arc::clone(&peers);
        Ok(peers)
    }

    fn is_dead(&self, peer: PeerId) -> bool {
        peer != self.me && self.folder.is_dead(peer)
    }

    fn bury(&self, peer: PeerId, reason: &str) -> Result<()> {
        let Some(pools) = peers::bury(self, peer, reason)? else {
            return Ok(());
        };
        self.folder.remove(peer);
        for pool in pools {
            self.folder.ring(pool, Ring::Reply);
        }
        self.peers()?;
        self.ring_all(Ring::News);
        Ok(())
    }

    fn sleep(&self, timeout: Duration) -> Woken {
        let woken = self.presence.sleep(timeout);
        self.woken.store(false, Ordering::SeqCst);
        woken
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::SeqCst) {
            self.folder.ring(self.me, Ring::Work);
        }
    }

    fn leave(&self) -> Result<()> {
        let left = self.bury(self.me, "its worker left");
        self.folder.close();
        left
    }
}
