//! Seats: a worker each, or the place where the next one will be; what it was sent and has not answered.

use crate::arena::{Arena, Place, Ring, Side};
use crate::page::{GENERATIONS, NUMBERS, Page};
use crate::protocol::Batch;
use par_core::ShareId;
use par_core::job::{Job, JobId};
use par_core::share::{AnyShare, Recorder};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::queue::Taken;

/// How much work a worker is sent ahead of what it runs, in nanoseconds, about.
const AHEAD_NS: f64 = 500_000.0;
/// The most requests that are sent ahead.
const MOST_AHEAD: f64 = 255.0;
/// Bytes that may wait for a worker's socket before it is sent more.
const CLOGGED: usize = 1 << 20;

/// A place for a worker.
pub(super) struct Seat {
    pub(super) state: Mutex<State>,
}

/// What a seat knows of its worker.
pub(super) struct State {
    /// Counts the workers that sat here; what was meant for an earlier one says so.
    pub(super) life: u64,
    pub(super) link: Option<Link>,
    /// Whether the worker has said that it can begin.
    pub(super) ready: bool,
    /// Out while a thread encodes with it.
    pub(super) pen: Option<Box<Pen>>,
    /// Another thread wanted to feed meanwhile.
    pub(super) wanted: bool,
    /// Requests that are not answered, by number.
    pub(super) flight: VecDeque<Flight>,
    pub(super) generation: u64,
    pub(super) next: u64,
    out: Out,
    /// Parts that it was given, and the most that it may be given.
    given: u64,
    most: u64,
    /// It has grown too large, by its own word.
    pub(super) worn: bool,
    /// There are to be fewer workers, without this one.
    pub(super) surplus: bool,
    /// Threads of the worker that wait inside tasks.
    pub(super) blocked: usize,
    /// How long a request takes, in nanoseconds, about.
    mean: Option<f64>,
    /// When the worker last answered or got something to do.
    pub(super) since: Instant,
    /// Why the pool killed it.
    pub(super) killed: Option<&'static str>,
    /// Shared values that are gone, and that the worker may have.
    pub(super) evicted: Vec<ShareId>,
    /// Parts that the worker's tasks have submitted.
    pub(super) nested: HashMap<u64, Weak<Job>>,
    /// Shared values that the worker's tasks have named.
    pub(super) foreign: HashMap<ShareId, Arc<dyn AnyShare>>,
}

/// A worker process.
pub(super) struct Link {
    pub(super) child: Child,
    /// Readable once the process has ended. Without one, where files are short, the end of its socket says so.
    pub(super) sentinel: Option<Arc<OwnedFd>>,
    pub(super) work: Arc<UnixStream>,
    pub(super) control: UnixStream,
    pub(super) page: Page,
    /// The memory for large values, where there is one.
    pub(super) arena: Option<Arc<Arena>>,
}

/// What a worker leaves that is gone.
pub(super) struct Left {
    pub(super) flight: VecDeque<Flight>,
    pub(super) nested: HashMap<u64, Weak<Job>>,
    pub(super) killed: Option<&'static str>,
}

/// A request that is not answered.
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) taken: Taken,
    /// The place of its input in the arena.
    #[allow(dead_code, reason = "held for its destructor")]
    pub(super) lease: Option<Lease>,
}

/// A place in the arena, which is given back by dropping this.
pub(super) struct Lease(Arc<AtomicBool>);

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The inputs that lie in the arena of a worker.
#[derive(Default)]
pub(super) struct Inputs {
    ring: Ring,
    /// Those that were written, oldest first: where the ring begins after each, and whether it was given back.
    out: VecDeque<(u64, Arc<AtomicBool>)>,
}

