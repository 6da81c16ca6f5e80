//! Peers in the tables: how they join, and what is done once about one that is gone.

use super::{Sqlite, sql};
use crate::broker::{Joining, Peer, PeerId, Result, Role};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::collections::HashMap;
use std::time::Duration;

/// What a reply is, in its row.
pub(super) const REPLY: i64 = 0;
pub(super) const FAILED: i64 = 1;
pub(super) const LOST: i64 = 2;
pub(super) const LOST_BEGUN: i64 = 3;

/// A number for a new peer, and that of its queue.
pub(super) fn number(db: &mut Connection, queue: &str) -> rusqlite::Result<(PeerId, i64)> {
    let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let next: i64 = tx.query_row(sql::TAKE_NUMBERS, [1], |row| row.get(0))?;
    tx.execute(sql::ADD_QUEUE, [queue])?;
    let queue = tx.query_row(sql::QUEUE_ID, [queue], |row| row.get(0))?;
    tx.commit()?;
    Ok((PeerId(next - 1), queue))
}

/// Makes a peer known.
pub(super) fn enter(db: &Connection, me: PeerId, queue: i64, joining: &Joining) -> rusqlite::Result<()> {
    let concurrency = match joining.role {
        Role::Pool => 0,
        Role::Worker { concurrency } => concurrency.max(1) as i64,
    };
    let lease = joining.lease.as_millis() as i64;
    db.execute(
        sql::ADD_PEER,
        params![
            me.0,
            queue,
            concurrency,
            std::process::id(),
            lease,
            joining.initializer
        ],
    )?;
    Ok(())
}

pub(super) fn all(db: &Connection) -> rusqlite::Result<Vec<Peer>> {
    let mut statement = db.prepare_cached(sql::PEERS)?;
    let rows = statement.query_map([], |row| {
        let concurrency: i64 = row.get(1)?;
        Ok(Peer {
            id: PeerId(row.get(0)?),
            role: match usize::try_from(concurrency) {
                Ok(concurrency) if concurrency > 0 => Role::Worker { concurrency },
                _ => Role::Pool,
            },
            queue: row.get(2)?,
            pid: row.get::<_, i64>(3)? as u32,
            lease: Duration::from_millis(row.get::<_, i64>(4)?.max(1) as u64),
            beat: row.get(5)?,
        })
    })?;
    rows.collect()
}

/// Rules 3 to 5. The pools that were sent something; nothing if the peer was buried before.
pub(super) fn bury(broker: &Sqlite, peer: PeerId, reason: &str) -> Result<Option<Vec<PeerId>>> {
    // First the fence, then the marks. A fence that cannot be written leaves the peer to another try.
    broker
        .folder
        .fence(peer)
        .map_err(|error| crate::BrokerError::Failed {
            broker: broker.path.clone().into(),
            reason: format!("cannot fence peer {}: {error}", peer.0),
        })?;
    broker.write(|tx| {
        let bury = || -> rusqlite::Result<Option<Vec<PeerId>>> {
            let queue: Option<i64> = tx
                .prepare_cached(sql::REMOVE_PEER)?
                .query_row([peer.0], |row| row.get(0))
                .optional()?;
            let Some(queue) = queue else {
                return Ok(None);
            };
            // Without its file nobody can say what it had begun.
            let marks = broker.folder.marks(peer);
            let leased = tx
                .prepare_cached(sql::LEASED)?
                .query_map([peer.0], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
            // Rule 6: what ended, and waited for its transaction.
            let outcomes = if leased.is_empty() {
                HashMap::new()
            } else {
                broker.folder.outcomes(peer)
            };
            let mut pools = Vec::new();
            for (id, pool) in leased {
                let begun = marks.as_ref().is_none_or(|marks| marks.contains(&id));
                tx.prepare_cached(sql::END)?.execute([id, peer.0])?;
                tx.prepare_cached(sql::REMOVE_PAYLOAD)?.execute([id])?;
                let lost = if begun { LOST_BEGUN } else { LOST };
                let (kind, took, body) = match outcomes.get(&id) {
                    Some(outcome) => (outcome.kind, outcome.took_us, &outcome.body[..]),
                    None => (lost, 0, reason.as_bytes()),
                };
                tx.prepare_cached(sql::REPLY)?
                    .execute(params![pool, id, kind, peer.0, took, body])?;
                pools.push(PeerId(pool));
            }
            tx.prepare_cached(sql::PURGE_PAYLOADS)?.execute([peer.0])?;
            // A peer publishes to its own queue only.
            let dropped = tx.prepare_cached(sql::PURGE_READY)?.execute([peer.0])?;
            super::messages::count(tx, queue, -(dropped as i64))?;
            for purge in [
                sql::PURGE_LEASED,
                sql::PURGE_REPLIES,
                sql::PURGE_CALLS,
                sql::PURGE_CANCELS,
                sql::PURGE_SHARES,
            ] {
                tx.prepare_cached(purge)?.execute([peer.0])?;
            }
            pools.sort_unstable();
            pools.dedup();
            Ok(Some(pools))
        };
        bury().map_err(|error| broker.fail(error))
    })
}
