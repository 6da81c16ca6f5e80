//! [`Semaphore`] and [`BoundedSemaphore`]: permits that processes hold.
//!
//! 1. A semaphore knows how many permits there are (`total`), and each process's place in its table says how many it holds. What is
//!    free is the difference, and is written nowhere: taking or giving back a permit is one store, so that a death in the middle of
//!    it leaves everything whole.
//! 2. All of that happens under the lock of the table, but for the sleep of those who find no permit: on a word that changes with
//!    everything that may free one.
//! 3. What a dead process held is free again. Those who wait look for the dead every [`PATROL`]; a call that does not wait looks before it
//!    gives up.
//! 4. A permit that is *spent* is held by nobody and counts no more (`total` sinks): that is the semaphore as a counter of things, which
//!    one side releases and another takes. No death brings it back.

use super::identity::Identity;
use super::seam::{AtomicU32, AtomicU64, Held, Ordering, RawLock, Until, Word};
use super::{PATROL, SyncError};
use crate::failpoint::reach;
use std::time::Instant;

/// What lies in front of the table.
#[repr(C)]
#[cfg_attr(loom, derive(Default))]
pub(crate) struct Permits {
    pub(super) lock: RawLock,
    total: AtomicU64,
    /// `u64::MAX` where there is none.
    bound: AtomicU64,
    /// Rule 2.
    changes: Word,
    /// Who sleeps, or died asleep: a wake-up too many harms nobody.
    sleepers: AtomicU32,
    /// Places from here on were never anybody's. Raised before the place is used.
    used: AtomicU32,
}

/// A process's place in the table; nobody's while it holds nothing.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Holder {
    start: AtomicU64,
    held: AtomicU64,
    pid: AtomicU32,
    rest: AtomicU32,
}

/// A semaphore, wherever it lies.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    permits: &'a Permits,
    holders: &'a [Holder],
}

impl Holder {
    fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    fn is(&self, who: Identity) -> bool {
        self.who() == who
    }

    fn who(&self) -> Identity {
        Identity {
            pid: self.pid.load(Ordering::Relaxed),
            start: self.start.load(Ordering::Relaxed),
        }
    }
}

