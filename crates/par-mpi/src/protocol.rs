//! What a pool and the ranks that work for it say to each other: messages on the engine's channel, written and read here only.
//!
//! The tag of a message is its kind; the payload begins with the number of the pool, as one rank may work for several. Requests
//! and replies are many and small, so that their fields stand at fixed places; everything else is encoded by `wire`. Whatever
//! arrives is checked: lengths against the bytes that are there, numbers against what was asked.

use par_core::engine::Initializer;
use par_core::remote::{Call, Part};
use par_core::{ShareId, TaskError, wire};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Kinds of messages from the pool.
pub(crate) mod down {
    /// A [`Setup`](super::Setup): the rank gets a worker for this pool.
    pub(crate) const SETUP: u32 = 1;
    /// A batch of items; see [`Batch`](super::Batch).
    pub(crate) const BATCH: u32 = 2;
    /// The outcome of something that a task submitted.
    pub(crate) const ANSWER: u32 = 3;
    /// A job was cancelled: what runs of it sees its token, what has not begun comes back.
    pub(crate) const CANCEL: u32 = 4;
    /// What has not begun of this job, or of any if the number is 0, comes back.
    pub(crate) const RECALL: u32 = 5;
    /// How many other workers have nothing to do.
    pub(crate) const IDLE: u32 = 6;
    /// Finish what runs, and end the worker.
    pub(crate) const STOP: u32 = 7;
    /// No pool comes any more: the rank serves no longer. The number of the pool means nothing.
    pub(crate) const LEAVE: u32 = 8;
}

/// Kinds of messages from a worker.
pub(crate) mod up {
    /// A [`Hello`](super::Hello), first of all.
    pub(crate) const HELLO: u32 = 17;
    /// Replies.
    pub(crate) const REPLIES: u32 = 18;
    /// A [`Submit`](super::Submit), then its input.
    pub(crate) const SUBMIT: u32 = 19;
    /// How many threads wait inside tasks, then the numbers of requests that come back, not begun.
    pub(crate) const BLOCKED: u32 = 20;
    /// The numbers of requests that come back, not begun.
    pub(crate) const RETURNED: u32 = 21;
    /// A submitted part is not wanted any more.
    pub(crate) const CANCEL: u32 = 22;
    /// A task waits for this submitted part before all others.
    pub(crate) const PREFER: u32 = 23;
    /// A shared value that submitted parts name: its number, then its bytes.
    pub(crate) const SHARE: u32 = 24;
    /// A shared value that was sent is gone.
    pub(crate) const EVICT: u32 = 25;
    /// The worker has ended.
    pub(crate) const ENDED: u32 = 26;
    /// The rank cannot serve any longer; a text says why.
    pub(crate) const GONE: u32 = 27;
}

/// Bytes of a message before what it says: the number of the pool.
pub(crate) const HEAD: usize = 8;
/// What messages and the fields in them take beside payloads, in bytes, at most.
pub(crate) const OVERHEAD: u64 = 1 << 20;
/// Items that are longer than this have a message of their own.
const LONG: usize = 64 << 10;

/// A message for or from the pool of that number.
pub(crate) fn message(pool: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = pool.to_le_bytes().to_vec();
    fill(&mut bytes);
    bytes
}

/// Splits the number of the pool from a message.
pub(crate) fn split_pool(bytes: &[u8]) -> Result<(u64, &[u8]), Bad> {
    let (pool, rest) = bytes
        .split_first_chunk()
        .ok_or(Bad("a message has no number of its pool"))?;
    Ok((u64::from_le_bytes(*pool), rest))
}

/// Appends a value of texts and numbers, which always encode; should that change, the reader says that it cannot read it.
pub(crate) fn put(out: &mut Vec<u8>, value: &impl Serialize) {
    let _ = wire::encode(value, out);
}

/// How a worker is set up.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The worker's index.
    pub(crate) index: usize,
    /// How many workers the pool has.
    pub(crate) workers: usize,
    /// The longest input or output of one request, in bytes.
    pub(crate) longest: u64,
    /// Run before the first request.
    pub(crate) initializer: Option<Initializer>,
}

