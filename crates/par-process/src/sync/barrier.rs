//! [`Barrier`]: parties that go on when all have come.
//!
//! 1. Who comes enters the [table](super::waiters). The last to come runs the action, if it has one, as [`ACTING`] and without the lock
//!    of the table; then it wakes those who wait, and the barrier is as new.
//! 2. Who comes while an action runs belongs to the next round, and waits until the action has ended.
//! 3. The barrier breaks when a party's time is over, when a party dies while it waits or acts, when an action panics, and by
//!    `abort`; also when a process died while it changed the table, as then some may have been woken and others not. All who wait
//!    hear of it, and so does everyone who comes, until `reset`, which breaks the round of those who wait and then begins a new one.
//! 4. Who has been woken is no party any more: it holds nobody up, and its own place is all that it may leave behind.

use super::identity::Identity;
use super::seam::{AtomicU32, AtomicU64, Held, Ordering, RawLock, Until, Word};
use super::waiters::{ACTING, BROKEN, Slot, WAITING, WOKEN, Waiters};
use super::{PATROL, SyncError};

/// What lies in front of the table.
#[repr(C)]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Gate {
    pub(super) lock: RawLock,
    turns: AtomicU64,
    parties: AtomicU64,
    broken: AtomicU32,
    /// Changes when an action ends (rule 2).
    actions: Word,
}

/// A barrier, wherever it lies.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    gate: &'a Gate,
    slots: &'a [Slot],
}

impl<'a> View<'a> {
    fn waiters(self) -> Waiters<'a> {
        Waiters {
            turns: &self.gate.turns,
            slots: self.slots,
        }
    }

    fn lock(self, until: Until) -> Result<Held<'a>, SyncError> {
        let held = self.gate.lock.lock_until(until)?.ok_or(SyncError::TimedOut)?;
        if held.died {
            self.break_up(&held);
        }
        Ok(held)
    }

    fn is_broken(self, _held: &Held<'_>) -> bool {
        self.gate.broken.load(Ordering::SeqCst) != 0
    }

    fn break_up(self, held: &Held<'_>) {
        self.gate.broken.store(1, Ordering::SeqCst);
        self.send_away(held);
    }

    /// All of this round hear that it is broken.
    fn send_away(self, held: &Held<'_>) {
        self.waiters().wake(held, usize::MAX, BROKEN);
        self.waiters().stop_acting(held);
        self.tell_action_ended();
    }

    fn tell_action_ended(self) {
        self.gate.actions.add(1);
        self.gate.actions.wake(u32::MAX);
    }

    /// Rule 3: those who died while they waited or acted.
    fn patrol(self, held: &Held<'_>) {
        let mut died = false;
        self.waiters().free_dead(&[WAITING, ACTING], |_| died = true);
        // Who gave up without the lock has left the word at least.
        if died || self.is_broken(held) {
            self.break_up(held);
        }
    }

    /// A party gives up (rule 3), also where the table cannot be locked in time: the others then find the word at their patrol.
    fn give_up(self, held: Option<Held<'_>>) {
        self.gate.broken.store(1, Ordering::SeqCst);
        if let Some(held) = held {
            self.break_up(&held);
        }
    }

    /// Waits for the others. The place in the order of arrival.
    pub(crate) fn wait(
        self,
        who: Identity,
        until: Until,
        action: Option<impl FnOnce()>,
    ) -> Result<usize, SyncError> {
        let mut held = self.lock(until)?;
        // Rule 2.
        while !self.is_broken(&held) && self.waiters().count(&held, ACTING) > 0 {
            if until.is_over() {
                self.break_up(&held);
                return Err(SyncError::TimedOut);
            }
            let seen = self.gate.actions.load();
            drop(held);
            self.gate.actions.sleep(seen, until.nap(PATROL));
            held = self.lock(until)?;
            if cfg!(not(loom)) {
                self.patrol(&held);
            }
        }
        if self.is_broken(&held) {
            return Err(SyncError::Broken);
        }
        let before = self.waiters().count(&held, WAITING);
        let parties = usize::try_from(self.gate.parties.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        if before.saturating_add(1) >= parties {
            return self.open(held, who, action).map(|()| before);
        }
        let slot = self.waiters().enter(&held, who, WAITING)?;
        drop(held);
        let slept = slot.sleep(until, || {
            let held = self.lock(until)?;
            self.patrol(&held);
            Ok(())
        });
        // In hand while the party leaves, so that it gives up in its own round; but not at the price of its deadline.
        let held = self.lock(until).ok();
        match slot.leave() {
            WOKEN => Ok(before),
            WAITING => {
                self.give_up(held);
                Err(slept.err().unwrap_or(SyncError::TimedOut))
            }
            _ => Err(SyncError::Broken),
        }
    }

    /// What the last to come does (rule 1).
    fn open(self, mut held: Held<'a>, who: Identity, action: Option<impl FnOnce()>) -> Result<(), SyncError> {
        if let Some(action) = action {
            let slot = self.waiters().enter(&held, who, ACTING)?;
            drop(held);
            let acting = Acting { view: self, slot };
            action();
            std::mem::forget(acting);
            held = self.lock(Until::Forever)?;
            if slot.leave() != ACTING {
                return Err(SyncError::Broken);
            }
            self.tell_action_ended();
        }
        self.waiters().wake(&held, usize::MAX, WOKEN);
        Ok(())
    }

    pub(crate) fn abort(self) -> Result<(), SyncError> {
        let held = self.lock(Until::Forever)?;
        self.break_up(&held);
        Ok(())
    }

    pub(crate) fn reset(self) -> Result<(), SyncError> {
        let held = self.lock(Until::Forever)?;
        self.send_away(&held);
        self.gate.broken.store(0, Ordering::SeqCst);
        Ok(())
    }
}

