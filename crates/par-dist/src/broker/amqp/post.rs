//! The outbox: letters that the server has not confirmed yet (rule 1 of the protocol).

use crate::broker::{MessageId, PeerId};
use std::collections::VecDeque;

/// Where a letter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The work queue of this peer.
    Work,
    Peer(PeerId),
}

/// What is to be done about a letter that came through, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Offer(MessageId),
    /// A question to that pool.
    Ask(PeerId),
    /// A request for a value.
    Fetch(u64),
    /// Outcomes, and how many of them are kept until they are confirmed.
    Outcomes(usize),
    Other,
}

/// A letter on its way.
pub(super) struct Post {
    pub(super) number: u64,
    pub(super) to: To,
    pub(super) body: Vec<u8>,
    pub(super) kind: Kind,
}

/// Letters in the order in which they were written.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Post>,
    written: u64,
    confirmed: u64,
}

impl Outbox {
    /// Adds a letter; its number.
    pub(super) fn push(&mut self, to: To, body: Vec<u8>, kind: Kind) -> u64 {
        self.written += 1;
        self.waiting.push_back(Post {
            number: self.written,
            to,
            body,
            kind,
        });
        self.written
    }

    /// Takes letters out to be sent.
    pub(super) fn take(&mut self, most: usize) -> Vec<Post> {
        let count = most.min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    /// Puts back what was sent and not confirmed: it goes first.
    pub(super) fn put_back(&mut self, posts: impl DoubleEndedIterator<Item = Post>) {
        posts.rev().for_each(|post| self.waiting.push_front(post));
    }

    /// Whether there are letters to send.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn confirm(&mut self, number: u64) {
        self.confirmed = number;
    }

    /// The number of the last letter that was confirmed; all before it were too.
    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed
    }

    /// Whether everything was confirmed.
    pub(super) fn is_empty(&self) -> bool {
        self.confirmed == self.written
    }
}
