//! The thread that speaks to a RabbitMQ server, and what is known of the server on its connection.

use super::Shared;
use super::confirm::say;
use super::connect::{Open, connect};
use super::deliver::{Acks, OWN};
use super::later::Passage;
use super::order::{Order, Passed, Sent, confirmed, is_forbidden, longest, take_confirmed};
use super::source::{self, Source};
use crate::app::broker::Tag;
use lapin::options::BasicAckOptions;
use lapin::{Channel, Connection};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc as line;

/// The longest pause between two tries to connect.
const PAUSE: Duration = Duration::from_secs(1);
/// How long orders wait for others where many come.
const TOGETHER: Duration = Duration::from_micros(400);
/// How many are many, in how long.
const MANY: usize = 24;
const WINDOW: Duration = Duration::from_millis(2);
/// How many orders may be sent and not confirmed.
const IN_FLIGHT: usize = 4096;

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
                    let reason = error.to_string();
                    {
                        let mut state = shared.state.lock();
                        // Sent again, it would break the next connection as well.
                        state.longest = longest(&reason).or(state.longest);
                        state.away = Some(reason);
                    }
                    // One that is not closed keeps what it was delivered, for nobody.
                    let close = link.connection.close(200, "".into());
                    let _ = tokio::time::timeout(PAUSE, close).await;
                }
            }
            // Rule 3.
            shared.state.lock().sources.clear();
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
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) channel: Rc<Channel>,
    /// The bytes of bodies that may not be written yet.
    pub(super) unwritten: usize,
    /// That of results, and up to which of them the server was told that they are read.
    replies: Channel,
    told: u64,
    pub(super) epoch: i64,
    pub(super) declared: HashSet<String>,
    pub(super) consuming: HashSet<String>,
    pub(super) acks: Acks,
    pub(super) passage: Passage,
}

/// Whether orders come thick and fast: then some are done together, as to be woken for each costs more than all the rest.
struct Pace {
    since: Instant,
    orders: usize,
    quick: bool,
}

impl Pace {
    fn new() -> Self {
        Pace {
            since: Instant::now(),
            orders: 0,
            quick: false,
        }
    }

    fn is_quick(&mut self, more: usize) -> bool {
        self.orders += more;
        let passed = self.since.elapsed();
        if passed >= WINDOW {
            self.quick = self.orders >= MANY && passed < 2 * WINDOW;
            (self.since, self.orders) = (Instant::now(), 0);
        }
        self.quick
    }
}

