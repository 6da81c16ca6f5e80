//! Tasks on a RabbitMQ server, as Celery puts them there, and results in reply queues (`rpc://`).
//!
//! 1. One thread speaks to the server, for all others: what they want done lies in its line, in order. It connects again by itself.
//! 2. Tasks are persistent and confirmed: who publishes waits until the server has them. Publishes that were not confirmed when the connection
//!    broke are sent again on the next one, so a task may be there twice.
//! 3. A tag is good on the connection that brought it. What was leased on another has gone back to its queue, and comes again as redelivered.
//! 4. A task that is to wait goes to a queue without consumers, from where the server moves it to its own after a while: there is one for each
//!    power of two of milliseconds (`QUEUE.later.N`). It goes through smaller and smaller ones, and is in nobody's memory meanwhile.
//! 5. A result is sent to the queue that its caller named, once; who did not call reads none.

use super::ring::Ring;
use super::table::{to_map, to_table};
use super::{Incoming, Outgoing, Results, Seen, Tag, Transport};
use crate::app::message::Properties;
use crate::{BrokerError, BrokerUrl};
use jiff::Timestamp;
use lapin::message::{Delivery, DeliveryResult};
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, PublisherConfirm};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as line;

type Result<T> = std::result::Result<T, BrokerError>;
type Reply<T> = mpsc::Sender<Result<T>>;

/// The longest pause between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one try may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Results that are kept for callers who have not read them; the oldest go first.
const KEPT: usize = 100_000;
/// Queues for what waits are gone when nobody asked for them for that much longer than twice what it would wait there: the server looks
/// at that alone, and not whether something is in them. So they are asked for again before.
const IDLE: Duration = Duration::from_secs(60);
const ASK: Duration = Duration::from_secs(30);
/// Who is to wait less waits here no more: the way takes as long.
const SHORTEST: i64 = 8;
const PERSISTENT: u8 = 2;

enum Order {
    Publish(Vec<Outgoing>, Reply<()>),
    /// A result, to the queue of who called.
    Answer {
        to: String,
        id: String,
        document: Vec<u8>,
    },
    Consume {
        queues: Vec<String>,
        prefetch: u16,
        reply: Reply<()>,
    },
    Acknowledge(Vec<Tag>),
    Release(Vec<Tag>),
    Count(String, Reply<u64>),
    Purge(String, Reply<u64>),
}

/// What comes from the server.
#[derive(Default)]
struct State {
    incoming: VecDeque<Incoming>,
    outcomes: HashMap<String, Value>,
    /// The ids of the outcomes, the oldest first.
    order: VecDeque<String>,
    consumes: bool,
    /// The connection whose consumer the server ended, as it does when a queue is deleted.
    cancelled: i64,
}

struct Shared {
    url: BrokerUrl,
    reply_queue: String,
    state: Mutex<State>,
    ring: Ring,
}

pub(crate) struct Server {
    orders: line::UnboundedSender<Order>,
    shared: Arc<Shared>,
}