/// A worker's first word.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Hello {
    /// It can begin; the number of its process.
    Ready(u32),
    /// Its initialiser failed.
    Initializer(TaskError),
    /// It has no thread to work with.
    Thread(String),
}

/// A part that a worker's task submits; the input follows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Submit {
    /// Number of the part, given by the worker.
    pub(crate) id: u64,
    pub(crate) call: Call,
    pub(crate) part: Part,
    pub(crate) idempotent: bool,
    pub(crate) attempts: u32,
    /// The shared values that it names; this worker has sent them before.
    pub(crate) shares: Vec<ShareId>,
}

/// Refuses a payload that is too long for one request.
pub(crate) fn check_length(what: &str, bytes: usize, longest: u64) -> Result<(), TaskError> {
    if bytes as u64 <= longest {
        return Ok(());
    }
    Err(TaskError::Codec(format!(
        "{what} of {bytes} bytes in one request, at most {longest} are taken (option longest)"
    )))
}

/// Items of a batch: a tag, then fields.
const CALL: u8 = 1;
const SHARE: u8 = 2;
const EVICT: u8 = 3;
const FORGET_CALLS: u8 = 4;
const RUN: u8 = 5;

/// A batch of items on its way to a worker: messages that are written in place, each with the number of its first request.
#[derive(Default)]
pub(crate) struct Batch {
    messages: Vec<Vec<u8>>,
    /// How many requests there are before each message.
    before: Vec<u64>,
    requests: u64,
    bytes: usize,
}

impl Batch {
    /// The message that takes an item of about `length` bytes.
    fn item(&mut self, tag: u8, length: usize) -> &mut Vec<u8> {
        self.bytes += length;
        let fits = |last: &Vec<u8>| last.len() + length <= LONG;
        if !self.messages.last().is_some_and(fits) {
            let mut message = Vec::with_capacity(length.max(1024) + 64);
            message.resize(HEAD + 8, 0);
            self.messages.push(message);
            self.before.push(self.requests);
        }
        let last = self.messages.len() - 1;
        let message = &mut self.messages[last];
        message.push(tag);
        message
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// About how many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The code that requests name by `number`.
    pub(crate) fn call(&mut self, number: u32, call: &[u8]) {
        let out = self.item(CALL, call.len());
        out.extend_from_slice(&number.to_le_bytes());
        put_bytes(out, call);
    }

    /// All numbers of calls are free again.
    pub(crate) fn forget_calls(&mut self) {
        self.item(FORGET_CALLS, 0);
    }

    /// A shared value.
    pub(crate) fn share(&mut self, id: ShareId, value: &[u8]) {
        let out = self.item(SHARE, value.len());
        put(out, &id);
        put_bytes(out, value);
    }

    /// A shared value that is gone.
    pub(crate) fn evict(&mut self, id: ShareId) {
        put(self.item(EVICT, 0), &id);
    }

    /// A request.
    pub(crate) fn run(&mut self, job: u64, call: u32, part: Part, input: &[u8]) {
        let out = self.item(RUN, input.len());
        out.extend_from_slice(&job.to_le_bytes());
        out.extend_from_slice(&call.to_le_bytes());
        out.extend_from_slice(&part.first.to_le_bytes());
        out.extend_from_slice(&part.items.to_le_bytes());
        put_bytes(out, input);
        self.requests += 1;
    }

    /// Takes the messages for the pool's worker; the first request has the number `first`.
    pub(crate) fn take(&mut self, pool: u64, first: u64) -> Vec<Vec<u8>> {
        let Batch { messages, before, .. } = std::mem::take(self);
        let filled = messages.into_iter().zip(before);
        filled
            .map(|(mut message, before)| {
                message[..HEAD].copy_from_slice(&pool.to_le_bytes());
                message[HEAD..HEAD + 8].copy_from_slice(&(first + before).to_le_bytes());
                message
            })
            .collect()
    }
}

/// An item of a batch, as a worker reads it; ranges are places in its payload.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    Call {
        number: u32,
        call: Range<usize>,
    },
    ForgetCalls,
    Share {
        id: ShareId,
        value: Range<usize>,
    },
    Evict(ShareId),
    Run {
        number: u64,
        job: u64,
        call: u32,
        part: Part,
        input: Range<usize>,
    },
}

