//! The thread that speaks to a RabbitMQ server, and what is known of the server on its connection.

use super::connect::connect;
use super::deliver::{self, Acks, OWN, incoming};
use super::queues::{self, ASK, waiting_room};
use super::table::to_table;
use super::{Reply, Shared};
use crate::BrokerError;
use crate::app::broker::{Outcome, Outgoing, Revocation, Tag};
use crate::app::control_message;
use jiff::Timestamp;
use lapin::message::DeliveryResult;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ExchangeKind, PublisherConfirm};
use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as line;

/// The longest pause between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);
const PERSISTENT: u8 = 2;
/// How many orders may be sent and not confirmed.
const IN_FLIGHT: usize = 4096;

/// What others want done.
pub(super) enum Order {
    Publish(Vec<Outgoing>, Reply<()>),
    /// A result, and then what is acknowledged.
    Conclude(Option<Answer>, Vec<Tag>),
    Consume {
        queues: Vec<String>,
        prefetch: u16,
        reply: Reply<()>,
    },
    Leave(Vec<String>),
    Release(Vec<Tag>),
    Reject(Tag),
    Revoke(Revocation, Reply<()>),
    Count(String, Reply<u64>),
    Purge(String, Reply<u64>),
}

/// A result, for the queue of who called.
pub(super) struct Answer {
    to: String,
    id: String,
    document: Vec<u8>,
}

impl Answer {
    /// None where nobody called.
    pub(super) fn of(outcome: Outcome) -> Option<Self> {
        Some(Answer {
            to: outcome.to?,
            id: outcome.id,
            document: outcome.document.to_string().into_bytes(),
        })
    }
}