impl<'a> View<'a> {
    fn lock(self, until: Until) -> Result<Held<'a>, SyncError> {
        // Whether somebody died in there makes no difference (rule 1).
        self.permits.lock.lock_until(until)?.ok_or(SyncError::TimedOut)
    }

    /// The places that may be somebody's.
    fn used(self) -> &'a [Holder] {
        // Whatever another process wrote there.
        let used = self.permits.used.load(Ordering::Relaxed) as usize;
        &self.holders[..used.min(self.holders.len())]
    }

    fn held(self, _held: &Held<'_>) -> u64 {
        self.used()
            .iter()
            .fold(0, |sum, holder| sum.saturating_add(holder.held()))
    }

    fn free(self, held: &Held<'_>) -> u64 {
        let total = self.permits.total.load(Ordering::Relaxed);
        total.saturating_sub(self.held(held))
    }

    /// The place of a process, taken if it has none.
    fn place(self, _held: &Held<'_>, who: Identity) -> Result<&'a Holder, SyncError> {
        let mut free = None;
        for holder in self.used() {
            match holder.held() {
                0 => free = free.or(Some(holder)),
                _ if holder.is(who) => return Ok(holder),
                _ => {}
            }
        }
        let place = match free {
            Some(place) => place,
            None => {
                let used = self.used().len();
                let next = self.holders.get(used).ok_or(SyncError::Full(used))?;
                self.permits.used.store(used as u32 + 1, Ordering::Relaxed);
                next
            }
        };
        place.pid.store(who.pid, Ordering::Relaxed);
        place.start.store(who.start, Ordering::Relaxed);
        Ok(place)
    }

    /// Rule 3. Whether there was one.
    fn bury(self, _held: &Held<'_>) -> bool {
        let mut found = false;
        for holder in self.used() {
            if holder.held() > 0 && holder.who().has_ended() {
                holder.held.store(0, Ordering::Relaxed);
                found = true;
            }
        }
        if found {
            self.tell(u32::MAX);
        }
        found
    }

    fn tell(self, count: u32) {
        self.permits.changes.add(1);
        if self.permits.sleepers.load(Ordering::SeqCst) > 0 {
            self.permits.changes.wake(count);
        }
    }

    fn try_take(self, held: &Held<'_>, who: Identity) -> Result<bool, SyncError> {
        if self.free(held) == 0 {
            return Ok(false);
        }
        let place = match self.place(held, who) {
            Err(SyncError::Full(_)) if self.bury(held) => self.place(held, who)?,
            place => place?,
        };
        reach("semaphore.taking");
        place.held.store(place.held() + 1, Ordering::Relaxed);
        reach("semaphore.taken");
        Ok(true)
    }

    pub(crate) fn take(self, who: Identity, until: Until) -> Result<(), SyncError> {
        let mut held = self.lock(until)?;
        if self.try_take(&held, who)? {
            return Ok(());
        }
        let mut due = Instant::now() + PATROL;
        loop {
            if self.try_take(&held, who)? {
                return Ok(());
            }
            let over = until.is_over();
            // Loom finds what only a patrol would mend.
            if cfg!(not(loom)) && (over || Instant::now() >= due) {
                due = Instant::now() + PATROL;
                if self.bury(&held) {
                    continue;
                }
            }
            if over {
                return Err(SyncError::TimedOut);
            }
            let seen = self.permits.changes.load();
            self.permits.sleepers.fetch_add(1, Ordering::SeqCst);
            drop(held);
            self.permits.changes.sleep(seen, until.nap(PATROL));
            self.permits.sleepers.fetch_sub(1, Ordering::SeqCst);
            held = self.lock(until)?;
        }
    }

    /// A process gives back a permit that it holds; or spends it (rule 4).
    pub(crate) fn give_back(self, who: Identity, spend: bool) -> Result<(), SyncError> {
        let held = self.lock(Until::Forever)?;
        let place = self
            .used()
            .iter()
            .find(|holder| holder.held() > 0 && holder.is(who));
        let Some(place) = place else {
            return Ok(());
        };
        if spend {
            // First, so that a death before the second store has the same end.
            let total = self.permits.total.load(Ordering::Relaxed);
            self.permits
                .total
                .store(total.saturating_sub(1), Ordering::Relaxed);
            reach("semaphore.spending");
        }
        place.held.store(place.held() - 1, Ordering::Relaxed);
        if !spend {
            self.tell(1);
        }
        drop(held);
        Ok(())
    }

    pub(crate) fn release(self, given: u64) -> Result<(), SyncError> {
        let held = self.lock(Until::Forever)?;
        let bound = self.permits.bound.load(Ordering::Relaxed);
        let total = self.permits.total.load(Ordering::Relaxed);
        let more = total.checked_add(given).filter(|total| *total <= bound);
        let total = more.ok_or(SyncError::OverRelease { given, bound })?;
        self.permits.total.store(total, Ordering::Relaxed);
        reach("semaphore.released");
        self.tell(u32::try_from(given).unwrap_or(u32::MAX));
        drop(held);
        Ok(())
    }

    pub(crate) fn available(self) -> Result<u64, SyncError> {
        let held = self.lock(Until::Forever)?;
        Ok(self.free(&held))
    }
}

#[cfg(not(loom))]
mod shared;

#[cfg(not(loom))]
pub use shared::{BoundedSemaphore, Permit, Semaphore};

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    fn semaphore(total: u64) -> Arc<(Permits, Vec<Holder>)> {
        let permits = Permits::default();
        permits.total.store(total, Ordering::Relaxed);
        permits.bound.store(u64::MAX, Ordering::Relaxed);
        Arc::new((permits, vec![Holder::default(), Holder::default()]))
    }

    fn view(semaphore: &(Permits, Vec<Holder>)) -> View<'_> {
        View {
            permits: &semaphore.0,
            holders: &semaphore.1,
        }
    }

    const ME: Identity = Identity { pid: 1, start: 1 };
    const OTHER: Identity = Identity { pid: 2, start: 2 };

    #[test]
    fn one_permit_goes_from_hand_to_hand() {
        loom::model(|| {
            let semaphore = semaphore(1);
            let inside = Arc::new(AtomicU32::new(0));
            let turn = |semaphore: &(Permits, Vec<Holder>), inside: &AtomicU32, who| {
                view(semaphore).take(who, Until::Forever).expect("room");
                assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0);
                inside.fetch_sub(1, Ordering::Relaxed);
                view(semaphore).give_back(who, false).expect("held");
            };
            let (theirs, in_there) = (semaphore.clone(), inside.clone());
            let other = thread::spawn(move || turn(&theirs, &in_there, OTHER));
            turn(&semaphore, &inside, ME);
            other.join().expect("it is woken");
            assert_eq!(view(&semaphore).available().expect("whole"), 1);
        });
    }

    #[test]
    fn what_is_released_wakes_who_waits() {
        loom::model(|| {
            let semaphore = semaphore(0);
            let theirs = semaphore.clone();
            let other = thread::spawn(move || {
                view(&theirs).take(OTHER, Until::Forever).expect("room");
                view(&theirs).give_back(OTHER, true).expect("held");
            });
            view(&semaphore).release(1).expect("no bound");
            other.join().expect("it is woken");
            assert_eq!(view(&semaphore).available().expect("whole"), 0);
        });
    }
}
