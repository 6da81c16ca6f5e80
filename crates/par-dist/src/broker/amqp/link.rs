//! The one thread that speaks to the server: it sends what the others want sent, hands on what comes, and connects again.

use super::hands::Offer;
use super::letter::Letter;
use super::post::{Post, To};
use super::{Shared, State};
use crate::broker::{BrokerError, PeerId};
use futures_core::Stream;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions,
    BasicQosOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, Consumer, ExchangeKind,
    PublisherConfirm,
};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// How long one try to connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// The longest pause between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// Letters that are sent and not confirmed.
const IN_FLIGHT: usize = 2048;
/// Deliveries that are handled in one turn.
const TURN: usize = 512;
/// Letters that the server sends ahead.
const LETTERS: u16 = 256;
/// How often it is looked for what nobody told.
const TICK: Duration = Duration::from_millis(250);
/// How often queues are looked at (rule 11), and how old an offer is that should not be there any more.
const AUDIT: Duration = Duration::from_secs(5);
/// After so many of these looks, what still runs is acknowledged.
const LONG: u64 = 60;
/// Queues that nobody uses live so long, in milliseconds.
const EXPIRES: i32 = 10 * 60 * 1000;
const PERSISTENT: u8 = 2;
/// AMQP's code for what is not there.
const NOT_FOUND: u16 = 404;

/// Why a connection is not there.
enum Trouble {
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

type Result<T> = std::result::Result<T, Trouble>;

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
struct Line {
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

async fn open(shared: &Shared, first: bool) -> Result<Line> {
    let server = &shared.server;
    let limit = if first { CONNECT * 2 } else { CONNECT };
    match timeout(limit, connect(shared, first)).await {
        Ok(opened) => opened,
        Err(_) => Err(Trouble::Lost(format!(
            "no answer from {}:{} within {} s",
            server.host,
            server.port,
            limit.as_secs()
        ))),
    }
}

fn expires() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-expires".into(), AMQPValue::LongInt(EXPIRES));
    arguments
}

async fn connect(shared: &Shared, first: bool) -> Result<Line> {
    let server = &shared.server;
    let uri = AMQPUri {
        scheme: AMQPScheme::AMQP,
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: server.user.clone(),
                password: server.password.clone(),
            },
            host: server.host.clone(),
            port: server.port,
        },
        vhost: server.vhost.clone(),
        query: AMQPQueryString {
            heartbeat: Some(server.heartbeat),
            ..AMQPQueryString::default()
        },
    };
    let name = format!("par-dist process {} peer {}", shared.card.pid, shared.me.0);
    let properties = ConnectionProperties::default()
        .with_connection_name(name.into())
        // Tries are counted here, not there.
        .configure_backoff(|backoff| backoff.with_max_times(0));
    let connection = Connection::connect_uri(uri, properties).await?;
    let admin = connection.create_channel().await?;
    let own = shared.queue_of(shared.me);
    if !first {
        // It keeps what was written to it meanwhile; a new one would not have that.
        let passive = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        match admin
            .queue_declare(own.as_str().into(), passive, FieldTable::default())
            .await
        {
            Ok(_) => {}
            Err(error) if is_not_found(&error) => return Err(Trouble::Forgotten),
            Err(error) => return Err(error.into()),
        }
    }
    let out = connection.create_channel().await?;
    declare_work(&out, shared).await?;
    out.queue_declare(own.as_str().into(), QueueDeclareOptions::durable(), expires())
        .await?;
    let exchange = format!("{}.peers", server.prefix);
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    out.exchange_declare(
        exchange.as_str().into(),
        ExchangeKind::Fanout,
        durable,
        FieldTable::default(),
    )
    .await?;
    // Heartbeats are of the moment: the queue goes with its connection, and drops the oldest.
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(10_000));
    let heard = format!(
        "{}.news.{}.{}",
        server.prefix,
        shared.me.0,
        super::peers::number().0
    );
    out.queue_declare(heard.as_str().into(), QueueDeclareOptions::exclusive(), arguments)
        .await?;
    out.queue_bind(
        heard.as_str().into(),
        exchange.as_str().into(),
        "".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    )
    .await?;
    out.confirm_select(ConfirmSelectOptions::default()).await?;
    let beats = connection.create_channel().await?;
    let no_ack = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    let news = beats
        .basic_consume(
            heard.as_str().into(),
            "news".into(),
            no_ack,
            FieldTable::default(),
        )
        .await?;
    let inbox = connection.create_channel().await?;
    inbox.basic_qos(LETTERS, BasicQosOptions::default()).await?;
    let letters = inbox
        .basic_consume(
            own.as_str().into(),
            "letters".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let offers = connection.create_channel().await?;
    {
        let mut state = shared.state.lock();
        // Others may have come and gone meanwhile.
        state.beat = Some(true);
        state.peers.sent = None;
        if !first {
            shared.write_again(&mut state, Instant::now());
        }
    }
    Ok(Line {
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
    })
}