impl Inputs {
    /// Writes an input into the arena, if there is room.
    pub(super) fn put(&mut self, arena: &Arena, input: &[u8]) -> Option<(Place, Lease)> {
        if self.ring.is_none() {
            self.ring = Ring::new(arena.half());
        }
        while let Some((release, back)) = self.out.front()
            && back.load(Ordering::Acquire)
        {
            self.ring.free(*release);
            self.out.pop_front();
        }
        let place = self.ring.place(input.len())?;
        if !arena.put(Side::Down, place, input) {
            self.ring.undo(place);
            return None;
        }
        let back = Arc::<AtomicBool>::default();
        self.out.push_back((place.release, Arc::clone(&back)));
        Some((place, Lease(back)))
    }
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
    pub(super) arena: Option<Arc<Arena>>,
    pub(super) inputs: Inputs,
    /// The places of the requests in the batch.
    pub(super) leases: Vec<Option<Lease>>,
    /// Bytes of the batch that lie in the arena.
    pub(super) written: usize,
    /// For the input of one request, and for the encoded call.
    pub(super) input: Vec<u8>,
}

/// Bytes that wait for a socket.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    sent: usize,
}

impl Seat {
    pub(super) fn new() -> Self {
        Seat {
            state: Mutex::new(State {
                life: 0,
                link: None,
                ready: false,
                pen: None,
                wanted: false,
                flight: VecDeque::new(),
                generation: 0,
                next: 1,
                out: Out::default(),
                given: 0,
                most: 0,
                worn: false,
                surplus: false,
                blocked: 0,
                mean: None,
                since: Instant::now(),
                killed: None,
                evicted: Vec::new(),
                nested: HashMap::new(),
                foreign: HashMap::new(),
            }),
        }
    }
}

impl State {
    /// A worker sits down.
    pub(super) fn occupy(&mut self, link: Link, most: u64) {
        (self.given, self.most, self.worn) = (0, most, false);
        self.life += 1;
        self.link = Some(link);
        self.pen = Some(Box::default());
        self.generation = 0;
        self.next = 1;
        self.mean = None;
    }

    /// The worker is gone: nothing of it stays but the count. Returns what it leaves.
    pub(super) fn vacate(&mut self) -> Left {
        self.life += 1;
        self.link = None;
        self.ready = false;
        self.pen = None;
        self.wanted = false;
        self.out = Out::default();
        self.blocked = 0;
        self.evicted.clear();
        self.foreign.clear();
        Left {
            flight: std::mem::take(&mut self.flight),
            nested: std::mem::take(&mut self.nested),
            killed: self.killed.take(),
        }
    }

    /// How many more requests the worker should be sent; `ahead` says whether beyond what it can begin at once.
    pub(super) fn room(&self, ahead: bool) -> usize {
        if !self.ready || self.out.waiting() > CLOGGED {
            return 0;
        }
        let places = 1 + self.blocked;
        let spent = self.is_spent();
        if spent && self.blocked == 0 {
            return 0;
        }
        let ahead = match self.mean {
            _ if !ahead || spent => 0.0,
            None => 1.0,
            Some(mean) => (AHEAD_NS / mean.max(1.0)).clamp(1.0, MOST_AHEAD),
        };
        (places + ahead as usize).saturating_sub(self.flight.len())
    }

    /// Whether the worker is to leave, and gets only what its own tasks wait for.
    pub(super) fn is_spent(&self) -> bool {
        self.surplus || self.worn || self.given >= self.most
    }

    /// How many parts the worker may still be given.
    pub(super) fn left_to_give(&self) -> u64 {
        self.most.saturating_sub(self.given)
    }

    /// Whether the worker is to leave, and has nothing to do.
    pub(super) fn is_through(&self) -> bool {
        self.ready && self.is_spent() && self.flight.is_empty() && !self.is_clogged()
    }

