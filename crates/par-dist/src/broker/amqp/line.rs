//! A connection to the server, and what is sent on it.

use super::Shared;
use super::calls::FAREWELL;
use super::incoming::drain;
use super::letter::Letter;
use super::link::{Result, Trouble};
use super::open::declare_work;
use super::post::{Post, To};
use super::read::take_offers;
use crate::broker::PeerId;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer, PublisherConfirm};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Letters that are sent and not confirmed.
const IN_FLIGHT: usize = 2048;
/// How often queues are looked at (rule 11), and how old an offer is that should not be there any more.
const AUDIT: Duration = Duration::from_secs(5);
/// After so many of these looks, what still runs is acknowledged.
const LONG: u64 = 60;
const PERSISTENT: u8 = 2;
/// Bytes a second that a network takes at least.
const SLOWEST: usize = 1 << 20;

/// A connection with its channels, queues and consumers.
pub(super) struct Line {
    connection: Connection,
    /// Letters and offers; confirmed.
    out: Channel,
    /// Heartbeats; not confirmed.
    pub(super) beats: Channel,
    offers: Channel,
    pub(super) inbox: Channel,
    pub(super) letters: Consumer,
    pub(super) news: Consumer,
    /// Offers, where this peer fetches any, with its number.
    pub(super) work: Option<(Consumer, String)>,
    level: usize,
    consumers: u64,
    pub(super) opened: Instant,
    /// Whether it brought anything forward.
    pub(super) useful: bool,
    /// When something came last.
    lively: Instant,
    /// In `sent` and `to_send`.
    pub(super) bytes: usize,
    /// Letters that are not at the server for sure, in their order: first these, then what was sent, then what is to be.
    pub(super) unconfirmed: Vec<Post>,
    pub(super) sent: VecDeque<(Post, PublisherConfirm)>,
    to_send: VecDeque<Post>,
    audited: Instant,
    audits: u64,
}

/// What a turn has to send.
struct Todo {
    posts: Vec<Post>,
    level: usize,
    all: Option<u64>,
    single: Vec<u64>,
    back: Vec<u64>,
    beat: Option<Vec<u8>>,
    delete: Vec<PeerId>,
    counts: Vec<Sender<std::result::Result<u64, String>>>,
    leaving: bool,
}

impl Shared {
    pub(super) fn queue_of(&self, peer: PeerId) -> String {
        format!("{}.peer.{}", self.server.prefix, peer.0)
    }

    pub(super) fn work_queue(&self) -> String {
        format!("{}.work.{}", self.server.prefix, self.joined.queue)
    }

    fn todo(&self, in_flight: usize) -> Todo {
        let mut state = self.state.lock();
        let state = &mut *state;
        for (writer, numbers) in state.outbox.take_read() {
            self.post(state, To::Peer(writer), Letter::Heard { numbers }.seal(&[]));
        }
        let (all, single) = state.hands.acknowledgements();
        let beat = state.beat.take().map(|hello| {
            state.peers.beats += 1;
            state.peers.sent.get_or_insert_with(Instant::now);
            let letter = Letter::Beat {
                card: self.card.clone(),
                count: state.peers.beats,
                hello,
            };
            letter.seal(&[])
        });
        Todo {
            posts: state.outbox.take(IN_FLIGHT.saturating_sub(in_flight)),
            level: state.hands.level(),
            all,
            single,
            back: state.hands.given_back(),
            beat,
            delete: std::mem::take(&mut state.delete),
            counts: std::mem::take(&mut state.counts),
            leaving: state.leaving,
        }
    }
}

impl Line {
    pub(super) fn new(
        connection: Connection,
        [out, beats, offers, inbox]: [Channel; 4],
        letters: Consumer,
        news: Consumer,
    ) -> Self {
        Line {
            connection,
            out,
            beats,
            offers,
            inbox,
            letters,
            news,
            work: None,
            level: 0,
            consumers: 0,
            opened: Instant::now(),
            useful: false,
            lively: Instant::now(),
            bytes: 0,
            unconfirmed: Vec::new(),
            sent: VecDeque::new(),
            to_send: VecDeque::new(),
            audited: Instant::now(),
            audits: 0,
        }
    }

    /// Works until the peer leaves.
    pub(super) async fn serve(&mut self, shared: &Shared) -> Result<()> {
        loop {
            // A server that does not answer for that long is gone. AMQP's own heartbeats tell it sooner, and see long messages move.
            let written = u32::try_from(self.bytes / SLOWEST).unwrap_or(u32::MAX);
            let patience = shared.server.heartbeat() * 3 + Duration::from_secs(written.into());
            let todo = shared.todo(self.sent.len() + self.to_send.len());
            let leaving = todo.leaving;
            match timeout(patience, self.send(shared, todo)).await {
                Ok(sent) => sent?,
                Err(_) => return Err(Trouble::Lost("the server does not answer".to_owned())),
            }
            if leaving {
                return Ok(());
            }
            let incoming = self.listen(shared).await?;
            if incoming.is_any() {
                self.useful = true;
                self.lively = Instant::now();
            }
            match timeout(patience, self.take(shared, incoming)).await {
                Ok(taken) => taken?,
                Err(_) => return Err(Trouble::Lost("the server does not answer".to_owned())),
            }
            let (deaf, refused) = {
                let state = shared.state.lock();
                (state.peers.sent, state.outbox.refused_for())
            };
            if refused > shared.outage {
                return Err(Trouble::Refused);
            }
            if deaf.is_some_and(|since| since.elapsed() > patience) && self.lively.elapsed() > patience {
                return Err(Trouble::Lost(format!(
                    "it gave no heartbeat back for {} s",
                    patience.as_secs()
                )));
            }
        }
    }

