//! What a pool and its workers say to each other: frames over one socket, written and read here only.
//!
//! A pool sends [`Setup`], then batches of requests with what they need; a worker answers [`Hello`], then replies, and passes on
//! what its tasks submit. Requests and replies are many and small, so that their fields stand at fixed places and are read
//! without a decoder; everything else is encoded by `wire`. Whatever arrives is checked: lengths against the bytes that are
//! there, numbers against what was asked.

use crate::arena::Place;
use par_core::engine::Initializer;
use par_core::remote::{Call, Part};
use par_core::{ShareId, TaskError, wire};
use serde::{Deserialize, Serialize};
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// Kinds of frames from the pool.
pub(crate) mod down {
    /// A [`Setup`](super::Setup), first of all.
    pub(crate) const SETUP: u8 = 1;
    /// A batch of items; see [`Batch`](super::Batch).
    pub(crate) const BATCH: u8 = 2;
    /// The outcome of something submitted.
    pub(crate) const ANSWER: u8 = 3;
    /// Finish what runs, and end.
    pub(crate) const STOP: u8 = 4;
}

/// Kinds of frames from a worker.
pub(crate) mod up {
    /// A [`Hello`](super::Hello), first of all.
    pub(crate) const HELLO: u8 = 17;
    /// Replies.
    pub(crate) const REPLIES: u8 = 18;
    /// A [`Submit`](super::Submit), then its input.
    pub(crate) const SUBMIT: u8 = 19;
    /// How many threads wait inside tasks.
    pub(crate) const BLOCKED: u8 = 20;
    /// A submitted part is not wanted any more.
    pub(crate) const CANCEL: u8 = 21;
    /// A task waits for this submitted part before all others.
    pub(crate) const PREFER: u8 = 22;
    /// A shared value that submitted parts name: its number, then its bytes.
    pub(crate) const SHARE: u8 = 23;
    /// A shared value that was sent is gone.
    pub(crate) const EVICT: u8 = 24;
    /// The worker has grown too large, and begins nothing more.
    pub(crate) const WORN: u8 = 25;
}

/// What frames and the fields in them take beside payloads, in bytes, at most.
pub(crate) const OVERHEAD: u64 = 1 << 20;

/// Which file a process runs. Equal values are the same file, unchanged: a running program cannot be written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Image {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Image {
    /// That of this process.
    pub(crate) fn own() -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        let file = std::fs::metadata("/proc/self/exe")?;
        #[cfg(not(target_os = "linux"))]
        let file = std::fs::metadata(std::env::current_exe()?)?;
        Ok(Image {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
        })
    }

    /// That of a program which was built again.
    #[cfg(test)]
    pub(crate) fn altered(self) -> Self {
        Image {
            inode: self.inode + 1,
            ..self
        }
    }
}

/// How a worker is set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The program of the pool.
    pub(crate) image: Image,
    /// The worker's index.
    pub(crate) index: usize,
    /// How many workers the pool has.
    pub(crate) workers: usize,
    /// The longest input or output of one request, in bytes.
    pub(crate) longest: u64,
    /// The most memory of its own that the worker may use, in bytes.
    pub(crate) memory: Option<u64>,
    /// The most address space that it may have, in bytes.
    pub(crate) address_space: Option<u64>,
    /// Run before the first request.
    pub(crate) initializer: Option<Initializer>,
}

/// A worker's first word.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Hello {
    /// It can begin; whether it has the memory for large values.
    Ready {
        /// Without it, they come and go over the socket.
        arena: bool,
    },
    /// Its initialiser failed.
    Initializer(TaskError),
    /// It cannot work for this pool.
    Refused(String),
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
const RUN_SHARED: u8 = 6;

/// Where a batch's generation and first number stand, which are known last.
const BATCH_HEAD: usize = 16;

/// Items that are longer than this have a frame of their own.
const LONG: usize = 64 << 10;

/// A batch of items on its way to a worker: frames that are written in place.
#[derive(Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where frames begin, and how many requests there are before each.
    frames: Vec<(usize, u64)>,
    requests: u64,
    /// Whether the last frame takes more items.
    open: bool,
}

