//! What a worker reads from its pool: frames, the code that requests name, and the requests.

use super::Worker;
use crate::arena::{Arena, Side};
use crate::protocol::{Bad, Ended, Input, Item, Items, OVERHEAD, down, read_answer};
use par_core::remote::{Call, Part, Prepared};
use par_core::{TaskError, forbid_blocking, share, wire};
use std::collections::HashMap;
use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The reading end.
pub(super) struct Inbox {
    reader: BufReader<UnixStream>,
    calls: HashMap<u32, Result<Arc<Prepared>, TaskError>>,
}

/// A request of the pool.
pub(super) struct Request {
    pub(super) generation: u64,
    pub(super) number: u64,
    pub(super) job: u64,
    pub(super) call: Result<Arc<Prepared>, TaskError>,
    pub(super) part: Part,
    frame: Arc<Vec<u8>>,
    input: Input,
}

impl Request {
    /// Nothing if it lies nowhere.
    pub(super) fn input<'a>(&'a self, arena: Option<&'a Arena>) -> Option<&'a [u8]> {
        match &self.input {
            Input::Here(range) => Some(&self.frame[range.clone()]),
            Input::Shared { offset, length } => arena?.get(Side::Down, *offset, *length),
        }
    }
}

/// What a frame brought.
pub(super) enum Heard {
    Requests(Vec<Request>),
    /// Something that has been dealt with.
    Other,
    Stop,
    /// The pool is gone.
    End,
}

impl Inbox {
    pub(super) fn new(socket: UnixStream) -> Self {
        Inbox {
            reader: BufReader::with_capacity(64 << 10, socket),
            calls: HashMap::new(),
        }
    }

    /// Whether reading may have to wait.
    pub(super) fn is_dry(&self) -> bool {
        self.reader.buffer().is_empty()
    }

    /// The next frame; `None` when the pool is gone.
    pub(super) fn frame(&mut self, allowed: u64) -> Result<Option<(u8, Vec<u8>)>, wire::WireError> {
        let mut payload = Vec::new();
        Ok(wire::read_frame(&mut self.reader, allowed, &mut payload)?.map(|kind| (kind, payload)))
    }

    /// Reads one frame, and deals with it.
    pub(super) fn hear(&mut self, worker: &Worker) -> Result<Heard, String> {
        let frame = self
            .frame(worker.longest.saturating_add(OVERHEAD))
            .map_err(|error| error.to_string())?;
        let Some((kind, payload)) = frame else {
            return Ok(Heard::End);
        };
        match kind {
            down::BATCH => self
                .batch(payload)
                .map(Heard::Requests)
                .map_err(|bad| bad.to_string()),
            down::ANSWER => {
                answer(worker, &payload).map_err(|bad| bad.to_string())?;
                Ok(Heard::Other)
            }
            down::STOP => Ok(Heard::Stop),
            other => Err(format!("its pool sent a frame of the unknown kind {other}")),
        }
    }

    fn batch(&mut self, payload: Vec<u8>) -> Result<Vec<Request>, Bad> {
        let frame = Arc::new(payload);
        let mut items = Items::new(&frame)?;
        let generation = items.generation;
        let mut requests = Vec::new();
        while let Some(item) = items.next()? {
            match item {
                Item::Call { number, call } => {
                    let call = wire::from_bytes::<Call>(&frame[call])
                        .map_err(|error| TaskError::Codec(format!("call: {error}")))
                        .and_then(|call| Prepared::new(&call))
                        .map(Arc::new);
                    self.calls.insert(number, call);
                }
                Item::ForgetCalls => self.calls.clear(),
                Item::Share { id, value } => share::receive(id, frame[value].to_vec()),
                Item::Evict(id) => share::forget(id),
                Item::Run {
                    number,
                    job,
                    call,
                    part,
                    input,
                } => {
                    let call = self
                        .calls
                        .get(&call)
                        .ok_or(Bad("a request names no call"))?
                        .clone();
                    requests.push(Request {
                        generation,
                        number,
                        job,
                        call,
                        part,
                        frame: Arc::clone(&frame),
                        input,
                    });
                }
            }
        }
        Ok(requests)
    }
}

fn answer(worker: &Worker, payload: &[u8]) -> Result<(), Bad> {
    let (id, ended) = read_answer(payload)?;
    // One that nobody waits for any more may still be answered.
    if let Some(claim) = worker.nested.answered(id) {
        // Callbacks run here, and only this thread reads what they might wait for.
        let _reading = forbid_blocking();
        match ended {
            Ended::Reply(reply) => claim.complete(reply, worker.index, Instant::now(), Duration::ZERO),
            Ended::Failed(error) => claim.fail(error),
            // Those come in replies of workers only.
            Ended::Shared(_) => claim.fail(TaskError::Codec("answer: it lies elsewhere".to_owned())),
        }
    }
    Ok(())
}
