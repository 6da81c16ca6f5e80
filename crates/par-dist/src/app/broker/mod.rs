//! What carries tasks and keeps results: the traits that hide whether it is a file, memory or a server.
//!
//! 1. A task is leased to one consumer at a time. Who acknowledges it ends it; who releases it gives it back to its queue.
//! 2. A consumer that is dead, or whose heartbeat stands still for the length of its lease, loses its leases: they go back to their queues, marked
//!    as delivered again.
//! 3. A task that is to wait until a time is kept apart, durably: it is not leased before, and takes no place of a consumer.
//! 4. Of the tasks of one queue, those of higher priority come first, and then the oldest.

mod file;
mod ring;
#[cfg(feature = "amqp")]
mod server;
#[cfg(feature = "amqp")]
mod table;

pub(super) use file::File;
#[cfg(feature = "amqp")]
pub(super) use server::Server;

use crate::BrokerError;
use crate::app::message::{Message, Properties};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::time::Duration;

type Result<T> = std::result::Result<T, BrokerError>;

/// A task on its way to a queue.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) queue: String,
    pub(crate) message: Message,
    /// When it is to be leased at the earliest (rule 3).
    pub(crate) at: Option<Timestamp>,
}

/// The longest name of a queue, and the longest id: a server adds to them, and takes 255 bytes.
const LONGEST: usize = 200;
/// The longest name of a header.
const LONGEST_HEADER: usize = 255;

impl Outgoing {
    /// Whether every broker can carry it; if not, which option is bad, and why.
    pub(crate) fn check(&self) -> std::result::Result<(), (&'static str, String)> {
        let message = &self.message;
        let names = [
            ("queue", self.queue.as_str()),
            ("id", message.headers.id.as_str()),
            ("task", message.headers.task.as_str()),
            ("reply_to", message.properties.reply_to.as_deref().unwrap_or("-")),
        ];
        for (option, name) in names {
            if name.is_empty() || name.len() > LONGEST {
                let bytes = name.len();
                return Err((option, format!("1 to {LONGEST} bytes are expected, got {bytes}")));
            }
        }
        let stamps = message.headers.stamps.iter().flat_map(Map::iter);
        let mut headers = message.headers.other.iter().chain(stamps);
        if headers.any(|(name, value)| name.len() > LONGEST_HEADER || has_long_name(value)) {
            return Err(("header", format!("a name has more than {LONGEST_HEADER} bytes")));
        }
        Ok(())
    }
}

fn has_long_name(value: &Value) -> bool {
    match value {
        Value::Object(map) => map
            .iter()
            .any(|(name, value)| name.len() > LONGEST_HEADER || has_long_name(value)),
        Value::Array(values) => values.iter().any(has_long_name),
        _ => false,
    }
}

/// The right to run a task, until it is acknowledged or released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(pub(crate) i64);

/// A leased task, as it came: it may be anything.
#[derive(Debug, Clone)]
pub(crate) struct Incoming {
    pub(crate) tag: Tag,
    pub(crate) queue: String,
    /// Whether somebody else had it before.
    pub(crate) redelivered: bool,
    pub(crate) headers: Map<String, Value>,
    pub(crate) properties: Properties,
    pub(crate) body: Vec<u8>,
}

/// A change that a thread waits for: it takes the number first, looks, and waits for another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen(pub(crate) u64);

/// What carries tasks. All calls may come from any thread.
pub(crate) trait Transport: Send + Sync {
    /// Puts tasks into their queues, all or none.
    fn publish(&self, tasks: &[Outgoing]) -> Result<()>;
    /// Leases tasks of these queues.
    fn lease(&self, queues: &[String], most: usize) -> Result<Vec<Incoming>>;
    /// When the next task of these queues that waits for a time is due.
    fn next_due(&self, queues: &[String]) -> Result<Option<Timestamp>>;
    /// Ends tasks; how many of them were still leased (rule 2).
    fn acknowledge(&self, tags: &[Tag]) -> Result<usize>;
    /// Gives tasks back to their queues.
    fn release(&self, tags: &[Tag]) -> Result<()>;
    /// Ends a leased task and publishes what follows, such as its next attempt; in a file in one step, and nothing if it is leased no more.
    fn replace(&self, tag: Tag, by: &[Outgoing]) -> Result<()>;
    /// Shows that this consumer lives, and takes back what dead ones had leased (rule 2).
    fn beat(&self) -> Result<()>;
    /// How long a heartbeat may stand still.
    fn lease_time(&self) -> Duration;
    /// How many tasks wait in a queue; in a file, those that wait for a time among them.
    fn waiting(&self, queue: &str) -> Result<u64>;
    /// Drops all tasks of a queue that nobody has leased; how many there were.
    fn purge(&self, queue: &str) -> Result<u64>;
    /// What has changed by now.
    fn seen(&self) -> Seen;
    /// Sleeps until something changes after that, or the time is up.
    fn wait(&self, since: Seen, timeout: Duration);
    /// Ends the sleep of those who wait in this process.
    fn wake(&self);
}

/// What keeps results, as documents of Celery's.
pub(crate) trait Results: Send + Sync {
    /// Keeps the outcome of a task, or tells it to the queue of who called.
    fn store(&self, id: &str, to: Option<&str>, document: &Value) -> Result<()>;
    /// The queue to which results are sent, where they are.
    fn reply_to(&self) -> Option<&str>;
    /// The outcome of a task, if one is known.
    fn outcome(&self, id: &str) -> Result<Option<Value>>;
    /// Drops an outcome.
    fn forget(&self, id: &str) -> Result<()>;
    /// What has changed by now.
    fn seen(&self) -> Seen;
    /// Sleeps until something changes after that, or the time is up.
    fn wait(&self, since: Seen, timeout: Duration);
}
