//! [`RwLock`]: many readers, or one writer.

use super::{LockError, checked, surely, take};
use crate::Deadlock;
use crate::sync_seam::Until;
use crate::watch::{Hold, Kind, Link, Watch};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

/// A value that many threads read at once, or one changes.
///
/// It is parking_lot's: a writer that waits goes before readers that come later, so neither starves. That is why a thread that reads and
/// reads again may wait for a writer that waits for it: one guard is enough.
///
/// ```
/// use par_sync::RwLock;
///
/// let names = RwLock::new(vec!["ann"]);
/// {
///     let (one, two) = (names.read(), names.read());
///     assert_eq!(one.len() + two.len(), 2);
///     assert!(names.try_write().is_err());
/// }
/// names.write().push("bob");
/// assert_eq!(*names.read(), ["ann", "bob"]);
/// ```
pub struct RwLock<T: ?Sized> {
    watch: Watch,
    lock: parking_lot::RwLock<T>,
}

impl<T> RwLock<T> {
    /// A lock that is free.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        RwLock {
            watch: Watch::new(Kind::RwLock),
            lock: parking_lot::RwLock::new(value),
        }
    }

    /// As [`new`](Self::new), with a name for reports.
    #[track_caller]
    pub fn named(name: &str, value: T) -> Self {
        let lock = RwLock::new(value);
        lock.watch.name(name);
        lock
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.lock.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    #[inline]
    #[track_caller]
    fn take_shared(&self, until: Until) -> Result<RwLockReadGuard<'_, T>, LockError> {
        let guard = take(&self.watch, Hold::Shared, until, |until| match until {
            Until::Now => self.lock.try_read(),
            Until::At(at) => self.lock.try_read_until(at),
            Until::Forever => Some(self.lock.read()),
        })?;
        Ok(RwLockReadGuard {
            guard,
            link: self.watch.link(),
        })
    }

    #[inline]
    #[track_caller]
    fn take_exclusive(&self, until: Until) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        let guard = take(&self.watch, Hold::Exclusive, until, |until| match until {
            Until::Now => self.lock.try_write(),
            Until::At(at) => self.lock.try_write_until(at),
            Until::Forever => Some(self.lock.write()),
        })?;
        Ok(RwLockWriteGuard {
            guard,
            link: self.watch.link(),
        })
    }

    /// Waits until nobody writes.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that it would wait for ever.
    #[inline]
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        surely(self.take_shared(Until::Forever))
    }

    /// Waits until nobody reads or writes.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that it would wait for ever.
    #[inline]
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        surely(self.take_exclusive(Until::Forever))
    }

    /// As [`read`](Self::read), for whom a deadlock is a value.
    ///
    /// # Errors
    /// The deadlock that the detector found.
    #[track_caller]
    pub fn read_checked(&self) -> Result<RwLockReadGuard<'_, T>, Deadlock> {
        checked(self.take_shared(Until::Forever))
    }

    /// As [`write`](Self::write), for whom a deadlock is a value.
    ///
    /// # Errors
    /// The deadlock that the detector found.
    #[track_caller]
    pub fn write_checked(&self) -> Result<RwLockWriteGuard<'_, T>, Deadlock> {
        checked(self.take_exclusive(Until::Forever))
    }

    /// A reader's guard if nobody writes, or waits to.
    ///
    /// # Errors
    /// [`LockError::Busy`] if somebody does.
    #[inline]
    #[track_caller]
    pub fn try_read(&self) -> Result<RwLockReadGuard<'_, T>, LockError> {
        self.take_shared(Until::Now)
    }

    /// A writer's guard if nobody reads or writes.
    ///
    /// # Errors
    /// [`LockError::Busy`] if somebody does.
    #[inline]
    #[track_caller]
    pub fn try_write(&self) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        self.take_exclusive(Until::Now)
    }

    /// Waits until nobody writes, at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::Busy`] when the time is over; [`LockError::Deadlock`] where the detector finds one.
    #[track_caller]
    pub fn read_timeout(&self, timeout: Duration) -> Result<RwLockReadGuard<'_, T>, LockError> {
        self.take_shared(Until::after(timeout))
    }

    /// Waits until nobody reads or writes, at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::Busy`] when the time is over; [`LockError::Deadlock`] where the detector finds one.
    #[track_caller]
    pub fn write_timeout(&self, timeout: Duration) -> Result<RwLockWriteGuard<'_, T>, LockError> {
        self.take_exclusive(Until::after(timeout))
    }

    /// Whether somebody reads or writes.
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        self.lock.get_mut()
    }
}

impl<T: Default> Default for RwLock<T> {
    #[track_caller]
    fn default() -> Self {
        RwLock::new(T::default())
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lock.fmt(f)
    }
}

/// The value of a [`RwLock`] to read, until it is dropped.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    guard: parking_lot::RwLockReadGuard<'a, T>,
    link: Link<'a>,
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.link.released(Hold::Shared);
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The value of a [`RwLock`] to change, until it is dropped.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    guard: parking_lot::RwLockWriteGuard<'a, T>,
    link: Link<'a>,
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.link.released(Hold::Exclusive);
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
