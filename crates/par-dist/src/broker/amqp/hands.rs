//! The worker's side: offers that were fetched, what was asked about them, what was granted, and which deliveries may be
//! acknowledged (rules 3, 5 and 6 of the protocol).

use super::letter::Offered;
use crate::broker::{MessageId, PeerId};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

/// A message of some pool.
pub(super) type Key = (PeerId, MessageId);

/// The largest prefetch of a consumer: it has 16 bits.
const MOST: usize = 1 << 15;
/// So many offers are asked about although an answer is still awaited.
const EAGER: usize = 32;

/// A message as it came, with the tag of its delivery on the present channel.
pub(super) struct Offer {
    pub(super) head: Offered,
    pub(super) payload: Vec<u8>,
    pub(super) tag: Option<u64>,
}

impl Offer {
    pub(super) fn key(&self) -> Key {
        (PeerId(self.head.pool), MessageId(self.head.id))
    }
}

/// What a worker has in its hands.
#[derive(Default)]
pub(super) struct Hands {
    /// Fetched; nobody was asked yet.
    offers: VecDeque<Offer>,
    asked: HashMap<Key, (Offer, u64)>,
    /// Questions that wait for an answer, by number, and when each was last asked.
    questions: HashMap<u64, (PeerId, Instant)>,
    /// May be run, and is not leased yet.
    granted: VecDeque<Offer>,
    /// Leased and not settled.
    held: HashMap<Key, Option<u64>>,
    /// Unacknowledged deliveries of the present channel, and whether they may be acknowledged.
    tags: BTreeMap<u64, bool>,
    /// Deliveries that go back to the queue.
    back: Vec<u64>,
    /// How many messages the peer still wants.
    appetite: usize,
    /// The prefetch that fits; 0 fetches nothing.
    level: usize,
    next_question: u64,
    pub(super) raised: HashSet<(PeerId, u64)>,
    /// Which pool a shared value came from.
    pub(super) shares: HashMap<Vec<u8>, PeerId>,
}

/// A question to a pool.
pub(super) struct Question {
    pub(super) pool: PeerId,
    pub(super) number: u64,
    pub(super) ids: Vec<MessageId>,
}

impl Hands {
    /// The prefetch that the consumer should have.
    pub(super) fn level(&self) -> usize {
        self.level
    }

    /// Whether anything is fetched that was not leased.
    pub(super) fn has_fetched(&self) -> bool {
        !self.offers.is_empty() || !self.asked.is_empty() || !self.granted.is_empty()
    }

    /// Says how many messages the peer wants beside what it holds, and takes what was granted.
    pub(super) fn take(&mut self, most: usize, bytes: usize) -> Vec<Offer> {
        let mut taken = Vec::new();
        let mut size = 0;
        while taken.len() < most
            && size < bytes
            && let Some(offer) = self.granted.pop_front()
        {
            size += offer.payload.len();
            self.held.insert(offer.key(), offer.tag);
            taken.push(offer);
        }
        self.appetite = most - taken.len();
        // Rule 6: a power of two, so that it changes seldom.
        let unacknowledged = self.held.values().flatten().count();
        let fits = (unacknowledged + self.appetite)
            .clamp(1, MOST)
            .next_power_of_two();
        if fits > self.level || fits * 4 <= self.level {
            self.level = fits;
            while self.offers.len() > fits
                && let Some(offer) = self.offers.pop_back()
            {
                self.put_back(offer.tag);
            }
        }
        taken
    }

    /// Fetches nothing more and gives back what was fetched; what was granted is to be released.
    pub(super) fn pause(&mut self) -> Vec<Key> {
        self.level = 0;
        self.appetite = 0;
        self.acknowledge_held();
        while let Some(offer) = self.offers.pop_front() {
            self.put_back(offer.tag);
        }
        let granted: Vec<Offer> = self.granted.drain(..).collect();
        granted
            .into_iter()
            .map(|offer| {
                self.done(offer.tag);
                offer.key()
            })
            .collect()
    }

    fn put_back(&mut self, tag: Option<u64>) {
        if let Some(tag) = tag
            && self.tags.remove(&tag).is_some()
        {
            self.back.push(tag);
        }
    }

    fn done(&mut self, tag: Option<u64>) {
        if let Some(tag) = tag
            && let Some(done) = self.tags.get_mut(&tag)
        {
            *done = true;
        }
    }

    /// Takes a delivery in.
    pub(super) fn deliver(&mut self, mut offer: Offer) {
        let Some(tag) = offer.tag else { return };
        self.tags.insert(tag, false);
        let key = offer.key();
        if let Some((asked, _)) = self.asked.get_mut(&key) {
            // Rule 5: it came again over a new connection; this delivery stands for it now.
            let before = asked.tag.replace(tag);
            self.done(before);
        } else if self.is_known(key) {
            self.done(Some(tag));
        } else if self.level == 0 {
            self.put_back(offer.tag.take());
        } else {
            self.offers.push_back(offer);
        }
    }

    /// Whether a message was granted and has not been settled.
    fn is_known(&self, key: Key) -> bool {
        self.held.contains_key(&key) || self.granted.iter().any(|offer| offer.key() == key)
    }

