//! [`Condvar`]: threads that wait for what a mutex guards to change.

use super::{LockError, MutexGuard, surely};
use crate::sync_seam::Until;
use crate::watch::{Hold, Kind, Watch};
use std::time::Duration;

/// Threads wait here until what a [`Mutex`](crate::Mutex) guards is as they want it, and another that changed it wakes them.
///
/// It is parking_lot's: nobody wakes without a notification, and notifications go to those who have waited longest. But between the
/// notification and the return of [`wait`](Self::wait) others may have had the lock, so look again what is true, or say it:
/// [`wait_for`](Self::wait_for). All that wait at the same time use one mutex, as CPython's condition has one; a condition with a
/// [`ReentrantMutex`](crate::ReentrantMutex) is not to be had, as a wait in a nested section would open the outer one.
///
/// ```
/// use par_sync::{Condvar, Mutex};
///
/// let (numbers, filled) = (Mutex::new(Vec::new()), Condvar::new());
/// std::thread::scope(|scope| {
///     scope.spawn(|| {
///         numbers.lock().push(5);
///         filled.notify_one();
///     });
///     let mut guard = numbers.lock();
///     filled.wait_for(&mut guard, |numbers| !numbers.is_empty());
///     assert_eq!(guard.pop(), Some(5));
/// });
/// ```
#[doc(alias = "Condition")]
#[derive(Debug)]
pub struct Condvar {
    watch: Watch,
    signal: parking_lot::Condvar,
}

impl Condvar {
    /// A condition for which nobody waits.
    #[track_caller]
    pub const fn new() -> Self {
        Condvar {
            watch: Watch::new(Kind::Condvar),
            signal: parking_lot::Condvar::new(),
        }
    }

    /// As [`new`](Self::new), with a name for reports.
    #[track_caller]
    pub fn named(name: &str) -> Self {
        let condvar = Condvar::new();
        condvar.watch.name(name);
        condvar
    }

    /// Whether it was woken. Without the lock meanwhile.
    #[track_caller]
    fn sleep<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, until: Until) -> Result<bool, LockError> {
        // Before the lock is given back: an error leaves all as it is.
        let waiting = self.watch.wait_without(guard.link, until)?;
        let woken = match until {
            Until::Now => false,
            Until::At(at) => !self.signal.wait_until(&mut guard.guard, at).timed_out(),
            Until::Forever => {
                self.signal.wait(&mut guard.guard);
                true
            }
        };
        if woken {
            waiting.heard();
        } else {
            waiting.over();
        }
        guard.link.acquired(Hold::Exclusive);
        Ok(woken)
    }

    /// Gives the lock back, waits for a notification, and takes the lock again.
    ///
    /// # Panics
    /// If others wait here with another mutex, as all forms do; and with the report, where the detector of deadlocks finds that nobody can
    /// notify.
    #[track_caller]
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        surely(self.sleep(guard, Until::Forever));
    }

    /// As [`wait`](Self::wait), at most for `timeout`, besides what it takes to have the lock again; whether it was notified.
    ///
    /// # Errors
    /// [`LockError::Deadlock`] where the detector finds one.
    #[track_caller]
    pub fn wait_timeout<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
    ) -> Result<bool, LockError> {
        self.sleep(guard, Until::after(timeout))
    }

    /// Waits until `is_so`; it looks with the lock, at once and after each notification. A panic of `is_so` passes, with the lock held.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can notify.
    #[track_caller]
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, mut is_so: impl FnMut(&mut T) -> bool) {
        while !is_so(guard) {
            self.wait(guard);
        }
    }

    /// As [`wait_for`](Self::wait_for), at most for `timeout`; whether it is so.
    ///
    /// # Errors
    /// [`LockError::Deadlock`] where the detector finds one.
    #[track_caller]
    pub fn wait_for_timeout<T: ?Sized>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        timeout: Duration,
        mut is_so: impl FnMut(&mut T) -> bool,
    ) -> Result<bool, LockError> {
        let until = Until::after(timeout);
        while !is_so(guard) {
            if !self.sleep(guard, until)? {
                // The last notification may have come with the end of the time.
                return Ok(is_so(guard));
            }
        }
        Ok(true)
    }

    /// Wakes who has waited longest; whether somebody waited.
    #[inline]
    pub fn notify_one(&self) -> bool {
        self.watch.notify(|| usize::from(self.signal.notify_one())) > 0
    }

    /// Wakes the `count` who have waited longest; how many there were.
    pub fn notify(&self, count: usize) -> usize {
        (0..count).take_while(|_| self.notify_one()).count()
    }

    /// Wakes all who wait; how many there were.
    #[doc(alias = "notifyAll")]
    #[inline]
    pub fn notify_all(&self) -> usize {
        self.watch.notify(|| self.signal.notify_all())
    }
}

impl Default for Condvar {
    #[track_caller]
    fn default() -> Self {
        Condvar::new()
    }
}
