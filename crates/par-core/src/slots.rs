//! Slots: the storage that workers take inputs from and write outputs into, in place.
//!
//! A job hands out its parts as disjoint ranges, each to one claim, and a claim ends once. So every slot has one
//! owner at a time, and the accesses below need no lock. The rules that callers keep:
//!
//! 1. A range is touched only by the claim that holds it.
//! 2. A claim's last act on a range fixes its state (inputs: moved out or dropped; outputs: written or not).
//! 3. `take_all` is called once, after every claim has ended; the completion of the job orders it after them.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) struct Slots<T> {
    start: *mut MaybeUninit<T>,
    len: usize,
    capacity: usize,
    taken: AtomicBool,
}

// SAFETY: slots are reached only through disjoint claims (rules 1 and 2), so a `Slots` shared between threads moves
// its values from thread to thread and never shares one.
unsafe impl<T: Send> Send for Slots<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Slots<T> {
    /// Slots that hold the items of `items`, without copying them.
    pub(crate) fn full(items: Vec<T>) -> Self {
        let mut items = ManuallyDrop::new(items);
        Slots {
            start: items.as_mut_ptr().cast(),
            len: items.len(),
            capacity: items.capacity(),
            taken: AtomicBool::new(false),
        }
    }

    /// `len` slots that hold nothing yet.
    pub(crate) fn empty(len: usize) -> Self {
        let mut space = ManuallyDrop::new(Vec::<T>::with_capacity(len));
        Slots {
            start: space.as_mut_ptr().cast(),
            len,
            capacity: space.capacity(),
            taken: AtomicBool::new(false),
        }
    }

    fn at(&self, index: usize) -> *mut MaybeUninit<T> {
        assert!(index < self.len, "slot {index} of {}", self.len);
        // SAFETY: within the allocation, by the assertion.
        unsafe { self.start.add(index) }
    }

    /// Moves the value out of a full slot.
    ///
    /// # Safety
    /// The caller's claim holds `index` and the slot is full; afterwards it counts as empty.
    pub(crate) unsafe fn take(&self, index: usize) -> T {
        // SAFETY: full by the caller's promise, and in bounds by `at`.
        unsafe { self.at(index).read().assume_init() }
    }

    /// Reads a full slot in place.
    ///
    /// # Safety
    /// The caller's claim holds `index`, the slot is full and stays so while the reference lives.
    pub(crate) unsafe fn peek(&self, index: usize) -> &T {
        // SAFETY: full and unshared by the caller's promise.
        unsafe { (*self.at(index)).assume_init_ref() }
    }

    /// Fills an empty slot.
    ///
    /// # Safety
    /// The caller's claim holds `index` and the slot is empty.
    pub(crate) unsafe fn put(&self, index: usize, value: T) {
        // SAFETY: unshared by the caller's promise, in bounds by `at`.
        unsafe { self.at(index).write(MaybeUninit::new(value)) }
    }

    /// Drops the values of full slots.
    ///
    /// # Safety
    /// The caller's claim holds `range` and all of its slots are full; afterwards they count as empty.
    pub(crate) unsafe fn clear(&self, range: Range<usize>) {
        if std::mem::needs_drop::<T>() {
            for index in range {
                // SAFETY: as the caller promises.
                drop(unsafe { self.take(index) });
            }
        }
    }

    /// All values, as a vector over the same memory.
    ///
    /// # Safety
    /// Every slot is full, every claim has ended, and this is the first call.
    pub(crate) unsafe fn take_all(&self) -> Vec<T> {
        assert!(!self.taken.swap(true, Ordering::AcqRel), "slots were taken twice");
        // SAFETY: the parts come from a vector, all `len` elements are initialised by the caller's promise, and the flag
        // keeps `drop` from freeing them again.
        unsafe { Vec::from_raw_parts(self.start.cast(), self.len, self.capacity) }
    }
}

impl<T> Drop for Slots<T> {
    fn drop(&mut self) {
        if !*self.taken.get_mut() {
            // SAFETY: the parts come from a vector. Length 0: whoever owns the slots has cleared the full ones.
            drop(unsafe { Vec::<T>::from_raw_parts(self.start.cast(), 0, self.capacity) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_move_through_without_copies_or_leaks() {
        let slots = Slots::full(vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]);
        let out = Slots::empty(2);
        // SAFETY: one thread, each slot used as the rules say.
        unsafe {
            out.put(0, slots.take(2));
            out.put(1, slots.peek(1).clone());
            slots.clear(0..2);
            assert_eq!(out.take_all(), ["c", "b"]);
        }
    }
}