    /// A delivery that is no offer: it goes for good.
    pub(super) fn reject(&mut self, tag: u64) {
        self.tags.insert(tag, true);
    }

    /// What the pools are to be asked now. One question is on its way at a time, so that its answer is worth a letter.
    pub(super) fn ask(&mut self) -> Vec<Question> {
        let wanted = self
            .appetite
            .saturating_sub(self.asked.len() + self.granted.len())
            .min(self.offers.len());
        if wanted == 0 || (!self.questions.is_empty() && wanted < EAGER) {
            return Vec::new();
        }
        let mut questions: Vec<Question> = Vec::new();
        let taken: Vec<Offer> = self.offers.drain(..wanted).collect();
        for offer in taken {
            let key @ (pool, id) = offer.key();
            // Rule 5: an offer that was published twice may have been fetched twice before anybody was asked.
            if let Some((asked, _)) = self.asked.get_mut(&key) {
                let before = std::mem::replace(&mut asked.tag, offer.tag);
                self.done(before);
                continue;
            }
            if self.is_known(key) {
                self.done(offer.tag);
                continue;
            }
            let question = match questions.iter().position(|question| question.pool == pool) {
                Some(at) => &mut questions[at],
                None => {
                    self.next_question += 1;
                    self.questions.insert(self.next_question, (pool, Instant::now()));
                    questions.push(Question {
                        pool,
                        number: self.next_question,
                        ids: Vec::new(),
                    });
                    let last = questions.len() - 1;
                    &mut questions[last]
                }
            };
            question.ids.push(id);
            self.asked.insert(key, (offer, question.number));
        }
        questions
    }

    /// Questions that were asked before that time and not answered, to be asked again.
    pub(super) fn unanswered(&mut self, before: Instant) -> Vec<Question> {
        let mut again = Vec::new();
        for (number, (pool, since)) in &mut self.questions {
            if *since < before {
                *since = Instant::now();
                let asked = self.asked.iter().filter(|(_, (_, question))| question == number);
                again.push(Question {
                    pool: *pool,
                    number: *number,
                    ids: asked.map(|(key, _)| key.1).collect(),
                });
            }
        }
        again
    }

    /// Takes an answer; whether anything was granted.
    pub(super) fn answer(&mut self, pool: PeerId, question: u64, granted: &[i64], denied: &[i64]) -> bool {
        // A second answer to a question changes nothing: what it is about is not asked any more.
        if self.questions.remove(&question).is_none() {
            return false;
        }
        for id in granted {
            if let Some(offer) = self.answered((pool, MessageId(*id)), question) {
                self.granted.push_back(offer);
            }
        }
        for id in denied {
            if let Some(offer) = self.answered((pool, MessageId(*id)), question) {
                self.done(offer.tag);
            }
        }
        !self.granted.is_empty()
    }

    fn answered(&mut self, key: Key, question: u64) -> Option<Offer> {
        match self.asked.get(&key) {
            Some((_, number)) if *number == question => self.asked.remove(&key).map(|(offer, _)| offer),
            _ => None,
        }
    }

    /// What the peer leased has ended: its delivery may be acknowledged.
    pub(super) fn end(&mut self, key: Key) {
        if let Some(tag) = self.held.remove(&key) {
            self.done(tag);
        }
    }

    /// The message that this peer leased under that number.
    pub(super) fn key_of(&self, id: MessageId) -> Option<Key> {
        self.held.keys().find(|key| key.1 == id).copied()
    }

    /// Lets go of the deliveries of everything that was granted: from here on the pool's ledger is enough.
    pub(super) fn acknowledge_held(&mut self) {
        let tags: Vec<u64> = self.held.values_mut().filter_map(Option::take).collect();
        for tag in tags {
            self.done(Some(tag));
        }
    }

    /// A pool is gone: nothing of it needs to be run. The shared values that came from it.
    pub(super) fn forget(&mut self, pool: PeerId) {
        let mut done = Vec::new();
        self.offers.retain(|offer| {
            let keep = offer.head.pool != pool.0;
            if !keep {
                done.push(offer.tag);
            }
            keep
        });
        self.granted.retain(|offer| {
            let keep = offer.head.pool != pool.0;
            if !keep {
                done.push(offer.tag);
            }
            keep
        });
        self.asked.retain(|key, (offer, _)| {
            let keep = key.0 != pool;
            if !keep {
                done.push(offer.tag);
            }
            keep
        });
        done.into_iter().for_each(|tag| self.done(tag));
        self.questions.retain(|_, (of, _)| *of != pool);
        self.raised.retain(|(of, _)| *of != pool);
        self.shares.retain(|_, of| *of != pool);
    }

    /// The connection is gone, and with it the tags. What was fetched and not asked comes again by itself.
    pub(super) fn disconnected(&mut self) {
        self.offers.clear();
        self.tags.clear();
        self.back.clear();
        self.asked.values_mut().for_each(|(offer, _)| offer.tag = None);
        self.granted.iter_mut().for_each(|offer| offer.tag = None);
        self.held.values_mut().for_each(|tag| *tag = None);
    }

