//! [`Condvar`]: waiting for a change of what a [`Mutex`](super::Mutex) guards.
//!
//! 1. Whoever waits enters the [table](super::waiters) while it has the mutex, and only then gives the mutex back: who notifies with
//!    the mutex in hand finds everyone who waits.
//! 2. A notification goes to the one that waits longest, never to one that came after it.
//! 3. It is used up only by a waiter that has the mutex again. If the one that got it dies before, or cannot have the mutex in time, it goes
//!    on to the next; if it dies after, the mutex tells of that.

use super::SyncError;
use super::identity::Identity;
use super::seam::{AtomicU64, Held, RawLock, Until};
use super::waiters::{Slot, WAITING, WOKEN, Waiters};
use crate::failpoint::reach;

/// What lies in front of the table.
#[repr(C)]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Notices {
    pub(super) lock: RawLock,
    turns: AtomicU64,
}

/// A condition variable, wherever it lies.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    notices: &'a Notices,
    slots: &'a [Slot],
}

impl<'a> View<'a> {
    fn waiters(self) -> Waiters<'a> {
        Waiters {
            turns: &self.notices.turns,
            slots: self.slots,
        }
    }

    fn lock(self, until: Until) -> Result<Held<'a>, SyncError> {
        // A death in there leaves the table whole.
        self.notices.lock.lock_until(until)?.ok_or(SyncError::TimedOut)
    }

    /// Waits, the mutex given back meanwhile; whether it was notified. `relock` tells whether it has the mutex.
    pub(crate) fn wait<R, E: From<SyncError>>(
        self,
        who: Identity,
        until: Until,
        unlock: impl FnOnce(),
        relock: impl FnOnce() -> Result<R, E>,
        has: impl FnOnce(&Result<R, E>) -> bool,
    ) -> Result<(R, bool), E> {
        let held = self.lock(until)?;
        let slot = self.waiters().enter(&held, who, WAITING)?;
        drop(held);
        unlock();
        let slept = slot.sleep(until, || {
            let held = self.lock(until)?;
            self.pass_on(&held);
            Ok(())
        });
        reach("condvar.awake");
        let locked = relock();
        reach("condvar.locked");
        let has = has(&locked);
        let notified = slot.leave() == WOKEN;
        if notified && !has {
            let held = self.lock(until)?;
            self.waiters().wake(&held, 1, WOKEN);
        }
        match slept {
            // It shows at the lock of the table again; a mutex that was got is more important.
            Err(error) if !has => Err(error.into()),
            _ => locked.map(|locked| (locked, notified)),
        }
    }

    /// Rule 3, for the dead.
    fn pass_on(self, held: &Held<'_>) {
        let mut lost = 0;
        self.waiters().free_dead(&[WOKEN], |_| lost += 1);
        if lost > 0 {
            self.waiters().wake(held, lost, WOKEN);
        }
    }

    pub(crate) fn notify(self, count: usize) -> usize {
        // Where the table cannot be locked, nobody can wait.
        self.lock(Until::Forever)
            .map_or(0, |held| self.waiters().wake(&held, count, WOKEN))
    }
}

#[cfg(not(loom))]
mod shared;

#[cfg(not(loom))]
pub use shared::Condvar;

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::{Arc, Mutex, MutexGuard};
    use loom::thread;
    use std::cell::RefCell;

    const ME: Identity = Identity { pid: 1, start: 1 };

    struct Shared {
        notices: Notices,
        slots: Vec<Slot>,
        ready: Mutex<u32>,
    }

    impl Shared {
        fn new() -> Arc<Self> {
            Arc::new(Shared {
                notices: Notices::default(),
                slots: vec![Slot::default(), Slot::default()],
                ready: Mutex::new(0),
            })
        }

        fn view(&self) -> View<'_> {
            View {
                notices: &self.notices,
                slots: &self.slots,
            }
        }

        fn ready(&self) -> MutexGuard<'_, u32> {
            self.ready.lock().expect("no panics")
        }

        /// Waits until one is ready, and takes it.
        fn take(&self) {
            let guard = RefCell::new(Some(self.ready()));
            loop {
                let ready = guard.borrow().as_ref().is_some_and(|ready| **ready > 0);
                if ready {
                    break;
                }
                let unlock = || drop(guard.borrow_mut().take());
                let relock = || {
                    *guard.borrow_mut() = Some(self.ready());
                    Ok::<_, SyncError>(())
                };
                self.view()
                    .wait(ME, Until::Forever, unlock, relock, Result::is_ok)
                    .expect("room");
            }
            **guard.borrow_mut().as_mut().expect("locked") -= 1;
        }
    }

    #[test]
    fn no_notification_is_lost() {
        loom::model(|| {
            let shared = Shared::new();
            let theirs = shared.clone();
            let waiter = thread::spawn(move || theirs.take());
            *shared.ready() += 1;
            shared.view().notify(1);
            waiter.join().expect("it is woken");
        });
    }

    #[test]
    fn two_that_wait_get_one_each() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let shared = Shared::new();
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let theirs = shared.clone();
                    thread::spawn(move || theirs.take())
                })
                .collect();
            for _ in 0..2 {
                *shared.ready() += 1;
                shared.view().notify(1);
            }
            for waiter in waiters {
                waiter.join().expect("it is woken");
            }
        });
    }
}
