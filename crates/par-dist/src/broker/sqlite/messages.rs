//! Messages: published, leased, settled and collected, a batch to a transaction.

use super::peers::{FAILED, LOST, LOST_BEGUN, REPLY};
use super::{Sqlite, sql};
use crate::broker::{
    Arrival, BrokerError, CallId, Delivery, Lease, MessageId, Outgoing, PeerId, Result, Settled, Verdict,
};
use par_core::TaskError;
use par_core::remote::Part;
use par_core::wire;
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::borrow::Cow;
use std::time::Duration;

/// A payload above this is stored apart: SQLite writes a row anew when it is leased.
const APART: usize = 2048;

/// The most replies that are collected at a time.
const COLLECT: usize = 1024;

pub(super) fn publish(broker: &Sqlite, batch: &[Outgoing]) -> Result<Vec<MessageId>> {
    broker.write(|tx| {
        let insert = || -> rusqlite::Result<Option<Vec<MessageId>>> {
            if !tx.prepare_cached(sql::PEER_EXISTS)?.exists([broker.me.0])? {
                return Ok(None);
            }
            let count = batch.len() as i64;
            let next: i64 = tx
                .prepare_cached(sql::TAKE_NUMBERS)?
                .query_row([count], |row| row.get(0))?;
            let mut add = tx.prepare_cached(sql::ADD_MESSAGE)?;
            let mut ids = Vec::with_capacity(batch.len());
            for (id, message) in (next - count..next).zip(batch) {
                let inline = if message.payload.len() > APART {
                    tx.prepare_cached(sql::ADD_PAYLOAD)?
                        .execute(params![id, message.payload])?;
                    None
                } else {
                    Some(&message.payload)
                };
                add.execute(params![
                    id,
                    broker.queue,
                    broker.me.0,
                    message.root.unwrap_or(broker.me).0,
                    message.job as i64,
                    message.call.0,
                    message.part.first as i64,
                    message.part.items as i64,
                    message.shares,
                    inline,
                ])?;
                ids.push(MessageId(id));
            }
            self::count(tx, broker.queue, count)?;
            Ok(Some(ids))
        };
        match insert().map_err(|error| broker.fail(error))? {
            Some(ids) => Ok(ids),
            None => Err(BrokerError::Buried {
                lease: broker.joined.lease,
            }),
        }
    })
}

pub(super) fn withdraw(broker: &Sqlite, job: u64, most: usize) -> Result<Vec<MessageId>> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let own = [broker.me.0, job as i64];
    if !broker.with(|db| db.prepare_cached(sql::HAS_READY_OF)?.exists(own))? {
        return Ok(Vec::new());
    }
    broker.write(|tx| {
        let take = || -> rusqlite::Result<Vec<MessageId>> {
            let mut statement = tx.prepare_cached(sql::WITHDRAW)?;
            let rows = statement.query_map(params![broker.me.0, job as i64, most], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            let taken = rows.collect::<rusqlite::Result<Vec<(i64, bool)>>>()?;
            for (id, _) in taken.iter().filter(|(_, apart)| *apart) {
                tx.prepare_cached(sql::REMOVE_PAYLOAD)?.execute([id])?;
            }
            count(tx, broker.queue, -(taken.len() as i64))?;
            Ok(taken.into_iter().map(|(id, _)| MessageId(id)).collect())
        };
        take().map_err(|error| broker.fail(error))
    })
}

/// Counts messages that came to wait in a queue, or left it.
pub(super) fn count(db: &Connection, queue: i64, more: i64) -> rusqlite::Result<()> {
    if more != 0 {
        db.prepare_cached(sql::ADD_READY)?.execute([queue, more])?;
    }
    Ok(())
}

pub(super) fn lease(broker: &Sqlite, most: usize, bytes: usize) -> Result<Vec<Delivery>> {
    let mut slots = broker.slots.lock();
    let most = most.min(slots.len());
    let ready = most > 0 && broker.with(|db| db.prepare_cached(sql::IS_READY)?.exists([broker.queue]))?;
    if !ready {
        return Ok(Vec::new());
    }
    let deliveries = broker.write(|tx| {
        let take = || -> rusqlite::Result<Vec<Delivery>> {
            let mut deliveries: Vec<Delivery> = Vec::new();
            let mut size = 0;
            let mut statement = tx.prepare_cached(sql::READY)?;
            let mut rows = statement.query(params![broker.queue, most as i64])?;
            while size < bytes
                && let Some(row) = rows.next()?
            {
                let delivery = read(tx, row, slots[slots.len() - 1 - deliveries.len()])?;
                size += delivery.payload.len();
                deliveries.push(delivery);
            }
            if let Some(last) = deliveries.last() {
                let last = last.lease.id.0;
                tx.prepare_cached(sql::LEASE)?
                    .execute(params![broker.me.0, broker.queue, last])?;
                count(tx, broker.queue, -(deliveries.len() as i64))?;
            }
            Ok(deliveries)
        };
        take().map_err(|error| broker.fail(error))
    })?;
    let left = slots.len() - deliveries.len();
    slots.truncate(left);
    Ok(deliveries)
}

fn read(db: &Connection, row: &Row<'_>, slot: usize) -> rusqlite::Result<Delivery> {
    let id: i64 = row.get(0)?;
    let inline: Option<Vec<u8>> = row.get(8)?;
    let apart = inline.is_none();
    let payload = match inline {
        Some(payload) => payload,
        None => db
            .prepare_cached(sql::PAYLOAD)?
            .query_row([id], |row| row.get(0))
            .optional()?
            .unwrap_or_default(),
    };
    Ok(Delivery {
        lease: Lease {
            id: MessageId(id),
            slot,
            apart,
        },
        pool: PeerId(row.get(1)?),
        root: PeerId(row.get(2)?),
        job: row.get::<_, i64>(3)? as u64,
        call: CallId(row.get(4)?),
        part: Part {
            first: row.get::<_, i64>(5)? as u64,
            items: row.get::<_, i64>(6)? as u64,
        },
        shares: row.get(7)?,
        payload,
    })
}

