//! Seats: a worker each, what it was sent and has not answered, and what is known of how it works.

use super::Hub;
use super::queue::Taken;
use crate::protocol::{Batch, down};
use par_core::ShareId;
use par_core::job::{Job, JobId};
use par_core::share::{AnyShare, Recorder};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How much work a worker is sent ahead of what it runs, in nanoseconds, about.
const AHEAD_NS: f64 = 500_000.0;
/// The most requests that are sent ahead.
const MOST_AHEAD: f64 = 255.0;
/// Bytes of inputs that a worker may have before it is sent more ahead.
const LADEN: usize = 4 << 20;

/// A place for a worker.
pub(super) struct Seat {
    pub(super) state: Mutex<State>,
}

/// What a seat knows of its worker.
pub(super) struct State {
    /// Whether the worker has said that it can begin.
    pub(super) ready: bool,
    /// Whether it has ended, or will end without being asked for anything.
    pub(super) ended: bool,
    /// Out while a thread encodes with it.
    pub(super) pen: Option<Box<Pen>>,
    /// Another thread wanted to feed meanwhile.
    pub(super) wanted: bool,
    /// Requests that are not answered, by number.
    pub(super) flight: VecDeque<Flight>,
    /// Bytes of their inputs.
    bytes: usize,
    next: u64,
    /// Threads of the worker that wait inside tasks.
    pub(super) blocked: usize,
    /// How often the worker was asked for something back, and has not answered yet.
    pub(super) recalls: usize,
    /// How many idle workers it was told of.
    pub(super) told: u64,
    /// How long a request takes, in nanoseconds, about.
    mean: Option<f64>,
    /// When the worker last answered or got something to do.
    pub(super) since: Instant,
    /// Shared values that are gone, and that the worker may have.
    pub(super) evicted: Vec<ShareId>,
    /// Parts that the worker's tasks have submitted.
    pub(super) nested: HashMap<u64, Weak<Job>>,
    /// Shared values that the worker's tasks have named.
    pub(super) foreign: HashMap<ShareId, Arc<dyn AnyShare>>,
}

/// A request that is not answered.
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) taken: Taken,
    bytes: usize,
}

/// A claim that is in a pen's batch, and the length of its input.
pub(super) struct Packed {
    pub(super) taken: Taken,
    pub(super) bytes: usize,
}

/// What is needed to write to one worker.
#[derive(Default)]
pub(super) struct Pen {
    pub(super) batch: Batch,
    pub(super) recorder: Recorder,
    /// The numbers of the calls that the worker knows.
    pub(super) calls: HashMap<Vec<u8>, u32>,
    /// The call of the job that was encoded last: claims of a job come in runs.
    pub(super) last: Option<(JobId, u32)>,
    pub(super) shares: HashSet<ShareId>,
    /// For the input of one request.
    pub(super) input: Vec<u8>,
}

impl Seat {
    pub(super) fn new() -> Self {
        Seat {
            state: Mutex::new(State {
                ready: false,
                ended: false,
                pen: Some(Box::default()),
                wanted: false,
                flight: VecDeque::new(),
                bytes: 0,
                next: 1,
                blocked: 0,
                recalls: 0,
                told: 0,
                mean: None,
                since: Instant::now(),
                evicted: Vec::new(),
                nested: HashMap::new(),
                foreign: HashMap::new(),
            }),
        }
    }
}

impl State {
    /// How many more requests the worker should be sent; `ahead` says whether beyond what it can begin at once.
    pub(super) fn room(&self, ahead: bool) -> usize {
        if !self.ready || self.ended {
            return 0;
        }
        let places = 1 + self.blocked;
        let ahead = match self.mean {
            _ if !ahead || self.bytes > LADEN => 0.0,
            None => 1.0,
            Some(mean) => (AHEAD_NS / mean.max(1.0)).clamp(1.0, MOST_AHEAD),
        };
        (places + ahead as usize).saturating_sub(self.flight.len())
    }

    /// Notes how long a request took.
    pub(super) fn took(&mut self, took: Duration) {
        let took = took.as_nanos() as f64;
        self.mean = Some(self.mean.map_or(took, |mean| {
            // Quick to believe that tasks became long: too much ahead of a long task waits behind it.
            if took > mean {
                (mean + took) / 2.0
            } else {
                mean * 0.9 + took * 0.1
            }
        }));
    }

    /// Whether the worker has requests of that job.
    pub(super) fn flies(&self, job: JobId) -> bool {
        self.flight
            .iter()
            .any(|flight| flight.taken.claim.job().id() == job)
    }

    /// Whether requests wait there that another worker could run.
    pub(super) fn has_waiting(&self) -> bool {
        let behind = self.flight.iter().skip(1 + self.blocked);
        self.recalls == 0 && behind.into_iter().any(|flight| flight.taken.only.is_none())
    }

    /// Removes the request of that number from the flight.
    pub(super) fn landed(&mut self, number: u64) -> Option<Taken> {
        let at = match self.flight.front() {
            Some(first) if first.number == number => 0,
            _ => self
                .flight
                .binary_search_by_key(&number, |flight| flight.number)
                .ok()?,
        };
        let flight = self.flight.remove(at)?;
        self.bytes -= flight.bytes;
        Some(flight.taken)
    }

    /// Takes everything out of the flight.
    pub(super) fn take_flight(&mut self) -> VecDeque<Flight> {
        self.bytes = 0;
        std::mem::take(&mut self.flight)
    }
}

impl Hub {
    /// Sends the pen's batch, in which `packed` are the requests.
    pub(super) fn send_batch(
        &self,
        index: usize,
        state: &mut State,
        pen: &mut Pen,
        packed: impl IntoIterator<Item = Packed>,
    ) {
        if state.flight.is_empty() {
            state.since = Instant::now();
        }
        let messages = pen.batch.take(self.pool, state.next);
        for Packed { taken, bytes } in packed {
            let number = state.next;
            state.next += 1;
            state.bytes += bytes;
            state.flight.push_back(Flight { number, taken, bytes });
        }
        for message in messages {
            self.send(index, down::BATCH, message);
        }
    }

    /// Tells the worker which shared values are gone, if the pen is at home.
    pub(super) fn settle_evictions(&self, index: usize, state: &mut State) {
        if state.evicted.is_empty() {
            return;
        }
        let Some(mut pen) = state.pen.take() else { return };
        for id in std::mem::take(&mut state.evicted) {
            if pen.shares.remove(&id) {
                pen.batch.evict(id);
            }
        }
        if !pen.batch.is_empty() {
            self.send_batch(index, state, &mut pen, []);
        }
        state.pen = Some(pen);
    }
}
