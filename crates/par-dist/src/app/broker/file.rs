//! Tasks and results in one SQLite file, durable, for the processes of one machine; or in memory, for tests.
//!
//! 1. A consumer is a row with its process and its heartbeat, in milliseconds since the machine started: clocks that are set do not matter.
//! 2. A commit is on the disk when its call returns (`synchronous=FULL`).
//! 3. Other processes' changes are noticed by a thread that the system wakes when the log of the file grows (`ring`).

use super::ring::Ring;
use super::{Incoming, Outgoing, Results, Revocation, Seen, Tag, Transport};
use crate::BrokerError;
use crate::app::message::Properties;
use crate::process::Process;
use jiff::Timestamp;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde_json::Value;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, BrokerError>;

/// What marks the file as ours: "parQ".
const APPLICATION: i64 = 0x7061_7251;
const VERSION: i64 = 1;
/// How long a transaction waits for those of others.
const BUSY: Duration = Duration::from_secs(60);
const SWEEP: Duration = Duration::from_secs(60);

const SCHEMA: &str = "
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    due INTEGER,                -- milliseconds of Unix time; NULL: at once
    consumer INTEGER,           -- who has leased it
    redelivered INTEGER NOT NULL DEFAULT 0,
    headers TEXT NOT NULL,
    properties TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX ready ON tasks (queue, priority DESC, id) WHERE consumer IS NULL AND due IS NULL;