/// Reads the items of a batch.
pub(crate) struct Items<'a> {
    cursor: Cursor<'a>,
    next: u64,
}

impl<'a> Items<'a> {
    /// Of a whole message, the number of the pool included.
    pub(crate) fn new(message: &'a [u8]) -> Result<Self, Bad> {
        let mut cursor = Cursor {
            bytes: message,
            at: HEAD.min(message.len()),
        };
        let next = cursor.u64()?;
        Ok(Items { cursor, next })
    }

    /// The next item; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Item>, Bad> {
        let cursor = &mut self.cursor;
        if cursor.at == cursor.bytes.len() {
            return Ok(None);
        }
        let [tag] = cursor.array()?;
        Ok(Some(match tag {
            CALL => Item::Call {
                number: u32::from_le_bytes(cursor.array()?),
                call: cursor.range()?,
            },
            FORGET_CALLS => Item::ForgetCalls,
            SHARE => Item::Share {
                id: cursor.value()?,
                value: cursor.range()?,
            },
            EVICT => Item::Evict(cursor.value()?),
            RUN => {
                let number = self.next;
                self.next = self.next.wrapping_add(1);
                Item::Run {
                    number,
                    job: cursor.u64()?,
                    call: u32::from_le_bytes(cursor.array()?),
                    part: Part {
                        first: cursor.u64()?,
                        items: cursor.u64()?,
                    },
                    input: cursor.range()?,
                }
            }
            _ => return Err(Bad("an item of a batch has an unknown tag")),
        }))
    }
}

/// How a request ended, in a reply.
#[derive(Debug, PartialEq)]
pub(crate) enum Ended<'a> {
    /// With this reply of its code.
    Reply(&'a [u8]),
    /// Before its code could reply.
    Failed(TaskError),
}

const REPLY: u8 = 0;
const FAILED: u8 = 1;

/// Appends a reply, or an encoded error where it `failed`.
pub(crate) fn put_reply(out: &mut Vec<u8>, number: u64, took_ns: u64, failed: bool, bytes: &[u8]) {
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&took_ns.to_le_bytes());
    out.push(if failed { FAILED } else { REPLY });
    put_bytes(out, bytes);
}

/// A reply, as a pool reads it.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply<'a> {
    pub(crate) number: u64,
    pub(crate) took_ns: u64,
    pub(crate) ended: Ended<'a>,
}

/// Reads the replies of a message.
pub(crate) struct Replies<'a>(Cursor<'a>);

impl<'a> Replies<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Replies(Cursor {
            bytes: payload,
            at: 0,
        })
    }

    /// The next reply; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Reply<'a>>, Bad> {
        let cursor = &mut self.0;
        if cursor.at == cursor.bytes.len() {
            return Ok(None);
        }
        let (number, took_ns, [tag]) = (cursor.u64()?, cursor.u64()?, cursor.array()?);
        let bytes = &cursor.bytes[cursor.range()?];
        let ended = outcome(tag, bytes)?;
        Ok(Some(Reply {
            number,
            took_ns,
            ended,
        }))
    }
}

/// Appends the outcome of a submitted part.
pub(crate) fn put_answer(out: &mut Vec<u8>, id: u64, outcome: Result<&[u8], &TaskError>) {
    out.extend_from_slice(&id.to_le_bytes());
    match outcome {
        Ok(reply) => {
            out.push(REPLY);
            out.extend_from_slice(reply);
        }
        Err(error) => {
            out.push(FAILED);
            put(out, error);
        }
    }
}

/// Reads the outcome of a submitted part, and its number.
pub(crate) fn read_answer(payload: &[u8]) -> Result<(u64, Ended<'_>), Bad> {
    let mut cursor = Cursor {
        bytes: payload,
        at: 0,
    };
    let (id, [tag]) = (cursor.u64()?, cursor.array()?);
    Ok((id, outcome(tag, &payload[cursor.at..])?))
}

fn outcome(tag: u8, bytes: &[u8]) -> Result<Ended<'_>, Bad> {
    match tag {
        REPLY => Ok(Ended::Reply(bytes)),
        FAILED => Ok(Ended::Failed(wire::from_bytes(bytes).unwrap_or_else(|error| {
            TaskError::Codec(format!("the error of the task was not readable: {error}"))
        }))),
        _ => Err(Bad("an outcome has an unknown tag")),
    }
}

