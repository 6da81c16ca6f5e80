//! The condition variable that users have: a table in shared memory beside a mutex.

use super::super::PLACES;
use super::super::error::LockError;
use super::super::identity::Identity;
use super::super::memory::Memory;
use super::super::mutex::MutexGuard;
use super::super::seam::Until;
use super::super::{GRACE, SyncError};
use super::{Notices, View};
use crate::shared::header::Spec;
use crate::shared::segment::Segment;
use crate::shared::token::{Handle, shared_handle};
use crate::shared::{Content, SharedError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "Condvar";

/// A guard, or why there is none.
type Locked<'a, T> = Result<MutexGuard<'a, T>, LockError<MutexGuard<'a, T>>>;
/// A guard and an answer, or why there is none.
type LockedWith<'a, T> = Result<(MutexGuard<'a, T>, bool), LockError<MutexGuard<'a, T>>>;

/// Waits for a change of what a [`Mutex`](crate::sync::Mutex) guards.
///
/// A notification goes to the one that waits longest. If that dies before it has the mutex again, the next one gets it, within about 100 ms
/// if somebody else waits. Wake-ups without a notification happen: wait [for a condition](Self::wait_while).
///
/// ```
/// use par_process::{Process, sync::{Condvar, Mutex}};
///
/// let (queue, changed) = (Mutex::new([0_u32; 2])?, Condvar::new()?);
/// let child = Process::of_fn((queue.clone(), changed.clone()), |(queue, changed): (Mutex<[u32; 2]>, Condvar)| {
///     let guard = queue.lock().unwrap();
///     let guard = changed.wait_while(guard, |queue| queue[0] == 0).unwrap();
///     assert_eq!(*guard, [1, 7]);
/// });
/// let child = child.start()?;
/// *queue.lock()? = [1, 7];
/// changed.notify_one();
/// assert_eq!(child.join()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Condition")]
pub struct Condvar(Memory<Notices>);

impl Condvar {
    /// A condition variable on which up to 256 threads can wait at once.
    ///
    /// # Errors
    /// When the system has no memory or no file left.
    pub fn new() -> Result<Self, SharedError> {
        Self::with_places(PLACES)
    }

    /// A condition variable on which so many threads can wait at once.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for more than 65 536 places.
    pub fn with_places(places: usize) -> Result<Self, SharedError> {
        Memory::new(KIND, places, |_| ()).map(Condvar)
    }

    fn view(&self) -> View<'_> {
        View {
            notices: self.0.head(),
            slots: self.0.places(),
        }
    }

    /// Gives the lock back, waits for a notification, and takes the lock again.
    ///
    /// # Errors
    /// [`LockError::Abandoned`] with the lock, if its last owner ended while it had it. With every other error the lock is not held:
    /// [`LockError::Full`] if too many wait already.
    pub fn wait<'a, T: Content + ?Sized>(&self, guard: MutexGuard<'a, T>) -> Locked<'a, T> {
        self.wait_until(guard, Until::Forever).map(|(guard, _)| guard)
    }

    /// As [`wait`](Self::wait), at most for `timeout`; whether it was notified. Past the time the lock is waited for at most 100 ms more.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), and [`LockError::Busy`], without the lock, if another keeps it beyond that.
    pub fn wait_timeout<'a, T: Content + ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockedWith<'a, T> {
        self.wait_until(guard, Until::after(timeout))
    }

    /// Waits as long as the condition holds; with the lock in hand while it is asked.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[doc(alias = "wait_for")]
    pub fn wait_while<'a, T: Content + ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        condition: impl FnMut(&mut T) -> bool,
    ) -> Locked<'a, T> {
        self.wait_while_until(guard, Until::Forever, condition)
            .map(|(guard, _)| guard)
    }

    /// Waits as long as the condition holds, at most for `timeout`; whether it holds no more.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout).
    #[doc(alias = "wait_for")]
    pub fn wait_timeout_while<'a, T: Content + ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
        condition: impl FnMut(&mut T) -> bool,
    ) -> LockedWith<'a, T> {
        self.wait_while_until(guard, Until::after(timeout), condition)
    }

    /// Wakes the one that waits longest; whether there was one.
    #[doc(alias = "notify")]
    pub fn notify_one(&self) -> bool {
        self.view().notify(1) == 1
    }

    /// Wakes the `count` that wait longest; how many there were.
    pub fn notify(&self, count: usize) -> usize {
        self.view().notify(count)
    }

    /// Wakes all that wait; how many there were.
    pub fn notify_all(&self) -> usize {
        self.view().notify(usize::MAX)
    }

    fn wait_until<'a, T: Content + ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        until: Until,
    ) -> LockedWith<'a, T> {
        let mutex = guard.0.locked();
        let who = Identity::own().map_err(SyncError::from)?;
        self.view().wait(
            who,
            until,
            || drop(guard),
            || mutex.hold(until.or_soon(GRACE), MutexGuard),
            |locked| matches!(locked, Ok(_) | Err(LockError::Abandoned(_))),
        )
    }

    fn wait_while_until<'a, T: Content + ?Sized>(
        &self,
        mut guard: MutexGuard<'a, T>,
        until: Until,
        mut condition: impl FnMut(&mut T) -> bool,
    ) -> LockedWith<'a, T> {
        while condition(&mut guard) {
            if until.is_over() {
                return Ok((guard, false));
            }
            guard = self.wait_until(guard, until)?.0;
        }
        Ok((guard, true))
    }
}

impl Handle for Condvar {
    fn expected() -> Spec {
        Memory::<Notices>::spec(KIND, 0)
    }
    fn segment(&self) -> &Arc<Segment> {
        self.0.segment()
    }
    fn of(segment: Arc<Segment>) -> Self {
        Condvar(Memory::of(segment))
    }
}

shared_handle!(Condvar);

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}