CREATE INDEX later ON tasks (queue, due) WHERE consumer IS NULL AND due IS NOT NULL;
CREATE INDEX leased ON tasks (consumer) WHERE consumer IS NOT NULL;
CREATE TABLE consumers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    started INTEGER NOT NULL,   -- of the process, in ticks since boot: pids are used again
    until INTEGER NOT NULL
) STRICT;
CREATE TABLE results (
    id TEXT PRIMARY KEY,
    expires INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX old ON results (expires);
CREATE TABLE revoked (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL,
    terminate INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;
CREATE TABLE keys (
    key TEXT PRIMARY KEY,
    copy TEXT NOT NULL,
    expires INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX old_keys ON keys (expires);
";

pub(crate) struct File {
    place: PathBuf,
    db: Mutex<Connection>,
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
    /// In memory, where there is no path.
    pub(crate) fn open(path: Option<&Path>, lease: Duration, expires: Duration) -> Result<Self> {
        let place = path.map_or_else(|| PathBuf::from(":memory:"), Path::to_path_buf);
        let refused = |error: rusqlite::Error| refused(&place, &error);
        if let Some(path) = path {
            // Made here, so that nobody but the user may read it; SQLite gives its other files the same rights.
            std::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(|error| BrokerError::Open {
                    broker: path.into(),
                    reason: error.to_string(),
                })?;
        }
        let mut db = Connection::open(&place).map_err(refused)?;
        db.busy_timeout(BUSY).map_err(refused)?;
        let fresh = check(&db, &place)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(refused)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(refused)?;
        db.pragma_update(None, "temp_store", "MEMORY").map_err(refused)?;
        db.pragma_update(None, "journal_size_limit", 64 << 20)
            .map_err(refused)?;
        db.set_prepared_statement_cache_capacity(64);
        if fresh {
            let tx = db
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(refused)?;
            // Another process may have been first.
            if check(&tx, &place)? {
                tx.execute_batch(SCHEMA).map_err(refused)?;
                tx.pragma_update(None, "application_id", APPLICATION)
                    .map_err(refused)?;
                tx.pragma_update(None, "user_version", VERSION).map_err(refused)?;
            }
            tx.commit().map_err(refused)?;
        }
        let ring = Ring::new(path);
        Ok(File {
            place,
            db: Mutex::new(db),
            ring,
            lease,
            expires,
            consumer: Mutex::new(None),
            heard: Mutex::new(0),
            swept: Mutex::new(Instant::now()),
        })
    }

    /// Runs `work` in a transaction.
    fn write<R>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<R>) -> Result<R> {
        let mut db = self.db.lock();
        let done = (|| {
            let tx = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&tx)?;
            tx.commit()?;
            Ok(done)
        })();
        drop(db);
        done.map_err(|error: rusqlite::Error| self.failed(&error))
    }

    fn read<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R> {
        work(&self.db.lock()).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &rusqlite::Error) -> BrokerError {
        let (broker, reason) = (self.place.clone().into(), error.to_string());
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => BrokerError::Full { broker, reason },
            _ => BrokerError::Failed { broker, reason },
        }
    }

    /// When what is kept from now on is kept no longer, in milliseconds of Unix time.
    fn expires_at(&self) -> i64 {
        Timestamp::now().as_millisecond() + millis(self.expires)
    }

    /// Whether it is time to drop what is kept no longer: where only results are here, nobody shows a heartbeat, which does that.
    fn is_to_sweep(&self) -> bool {
        let mut swept = self.swept.lock();
        let is = swept.elapsed() > SWEEP;
        if is {
            *swept = Instant::now();
        }
        is
    }

    /// The number of this consumer, whose row it makes.
    fn consumer(&self) -> Result<i64> {
        let mut consumer = self.consumer.lock();
        if let Some(known) = *consumer {
            return Ok(known);
        }
        let me = Process::this();
        let until = since_boot() + millis(self.lease);
        let made = self.write(|tx| {
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

fn insert(tx: &Transaction<'_>, task: &Outgoing) -> rusqlite::Result<()> {
    let message = &task.message;
    tx.prepare_cached(
        "INSERT INTO tasks (queue, priority, due, headers, properties, body) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        task.queue,
        message.properties.priority,
        task.at.map(Timestamp::as_millisecond),
        text(&message.write_headers()),
        text(&message.properties),
        message.write_body(),
    ])?;
    Ok(())
}

/// Values always encode.
fn text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

impl Transport for File {
    fn publish(&self, tasks: &[Outgoing]) -> Result<()> {
        self.write(|tx| tasks.iter().try_for_each(|task| insert(tx, task)))?;
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
        self.write(|tx| {
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

    fn next_due(&self, queues: &[String]) -> Result<Option<Timestamp>> {
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
        Ok(due.and_then(|due| Timestamp::from_millisecond(due).ok()))
    }

    fn acknowledge(&self, tags: &[Tag]) -> Result<usize> {
        let consumer = self.consumer()?;
        self.write(|tx| {
            let mut end = tx.prepare_cached("DELETE FROM tasks WHERE id = ? AND consumer = ?")?;
            tags.iter().map(|tag| end.execute([tag.0, consumer])).sum()
        })
    }

    fn release(&self, tags: &[Tag]) -> Result<()> {
        let consumer = self.consumer()?;
        self.write(|tx| {
            let mut back = tx.prepare_cached(
                "UPDATE tasks SET consumer = NULL, redelivered = 1 WHERE id = ? AND consumer = ?",
            )?;
            tags.iter()
                .try_for_each(|tag| back.execute([tag.0, consumer]).map(drop))
        })?;
        self.ring.ring();
        Ok(())
    }

    fn replace(&self, tag: Tag, by: &[Outgoing]) -> Result<()> {
        let consumer = self.consumer()?;
        self.write(|tx| {
            let ended = tx.execute(
                "DELETE FROM tasks WHERE id = ? AND consumer = ?",
                [tag.0, consumer],
            )?;
            // Whoever has it now sends what follows.
            if ended > 0 {
                by.iter().try_for_each(|task| insert(tx, task))?;
            }
            Ok(())
        })?;
        self.ring.ring();
        Ok(())
    }

    fn beat(&self) -> Result<()> {
        let (me, this, now) = (self.consumer()?, Process::this(), since_boot());
        let until = now + millis(self.lease);
        let freed = self.write(|tx| {
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
            sweep(tx)?;
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
        let dropped =
            self.write(|tx| tx.execute("DELETE FROM tasks WHERE queue = ? AND consumer IS NULL", [queue]))?;
        Ok(dropped as u64)
    }

    fn revoke(&self, revocation: &Revocation) -> Result<()> {
        let expires = self.expires_at();
        self.write(|tx| {
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

/// Drops what is kept no longer.
fn sweep(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let now = Timestamp::now().as_millisecond();
    for sql in [
        "DELETE FROM results WHERE expires < ?",
        "DELETE FROM revoked WHERE expires < ?",
        "DELETE FROM keys WHERE expires < ?",
    ] {
        tx.prepare_cached(sql)?.execute([now])?;
    }
    Ok(())
}

impl Results for File {
    fn store(&self, id: &str, _: Option<&str>, document: &Value) -> Result<()> {
        let expires = self.expires_at();
        let sweeps = self.is_to_sweep();
        self.write(|tx| {
            if sweeps {
                sweep(tx)?;
            }
            tx.prepare_cached("INSERT OR REPLACE INTO results (id, expires, document) VALUES (?, ?, ?)")?
                .execute(params![id, expires, document.to_string()])
                .map(drop)
        })?;
        self.ring.ring();
        Ok(())
    }

    fn reply_to(&self) -> Option<&str> {
        None
    }

    fn outcome(&self, id: &str) -> Result<Option<Value>> {
        let document: Option<String> = self.read(|db| {
            db.prepare_cached("SELECT document FROM results WHERE id = ?")?
                .query_row([id], |row| row.get(0))
                .optional()
        })?;
        Ok(document.and_then(|document| serde_json::from_str(&document).ok()))
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.write(|tx| tx.execute("DELETE FROM results WHERE id = ?", [id]).map(drop))
    }

    fn claim(&self, key: &str, copy: &str) -> Result<bool> {
        let expires = self.expires_at();
        self.write(|tx| {
            tx.prepare_cached("INSERT OR IGNORE INTO keys (key, copy, expires) VALUES (?, ?, ?)")?
                .execute(params![key, copy, expires])?;
            tx.prepare_cached("SELECT copy = ? FROM keys WHERE key = ?")?
                .query_row([copy, key], |row| row.get(0))
        })
    }

    fn seen(&self) -> Seen {
        self.ring.seen()
    }

    fn wait(&self, _: &str, since: Seen, timeout: Duration) {
        self.ring.wait(since, timeout);
    }
}

impl Drop for File {
    /// Leaves: what it had leased is free at once.
    fn drop(&mut self) {
        if let Some(me) = self.consumer.get_mut().take() {
            let left = self.write(|tx| {
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

/// Whether the file is new and empty; an error if it is not ours, or too new.
fn check(db: &Connection, place: &Path) -> Result<bool> {
    let refused = |error: rusqlite::Error| refused(place, &error);
    let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = number("application_id").map_err(refused)?;
    let version = number("user_version").map_err(refused)?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(refused)?;
    match (application, tables) {
        (0, 0) => Ok(true),
        (APPLICATION, _) if version == VERSION => Ok(false),
        (APPLICATION, _) if version > VERSION => Err(BrokerError::Newer {
            broker: place.into(),
            theirs: version,
            ours: VERSION,
        }),
        _ => Err(BrokerError::Foreign {
            broker: place.into(),
            reason: format!(
                "it is an SQLite database of another program, with {tables} table(s) and indexes"
            ),
        }),
    }
}

/// What an error means while the file is being opened.
fn refused(place: &Path, error: &rusqlite::Error) -> BrokerError {
    let (broker, reason) = (place.into(), error.to_string());
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            BrokerError::Foreign { broker, reason }
        }
        Some(rusqlite::ErrorCode::DiskFull) => BrokerError::Full { broker, reason },
        _ => BrokerError::Open { broker, reason },
    }
}