/// Reads a payload that is one number.
pub(crate) fn read_number(payload: &[u8]) -> Result<u64, Bad> {
    payload
        .try_into()
        .map(u64::from_le_bytes)
        .map_err(|_| Bad("a number of 8 bytes was expected"))
}

/// Reads a payload that is numbers.
pub(crate) fn read_numbers(payload: &[u8]) -> Result<impl Iterator<Item = u64> + '_, Bad> {
    let (numbers, []) = payload.as_chunks() else {
        return Err(Bad("numbers of 8 bytes were expected"));
    };
    Ok(numbers.iter().map(|number| u64::from_le_bytes(*number)))
}

/// Bytes that no pool and no worker writes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Bad(pub(crate) &'static str);

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Bad> {
        let rest = &self.bytes[self.at..];
        let (array, _) = rest
            .split_first_chunk()
            .ok_or(Bad("a message ends within a field"))?;
        self.at += N;
        Ok(*array)
    }

    fn u64(&mut self) -> Result<u64, Bad> {
        self.array().map(u64::from_le_bytes)
    }

    /// Bytes with their length before them.
    fn range(&mut self) -> Result<Range<usize>, Bad> {
        let length = self.u64()?;
        let left = self.bytes.len() - self.at;
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= left)
            .ok_or(Bad("a length reaches beyond its message"))?;
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    fn value<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, Bad> {
        let mut rest = &self.bytes[self.at..];
        let value = wire::decode(&mut rest).map_err(|_| Bad("a field is not readable"))?;
        self.at = self.bytes.len() - rest.len();
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PART: Part = Part { first: 7, items: 2 };

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let mut batch = Batch::default();
        batch.call(3, b"call");
        batch.run(9, 3, PART, b"in");
        batch.run(9, 3, PART, &[1; 2 * LONG]);
        batch.forget_calls();
        let messages = batch.take(5, 40);
        assert!(batch.is_empty());
        assert_eq!(messages.len(), 3, "what is long goes alone");
        let mut numbers = Vec::new();
        for message in &messages {
            assert_eq!(split_pool(message).map(|(pool, _)| pool), Ok(5));
            let mut items = Items::new(message).expect("a batch");
            while let Some(item) = items.next().expect("an item") {
                match item {
                    Item::Run {
                        number, part, input, ..
                    } => numbers.push((number, part, message[input].len())),
                    Item::Call { number, call } => assert_eq!((number, &message[call]), (3, &b"call"[..])),
                    Item::ForgetCalls => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(numbers, [(40, PART, 2), (41, PART, 2 * LONG)]);
    }

    #[test]
    fn replies_and_answers_are_read_as_they_were_written() {
        let mut out = Vec::new();
        put_reply(&mut out, 4, 99, false, b"yes");
        let mut error = Vec::new();
        put(&mut error, &TaskError::Cancelled);
        put_reply(&mut out, 5, 1, true, &error);
        let mut replies = Replies::new(&out);
        let first = replies.next().expect("good").expect("one");
        assert_eq!(
            (first.number, first.took_ns, first.ended),
            (4, 99, Ended::Reply(b"yes"))
        );
        let second = replies.next().expect("good").expect("two");
        assert_eq!(second.ended, Ended::Failed(TaskError::Cancelled));
        assert_eq!(replies.next(), Ok(None));
        let mut out = Vec::new();
        put_answer(&mut out, 8, Err(&TaskError::Cancelled));
        assert_eq!(read_answer(&out), Ok((8, Ended::Failed(TaskError::Cancelled))));
        assert!(read_numbers(&[0; 9]).is_err() && read_number(&[0; 9]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(mut items) = Items::new(&bytes) {
                while let Ok(Some(item)) = items.next() {
                    if let Item::Run { input, .. } = item {
                        prop_assert!(input.end <= bytes.len());
                    }
                }
            }
            let mut replies = Replies::new(&bytes);
            while let Ok(Some(_)) = replies.next() {}
            let _ = (read_answer(&bytes), split_pool(&bytes));
        }
    }
}