async fn declare_work(channel: &Channel, shared: &Shared) -> lapin::Result<u64> {
    let queue = channel
        .queue_declare(
            shared.work_queue().as_str().into(),
            QueueDeclareOptions::durable(),
            expires(),
        )
        .await?;
    Ok(queue.message_count().into())
}

fn is_not_found(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(error) => error.get_id() == NOT_FOUND,
        _ => false,
    }
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
    fn queue_of(&self, peer: PeerId) -> String {
        format!("{}.peer.{}", self.server.prefix, peer.0)
    }

    fn work_queue(&self) -> String {
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

    /// Acts on a letter to this peer.
    fn receive(&self, state: &mut State, letter: Letter, tail: &[u8]) -> std::result::Result<(), String> {
        match letter {
            Letter::Ask { card, ask, ids } => {
                let worker = card.peer();
                let known = state.peers.meet(card);
                let (mut granted, mut denied) = (Vec::new(), Vec::new());
                for id in ids {
                    let message = crate::broker::MessageId(id);
                    if known && state.ledger.grant(message, worker, ask) {
                        granted.push(id);
                    } else {
                        if !known {
                            // It will throw the offer away, and nobody else has it.
                            state.ledger.offer_again(message, "its worker was taken for dead");
                        }
                        denied.push(id);
                    }
                }
                let letter = Letter::Answer {
                    pool: self.me.0,
                    ask,
                    granted,
                    denied,
                };
                self.post(state, To::Peer(worker), letter.seal(&[]));
            }
            Letter::Answer {
                pool,
                ask,
                granted,
                denied,
            } => {
                if state.hands.answer(PeerId(pool), ask, &granted, &denied) {
                    self.ring(|rung| rung.work = true);
                }
            }
            Letter::Outcomes { worker, list } => state.ledger.end(PeerId(worker), &list, tail)?,
            Letter::Release { worker, ids } => {
                for id in ids {
                    state.ledger.release(crate::broker::MessageId(id), PeerId(worker));
                }
            }
            Letter::Raise { pool, job } => {
                state.hands.raised.insert((PeerId(pool), job));
                self.ring(|rung| rung.news = true);
            }
            Letter::Lower { pool, job } => {
                state.hands.raised.remove(&(PeerId(pool), job));
            }
            Letter::Fetch {
                reader,
                request,
                what,
            } => {
                let value = self.value(state, &what);
                let found = value.is_some();
                let body = Letter::Value { request, found }.seal(&[value.unwrap_or_default()]);
                self.post(state, To::Peer(PeerId(reader)), body);
            }
            Letter::Value { request, found } => {
                if let Some(fetch) = state.fetches.get_mut(&request) {
                    fetch.answer.get_or_insert_with(|| found.then(|| tail.to_vec()));
                    self.changed.notify_all();
                }
            }
            Letter::Evict { key } => {
                state.shares.remove(&key);
                state.hands.shares.remove(&key);
                self.ring(|rung| rung.news = true);
            }
            Letter::Registered {
                writer,
                number,
                letter,
            } => {
                state.outbox.read(PeerId(writer), number);
                if matches!(*letter, Letter::Registered { .. }) {
                    return Err("a registered letter in a registered letter".to_owned());
                }
                return self.receive(state, *letter, tail);
            }
            Letter::Heard { numbers } => {
                let kept = numbers.into_iter().map(|number| state.outbox.heard(number)).sum();
                self.presence.kept.drop_some(kept);
            }
            Letter::Bury { peer, reason } => self.end_of(state, PeerId(peer), &reason),
            Letter::Offer(_) | Letter::Beat { .. } | Letter::Left { .. } => {
                return Err("it belongs in another queue".to_owned());
            }
        }
        Ok(())
    }

    /// Acts on what was told to all.
    fn hear(&self, bytes: &[u8]) -> std::result::Result<(), String> {
        match Letter::open(bytes)?.0 {
            Letter::Beat { card, count, hello } => {
                let mut state = self.state.lock();
                if card.peer() == self.me {
                    state.peers.heard = Some(Instant::now());
                    state.peers.sent = None;
                } else {
                    if hello {
                        state.beat.get_or_insert(false);
                    }
                    if state.peers.hear(card, count) {
                        drop(state);
                        self.ring(|rung| rung.news = true);
                    }
                }
            }
            Letter::Left { peer } => self.give_up(PeerId(peer), "its worker left"),
            _ => return Err("it belongs in another queue".to_owned()),
        }
        Ok(())
    }
}

