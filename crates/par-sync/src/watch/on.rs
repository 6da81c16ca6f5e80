//! The watch where the detector or the statistics are compiled in: what an object is, where it was made, how it is called.
//!
//! An object has a number from when it is first told of; a static one is made before the program runs.

use super::{Deadlock, Hold, Kind};
use crate::sync_seam::Until;
use parking_lot::Mutex;
use std::panic::Location;
use std::sync::Arc;
#[cfg(feature = "deadlock")]
use std::sync::atomic::{AtomicU64, Ordering};

/// What an object that threads wait for tells about them.
#[derive(Debug)]
pub(crate) struct Watch {
    kind: Kind,
    made: &'static Location<'static>,
    name: Mutex<Option<Arc<str>>>,
    #[cfg(feature = "deadlock")]
    number: AtomicU64,
    #[cfg(feature = "statistics")]
    counts: std::sync::OnceLock<Arc<super::statistics::Counts>>,
}

#[cfg(feature = "deadlock")]
static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl Watch {
    /// Whether anything is watched in this build.
    #[cfg(not(loom))]
    pub(crate) const ON: bool = true;

    #[cfg(loom)]
    pub(crate) const ON: bool = false;

    /// The place of the caller is where the object was made.
    #[track_caller]
    pub(crate) const fn new(kind: Kind) -> Self {
        Watch {
            kind,
            made: Location::caller(),
            name: Mutex::new(None),
            #[cfg(feature = "deadlock")]
            number: AtomicU64::new(0),
            #[cfg(feature = "statistics")]
            counts: std::sync::OnceLock::new(),
        }
    }

    /// Names it in reports.
    pub(crate) fn name(&self, name: &str) {
        *self.name.lock() = Some(name.into());
    }

    #[cfg(feature = "deadlock")]
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// `mutex "accounts"`, or where it was made.
    pub(super) fn called(&self) -> String {
        match &*self.name.lock() {
            Some(name) => format!("{} {name:?}", self.kind),
            None => format!("{} made at {}", self.kind, self.made),
        }
    }

    #[cfg(feature = "deadlock")]
    /// Its number, given when it is first asked for.
    pub(super) fn number(&self) -> u64 {
        match self.number.load(Ordering::Relaxed) {
            0 => {
                let fresh = NUMBERS.fetch_add(1, Ordering::Relaxed);
                let given = self
                    .number
                    .compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed);
                given.map_or_else(|given| given, |_| fresh)
            }
            given => given,
        }
    }

    #[cfg(feature = "statistics")]
    fn counts(&self) -> Option<&super::statistics::Counts> {
        super::statistics::is_enabled().then(|| {
            &**self
                .counts
                .get_or_init(|| super::statistics::Counts::known(self.called()))
        })
    }

    /// The calling thread is about to sleep until it gets what it wants of the object, or the time is over; the sleep ends when the
    /// answer is dropped. Called only where it cannot have it at once.
    ///
    /// # Errors
    /// All that it waits for waits for this thread, and it is still not `ready`: that may have changed since it was looked at.
    #[track_caller]
    pub(crate) fn wait(
        &self,
        how: Hold,
        until: Until,
        ready: impl Fn() -> bool,
    ) -> Result<Waiting<'_>, Deadlock> {
        self.sleeps(None, how, until, ready)
    }

    /// As [`wait`](Self::wait), giving a lock back for the sleep.
    #[track_caller]
    #[cfg(not(loom))]
    pub(crate) fn wait_without(&self, lock: Link<'_>, until: Until) -> Result<Waiting<'_>, Deadlock> {
        self.sleeps(Some(lock.0), Hold::Exclusive, until, || false)
            .inspect_err(|_| lock.acquired(Hold::Exclusive))
    }

    #[track_caller]
    fn sleeps(
        &self,
        lock: Option<&Watch>,
        how: Hold,
        until: Until,
        ready: impl Fn() -> bool,
    ) -> Result<Waiting<'_>, Deadlock> {
        #[cfg(feature = "deadlock")]
        super::detector::wait(self, lock, how, until, Location::caller(), &ready)?;
        #[cfg(not(feature = "deadlock"))]
        let _ = (lock, how, until, ready);
        Ok(Waiting {
            of: self,
            #[cfg(feature = "statistics")]
            since: super::statistics::is_enabled().then(std::time::Instant::now),
        })
    }

    /// The calling thread has the lock now; `tried` if it would not have waited for it.
    #[track_caller]
    pub(crate) fn acquired(&self, how: Hold, tried: bool) {
        #[cfg(feature = "deadlock")]
        super::detector::acquired(self, how, tried, Location::caller());
        #[cfg(not(feature = "deadlock"))]
        let _ = (how, tried);
        #[cfg(feature = "statistics")]
        if let Some(counts) = self.counts() {
            counts.acquired();
        }
    }

    /// What a guard keeps of it.
    pub(crate) fn link(&self) -> Link<'_> {
        Link(self)
    }

    /// Notifies those who wait at a condition; how many there were.
    #[cfg(not(loom))]
    pub(crate) fn notify(&self, notify: impl Fn() -> usize) -> usize {
        #[cfg(feature = "deadlock")]
        return super::detector::notified(self, notify);
        #[cfg(not(feature = "deadlock"))]
        notify()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        #[cfg(feature = "deadlock")]
        if *self.number.get_mut() != 0 {
            super::detector::forget(*self.number.get_mut());
        }
    }
}

/// A thread sleeps, until this is dropped.
pub(crate) struct Waiting<'a> {
    of: &'a Watch,
    #[cfg(feature = "statistics")]
    since: Option<std::time::Instant>,
}

impl Waiting<'_> {
    /// The sleep is over.
    pub(crate) fn over(self) {}

    /// The sleep is over, by a notification.
    #[cfg(not(loom))]
    pub(crate) fn heard(self) {
        #[cfg(feature = "deadlock")]
        super::detector::heard(self.of);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        #[cfg(feature = "deadlock")]
        super::detector::woke(self.of);
        #[cfg(feature = "statistics")]
        if let (Some(since), Some(counts)) = (self.since, self.of.counts()) {
            counts.waited(since.elapsed());
        }
        #[cfg(not(any(feature = "deadlock", feature = "statistics")))]
        let _ = self.of;
    }
}

/// The watch of a lock, as its guard has it.
#[derive(Clone, Copy)]
pub(crate) struct Link<'a>(&'a Watch);

impl<'a> Link<'a> {
    /// The calling thread has the lock again, after it had given it back for a sleep.
    #[track_caller]
    pub(crate) fn acquired(self, how: Hold) {
        // The order was looked at when it took the lock first.
        self.0.acquired(how, true);
    }

    /// The calling thread gives the lock back, and wants it again at once; the others' calls close what cycles that makes.
    #[track_caller]
    pub(crate) fn bumps(self) -> Waiting<'a> {
        self.released(Hold::Exclusive);
        let entered = self.0.wait(Hold::Exclusive, Until::Forever, || true);
        entered.unwrap_or_else(|_| unreachable!("it is ready"))
    }

    /// The calling thread gives the lock back.
    pub(crate) fn released(self, how: Hold) {
        #[cfg(feature = "deadlock")]
        super::detector::released(self.0, how);
        #[cfg(not(feature = "deadlock"))]
        let _ = how;
    }
}
