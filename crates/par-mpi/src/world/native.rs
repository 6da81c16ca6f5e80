//! The only place that knows MPI: its calls, each with its code checked, as a [`Transport`] between processes.
//!
//! 1. MPI is asked for `MPI_THREAD_SERIALIZED`, and every call is made under one lock: any thread may send and receive, and none is
//!    ever inside MPI while another is. Nothing that waits for another rank is called under the lock but the receive of a message
//!    that has been matched already.
//! 2. Each channel has a communicator of its own, so that no tag of a user is seen by the engine. On one more a rank says which process it
//!    is, and that it leaves. A process that ends without having left takes all others along: who waits, looks now and then.
//! 3. A send is `MPI_Isend` of bytes that are kept here until MPI is done with them. Whoever polls, sees to that.
//! 4. A receive is `MPI_Improbe`, then `MPI_Mrecv` of the length that was found: nothing is ever cut off. Between polls a thread
//!    spins for moments, then yields, then sleeps, as ranks may outnumber cores.
#![allow(unsafe_code)]

use super::peers::{self, Peers};
use crate::error::MpiError;
use crate::transport::{CHANNELS, Channel, Match, Message, Received, Transport};
use mpi::ffi;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The longest message: MPI counts in a C `int`.
const LONGEST: usize = c_int::MAX as usize;
/// Tags of the words of a rank about itself: that it leaves, and its card.
const LEAVES: c_int = 1;
const CARD: c_int = 2;
/// Sleeps between two looks at who is still there.
const LOOKS: u32 = 20;
/// Sends that are looked after in one poll.
const TESTED: usize = 16;
/// How long an abort waits for another thread to come out of MPI.
const OUT: Duration = Duration::from_millis(200);

/// Polls before a waiting thread stops spinning, where there are cores for all ranks and where there are not; and for how long it
/// yields.
const SPINS: u32 = 300;
const FEW_SPINS: u32 = 20;
const YIELDS: Duration = Duration::from_micros(200);
/// How long it sleeps then, and the most.
const NAP: Duration = Duration::from_micros(20);
const SLEEP: Duration = Duration::from_millis(1);

/// This rank's end of `MPI_COMM_WORLD`.
pub(super) struct World {
    rank: usize,
    size: usize,
    most_tag: u32,
    name: String,
    /// How long its threads spin.
    spins: u32,
    /// Whether MPI was started here, and not by somebody who will end it.
    ours: bool,
    woken: [AtomicBool; CHANNELS],
    calls: Mutex<Calls>,
}

/// What calls work on (rule 1).
struct Calls {
    /// False once this rank has left.
    open: bool,
    /// One for each channel, then that of those who leave.
    comms: [ffi::MPI_Comm; CHANNELS + 1],
    sends: VecDeque<Pending>,
    left: Vec<bool>,
    peers: Peers,
}

/// A send that MPI is not done with.
struct Pending {
    request: ffi::MPI_Request,
    /// Where MPI reads from: the heap, which does not move with the vector.
    #[allow(dead_code, reason = "kept for MPI")]
    bytes: Vec<u8>,
}

// SAFETY: handles of MPI are values that any thread may use while no other is inside MPI, which the lock around `Calls` and
// MPI_THREAD_SERIALIZED provide.
unsafe impl Send for Calls {}

/// The world that is open, for panics and exits.
static OPEN: OnceLock<Arc<World>> = OnceLock::new();

/// Turns a code into a result (the one place where that is done).
fn check(code: c_int, operation: &'static str, rank: usize) -> Result<(), MpiError> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let (mut class, mut length) = (0, 0);
    let mut text = [0u8; ffi::MPI_MAX_ERROR_STRING as usize];
    // SAFETY: both may be called with any code; the text has the length that MPI promises not to pass.
    let told = unsafe {
        ffi::MPI_Error_class(code, &mut class);
        ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &mut length)
    };
    let length = usize::try_from(length).unwrap_or(0).min(text.len());
    let text = match told == ffi::MPI_SUCCESS as c_int {
        true => String::from_utf8_lossy(&text[..length]).trim().to_owned(),
        false => "MPI has no text for it".to_owned(),
    };
    Err(MpiError::Native {
        code,
        class,
        text,
        operation,
        rank,
    })
}

