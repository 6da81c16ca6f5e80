//! A lock in shared memory that tells its next owner when the last one died: a robust mutex of the system's threads library.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

/// How often the lock is tried before the system is asked to wait for it: it is held for the time of a copy.
const TRIES: u32 = 200;

/// How long the lock is waited for past the deadline of who wants it. A lock is held for a moment, and a moment is no reason to
/// say that a queue is full; longer than this, its owner is stopped.
const GRACE: Duration = Duration::from_millis(20);

/// The lock. Lies in memory that processes share; made there by [`init`](Lock::init).
#[repr(C)]
pub(super) struct Lock(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: the mutex is made for use by several threads of several processes.
unsafe impl Sync for Lock {}

/// The lock is held while this lives, by the thread that took it.
pub(super) struct Held<'a> {
    lock: &'a Lock,
    /// A mutex is unlocked by the thread that locked it.
    _thread: PhantomData<*const ()>,
}

impl Lock {
    /// Makes the lock in new memory, before anybody else sees it.
    pub(super) fn init(&self) -> io::Result<()> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised by the first call and destroyed by the last; the mutex lies in memory that nobody
        // else sees yet, as the caller says, and is not moved, as it is reached by reference only.
        unsafe {
            done(libc::pthread_mutexattr_init(attributes.as_mut_ptr()))?;
            let made = done(libc::pthread_mutexattr_setpshared(
                attributes.as_mut_ptr(),
                libc::PTHREAD_PROCESS_SHARED,
            ))
            .and_then(|()| {
                done(libc::pthread_mutexattr_setrobust(
                    attributes.as_mut_ptr(),
                    libc::PTHREAD_MUTEX_ROBUST,
                ))
            })
            .and_then(|()| done(libc::pthread_mutex_init(self.0.get(), attributes.as_ptr())));
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
            made
        }
    }

    /// Takes the lock; `None` if it was not to be had until the deadline, and a little past it. A last owner that died is
    /// nothing to the caller: what this lock guards is right at every moment.
    pub(super) fn lock(&self, until: Option<Instant>) -> io::Result<Option<Held<'_>>> {
        for _ in 0..TRIES {
            // SAFETY: the mutex was made by `init`, and lives as long as the memory that `self` borrows.
            let code = unsafe { libc::pthread_mutex_trylock(self.0.get()) };
            if code != libc::EBUSY {
                return self.taken(code).map(Some);
            }
            std::hint::spin_loop();
        }
        let code = match until {
            // SAFETY: as above.
            None => unsafe { libc::pthread_mutex_lock(self.0.get()) },
            Some(until) => self.lock_within(until.saturating_duration_since(Instant::now()).max(GRACE)),
        };
        if code == libc::ETIMEDOUT {
            return Ok(None);
        }
        self.taken(code).map(Some)
    }

    fn lock_within(&self, left: Duration) -> libc::c_int {
        use rustix::time::{ClockId, clock_gettime};
        #[cfg(target_env = "gnu")]
        let (clock, id) = (ClockId::Monotonic, libc::CLOCK_MONOTONIC);
        #[cfg(not(target_env = "gnu"))]
        let clock = ClockId::Realtime;
        let now = clock_gettime(clock);
        let at =
            Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32).saturating_add(left);
        let at = libc::timespec {
            tv_sec: at.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: at.subsec_nanos().into(),
        };
        #[cfg(target_env = "gnu")]
        {
            unsafe extern "C" {
                /// Of glibc 2.30; not in the crate libc.
                fn pthread_mutex_clocklock(
                    mutex: *mut libc::pthread_mutex_t,
                    clock: libc::clockid_t,
                    until: *const libc::timespec,
                ) -> libc::c_int;
            }
            // SAFETY: the signature is that of glibc; the mutex was made by `init` and lives as long as `self`'s memory.
            unsafe { pthread_mutex_clocklock(self.0.get(), id, &raw const at) }
        }
        #[cfg(not(target_env = "gnu"))]
        // SAFETY: the mutex was made by `init` and lives as long as `self`'s memory.
        unsafe {
            libc::pthread_mutex_timedlock(self.0.get(), &raw const at)
        }
    }

    fn taken(&self, code: libc::c_int) -> io::Result<Held<'_>> {
        if code == libc::EOWNERDEAD {
            // SAFETY: this thread holds the mutex, whose last owner died.
            done(unsafe { libc::pthread_mutex_consistent(self.0.get()) })?;
        } else {
            done(code)?;
        }
        Ok(Held {
            lock: self,
            _thread: PhantomData,
        })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: this thread holds the mutex, as `Held` does not leave it.
        let code = unsafe { libc::pthread_mutex_unlock(self.lock.0.get()) };
        debug_assert_eq!(code, 0, "the owner unlocks");
    }
}

fn done(code: libc::c_int) -> io::Result<()> {
    match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}
