//! A table of those who wait, in shared memory: what [`Condvar`](super::Condvar) and [`Barrier`](super::Barrier) stand on.
//!
//! 1. Whoever waits has a slot: a word to sleep on, who it is, and its turn. Everything but the word is written and read
//!    under the lock of the table. A slot whose word is [`FREE`] is nobody's.
//! 2. A waiter sleeps while its word is [`WAITING`]. Who wakes it changes the word first, under the lock and from `WAITING` only. The
//!    waiter alone makes it `FREE`, when it has done what it was woken for or when its time is over: in one step that tells it what the
//!    word was, and without the lock, as its deadline holds also while another is stopped in there.
//! 3. So a waiter that dies in between leaves a slot that tells so. Waiters look for such slots every [`PATROL`]; what becomes of the
//!    wake-up is the owner's to say.
//! 4. A word changes in one step, and nothing else depends on it: a death in the middle of a change leaves the table whole. A
//!    waiter that was not woken because its waker died in between sees its word at its next patrol.

use super::identity::Identity;
use super::seam::{AtomicU32, AtomicU64, Held, Ordering, Until, Word};
use super::{PATROL, SyncError};
use crate::failpoint::reach;
use std::time::Instant;

pub(crate) const FREE: u32 = 0;
pub(crate) const WAITING: u32 = 1;
/// What it waited for has come.
pub(crate) const WOKEN: u32 = 2;
/// What it waited for will not come.
pub(crate) const BROKEN: u32 = 3;
/// Not waiting: it does what the others wait for.
pub(crate) const ACTING: u32 = 4;

/// One that waits.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Slot {
    word: Word,
    pid: AtomicU32,
    start: AtomicU64,
    turn: AtomicU64,
}

/// A table, with its counter of turns.
#[derive(Clone, Copy)]
pub(crate) struct Waiters<'a> {
    pub(crate) turns: &'a AtomicU64,
    pub(crate) slots: &'a [Slot],
}

impl<'a> Waiters<'a> {
    /// Enters a waiter.
    pub(crate) fn enter(self, _held: &Held<'_>, who: Identity, state: u32) -> Result<&'a Slot, SyncError> {
        let free = || self.slots.iter().find(|slot| slot.word.load() == FREE);
        let slot = free().or_else(|| {
            self.free_dead(&[WAITING, WOKEN, BROKEN, ACTING], |_| ());
            free()
        });
        let slot = slot.ok_or(SyncError::Full(self.slots.len()))?;
        let turn = self.turns.load(Ordering::Relaxed).wrapping_add(1);
        self.turns.store(turn, Ordering::Relaxed);
        slot.turn.store(turn, Ordering::Relaxed);
        slot.start.store(who.start, Ordering::Relaxed);
        slot.pid.store(who.pid, Ordering::Relaxed);
        reach("waiters.entering");
        slot.word.store(state);
        reach("waiters.entered");
        Ok(slot)
    }

    /// How many are in a state.
    pub(crate) fn count(self, _held: &Held<'_>, state: u32) -> usize {
        self.slots.iter().filter(|slot| slot.word.load() == state).count()
    }

    /// Moves the `count` that wait longest to a state, and wakes them. Tells how many there were.
    pub(crate) fn wake(self, _held: &Held<'_>, count: usize, state: u32) -> usize {
        let mut waiting: Vec<_> = self
            .slots
            .iter()
            .filter(|slot| slot.word.load() == WAITING)
            .collect();
        if waiting.len() > count {
            waiting.sort_unstable_by_key(|slot| slot.turn.load(Ordering::Relaxed));
        }
        let mut woken = 0;
        for slot in waiting {
            if woken == count {
                break;
            }
            // One whose time is over may leave at this moment.
            woken += usize::from(slot.change(WAITING, state));
        }
        woken
    }

    /// Tells those who act that what they act for is no more.
    pub(crate) fn stop_acting(self, _held: &Held<'_>) {
        for slot in self.slots {
            slot.change(ACTING, BROKEN);
        }
    }

    /// Frees the slots of dead processes that are in one of these states; `found` hears which.
    pub(crate) fn free_dead(self, states: &[u32], mut found: impl FnMut(u32)) {
        for slot in self.slots {
            let state = slot.word.load();
            if states.contains(&state) && slot.who().has_ended() {
                slot.word.store(FREE);
                found(state);
            }
        }
    }
}

impl Slot {
    fn who(&self) -> Identity {
        Identity {
            pid: self.pid.load(Ordering::Relaxed),
            start: self.start.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn state(&self) -> u32 {
        self.word.load()
    }

    /// Frees the waiter's own slot, and tells what it was in (rule 2).
    pub(crate) fn leave(&self) -> u32 {
        self.word.swap(FREE)
    }

    /// Moves another's slot from one state to another, if it is in that, and wakes it.
    fn change(&self, from: u32, to: u32) -> bool {
        let changed = self.word.exchange(from, to);
        if changed {
            reach("waiters.waking");
            self.word.wake(1);
        }
        changed
    }

    /// Sleeps until the waiter is woken, or past the time; looks around every [`PATROL`].
    pub(crate) fn sleep(
        &self,
        until: Until,
        mut patrol: impl FnMut() -> Result<(), SyncError>,
    ) -> Result<(), SyncError> {
        let mut due = Instant::now() + PATROL;
        while self.word.load() == WAITING && !until.is_over() {
            self.word.sleep(WAITING, until.nap(PATROL));
            // Loom finds what only a patrol would mend.
            if cfg!(not(loom)) && Instant::now() >= due {
                patrol()?;
                due = Instant::now() + PATROL;
            }
        }
        Ok(())
    }
}
