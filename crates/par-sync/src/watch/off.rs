//! What is compiled where neither the detector nor the statistics are: nothing.

use super::{Deadlock, Hold, Kind};
use crate::sync_seam::Until;
use std::marker::PhantomData;

/// What an object that threads wait for tells about them.
#[derive(Debug)]
pub(crate) struct Watch;

impl Watch {
    /// Whether anything is watched in this build.
    pub(crate) const ON: bool = false;

    /// The place of the caller is where the object was made.
    #[inline(always)]
    pub(crate) const fn new(_kind: Kind) -> Self {
        Watch
    }

    /// Names it in reports.
    #[inline(always)]
    pub(crate) fn name(&self, _name: &str) {}

    /// The calling thread is about to sleep until it gets what it wants of the object, or the time is over; the sleep ends when the
    /// answer is dropped. Called only where it cannot have it at once.
    ///
    /// # Errors
    /// All that it waits for waits for this thread, and it is still not `ready`: that may have changed since it was looked at.
    #[inline(always)]
    pub(crate) fn wait(
        &self,
        _how: Hold,
        _until: Until,
        _ready: impl Fn() -> bool,
    ) -> Result<Waiting<'_>, Deadlock> {
        Ok(Waiting(PhantomData))
    }

    /// As [`wait`](Self::wait), giving a lock back for the sleep.
    #[inline(always)]
    #[cfg(not(loom))]
    pub(crate) fn wait_without(&self, _lock: Link<'_>, _until: Until) -> Result<Waiting<'_>, Deadlock> {
        Ok(Waiting(PhantomData))
    }

    /// The calling thread has the lock now; `tried` if it would not have waited for it.
    #[inline(always)]
    pub(crate) fn acquired(&self, _how: Hold, _tried: bool) {}

    /// What a guard keeps of it: no word where nothing is watched.
    #[inline(always)]
    pub(crate) fn link(&self) -> Link<'_> {
        Link(PhantomData)
    }

    /// Notifies those who wait at a condition; how many there were.
    #[inline(always)]
    #[cfg(not(loom))]
    pub(crate) fn notify(&self, notify: impl Fn() -> usize) -> usize {
        notify()
    }
}

/// A thread sleeps, until this is dropped.
pub(crate) struct Waiting<'a>(PhantomData<&'a ()>);

impl Waiting<'_> {
    /// The sleep is over.
    #[inline(always)]
    pub(crate) fn over(self) {}

    /// The sleep is over, by a notification.
    #[inline(always)]
    #[cfg(not(loom))]
    pub(crate) fn heard(self) {}
}

/// The watch of a lock, as its guard has it.
#[derive(Clone, Copy)]
pub(crate) struct Link<'a>(PhantomData<&'a ()>);

#[cfg_attr(loom, allow(dead_code, reason = "loom has no guards of parking_lot"))]
impl<'a> Link<'a> {
    /// The calling thread has the lock again, after it had given it back for a sleep.
    #[inline(always)]
    pub(crate) fn acquired(self, _how: Hold) {}

    /// The calling thread gives the lock back, and wants it again at once.
    #[inline(always)]
    pub(crate) fn bumps(self) -> Waiting<'a> {
        Waiting(PhantomData)
    }

    /// The calling thread gives the lock back.
    #[inline(always)]
    pub(crate) fn released(self, _how: Hold) {}
}
