//! A ring of slots: what a first-in-first-out queue with a bound keeps its items in, without a lock (Vyukov's bounded queue).
//!
//! 1. Positions count up for ever. An item's position is taken from `tail`, by who puts it, and from `head`, by who gets it; its slot is the
//!    position modulo the number of slots, a power of two, and two at least.
//! 2. The stamp of a slot says whose turn it is: `p` that of who puts the item of position `p`, `p + 1` that of who gets it. Who gets it
//!    stamps the slot for the next round. So a slot is touched by one thread at a time: the one that took the position.
//! 3. Who took a position and has not stamped keeps those waiting who need that slot, for a few instructions, unless the system stops it there.
//! 4. There may be more slots than room: room is what is between `tail` and `head`, as last seen by who puts.
//! 5. A bit of `tail` says that no more is put; nobody takes a position from then on.

use crate::sync_seam::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
use crossbeam_utils::Backoff;

use super::{Apart, apart};
#[cfg(loom)]
use loom::cell::UnsafeCell;
#[cfg(not(loom))]
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

/// Rule 5. So many are never put.
const SHUT: u64 = 1 << 63;

pub(super) struct Ring<T> {
    tail: Apart<Tail>,
    head: Apart<AtomicU64>,
    room: u64,
    slots: Box<[Stamped<T>]>,
}

struct Tail {
    next: AtomicU64,
    /// The head, when somebody who puts last looked.
    head: AtomicU64,
}

struct Stamped<T> {
    stamp: AtomicU64,
    item: Slot<T>,
}

/// Room for an item.
struct Slot<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: one thread at a time touches it (rule 2), which may be any.
#[allow(unsafe_code, reason = "items go from thread to thread")]
unsafe impl<T: Send> Sync for Slot<T> {}

#[allow(unsafe_code, reason = "whether there is an item, the stamp says")]
impl<T> Slot<T> {
    fn new() -> Self {
        Slot(UnsafeCell::new(MaybeUninit::uninit()))
    }

    #[inline]
    fn with<R>(&self, work: impl FnOnce(*mut MaybeUninit<T>) -> R) -> R {
        #[cfg(not(loom))]
        return work(self.0.get());
        #[cfg(loom)]
        self.0.with_mut(work)
    }

    /// # Safety
    /// It is the caller's turn to put.
    #[inline]
    unsafe fn put(&self, item: T) {
        // SAFETY: by rule 2 nobody else touches it; there is no item in it.
        self.with(|slot| unsafe {
            (*slot).write(item);
        });
    }

    /// # Safety
    /// It is the caller's turn to get.
    #[inline]
    unsafe fn take(&self) -> T {
        // SAFETY: by rule 2 nobody else touches it, and who put has written it.
        self.with(|slot| unsafe { (*slot).assume_init_read() })
    }
}

/// Why an item was not put, or not got.
#[derive(Debug, PartialEq)]
pub(super) enum Not<T> {
    Now(T),
    Ever(T),
}

