//! How segments reach other processes: a thread and sockets in the process that has one.
//!
//! 1. A process that encodes a handle, or publishes a name, answers on sockets in the abstract namespace, which no file system shows and
//!    which go with the process. Both sides check that the other is of the same user.
//! 2. An encoded handle (a *token*) names the process that encoded it and the segment. Whoever decodes it asks there for the file.
//! 3. So that a handle may be dropped while its token is on the way, the process keeps the segment once for each token, until the
//!    receiver has asked for it, [`KEPT_FOR`] is over, or [`KEPT`] younger ones are kept. After that the token is good as long as any
//!    handle is left in the process. A receiver that has the segment already says so, which counts as asking.
//! 4. A name is a socket of its own, whose address is the name: there is one of each, and it is free when its publisher has
//!    withdrawn it or has ended.
//! 5. The thread never waits for a peer: what is not ready comes up again in its list of events. At most [`PENDING`] peers may be slow.

use super::SharedError;
use super::header::Id;
use super::segment::Segment;
use super::wire::{self, ARRIVED, FETCH};
use parking_lot::Mutex;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

/// Rule 3.
const KEPT: usize = 1024;
const KEPT_FOR: Duration = Duration::from_secs(600);
/// Rule 5.
const PENDING: usize = 64;
/// The thread's pause when the process has no file left for another peer.
const NO_FILES: Duration = Duration::from_millis(20);

/// Events of these numbers are the exchange's own; above them, names and then peers have numbers.
const WAKE: u64 = 0;
const DOOR: u64 = 1;

pub(crate) struct Exchange {
    address: Address,
    events: OwnedFd,
    wake: OwnedFd,
    door: OwnedFd,
    state: Mutex<State>,
}

/// Where a process answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) pid: u32,
    pub(crate) nonce: u64,
}

#[derive(Default)]
struct State {
    kept: VecDeque<Kept>,
    names: HashMap<u64, (OwnedFd, Arc<Segment>)>,
    last: u64,
}

struct Kept {
    segment: Arc<Segment>,
    until: Instant,
}