/// Says that something that came is no use.
fn drop_letter(from: &str, reason: &str) {
    eprintln!("par-dist: a message in {from} was dropped: {reason}");
}

impl Line {
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
        if self.audits % LONG == 0 {
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

/// What it says that a message came back; whether the work queue has to be declared again. It goes by the message itself: the client
/// hands it over with the confirmation of any that was sent near it.
fn came_back(shared: &Shared, state: &mut State, returned: &lapin::message::BasicReturnMessage) -> bool {
    let queue = returned.delivery.routing_key.as_str();
    let prefix = format!("{}.peer.", shared.server.prefix);
    match queue.strip_prefix(&prefix).map(str::parse) {
        Some(Ok(peer)) => {
            // A pool that is gone with its queue. Whether it was a worker too is seen by its lock or its heart.
            let peer = PeerId(peer);
            state.hands.forget(peer);
            shared.presence.kept.drop_some(state.outbox.forget(peer));
            for fetch in state.fetches.values_mut().filter(|fetch| fetch.pool == peer) {
                fetch.answer.get_or_insert(None);
            }
            false
        }
        _ => {
            if let Ok((Letter::Offer(offer), _)) = Letter::open(&returned.delivery.data) {
                let id = crate::broker::MessageId(offer.id);
                state.ledger.offer_again(id, "the server returned it");
                shared.ring(|rung| rung.reply = true);
            }
            true
        }
    }
}

fn take_offers(shared: &Shared, deliveries: Vec<lapin::message::Delivery>) {
    if deliveries.is_empty() {
        return;
    }
    let mut state = shared.state.lock();
    for mut delivery in deliveries {
        let tag = delivery.delivery_tag;
        match Letter::open(&delivery.data) {
            Ok((Letter::Offer(head), at)) => {
                delivery.data.drain(..at);
                state.hands.deliver(Offer {
                    head,
                    payload: delivery.data,
                    tag: Some(tag),
                });
            }
            Ok(_) => {
                drop_letter("a work queue", "it is no offer");
                state.hands.reject(tag);
            }
            Err(reason) => {
                drop_letter("a work queue", &reason);
                state.hands.reject(tag);
            }
        }
    }
    shared.ask(&mut state);
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
