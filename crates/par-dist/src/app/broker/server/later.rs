//! What waits for its time on a RabbitMQ server, and how it comes from one queue where it waits to the next (rule 4).

use super::Shared;
use super::confirm::{Confirm, say};
use super::deliver::{Acks, without_deaths};
use super::link::Link;
use super::order::{Order, Passed, Sent, confirmed};
use super::queues::{self, HOLD};
use crate::app::broker::LEFT;
use crate::app::time::{millis_until, read_time, waits_until};
use jiff::Timestamp;
use lapin::message::{Delivery, DeliveryResult};
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How many tasks may be on their way at a time, or held for their last moment.
const AHEAD: u16 = 1024;

/// A task between two queues where it waits, or on its way from the last of them to its own.
pub(super) struct Passing {
    /// The number of the lane that brought it.
    lane: i64,
    tag: u64,
    queue: Arc<str>,
    eta: Option<Timestamp>,
    left: Option<i64>,
    properties: BasicProperties,
    body: Vec<u8>,
}

/// What passes through this process.
#[derive(Default)]
pub(super) struct Passage {
    lanes: HashMap<String, Lane>,
    opened: i64,
    /// What is held for its last moment, by when that is over.
    held: BTreeMap<(Instant, i64, u64), Box<Passing>>,
}

/// What passes by one queue, on a channel of its own, as it takes much more ahead than workers do.
struct Lane {
    /// No other has it, on no connection.
    number: i64,
    channel: Channel,
    acks: Acks,
    /// How many were sent on and are not confirmed.
    on_their_way: usize,
    /// Whether it is this process that ends it.
    left: Arc<AtomicBool>,
}

impl Passage {
    /// That by which it came, if it is there still.
    fn lane_of(&mut self, passing: &Passing) -> Option<&mut Lane> {
        let lane = self.lanes.get_mut(&*passing.queue);
        lane.filter(|lane| lane.number == passing.lane)
    }

    /// When something has been held long enough.
    pub(super) fn next(&self) -> Option<Instant> {
        self.held.first_key_value().map(|((at, ..), _)| *at)
    }

    /// What has been held long enough.
    pub(super) fn due(&mut self, now: Instant) -> impl Iterator<Item = Order> + use<> {
        let mut due = Vec::new();
        while let Some(first) = self.held.first_entry().filter(|first| first.key().0 <= now) {
            due.push(first.remove());
        }
        due.into_iter().map(|mut passing| {
            passing.left = Some(0);
            Order::Pass(passing)
        })
    }

    /// These have arrived where they go to next; or they have not, and are delivered again.
    pub(super) fn passed(&mut self, passed: Passed) -> lapin::Result<()> {
        if passed.is_empty() {
            return Ok(());
        }
        for lane in self.lanes.values_mut() {
            let mine = passed.iter().filter(|(number, ..)| *number == lane.number);
            let (arrived, refused): (Vec<_>, Vec<_>) = mine.copied().partition(|(.., arrived)| *arrived);
            lane.on_their_way -= arrived.len() + refused.len();
            for (_, tag, _) in refused {
                let options = BasicNackOptions {
                    requeue: true,
                    multiple: false,
                };
                say(lane.channel.basic_nack(tag, options))?;
                lane.acks.settle([tag]);
            }
            let arrived = arrived.into_iter().map(|(_, tag, _)| tag);
            lane.acks.tell(&lane.channel, arrived)?;
        }
        Ok(())
    }
}

impl Passing {
    fn of(lane: i64, queue: &Arc<str>, delivery: Delivery) -> Self {
        let properties = delivery.properties;
        let header = |name: &str| {
            let headers = properties.headers().as_ref()?;
            headers.inner().get(name)
        };
        let eta = match header("eta") {
            Some(AMQPValue::LongString(text)) => read_time(&String::from_utf8_lossy(text.as_bytes())),
            _ => None,
        };
        let left = match header(LEFT) {
            Some(AMQPValue::LongLongInt(left)) => Some(*left),
            _ => None,
        };
        Passing {
            lane,
            tag: delivery.delivery_tag,
            queue: Arc::clone(queue),
            eta,
            left,
            properties,
            body: delivery.data,
        }
    }

    /// The number of the lane that brought it, and its own there.
    pub(super) fn came(&self) -> (i64, u64) {
        (self.lane, self.tag)
    }

    /// How long it has to wait still, in milliseconds.
    fn left(&self) -> i64 {
        let now = Timestamp::now();
        let until = self.eta.and_then(|eta| waits_until(eta, self.left, now));
        until.map_or(0, |until| millis_until(until, now))
    }
}

impl Link {
    /// Takes what passes by a queue. Without the right to, it passes by itself, but not as exactly; and a connection that broke says so itself.
    pub(super) async fn consume_later(&mut self, shared: &Arc<Shared>, queue: &str) {
        if self.passage.lanes.contains_key(queue) {
            return;
        }
        if let Err(error) = self.try_consume_later(shared, queue).await {
            let later = queues::later(queue);
            tracing::warn!(%error, queue, later, "cannot take what waits; it may run later than it should");
        }
    }

