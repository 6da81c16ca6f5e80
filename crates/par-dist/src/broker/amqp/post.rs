//! Letters on their way: until the server has confirmed them, and registered ones until their reader has said so (rules 1 and 2 of
//! the protocol).

use crate::broker::PeerId;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long nobody says again what was read.
const SAID: Duration = Duration::from_millis(50);

/// Where a letter goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    /// The work queue of this peer.
    Work,
    Peer(PeerId),
}

/// A letter on its way.
pub(super) struct Post {
    pub(super) number: u64,
    pub(super) to: To,
    pub(super) body: Arc<Vec<u8>>,
}

/// Letters in the order in which they were written.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: VecDeque<Post>,
    written: u64,
    confirmed: u64,
    registered: BTreeMap<u64, Registered>,
    /// Registered letters of others that were read, and not yet said to be.
    read: HashMap<PeerId, Vec<u64>>,
    /// When that was said last.
    said: Option<Instant>,
}

/// A registered letter that nobody has said to have read.
struct Registered {
    to: PeerId,
    body: Arc<Vec<u8>>,
    /// Outcomes in it that are kept until it is read.
    kept: usize,
    since: Instant,
}

impl Outbox {
    /// Adds a letter; its number.
    pub(super) fn push(&mut self, to: To, body: Arc<Vec<u8>>) -> u64 {
        self.written += 1;
        self.waiting.push_back(Post {
            number: self.written,
            to,
            body,
        });
        self.written
    }

    /// Notes a registered letter.
    pub(super) fn register(&mut self, number: u64, to: PeerId, body: Arc<Vec<u8>>, kept: usize) {
        let since = Instant::now();
        self.registered.insert(
            number,
            Registered {
                to,
                body,
                kept,
                since,
            },
        );
    }

    /// Somebody read a letter; how many outcomes in it need not be kept any more.
    pub(super) fn heard(&mut self, number: u64) -> usize {
        self.registered.remove(&number).map_or(0, |letter| letter.kept)
    }

    /// Nobody will read what was written to that peer; how many outcomes in it need not be kept any more.
    pub(super) fn forget(&mut self, peer: PeerId) -> usize {
        let mut kept = 0;
        self.registered.retain(|_, letter| {
            let keep = letter.to != peer;
            kept += if keep { 0 } else { letter.kept };
            keep
        });
        self.read.remove(&peer);
        kept
    }

    /// Writes registered letters again that were written before and not heard of.
    pub(super) fn write_again(&mut self, before: Instant) {
        let mut again = Vec::new();
        for letter in self
            .registered
            .values_mut()
            .filter(|letter| letter.since < before)
        {
            letter.since = Instant::now();
            again.push((letter.to, Arc::clone(&letter.body)));
        }
        for (to, body) in again {
            self.push(To::Peer(to), body);
        }
    }

    /// Notes that a registered letter of that peer was read.
    pub(super) fn read(&mut self, writer: PeerId, number: u64) {
        self.read.entry(writer).or_default().push(number);
    }

    /// What was read, to be said to its writers: now and then, and much at a time.
    pub(super) fn take_read(&mut self) -> HashMap<PeerId, Vec<u64>> {
        if self.said.is_some_and(|said| said.elapsed() < SAID) {
            return HashMap::new();
        }
        self.said = Some(Instant::now());
        std::mem::take(&mut self.read)
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