    async fn send(&mut self, shared: &Shared, todo: Todo) -> Result<()> {
        if let Some(tag) = todo.all {
            self.offers
                .basic_ack(tag, BasicAckOptions { multiple: true })
                .await?;
        }
        for tag in todo.single {
            self.offers.basic_ack(tag, BasicAckOptions::default()).await?;
        }
        let requeue = BasicNackOptions {
            multiple: false,
            requeue: true,
        };
        for tag in todo.back {
            self.offers.basic_nack(tag, requeue).await?;
        }
        let persistent = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let mandatory = BasicPublishOptions {
            mandatory: true,
            immediate: false,
        };
        let work = shared.work_queue();
        self.bytes += todo.posts.iter().map(|post| post.body.len()).sum::<usize>();
        self.to_send.extend(todo.posts);
        while let Some(post) = self.to_send.front() {
            let queue = match post.to {
                To::Work => work.clone(),
                To::Peer(peer) => shared.queue_of(peer),
            };
            let confirm = self
                .out
                .basic_publish("".into(), queue.into(), mandatory, &post.body, persistent.clone())
                .await?;
            self.sent
                .extend(self.to_send.pop_front().map(|post| (post, confirm)));
        }
        if let Some(beat) = todo.beat {
            self.tell_all(shared, &beat).await?;
        }
        for peer in todo.delete {
            // One that is gone already is as good.
            self.beats
                .queue_delete(shared.queue_of(peer).into(), QueueDeleteOptions::default())
                .await?;
        }
        if !todo.counts.is_empty() {
            let count = declare_work(&self.beats, shared).await?;
            for tell in todo.counts {
                let _ = tell.send(Ok(count));
            }
        }
        if todo.level != self.level {
            self.set_level(shared, todo.level).await?;
        }
        if self.audited.elapsed() > AUDIT {
            self.audited = Instant::now();
            self.audit(shared).await?;
        }
        Ok(())
    }

    async fn tell_all(&self, shared: &Shared, body: &[u8]) -> Result<()> {
        let exchange = format!("{}.peers", shared.server.prefix);
        self.beats
            .basic_publish(
                exchange.into(),
                "".into(),
                BasicPublishOptions::default(),
                body,
                BasicProperties::default(),
            )
            .await?;
        Ok(())
    }

    /// Gives the consumer another prefetch (rule 6): a new one with that, or none.
    async fn set_level(&mut self, shared: &Shared, level: usize) -> Result<()> {
        if let Some((mut consumer, tag)) = self.work.take() {
            self.offers
                .basic_cancel(tag.into(), BasicCancelOptions::default())
                .await?;
            // What was on its way is here by now.
            let mut rest = Vec::new();
            poll_fn(|cx| {
                drain(&mut consumer, cx, &mut rest, usize::MAX).map_or(Poll::Ready(()), Poll::Ready)
            })
            .await;
            take_offers(shared, rest);
        }
        if level > 0 {
            let prefetch = u16::try_from(level).unwrap_or(u16::MAX);
            self.offers
                .basic_qos(prefetch, BasicQosOptions::default())
                .await?;
            self.consumers += 1;
            let tag = format!("offers.{}", self.consumers);
            let consumer = self
                .offers
                .basic_consume(
                    shared.work_queue().into(),
                    tag.as_str().into(),
                    BasicConsumeOptions::default(),
                    FieldTable::default(),
                )
                .await?;
            self.work = Some((consumer, tag));
        }
        self.level = level;
        Ok(())
    }

    /// Rule 11, and the rest of rule 2.
    async fn audit(&mut self, shared: &Shared) -> Result<()> {
        // That it is declared again keeps the queue from expiring.
        let count = declare_work(&self.beats, shared).await?;
        if let Some(old) = Instant::now().checked_sub(AUDIT) {
            let mut state = shared.state.lock();
            shared.write_again(&mut state, old);
            if count == 0 && !state.outbox.has_waiting() && state.peers.has_worker(&shared.joined.queue) {
                for id in state.ledger.offered_before(old) {
                    state.ledger.offer_again(id, "its offer was lost");
                }
                if state.ledger.has_arrivals() {
                    shared.ring(|rung| rung.reply = true);
                }
            }
        }
        shared.tidy_dead();
        self.audits += 1;
        if self.audits.is_multiple_of(LONG) {
            // RabbitMQ closes the channel of a delivery that is not acknowledged within half an hour.
            shared.state.lock().hands.acknowledge_held();
        }
        Ok(())
    }

    /// The connection is of no use any more.
    pub(super) async fn abandon(mut self, shared: &Shared, reason: &str) {
        {
            let mut state = shared.state.lock();
            state.outbox.put_back(self.to_send.drain(..));
            state.outbox.put_back(self.sent.drain(..).map(|(post, _)| post));
            state.outbox.put_back(self.unconfirmed.drain(..));
            state.hands.disconnected();
            for tell in state.counts.drain(..) {
                let _ = tell.send(Err(format!("the connection broke: {reason}")));
            }
        }
        // A server that still listens hears of the end, so that what it sent ahead goes to others at once.
        let _ = timeout(Duration::from_millis(500), self.connection.close(200, "".into())).await;
    }

    pub(super) async fn close(self, shared: &Shared) {
        let farewell = async {
            let left = Letter::Left { peer: shared.me.0 }.seal(&[]);
            let _ = self.tell_all(shared, &left).await;
            let own = shared.queue_of(shared.me);
            let _ = self
                .beats
                .queue_delete(own.into(), QueueDeleteOptions::default())
                .await;
            let _ = self.connection.close(200, "".into()).await;
        };
        // Whoever stays notices otherwise.
        let _ = timeout(FAREWELL, farewell).await;
    }
}
