//! Opening the file of an app: its tables, and what is refused.

use super::File;
use super::group::{Db, Keeps};
use crate::BrokerError;
use crate::app::broker::ring::Ring;
use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, BrokerError>;

/// What marks the file as ours: "parQ".
const APPLICATION: i64 = 0x7061_7251;
const VERSION: i64 = 2;
/// How long a transaction waits for those of others.
const BUSY: Duration = Duration::from_secs(60);

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
    number INTEGER PRIMARY KEY,   -- so that the newest are at the end: ids are everywhere
    id TEXT NOT NULL UNIQUE,
    expires INTEGER NOT NULL,
    document TEXT NOT NULL
) STRICT;
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

impl File {
    /// In memory, where there is no path.
    pub(crate) fn open(path: Option<&Path>, lease: Duration, expires: Duration) -> Result<Self> {
        let place = path.map_or_else(|| PathBuf::from(":memory:"), Path::to_path_buf);
        let refused = |error: rusqlite::Error| refused(&place, &error);
        if let Some(path) = path {
            // Made here, so that nobody but the user may read it; SQLite gives its other files the same rights.
            crate::private_file::make(path).map_err(|error| BrokerError::Open {
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
        // Ids are everywhere, so more of their index is wanted than SQLite keeps by itself.
        db.pragma_update(None, "cache_size", -16_384).map_err(refused)?;
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
            db: Mutex::new(Db {
                connection: db,
                keeps: Keeps::PowerCuts,
            }),
            line: Mutex::default(),
            ring,
            lease,
            expires,
            consumer: Mutex::new(None),
            heard: Mutex::new(0),
            swept: Mutex::new(Instant::now()),
        })
    }
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
        (APPLICATION, _) => Err(BrokerError::Foreign {
            broker: place.into(),
            reason: format!(
                "it has schema version {version}, and this program knows {VERSION}; drain it with the program that made it"
            ),
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