impl Server {
    /// Connects.
    pub(crate) fn open(url: &str) -> Result<Self> {
        let shared = Arc::new(Shared {
            url: BrokerUrl::from(url),
            reply_queue: uuid::Uuid::new_v4().to_string(),
            state: Mutex::default(),
            ring: Ring::new(None),
        });
        let (orders, take) = line::unbounded_channel();
        let (tell, told) = mpsc::channel();
        let (url, here) = (url.to_owned(), Arc::clone(&shared));
        let open = |reason: String| BrokerError::Open {
            broker: shared.url.clone(),
            reason,
        };
        std::thread::Builder::new()
            .name("par-dist-amqp".to_owned())
            .spawn(move || run(&url, &here, take, &tell))
            .map_err(|error| open(error.to_string()))?;
        match told.recv() {
            Ok(Ok(())) => Ok(Server { orders, shared }),
            Ok(Err(reason)) => Err(open(reason)),
            Err(_) => Err(open("the thread for the server ended".to_owned())),
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

impl Transport for Server {
    fn publish(&self, tasks: &[Outgoing]) -> Result<()> {
        self.ask(|reply| Order::Publish(tasks.to_vec(), reply))
    }

    fn lease(&self, queues: &[String], most: usize) -> Result<Vec<Incoming>> {
        let consumes = self.shared.state.lock().consumes;
        if !consumes {
            let (queues, prefetch) = (queues.to_vec(), u16::try_from(most).unwrap_or(u16::MAX));
            self.ask(|reply| Order::Consume {
                queues,
                prefetch,
                reply,
            })?;
        }
        let mut state = self.shared.state.lock();
        let count = most.min(state.incoming.len());
        Ok(state.incoming.drain(..count).collect())
    }

    fn next_due(&self, _: &[String]) -> Result<Option<Timestamp>> {
        Ok(None)
    }

    fn acknowledge(&self, tags: &[Tag]) -> Result<usize> {
        // Whether the server took them is not told.
        self.order(Order::Acknowledge(tags.to_vec()))?;
        Ok(tags.len())
    }

    fn release(&self, tags: &[Tag]) -> Result<()> {
        self.order(Order::Release(tags.to_vec()))
    }

    fn replace(&self, tag: Tag, by: &[Outgoing]) -> Result<()> {
        if !by.is_empty() {
            self.publish(by)?;
        }
        self.acknowledge(&[tag]).map(drop)
    }

    fn beat(&self) -> Result<()> {
        // The server sees that the connection lives.
        Ok(())
    }

    fn lease_time(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn waiting(&self, queue: &str) -> Result<u64> {
        self.ask(|reply| Order::Count(queue.to_owned(), reply))
    }

    fn purge(&self, queue: &str) -> Result<u64> {
        self.ask(|reply| Order::Purge(queue.to_owned(), reply))
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
    fn store(&self, id: &str, to: Option<&str>, document: &Value) -> Result<()> {
        let Some(to) = to else {
            return Ok(());
        };
        let (to, id, document) = (to.to_owned(), id.to_owned(), document.to_string().into_bytes());
        self.order(Order::Answer { to, id, document })
    }

    fn reply_to(&self) -> Option<&str> {
        Some(&self.shared.reply_queue)
    }

    fn outcome(&self, id: &str) -> Result<Option<Value>> {
        Ok(self.shared.state.lock().outcomes.get(id).cloned())
    }

    fn forget(&self, id: &str) -> Result<()> {
        self.shared.state.lock().outcomes.remove(id);
        Ok(())
    }

    fn seen(&self) -> Seen {
        self.shared.ring.seen()
    }

    fn wait(&self, since: Seen, timeout: Duration) {
        self.shared.ring.wait(since, timeout);
    }
}

/// The thread that speaks to the server.
fn run(
    url: &str,
    shared: &Arc<Shared>,
    mut orders: line::UnboundedReceiver<Order>,
    tell: &mpsc::Sender<std::result::Result<(), String>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(tell.send(Err(error.to_string()))),
    };
    runtime.block_on(async {
        let mut epoch = 1;
        let mut link = match connect(url, shared, epoch).await {
            Ok(link) => link,
            Err(error) => return drop(tell.send(Err(error.to_string()))),
        };
        // Nobody waits any more where the start was given up.
        let _ = tell.send(Ok(()));
        let (mut pending, mut consumers) = (VecDeque::new(), None);
        loop {
            match link
                .serve(shared, &mut orders, &mut pending, &mut consumers)
                .await
            {
                Ok(()) => return drop(link.connection.close(200, "".into()).await),
                Err(error) => {
                    tracing::warn!(broker = %shared.url, %error, "lost the server");
                    // One that is not closed keeps what it was delivered, for nobody.
                    let close = link.connection.close(200, "".into());
                    let _ = tokio::time::timeout(PAUSE, close).await;
                }
            }
            // Rule 3.
            shared.state.lock().incoming.clear();
            let mut pause = PAUSE / 20;
            loop {
                if orders.is_closed() && pending.is_empty() && orders.is_empty() {
                    return;
                }
                epoch += 1;
                match connect(url, shared, epoch).await {
                    Ok(again) => {
                        link = again;
                        break;
                    }
                    Err(error) => tracing::debug!(%error, "the server is still away"),
                }
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(PAUSE);
            }
            tracing::info!(broker = %shared.url, "connected again");
        }
    });
    runtime.shutdown_background();
}

/// A connection, and what is known of the server on it.
struct Link {
    connection: Connection,
    channel: Channel,
    epoch: i64,
    declared: HashSet<String>,
    /// Queues for what waits, and when they were asked for last (rule 4).
    rooms: HashMap<String, Instant>,
    consuming: bool,
}

/// The bits of a tag that are the server's own (rule 3).
const OWN: u32 = 40;

async fn connect(url: &str, shared: &Arc<Shared>, epoch: i64) -> lapin::Result<Link> {
    let connect = async {
        let properties = ConnectionProperties::default().with_connection_name("par-dist app".into());
        let connection = Connection::connect(
            url,
            properties.configure_backoff(|backoff| backoff.with_max_times(0)),
        )
        .await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let mut arguments = FieldTable::default();
        arguments.insert("x-expires".into(), AMQPValue::LongInt(10 * 60 * 1000));
        let replies = connection.create_channel().await?;
        // It outlives a broken connection, and keeps what arrives meanwhile.
        let queue = shared.reply_queue.as_str();
        replies
            .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
            .await?;
        let consumer = replies
            .basic_consume(
                queue.into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        let here = Arc::clone(shared);
        consumer.set_delegate(move |delivery: DeliveryResult| {
            let acker = delivery.ok().flatten().map(|delivery| {
                outcome(&here, &delivery);
                delivery.acker
            });
            async move {
                if let Some(acker) = acker {
                    // Where that fails it comes again, and is the same.
                    let _ = acker.ack(BasicAckOptions::default()).await;
                }
            }
        });
        Ok(Link {
            connection,
            channel,
            epoch,
            declared: HashSet::new(),
            rooms: HashMap::new(),
            consuming: false,
        })
    };
    match tokio::time::timeout(CONNECT, connect).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// Rule 5.
fn outcome(shared: &Shared, delivery: &Delivery) {
    let Ok(document) = serde_json::from_slice::<Value>(&delivery.data) else {
        tracing::warn!("dropped a result that is no JSON");
        return;
    };
    let Some(id) = document["task_id"].as_str().map(str::to_owned) else {
        return;
    };
    let mut state = shared.state.lock();
    if state.outcomes.insert(id.clone(), document).is_none() {
        state.order.push_back(id);
    }
    while state.order.len() > KEPT
        && let Some(oldest) = state.order.pop_front()
    {
        state.outcomes.remove(&oldest);
    }
    drop(state);
    shared.ring.ring();
}

fn incoming(epoch: i64, queue: &str, delivery: Delivery) -> Incoming {
    let properties = &delivery.properties;
    let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
    Incoming {
        // A connection does not live to see so many.
        tag: Tag(epoch << OWN | (delivery.delivery_tag as i64 & ((1 << OWN) - 1))),
        queue: queue.to_owned(),
        redelivered: delivery.redelivered,
        headers: properties.headers().as_ref().map(to_map).unwrap_or_default(),
        properties: Properties {
            content_type: text(properties.content_type()).unwrap_or_default(),
            content_encoding: text(properties.content_encoding()).unwrap_or_default(),
            correlation_id: text(properties.correlation_id()).unwrap_or_default(),
            reply_to: text(properties.reply_to()),
            priority: properties.priority().unwrap_or(0),
        },
        body: delivery.data,
    }
}

impl Link {
    /// Does what is in the line, until everybody has left (then it is Ok) or the connection breaks.
    async fn serve(
        &mut self,
        shared: &Arc<Shared>,
        orders: &mut line::UnboundedReceiver<Order>,
        pending: &mut VecDeque<Order>,
        consumers: &mut Option<(Vec<String>, u16)>,
    ) -> lapin::Result<()> {
        if let Some((queues, prefetch)) = consumers.clone() {
            self.consume(shared, &queues, prefetch).await?;
        }
        let mut tick = tokio::time::interval(PAUSE / 4);
        loop {
            if pending.is_empty() {
                tokio::select! {
                    order = orders.recv() => match order {
                        Some(order) => pending.push_back(order),
                        None => return Ok(()),
                    },
                    // A connection that broke says so when it is used, or looked at.
                    _ = tick.tick() => if !self.connection.status().connected() || shared.state.lock().cancelled == self.epoch {
                        return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
                    },
                }
            }
            while let Ok(order) = orders.try_recv() {
                pending.push_back(order);
            }
            // What is not done when the connection breaks stays in the line.
            let mut done = vec![false; pending.len()];
            let turn = self.turn(shared, pending, &mut done, consumers).await;
            let mut done = done.into_iter();
            pending.retain(|_| !done.next().unwrap_or(false));
            turn?;
        }
    }

    /// Does all that is in the line, in order; what is published is confirmed in the end (rule 2).
    async fn turn(
        &mut self,
        shared: &Arc<Shared>,
        pending: &VecDeque<Order>,
        done: &mut [bool],
        consumers: &mut Option<(Vec<String>, u16)>,
    ) -> lapin::Result<()> {
        let mut sent = Vec::new();
        for (at, order) in pending.iter().enumerate() {
            match order {
                Order::Publish(tasks, _) => {
                    let mut confirms = Vec::with_capacity(tasks.len());
                    for task in tasks {
                        confirms.push(self.publish(shared, task).await?);
                    }
                    sent.push((at, confirms));
                }
                Order::Answer { to, id, document } => {
                    let confirm = self.answer(to, id, document).await?;
                    sent.push((at, confirm.into_iter().collect()));
                }
                other => {
                    self.obey(shared, other, consumers).await?;
                    done[at] = true;
                }
            }
        }
        for (at, confirms) in sent {
            let mut refused = false;
            for (number, confirm) in confirms.into_iter().enumerate() {
                let mut confirmed = confirm.await?;
                if let (Confirmation::Ack(Some(_)), Order::Publish(tasks, _)) = (&confirmed, &pending[at]) {
                    // Its queue was deleted: it is made again.
                    self.declared.clear();
                    self.rooms.clear();
                    confirmed = self.publish(shared, &tasks[number]).await?.await?;
                }
                refused |= !matches!(confirmed, Confirmation::Ack(None));
            }
            done[at] = true;
            if let Order::Publish(_, reply) = &pending[at] {
                let full = BrokerError::Full {
                    broker: shared.url.clone(),
                    reason: "the server refused the task, as a policy for full queues makes it do".to_owned(),
                };
                // Who asked may have given up.
                let _ = reply.send(if refused { Err(full) } else { Ok(()) });
            }
        }
        Ok(())
    }

    /// Sends a result to who called; nothing where it cannot be said where that is.
    async fn answer(&self, to: &str, id: &str, document: &[u8]) -> lapin::Result<Option<PublisherConfirm>> {
        let (Ok(to), Ok(id)) = (ShortString::try_new(to), ShortString::try_new(id)) else {
            tracing::warn!("dropped a result whose id or queue is too long");
            return Ok(None);
        };
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_correlation_id(id)
            .with_delivery_mode(PERSISTENT);
        // Who has left reads none.
        let options = BasicPublishOptions::default();
        let sent = self
            .channel
            .basic_publish("".into(), to, options, document, properties);
        sent.await.map(Some)
    }

    async fn obey(
        &mut self,
        shared: &Arc<Shared>,
        order: &Order,
        consumers: &mut Option<(Vec<String>, u16)>,
    ) -> lapin::Result<()> {
        match order {
            Order::Publish(..) | Order::Answer { .. } => {}
            Order::Consume {
                queues,
                prefetch,
                reply,
            } => {
                *consumers = Some((queues.clone(), *prefetch));
                self.consume(shared, queues, *prefetch).await?;
                shared.state.lock().consumes = true;
                let _ = reply.send(Ok(()));
            }
            Order::Acknowledge(tags) => {
                for tag in self.own(tags) {
                    self.channel.basic_ack(tag, BasicAckOptions::default()).await?;
                }
            }
            Order::Release(tags) => {
                let requeue = BasicNackOptions {
                    requeue: true,
                    multiple: false,
                };
                for tag in self.own(tags) {
                    self.channel.basic_nack(tag, requeue).await?;
                }
            }
            Order::Count(queue, reply) => {
                self.declare(queue, FieldTable::default()).await?;
                // What is known by now may be old.
                let channel = self.connection.create_channel().await?;
                let passive = QueueDeclareOptions {
                    passive: true,
                    ..QueueDeclareOptions::default()
                };
                let found = channel
                    .queue_declare(queue.as_str().into(), passive, FieldTable::default())
                    .await?;
                let _ = reply.send(Ok(found.message_count().into()));
                channel.close(200, "".into()).await?;
            }
            Order::Purge(queue, reply) => {
                self.declare(queue, FieldTable::default()).await?;
                let dropped = self
                    .channel
                    .queue_purge(queue.as_str().into(), QueuePurgeOptions::default())
                    .await?;
                let _ = reply.send(Ok(dropped.into()));
            }
        }
        Ok(())
    }

    /// Rule 3.
    fn own(&self, tags: &[Tag]) -> Vec<u64> {
        let ours = tags.iter().filter(|tag| tag.0 >> OWN == self.epoch);
        ours.map(|tag| (tag.0 & ((1 << OWN) - 1)) as u64).collect()
    }

    /// A queue that is there already may have options of its own: only one that is not is made.
    async fn declare(&mut self, queue: &str, arguments: FieldTable) -> lapin::Result<()> {
        if self.declared.contains(queue) {
            return Ok(());
        }
        // A look at what is not there closes the channel.
        let look = self.connection.create_channel().await?;
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let found = look
            .queue_declare(queue.into(), passive, FieldTable::default())
            .await;
        match found {
            Ok(_) => look.close(200, "".into()).await?,
            Err(_) => {
                self.channel
                    .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
                    .await?;
            }
        }
        self.declared.insert(queue.to_owned());
        Ok(())
    }

    async fn consume(&mut self, shared: &Arc<Shared>, queues: &[String], prefetch: u16) -> lapin::Result<()> {
        if std::mem::replace(&mut self.consuming, true) {
            return Ok(());
        }
        self.channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        for queue in queues {
            self.declare(queue, FieldTable::default()).await?;
            let consumer = self
                .channel
                .basic_consume(
                    queue.as_str().into(),
                    "".into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            let (here, queue, epoch) = (Arc::clone(shared), queue.clone(), self.epoch);
            consumer.set_delegate(move |delivery: DeliveryResult| {
                match delivery {
                    Ok(Some(delivery)) => {
                        let incoming = incoming(epoch, &queue, delivery);
                        here.state.lock().incoming.push_back(incoming);
                        here.ring.ring();
                    }
                    Ok(None) | Err(_) => here.state.lock().cancelled = epoch,
                }
                std::future::ready(())
            });
        }
        Ok(())
    }

    /// Sends a task to its queue, or to one where it waits (rule 4).
    async fn publish(&mut self, shared: &Shared, task: &Outgoing) -> lapin::Result<PublisherConfirm> {
        self.declare(&task.queue, FieldTable::default()).await?;
        let left = task
            .at
            .map_or(0, |at| at.as_millisecond() - Timestamp::now().as_millisecond());
        let queue = if left < SHORTEST {
            task.queue.clone()
        } else {
            let level = 1i64 << left.min(i64::from(i32::MAX)).ilog2();
            let queue = format!("{}.later.{level}", task.queue);
            if self.rooms.get(&queue).is_none_or(|asked| asked.elapsed() > ASK) {
                self.channel
                    .queue_declare(
                        queue.as_str().into(),
                        QueueDeclareOptions::durable(),
                        waiting_room(&task.queue, level),
                    )
                    .await?;
                self.rooms.insert(queue.clone(), Instant::now());
            }
            queue
        };
        let message = &task.message;
        let reply_to = message
            .properties
            .reply_to
            .as_deref()
            .unwrap_or(&shared.reply_queue);
        let properties = BasicProperties::default()
            .with_content_type(message.properties.content_type.as_str().into())
            .with_content_encoding(message.properties.content_encoding.as_str().into())
            .with_correlation_id(message.properties.correlation_id.as_str().into())
            .with_reply_to(reply_to.into())
            .with_priority(message.properties.priority)
            .with_delivery_mode(PERSISTENT)
            .with_headers(to_table(&message.write_headers()));
        let body = message.write_body();
        // What no queue takes comes back.
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        self.channel
            .basic_publish("".into(), queue.as_str().into(), mandatory, &body, properties)
            .await
    }
}

/// Rule 4: what lies there so long goes to its queue.
fn waiting_room(queue: &str, millis: i64) -> FieldTable {
    let idle = i64::try_from(IDLE.as_millis()).unwrap_or(i64::MAX);
    let mut arguments = FieldTable::default();
    arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(millis));
    arguments.insert(
        "x-expires".into(),
        AMQPValue::LongLongInt((2 * millis + idle).min(i64::from(u32::MAX))),
    );
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
    arguments.insert(
        "x-dead-letter-routing-key".into(),
        AMQPValue::LongString(queue.into()),
    );
    arguments
}
