//! Tasks and results in one SQLite file, durable, for the processes of one machine; or in memory, for tests.
//!
//! 1. A consumer is a row with its process and its heartbeat, in milliseconds since the machine started: clocks that are set do not matter.
//! 2. What is published, and what came of a task, is on the disk when its call returns (`synchronous=FULL`). Leases and acknowledgements outlive the
//!    process and not a power cut, after which what was acknowledged early just before may be run once more.
//! 3. Who has changed the file touches it, and the system wakes a thread of each process that waits for that (`ring`).

mod group;
mod open;
mod results;

use super::ring::Ring;
use super::{Incoming, Outcome, Outgoing, Revocation, Seen, Tag, Transport};
use crate::BrokerError;
use crate::app::message::Properties;
use crate::process::Process;
use group::{Db, Keeps, Line, Write, transact};
use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, params};
use std::path::PathBuf;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, BrokerError>;

pub(crate) struct File {
    place: PathBuf,
    db: Mutex<Db>,
    /// What is to be written by whoever writes next.
    line: Mutex<Line>,
    ring: Ring,
    lease: Duration,
    expires: Duration,
    /// Its row among the consumers, once it has leased.
    consumer: Mutex<Option<i64>>,
    /// The last revocation that was heard of.
    heard: Mutex<i64>,
    swept: Mutex<Instant>,
}

impl File {
    /// Runs `work` in a transaction.
    fn write<R>(
        &self,
        keeps: Keeps,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<R>,
    ) -> Result<R> {
        let done = transact(&mut self.db.lock(), keeps, work);
        done.map_err(|error: rusqlite::Error| self.failed(&error))
    }

    fn read<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R> {
        work(&self.db.lock().connection).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &rusqlite::Error) -> BrokerError {
        let (broker, reason) = (self.place.clone().into(), error.to_string());
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => BrokerError::Full { broker, reason },
            Some(rusqlite::ErrorCode::TooBig) => BrokerError::TooLong { broker, reason },
            _ => BrokerError::Failed { broker, reason },
        }
    }

    /// The number of this consumer, whose row it makes.
    fn consumer(&self) -> Result<i64> {
        let mut consumer = self.consumer.lock();
        if let Some(known) = *consumer {
            return Ok(known);
        }
        let me = Process::this();
        let until = since_boot() + millis(self.lease);
        let made = self.write(Keeps::Kills, |tx| {
            tx.execute(
                "INSERT INTO consumers (boot, pid, started, until) VALUES (?, ?, ?, ?)",
                params![me.boot, me.pid, me.started, until],
            )?;
            Ok(tx.last_insert_rowid())
        })?;
        *consumer = Some(made);
        Ok(made)
    }
}

impl Transport for File {
    fn publish(&self, tasks: &[Outgoing]) -> Result<()> {
        self.write_with_others(Write::Publish(tasks.to_vec()))?;
        self.ring.ring();
        Ok(())
    }

