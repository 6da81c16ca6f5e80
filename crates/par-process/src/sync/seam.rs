//! The seam through which the protocols here reach atomics, the lock of their tables, and sleep, so that loom can replace them.

#[cfg(not(loom))]
mod real {
    pub(crate) use crate::sync::robust::{Held, RawLock};
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use rustix::thread::futex;
    use std::time::Instant;

    /// A word that threads of several processes sleep on.
    #[repr(transparent)]
    #[derive(Default)]
    pub(crate) struct Word(AtomicU32);

    impl Word {
        pub(crate) fn load(&self) -> u32 {
            self.0.load(Ordering::SeqCst)
        }

        pub(crate) fn store(&self, value: u32) {
            self.0.store(value, Ordering::SeqCst);
        }

        pub(crate) fn add(&self, value: u32) {
            self.0.fetch_add(value, Ordering::SeqCst);
        }

        pub(crate) fn swap(&self, value: u32) -> u32 {
            self.0.swap(value, Ordering::SeqCst)
        }

        pub(crate) fn exchange(&self, old: u32, new: u32) -> bool {
            self.0
                .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        }

        /// Sleeps while the word is `seen`, not beyond `until`. May wake early.
        pub(crate) fn sleep(&self, seen: u32, until: Instant) {
            let left = until.saturating_duration_since(Instant::now());
            // A time beyond what the system can express is as good as none.
            let timeout = futex::Timespec::try_from(left).ok();
            // Whatever it says, the caller looks again.
            let _ = futex::wait(&self.0, futex::Flags::empty(), seen, timeout.as_ref());
        }

        /// Wakes as many of those who sleep.
        pub(crate) fn wake(&self, count: u32) {
            // The system takes it for a signed number.
            let count = count.min(i32::MAX as u32);
            let _ = futex::wake(&self.0, futex::Flags::empty(), count);
        }
    }
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use loom::sync::{Condvar, Mutex, MutexGuard};
    use std::io;
    use std::time::Instant;

    /// The same for threads under loom. It never wakes by time: what only a second look would mend is found as a deadlock.
    pub(crate) struct Word {
        value: AtomicU32,
        sleeping: Mutex<()>,
        woken: Condvar,
    }

    impl Default for Word {
        fn default() -> Self {
            Word {
                value: AtomicU32::new(0),
                sleeping: Mutex::new(()),
                woken: Condvar::new(),
            }
        }
    }

    impl Word {
        pub(crate) fn load(&self) -> u32 {
            self.value.load(Ordering::SeqCst)
        }

        pub(crate) fn store(&self, value: u32) {
            self.value.store(value, Ordering::SeqCst);
        }

        pub(crate) fn add(&self, value: u32) {
            self.value.fetch_add(value, Ordering::SeqCst);
        }

        pub(crate) fn swap(&self, value: u32) -> u32 {
            self.value.swap(value, Ordering::SeqCst)
        }

        pub(crate) fn exchange(&self, old: u32, new: u32) -> bool {
            self.value
                .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        }

        pub(crate) fn sleep(&self, seen: u32, _until: Instant) {
            let sleeping = self.sleeping.lock().expect("no panics");
            if self.load() == seen {
                drop(self.woken.wait(sleeping).expect("no panics"));
            }
        }

        pub(crate) fn wake(&self, count: u32) {
            let _sleeping = self.sleeping.lock().expect("no panics");
            for _ in 0..count.min(8) {
                self.woken.notify_one();
            }
        }
    }

    #[derive(Default)]
    pub(crate) struct RawLock(Mutex<()>);

    pub(crate) struct Held<'a> {
        _held: MutexGuard<'a, ()>,
        pub(crate) died: bool,
    }

    impl RawLock {
        pub(crate) fn lock_until(&self, _until: super::Until) -> io::Result<Option<Held<'_>>> {
            Ok(Some(Held {
                _held: self.0.lock().expect("no panics"),
                died: false,
            }))
        }
    }
}

pub(crate) use real::{AtomicU32, AtomicU64, Held, Ordering, RawLock, Word};

use std::time::{Duration, Instant};

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Not at all.
    Now,
    At(Instant),
    Forever,
}

impl Until {
    /// A time so far away that it cannot be told is none.
    pub(crate) fn after(timeout: Duration) -> Self {
        Instant::now()
            .checked_add(timeout)
            .map_or(Until::Forever, Until::At)
    }

    pub(crate) fn is_over(self) -> bool {
        match self {
            Until::Now => true,
            Until::At(until) => Instant::now() >= until,
            Until::Forever => false,
        }
    }

    /// The end of a sleep that is no longer than `longest`.
    pub(crate) fn nap(self, longest: Duration) -> Instant {
        let end = Instant::now() + longest;
        match self {
            Until::At(until) => end.min(until),
            Until::Now | Until::Forever => end,
        }
    }

    /// This, but not earlier than `grace` from now.
    pub(crate) fn or_soon(self, grace: Duration) -> Self {
        let soon = Instant::now() + grace;
        match self {
            Until::Now => Until::At(soon),
            Until::At(until) => Until::At(until.max(soon)),
            Until::Forever => Until::Forever,
        }
    }
}
