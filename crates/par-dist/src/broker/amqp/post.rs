//! Letters on their way: until the server has confirmed them, and registered ones until their reader has said so (rules 1 and 2 of
//! the protocol).

use crate::broker::PeerId;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long nobody says again what was read.
const SAID: Duration = Duration::from_millis(50);
/// After how long the server is offered again what it refused, at first and at most; twice as long each time that it takes nothing.
const REFUSED: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// So many are offered again at a time.
const TRIES: usize = 64;

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
    refused: Refused,
    registered: BTreeMap<u64, Registered>,
    /// Registered letters of others that were read, and not yet said to be.
    read: HashMap<PeerId, Vec<u64>>,
    /// When that was said last.
    said: Option<Instant>,
}

/// What the server does not take, as queues that are full of it may tell it to.
#[derive(Default)]
struct Refused {
    /// To be offered again.
    posts: VecDeque<Post>,
    /// Those that were refused and are not confirmed yet, in here or on their way again.
    owed: BTreeSet<u64>,
    /// Since when none of them was taken.
    since: Option<Instant>,
    pause: Duration,
    next: Option<Instant>,
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
        let mut posts = Vec::new();
        if self.refused.next.is_some_and(|at| at <= Instant::now()) {
            let count = most.min(TRIES).min(self.refused.posts.len());
            posts.extend(self.refused.posts.drain(..count));
            self.refused.next = None;
        }
        let count = (most - posts.len()).min(self.waiting.len());
        posts.extend(self.waiting.drain(..count));
        posts
    }

    /// The server did not take a letter: it is to be offered again after a while.
    pub(super) fn refuse(&mut self, post: Post) {
        let refused = &mut self.refused;
        refused.owed.insert(post.number);
        refused.since.get_or_insert_with(Instant::now);
        refused.posts.push_back(post);
        self.offer_refused();
    }

    /// Sets the time for the next try, where there is none.
    fn offer_refused(&mut self) {
        let refused = &mut self.refused;
        if refused.posts.is_empty() || refused.next.is_some() {
            return;
        }
        refused.pause = (refused.pause * 2).clamp(REFUSED.0, REFUSED.1);
        refused.next = Some(Instant::now() + refused.pause);
    }

    /// When what was refused is to be offered again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.refused.next
    }

    /// How long the server has refused something and taken nothing of it.
    pub(super) fn refused_for(&self) -> Duration {
        self.refused.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Puts back what was sent and not confirmed: it goes first.
    pub(super) fn put_back(&mut self, posts: impl DoubleEndedIterator<Item = Post>) {
        posts.rev().for_each(|post| self.waiting.push_front(post));
    }

    /// Whether there are letters to send.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.refused.owed.is_empty()
    }

    pub(super) fn confirm(&mut self, number: u64) {
        self.confirmed = self.confirmed.max(number);
        let refused = &mut self.refused;
        if refused.since.is_some() {
            if refused.owed.remove(&number) {
                refused.pause = Duration::ZERO;
                refused.since = (!refused.owed.is_empty()).then(Instant::now);
            }
            self.offer_refused();
        }
    }

    /// The number of the last letter that was confirmed; all before it were too.
    pub(super) fn confirmed(&self) -> u64 {
        match self.refused.owed.first() {
            Some(owed) => self.confirmed.min(owed - 1),
            None => self.confirmed,
        }
    }

    /// Whether everything was confirmed.
    pub(super) fn is_empty(&self) -> bool {
        self.confirmed() == self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_offered_again_and_counts_as_unconfirmed_meanwhile() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            outbox.push(To::Work, Arc::default());
        }
        let mut posts = outbox.take(10).into_iter();
        outbox.confirm(posts.next().expect("the first").number);
        outbox.refuse(posts.next().expect("the second"));
        outbox.confirm(posts.next().expect("the third").number);
        assert_eq!((outbox.confirmed(), outbox.is_empty()), (1, false));
        assert!(outbox.has_waiting());
        assert!(outbox.take(10).is_empty(), "at once");
        while outbox.next_try().expect("a next try") > Instant::now() {
            std::thread::yield_now();
        }
        let again = outbox.take(10);
        assert_eq!(again.iter().map(|post| post.number).collect::<Vec<_>>(), [2]);
        assert!(outbox.next_try().is_none());
        assert_eq!(outbox.confirmed(), 1, "on its way");
        outbox.confirm(2);
        assert_eq!(
            (outbox.confirmed(), outbox.is_empty(), outbox.refused_for()),
            (3, true, Duration::ZERO)
        );
    }

    #[test]
    fn pauses_grow_while_nothing_is_taken() {
        let mut outbox = Outbox::default();
        outbox.push(To::Work, Arc::default());
        let mut pauses = Vec::new();
        let mut post = outbox.take(1).pop();
        while pauses.len() < 4 {
            let before = Instant::now();
            outbox.refuse(post.take().expect("a letter"));
            let at = outbox.next_try().expect("a next try");
            pauses.push(at.duration_since(before).as_millis() / 10);
            while post.is_none() {
                post = outbox.take(1).pop();
            }
        }
        assert!(
            pauses[0] >= 1 && pauses.is_sorted_by(|a, b| a * 2 <= *b),
            "{pauses:?}"
        );
    }
}
