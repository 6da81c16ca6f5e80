//! Acting on what came: letters, what was told to all, offers, and what the server returned.

use super::hands::Offer;
use super::letter::Letter;
use super::post::To;
use super::{Shared, State};
use crate::broker::{MessageId, PeerId};
use lapin::message::{BasicReturnMessage, Delivery};
use std::time::{Duration, Instant};

impl Shared {
    /// Acts on a letter to this peer.
    pub(super) fn receive(
        &self,
        state: &mut State,
        letter: Letter,
        tail: &[u8],
    ) -> std::result::Result<(), String> {
        match letter {
            Letter::Ask { card, ask, ids } => {
                let worker = card.peer();
                let known = state.peers.meet(card);
                let (mut granted, mut denied) = (Vec::new(), Vec::new());
                for id in ids {
                    let message = MessageId(id);
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
                    state.ledger.release(MessageId(id), PeerId(worker));
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
                // One that is still on its way to the server is not copied again, however often its reader asks meanwhile.
                let confirmed = state.outbox.confirmed();
                state.sending.retain(|_, number| *number > confirmed);
                if state.sending.contains_key(&(reader, request)) {
                    return Ok(());
                }
                let value = self.value(state, &what);
                let found = value.is_some();
                let body = Letter::Value { request, found }.seal(&[value.unwrap_or_default()]);
                let number = self.post(state, To::Peer(PeerId(reader)), body);
                state.sending.insert((reader, request), number);
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
    pub(super) fn hear(&self, bytes: &[u8]) -> std::result::Result<(), String> {
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

/// How often it is said at most that messages are dropped.
const QUIET: Duration = Duration::from_secs(5);

/// What was said of messages that are no use: whoever floods a queue must not flood the standard error as well.
#[derive(Default)]
pub(super) struct Dropped {
    said: Option<Instant>,
    /// Dropped since then.
    unsaid: u64,
}

impl Dropped {
    /// Notes one; the line to be printed, if it is time for one.
    fn note(&mut self, now: Instant, from: &str, reason: &str) -> Option<String> {
        if self.said.is_some_and(|said| now.duration_since(said) < QUIET) {
            self.unsaid += 1;
            return None;
        }
        self.said = Some(now);
        let unsaid = std::mem::take(&mut self.unsaid);
        let more = if unsaid == 0 {
            String::new()
        } else {
            format!(" ({unsaid} more were dropped before it)")
        };
        Some(format!(
            "par-dist: a message in {from} was dropped: {reason}{more}"
        ))
    }
}

/// Says, now and then, that something that came is no use.
pub(super) fn drop_letter(state: &mut State, from: &str, reason: &str) {
    if let Some(line) = state.dropped.note(Instant::now(), from, reason) {
        eprintln!("{line}");
    }
}

/// What it says that a message came back; whether the work queue has to be declared again. It goes by the message itself: the client
/// hands it over with the confirmation of any that was sent near it.
pub(super) fn came_back(shared: &Shared, state: &mut State, returned: &BasicReturnMessage) -> bool {
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
                let id = MessageId(offer.id);
                state.ledger.offer_again(id, "the server returned it");
                shared.ring(|rung| rung.reply = true);
            }
            true
        }
    }
}

pub(super) fn take_offers(shared: &Shared, deliveries: Vec<Delivery>) {
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
                drop_letter(&mut state, "a work queue", "it is no offer");
                state.hands.reject(tag);
            }
            Err(reason) => {
                drop_letter(&mut state, "a work queue", &reason);
                state.hands.reject(tag);
            }
        }
    }
    shared.ask(&mut state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strange_messages_is_said_now_and_then() {
        let mut dropped = Dropped::default();
        let start = Instant::now();
        assert_eq!(
            dropped.note(start, "a queue", "noise").as_deref(),
            Some("par-dist: a message in a queue was dropped: noise")
        );
        for _ in 0..1000 {
            assert_eq!(dropped.note(start + QUIET / 2, "a queue", "noise"), None);
        }
        assert_eq!(
            dropped.note(start + QUIET, "a queue", "more noise").as_deref(),
            Some("par-dist: a message in a queue was dropped: more noise (1000 more were dropped before it)")
        );
    }
}