/// Makes a call with `check`.
macro_rules! call {
    ($rank:expr, $name:ident($($argument:expr),* $(,)?)) => {
        check(
            // SAFETY: the lock is held or the world is not shared yet, MPI is open, handles are live, and pointers are to values that
            // outlive the call and have the type and length that it expects.
            unsafe { ffi::$name($($argument),*) },
            stringify!($name),
            $rank,
        )
    };
}

impl World {
    /// Starts MPI, once in the life of a process.
    pub(super) fn open() -> Result<Arc<World>, MpiError> {
        static ASKED: AtomicBool = AtomicBool::new(false);
        let (mut begun, mut ended, mut level) = (0, 0, 0);
        call!(0, MPI_Finalized(&mut ended))?;
        if ASKED.swap(true, Ordering::SeqCst) || ended != 0 {
            return Err(MpiError::Unusable(
                "MPI can be started once in a program: call run_world or world once, and do everything inside".to_owned(),
            ));
        }
        call!(0, MPI_Initialized(&mut begun))?;
        // SAFETY: a constant of the library.
        let needed = unsafe { ffi::RSMPI_THREAD_SERIALIZED };
        if begun == 0 {
            call!(
                0,
                MPI_Init_thread(ptr::null_mut(), ptr::null_mut(), needed, &mut level)
            )?;
        } else {
            call!(0, MPI_Query_thread(&mut level))?;
        }
        if level < needed {
            return Err(MpiError::Unusable(format!(
                "this MPI library gives thread level {level}, and {needed} (MPI_THREAD_SERIALIZED) is needed: a rank listens while \
                 its tasks run"
            )));
        }
        let world = Arc::new(Self::join(begun == 0)?);
        world.tell_all(CARD, &peers::card())?;
        if OPEN.set(Arc::clone(&world)).is_ok() {
            // SAFETY: the function lives as long as the program.
            let refused = unsafe { libc::atexit(at_exit) } != 0;
            if refused {
                return Err(MpiError::Unusable(
                    "no handler for the exit can be set".to_owned(),
                ));
            }
        }
        Ok(world)
    }

    fn join(ours: bool) -> Result<World, MpiError> {
        // SAFETY: constants of the library, which is started.
        let (all, null, returns) = unsafe {
            (
                ffi::RSMPI_COMM_WORLD,
                ffi::RSMPI_COMM_NULL,
                ffi::RSMPI_ERRORS_RETURN,
            )
        };
        // From here on codes come back, and are checked.
        call!(0, MPI_Comm_set_errhandler(all, returns))?;
        let (mut rank, mut size) = (0, 0);
        call!(0, MPI_Comm_rank(all, &mut rank))?;
        call!(0, MPI_Comm_size(all, &mut size))?;
        let (rank, size) = (rank as usize, size as usize);
        let mut comms = [null; CHANNELS + 1];
        for comm in &mut comms {
            call!(rank, MPI_Comm_dup(all, comm))?;
            call!(rank, MPI_Comm_set_errhandler(*comm, returns))?;
        }
        let mut highest: *mut c_int = ptr::null_mut();
        let mut known = 0;
        let place = ptr::from_mut(&mut highest).cast::<c_void>();
        call!(
            rank,
            MPI_Comm_get_attr(all, ffi::MPI_TAG_UB as c_int, place, &mut known)
        )?;
        let most_tag = if known != 0 && !highest.is_null() {
            // SAFETY: the value of this attribute is a pointer to an int that lives as long as the communicator.
            unsafe { highest.read() }
        } else {
            // What every library has at least.
            32767
        };
        let mut name = vec![0u8; ffi::MPI_MAX_LIBRARY_VERSION_STRING as usize];
        let mut length = 0;
        call!(
            rank,
            MPI_Get_library_version(name.as_mut_ptr().cast::<c_char>(), &mut length)
        )?;
        name.truncate(usize::try_from(length).unwrap_or(0));
        let name = String::from_utf8_lossy(&name);
        let name = name
            .split([',', '\n', '\0'])
            .next()
            .unwrap_or("MPI")
            .trim()
            .to_owned();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(World {
            spins: if size <= cores { SPINS } else { FEW_SPINS },
            rank,
            size,
            most_tag: u32::try_from(most_tag).unwrap_or(32767),
            name,
            ours,
            woken: Default::default(),
            calls: Mutex::new(Calls {
                open: true,
                comms,
                sends: VecDeque::new(),
                left: (0..size).map(|other| other == rank).collect(),
                peers: Peers::new(size),
            }),
        })
    }

