//! Opening the file of a broker: whose it is, which version, and how SQLite is to treat it.

use super::sql;
use crate::broker::BrokerError;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What marks the file as ours: "parB".
const APPLICATION: i64 = 0x7061_7242;
/// The version of the tables.
pub(super) const VERSION: i64 = 1;

/// How long a transaction waits for those of others. One of 100 MiB takes about a second.
const BUSY: Duration = Duration::from_secs(60);

/// How a broker's file is opened.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    /// Nothing in it outlives the pool that made it.
    pub(crate) temporary: bool,
    /// The most bytes that it may grow to.
    pub(crate) limit: Option<u64>,
}

/// Opens the file, or makes it where there is none.
pub(super) fn open(place: &Place) -> Result<Connection, BrokerError> {
    let path = &place.path;
    // Made here, so that nobody but the user may read it; SQLite gives its other files the same rights.
    crate::private_file::make(path).map_err(|error| BrokerError::Open {
        broker: path.clone().into(),
        reason: error.to_string(),
    })?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(|error| refused(path, &error))?;
    prepare(&mut db, place)?;
    Ok(db)
}

fn prepare(db: &mut Connection, place: &Place) -> Result<(), BrokerError> {
    let path = &place.path;
    let refused = |error: rusqlite::Error| refused(path, &error);
    db.busy_timeout(BUSY).map_err(refused)?;
    // Looked at before anything is changed: the file may be somebody else's.
    let fresh = check(db, path)?;
    // Readers and a writer at once. A transaction is a write to the log; who else opens the file meanwhile may hold it for a moment.
    db.pragma_update(None, "journal_mode", "WAL").map_err(refused)?;
    // NORMAL: a killed process loses nothing. A power cut may lose the last moments, and with them the pools, in whose
    // memory the handles are: nobody is left who was promised something. The file stays whole.
    db.pragma_update(
        None,
        "synchronous",
        if place.temporary { "OFF" } else { "NORMAL" },
    )
    .map_err(refused)?;
    db.pragma_update(None, "journal_size_limit", 64 << 20)
        .map_err(refused)?;
    db.pragma_update(None, "temp_store", "MEMORY").map_err(refused)?;
    db.pragma_update(None, "cache_size", -16_384).map_err(refused)?;
    if fresh {
        create(db, path)?;
    }
    if let Some(limit) = place.limit {
        let page: i64 = db
            .pragma_query_value(None, "page_size", |row| row.get(0))
            .map_err(refused)?;
        let pages = i64::try_from(limit).unwrap_or(i64::MAX) / page.max(1);
        // The pragma answers with the bound that is in force.
        db.pragma_update_and_check(None, "max_page_count", pages.max(1), |_| Ok(()))
            .map_err(refused)?;
    }
    db.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Whether the file is new and empty; an error if it is not ours, or too new.
fn check(db: &Connection, path: &Path) -> Result<bool, BrokerError> {
    let number = |pragma: &str| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let application = number("application_id").map_err(|error| refused(path, &error))?;
    let version = number("user_version").map_err(|error| refused(path, &error))?;
    let tables: i64 = db
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(|error| refused(path, &error))?;
    match (application, tables) {
        (0, 0) => Ok(true),
        (APPLICATION, _) if version == VERSION => Ok(false),
        (APPLICATION, _) if version > VERSION => Err(BrokerError::Newer {
            broker: path.into(),
            theirs: version,
            ours: VERSION,
        }),
        _ => Err(BrokerError::Foreign {
            broker: path.into(),
            reason: format!(
                "it is an SQLite database of another program, with {tables} table(s) and indexes"
            ),
        }),
    }
}

fn create(db: &mut Connection, path: &Path) -> Result<(), BrokerError> {
    let refused = |error: rusqlite::Error| refused(path, &error);
    let tx = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(refused)?;
    // Another process may have been first.
    if check(&tx, path)? {
        tx.execute_batch(sql::SCHEMA).map_err(refused)?;
        tx.pragma_update(None, "application_id", APPLICATION)
            .map_err(refused)?;
        tx.pragma_update(None, "user_version", VERSION).map_err(refused)?;
    }
    tx.commit().map_err(refused)
}

/// What an error means while the file is being opened.
fn refused(path: &Path, error: &rusqlite::Error) -> BrokerError {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            BrokerError::Foreign {
                broker: path.into(),
                reason: error.to_string(),
            }
        }
        Some(rusqlite::ErrorCode::DiskFull) => BrokerError::Full {
            broker: path.into(),
            reason: error.to_string(),
        },
        _ => BrokerError::Open {
            broker: path.into(),
            reason: error.to_string(),
        },
    }
}
