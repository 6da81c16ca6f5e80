//! What peers write to each other: the form of every message in our queues.
//!
//! `parA`, a version byte, the length of the head (4 bytes, lowest first), the head in the wire form, and behind it the tail: the
//! payload of an offer, the bodies of outcomes, a value. What does not read so is no letter: it is dropped, with a reason.

use crate::broker::PeerId;
use par_core::wire;
use serde::{Deserialize, Serialize};

const MAGIC: [u8; 4] = *b"parA";
pub(super) const VERSION: u8 = 1;
/// Magic, version and length.
const START: usize = 9;

/// A peer as it shows itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Card {
    pub(super) id: i64,
    pub(super) queue: String,
    /// Messages that it runs at a time; 0 for a pool.
    pub(super) concurrency: u64,
    pub(super) pid: u32,
    pub(super) lease_ms: u64,
    /// The folder of presence that it is in: peers in one folder see each other's locks.
    pub(super) folder: u64,
}

/// The head of an offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offered {
    pub(super) pool: i64,
    pub(super) id: i64,
    pub(super) root: i64,
    pub(super) job: u64,
    pub(super) call: i64,
    pub(super) first: u64,
    pub(super) items: u64,
    pub(super) shares: Vec<u8>,
}

/// The head of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) id: i64,
    pub(super) kind: u8,
    pub(super) took_us: u64,
    /// Bytes of the tail.
    pub(super) length: u64,
}

/// What a worker has to fetch from a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    Call(i64),
    Initializer,
    Share(Vec<u8>),
}

/// The head of a letter. Each comes at least once, in the order in which its writer wrote to this reader unless a connection broke
/// meanwhile; so the second one of its kind changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Letter {
    /// In the work queue; the tail is the payload.
    Offer(Offered),
    /// A worker asks a pool which of these it may run.
    Ask { card: Card, ask: u64, ids: Vec<i64> },
    /// The pool's answer.
    Answer {
        pool: i64,
        ask: u64,
        granted: Vec<i64>,
        denied: Vec<i64>,
    },
    /// What ran has ended; the tail holds the bodies.
    Outcomes { worker: i64, list: Vec<Ended> },
    /// Granted, not begun, and given back.
    Release { worker: i64, ids: Vec<i64> },
    /// A job is cancelled.
    Raise { pool: i64, job: u64 },
    /// A job that was cancelled is over.
    Lower { pool: i64, job: u64 },
    /// A worker needs a value.
    Fetch { reader: i64, request: u64, what: What },
    /// The value, in the tail.
    Value { request: u64, found: bool },
    /// A shared value is gone.
    Evict { key: Vec<u8> },
    /// A letter that has no answer of its own, with its writer's number for it: whoever reads it says so.
    Registered {
        writer: i64,
        number: u64,
        letter: Box<Letter>,
    },
    /// These registered letters were read.
    Heard { numbers: Vec<u64> },
    /// A pool to itself: everything that this peer wrote before it died has been read.
    Bury { peer: i64, reason: String },
    /// To all: this peer lives. `hello` asks for an answer.
    Beat { card: Card, count: u64, hello: bool },
    /// To all: this peer leaves.
    Left { peer: i64 },
}

impl Letter {
    /// The letter with its tail.
    pub(super) fn seal(&self, tail: &[&[u8]]) -> Vec<u8> {
        let length = tail.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(START + 96 + length);
        bytes.extend(MAGIC);
        bytes.push(VERSION);
        bytes.extend([0; 4]);
        // Texts and numbers always encode; should that change, the reader drops the letter and says so.
        let _ = wire::encode(self, &mut bytes);
        let head = u32::try_from(bytes.len() - START).unwrap_or(u32::MAX);
        bytes[5..START].copy_from_slice(&head.to_le_bytes());
        for part in tail {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Reads a letter; the number says where its tail begins. The error says what was expected.
    pub(super) fn open(bytes: &[u8]) -> Result<(Letter, usize), String> {
        let Some((start, rest)) = bytes.split_first_chunk::<START>() else {
            return Err(format!("{} bytes; a letter has at least {START}", bytes.len()));
        };
        if start[..4] != MAGIC {
            return Err("it does not begin with \"parA\"".to_owned());
        }
        if start[4] != VERSION {
            return Err(format!("version {}; this program knows {VERSION}", start[4]));
        }
        let head = u32::from_le_bytes([start[5], start[6], start[7], start[8]]) as usize;
        let bytes = rest
            .get(..head)
            .ok_or_else(|| format!("a head of {head} bytes in a letter of {}", rest.len()))?;
        let letter = wire::from_bytes(bytes).map_err(|error| format!("its head: {error}"))?;
        Ok((letter, START + head))
    }
}

impl Card {
    pub(super) fn peer(&self) -> PeerId {
        PeerId(self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offer(shares: Vec<u8>) -> Letter {
        Letter::Offer(Offered {
            pool: 1,
            id: -2,
            root: 3,
            job: 4,
            call: 5,
            first: 6,
            items: 7,
            shares,
        })
    }

    proptest! {
        #[test]
        fn letters_come_back_with_their_tails(shares: Vec<u8>, tail: Vec<u8>, key: Vec<u8>, ids: Vec<i64>) {
            for letter in [
                offer(shares),
                Letter::Evict { key: key.clone() },
                Letter::Fetch { reader: 1, request: 2, what: What::Share(key) },
                Letter::Registered { writer: 1, number: 2, letter: Box::new(Letter::Raise { pool: 3, job: 4 }) },
                Letter::Answer { pool: 1, ask: 2, granted: ids.clone(), denied: ids },
            ] {
                let bytes = letter.seal(&[&tail]);
                let (back, at) = Letter::open(&bytes).expect("a letter");
                prop_assert_eq!(back, letter);
                prop_assert_eq!(&bytes[at..], &tail[..]);
            }
        }

        #[test]
        fn noise_is_an_error_and_nothing_else(noise: Vec<u8>) {
            prop_assert!(Letter::open(&noise).is_err());
            let mut framed = b"parA\x01".to_vec();
            framed.extend((noise.len() as u32).to_le_bytes());
            framed.extend(&noise);
            // Whatever it is, it ends, and takes no more memory than it has bytes.
            let _ = Letter::open(&framed);
        }

        #[test]
        fn a_letter_that_is_cut_or_changed_does_no_harm(tail: Vec<u8>, cut: prop::sample::Index, byte: u8) {
            let whole = offer(vec![1, 2, 3]).seal(&[&tail]);
            let at = cut.index(whole.len());
            if at < whole.len() - tail.len() {
                prop_assert!(Letter::open(&whole[..at]).is_err());
            }
            let mut changed = whole;
            changed[at] = byte;
            let _ = Letter::open(&changed);
        }
    }

    #[test]
    fn giant_claims_and_other_versions_are_refused() {
        let mut giant = offer(Vec::new()).seal(&[]);
        giant[5..9].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(
            Letter::open(&giant)
                .expect_err("giant")
                .starts_with("a head of 4294967295 bytes")
        );
        let mut newer = offer(Vec::new()).seal(&[]);
        newer[4] = 9;
        assert_eq!(
            Letter::open(&newer).expect_err("newer"),
            "version 9; this program knows 1"
        );
    }
}