    /// Tells all other ranks something about this one.
    fn tell_all(&self, tag: c_int, word: &[u8]) -> Result<(), MpiError> {
        let mut calls = self.calls.lock();
        let mut others = (0..self.size).filter(|other| *other != self.rank);
        others.try_for_each(|other| calls.send(self.rank, CHANNELS, other, tag, word.to_vec()))
    }

    /// Looks after sends, at who has left, and whether the others still live.
    fn look_around(&self) -> Result<(), MpiError> {
        let dead = {
            let mut calls = self.calls.lock();
            calls.look_around(self.rank)?;
            let dead = calls.peers.dead();
            if !dead.is_empty() {
                // Its last words came before its end.
                calls.look_around(self.rank)?;
            }
            dead.into_iter().find(|(rank, _)| !calls.left[*rank])
        };
        if let Some((rank, process)) = dead {
            eprintln!(
                "par-mpi: rank {} of {}: rank {rank} (process {process}) has died; all ranks end",
                self.rank, self.size
            );
            // MPI_Abort would wait for the launcher, which ends what is left by itself, but slowly.
            // SAFETY: ends this process without running anything of it.
            unsafe { libc::_exit(1) };
        }
        Ok(())
    }

    /// Leaves, once all other ranks do: nobody misses a message then, and nobody waits for this rank in vain.
    pub(super) fn leave(&self) -> Result<(), MpiError> {
        for other in (0..self.size).filter(|other| *other != self.rank) {
            self.calls
                .lock()
                .send(self.rank, CHANNELS, other, LEAVES, Vec::new())?;
        }
        let mut unread = 0;
        let mut pause = Pause::default();
        loop {
            let mut calls = self.calls.lock();
            calls.look_around(self.rank)?;
            // What nobody will ask for any more goes, so that its senders can leave.
            for channel in 0..CHANNELS {
                while calls.take(self.rank, channel, Match::ANY)?.is_some() {
                    unread += usize::from(channel != Channel::Engine as usize);
                    pause = Pause::default();
                }
            }
            if calls.left.iter().all(|left| *left) && calls.sends.is_empty() {
                break;
            }
            drop(calls);
            pause.wait(self.spins, None);
            if pause.is_time_to_look() {
                self.look_around()?;
            }
        }
        if unread > 0 {
            eprintln!(
                "par-mpi: rank {} left {unread} message(s) that it never received",
                self.rank
            );
        }
        let mut calls = self.calls.lock();
        calls.open = false;
        for comm in &mut calls.comms {
            call!(self.rank, MPI_Comm_free(comm))?;
        }
        if self.ours {
            call!(self.rank, MPI_Finalize())?;
        }
        Ok(())
    }

    /// Ends all ranks.
    fn end_all(&self, code: i32) {
        if let Some(calls) = self.calls.try_lock_for(OUT) {
            if !calls.open {
                return;
            }
            // SAFETY: MPI is open, and nobody else is inside. Should it return, the next line ends this rank, and its launcher the others.
            unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) };
        }
        // The launcher ends all when one rank dies.
        std::process::abort();
    }

    fn is_open(&self) -> bool {
        // Who cannot get the lock is inside MPI, which is open then.
        self.calls.try_lock_for(OUT).is_none_or(|calls| calls.open)
    }
}