/// An action that runs; dropped only when it panics.
struct Acting<'a> {
    view: View<'a>,
    slot: &'a Slot,
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        if let Ok(held) = self.view.lock(Until::Forever) {
            self.view.break_up(&held);
            self.slot.leave();
        }
    }
}

#[cfg(not(loom))]
mod shared;

#[cfg(not(loom))]
pub use shared::Barrier;

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    const ME: Identity = Identity { pid: 1, start: 1 };

    fn barrier(parties: u64) -> Arc<(Gate, Vec<Slot>)> {
        let gate = Gate::default();
        gate.parties.store(parties, Ordering::Relaxed);
        Arc::new((gate, vec![Slot::default(), Slot::default(), Slot::default()]))
    }

    fn view(barrier: &(Gate, Vec<Slot>)) -> View<'_> {
        View {
            gate: &barrier.0,
            slots: &barrier.1,
        }
    }

    /// Two rounds of two, with an action in each.
    #[test]
    fn all_go_on_together() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let barrier = barrier(2);
            let actions = Arc::new(AtomicU32::new(0));
            let party = |barrier: &(Gate, Vec<Slot>), actions: &AtomicU32| {
                for round in 1..=2 {
                    let act = || {
                        actions.fetch_add(1, Ordering::SeqCst);
                    };
                    view(barrier).wait(ME, Until::Forever, Some(act)).expect("whole");
                    assert!(actions.load(Ordering::SeqCst) >= round);
                }
            };
            let (theirs, also) = (barrier.clone(), actions.clone());
            let other = thread::spawn(move || party(&theirs, &also));
            party(&barrier, &actions);
            other.join().expect("it is woken");
            assert_eq!(actions.load(Ordering::SeqCst), 2);
        });
    }

    #[test]
    fn an_abort_reaches_who_waits() {
        loom::model(|| {
            let barrier = barrier(2);
            let theirs = barrier.clone();
            let other = thread::spawn(move || view(&theirs).wait(ME, Until::Forever, None::<fn()>));
            view(&barrier).abort().expect("whole");
            let answer = other.join().expect("it is woken");
            assert!(matches!(answer, Err(SyncError::Broken)));
        });
    }
}
