//! What carries tasks and keeps results: the traits that hide whether it is a file, memory or a server.
//!
//! 1. A task is leased to one consumer at a time. Who acknowledges it ends it; who releases it gives it back to its queue.
//! 2. A consumer that is dead, or whose heartbeat stands still for the length of its lease, loses its leases: they go back to their queues, marked
//!    as delivered again.
//! 3. A task that is to wait until a time is kept apart, durably: it is not leased before, and takes no place of a consumer.
//! 4. Of the tasks of one queue, those of higher priority come first, and then the oldest.

mod file;
mod proxy;
#[cfg(feature = "redis")]
mod redis;
mod ring;
#[cfg(feature = "amqp")]
mod server;

use file::File;
pub(super) use proxy::{Ask, Proxy, answer};
#[cfg(feature = "redis")]
use redis::Redis;
#[cfg(feature = "amqp")]
use server::Server;

use super::AppError;
use super::config::Config;
use crate::BrokerError;
use crate::app::message::{Message, Properties};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

type Result<T> = std::result::Result<T, BrokerError>;

/// A task on its way to a queue.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outgoing {
    pub(crate) queue: String,
    pub(crate) message: Message,
    /// When it is to be leased at the earliest (rule 3).
    pub(crate) at: Option<Timestamp>,
}

/// The longest name of a queue, and the longest id: a server adds to them, and takes 255 bytes.
const LONGEST: usize = 200;
/// The header that says how long a task has to wait still when it comes out of where it waits, in milliseconds.
#[cfg(any(feature = "amqp", feature = "redis"))]
const LEFT: &str = "x-par-left";
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
    /// How long it has to wait still, in milliseconds, if it comes from where it waited: whatever the clock says here.
    pub(crate) left: Option<i64>,
    pub(crate) headers: Map<String, Value>,
    pub(crate) properties: Properties,
    pub(crate) body: Vec<u8>,
}

/// A change that a thread waits for: it takes the number first, looks, and waits for another number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen(pub(crate) u64);

/// Somebody wants a task not to run, or not to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revocation {
    pub(crate) id: String,
    /// Also when it runs already.
    pub(crate) terminate: bool,
}

/// What came of a task, for who waits for it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) id: String,
    /// The queue of who called.
    pub(crate) to: Option<String>,
    pub(crate) document: Value,
}

/// What carries tasks. All calls may come from any thread.
pub(crate) trait Transport: Send + Sync {
    /// Puts tasks into their queues, all or none.
    fn publish(&self, tasks: &[Outgoing]) -> Result<()>;
    /// The same, of a caller who may not want to wait until they are there.
    fn post(&self, tasks: &[Outgoing]) -> Result<()> {
        self.publish(tasks)
    }
    /// Waits until what was posted is there.
    fn arrived(&self) -> Result<()> {
        Ok(())
    }
    /// A worker begins to lease from these queues, so many at a time.
    fn join(&self, queues: &[String], most: usize) -> Result<()> {
        let _ = (queues, most);
        Ok(())
    }
    /// It leases no more.
    fn leave(&self, queues: &[String]) -> Result<()> {
        let _ = queues;
        Ok(())
    }
    /// Leases tasks of these queues.
    fn lease(&self, queues: &[String], most: usize) -> Result<Vec<Incoming>>;
    /// How long until the next task of these queues that waits for a time is due, by the clock of who keeps it.
    fn next_due(&self, queues: &[String]) -> Result<Option<Duration>> {
        let _ = queues;
        Ok(None)
    }
    /// Ends tasks; how many of them were still leased (rule 2).
    fn acknowledge(&self, tags: &[Tag]) -> Result<usize>;
    /// Gives tasks back to their queues.
    fn release(&self, tags: &[Tag]) -> Result<()>;
    /// Ends a leased task that nobody wants: a server may have a queue for such.
    fn reject(&self, tag: Tag) -> Result<()> {
        self.acknowledge(&[tag]).map(drop)
    }
    /// Ends a run: its lease, if it still has one; with its outcome, where that is kept by this; and with what follows, such as its next attempt. In a
    /// file and on Redis in one step, and nothing of it if it is leased no more.
    fn conclude(&self, lease: Option<Tag>, outcome: Option<Outcome>, next: &[Outgoing]) -> Result<()>;
    /// Waits until what was acknowledged before, and what came of tasks, has arrived; but not for ever, where it cannot.
    fn flush(&self) {}
    /// Ends leases of tasks that are to wait, and sends them to where they do.
    fn defer(&self, tasks: Vec<(Tag, Outgoing)>) -> Result<()> {
        let mut tasks = tasks.into_iter();
        tasks.try_for_each(|(tag, task)| self.conclude(Some(tag), None, &[task]))
    }
    /// Shows that this consumer lives, and takes back what dead ones had leased (rule 2).
    fn beat(&self) -> Result<()>;
    /// How long a heartbeat may stand still.
    fn lease_time(&self) -> Duration;
    /// How many tasks wait in a queue; in a file, those that wait for a time among them.
    fn waiting(&self, queue: &str) -> Result<u64>;
    /// Drops all tasks of a queue that nobody has leased; how many there were.
    fn purge(&self, queue: &str) -> Result<u64>;
    /// Tells all consumers of a revocation.
    fn revoke(&self, revocation: &Revocation) -> Result<()>;
    /// What was revoked since this was last asked; in a file all that was before as well, as long as results are kept.
    fn revoked(&self) -> Result<Vec<Revocation>>;
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
    fn store(&self, outcome: Outcome) -> Result<()>;
    /// The queue to which results are sent, where they are.
    fn reply_to(&self) -> Option<&str>;
    /// The outcome of a task, if one is known.
    fn outcome(&self, id: &str) -> Result<Option<Value>>;
    /// Drops an outcome.
    fn forget(&self, id: &str) -> Result<()>;
    /// Whether a call with that key is to run: its first copy is, also once more when it is delivered again; others are not.
    fn claim(&self, key: &str, copy: &str) -> Result<bool>;
    /// What has changed by now.
    fn seen(&self) -> Seen;
    /// Sleeps until something changes after that, such as the outcome of that task, or the time is up.
    fn wait(&self, id: &str, since: Seen, timeout: Duration);
}

