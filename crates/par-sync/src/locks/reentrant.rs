//! [`ReentrantMutex`]: one thread at a time, which may take it again.

use super::{LockError, checked, surely, take};
use crate::Deadlock;
use crate::sync_seam::Until;
use crate::watch::{Hold, Kind, Link, Watch};
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

/// A value that one thread at a time has, as often as it likes: it is free again when that thread has dropped all its guards.
///
/// As several guards may see the value at once, they give `&T` only; what changes goes into a [`Cell`] or a
/// [`RefCell`](std::cell::RefCell). It is parking_lot's.
///
/// ```
/// use par_sync::ReentrantMutex;
/// use std::cell::Cell;
///
/// struct Basket(ReentrantMutex<Cell<u32>>);
/// impl Basket {
///     fn put(&self) {
///         let items = self.0.lock();
///         items.set(items.get() + 1);
///     }
///     fn put_two(&self) {
///         let items = self.0.lock(); // nobody sees one without the other
///         self.put();
///         self.put();
///         assert_eq!(self.0.depth(), 1);
///         drop(items);
///     }
/// }
///
/// let basket = Basket(ReentrantMutex::new(Cell::new(0)));
/// basket.put_two();
/// assert_eq!(basket.0.lock().get(), 2);
/// assert_eq!(basket.0.depth(), 0);
/// ```
#[doc(alias = "RLock")]
pub struct ReentrantMutex<T: ?Sized> {
    watch: Watch,
    lock: parking_lot::ReentrantMutex<Counted<T>>,
}

/// The value, and how many guards its owner has.
struct Counted<T: ?Sized> {
    depth: Cell<usize>,
    value: T,
}

impl<T> ReentrantMutex<T> {
    /// A mutex that is free.
    #[track_caller]
    pub const fn new(value: T) -> Self {
        ReentrantMutex {
            watch: Watch::new(Kind::ReentrantMutex),
            lock: parking_lot::ReentrantMutex::new(Counted {
                depth: Cell::new(0),
                value,
            }),
        }
    }

    /// As [`new`](Self::new), with a name for reports.
    #[track_caller]
    pub fn named(name: &str, value: T) -> Self {
        let mutex = ReentrantMutex::new(value);
        mutex.watch.name(name);
        mutex
    }

    /// The value.
    pub fn into_inner(self) -> T {
        self.lock.into_inner().value
    }
}

impl<T: ?Sized> ReentrantMutex<T> {
    #[inline]
    #[track_caller]
    fn take(&self, until: Until) -> Result<ReentrantMutexGuard<'_, T>, LockError> {
        let guard = take(&self.watch, Hold::Exclusive, until, |until| match until {
            Until::Now => self.lock.try_lock(),
            Until::At(at) => self.lock.try_lock_until(at),
            Until::Forever => Some(self.lock.lock()),
        })?;
        guard.depth.set(guard.depth.get() + 1);
        Ok(ReentrantMutexGuard {
            guard,
            link: self.watch.link(),
        })
    }

    /// Waits for the lock; at once if this thread has it.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that it would wait for ever.
    #[doc(alias = "acquire")]
    #[inline]
    #[track_caller]
    pub fn lock(&self) -> ReentrantMutexGuard<'_, T> {
        surely(self.take(Until::Forever))
    }

    /// As [`lock`](Self::lock), for whom a deadlock is a value.
    ///
    /// # Errors
    /// The deadlock that the detector found.
    #[track_caller]
    pub fn lock_checked(&self) -> Result<ReentrantMutexGuard<'_, T>, Deadlock> {
        checked(self.take(Until::Forever))
    }

    /// The lock if it is free, or this thread's.
    ///
    /// # Errors
    /// [`LockError::Busy`] if another thread has it.
    #[inline]
    #[track_caller]
    pub fn try_lock(&self) -> Result<ReentrantMutexGuard<'_, T>, LockError> {
        self.take(Until::Now)
    }

    /// Waits for the lock, at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::Busy`] when the time is over; [`LockError::Deadlock`] where the detector finds one.
    #[track_caller]
    pub fn lock_timeout(&self, timeout: Duration) -> Result<ReentrantMutexGuard<'_, T>, LockError> {
        self.take(Until::after(timeout))
    }

    /// Whether somebody has it.
    #[doc(alias = "locked")]
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    /// Whether this thread has it.
    #[doc(alias = "_is_owned")]
    pub fn is_owned(&self) -> bool {
        self.lock.is_owned_by_current_thread()
    }

    /// How many guards this thread has.
    pub fn depth(&self) -> usize {
        if !self.is_owned() {
            return 0;
        }
        // It is this thread's, so this waits for nobody.
        self.lock.lock().depth.get()
    }

    /// The value, which nobody else can have.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.lock.get_mut().value
    }
}

impl<T: Default> Default for ReentrantMutex<T> {
    #[track_caller]
    fn default() -> Self {
        ReentrantMutex::new(T::default())
    }
}

impl<T: fmt::Debug> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ReentrantMutex");
        match self.lock.try_lock() {
            Some(guard) => debug.field("value", &guard.value).finish(),
            None => debug.field("value", &format_args!("<locked>")).finish(),
        }
    }
}

/// The value of a [`ReentrantMutex`], until it is dropped.
#[must_use = "the lock is given back as soon as the guard is dropped"]
pub struct ReentrantMutexGuard<'a, T: ?Sized> {
    guard: parking_lot::ReentrantMutexGuard<'a, Counted<T>>,
    link: Link<'a>,
}

impl<T: ?Sized> Drop for ReentrantMutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.link.released(Hold::Exclusive);
        self.guard.depth.set(self.guard.depth.get() - 1);
    }
}

impl<T: ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard.value
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
