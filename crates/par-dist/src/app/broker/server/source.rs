//! Where workers and callers take what a RabbitMQ server delivers: in their own threads, so that nobody else is woken for it.

use super::Shared;
use super::deliver::{incoming, outcome};
use crate::app::broker::Incoming;
use futures_core::Stream;
use lapin::Consumer;
use lapin::message::Delivery;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

/// A consumer of a queue, on a connection.
pub(super) struct Source {
    pub(super) queue: String,
    epoch: i64,
    consumer: Consumer,
}

/// Wakes who waits for tasks.
struct Rings(Weak<Shared>);

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.ring.ring();
        }
    }
}

impl Source {
    pub(super) fn new(queue: &str, epoch: i64, consumer: Consumer) -> Self {
        Source {
            queue: queue.to_owned(),
            epoch,
            consumer,
        }
    }

    /// What was delivered next, if something was; an error if nothing is delivered any more.
    fn next(&mut self, cx: &mut Context<'_>) -> Result<Option<Delivery>, ()> {
        match Pin::new(&mut self.consumer).poll_next(cx) {
            Poll::Ready(Some(Ok(delivery))) => Ok(Some(delivery)),
            Poll::Ready(None | Some(Err(_))) => Err(()),
            Poll::Pending => Ok(None),
        }
    }

    /// All that was delivered and nobody has taken.
    pub(super) fn rest(mut self) -> Vec<u64> {
        let mut cx = Context::from_waker(Waker::noop());
        let next = || self.next(&mut cx).ok().flatten();
        std::iter::from_fn(next)
            .map(|delivery| delivery.delivery_tag)
            .collect()
    }
}

fn waker(shared: &Arc<Shared>) -> Waker {
    Waker::from(Arc::new(Rings(Arc::downgrade(shared))))
}

/// Reads the results that were delivered; who waits is woken when there are more.
pub(super) fn read(shared: &Arc<Shared>) {
    let waker = waker(shared);
    let mut cx = Context::from_waker(&waker);
    let mut state = shared.state.lock();
    let state = &mut *state;
    let Some(source) = &mut state.replies else {
        return;
    };
    let before = state.read;
    loop {
        match source.next(&mut cx) {
            Ok(Some(delivery)) => {
                state.read = delivery.delivery_tag;
                outcome(&mut state.outcomes, &mut state.order, &delivery);
            }
            Ok(None) => break,
            Err(()) => {
                state.cancelled = source.epoch;
                break;
            }
        }
    }
    if state.read != before {
        // What others wait for may be among it.
        shared.ring.ring();
    }
}

/// Takes what was delivered from these queues, from one after the other; who waits is woken when there is more, if that was all.
pub(super) fn take(shared: &Arc<Shared>, queues: &[String], most: usize) -> Vec<Incoming> {
    let waker = waker(shared);
    let mut cx = Context::from_waker(&waker);
    let mut taken = Vec::new();
    let mut state = shared.state.lock();
    let state = &mut *state;
    let mut empty = 0;
    while taken.len() < most && empty < state.sources.len() {
        state.sources.rotate_left(1);
        let last = state.sources.last_mut();
        let Some(source) = last.filter(|source| queues.contains(&source.queue)) else {
            empty += 1;
            continue;
        };
        match source.next(&mut cx) {
            Ok(Some(delivery)) => {
                taken.push((source.epoch, source.queue.clone(), delivery));
                empty = 0;
                continue;
            }
            Ok(None) => {}
            // Not by us: the thread for the server connects again.
            Err(()) => state.cancelled = source.epoch,
        }
        empty += 1;
    }
    let shares = |queue: &String| state.consumed.get(queue).is_some_and(|(users, _)| *users > 1);
    if taken.len() == most && queues.iter().any(shares) {
        // There may be more, for another worker that was to be woken.
        shared.ring.ring();
    }
    let taken = taken.into_iter();
    taken
        .map(|(epoch, queue, delivery)| incoming(epoch, queue, delivery))
        .collect()
}
