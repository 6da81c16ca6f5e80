//! Copies into and out of memory that others may write at the same time.
//!
//! Such copies go word by word through relaxed atomics, the same words for a type in every process: a race is then no undefined behaviour,
//! and a value of one word (any number of up to 8 bytes) is never torn. A larger one may be, into words.
#![allow(unsafe_code)]

use bytemuck::Pod;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Bytes of the words that a type is copied in: a divisor of its size.
const fn word<T>() -> usize {
    let align = align_of::<T>();
    if align > 8 { 8 } else { align }
}

/// Which way a copy goes.
trait Way {
    /// # Safety
    /// Both must be valid for their accesses: the shared one for atomic ones, the other for plain ones.
    unsafe fn word<W: Word>(shared: *mut W, plain: *mut W);
}

/// From the shared memory.
struct Out;
/// Into the shared memory.
struct In;

impl Way for Out {
    unsafe fn word<W: Word>(shared: *mut W, plain: *mut W) {
        // SAFETY: the caller's.
        unsafe { plain.write(W::load(shared)) };
    }
}

impl Way for In {
    unsafe fn word<W: Word>(shared: *mut W, plain: *mut W) {
        // SAFETY: the caller's.
        unsafe { W::store(shared, plain.read()) };
    }
}

/// An unsigned number with an atomic of its size.
trait Word: Copy {
    /// # Safety
    /// The place must be aligned and valid for atomic accesses.
    unsafe fn load(place: *mut Self) -> Self;
    /// # Safety
    /// As for `load`.
    unsafe fn store(place: *mut Self, value: Self);
}

macro_rules! words {
    ($($number:ty, $atomic:ty);*) => {$(
        impl Word for $number {
            #[inline]
            unsafe fn load(place: *mut Self) -> Self {
                // SAFETY: the caller's; the atomic is used for no longer than this call.
                unsafe { <$atomic>::from_ptr(place) }.load(Relaxed)
            }
            #[inline]
            unsafe fn store(place: *mut Self, value: Self) {
                // SAFETY: as above.
                unsafe { <$atomic>::from_ptr(place) }.store(value, Relaxed);
            }
        }
    )*};
}
words!(u8, AtomicU8; u16, AtomicU16; u32, AtomicU32; u64, AtomicU64);

/// # Safety
/// As for `Way::word`, for `count` values of type `T`.
unsafe fn copy<T: Pod, D: Way>(shared: *mut T, plain: *mut T, count: usize) {
    /// # Safety
    /// As above, for as many words.
    unsafe fn words<W: Word, D: Way>(shared: *mut W, plain: *mut W, count: usize) {
        for at in 0..count {
            // SAFETY: within both, by the caller's word.
            unsafe { D::word(shared.add(at), plain.add(at)) };
        }
    }
    let count = count * size_of::<T>() / word::<T>();
    // SAFETY: a type's size is a multiple of its alignment, so that the words are its bytes; each word is aligned as its type is.
    // Both hold plain data without padding (`Pod`).
    unsafe {
        match word::<T>() {
            8 => words::<u64, D>(shared.cast(), plain.cast(), count),
            4 => words::<u32, D>(shared.cast(), plain.cast(), count),
            2 => words::<u16, D>(shared.cast(), plain.cast(), count),
            _ => words::<u8, D>(shared.cast(), plain.cast(), count),
        }
    }
}

/// A copy of what is there.
///
/// # Safety
/// The place must be aligned, mapped and writable, and accessed by others through these functions only, or atomically.
pub(super) unsafe fn load<T: Pod>(shared: *mut T) -> T {
    let mut value = MaybeUninit::uninit();
    // SAFETY: the caller's for the place; the other one is a local. After the copy all its bytes are written, and any are valid.
    unsafe {
        copy::<T, Out>(shared, value.as_mut_ptr(), 1);
        value.assume_init()
    }
}

/// Copies what is there.
///
/// # Safety
/// As for [`load`], for as many values as the slice has.
pub(super) unsafe fn load_all<T: Pod>(shared: *mut T, values: &mut [T]) {
    // SAFETY: the caller's.
    unsafe { copy::<T, Out>(shared, values.as_mut_ptr(), values.len()) };
}

/// Writes there.
///
/// # Safety
/// As for [`load`], for as many values as the slice has.
pub(super) unsafe fn store_all<T: Pod>(shared: *mut T, values: &[T]) {
    // SAFETY: the caller's; the values are only read.
    unsafe { copy::<T, In>(shared, values.as_ptr().cast_mut(), values.len()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: Pod + PartialEq + std::fmt::Debug>(values: &[T]) {
        let mut memory = vec![T::zeroed(); values.len() + 1];
        let mut back = vec![T::zeroed(); values.len()];
        let place = memory.as_mut_ptr();
        // SAFETY: the memory holds one more value than is copied, and nobody else has it.
        unsafe {
            store_all(place.add(1), values);
            load_all(place.add(1), &mut back);
            assert_eq!(load(place), T::zeroed());
            assert_eq!(load(place.add(1)), values[0]);
        }
        assert_eq!(back, values);
        assert_eq!(memory[1..], *values);
    }

    #[test]
    fn what_is_stored_is_loaded() {
        round(&[1_u8, 2, 3]);
        round(&[-1_i16, 2]);
        round(&[1.5_f32, -2.5, 3.0]);
        round(&[u64::MAX, 1]);
        round(&[[1_u8, 2, 3], [4, 5, 6]]);
        round(&[u128::MAX, 7]);
        round(&[[1_u32; 5], [2; 5]]);
    }

    #[test]
    fn what_has_no_size_is_nothing() {
        round(&[[0_u32; 0]]);
    }
}