/// The world that is open, if one is.
pub(super) fn open_world() -> Option<&'static World> {
    OPEN.get().map(|world| &**world).filter(|world| world.is_open())
}

/// A program that ends before its ranks have left takes the others along.
extern "C" fn at_exit() {
    if let Some(world) = open_world() {
        world.abort(1, "it exits before its program has ended");
    }
}

impl Calls {
    fn send(
        &mut self,
        rank: usize,
        channel: usize,
        dest: usize,
        tag: c_int,
        bytes: Vec<u8>,
    ) -> Result<(), MpiError> {
        if !self.open {
            return Err(MpiError::Unusable("this rank has left MPI".to_owned()));
        }
        // SAFETY: constants of the library.
        let (byte, mut request) = unsafe { (ffi::RSMPI_UINT8_T, ffi::RSMPI_REQUEST_NULL) };
        call!(
            rank,
            MPI_Isend(
                bytes.as_ptr().cast::<c_void>(),
                bytes.len() as c_int,
                byte,
                dest as c_int,
                tag,
                self.comms[channel],
                &mut request,
            )
        )?;
        let mut pending = Pending { request, bytes };
        // Kept whatever the test says, if it says that it failed: MPI may still read.
        let done = pending.is_done(rank);
        if !matches!(done, Ok(true)) {
            self.sends.push_back(pending);
        }
        done.map(|_| ())
    }

    /// Looks after the sends, and at who has left.
    fn look_around(&mut self, rank: usize) -> Result<(), MpiError> {
        self.look_after_sends(rank)?;
        while let Some(message) = self.take(rank, CHANNELS, Match::ANY)? {
            match message.tag as c_int {
                LEAVES => self.left[message.source] = true,
                _ => self.peers.meet(message.source, &message.bytes),
            }
        }
        Ok(())
    }

    fn look_after_sends(&mut self, rank: usize) -> Result<(), MpiError> {
        for _ in 0..self.sends.len().min(TESTED) {
            let Some(mut send) = self.sends.pop_front() else {
                break;
            };
            let done = send.is_done(rank);
            if !matches!(done, Ok(true)) {
                self.sends.push_back(send);
            }
            done?;
        }
        Ok(())
    }

    fn take(&mut self, rank: usize, channel: usize, which: Match) -> Result<Option<Message>, MpiError> {
        if !self.open {
            return Err(MpiError::Unusable("this rank has left MPI".to_owned()));
        }
        // SAFETY: constants of the library.
        let (byte, any_source, any_tag, mut message) = unsafe {
            (
                ffi::RSMPI_UINT8_T,
                ffi::RSMPI_ANY_SOURCE,
                ffi::RSMPI_ANY_TAG,
                ffi::RSMPI_MESSAGE_NULL,
            )
        };
        let source = which.source.map_or(any_source, |source| source as c_int);
        let tag = which.tag.map_or(any_tag, |tag| tag as c_int);
        let mut found = 0;
        let mut status = MaybeUninit::<ffi::MPI_Status>::zeroed();
        let status = status.as_mut_ptr();
        call!(
            rank,
            MPI_Improbe(source, tag, self.comms[channel], &mut found, &mut message, status)
        )?;
        if found == 0 {
            return Ok(None);
        }
        let mut count = 0;
        call!(rank, MPI_Get_count(status, byte, &mut count))?;
        let length = usize::try_from(count).unwrap_or(0);
        let mut bytes = buffer(length);
        // SAFETY: MPI has filled the status in; its fields are integers.
        let (source, tag) = unsafe { ((*status).MPI_SOURCE, (*status).MPI_TAG) };
        let place = bytes.as_mut_ptr().cast::<c_void>();
        call!(rank, MPI_Mrecv(place, count, byte, &mut message, status))?;
        // SAFETY: the buffer has room for that many bytes, and MPI has written them all, as the message had that length.
        unsafe { bytes.set_len(length) };
        Ok(Some(Message {
            source: source as usize,
            tag: tag as u32,
            bytes,
        }))
    }
}

