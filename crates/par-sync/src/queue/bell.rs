//! Where threads sleep until a queue is as they want it: for items, or for room.
//!
//! 1. `count` is how many want to be woken, watchers among them; who changes the queue looks at it without a lock. `asleep` is how many of
//!    these sleep, and changes with the lock of the back.
//! 2. Who goes to sleep is counted first, and looks once more whether it must. Whoever wakes it takes it from the count, so that nobody
//!    wakes another for it before it runs; who finds then that it must sleep on is counted again.

use crate::sync_seam::{AtomicUsize, Locked, Ordering, Signal, Until, dekker};

pub(super) struct Bell {
    signal: Signal,
    count: AtomicUsize,
    asleep: AtomicUsize,
}

impl Bell {
    pub(super) fn new() -> Self {
        Bell {
            signal: Signal::new(),
            count: AtomicUsize::new(0),
            asleep: AtomicUsize::new(0),
        }
    }

    /// Whether somebody wants to be woken; after the change that it may wait for (rule 4 of the queue).
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        dekker();
        self.count.load(Ordering::SeqCst) > 0
    }

    /// Sleeps while it `is_so`; false when the time is over.
    pub(super) fn wait_while<B>(
        &self,
        back: &mut Locked<'_, B>,
        until: Until,
        is_so: impl Fn() -> bool,
    ) -> bool {
        loop {
            self.count.fetch_add(1, Ordering::SeqCst);
            dekker();
            if !is_so() {
                self.count.fetch_sub(1, Ordering::Relaxed);
                return true;
            }
            self.asleep.fetch_add(1, Ordering::Relaxed);
            if !self.signal.wait(back, until) {
                self.asleep.fetch_sub(1, Ordering::Relaxed);
                self.count.fetch_sub(1, Ordering::Relaxed);
                return false;
            }
        }
    }

    /// Wakes one, with the lock of the back.
    pub(super) fn ring<B>(&self, _: &mut Locked<'_, B>) {
        if self.asleep.load(Ordering::Relaxed) > 0 {
            self.asleep.fetch_sub(1, Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.signal.notify_one();
        }
    }

    /// Wakes all.
    pub(super) fn ring_all<B>(&self, _: &mut Locked<'_, B>) {
        let asleep = self.asleep.swap(0, Ordering::Relaxed);
        self.count.fetch_sub(asleep, Ordering::Relaxed);
        self.signal.notify_all();
    }

    /// One watches.
    #[cfg(not(loom))]
    pub(super) fn watched(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    #[cfg(not(loom))]
    pub(super) fn unwatched(&self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}
