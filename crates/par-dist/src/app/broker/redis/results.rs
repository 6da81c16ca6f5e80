//! Outcomes of tasks on a Redis server, and which calls with a key are to run.

use super::Redis;
use crate::BrokerError;
use crate::app::broker::{Outcome, Results, Seen};
use ::redis::cmd;
use serde_json::Value;
use std::time::Duration;

type Result<T> = std::result::Result<T, BrokerError>;

pub(super) fn meta(id: &str) -> String {
    format!("celery-task-meta-{id}")
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis())
        .unwrap_or(u64::MAX)
        .clamp(1, i64::MAX as u64 / 4)
}

impl Results for Redis {
    fn store(&self, outcome: Outcome) -> Result<()> {
        self.put(None, Some(&outcome), &[]).map(drop)
    }

    fn reply_to(&self) -> Option<&str> {
        None
    }

    fn outcome(&self, id: &str) -> Result<Option<Value>> {
        let document: Option<String> = self.call(|connection| cmd("GET").arg(meta(id)).query(connection))?;
        Ok(document.and_then(|document| serde_json::from_str(&document).ok()))
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.call(|connection| cmd("DEL").arg(meta(id)).query::<u64>(connection))
            .map(drop)
    }

    fn claim(&self, key: &str, copy: &str) -> Result<bool> {
        let key = format!("par.key.{key}");
        self.call(|connection| {
            let mut set = cmd("SET");
            set.arg(&key).arg(copy).arg("NX").arg("PX");
            set.arg(millis(self.expires))
                .query::<Option<String>>(connection)?;
            let owner: Option<String> = cmd("GET").arg(&key).query(connection)?;
            Ok(owner.as_deref() == Some(copy))
        })
    }

    fn seen(&self) -> Seen {
        self.listener.ring.seen()
    }

    fn wait(&self, id: &str, since: Seen, timeout: Duration) {
        // Who cannot listen looks again, and is told then.
        let _ = self.listen_for(&meta(id));
        self.listener.ring.wait(since, timeout);
    }
}