/// What carries tasks, what keeps results, and whether it is the same.
type Both = (Arc<dyn Transport>, Arc<dyn Results>, bool);

fn both(broker: impl Transport + Results + 'static) -> Both {
    let broker = Arc::new(broker);
    (Arc::clone(&broker) as Arc<dyn Transport>, broker, true)
}

/// Opens what carries tasks, and what keeps results.
pub(super) fn open(config: &Config) -> std::result::Result<Both, AppError> {
    let (transport, own, _) = open_one("broker", &config.broker, config)?;
    match config.results.as_deref() {
        None => {}
        Some(same) if same == config.broker => {}
        Some("rpc://") if own.reply_to().is_some() => {}
        Some("rpc://") => {
            return Err(AppError::Option {
                option: "results",
                reason: "rpc:// needs a broker that is a RabbitMQ server".to_owned(),
            });
        }
        Some(other) => return Ok((transport, open_one("results", other, config)?.1, false)),
    }
    Ok((transport, own, true))
}

fn open_one(option: &'static str, place: &str, config: &Config) -> std::result::Result<Both, AppError> {
    let file = |path| File::open(path, config.lease, config.result_expires).map(both);
    let bad = |reason: String| Err(AppError::Option { option, reason });
    match place.split_once("://") {
        None if place == "memory:" => Ok(file(None)?),
        None => Ok(file(Some(Path::new(place)))?),
        #[cfg(feature = "amqp")]
        Some(("amqp" | "amqps", _)) if option == "broker" => Ok(both(Server::open(config)?)),
        #[cfg(not(feature = "amqp"))]
        Some(("amqp" | "amqps", _)) => bad(lacks(place, "amqp")),
        #[cfg(feature = "redis")]
        Some(("redis" | "rediss", _)) => Ok(both(Redis::open(option, place, config)?)),
        #[cfg(not(feature = "redis"))]
        Some(("redis" | "rediss", _)) => bad(lacks(place, "redis")),
        Some(_) => bad(format!(
            "a path, `memory:`, `amqp://...` or `redis://...` is expected, got {}",
            crate::BrokerUrl::from(place)
        )),
    }
}

#[cfg(not(all(feature = "amqp", feature = "redis")))]
fn lacks(place: &str, feature: &str) -> String {
    let url = crate::BrokerUrl::from(place);
    format!("{url} needs the feature `{feature}`, which this program was built without")
}
