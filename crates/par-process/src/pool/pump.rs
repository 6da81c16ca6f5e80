//! Reading the sockets of the workers: the role, who has it, and what one turn of it does.
//!
//! 1. [`Pump::role`] is held while a thread waits for the sockets and deals with what comes. The pool's own thread holds it while
//!    nobody else wants it.
//! 2. A thread that waits for an outcome asks for the role, and reads until it has what it waits for: an answer crosses no other
//!    thread. If another waiting thread has the role already, it sleeps like any other.
//! 3. After that the pool's own thread stays away for a moment, as the next wait often follows at once; it comes back at once when
//!    somebody sleeps who had asked in vain. Where somebody reads for long, it rests until that one leaves.
//! 4. The role is held only while `driven` is set, or by the pool's own thread; that one never waits for it, as meanwhile nobody would
//!    start workers.

use super::Hub;
use super::seat::State;
use par_core::job::Job;
use par_core::{forbid_blocking, wire};
use parking_lot::{Condvar, Mutex};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the pool's own thread stays away after others have read.
const AWAY: Duration = Duration::from_millis(1);
/// How long requests wait behind another before an idle worker gets them.
const PATIENCE: Duration = Duration::from_millis(1);
/// Reads from one worker before the others have their turn.
const READS: usize = 16;
/// Less than a read takes at once, in bytes.
const FEW: usize = 32 << 10;

/// Who reads.
pub(super) struct Pump {
    pub(super) role: Mutex<Vec<Reader>>,
    /// Whether a thread that waits for an outcome has the role, or is about to.
    driven: AtomicBool,
    /// Whether such a thread had it since the pool's own thread looked.
    was_driven: AtomicBool,
    /// Whether such a thread was turned away.
    turned_away: AtomicBool,
    /// Whether the pool's own thread rests until the one that reads has left.
    resting: AtomicBool,
    /// Whether somebody waits for the sockets, and must be woken by the event.
    polling: AtomicBool,
    /// Whether there is something to look at that a turn under way may not have seen.
    kicked: AtomicBool,
    event: OwnedFd,
    /// What the pool's own thread waits at.
    rest: Mutex<bool>,
    rested: Condvar,
    /// What a test has happen just before the pool's own thread takes the role.
    #[cfg(test)]
    pub(super) before_role: Hook,
    /// What a test has happen after a turn's look around.
    #[cfg(test)]
    pub(super) before_polling: Hook,
}

#[cfg(test)]
type Hook = Mutex<Option<Box<dyn FnOnce() + Send>>>;

