//! A latch: opened once, by whoever ran one half of a join, for the one thread that waits for it.
//!
//! 1. The states go shut, (asleep), open; open is the last.
//! 2. The waiter may leave, and with it the latch may be gone, as soon as it is open. Whoever opens it therefore takes the
//!    waiter's handle first, and touches nothing of the latch afterwards.
//! 3. A waiter that parks has set asleep before; so the opener sees asleep and unparks it, or the waiter sees open.

use crate::sync_seam::{AtomicUsize, Ordering, Thread, park};

const SHUT: usize = 0;
const ASLEEP: usize = 1;
const OPEN: usize = 2;

pub(crate) struct Latch<'a> {
    state: AtomicUsize,
    waiter: &'a Thread,
}

impl<'a> Latch<'a> {
    /// A shut latch for the thread of that handle.
    pub(crate) fn new(waiter: &'a Thread) -> Self {
        Latch {
            state: AtomicUsize::new(SHUT),
            waiter,
        }
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Ordering::Acquire) == OPEN
    }

    /// Opens the latch; the last use of it by this thread (rule 2).
    ///
    /// # Safety
    /// `this` points to a latch whose waiter stays until it is open, and nobody opened it before.
    pub(crate) unsafe fn open(this: *const Self) {
        // SAFETY: the latch is there until it is open, by the caller's promise.
        let shut = unsafe {
            (*this)
                .state
                .compare_exchange(SHUT, OPEN, Ordering::AcqRel, Ordering::Acquire)
        };
        if shut.is_err() {
            // SAFETY: asleep is not open, so the latch is still there.
            let waiter = unsafe { (*this).waiter.clone() };
            // SAFETY: as above; the access is over before the waiter can see its effect.
            unsafe { (*this).state.store(OPEN, Ordering::Release) };
            waiter.unpark();
        }
    }

    /// Sleeps until the latch is open or somebody else unparks this thread. Only its waiter calls it.
    pub(crate) fn sleep(&self) {
        // An error means open, or asleep from a sleep that somebody else ended.
        let _ = self
            .state
            .compare_exchange(SHUT, ASLEEP, Ordering::AcqRel, Ordering::Acquire);
        if !self.is_open() {
            park();
        }
    }
}