impl Pending {
    fn is_done(&mut self, rank: usize) -> Result<bool, MpiError> {
        let mut done = 0;
        // SAFETY: a constant of the library.
        let ignore = unsafe { ffi::RSMPI_STATUS_IGNORE };
        call!(rank, MPI_Test(&mut self.request, &mut done, ignore))?;
        Ok(done != 0)
    }
}

/// Memory for a message: the one place that could ask for huge pages.
fn buffer(length: usize) -> Vec<u8> {
    Vec::with_capacity(length)
}

/// Waits between polls (rule 4).
#[derive(Default)]
struct Pause {
    spins: u32,
    since: Option<Instant>,
    nap: Option<Duration>,
    naps: u32,
}

impl Pause {
    /// Whether the wait has become a long one, and it is time to look whether there is still somebody to wait for.
    fn is_time_to_look(&self) -> bool {
        self.naps % LOOKS == 1
    }

    fn wait(&mut self, spins: u32, until: Option<Instant>) {
        if self.spins < spins {
            self.spins += 1;
            std::hint::spin_loop();
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.nap.is_none() && since.elapsed() < YIELDS {
            std::thread::yield_now();
            return;
        }
        let nap = self.nap.map_or(NAP, |nap| (2 * nap).min(SLEEP));
        self.nap = Some(nap);
        self.naps += 1;
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        std::thread::sleep(left.map_or(nap, |left| left.min(nap)));
    }
}

impl Transport for World {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn processes(&self) -> bool {
        true
    }

    fn most_tag(&self) -> u32 {
        self.most_tag
    }

    fn send(&self, channel: Channel, dest: usize, tag: u32, bytes: Vec<u8>) -> Result<(), MpiError> {
        if dest >= self.size {
            return Err(MpiError::NoSuchRank {
                rank: dest,
                size: self.size,
            });
        }
        if bytes.len() > LONGEST {
            return Err(MpiError::TooLong {
                to: dest,
                bytes: bytes.len(),
                most: LONGEST,
            });
        }
        if tag > self.most_tag {
            return Err(MpiError::Tag {
                tag: i64::from(tag),
                most: self.most_tag,
            });
        }
        let mut calls = self.calls.lock();
        calls.look_after_sends(self.rank)?;
        calls.send(self.rank, channel as usize, dest, tag as c_int, bytes)
    }

    fn try_receive(&self, channel: Channel, which: Match) -> Result<Option<Message>, MpiError> {
        let mut calls = self.calls.lock();
        calls.look_after_sends(self.rank)?;
        calls.take(self.rank, channel as usize, which)
    }

    fn receive(&self, channel: Channel, which: Match, until: Option<Instant>) -> Result<Received, MpiError> {
        let mut pause = Pause::default();
        loop {
            if let Some(message) = self.try_receive(channel, which)? {
                return Ok(Received::Message(message));
            }
            if pause.is_time_to_look() {
                self.look_around()?;
                if let Some(source) = which.source.filter(|source| *source != self.rank) {
                    let mut calls = self.calls.lock();
                    // Its last messages were sent before it said that it leaves.
                    if calls.left[source] {
                        let last = calls.take(self.rank, channel as usize, which)?;
                        return Ok(last.map_or(Received::Ended, Received::Message));
                    }
                }
            }
            if self.woken[channel as usize].swap(false, Ordering::SeqCst)
                || until.is_some_and(|until| Instant::now() >= until)
            {
                return Ok(Received::Nothing);
            }
            pause.wait(self.spins, until);
        }
    }

    fn wake(&self, channel: Channel) {
        self.woken[channel as usize].store(true, Ordering::SeqCst);
    }

    fn abort(&self, code: i32, why: &str) {
        eprintln!(
            "par-mpi: rank {} of {}: {why}; all ranks end",
            self.rank, self.size
        );
        self.end_all(code);
    }
}