/// The thread that speaks to the server.
pub(super) fn run(
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
        let mut link = match Link::open(shared, epoch).await {
            Ok(link) => link,
            Err(error) => return drop(tell.send(Err(error.to_string()))),
        };
        // Nobody waits any more where the start was given up.
        let _ = tell.send(Ok(()));
        let mut pending = VecDeque::new();
        loop {
            match link.serve(shared, &mut orders, &mut pending).await {
                Ok(()) => return drop(link.connection.close(200, "".into()).await),
                Err(error) => {
                    tracing::warn!(broker = %shared.url, %error, "lost the server");
                    shared.state.lock().away = Some(error.to_string());
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
                match Link::open(shared, epoch).await {
                    Ok(again) => {
                        link = again;
                        break;
                    }
                    Err(error) => tracing::debug!(%error, "the server is still away"),
                }
                tokio::time::sleep(pause).await;
                pause = (2 * pause).min(PAUSE);
            }
            shared.state.lock().away = None;
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
    consuming: HashSet<String>,
    acks: Acks,
}

/// An order whose messages are sent, and those that are yet to be confirmed; with its place, where it may be sent once more.
struct Sent {
    order: Order,
    confirms: VecDeque<(Option<usize>, PublisherConfirm)>,
    /// What no queue took.
    unrouted: Vec<usize>,
    refused: bool,
}

/// Waits until the server confirms something, and takes all that it has confirmed.
async fn confirmed(shared: &Shared, sent: &mut VecDeque<Sent>) -> lapin::Result<()> {
    std::future::poll_fn(|cx| {
        let mut any = false;
        while let Some(first) = sent.front_mut() {
            while let Some((number, confirm)) = first.confirms.front_mut() {
                match Pin::new(confirm).poll(cx) {
                    Poll::Pending if any => return Poll::Ready(Ok(())),
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(Confirmation::Ack(None))) => {}
                    Poll::Ready(Ok(Confirmation::Ack(Some(_)))) if number.is_some() => {
                        first.unrouted.extend(*number);
                    }
                    Poll::Ready(Ok(_)) => first.refused = true,
                }
                first.confirms.pop_front();
                any = true;
            }
            if !first.unrouted.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some(done) = sent.pop_front() {
                done.tell(shared);
            }
            any = true;
        }
        Poll::Ready(Ok(()))
    })
    .await
}

impl Sent {
    fn tell(self, shared: &Shared) {
        if let Order::Publish(_, reply) = self.order {
            let full = BrokerError::Full {
                broker: shared.url.clone(),
                reason: "the server refused the task, as a policy for full queues makes it do".to_owned(),
            };
            // Who asked may have given up.
            let _ = reply.send(if self.refused { Err(full) } else { Ok(()) });
        }
    }
}

fn consumer_of(queue: &str) -> ShortString {
    format!("par.{queue}").into()
}

impl Link {
    async fn open(shared: &Arc<Shared>, epoch: i64) -> lapin::Result<Self> {
        let (connection, channel) = connect(shared).await?;
        Ok(Link {
            connection,
            channel,
            epoch,
            declared: HashSet::new(),
            rooms: HashMap::new(),
            consuming: HashSet::new(),
            acks: Acks::default(),
        })
    }

    /// Does what is in the line, until everybody has left (then it is Ok) or the connection breaks.
    async fn serve(
        &mut self,
        shared: &Arc<Shared>,
        orders: &mut line::UnboundedReceiver<Order>,
        pending: &mut VecDeque<Order>,
    ) -> lapin::Result<()> {
        let consumed = shared.state.lock().consumed.clone();
        for (queue, (_, prefetch)) in consumed {
            self.consume(shared, &queue, prefetch).await?;
        }
        let mut sent = VecDeque::new();
        let talked = self.talk(shared, orders, pending, &mut sent).await;
        // What is not confirmed when the connection breaks is sent again, before the rest (rule 2).
        for Sent { order, .. } in sent.into_iter().rev() {
            pending.push_front(order);
        }
        talked
    }

    async fn talk(
        &mut self,
        shared: &Arc<Shared>,
        orders: &mut line::UnboundedReceiver<Order>,
        pending: &mut VecDeque<Order>,
        sent: &mut VecDeque<Sent>,
    ) -> lapin::Result<()> {
        let mut tick = tokio::time::interval(PAUSE / 4);
        loop {
            self.work_off(shared, pending, sent).await?;
            tokio::select! {
                order = orders.recv(), if sent.len() < IN_FLIGHT => match order {
                    Some(order) => pending.push_back(order),
                    None if sent.is_empty() => return Ok(()),
                    None => confirmed(shared, sent).await?,
                },
                confirmed = confirmed(shared, sent), if !sent.is_empty() => confirmed?,
                // A connection that broke says so when it is used, or looked at.
                _ = tick.tick() => if !self.connection.status().connected() || shared.state.lock().cancelled == self.epoch {
                    return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
                },
            }
            while sent.len() + pending.len() < IN_FLIGHT
                && let Ok(order) = orders.try_recv()
            {
                pending.push_back(order);
            }
        }
    }

    /// Does all that is in the line, in order. What is not done stays in it; what is published, and not confirmed yet, is in `sent`.
    async fn work_off(
        &mut self,
        shared: &Arc<Shared>,
        pending: &mut VecDeque<Order>,
        sent: &mut VecDeque<Sent>,
    ) -> lapin::Result<()> {
        for one in sent.iter_mut() {
            for number in std::mem::take(&mut one.unrouted) {
                // Its queue was deleted: it is made again.
                self.declared.clear();
                self.rooms.clear();
                if let Order::Publish(tasks, _) = &one.order {
                    let confirm = self.publish(shared, &tasks[number]).await?;
                    one.confirms.push_back((None, confirm));
                }
            }
        }
        let mut acknowledged = Vec::new();
        while let Some(order) = pending.front() {
            let mut confirms = VecDeque::new();
            match order {
                Order::Publish(tasks, _) => {
                    for (number, task) in tasks.iter().enumerate() {
                        confirms.push_back((Some(number), self.publish(shared, task).await?));
                    }
                }
                Order::Conclude(answer, tags) => {
                    if let Some(answer) = answer {
                        let confirm = self.answer(answer).await?;
                        confirms.extend(confirm.map(|confirm| (None, confirm)));
                    }
                    // All that are in the line are told at once.
                    acknowledged.extend(self.own(tags));
                }
                other => self.obey(shared, other).await?,
            }
            if let Some(order) = pending.pop_front()
                && matches!(order, Order::Publish(..) | Order::Conclude(Some(_), _))
            {
                sent.push_back(Sent {
                    order,
                    confirms,
                    unrouted: Vec::new(),
                    refused: false,
                });
            }
        }
        self.acknowledge(acknowledged).await
    }

    /// Sends a result to who called; nothing where it cannot be said where that is.
    async fn answer(&self, answer: &Answer) -> lapin::Result<Option<PublisherConfirm>> {
        let Answer { to, id, document } = answer;
        let (Ok(to), Ok(id)) = (
            ShortString::try_new(to.as_str()),
            ShortString::try_new(id.as_str()),
        ) else {
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

    async fn obey(&mut self, shared: &Arc<Shared>, order: &Order) -> lapin::Result<()> {
        match order {
            Order::Publish(..) | Order::Conclude(..) => {}
            Order::Consume {
                queues,
                prefetch,
                reply,
            } => {
                for queue in queues {
                    self.consume(shared, queue, *prefetch).await?;
                    let mut state = shared.state.lock();
                    state.consumed.entry(queue.clone()).or_insert((0, *prefetch)).0 += 1;
                }
                let _ = reply.send(Ok(()));
            }
            Order::Leave(queues) => {
                for queue in queues {
                    self.leave(shared, queue).await?;
                }
            }
            Order::Release(tags) => {
                for tag in self.own(tags) {
                    self.refuse(tag, true).await?;
                }
            }
            Order::Reject(tag) => {
                for tag in self.own(&[*tag]) {
                    self.refuse(tag, false).await?;
                }
            }
            Order::Revoke(revocation, reply) => {
                let body = control_message::revoke(revocation).to_string();
                self.declare_all().await?;
                let properties = BasicProperties::default()
                    .with_content_type("application/json".into())
                    .with_content_encoding("utf-8".into())
                    .with_headers(FieldTable::default());
                let options = BasicPublishOptions::default();
                let exchange = control_message::EXCHANGE.into();
                self.channel
                    .basic_publish(exchange, "".into(), options, body.as_bytes(), properties)
                    .await?
                    .await?;
                let _ = reply.send(Ok(()));
            }
            Order::Count(queue, reply) => {
                self.declare(shared, queue).await?;
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
                self.declare(shared, queue).await?;
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

    /// Sends a task to its queue, or to one where it waits (rule 4).
    async fn publish(&mut self, shared: &Shared, task: &Outgoing) -> lapin::Result<PublisherConfirm> {
        self.declare(shared, &task.queue).await?;
        let left = task
            .at
            .map_or(0, |at| at.as_millisecond() - Timestamp::now().as_millisecond());
        let queue = match queues::room(&task.queue, left) {
            None => task.queue.clone(),
            Some((room, level)) => {
                if self.rooms.get(&room).is_none_or(|asked| asked.elapsed() > ASK) {
                    let durable = QueueDeclareOptions::durable();
                    let arguments = waiting_room(&task.queue, level);
                    self.channel
                        .queue_declare(room.as_str().into(), durable, arguments)
                        .await?;
                    self.rooms.insert(room.clone(), Instant::now());
                }
                room
            }
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

    /// A queue that is there already may have options of its own: only one that is not is made.
    async fn declare(&mut self, shared: &Shared, queue: &str) -> lapin::Result<()> {
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
                if let Some(dead) = &shared.kinds.dead_letters {
                    let plain = shared.kinds.arguments(dead);
                    let durable = QueueDeclareOptions::durable();
                    self.channel
                        .queue_declare(dead.as_str().into(), durable, plain)
                        .await?;
                }
                let arguments = shared.kinds.arguments(queue);
                self.channel
                    .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
                    .await?;
            }
        }
        self.declared.insert(queue.to_owned());
        Ok(())
    }

    async fn consume(&mut self, shared: &Arc<Shared>, queue: &str, prefetch: u16) -> lapin::Result<()> {
        if self.consuming.is_empty() {
            self.hear_all(shared).await?;
        }
        if !self.consuming.insert(queue.to_owned()) {
            return Ok(());
        }
        // It is of the consumers that come after it, each.
        self.channel
            .basic_qos(prefetch, BasicQosOptions::default())
            .await?;
        self.declare(shared, queue).await?;
        let options = BasicConsumeOptions::default();
        let consumer = self
            .channel
            .basic_consume(queue.into(), consumer_of(queue), options, FieldTable::default())
            .await?;
        let (here, queue, epoch) = (Arc::clone(shared), queue.to_owned(), self.epoch);
        consumer.set_delegate(move |delivery: DeliveryResult| {
            let mut state = here.state.lock();
            match delivery {
                Ok(Some(delivery)) => state.incoming.push_back(incoming(epoch, &queue, delivery)),
                // Not by us.
                Ok(None) | Err(_) if state.consumed.contains_key(&queue) => state.cancelled = epoch,
                Ok(None) | Err(_) => {}
            }
            drop(state);
            here.ring.ring();
            std::future::ready(())
        });
        Ok(())
    }

    /// Consumes from a queue no more, if this was the last worker that did; what was delivered and not leased goes back.
    async fn leave(&mut self, shared: &Shared, queue: &str) -> lapin::Result<()> {
        let is_last = {
            let mut state = shared.state.lock();
            let users = state.consumed.get_mut(queue).map(|(users, _)| {
                *users -= 1;
                *users
            });
            let is_last = users.is_none_or(|users| users == 0);
            if is_last {
                state.consumed.remove(queue);
            }
            is_last
        };
        if !is_last {
            return Ok(());
        }
        if self.consuming.remove(queue) {
            let options = BasicCancelOptions::default();
            self.channel.basic_cancel(consumer_of(queue), options).await?;
        }
        let mut left = Vec::new();
        shared.state.lock().incoming.retain(|incoming| {
            let stays = incoming.queue != queue;
            if !stays {
                left.push(incoming.tag);
            }
            stays
        });
        for tag in self.own(&left) {
            self.refuse(tag, true).await?;
        }
        Ok(())
    }

    /// Tells the server which deliveries are done, with as few words as it takes.
    async fn acknowledge(&mut self, tags: Vec<u64>) -> lapin::Result<()> {
        let (all, apart) = self.acks.settle(tags);
        if let Some(all) = all {
            let multiple = BasicAckOptions { multiple: true };
            self.channel.basic_ack(all, multiple).await?;
        }
        for tag in apart {
            self.channel.basic_ack(tag, BasicAckOptions::default()).await?;
        }
        Ok(())
    }

    async fn refuse(&mut self, tag: u64, requeue: bool) -> lapin::Result<()> {
        let options = BasicNackOptions {
            requeue,
            multiple: false,
        };
        self.channel.basic_nack(tag, options).await?;
        // A later word covers it, when it is settled already.
        self.acks.settle([tag]);
        Ok(())
    }

    /// The exchange of messages to all workers.
    async fn declare_all(&mut self) -> lapin::Result<()> {
        if self.declared.contains(control_message::EXCHANGE) {
            return Ok(());
        }
        // Celery's may have other options, and a mismatch closes the channel.
        let look = self.connection.create_channel().await?;
        let options = ExchangeDeclareOptions::default();
        let declared = look
            .exchange_declare(
                control_message::EXCHANGE.into(),
                ExchangeKind::Fanout,
                options,
                FieldTable::default(),
            )
            .await;
        match declared {
            Ok(()) => look.close(200, "".into()).await?,
            Err(error) => tracing::debug!(%error, "the exchange for all workers is there with other options"),
        }
        self.declared.insert(control_message::EXCHANGE.to_owned());
        Ok(())
    }

    /// Hears what is told to all workers, in a queue that is gone with the connection.
    async fn hear_all(&mut self, shared: &Arc<Shared>) -> lapin::Result<()> {
        self.declare_all().await?;
        let channel = self.connection.create_channel().await?;
        let options = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let queue: ShortString = format!("{}.celery.pidbox", uuid::Uuid::new_v4()).into();
        let bind = QueueBindOptions::default();
        let exchange = control_message::EXCHANGE.into();
        channel
            .queue_declare(queue.clone(), options, FieldTable::default())
            .await?;
        channel
            .queue_bind(queue.clone(), exchange, "".into(), bind, FieldTable::default())
            .await?;
        let options = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consumer = channel
            .basic_consume(queue, "".into(), options, FieldTable::default())
            .await?;
        let here = Arc::clone(shared);
        consumer.set_delegate(move |delivery: DeliveryResult| {
            if let Ok(Some(delivery)) = delivery {
                deliver::told(&here, &delivery);
            }
            std::future::ready(())
        });
        Ok(())
    }
}