    fn lease(&self, queues: &[String], most: usize) -> Result<Vec<Incoming>> {
        // Who finds nothing takes no lock of a writer.
        let now = Timestamp::now().as_millisecond();
        let any = self.read(|db| {
            let mut ready = db.prepare_cached(
                "SELECT 1 FROM tasks WHERE queue = ? AND consumer IS NULL AND due IS NULL LIMIT 1",
            )?;
            let mut due = db.prepare_cached(
                "SELECT 1 FROM tasks WHERE queue = ? AND consumer IS NULL AND due IS NOT NULL AND due <= ? LIMIT 1",
            )?;
            for queue in queues {
                if ready.exists([queue])? || due.exists(params![queue, now])? {
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if !any || most == 0 {
            return Ok(Vec::new());
        }
        let consumer = self.consumer()?;
        self.write(Keeps::Kills, |tx| {
            let mut leased = Vec::new();
            for queue in queues {
                tx.prepare_cached(
                    "UPDATE tasks SET due = NULL WHERE queue = ? AND consumer IS NULL AND due IS NOT NULL AND due <= ?",
                )?
                .execute(params![queue, now])?;
                let mut take = tx.prepare_cached(
                    "UPDATE tasks SET consumer = ?1 WHERE id IN
                       (SELECT id FROM tasks WHERE queue = ?2 AND consumer IS NULL AND due IS NULL
                        ORDER BY priority DESC, id LIMIT ?3)
                     RETURNING id, redelivered, headers, properties, body, priority",
                )?;
                let room = i64::try_from(most - leased.len()).unwrap_or(i64::MAX);
                let rows = take.query_map(params![consumer, queue, room], |row| {
                    let (headers, properties): (String, String) = (row.get(2)?, row.get(3)?);
                    let incoming = Incoming {
                        tag: Tag(row.get(0)?),
                        queue: queue.clone(),
                        redelivered: row.get(1)?,
                        left: None,
                        // What somebody else has written there is no task; the worker says so.
                        headers: serde_json::from_str(&headers).unwrap_or_default(),
                        properties: serde_json::from_str(&properties).unwrap_or_else(|_| Properties {
                            content_type: properties,
                            content_encoding: String::new(),
                            correlation_id: String::new(),
                            reply_to: None,
                            priority: 0,
                        }),
                        body: row.get(4)?,
                    };
                    Ok((row.get::<_, i64>(5)?, incoming))
                })?;
                // What an update returns is in no order.
                let mut rows: Vec<(i64, Incoming)> = rows.collect::<rusqlite::Result<_>>()?;
                rows.sort_by_key(|(priority, incoming)| (-priority, incoming.tag.0));
                leased.extend(rows.into_iter().map(|(_, incoming)| incoming));
                if leased.len() == most {
                    break;
                }
            }
            Ok(leased)
        })
    }

    fn next_due(&self, queues: &[String]) -> Result<Option<Duration>> {
        let due = self.read(|db| {
            let mut next = db.prepare_cached(
                "SELECT min(due) FROM tasks WHERE queue = ? AND consumer IS NULL AND due IS NOT NULL",
            )?;
            let mut due: Option<i64> = None;
            for queue in queues {
                let here: Option<i64> = next.query_row([queue], |row| row.get(0))?;
                due = due.into_iter().chain(here).min();
            }
            Ok(due)
        })?;
        let now = Timestamp::now().as_microsecond();
        let left = |due: i64| due.saturating_mul(1000).saturating_sub(now).max(0);
        Ok(due.map(|due| Duration::from_micros(left(due).unsigned_abs())))
    }

    fn acknowledge(&self, tags: &[Tag]) -> Result<usize> {
        self.write_with_others(Write::Acknowledge(self.consumer()?, tags.to_vec()))
    }

    fn release(&self, tags: &[Tag]) -> Result<()> {
        let consumer = self.consumer()?;
        self.write(Keeps::Kills, |tx| {
            let mut back = tx.prepare_cached(
                "UPDATE tasks SET consumer = NULL, redelivered = 1 WHERE id = ? AND consumer = ?",
            )?;
            tags.iter()
                .try_for_each(|tag| back.execute([tag.0, consumer]).map(drop))
        })?;
        self.ring.ring();
        Ok(())
    }

    fn conclude(&self, lease: Option<Tag>, outcome: Option<Outcome>, next: &[Outgoing]) -> Result<()> {
        let rings = outcome.is_some() || !next.is_empty();
        self.write_with_others(Write::Conclude {
            lease: match lease {
                Some(tag) => Some((self.consumer()?, tag)),
                None => None,
            },
            outcome: outcome.map(|outcome| (outcome, self.expires_at())),
            next: next.to_vec(),
        })?;
        if rings {
            self.ring.ring();
        }
        Ok(())
    }

    fn beat(&self) -> Result<()> {
        let (me, this, now) = (self.consumer()?, Process::this(), since_boot());
        let until = now + millis(self.lease);
        let freed = self.write(Keeps::Kills, |tx| {
            let mut is_there = tx.prepare_cached("UPDATE consumers SET until = ? WHERE id = ?")?;
            if is_there.execute([until, me])? == 0 {
                // Others took this process for dead, and its leases with it. It goes on as itself.
                tx.execute(
                    "INSERT INTO consumers (id, boot, pid, started, until) VALUES (?, ?, ?, ?, ?)",
                    params![me, this.boot, this.pid, this.started, until],
                )?;
            }
            let mut others =
                tx.prepare_cached("SELECT id, boot, pid, started, until FROM consumers WHERE id <> ?")?;
            let others = others.query_map([me], |row| {
                let other = Process {
                    boot: row.get(1)?,
                    pid: row.get(2)?,
                    started: row.get(3)?,
                };
                Ok((row.get(0)?, other, row.get::<_, i64>(4)?))
            })?;
            let others: Vec<(i64, Process, i64)> = others.collect::<rusqlite::Result<_>>()?;
            let mut freed = 0;
            for (id, process, until) in others {
                if !process.is_of_this_boot(&this) || until < now || process.is_dead(&this) {
                    freed += tx.execute(
                        "UPDATE tasks SET consumer = NULL, redelivered = 1 WHERE consumer = ?",
                        [id],
                    )?;
                    tx.execute("DELETE FROM consumers WHERE id = ?", [id])?;
                }
            }
            results::sweep(tx)?;
            Ok(freed)
        })?;
        if freed > 0 {
            self.ring.ring();
        }
        Ok(())
    }

    fn lease_time(&self) -> Duration {
        self.lease
    }

    fn waiting(&self, queue: &str) -> Result<u64> {
        self.read(|db| {
            db.prepare_cached("SELECT count(*) FROM tasks WHERE queue = ? AND consumer IS NULL")?
                .query_row([queue], |row| row.get::<_, i64>(0))
                // A number of rows is none below zero.
                .map(i64::unsigned_abs)
        })
    }

    fn purge(&self, queue: &str) -> Result<u64> {
        let dropped = self.write(Keeps::Kills, |tx| {
            tx.execute("DELETE FROM tasks WHERE queue = ? AND consumer IS NULL", [queue])
        })?;
        Ok(dropped as u64)
    }

    fn revoke(&self, revocation: &Revocation) -> Result<()> {
        let expires = self.expires_at();
        self.write(Keeps::PowerCuts, |tx| {
            tx.prepare_cached("INSERT INTO revoked (id, terminate, expires) VALUES (?, ?, ?)")?
                .execute(params![revocation.id, revocation.terminate, expires])
                .map(drop)
        })?;
        self.ring.ring();
        Ok(())
    }

    fn revoked(&self) -> Result<Vec<Revocation>> {
        let mut heard = self.heard.lock();
        let news = self.read(|db| {
            let mut news = db.prepare_cached(
                "SELECT number, id, terminate FROM revoked WHERE number > ? ORDER BY number",
            )?;
            let news = news.query_map([*heard], |row| {
                let revocation = Revocation {
                    id: row.get(1)?,
                    terminate: row.get(2)?,
                };
                Ok((row.get(0)?, revocation))
            })?;
            news.collect::<rusqlite::Result<Vec<(i64, Revocation)>>>()
        })?;
        *heard = news.last().map_or(*heard, |(number, _)| *number);
        Ok(news.into_iter().map(|(_, revocation)| revocation).collect())
    }

    fn seen(&self) -> Seen {
        self.ring.seen()
    }

    fn wait(&self, since: Seen, timeout: Duration) {
        self.ring.wait(since, timeout);
    }

    fn wake(&self) {
        self.ring.ring();
    }
}

impl Drop for File {
    /// Leaves: what it had leased is free at once.
    fn drop(&mut self) {
        if let Some(me) = self.consumer.get_mut().take() {
            let left = self.write(Keeps::Kills, |tx| {
                tx.execute(
                    "UPDATE tasks SET consumer = NULL, redelivered = 1 WHERE consumer = ?",
                    [me],
                )?;
                tx.execute("DELETE FROM consumers WHERE id = ?", [me])
            });
            // If that fails, its heartbeat ends, and the others take it for dead.
            let _ = left;
        }
    }
}

fn since_boot() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec * 1000 + now.tv_nsec / 1_000_000
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis())
        .unwrap_or(i64::MAX / 4)
        .min(i64::MAX / 4)
}
