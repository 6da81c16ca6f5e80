//! The one thread that speaks to the server: it sends what the others want sent, hands on what comes, and connects again.

use super::Shared;
use super::letter::Letter;
use super::open::{CONNECT, declare_work, open};
use super::post::{Post, To};
use super::read::{came_back, drop_letter, take_offers};
use crate::broker::{BrokerError, PeerId};
use futures_core::Stream;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, Consumer, PublisherConfirm};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Letters that are sent and not confirmed.
const IN_FLIGHT: usize = 2048;
/// Deliveries that are handled in one turn.
const TURN: usize = 512;
/// How often it is looked for what nobody told.
const TICK: Duration = Duration::from_millis(250);
/// How often queues are looked at (rule 11), and how old an offer is that should not be there any more.
const AUDIT: Duration = Duration::from_secs(5);
/// After so many of these looks, what still runs is acknowledged.
const LONG: u64 = 60;
const PERSISTENT: u8 = 2;

/// Why a connection is not there.
pub(super) enum Trouble {
    /// It may be there later.
    Lost(String),
    /// The queue of this peer is gone (rule 10).
    Forgotten,
}

impl From<lapin::Error> for Trouble {
    fn from(error: lapin::Error) -> Self {
        Trouble::Lost(error.to_string())
    }
}

pub(super) type Result<T> = std::result::Result<T, Trouble>;

/// Connects, tells how that went, and works until the peer leaves or the server is given up.
pub(super) fn run(shared: &Shared, tell: &Sender<std::result::Result<(), String>>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            // Nobody listens any more where the start was given up; here and below.
            let _ = tell.send(Err(format!("cannot start a runtime: {error}")));
            return;
        }
    };
    runtime.block_on(async {
        let mut line = match open(shared, true).await {
            Ok(line) => line,
            Err(trouble) => {
                let _ = tell.send(Err(text(trouble)));
                return;
            }
        };
        let _ = tell.send(Ok(()));
        loop {
            match line.serve(shared).await {
                Ok(()) => return line.close(shared).await,
                Err(trouble) => line.abandon(shared, &text(trouble)).await,
            }
            match again(shared).await {
                Some(next) => line = next,
                None => return,
            }
        }
    });
    // Threads of the client that still wait for the server are of no use to anybody.
    runtime.shutdown_background();
}

fn text(trouble: Trouble) -> String {
    match trouble {
        Trouble::Lost(reason) => reason,
        Trouble::Forgotten => "the queue of this peer is gone".to_owned(),
    }
}

/// Rule 10. None when the peer leaves, or gives the server up.
async fn again(shared: &Shared) -> Option<Line> {
    let since = Instant::now();
    let mut pause = Duration::from_millis(50);
    loop {
        if shared.state.lock().leaving {
            return None;
        }
        let reason = match open(shared, false).await {
            Ok(line) => return Some(line),
            Err(Trouble::Forgotten) => {
                let lease = shared.joined.lease;
                fail(shared, BrokerError::Buried { lease });
                return None;
            }
            Err(Trouble::Lost(reason)) => reason,
        };
        if since.elapsed() > shared.outage {
            let away = shared.outage.as_secs_f64();
            fail(
                shared,
                BrokerError::Failed {
                    broker: shared.url.clone(),
                    reason: format!("it was out of reach for {away} s: {reason}"),
                },
            );
            return None;
        }
        let until = Instant::now() + pause;
        while Instant::now() < until && !shared.state.lock().leaving {
            // A peer that leaves ends the pause; what else is to be sent has to wait.
            let left = until.saturating_duration_since(Instant::now());
            let _ = timeout(left, shared.pending.notified()).await;
        }
        pause = (pause * 2).min(PAUSE);
    }
}

/// Ends every wait on the broker.
fn fail(shared: &Shared, error: BrokerError) {
    shared.state.lock().failure = Some(error);
    shared.changed.notify_all();
    shared.ring(|rung| rung.news = true);
}

/// A connection with its channels, queues and consumers.
pub(super) struct Line {
    connection: Connection,
    /// Letters and offers; confirmed.
    out: Channel,
    /// Heartbeats; not confirmed.
    beats: Channel,
    offers: Channel,
    inbox: Channel,
    letters: Consumer,
    news: Consumer,
    /// Offers, where this peer fetches any, with its number.
    work: Option<(Consumer, String)>,
    level: usize,
    consumers: u64,
    /// Letters that are not at the server for sure, in their order: first these, then what was sent, then what is to be.
    unconfirmed: Vec<Post>,
    sent: VecDeque<(Post, PublisherConfirm)>,
    to_send: VecDeque<Post>,
    audited: Instant,
    audits: u64,
}

