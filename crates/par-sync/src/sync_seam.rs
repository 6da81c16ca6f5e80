//! The seam through which the protocols of this crate reach atomics, locks and parking, so that loom can replace them.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::{Thread, ThreadId, current, park};

    use super::Until;

    /// A lock for what is in this crate; never held while code of users runs, or nobody would know what it guards after a panic.
    pub(crate) type Lock<T> = parking_lot::Mutex<T>;
    pub(crate) type Locked<'a, T> = parking_lot::MutexGuard<'a, T>;

    /// Wakes those who wait with a [`Lock`].
    #[derive(Debug, Default)]
    pub(crate) struct Signal(parking_lot::Condvar);

    impl Signal {
        pub(crate) const fn new() -> Self {
            Signal(parking_lot::Condvar::new())
        }

        /// Waits for a notification; false when the time was over first.
        pub(crate) fn wait<T>(&self, locked: &mut Locked<'_, T>, until: Until) -> bool {
            match until {
                Until::Now => false,
                Until::At(until) => !self.0.wait_until(locked, until).timed_out(),
                Until::Forever => {
                    self.0.wait(locked);
                    true
                }
            }
        }

        /// Whether somebody was woken.
        pub(crate) fn notify_one(&self) -> bool {
            self.0.notify_one()
        }

        /// How many were woken.
        pub(crate) fn notify_all(&self) -> usize {
            self.0.notify_all()
        }
    }
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread::{Thread, ThreadId, current, park};

    use super::Until;
    use std::ops::{Deref, DerefMut};

    /// The same under loom.
    #[derive(Debug)]
    pub(crate) struct Lock<T>(Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            Lock(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> Locked<'_, T> {
            Locked(Some(self.0.lock().expect("no panics")), &self.0)
        }
    }

    /// Empty only while it waits.
    pub(crate) struct Locked<'a, T>(Option<MutexGuard<'a, T>>, &'a Mutex<T>);

    impl<T> Deref for Locked<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            self.0.as_ref().expect("not waiting")
        }
    }

    impl<T> DerefMut for Locked<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("not waiting")
        }
    }

    /// The same under loom. A wait with a deadline is a nap in which others run, as its time may be over at any moment: what was notified
    /// meanwhile is not known to it. One without ends by a notification only: what only a deadline would mend is found as a deadlock.
    #[derive(Debug)]
    pub(crate) struct Signal(Condvar);

    impl Signal {
        pub(crate) fn new() -> Self {
            Signal(Condvar::new())
        }

        pub(crate) fn wait<T>(&self, locked: &mut Locked<'_, T>, until: Until) -> bool {
            if matches!(until, Until::Now) {
                return false;
            }
            let guard = locked.0.take().expect("not waiting");
            if matches!(until, Until::At(_)) {
                let mutex = locked.1;
                drop(guard);
                loom::thread::yield_now();
                locked.0 = Some(mutex.lock().expect("no panics"));
                return false;
            }
            locked.0 = Some(self.0.wait(guard).expect("no panics"));
            true
        }

        pub(crate) fn notify_one(&self) -> bool {
            self.0.notify_one();
            true
        }

        pub(crate) fn notify_all(&self) -> usize {
            self.0.notify_all();
            1
        }
    }
}

pub(crate) use real::{
    AtomicBool, AtomicU64, AtomicUsize, Condvar, Lock, Locked, Mutex, Ordering, Signal, Thread, ThreadId,
    current, fence, park,
};

use real::MutexGuard;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// Between a write and a look at what another writes before it looks at this: `SeqCst` is enough for both, but for loom, which orders
/// by fences only.
#[inline(always)]
pub(crate) fn dekker() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}

/// A constructor that is const, but for loom, whose locks and atomics are not.
macro_rules! const_fn {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) -> Self $body:block) => {
        #[cfg(not(loom))]
        $(#[$meta])*
        $vis const fn $name($($arg: $type),*) -> Self $body

        #[cfg(loom)]
        $(#[$meta])*
        $vis fn $name($($arg: $type),*) -> Self $body
    };
}
pub(crate) use const_fn;

/// How long a call may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Not at all.
    Now,
    At(Instant),
    Forever,
}

impl Until {
    /// A time that is over.
    #[cfg(all(test, loom))]
    pub(crate) fn passed() -> Self {
        Until::At(Instant::now())
    }

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
}

/// Locks; what these locks guard is never left half changed by a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