fn free(broker: &Sqlite, leases: impl Iterator<Item = Lease>) {
    broker.slots.lock().extend(leases.map(|lease| lease.slot));
}

pub(super) fn release(broker: &Sqlite, leases: &[Lease]) -> Result<()> {
    broker.write(|tx| {
        let give_back = || -> rusqlite::Result<()> {
            let mut statement = tx.prepare_cached(sql::RELEASE)?;
            let mut back = 0;
            for lease in leases {
                back += statement.execute([lease.id.0, broker.me.0])?;
            }
            count(tx, broker.queue, back as i64)
        };
        give_back().map_err(|error| broker.fail(error))
    })?;
    free(broker, leases.iter().copied());
    Ok(())
}

/// Deletes leased messages without a reply.
pub(super) fn end(broker: &Sqlite, leases: &[Lease]) -> Result<()> {
    broker.write(|tx| {
        let end = || -> rusqlite::Result<()> {
            for lease in leases {
                end_one(tx, broker.me, *lease)?;
            }
            Ok(())
        };
        end().map_err(|error| broker.fail(error))
    })?;
    free(broker, leases.iter().copied());
    Ok(())
}

/// Deletes a leased message; whether the lease was still good.
fn end_one(db: &Connection, me: PeerId, lease: Lease) -> rusqlite::Result<bool> {
    let held = db.prepare_cached(sql::END)?.execute([lease.id.0, me.0])? > 0;
    if held && lease.apart {
        db.prepare_cached(sql::REMOVE_PAYLOAD)?.execute([lease.id.0])?;
    }
    Ok(held)
}

pub(super) fn settle(broker: &Sqlite, batch: &[Settled]) -> Result<()> {
    broker.write(|tx| {
        let settle = || -> rusqlite::Result<()> {
            let mut reply = tx.prepare_cached(sql::REPLY)?;
            for settled in batch {
                // Rule 4: without the lease the reply has no reader.
                if !end_one(tx, broker.me, settled.lease)? {
                    continue;
                }
                let (kind, took, body) = row(settled);
                reply.execute(params![
                    settled.pool.0,
                    settled.lease.id.0,
                    kind,
                    broker.me.0,
                    took,
                    body
                ])?;
            }
            Ok(())
        };
        settle().map_err(|error| broker.fail(error))
    })?;
    free(broker, batch.iter().map(|settled| settled.lease));
    broker
        .presence
        .kept
        .drop_some(batch.iter().filter(|settled| settled.kept).count());
    Ok(())
}

/// Kind, time and body of a reply, as they stand in its row.
pub(super) fn row(settled: &Settled) -> (i64, i64, Cow<'_, [u8]>) {
    let (kind, body) = match &settled.verdict {
        Verdict::Reply(bytes) => (REPLY, Cow::Borrowed(&bytes[..])),
        // Texts and numbers always encode; should that change, the pool says that it could not read it.
        Verdict::Failed(error) => (FAILED, Cow::Owned(wire::to_bytes(error).unwrap_or_default())),
        Verdict::Lost { begun: true, reason } => (LOST_BEGUN, Cow::Borrowed(reason.as_bytes())),
        Verdict::Lost { begun: false, reason } => (LOST, Cow::Borrowed(reason.as_bytes())),
    };
    (
        kind,
        i64::try_from(settled.took.as_micros()).unwrap_or(i64::MAX),
        body,
    )
}

pub(super) fn collect(broker: &Sqlite, bytes: usize) -> Result<Vec<Arrival>> {
    if !broker.with(|db| db.prepare_cached(sql::HAS_REPLIES)?.exists([broker.me.0]))? {
        return Ok(Vec::new());
    }
    broker.write(|tx| {
        let take = || -> rusqlite::Result<Vec<Arrival>> {
            let mut arrivals: Vec<Arrival> = Vec::new();
            let mut size = 0;
            let mut statement = tx.prepare_cached(sql::REPLIES)?;
            let mut rows = statement.query(params![broker.me.0, COLLECT as i64])?;
            while size < bytes
                && let Some(row) = rows.next()?
            {
                let body: Vec<u8> = row.get(4)?;
                size += body.len();
                arrivals.push(Arrival {
                    id: MessageId(row.get(0)?),
                    worker: PeerId(row.get(2)?),
                    took: Duration::from_micros(row.get::<_, i64>(3)?.max(0) as u64),
                    verdict: verdict(row.get(1)?, body),
                });
            }
            if let Some(last) = arrivals.last() {
                tx.prepare_cached(sql::REMOVE_REPLIES)?
                    .execute([broker.me.0, last.id.0])?;
            }
            Ok(arrivals)
        };
        take().map_err(|error| broker.fail(error))
    })
}

fn verdict(kind: i64, body: Vec<u8>) -> Verdict {
    let reason = |body: &[u8]| String::from_utf8_lossy(body).into_owned();
    match kind {
        REPLY => Verdict::Reply(body),
        FAILED => Verdict::Failed(wire::from_bytes(&body).unwrap_or_else(|error| {
            TaskError::Codec(format!(
                "reply: the error of the worker was not readable: {error}"
            ))
        })),
        LOST => Verdict::Lost {
            begun: false,
            reason: reason(&body),
        },
        LOST_BEGUN => Verdict::Lost {
            begun: true,
            reason: reason(&body),
        },
        other => Verdict::Failed(TaskError::Codec(format!("reply: unknown kind {other}"))),
    }
}