    /// Why the worker leaves.
    pub(super) fn leaves(&self, memory: Option<u64>) -> Option<String> {
        if self.surplus {
            return Some("the pool was made smaller".to_owned());
        }
        if let (true, Some(memory)) = (self.worn, memory) {
            return Some(format!(
                "after a task its memory was over the limit of {memory} bytes (option memory)"
            ));
        }
        self.is_spent().then(|| {
            format!(
                "it has run {} task(s), its number (option tasks_per_worker)",
                self.given
            )
        })
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

    /// The requests that the worker may have begun are the first so many of its flight.
    pub(super) fn begun(&self) -> usize {
        let begun = self.link.as_ref().map_or(0, |link| link.page.begun());
        self.flight.partition_point(|flight| flight.number <= begun)
    }

    /// Takes back what the worker has not begun. The caller gives it back, or ends it.
    pub(super) fn recall(&mut self) -> Vec<Taken> {
        let Some(link) = &self.link else {
            return Vec::new();
        };
        let begun = link.page.recall();
        self.generation = (self.generation + 1) & GENERATIONS;
        let at = self.flight.partition_point(|flight| flight.number <= begun);
        // What lies in the arena for them is given back here.
        let back: Vec<Taken> = self.flight.drain(at..).map(|flight| flight.taken).collect();
        self.given -= back
            .iter()
            .map(|taken| taken.claim.range().len() as u64)
            .sum::<u64>();
        back
    }

    /// Removes the request of that number from the flight.
    pub(super) fn answered(&mut self, number: u64) -> Option<Taken> {
        let at = match self.flight.front() {
            Some(first) if first.number == number => 0,
            _ => self
                .flight
                .binary_search_by_key(&number, |flight| flight.number)
                .ok()?,
        };
        self.flight.remove(at).map(|flight| flight.taken)
    }

    /// Sends the pen's batch, in which `claims` are the requests.
    pub(super) fn send_batch(&mut self, pen: &mut Pen, claims: impl IntoIterator<Item = Taken>) {
        if self.flight.is_empty() {
            self.since = Instant::now();
        }
        let frame = pen.batch.finish(self.generation, self.next);
        self.out.bytes.extend_from_slice(frame);
        let mut leases = std::mem::take(&mut pen.leases).into_iter();
        for taken in claims {
            self.given += taken.claim.range().len() as u64;
            let number = self.next;
            self.next = (self.next + 1) & NUMBERS;
            let lease = leases.next().flatten();
            self.flight.push_back(Flight { number, taken, lease });
        }
        pen.batch.clear();
        self.write();
    }

    /// Sends a frame.
    pub(super) fn send(&mut self, frame: impl FnOnce(&mut Vec<u8>)) {
        if self.link.is_some() {
            frame(&mut self.out.bytes);
            self.write();
        }
    }

    /// Tells the worker which shared values are gone, if the pen is at home.
    pub(super) fn settle_evictions(&mut self) {
        if self.evicted.is_empty() {
            return;
        }
        let Some(mut pen) = self.pen.take() else { return };
        for id in std::mem::take(&mut self.evicted) {
            if pen.shares.remove(&id) {
                pen.batch.evict(id);
            }
        }
        if !pen.batch.is_empty() {
            self.send_batch(&mut pen, []);
        }
        self.pen = Some(pen);
    }

    /// Writes what the socket takes. A worker that is gone is noticed by whoever reads.
    pub(super) fn write(&mut self) {
        if let Some(link) = &self.link {
            self.out.write(&link.work);
        }
    }

    /// Whether bytes wait for the socket.
    pub(super) fn is_clogged(&self) -> bool {
        self.out.waiting() > 0
    }
}

impl Out {
    fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    fn write(&mut self, mut socket: &UnixStream) {
        while self.waiting() > 0 {
            match socket.write(&self.bytes[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // What was sent goes before the buffer grows over it again.
                    if self.sent > CLOGGED {
                        self.bytes.drain(..self.sent);
                        self.sent = 0;
                    }
                    return;
                }
                // The worker is gone.
                Err(_) => break,
            }
        }
        self.bytes.clear();
        self.sent = 0;
        if self.bytes.capacity() > CLOGGED {
            self.bytes = Vec::new();
        }
    }
}