thread_local! {
    static READING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has the role, of any pool.
pub(super) fn is_reading() -> bool {
    READING.get()
}

/// What is read from one worker.
pub(super) struct Reader {
    seat: usize,
    life: u64,
    socket: Arc<UnixStream>,
    /// Readable once the process has ended, whoever else has its socket.
    sentinel: Option<Arc<OwnedFd>>,
    decoder: wire::FrameDecoder,
    /// Whether bytes wait for the socket.
    clogged: bool,
}

impl Pump {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Pump {
            role: Mutex::default(),
            driven: AtomicBool::new(false),
            was_driven: AtomicBool::new(false),
            turned_away: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            polling: AtomicBool::new(false),
            kicked: AtomicBool::new(false),
            event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            rest: Mutex::new(false),
            rested: Condvar::new(),
            #[cfg(test)]
            before_role: Hook::default(),
            #[cfg(test)]
            before_polling: Hook::default(),
        })
    }

    /// Makes whoever waits for the sockets look around.
    pub(super) fn kick(&self) {
        self.kicked.store(true, Ordering::SeqCst);
        if self.polling.load(Ordering::SeqCst) {
            // A counter that is full wakes as well.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Makes the pool's own thread look around.
    pub(super) fn call_own(&self) {
        *self.rest.lock() = true;
        self.rested.notify_one();
        self.kick();
    }

    /// Whether another thread wants the role of the pool's own one.
    pub(super) fn is_wanted(&self) -> bool {
        self.driven.load(Ordering::SeqCst)
    }

    /// In the pool's own thread: stays away while others read, not beyond `until`.
    pub(super) fn stay_away(&self, until: Option<Instant>) {
        let mut called = self.rest.lock();
        let mut long = false;
        while !*called && until.is_none_or(|until| Instant::now() < until) {
            let driven = self.driven.load(Ordering::SeqCst);
            if driven && long {
                // Who leaves after the flag was set, wakes; who left before is seen.
                self.resting.store(true, Ordering::SeqCst);
                if self.driven.load(Ordering::SeqCst) {
                    match until {
                        None => self.rested.wait(&mut called),
                        Some(until) => drop(self.rested.wait_until(&mut called, until)),
                    }
                }
                self.resting.store(false, Ordering::SeqCst);
                long = false;
            } else if driven || self.was_driven.swap(false, Ordering::SeqCst) {
                self.rested.wait_for(&mut called, AWAY);
                long = driven;
            } else {
                break;
            }
        }
        *called = false;
    }

    /// The pool's own thread need not rest any longer.
    fn end_rest(&self) {
        if self.resting.load(Ordering::SeqCst) {
            // It holds the lock until it waits.
            drop(self.rest.lock());
            self.rested.notify_one();
        }
    }
}

impl Hub {
    /// Reads until the job is done, `until` has passed, or there is no need to (rule 2).
    pub(super) fn drive(&self, job: &Job, until: Option<Instant>) {
        let pump = &self.pump;
        if is_reading() {
            return;
        }
        if pump.driven.swap(true, Ordering::SeqCst) {
            pump.turned_away.store(true, Ordering::SeqCst);
            return;
        }
        pump.was_driven.store(true, Ordering::SeqCst);
        pump.kick();
        {
            // The pool's own thread may be inside a callback: a deadline holds all the same.
            let mut role = match until {
                None => Some(pump.role.lock()),
                Some(at) => pump.role.try_lock_until(at),
            };
            while let Some(role) = &mut role
                && !job.is_done()
                && self.health.lock().over.is_none()
            {
                let left = until.map(|at| at.saturating_duration_since(Instant::now()));
                if left.is_some_and(|left| left.is_zero()) {
                    break;
                }
                self.turn(role, left, || job.is_done());
            }
        }
        pump.driven.store(false, Ordering::SeqCst);
        if pump.turned_away.swap(false, Ordering::SeqCst) {
            pump.was_driven.store(false, Ordering::SeqCst);
            pump.call_own();
        } else {
            pump.end_rest();
        }
    }

    /// One turn: waits for the sockets, not longer than `timeout`, and deals with what came. `enough` says that there is nothing
    /// to wait for.
    pub(super) fn turn(
        &self,
        readers: &mut Vec<Reader>,
        timeout: Option<Duration>,
        enough: impl Fn() -> bool,
    ) {
        let _reading = Reading::begin();
        // Before the look around: what is kicked for after this is not missed by the wait.
        self.pump.kicked.store(false, Ordering::SeqCst);
        self.sync(readers);
        #[cfg(test)]
        if let Some(call) = self.pump.before_polling.lock().take() {
            call();
        }
        let again = self.balance();
        let timeout = match (timeout, again) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut files = Vec::with_capacity(1 + 2 * readers.len());
        files.push(PollFd::new(&self.pump.event, PollFlags::IN));
        files.extend(readers.iter().map(|reader| {
            let out = if reader.clogged {
                PollFlags::OUT
            } else {
                PollFlags::empty()
            };
            PollFd::new(&reader.socket, PollFlags::IN | out)
        }));
        // Last, those that have one.
        let with_sentinel = readers.iter().filter_map(|reader| reader.sentinel.as_deref());
        files.extend(with_sentinel.map(|sentinel| PollFd::new(sentinel, PollFlags::IN)));
        self.pump.polling.store(true, Ordering::SeqCst);
        // Looked at after the flag was set: who changes something later, writes to the event.
        if !enough() && !self.pump.kicked.load(Ordering::SeqCst) {
            // An interruption is a turn without news.
            let _ = poll(&mut files, timeout.as_ref());
        }
        self.pump.polling.store(false, Ordering::SeqCst);
        let mut ready = files.iter().map(PollFd::revents);
        if ready.next().is_some_and(|event| !event.is_empty()) {
            // What it holds does not matter.
            let _ = rustix::io::read(&self.pump.event, &mut [0; 8]);
        }
        let sockets: Vec<PollFlags> = ready.by_ref().take(readers.len()).collect();
        let ended: Vec<bool> = readers
            .iter()
            .map(|reader| reader.sentinel.is_some() && ready.next().is_some_and(|flags| !flags.is_empty()))
            .collect();
        drop(files);
        let mut news = false;
        for ((reader, flags), ended) in readers.iter_mut().zip(sockets).zip(ended) {
            if flags.intersects(PollFlags::OUT) {
                self.lock_seat(reader.seat).write();
                // There may be room where there was none, for what was taken back while it was on its way.
                news = true;
            }
            if ended || flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                news = true;
                self.read(reader, ended);
            }
        }
        if news {
            self.feed_all();
        }
    }

    fn lock_seat(&self, index: usize) -> parking_lot::MutexGuard<'_, State> {
        self.seats[index].state.lock()
    }

    /// Follows the workers that came and went. A vacant seat has no reader: the socket of a worker that is gone would wake every
    /// turn at once.
    fn sync(&self, readers: &mut Vec<Reader>) {
        let allowed = self.setup.longest.saturating_add(crate::protocol::OVERHEAD);
        let mut before = std::mem::take(readers).into_iter().peekable();
        for (index, seat) in self.seats.iter().enumerate() {
            let old = before.next_if(|reader| reader.seat == index);
            let mut state = seat.state.lock();
            state.write();
            let Some(link) = &state.link else { continue };
            let mut reader = match old {
                Some(old) if old.life == state.life => old,
                _ => Reader {
                    seat: index,
                    life: state.life,
                    socket: Arc::clone(&link.work),
                    sentinel: link.sentinel.clone(),
                    decoder: wire::FrameDecoder::new(allowed),
                    clogged: false,
                },
            };
            reader.clogged = state.is_clogged();
            readers.push(reader);
        }
    }

    /// Reads what a worker says; `ended` tells that it has nothing more to say than what is there.
    fn read(&self, reader: &mut Reader, ended: bool) {
        let (index, life) = (reader.seat, reader.life);
        for _ in 0..READS {
            let got = reader.decoder.read_from(&mut &*reader.socket);
            match got {
                Ok(0) => return self.worker_gone(index, life, super::supervisor::ENDED),
                Ok(_) => {}
                // What it has forked may hold the other end open.
                Err(error) if error.kind() == ErrorKind::WouldBlock && ended => {
                    return self.worker_gone(index, life, super::supervisor::ENDED);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Such as that it ended before it had read everything.
                Err(_) => return self.worker_gone(index, life, super::supervisor::ENDED),
            }
            loop {
                let heard = match reader.decoder.next_frame() {
                    Ok(None) => break,
                    Ok(Some((kind, payload))) => self.hear(index, life, kind, payload),
                    Err(error) => Err(error.to_string()),
                };
                if let Err(error) = heard {
                    return self.worker_gone(index, life, &format!("what it said is not readable: {error}"));
                }
            }
            // There was no more, and a turn that looks again is cheaper than asking.
            if got.is_ok_and(|got| got < FEW) && !ended {
                return;
            }
        }
    }

    /// Moves requests that wait behind another to workers that are idle; returns when to look again.
    fn balance(&self) -> Option<Duration> {
        let mut idle = 0;
        let mut waiting = Vec::new();
        for (index, seat) in self.seats.iter().enumerate() {
            let state = seat.state.lock();
            if state.flight.is_empty() && state.room(false) > 0 {
                idle += 1;
            } else if state.flight.len() > 1 && state.flight.len() > state.begun() {
                waiting.push((index, state.since));
            }
        }
        let free = if self.queue.is_empty() { idle } else { 0 };
        for seat in self.seats.iter() {
            if let Some(link) = &seat.state.lock().link {
                link.page.set_idle(free);
            }
        }
        if idle == 0 {
            return None;
        }
        let mut next: Option<Duration> = None;
        for (index, since) in waiting {
            let left = PATIENCE.saturating_sub(since.elapsed());
            if left.is_zero() {
                let back = self.lock_seat(index).recall();
                self.give_back(back);
                self.feed_all();
            } else {
                next = Some(next.map_or(left, |next| next.min(left)));
            }
        }
        next
    }
}

/// While this thread deals with what was read (rule 3 of the pool).
struct Reading(#[allow(dead_code, reason = "held for its destructor")] par_core::NoBlockingGuard);

impl Reading {
    fn begin() -> Self {
        READING.set(true);
        Reading(forbid_blocking())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READING.set(false);
    }
}
