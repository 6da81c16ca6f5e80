//! Ctrl-C for a program with a pool: the first one lets the pool end in peace, the second kills what still runs.
#![allow(unsafe_code)]

use crate::{ProcessEngine, ProcessPool};
use par_core::engine::{Engine, Shutdown};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

/// What the handler writes to; -1 while there is none.
static WAKE: AtomicI32 = AtomicI32::new(-1);
/// Interrupts that were not dealt with.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// Whether somebody handles interrupts.
static TAKEN: Mutex<bool> = Mutex::new(false);

/// While it lives, interrupts (SIGINT: Ctrl-C) end a pool instead of the program; made by [`on_interrupt`].
#[must_use = "dropping it gives interrupts back to the program"]
pub struct Interrupt {
    before: libc::sigaction,
    wake: Arc<OwnedFd>,
    over: Arc<AtomicBool>,
    seen: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").field("count", &self.count()).finish()
    }
}

extern "C" fn handle(_signal: libc::c_int) {
    COUNT.fetch_add(1, Ordering::SeqCst);
    let one = 1u64.to_ne_bytes();
    // SAFETY: a write to a file that is open while the handler is installed, as is allowed in one; errno is left as it was found.
    unsafe {
        let errno = *libc::__errno_location();
        libc::write(WAKE.load(Ordering::SeqCst), one.as_ptr().cast(), one.len());
        *libc::__errno_location() = errno;
    }
}

/// Makes interrupts end `pool`: the first as `first` says, [`Shutdown::Drain`] to have everything run that was submitted or
/// [`Shutdown::CancelPending`] to have only what has begun; the second [kills](Shutdown::Kill) what still runs; a third one ends the program, as without this.
///
/// The workers do not get what a terminal sends to its foreground: they are process groups of their own. Whoever waits for
/// outcomes gets them, or is told that the pool is shut down; the program goes on, and ends as it sees fit. One interrupt handler of
/// this kind is possible at a time; what the program itself had installed for SIGINT comes back when the value is dropped.
///
/// # Errors
/// `AlreadyExists` if another one lives; what the system refused.
///
/// ```
/// use par_process::{ProcessPool, Shutdown, on_interrupt};
/// let pool = ProcessPool::new(1)?;
/// let interrupt = on_interrupt(&pool, Shutdown::Drain)?;
/// // ... a long map ...
/// assert_eq!(interrupt.count(), 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn on_interrupt(pool: &ProcessPool, first: Shutdown) -> io::Result<Interrupt> {
    let mut taken = TAKEN.lock();
    if *taken {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "interrupts end another pool already",
        ));
    }
    let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
    let (over, seen) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
    let thread = thread::Builder::new().name("par-interrupt".to_owned()).spawn({
        let (wake, over, seen) = (Arc::clone(&wake), Arc::clone(&over), Arc::clone(&seen));
        let engine = Arc::downgrade(pool.engine());
        move || follow(&wake, &over, &seen, &engine, first)
    })?;
    COUNT.store(0, Ordering::SeqCst);
    WAKE.store(wake.as_raw_fd(), Ordering::SeqCst);
    // SAFETY: plain data, for which zeros are values.
    let mut before: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: as above; the call reads and fills the structures, and the handler does only what handlers may.
    let installed = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handle as extern "C" fn(libc::c_int) as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGINT, &raw const action, &raw mut before) == 0
    };
    let refused = (!installed).then(io::Error::last_os_error);
    *taken = true;
    let interrupt = Interrupt {
        // The default action where nothing was replaced.
        before,
        wake,
        over,
        seen,
        thread: Some(thread),
    };
    drop(taken);
    match refused {
        None => Ok(interrupt),
        Some(error) => Err(error),
    }
}

/// The thread that does what handlers may not.
fn follow(
    wake: &OwnedFd,
    over: &AtomicBool,
    seen: &AtomicU32,
    engine: &Weak<ProcessEngine>,
    first: Shutdown,
) {
    let mut ending = Vec::new();
    while !over.load(Ordering::SeqCst) {
        // An interruption is a round without news.
        let _ = rustix::io::read(wake, &mut [0; 8]);
        for _ in 0..COUNT.swap(0, Ordering::SeqCst) {
            let how = match seen.fetch_add(1, Ordering::SeqCst) {
                0 => first,
                1 => Shutdown::Kill,
                _ => end_program(),
            };
            let Some(engine) = engine.upgrade() else { continue };
            // In a thread of its own, as the next one may come meanwhile. Without one, the next interrupt is the one that counts.
            let ends = thread::Builder::new()
                .name("par-interrupted".to_owned())
                .spawn(move || {
                    engine.shutdown(how, None);
                });
            ending.extend(ends.ok());
        }
    }
    for thread in ending {
        // A panic there has been printed by its hook.
        let _ = thread.join();
    }
}

/// Ends this program as an interrupt does that nobody handles.
fn end_program() -> ! {
    // SAFETY: the default action of a signal, and then the signal.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::raise(libc::SIGINT);
    }
    std::process::exit(130)
}

impl Interrupt {
    /// How many interrupts have come.
    pub fn count(&self) -> u32 {
        self.seen.load(Ordering::SeqCst)
    }
}

impl Drop for Interrupt {
    /// Waits for a shutdown that an interrupt has begun.
    fn drop(&mut self) {
        // SAFETY: what the system gave for this signal before.
        unsafe { libc::sigaction(libc::SIGINT, &raw const self.before, std::ptr::null_mut()) };
        self.over.store(true, Ordering::SeqCst);
        // A counter that is full wakes as well.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by its hook.
            let _ = thread.join();
        }
        let mut taken = TAKEN.lock();
        // A handler that still runs on another thread finds a file that is no longer there at worst.
        WAKE.store(-1, Ordering::SeqCst);
        *taken = false;
    }
}
