//! Slots: the storage that workers take inputs from and write outputs into, in place.
//!
//! A job hands out its parts as disjoint ranges, each to one claim, and a claim ends once. So every slot has one
//! owner at a time, and the accesses below need no lock. The rules that callers keep:
//!
//! 1. A range is touched only by the claim that holds it.
//! 2. A claim's last act on a range fixes its state (inputs: moved out or dropped; outputs: written or not).
//! 3. `take_all` is called once, after every claim has ended; the completion of the job orders it after them.

use std::cell::{Cell, UnsafeCell};
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

    /// Slots that hold the items of `items`, and as many empty ones of another type: in the same memory where the two types
    /// fit, so that a slot is emptied of its input before its output goes there, and half the memory is touched.
    pub(crate) fn full_and_empty<U>(items: Vec<T>) -> (Slots<T>, Slots<U>) {
        let full = Slots::full(items);
        if !fits::<T, U>() {
            let empty = Slots::empty(full.len);
            return (full, empty);
        }
        // From here on the memory belongs to the second, and the first only reaches into it.
        full.taken.store(true, Ordering::Relaxed);
        let empty = Slots {
            start: full.start.cast(),
            len: full.len,
            capacity: full.capacity,
            taken: AtomicBool::new(false),
        };
        (full, empty)
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

    /// The slots of a range, for a loop over them: checked once, and free of everything that the loop would have to load
    /// again.
    pub(crate) fn run(&self, range: Range<usize>) -> Run<T> {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "slots {range:?} of {}",
            self.len
        );
        // SAFETY: within the allocation, by the assertion.
        let start = unsafe { self.start.add(range.start) };
        Run {
            start,
            len: range.len(),
        }
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

    /// Whether `take_all` was called.
    pub(crate) fn were_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
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

/// What the claim of a job of one part owns: one slot, whatever is in it.
pub(crate) struct Owned<T>(UnsafeCell<T>);

// SAFETY: as for `Slots`.
unsafe impl<T: Send> Sync for Owned<T> {}

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Owned(UnsafeCell::new(value))
    }

    /// What is in it, to read.
    ///
    /// # Safety
    /// The caller holds the job's claim, and changes nothing while the reference lives.
    pub(crate) unsafe fn peek(&self) -> &T {
        // SAFETY: nobody writes by the caller's promise.
        unsafe { &*self.0.get() }
    }

    /// What is in it.
    ///
    /// # Safety
    /// The caller holds the job's claim, or the job is done by the end of its claim and nobody else reaches for this; and the
    /// reference before this one is not used any more.
    #[expect(clippy::mut_from_ref, reason = "the claim is what is exclusive")]
    pub(crate) unsafe fn get(&self) -> &mut T {
        // SAFETY: unshared by the caller's promise.
        unsafe { &mut *self.0.get() }
    }
}

/// Whether values of one type may take the place of those of the other.
const fn fits<T, U>() -> bool {
    size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()
}

/// A range of slots; indexes count from its start.
pub(crate) struct Run<T> {
    start: *mut MaybeUninit<T>,
    len: usize,
}

impl<T> Run<T> {
    /// The same range of the empty slots that [`Slots::full_and_empty`] made in the memory of these, if it did. A loop over both
    /// then has one pointer, by which the optimiser sees that no slot but the one that was read is written.
    pub(crate) fn in_place<U>(&self) -> Option<Run<U>> {
        fits::<T, U>().then(|| Run {
            start: self.start.cast(),
            len: self.len,
        })
    }

    /// Moves the value out of a full slot.
    ///
    /// # Safety
    /// The slots still exist, the caller's claim holds this one, it is one of the run and full; afterwards it is empty.
    #[inline(always)]
    pub(crate) unsafe fn take(&self, index: usize) -> T {
        debug_assert!(index < self.len, "slot {index} of {}", self.len);
        // SAFETY: in bounds, full and unshared by the caller's promise.
        unsafe { self.start.add(index).read().assume_init() }
    }

    /// Fills an empty slot.
    ///
    /// # Safety
    /// The slots still exist, the caller's claim holds this one, it is one of the run and empty.
    #[inline(always)]
    pub(crate) unsafe fn put(&self, index: usize, value: T) {
        debug_assert!(index < self.len, "slot {index} of {}", self.len);
        // SAFETY: in bounds and unshared by the caller's promise.
        unsafe { self.start.add(index).write(MaybeUninit::new(value)) }
    }
}

/// Where a loop over slots is. It is told to the outside when the loop ends, also by a panic; within the loop it is a plain
/// variable, which the optimiser can keep in a register.
pub(crate) struct Progress<'a> {
    pub(crate) at: usize,
    told: &'a Cell<usize>,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(told: &'a Cell<usize>) -> Self {
        Progress { at: 0, told }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        self.told.set(self.at);
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
    fn outputs_may_take_the_place_of_inputs() {
        let input = vec![Box::new(1u64), Box::new(2), Box::new(3)];
        let memory = input.as_ptr().cast::<u8>();
        let (full, empty) = Slots::full_and_empty::<Box<[u8; 4]>>(input);
        // SAFETY: one thread, each slot emptied before it is filled.
        unsafe {
            for index in 0..3 {
                let value = full.take(index);
                empty.run(0..3).put(index, Box::new([*value as u8; 4]));
            }
            let all = empty.take_all();
            assert_eq!(all.as_ptr().cast(), memory);
            assert_eq!(all, [1u8, 2, 3].map(|byte| Box::new([byte; 4])));
        }
        let (full, empty) = Slots::full_and_empty::<u8>(vec![7u32]);
        // SAFETY: as above.
        unsafe {
            empty.put(0, full.take(0) as u8);
            assert_eq!(empty.take_all(), [7]);
        }
    }

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
