//! Tasks on a RabbitMQ server, as Celery puts them there, and results in reply queues (`rpc://`).
//!
//! 1. One thread speaks to the server, for all others: what they want done lies in its line, in order. It connects again by itself.
//! 2. Tasks are persistent and confirmed: who publishes waits until the server has them. Publishes that were not confirmed when the connection
//!    broke are sent again on the next one, so a task may be there twice. A server that is killed may forget the queues that it made in the last
//!    moments before, with what is in them.
//! 3. A tag is good on the connection that brought it. What was leased on another has gone back to its queue, and comes again as redelivered.
//! 4. A task that is to wait goes to a queue without consumers where it lies for so many milliseconds (`QUEUE.later.N`), is moved by the server to one
//!    of what passes (`QUEUE.later`), and by a worker to the next where it waits, always a shorter while. It is in nobody's memory but for its last
//!    quarter of a second, and takes no place of a worker. It carries how long it has to wait still, so that a clock that is wrong does not keep it.
//!    If no worker of ours takes what passes, it goes to its queue soon: workers of others keep it themselves.
//! 5. A result is sent to the queue that its caller named, once; who did not call reads none.

mod confirm;
mod connect;
mod consume;
mod deliver;
mod later;
mod link;
mod obey;
mod order;
mod publish;
mod queues;
mod source;
mod table;

use super::ring::Ring;
use super::{Incoming, Outcome, Outgoing, Results, Revocation, Seen, Tag, Transport};
use crate::app::AppError;
use crate::app::config::Config;
use crate::{BrokerError, BrokerUrl};
use connect::Addresses;
use order::{Answer, Order};
use parking_lot::Mutex;
use queues::Kinds;
use serde_json::Value;
use source::Source;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::sync::mpsc as line;

type Result<T> = std::result::Result<T, BrokerError>;
type Reply<T> = mpsc::Sender<Result<T>>;

/// Results that are kept for callers who have not read them; the oldest go first.
const KEPT: usize = 100_000;
/// How many tasks, and how many bytes of them, are sent before somebody has to wait until they are there.
const MOST_AHEAD: usize = 1000;
const BYTES_AHEAD: usize = 4 << 20;
/// How long who leaves waits until all is told.
const FLUSH: Duration = Duration::from_secs(5);

/// What comes from the server.
#[derive(Default)]
struct State {
    /// The consumers of this connection, from which workers take what was delivered.
    sources: Vec<Source>,
    /// The consumer of results, and the last of it that was read.
    replies: Option<Source>,
    read: u64,
    outcomes: HashMap<String, Value>,
    /// The ids of the outcomes, the oldest first.
    order: VecDeque<String>,
    /// The queues that workers of this process consume, with how many do, and how much is delivered ahead.
    consumed: HashMap<String, (usize, u16)>,
    /// The connection whose consumer the server ended, as it does when a queue is deleted.
    cancelled: i64,
    revoked: Vec<Revocation>,
    /// How long a message may be, once the server has said so.
    longest: Option<usize>,
    /// Why there is no connection, if there is none.
    away: Option<String>,
}

struct Shared {
    url: BrokerUrl,
    addresses: Addresses,
    kinds: Kinds,
    reply_queue: String,
    state: Mutex<State>,
    ring: Ring,
    /// Its own line, for what comes from the server and is to be done at once.
    line: line::WeakUnboundedSender<Order>,
}

pub(crate) struct Server {
    orders: line::UnboundedSender<Order>,
    shared: Arc<Shared>,
    /// How many tasks, and bytes, were sent since somebody waited until they were there; none if everybody does.
    ahead: Option<Mutex<(usize, usize)>>,
}

impl Server {
    /// Connects.
    pub(crate) fn open(config: &Config) -> std::result::Result<Self, AppError> {
        let (orders, take) = line::unbounded_channel();
        let shared = Arc::new(Shared {
            url: BrokerUrl::from(config.broker.as_str()),
            addresses: Addresses::of(&config.broker)?,
            kinds: Kinds::of(config)?,
            reply_queue: uuid::Uuid::new_v4().to_string(),
            state: Mutex::default(),
            ring: Ring::new(None),
            line: orders.downgrade(),
        });
        let (tell, told) = mpsc::channel();
        let here = Arc::clone(&shared);
        let open = |reason: String| BrokerError::Open {
            broker: shared.url.clone(),
            reason,
        };
        std::thread::Builder::new()
            .name("par-dist-amqp".to_owned())
            .spawn(move || link::run(&here, take, &tell))
            .map_err(|error| open(error.to_string()))?;
        match told.recv() {
            Ok(Ok(())) => Ok(Server {
                orders,
                shared,
                ahead: config.unconfirmed.then(Mutex::default),
            }),
            Ok(Err(reason)) => Err(open(reason).into()),
            Err(_) => Err(open("the thread for the server ended".to_owned()).into()),
        }
    }

    fn gone(&self) -> BrokerError {
        BrokerError::Failed {
            broker: self.shared.url.clone(),
            reason: "the thread for the server ended".to_owned(),
        }
    }

    fn order(&self, order: Order) -> Result<()> {
        self.orders.send(order).map_err(|_| self.gone())
    }

    fn ask<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T> {
        let (reply, answer) = mpsc::channel();
        self.order(order(reply))?;
        answer.recv().map_err(|_| self.gone())?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ahead.as_ref().is_none_or(|ahead| ahead.lock().0 == 0) {
            return;
        }
        let (reply, answer) = mpsc::channel();
        let all = Order::Publish(Vec::new(), Some(reply));
        if self.order(all).is_err() || answer.recv_timeout(FLUSH).is_err() {
            tracing::error!(broker = %self.shared.url, "leaves without word that all that was sent is there");
        }
    }
}

