//! Robust locks of the C library, in shared memory: the only place that calls them.
//!
//! The system keeps a list of the robust locks that a thread holds. When the thread ends, however it ends, the next who locks one of
//! them gets it together with word of that.
#![allow(unsafe_code)]

use super::GRACE;
use super::seam::Until;
use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::time::Instant;

/// A lock as it lies in shared memory.
#[repr(C, align(64))]
pub(crate) struct Robust(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: the C library's functions may be called from any thread, which is what the lock is for.
unsafe impl Sync for Robust {}

/// What a thread gets that holds the lock already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// An error.
    Refused,
    /// The lock once more.
    Counted,
}

/// How the lock was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    Clean,
    /// Whoever had it has ended.
    Died,
    /// Not in time.
    Busy,
    /// This thread has it.
    Deadlock,
}

impl Robust {
    /// Makes a lock.
    ///
    /// # Safety
    /// The place must be memory that nobody else knows yet.
    pub(crate) unsafe fn init(&self, again: Again) -> io::Result<()> {
        let mut attributes = MaybeUninit::<libc::pthread_mutexattr_t>::uninit();
        let kind = match again {
            Again::Refused => libc::PTHREAD_MUTEX_ERRORCHECK,
            Again::Counted => libc::PTHREAD_MUTEX_RECURSIVE,
        };
        // SAFETY: the attributes are initialised first and destroyed last, and the place of the lock is the caller's.
        unsafe {
            check(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            let made = check(libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            ))
            .and_then(|()| {
                check(libc::pthread_mutexattr_setrobust(
                    attributes.as_mut_ptr(),
                    libc::PTHREAD_MUTEX_ROBUST,
                ))
            })
            .and_then(|()| check(libc::pthread_mutexattr_settype(attributes.as_mut_ptr(), kind)))
            .and_then(|()| check(libc::pthread_mutex_init(self.0.get(), attributes.as_ptr())));
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
            made
        }
    }

    /// Takes the lock. The memory must stay mapped while this thread has it.
    #[inline]
    pub(crate) fn lock(&self, until: Until) -> io::Result<Got> {
        // SAFETY: a lock in mapped memory, made by `init` before anybody saw it (the header's type says so).
        let answer = unsafe {
            match until {
                Until::Now => libc::pthread_mutex_trylock(self.0.get()),
                Until::Forever => libc::pthread_mutex_lock(self.0.get()),
                Until::At(until) => lock_at(self.0.get(), until),
            }
        };
        match answer {
            0 => Ok(Got::Clean),
            libc::EOWNERDEAD => {
                // SAFETY: this thread has just got the lock with that word.
                check(unsafe { libc::pthread_mutex_consistent(self.0.get()) })?;
                Ok(Got::Died)
            }
            libc::EBUSY | libc::ETIMEDOUT => Ok(Got::Busy),
            libc::EDEADLK => Ok(Got::Deadlock),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    /// Gives the lock back. Nothing happens if this thread does not have it.
    #[inline]
    pub(crate) fn unlock(&self) {
        // SAFETY: as for `lock`; both kinds of locks check whose they are.
        let _ = unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }
}

/// # Safety
/// As for `pthread_mutex_lock`.
#[cfg(target_env = "gnu")]
unsafe fn lock_at(lock: *mut libc::pthread_mutex_t, until: Instant) -> libc::c_int {
    unsafe extern "C" {
        // glibc 2.30.
        fn pthread_mutex_clocklock(
            lock: *mut libc::pthread_mutex_t,
            clock: libc::clockid_t,
            until: *const libc::timespec,
        ) -> libc::c_int;
    }
    let until = on_clock(rustix::time::ClockId::Monotonic, until);
    // SAFETY: the caller's, with a time that is a local.
    unsafe { pthread_mutex_clocklock(lock, libc::CLOCK_MONOTONIC, &until) }
}

/// # Safety
/// As for `pthread_mutex_lock`.
#[cfg(not(target_env = "gnu"))]
unsafe fn lock_at(lock: *mut libc::pthread_mutex_t, until: Instant) -> libc::c_int {
    let until = on_clock(rustix::time::ClockId::Realtime, until);
    // SAFETY: the caller's, with a time that is a local.
    unsafe { libc::pthread_mutex_timedlock(lock, &until) }
}

fn on_clock(clock: rustix::time::ClockId, until: Instant) -> libc::timespec {
    let now = rustix::time::clock_gettime(clock);
    let left = until.saturating_duration_since(Instant::now());
    let nanos = now.tv_nsec + i64::from(left.subsec_nanos());
    let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: zeroes are a time; the type has other fields on some systems, so that it cannot be written out.
    let mut time = unsafe {
        time.as_mut_ptr().write_bytes(0, 1);
        time.assume_init()
    };
    time.tv_sec = now
        .tv_sec
        .saturating_add(seconds)
        .saturating_add(nanos / 1_000_000_000);
    time.tv_nsec = nanos % 1_000_000_000;
    time
}

fn check(answer: libc::c_int) -> io::Result<()> {
    match answer {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The lock of a table of one of the primitives: held for a few instructions, never while user code runs.
#[repr(C)]
pub(crate) struct RawLock(Robust);

/// Such a lock, held until this is dropped.
pub(crate) struct Held<'a> {
    lock: &'a RawLock,
    /// Whether a process has died while it had the lock.
    pub(crate) died: bool,
}

impl RawLock {
    /// # Safety
    /// As for [`Robust::init`].
    pub(crate) unsafe fn init(&self) -> io::Result<()> {
        // SAFETY: the caller's.
        unsafe { self.0.init(Again::Refused) }
    }

    /// Locks; `None` past the time. Whoever has it needs a moment only, unless it is stopped: even a call that does not wait
    /// gives it that.
    pub(crate) fn lock_until(&self, until: Until) -> io::Result<Option<Held<'_>>> {
        let got = match self.0.lock(Until::Now)? {
            Got::Busy => self.0.lock(until.or_soon(GRACE))?,
            got => got,
        };
        match got {
            Got::Clean | Got::Died => Ok(Some(Held {
                lock: self,
                died: got == Got::Died,
            })),
            Got::Busy => Ok(None),
            Got::Deadlock => Err(io::Error::other("a lock of a table was not given back")),
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.lock.0.unlock();
    }
}