    /// What is to be acknowledged: everything up to a tag in one, and single ones behind it.
    pub(super) fn acknowledgements(&mut self) -> (Option<u64>, Vec<u64>) {
        let mut all = None;
        while let Some(first) = self.tags.first_entry()
            && *first.get()
        {
            all = Some(*first.key());
            first.remove();
        }
        let single: Vec<u64> = self
            .tags
            .iter()
            .filter_map(|(tag, done)| done.then_some(*tag))
            .collect();
        for tag in &single {
            self.tags.remove(tag);
        }
        (all, single)
    }

    /// Deliveries that go back to the queue.
    pub(super) fn given_back(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.back)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: PeerId = PeerId(9);

    fn offer(id: i64, tag: u64) -> Offer {
        Offer {
            head: Offered {
                pool: POOL.0,
                id,
                root: POOL.0,
                job: 1,
                call: 1,
                first: 0,
                items: 1,
                shares: Vec::new(),
            },
            payload: Vec::new(),
            tag: Some(tag),
        }
    }

    fn key(id: i64) -> Key {
        (POOL, MessageId(id))
    }

    #[test]
    fn deliveries_are_acknowledged_together_once_their_messages_have_ended() {
        let mut hands = Hands::default();
        assert!(hands.take(4, usize::MAX).is_empty());
        assert_eq!(hands.level(), 4);
        (1..=5).for_each(|id| hands.deliver(offer(id, id as u64)));
        let questions = hands.ask();
        assert_eq!(
            (questions.len(), questions[0].ids.len()),
            (1, 4),
            "no more than wanted"
        );
        assert!(hands.ask().is_empty());
        let number = questions[0].number;
        assert!(hands.answer(POOL, number, &[1, 2, 4], &[3]));
        assert!(!hands.answer(POOL, number, &[1, 2, 3, 4], &[]), "a second answer");
        let taken = hands.take(4, usize::MAX);
        assert_eq!(
            taken.iter().map(|offer| offer.head.id).collect::<Vec<_>>(),
            [1, 2, 4]
        );
        assert_eq!(hands.acknowledgements(), (None, vec![3]));
        hands.end(key(1));
        hands.end(key(2));
        assert_eq!(hands.acknowledgements(), (Some(2), vec![]));
        // The fifth was fetched and not asked about; the fourth still runs.
        assert!(hands.pause().is_empty());
        assert_eq!(hands.given_back(), [5]);
        hands.deliver(offer(6, 6));
        assert_eq!(hands.given_back(), [6], "paused");
    }

    #[test]
    fn a_question_is_asked_again_under_its_number() {
        let mut hands = Hands::default();
        hands.take(2, usize::MAX);
        (1..=2).for_each(|id| hands.deliver(offer(id, id as u64)));
        let first = hands.ask().remove(0);
        let later = Instant::now() + std::time::Duration::from_secs(1);
        let mut again = hands.unanswered(later).remove(0);
        again.ids.sort_unstable();
        assert_eq!((again.number, &again.ids), (first.number, &first.ids));
        assert!(hands.answer(POOL, first.number, &[1, 2], &[]));
        assert!(hands.unanswered(later).is_empty());
    }

    #[test]
    fn an_offer_that_comes_twice_is_asked_about_once() {
        let mut hands = Hands::default();
        hands.take(1, usize::MAX);
        hands.deliver(offer(1, 1));
        hands.deliver(offer(1, 2));
        let first = hands.ask().remove(0);
        // More is wanted before the answer is there, and by then much is fetched.
        hands.take(64, usize::MAX);
        (3..64).for_each(|id| hands.deliver(offer(id, id as u64)));
        let second = hands.ask().remove(0);
        assert!(!second.ids.contains(&MessageId(1)));
        assert!(hands.answer(POOL, first.number, &[1], &[]));
        assert_eq!(hands.take(1, usize::MAX).len(), 1);
        assert_eq!(hands.acknowledgements(), (Some(1), vec![]));
    }

    #[test]
    fn after_a_connection_nothing_runs_twice() {
        let mut hands = Hands::default();
        hands.take(3, usize::MAX);
        (1..=2).for_each(|id| hands.deliver(offer(id, id as u64)));
        let first = hands.ask().remove(0);
        assert!(hands.answer(POOL, first.number, &[1], &[]));
        assert_eq!(hands.take(3, usize::MAX).len(), 1);
        hands.deliver(offer(3, 3));
        hands.disconnected();
        // All of them come again, on new tags: the first runs, the second is asked, the third is new.
        (1..=3).for_each(|id| hands.deliver(offer(id, id as u64)));
        assert_eq!(hands.acknowledgements(), (Some(1), vec![]));
        assert_eq!(hands.ask().remove(0).ids, [MessageId(3)]);
        // An answer to an old question about what was asked anew says nothing.
        assert!(!hands.answer(POOL, 77, &[3], &[]));
        hands.forget(POOL);
        assert_eq!(hands.acknowledgements(), (Some(3), vec![]));
        assert!(!hands.has_fetched());
    }
}
