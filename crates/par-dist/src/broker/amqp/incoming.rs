//! What comes on a connection to the server, and what is done with it.

use super::Shared;
use super::letter::Letter;
use super::line::Line;
use super::link::{Result, Trouble};
use super::open::declare_work;
use super::post::Post;
use super::read::{came_back, drop_letter, take_offers};
use futures_core::Stream;
use lapin::options::BasicAckOptions;
use lapin::{Confirmation, Consumer};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Deliveries that are handled in one turn.
const TURN: usize = 512;
/// How often it is looked for what nobody told.
const TICK: Duration = Duration::from_millis(250);

/// What came in one turn.
#[derive(Default)]
pub(super) struct Incoming {
    letters: Vec<lapin::message::Delivery>,
    news: Vec<lapin::message::Delivery>,
    offers: Vec<lapin::message::Delivery>,
    confirmed: Vec<(Post, lapin::Result<Confirmation>)>,
}

impl Incoming {
    pub(super) fn is_any(&self) -> bool {
        let confirmed = |(_, result): &(Post, lapin::Result<Confirmation>)| result.is_ok();
        !(self.letters.is_empty() && self.news.is_empty() && self.offers.is_empty())
            || self.confirmed.iter().any(confirmed)
    }
}

impl Line {
    /// Waits until something came, or is to be sent.
    pub(super) async fn listen(&mut self, shared: &Shared) -> Result<Incoming> {
        let mut incoming = Incoming::default();
        let mut pending = std::pin::pin!(shared.pending.notified());
        let next_try = shared.state.lock().outbox.next_try();
        let pause = next_try.map_or(TICK, |at| at.saturating_duration_since(Instant::now()).min(TICK));
        let mut tick = std::pin::pin!(sleep(pause));
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
                self.bytes -= post.body.len();
                incoming.confirmed.push((post, result));
                ready = true;
            }
            if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await?;
        Ok(incoming)
    }

    pub(super) async fn take(&mut self, shared: &Shared, incoming: Incoming) -> Result<()> {
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
                    // Its queue is full, or failed: the others may well be taken.
                    Ok(_) => state.outbox.refuse(post),
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
                drop_letter(&mut shared.state.lock(), "the exchange of peers", &reason);
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
                        drop_letter(&mut state, "the queue of a peer", &reason);
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
}

/// Takes what has come; an error if the consumer has ended.
pub(super) fn drain(
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