impl Link {
    async fn open(shared: &Arc<Shared>, epoch: i64) -> lapin::Result<Self> {
        let Open {
            connection,
            channel,
            replies,
            results,
        } = connect(shared).await?;
        let mut state = shared.state.lock();
        state.replies = Some(Source::new(&shared.reply_queue, epoch, results));
        state.read = 0;
        drop(state);
        // Who waits registers with it.
        shared.ring.ring();
        Ok(Link {
            connection,
            channel: Rc::new(channel),
            unwritten: 0,
            replies,
            told: 0,
            epoch,
            declared: HashSet::new(),
            consuming: HashSet::new(),
            acks: Acks::default(),
            passage: Passage::default(),
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
            self.consume_later(shared, &queue).await;
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
        let (mut pace, mut passed) = (Pace::new(), Passed::new());
        loop {
            // First: who leaves waits for what is on its way, and this is not any more.
            self.passage.passed(std::mem::take(&mut passed))?;
            self.work_off(shared, pending, sent).await?;
            // To be woken for each confirmation costs as much as all the rest: only who is waited for is worth it.
            take_confirmed(shared, sent, &mut passed)?;
            self.passage.passed(std::mem::take(&mut passed))?;
            let held = self.passage.next();
            let over = tokio::time::Instant::from_std(held.unwrap_or_else(Instant::now));
            let waits = sent.len() >= IN_FLIGHT || sent.iter().any(Sent::is_waited_for);
            tokio::select! {
                order = orders.recv(), if sent.len() < IN_FLIGHT => match order {
                    Some(order) => pending.push_back(order),
                    None if sent.is_empty() => return Ok(()),
                    None => confirmed(shared, sent, &mut passed).await?,
                },
                confirmed = confirmed(shared, sent, &mut passed), if waits => confirmed?,
                () = tokio::time::sleep_until(over), if held.is_some() => pending.extend(self.passage.due(Instant::now())),
                // A connection that broke says so when it is used, or looked at.
                _ = tick.tick() => {
                    self.tell_read(shared).await?;
                    if !self.connection.status().connected() || shared.state.lock().cancelled == self.epoch {
                        return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
                    }
                }
            }
            if pace.is_quick(pending.len()) {
                std::thread::sleep(TOGETHER);
            }
            while sent.len() + pending.len() < IN_FLIGHT
                && let Ok(order) = orders.try_recv()
            {
                pace.orders += 1;
                pending.push_back(order);
            }
        }
    }

    /// Sends what no queue took once more.
    pub(super) async fn send_unrouted(
        &mut self,
        shared: &Shared,
        sent: &mut VecDeque<Sent>,
    ) -> lapin::Result<()> {
        for one in sent.iter_mut() {
            for number in std::mem::take(&mut one.unrouted) {
                // Its queue was deleted: it is made again.
                self.declared.clear();
                let confirm = match &one.order {
                    Order::Publish(tasks, _) => self.publish(shared, &tasks[number]).await?,
                    Order::Pass(passing) => self.pass_on(shared, passing).await?,
                    _ => continue,
                };
                one.confirms.push_back((None, confirm));
            }
        }
        Ok(())
    }

    /// Does all that is in the line, in order. What is not done stays in it; what is published, and not confirmed yet, is in `sent`.
    async fn work_off(
        &mut self,
        shared: &Arc<Shared>,
        pending: &mut VecDeque<Order>,
        sent: &mut VecDeque<Sent>,
    ) -> lapin::Result<()> {
        self.send_unrouted(shared, sent).await?;
        let mut acknowledged = Vec::new();
        let longest = shared.state.lock().longest;
        while let Some(order) = pending.front_mut() {
            if let Some(longest) = longest
                && !order.fit(shared, longest)
            {
                pending.pop_front();
                continue;
            }
            if matches!(order, Order::Pass(_) | Order::Leave(_)) {
                match pending.pop_front() {
                    Some(Order::Pass(passing)) => self.pass(shared, passing, sent).await?,
                    Some(Order::Leave(queues)) => {
                        self.acks.tell(&self.channel, acknowledged.drain(..))?;
                        self.leave(shared, &queues, sent).await?;
                    }
                    _ => {}
                }
                continue;
            }
            let confirms = match self.carry_out(shared, order, &mut acknowledged).await {
                Ok(confirms) => confirms,
                Err(error) => {
                    // Nor would it be allowed on the next connection.
                    if is_forbidden(&error)
                        && let Some(order) = pending.pop_front()
                    {
                        order.fail(shared, &error);
                    }
                    return Err(error);
                }
            };
            if let Some(order) = pending.pop_front()
                && matches!(order, Order::Publish(..) | Order::Conclude(Some(_), _))
            {
                sent.push_back(Sent::new(order, confirms));
            }
        }
        self.acks.tell(&self.channel, acknowledged)
    }

    /// Tells the server which results are read, also those that nobody waits for; what it was not told comes again, and is the same.
    async fn tell_read(&mut self, shared: &Arc<Shared>) -> lapin::Result<()> {
        source::read(shared);
        let read = shared.state.lock().read;
        if read > self.told {
            let multiple = BasicAckOptions { multiple: true };
            say(self.replies.basic_ack(read, multiple))?;
            self.told = read;
        }
        Ok(())
    }

    /// Rule 3.
    pub(super) fn own(&self, tags: &[Tag]) -> Vec<u64> {
        let ours = tags.iter().filter(|tag| tag.0 >> OWN == self.epoch);
        ours.map(|tag| (tag.0 & ((1 << OWN) - 1)) as u64).collect()
    }
}