impl Transport for Server {
    fn publish(&self, tasks: &[Outgoing]) -> Result<()> {
        self.ask(|reply| Order::Publish(tasks.to_vec(), Some(reply)))
    }

    fn post(&self, tasks: &[Outgoing]) -> Result<()> {
        if let Some(ahead) = &self.ahead {
            let mut ahead = ahead.lock();
            let bytes = tasks.iter().map(|task| task.message.write_body().len());
            *ahead = (ahead.0 + tasks.len(), ahead.1 + bytes.sum::<usize>());
            if ahead.0 <= MOST_AHEAD && ahead.1 <= BYTES_AHEAD {
                return self.order(Order::Publish(tasks.to_vec(), None));
            }
            *ahead = (0, 0);
        }
        // What is sent after the others is there after them.
        self.publish(tasks)
    }

    fn arrived(&self) -> Result<()> {
        let Some(ahead) = &self.ahead else {
            return Ok(());
        };
        *ahead.lock() = (0, 0);
        self.publish(&[])
    }

    fn lease(&self, queues: &[String], most: usize) -> Result<Vec<Incoming>> {
        Ok(source::take(&self.shared, queues, most))
    }

    fn join(&self, queues: &[String], most: usize) -> Result<()> {
        let (queues, prefetch) = (queues.to_vec(), u16::try_from(most).unwrap_or(u16::MAX));
        self.ask(|reply| Order::Consume {
            queues,
            prefetch,
            reply,
        })
    }

    fn leave(&self, queues: &[String]) -> Result<()> {
        // Nobody waits for it: a worker stops also while the server is away.
        self.order(Order::Leave(queues.to_vec()))
    }

    fn acknowledge(&self, tags: &[Tag]) -> Result<usize> {
        // Whether the server took them is not told.
        self.order(Order::Conclude(None, tags.to_vec()))?;
        Ok(tags.len())
    }

    fn release(&self, tags: &[Tag]) -> Result<()> {
        self.order(Order::Release(tags.to_vec()))
    }

    fn conclude(&self, lease: Option<Tag>, outcome: Option<Outcome>, next: &[Outgoing]) -> Result<()> {
        if !next.is_empty() {
            self.publish(next)?;
        }
        let answer = outcome.and_then(Answer::of);
        self.order(Order::Conclude(answer, lease.into_iter().collect()))
    }

    fn defer(&self, tasks: Vec<(Tag, Outgoing)>) -> Result<()> {
        let (tags, tasks) = tasks.into_iter().unzip();
        self.ask(|reply| Order::Publish(tasks, Some(reply)))?;
        self.order(Order::Conclude(None, tags))
    }

    fn flush(&self) {
        let (reply, answer) = mpsc::channel();
        if self.order(Order::Flush(reply)).is_ok() && answer.recv_timeout(FLUSH).is_err() {
            tracing::warn!(broker = %self.shared.url, "leaves without word that all is told");
        }
    }

    fn beat(&self) -> Result<()> {
        // The server sees that the connection lives, and gives nothing back while it does.
        match &self.shared.state.lock().away {
            None => Ok(()),
            Some(reason) => Err(BrokerError::Failed {
                broker: self.shared.url.clone(),
                reason: reason.clone(),
            }),
        }
    }

    fn lease_time(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn reject(&self, tag: Tag) -> Result<()> {
        self.order(Order::Reject(tag))
    }

    fn waiting(&self, queue: &str) -> Result<u64> {
        self.ask(|reply| Order::Count(queue.to_owned(), reply))
    }

    fn purge(&self, queue: &str) -> Result<u64> {
        self.ask(|reply| Order::Purge(queue.to_owned(), reply))
    }

    fn revoke(&self, revocation: &Revocation) -> Result<()> {
        self.ask(|reply| Order::Revoke(revocation.clone(), reply))
    }

    fn revoked(&self) -> Result<Vec<Revocation>> {
        Ok(std::mem::take(&mut self.shared.state.lock().revoked))
    }

    fn seen(&self) -> Seen {
        self.shared.ring.seen()
    }

    fn wait(&self, since: Seen, timeout: Duration) {
        self.shared.ring.wait(since, timeout);
    }

    fn wake(&self) {
        self.shared.ring.ring();
    }
}

impl Results for Server {
    fn store(&self, outcome: Outcome) -> Result<()> {
        match Answer::of(outcome) {
            Some(answer) => self.order(Order::Conclude(Some(answer), Vec::new())),
            None => Ok(()),
        }
    }

    fn reply_to(&self) -> Option<&str> {
        Some(&self.shared.reply_queue)
    }

    fn outcome(&self, id: &str) -> Result<Option<Value>> {
        source::read(&self.shared);
        Ok(self.shared.state.lock().outcomes.get(id).cloned())
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.shared.state.lock().outcomes.remove(id);
        Ok(())
    }

    fn claim(&self, _: &str, _: &str) -> Result<bool> {
        // Nobody sends such a call here; who did cannot be told, and it is run.
        Ok(true)
    }

    fn seen(&self) -> Seen {
        self.shared.ring.seen()
    }

    fn wait(&self, _: &str, since: Seen, timeout: Duration) {
        self.shared.ring.wait(since, timeout);
    }
}
