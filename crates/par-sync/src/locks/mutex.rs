//! [`Mutex`]: one thread at a time.

use super::{LockError, checked, surely, take};
use crate::Deadlock;
use crate::sync_seam::Until;
use crate::watch::{Hold, Kind, Link, Watch};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A value that one thread at a time has.
///
/// It is parking_lot's mutex, one byte beside the value. It is not poisoned: a thread that panics gives it back.
/// A thread that locks it twice waits for itself; see [`ReentrantMutex`](crate::ReentrantMutex), and the feature `deadlock`.
///
/// ```
/// use par_sync::Mutex;
///
/// static TOTAL: Mutex<u64> = Mutex::new(0);
/// std::thread::scope(|scope| {
///     for _ in 0..4 {
///         scope.spawn(|| (0..1000).for_each(|_| *TOTAL.lock() += 1));
///     }
/// });
/// assert_eq!(*TOTAL.lock(), 4000);
/// ```
#[doc(alias = "Lock")]
pub struct Mutex<T: ?Sized> {
    watch: Watch,
    lock: parking_lot::Mutex<T>,
}

impl<T> Mutex<T> {
    /// A mutex that is free.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        Mutex {
            watch: Watch::new(Kind::Mutex),
            lock: parking_lot::Mutex::new(value),
        }
    }

    /// As [`new`](Self::new), with a name for reports.
    #[track_caller]
    pub fn named(name: &str, value: T) -> Self {
        let mutex = Mutex::new(value);
        mutex.watch.name(name);
        mutex
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    #[inline]
    #[track_caller]
    fn take(&self, until: Until) -> Result<MutexGuard<'_, T>, LockError> {
        let guard = take(&self.watch, Hold::Exclusive, until, |until| match until {
            Until::Now => self.lock.try_lock(),
            Until::At(at) => self.lock.try_lock_until(at),
            Until::Forever => Some(self.lock.lock()),
        })?;
        Ok(MutexGuard {
            guard,
            link: self.watch.link(),
        })
    }

    /// Waits for the lock.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that it would wait for ever.
    #[doc(alias = "acquire")]
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        surely(self.take(Until::Forever))
    }

    /// As [`lock`](Self::lock), for whom a deadlock is a value.
    ///
    /// # Errors
    /// The deadlock that the detector found.
    #[track_caller]
    pub fn lock_checked(&self) -> Result<MutexGuard<'_, T>, Deadlock> {
        checked(self.take(Until::Forever))
    }

    /// The lock if it is free.
    ///
    /// # Errors
    /// [`LockError::Busy`] if it is not.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError> {
        self.take(Until::Now)
    }

    /// Waits for the lock, at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::Busy`] when the time is over; [`LockError::Deadlock`] where the detector finds one.
    #[track_caller]
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError> {
        self.take(Until::after(timeout))
    }

    /// Whether somebody has it.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<T: Default> Default for Mutex<T> {
    #[track_caller]
    fn default() -> Self {
        Mutex::new(T::default())
    }
}

impl<T> From<T> for Mutex<T> {
    #[track_caller]
    fn from(value: T) -> Self {
        Mutex::new(value)
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}

/// The value of a [`Mutex`], until it is dropped.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct MutexGuard<'a, T: ?Sized> {
    pub(super) guard: parking_lot::MutexGuard<'a, T>,
    pub(super) link: Link<'a>,
}

impl<T: ?Sized> MutexGuard<'_, T> {
    /// Gives the lock to who has waited longest, if somebody waits, and takes it again: for long work in pieces.
    #[track_caller]
    pub fn bump(guard: &mut Self) {
        let again = guard.link.bumps();
        parking_lot::MutexGuard::bump(&mut guard.guard);
        again.over();
        guard.link.acquired(Hold::Exclusive);
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.link.released(Hold::Exclusive);
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