    async fn try_consume_later(&mut self, shared: &Arc<Shared>, queue: &str) -> lapin::Result<()> {
        let channel = self.connection.create_channel().await?;
        channel.basic_qos(AHEAD, BasicQosOptions::default()).await?;
        let later = queues::later(queue);
        channel
            .queue_declare(
                later.as_str().into(),
                QueueDeclareOptions::durable(),
                queues::passage(queue),
            )
            .await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel
            .basic_consume(later.into(), consumer_of(queue), options, FieldTable::default())
            .await?;
        self.passage.opened += 1;
        let (epoch, number) = (self.epoch, self.epoch << 32 | self.passage.opened);
        let lane = Lane {
            number,
            channel,
            acks: Acks::default(),
            on_their_way: 0,
            left: Arc::default(),
        };
        let left = Arc::clone(&lane.left);
        self.passage.lanes.insert(queue.to_owned(), lane);
        let (here, queue) = (Arc::clone(shared), Arc::<str>::from(queue));
        consumer.set_delegate(move |delivery: DeliveryResult| {
            match delivery {
                Ok(Some(delivery)) => {
                    let order = Order::Pass(Box::new(Passing::of(number, &queue, delivery)));
                    // Who has left takes nothing any more.
                    let _ = here.line.upgrade().map(|line| line.send(order));
                }
                Ok(None) | Err(_) if left.load(Ordering::SeqCst) => {}
                Ok(None) | Err(_) => here.state.lock().cancelled = epoch,
            }
            std::future::ready(())
        });
        Ok(())
    }

    pub(super) async fn leave_later(
        &mut self,
        shared: &Shared,
        queue: &str,
        sent: &mut VecDeque<Sent>,
    ) -> lapin::Result<()> {
        let on_their_way = |passage: &Passage| passage.lanes.get(queue).map(|lane| lane.on_their_way);
        let mut passed = Passed::new();
        // What was sent on is not to come once more.
        while on_their_way(&self.passage).is_some_and(|number| number > 0) && !sent.is_empty() {
            self.send_unrouted(shared, sent).await?;
            confirmed(shared, sent, &mut passed).await?;
            self.passage.passed(std::mem::take(&mut passed))?;
        }
        let Some(lane) = self.passage.lanes.remove(queue) else {
            return Ok(());
        };
        lane.left.store(true, Ordering::SeqCst);
        // A server puts words on a quorum queue off when it has many, and forgets those with the channel; it answers this when it has done all of them.
        let options = BasicCancelOptions::default();
        lane.channel.basic_cancel(consumer_of(queue), options).await?;
        // With its channel, what it had taken and not sent on goes back.
        lane.channel.close(200, "".into()).await
    }

    /// Sends what passes on, or keeps it for its last moment, or drops it, if it came on another connection and comes again.
    pub(super) async fn pass(
        &mut self,
        shared: &Shared,
        passing: Box<Passing>,
        sent: &mut VecDeque<Sent>,
    ) -> lapin::Result<()> {
        if self.passage.lane_of(&passing).is_none() {
            return Ok(());
        }
        let left = passing.left();
        if left > 0 && left <= HOLD {
            let over = Instant::now() + Duration::from_millis(left.unsigned_abs());
            let (lane, tag) = passing.came();
            self.passage.held.insert((over, lane, tag), passing);
            return Ok(());
        }
        let confirm = self.pass_on(shared, &passing).await?;
        if let Some(lane) = self.passage.lane_of(&passing) {
            lane.on_their_way += 1;
        }
        sent.push_back(Sent::new(Order::Pass(passing), [(Some(0), confirm)].into()));
        Ok(())
    }

    /// Sends what passes to where it is to be next.
    pub(super) async fn pass_on(&mut self, shared: &Shared, passing: &Passing) -> lapin::Result<Confirm> {
        let (place, left) = self.place(shared, &passing.queue, passing.left()).await?;
        let headers = passing.properties.headers().as_ref();
        let mut headers = headers.map(without_deaths).unwrap_or_default();
        headers.insert(LEFT.into(), AMQPValue::LongLongInt(left));
        let properties = passing.properties.clone().with_headers(headers);
        self.put(&place, passing.body.clone(), properties).await
    }

    /// Where what is to wait so long goes first, and how long it has to wait after that.
    pub(super) async fn place(
        &mut self,
        shared: &Shared,
        queue: &str,
        left: i64,
    ) -> lapin::Result<(String, i64)> {
        self.declare(shared, queue).await?;
        if left <= 0 {
            return Ok((queue.to_owned(), 0));
        }
        let later = queues::later(queue);
        self.make(&later, || queues::passage(queue)).await?;
        let Some((room, level)) = queues::room(queue, left) else {
            return Ok((later, left));
        };
        self.make(&room, || queues::waiting_room(queue, level)).await?;
        Ok((room, left - level))
    }

    async fn make(&mut self, queue: &str, arguments: impl Fn() -> FieldTable) -> lapin::Result<()> {
        if !self.declared.contains(queue) {
            self.channel
                .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments())
                .await?;
            self.declared.insert(queue.to_owned());
        }
        Ok(())
    }
}

fn consumer_of(queue: &str) -> ShortString {
    format!("par.later.{queue}").into()
}