impl Exchange {
    /// That of this process; it begins to answer at the first call.
    pub(crate) fn own() -> Result<&'static Self, SharedError> {
        static OWN: OnceLock<&Exchange> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        if let Some(own) = OWN.get() {
            return Ok(own);
        }
        let _starting = STARTING.lock();
        if let Some(own) = OWN.get() {
            return Ok(own);
        }
        let new = Self::open().map_err(SharedError::system("open the socket for shared memory"))?;
        // It answers as long as the process lives.
        let new: &'static Exchange = Box::leak(Box::new(new));
        thread::Builder::new()
            .name("par-process shared".to_owned())
            .spawn(|| new.answer())
            .map_err(|source| SharedError::System {
                what: "start the thread for shared memory",
                source,
            })?;
        Ok(OWN.get_or_init(|| new))
    }

    fn open() -> Result<Self, Errno> {
        let mut nonce = [0; 8];
        rustix::rand::getrandom(&mut nonce, rustix::rand::GetRandomFlags::empty())?;
        let address = Address {
            pid: std::process::id(),
            nonce: u64::from_le_bytes(nonce),
        };
        let exchange = Exchange {
            address,
            events: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            door: wire::listen(&wire::process_address(address))?,
            state: Mutex::new(State {
                last: DOOR,
                ..State::default()
            }),
        };
        let watch = |file: &OwnedFd, number| {
            epoll::add(&exchange.events, file, EventData::new_u64(number), EventFlags::IN)
        };
        watch(&exchange.wake, WAKE)?;
        watch(&exchange.door, DOOR)?;
        Ok(exchange)
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// Rule 3: a token of this segment is on its way.
    pub(crate) fn keep(&self, segment: Arc<Segment>) {
        let until = Instant::now() + KEPT_FOR;
        let mut state = self.state.lock();
        let first = state.kept.is_empty();
        state.kept.push_back(Kept { segment, until });
        let too_many = state.kept.len() > KEPT;
        let oldest = if too_many { state.kept.pop_front() } else { None };
        drop(state);
        drop(oldest);
        if first {
            self.wake();
        }
    }

    /// Rule 3: a token has arrived.
    pub(crate) fn arrived(&self, id: Id) -> Option<Arc<Segment>> {
        let mut state = self.state.lock();
        let place = state.kept.iter().position(|kept| kept.segment.id() == id);
        let kept = place.and_then(|place| state.kept.remove(place));
        drop(state);
        kept.map(|kept| kept.segment).or_else(|| Segment::find(id))
    }

    /// Rule 4. The number is for [`withdraw`](Self::withdraw).
    pub(crate) fn publish(&self, name: &str, segment: Arc<Segment>) -> Result<u64, SharedError> {
        let socket = wire::listen(&wire::name_address(name)?).map_err(|error| match error {
            Errno::ADDRINUSE => SharedError::Taken(name.to_owned()),
            error => SharedError::system("open the socket for a name")(error),
        })?;
        let mut state = self.state.lock();
        state.last += 1;
        let number = state.last;
        epoll::add(&self.events, &socket, EventData::new_u64(number), EventFlags::IN)
            .map_err(SharedError::system("wait for those who want a name"))?;
        state.names.insert(number, (socket, segment));
        Ok(number)
    }

    pub(crate) fn withdraw(&self, number: u64) {
        let name = self.state.lock().names.remove(&number);
        drop(name);
    }

    fn wake(&self) {
        // It can only be full, and is awake then.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// What the thread does.
    fn answer(&self) {
        let mut peers = Peers::default();
        let mut buffer = Vec::with_capacity(32);
        loop {
            let wait = self.forget_old();
            let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
            buffer.clear();
            match epoll::wait(
                &self.events,
                rustix::buffer::spare_capacity(&mut buffer),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                // The system has no reason to refuse; whoever asks for a segment then hears nothing.
                Err(_) => return,
            }
            for event in buffer.drain(..) {
                let number = event.data.u64();
                match number {
                    WAKE => {
                        let _ = rustix::io::read(&self.wake, &mut [0_u8; 8]);
                    }
                    DOOR => {
                        if let Some(peer) = accepted(wire::accept(&self.door)) {
                            let number = peers.next();
                            if epoll::add(&self.events, &peer, EventData::new_u64(number), EventFlags::IN)
                                .is_ok()
                            {
                                peers.push(number, peer);
                            }
                        }
                    }
                    number if number >= Peers::FIRST => {
                        if let Some(peer) = peers.take(number) {
                            self.serve(&peer);
                        }
                    }
                    number => self.serve_name(number),
                }
            }
        }
    }

    /// Lets go of what was kept too long; tells when the next is due.
    fn forget_old(&self) -> Option<Duration> {
        loop {
            let now = Instant::now();
            let mut state = self.state.lock();
            let left = state.kept.front()?.until.saturating_duration_since(now);
            if !left.is_zero() {
                return Some(left);
            }
            let old = state.kept.pop_front();
            drop(state);
            drop(old);
        }
    }

    fn serve(&self, peer: &OwnedFd) {
        // Whoever has left, or says something else, gets no answer.
        let Some((kind, id)) = wire::read_request(peer) else {
            return;
        };
        let segment = self.arrived(id);
        if kind == FETCH {
            // Should the receiver be gone, nobody is left to tell.
            let _ = wire::hand_over(peer, segment.as_ref().map(|segment| segment.file()));
        }
        debug_assert!(kind == FETCH || kind == ARRIVED);
    }

    fn serve_name(&self, number: u64) {
        let state = self.state.lock();
        let Some((socket, segment)) = state.names.get(&number) else {
            return;
        };
        if let Some(peer) = accepted(wire::accept(socket)) {
            let _ = wire::hand_over(&peer, Some(segment.file()));
        }
    }
}

fn accepted(peer: Result<Option<OwnedFd>, Errno>) -> Option<OwnedFd> {
    if let Err(Errno::MFILE | Errno::NFILE) = peer {
        // Who is at the door stays there until a file is free; asking again at once would only burn time.
        thread::sleep(NO_FILES);
    }
    peer.ok().flatten()
}

/// Those whose request has not come yet.
#[derive(Default)]
struct Peers {
    last: u64,
    waiting: VecDeque<(u64, OwnedFd)>,
}

impl Peers {
    /// Names never get so far.
    const FIRST: u64 = 1 << 62;

    fn next(&mut self) -> u64 {
        self.last += 1;
        Self::FIRST + self.last
    }

    fn push(&mut self, number: u64, peer: OwnedFd) {
        self.waiting.push_back((number, peer));
        if self.waiting.len() > PENDING {
            self.waiting.pop_front();
        }
    }

    fn take(&mut self, number: u64) -> Option<OwnedFd> {
        let place = self.waiting.iter().position(|(other, _)| *other == number)?;
        self.waiting.remove(place).map(|(_, peer)| peer)
    }
}