/// What came in one turn.
#[derive(Default)]
struct Incoming {
    letters: Vec<lapin::message::Delivery>,
    news: Vec<lapin::message::Delivery>,
    offers: Vec<lapin::message::Delivery>,
    confirmed: Vec<(Post, lapin::Result<Confirmation>)>,
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
            unconfirmed: Vec::new(),
            sent: VecDeque::new(),
            to_send: VecDeque::new(),
            audited: Instant::now(),
            audits: 0,
        }
    }

    /// Works until the peer leaves.
    async fn serve(&mut self, shared: &Shared) -> Result<()> {
        // A server that does not answer for that long is gone.
        let patience = shared.server.heartbeat();
        loop {
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
            match timeout(patience, self.take(shared, incoming)).await {
                Ok(taken) => taken?,
                Err(_) => return Err(Trouble::Lost("the server does not answer".to_owned())),
            }
            let deaf = shared.state.lock().peers.sent;
            if deaf.is_some_and(|since| since.elapsed() > patience) {
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

    /// Waits until something came, or is to be sent.
    async fn listen(&mut self, shared: &Shared) -> Result<Incoming> {
        let mut incoming = Incoming::default();
        let mut pending = std::pin::pin!(shared.pending.notified());
        let mut tick = std::pin::pin!(sleep(TICK));
        poll_fn(|cx| {
            let mut ready = pending.as_mut().poll(cx).is_ready();
            ready |= tick.as_mut().poll(cx).is_ready();
            // Letters before work.
            let mut streams = [
                (&mut self.letters, &mut incoming.letters),
                (&mut self.news, &mut incoming.news),
            ];
            for (consumer, into) in &mut streams {
                if let Err(trouble) = drain(consumer, cx, into, TURN) {
                    return Poll::Ready(Err(trouble));
                }
                ready |= !into.is_empty();
            }
            if let Some((consumer, _)) = &mut self.work {
                if let Err(trouble) = drain(consumer, cx, &mut incoming.offers, TURN) {
                    return Poll::Ready(Err(trouble));
                }
                ready |= !incoming.offers.is_empty();
            }
            while let Some((_, confirm)) = self.sent.front_mut()
                && let Poll::Ready(result) = Pin::new(confirm).poll(cx)
                && let Some((post, _)) = self.sent.pop_front()
            {
                incoming.confirmed.push((post, result));
                ready = true;
            }
            if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await?;
        Ok(incoming)
    }

    async fn take(&mut self, shared: &Shared, incoming: Incoming) -> Result<()> {
        let mut declare = false;
        let mut trouble = None;
        if !incoming.confirmed.is_empty() {
            let mut state = shared.state.lock();
            for (post, result) in incoming.confirmed {
                match result {
                    _ if trouble.is_some() => self.unconfirmed.push(post),
                    Ok(Confirmation::Ack(returned)) => {
                        state.outbox.confirm(post.number);
                        if let Some(returned) = returned {
                            declare |= came_back(shared, &mut state, &returned);
                        }
                    }
                    Ok(_) => {
                        trouble = Some("the server did not take a message".to_owned());
                        self.unconfirmed.push(post);
                    }
                    Err(error) => {
                        trouble = Some(error.to_string());
                        self.unconfirmed.push(post);
                    }
                }
            }
            if state.told.1 && state.told.0 <= state.outbox.confirmed() {
                state.told.1 = false;
                shared.ring(|rung| rung.work = true);
            }
            shared.changed.notify_all();
        }
        if let Some(reason) = trouble {
            return Err(Trouble::Lost(reason));
        }
        if declare {
            declare_work(&self.beats, shared).await?;
        }
        for delivery in &incoming.news {
            if let Err(reason) = shared.hear(&delivery.data) {
                drop_letter("the exchange of peers", &reason);
            }
        }
        if let Some(last) = incoming.letters.last().map(|delivery| delivery.delivery_tag) {
            {
                let mut state = shared.state.lock();
                for delivery in incoming.letters {
                    let received = Letter::open(&delivery.data).and_then(|(letter, at)| {
                        shared.receive(&mut state, letter, delivery.data.get(at..).unwrap_or_default())
                    });
                    if let Err(reason) = received {
                        drop_letter("the queue of a peer", &reason);
                    }
                }
                if state.ledger.has_arrivals() {
                    shared.ring(|rung| rung.reply = true);
                }
                shared.ask(&mut state);
            }
            self.inbox
                .basic_ack(last, BasicAckOptions { multiple: true })
                .await?;
        }
        take_offers(shared, incoming.offers);
        Ok(())
    }

    /// The connection is of no use any more.
    async fn abandon(mut self, shared: &Shared, reason: &str) {
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

    async fn close(self, shared: &Shared) {
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
        let _ = timeout(CONNECT, farewell).await;
    }
}

/// Takes what has come; an error if the consumer has ended.
fn drain(
    consumer: &mut Consumer,
    cx: &mut Context<'_>,
    into: &mut Vec<lapin::message::Delivery>,
    most: usize,
) -> Result<()> {
    while into.len() < most {
        match Pin::new(&mut *consumer).poll_next(cx) {
            Poll::Ready(Some(Ok(delivery))) => into.push(delivery),
            Poll::Ready(Some(Err(error))) => return Err(error.into()),
            Poll::Ready(None) => {
                return Err(Trouble::Lost(format!(
                    "the server ended the consumer of {}",
                    consumer.queue()
                )));
            }
            Poll::Pending => break,
        }
    }
    Ok(())
}