impl Batch {
    /// Makes place for an item of about `length` bytes.
    fn item(&mut self, tag: u8, length: usize) {
        if !self.open || length > LONG {
            self.frames.push((self.bytes.len(), self.requests));
            self.bytes
                .resize(self.bytes.len() + wire::FRAME_HEADER + BATCH_HEAD, 0);
        }
        self.open = length <= LONG;
        self.bytes.push(tag);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The code that requests name by `number`.
    pub(crate) fn call(&mut self, number: u32, call: &[u8]) {
        self.item(CALL, call.len());
        self.bytes.extend_from_slice(&number.to_le_bytes());
        put_bytes(&mut self.bytes, call);
    }

    /// All numbers of calls are free again.
    pub(crate) fn forget_calls(&mut self) {
        self.item(FORGET_CALLS, 0);
    }

    /// A shared value.
    pub(crate) fn share(&mut self, id: ShareId, value: &[u8]) {
        self.item(SHARE, value.len());
        put_id(&mut self.bytes, id);
        put_bytes(&mut self.bytes, value);
    }

    /// A shared value that is gone.
    pub(crate) fn evict(&mut self, id: ShareId) {
        self.item(EVICT, 0);
        put_id(&mut self.bytes, id);
    }

    /// A request.
    pub(crate) fn run(&mut self, job: u64, call: u32, part: Part, input: &[u8]) {
        self.item(RUN, input.len());
        self.bytes.extend_from_slice(&job.to_le_bytes());
        self.bytes.extend_from_slice(&call.to_le_bytes());
        self.bytes.extend_from_slice(&part.first.to_le_bytes());
        self.bytes.extend_from_slice(&part.items.to_le_bytes());
        put_bytes(&mut self.bytes, input);
        self.requests += 1;
    }

    /// A request whose input lies in the arena.
    pub(crate) fn run_shared(&mut self, job: u64, call: u32, part: Part, place: Place) {
        self.item(RUN_SHARED, 0);
        self.bytes.extend_from_slice(&job.to_le_bytes());
        self.bytes.extend_from_slice(&call.to_le_bytes());
        for number in [part.first, part.items, place.offset, place.length] {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.requests += 1;
    }

    /// The frames, once the requests have their generation and numbers.
    pub(crate) fn finish(&mut self, generation: u64, first: u64) -> &[u8] {
        let mut end = self.bytes.len();
        for (start, before) in self.frames.iter().rev() {
            let length = (end - start - wire::FRAME_HEADER) as u64;
            let header = wire::FrameHeader {
                kind: down::BATCH,
                length,
            };
            let (head, rest) = self.bytes[*start..].split_at_mut(wire::FRAME_HEADER);
            head.copy_from_slice(&header.to_bytes());
            rest[..8].copy_from_slice(&generation.to_le_bytes());
            rest[8..BATCH_HEAD].copy_from_slice(&(first + before).to_le_bytes());
            end = *start;
        }
        &self.bytes
    }

    /// Makes it ready for the next items.
    pub(crate) fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let keep = bytes.capacity() <= OVERHEAD as usize;
        self.frames.clear();
        *self = Batch {
            bytes: if keep { bytes } else { Vec::new() },
            frames: std::mem::take(&mut self.frames),
            requests: 0,
            open: false,
        };
    }
}

fn put_id(out: &mut Vec<u8>, id: ShareId) {
    // Two numbers, which always encode.
    let _ = wire::encode(&id, out);
}

/// An item of a batch, as a worker reads it.
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
        input: Input,
    },
}

/// Where the input of a request is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Input {
    /// In the payload.
    Here(Range<usize>),
    /// In the arena.
    Shared { offset: u64, length: u64 },
}

/// Reads the items of a batch; ranges are places in its payload.
pub(crate) struct Items<'a> {
    cursor: Cursor<'a>,
    pub(crate) generation: u64,
    next: u64,
}

impl<'a> Items<'a> {
    pub(crate) fn new(payload: &'a [u8]) -> Result<Self, Bad> {
        let mut cursor = Cursor {
            bytes: payload,
            at: 0,
        };
        let (generation, next) = (cursor.u64()?, cursor.u64()?);
        Ok(Items {
            cursor,
            generation,
            next,
        })
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
            RUN | RUN_SHARED => {
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
                    input: match tag {
                        RUN => Input::Here(cursor.range()?),
                        _ => Input::Shared {
                            offset: cursor.u64()?,
                            length: cursor.u64()?,
                        },
                    },
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
    /// With a reply in the arena.
    Shared(Place),
    /// Before its code could reply.
    Failed(TaskError),
}

const REPLY: u8 = 0;
const FAILED: u8 = 1;
const SHARED: u8 = 2;

/// The fields of a reply before its bytes.
const REPLY_HEAD: usize = 8 + 8 + 1 + 8;

/// Appends a reply; its code has written the bytes from `start` on, before which [`begin_reply`] has left place for the fields.
pub(crate) fn end_reply(out: &mut [u8], start: usize, number: u64, took_ns: u64, failed: bool) {
    let length = (out.len() - start) as u64;
    let head = &mut out[start - REPLY_HEAD..start];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..16].copy_from_slice(&took_ns.to_le_bytes());
    head[16] = if failed { FAILED } else { REPLY };
    head[17..].copy_from_slice(&length.to_le_bytes());
}

/// Appends a reply that lies in the arena.
pub(crate) fn put_shared_reply(out: &mut Vec<u8>, number: u64, took_ns: u64, place: Place) {
    let start = begin_reply(out);
    for number in [place.offset, place.length, place.release] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    end_reply(out, start, number, took_ns, false);
    out[start - REPLY_HEAD + 16] = SHARED;
}

/// Leaves place for the fields of a reply; returns where its bytes start.
pub(crate) fn begin_reply(out: &mut Vec<u8>) -> usize {
    out.resize(out.len() + REPLY_HEAD, 0);
    out.len()
}

/// A reply, as a pool reads it.
#[derive(Debug, PartialEq)]
pub(crate) struct Reply<'a> {
    pub(crate) number: u64,
    pub(crate) took_ns: u64,
    pub(crate) ended: Ended<'a>,
}

/// Reads the replies of a frame.
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
        let ended = if tag == SHARED {
            let mut fields = Cursor { bytes, at: 0 };
            Ended::Shared(Place {
                offset: fields.u64()?,
                length: fields.u64()?,
                release: fields.u64()?,
            })
        } else {
            outcome(tag, bytes)?
        };
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
            put_error(out, error);
        }
    }
}

/// Appends an error.
pub(crate) fn put_error(out: &mut Vec<u8>, error: &TaskError) {
    // Texts and numbers, which always encode; should that change, the reader says that it could not read it.
    let _ = wire::encode(error, out);
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
            .ok_or(Bad("a frame ends within a field"))?;
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
            .ok_or(Bad("a length reaches beyond its frame"))?;
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
mod tests;