/// A moment, for rule 3.
struct Moment(#[cfg(not(loom))] Backoff);

impl Moment {
    fn new() -> Self {
        Moment(
            #[cfg(not(loom))]
            Backoff::new(),
        )
    }

    /// Another was quicker.
    #[inline]
    fn spin(&self) {
        #[cfg(not(loom))]
        self.0.spin();
        #[cfg(loom)]
        loom::thread::yield_now();
    }

    /// Another must go on first.
    #[inline]
    fn snooze(&self) {
        #[cfg(not(loom))]
        self.0.snooze();
        #[cfg(loom)]
        loom::thread::yield_now();
    }
}

/// For more room the slots are not made before they are needed.
const MOST: usize = 1 << 16;

impl<T> Ring<T> {
    /// A ring, where that much room is worth one.
    pub(super) fn fits(room: usize) -> Option<Self> {
        (1..=MOST).contains(&room).then(|| Ring::new(room))
    }

    fn new(room: usize) -> Self {
        let slots = room.next_power_of_two().max(2) as u64;
        Ring {
            tail: apart(Tail {
                next: AtomicU64::new(0),
                head: AtomicU64::new(0),
            }),
            head: apart(AtomicU64::new(0)),
            room: room as u64,
            slots: (0..slots)
                .map(|position| Stamped {
                    stamp: AtomicU64::new(position),
                    item: Slot::new(),
                })
                .collect(),
        }
    }

    #[inline]
    fn slot(&self, position: u64) -> &Stamped<T> {
        // The number of slots is a power of two, and fits.
        &self.slots[(position & (self.slots.len() as u64 - 1)) as usize]
    }

    /// How many were put.
    #[inline]
    pub(super) fn put(&self) -> u64 {
        self.tail.next.load(Ordering::SeqCst) & !SHUT
    }

    /// How many were got.
    #[inline]
    pub(super) fn got(&self) -> u64 {
        self.head.load(Ordering::SeqCst)
    }

    /// Whether there is room behind that tail (rule 4).
    #[inline]
    fn has_room(&self, tail: u64) -> bool {
        // A tail that is old may be before the head.
        let room = |head: u64| tail.wrapping_sub(head) < self.room;
        room(self.tail.head.load(Ordering::Relaxed)) || {
            let head = self.head.load(Ordering::SeqCst);
            self.tail.head.store(head, Ordering::Relaxed);
            room(head)
        }
    }

    #[inline]
    pub(super) fn push(&self, item: T) -> Result<(), Not<T>> {
        let moment = Moment::new();
        let mut tail = self.tail.next.load(Ordering::Relaxed);
        loop {
            if tail & SHUT != 0 {
                return Err(Not::Ever(item));
            }
            if !self.has_room(tail) {
                let now = self.tail.next.load(Ordering::SeqCst);
                if now == tail {
                    return Err(Not::Now(item));
                }
                tail = now;
                continue;
            }
            let slot = self.slot(tail);
            if slot.stamp.load(Ordering::Acquire) != tail {
                // Who gets the item of the round before has not ended, or the tail is old.
                moment.snooze();
                tail = self.tail.next.load(Ordering::Relaxed);
                continue;
            }
            let taken =
                self.tail
                    .next
                    .compare_exchange_weak(tail, tail + 1, Ordering::SeqCst, Ordering::Relaxed);
            match taken {
                Ok(_) => {
                    // SAFETY: the stamp said so, and the position is ours alone now.
                    #[allow(unsafe_code, reason = "rule 2")]
                    unsafe {
                        slot.item.put(item);
                    }
                    slot.stamp.store(tail + 1, Ordering::Release);
                    return Ok(());
                }
                Err(now) => tail = now,
            }
            moment.spin();
        }
    }

    #[inline]
    pub(super) fn pop(&self) -> Result<T, Not<()>> {
        let moment = Moment::new();
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(head);
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == head + 1 {
                let taken =
                    self.head
                        .compare_exchange_weak(head, head + 1, Ordering::SeqCst, Ordering::Relaxed);
                match taken {
                    Ok(_) => {
                        // SAFETY: the stamp said so, and the position is ours alone now.
                        #[allow(unsafe_code, reason = "rule 2")]
                        let item = unsafe { slot.item.take() };
                        slot.stamp
                            .store(head + self.slots.len() as u64, Ordering::Release);
                        return Ok(item);
                    }
                    Err(now) => head = now,
                }
                moment.spin();
                continue;
            }
            if stamp == head {
                fence(Ordering::SeqCst);
                let tail = self.tail.next.load(Ordering::Relaxed);
                if tail & !SHUT == head {
                    let shut = tail & SHUT != 0;
                    return Err(if shut { Not::Ever(()) } else { Not::Now(()) });
                }
            }
            // Who puts the item has not ended, or the head is old.
            moment.snooze();
            head = self.head.load(Ordering::Relaxed);
        }
    }

    /// Rule 5.
    pub(super) fn shut(&self) {
        self.tail.next.fetch_or(SHUT, Ordering::SeqCst);
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        while self.pop().is_ok() {}
    }
}
