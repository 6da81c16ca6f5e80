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

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use crate::sync_seam::current;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    /// A latch that outlives its frame, as loom wants threads to own what they use; its state is checked as if it had gone.
    struct Frame(*const Latch<'static>);

    // SAFETY: the latch is leaked, and the handle that it holds may be used by any thread.
    unsafe impl Send for Frame {}

    impl Frame {
        fn of_this_thread() -> Self {
            Frame(Box::leak(Box::new(Latch::new(Box::leak(Box::new(current()))))))
        }

        fn another(&self) -> Self {
            Frame(self.0)
        }

        fn open(self) {
            // SAFETY: the latch is there, and a model opens it once.
            unsafe { Latch::open(self.0) }
        }

        /// Waits, and then does to the state what leaving the frame would: loom tells if anyone may still touch it.
        fn wait_and_leave(self) {
            // SAFETY: the latch is there; only this thread waits for it.
            let latch = unsafe { &*self.0 };
            while !latch.is_open() {
                latch.sleep();
            }
            // SAFETY: the latch is open, so nobody else uses it any more: this is what the model is about.
            unsafe { (*self.0.cast_mut()).state.with_mut(|_| ()) }
        }
    }

    #[test]
    fn a_waiter_sees_the_result_and_may_leave() {
        loom::model(|| {
            let frame = Frame::of_this_thread();
            let result = Arc::new(UnsafeCell::new(0));
            let (theirs, written) = (frame.another(), Arc::clone(&result));
            loom::thread::spawn(move || {
                // SAFETY: nobody else touches the result before the latch is open.
                written.with_mut(|result| unsafe { *result = 7 });
                theirs.open();
            });
            frame.wait_and_leave();
            // SAFETY: the latch is open.
            assert_eq!(result.with(|result| unsafe { *result }), 7);
        });
    }

    #[test]
    fn a_waiter_that_is_woken_early_goes_back_to_sleep() {
        loom::model(|| {
            let frame = Frame::of_this_thread();
            let theirs = frame.another();
            let me = current();
            loom::thread::spawn(move || theirs.open());
            loom::thread::spawn(move || me.unpark());
            frame.wait_and_leave();
        });
    }
}
