//! Outcomes of tasks in a file, and which calls with a key are to run.

use super::group::{Keeps, Write};
use super::{File, millis};
use crate::BrokerError;
use crate::app::broker::{Outcome, Results, Seen};
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};
use serde_json::Value;
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, BrokerError>;

const SWEEP: Duration = Duration::from_secs(60);

impl File {
    /// When what is kept from now on is kept no longer, in milliseconds of Unix time.
    pub(super) fn expires_at(&self) -> i64 {
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
}

/// Drops what is kept no longer.
pub(super) fn sweep(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let now = Timestamp::now().as_millisecond();
    for sql in [
        "DELETE FROM revoked WHERE expires < ?",
        "DELETE FROM keys WHERE expires < ?",
    ] {
        tx.prepare_cached(sql)?.execute([now])?;
    }
    // The oldest are first.
    let mut oldest = tx.prepare_cached("SELECT number, expires FROM results ORDER BY number LIMIT 10000")?;
    let rows = oldest.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut last = None;
    for row in rows {
        let (number, expires): (i64, i64) = row?;
        if expires >= now {
            break;
        }
        last = Some(number);
    }
    tx.prepare_cached("DELETE FROM results WHERE number <= ?")?
        .execute([last])?;
    Ok(())
}

impl Results for File {
    fn store(&self, outcome: Outcome) -> Result<()> {
        if self.is_to_sweep() {
            self.write(Keeps::Kills, sweep)?;
        }
        let outcome = Some((outcome, self.expires_at()));
        self.write_with_others(Write::Conclude {
            lease: None,
            outcome,
            next: Vec::new(),
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
        self.write(Keeps::PowerCuts, |tx| {
            tx.execute("DELETE FROM results WHERE id = ?", [id]).map(drop)
        })
    }

    fn claim(&self, key: &str, copy: &str) -> Result<bool> {
        let expires = self.expires_at();
        self.write(Keeps::PowerCuts, |tx| {
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
