//! What can lie in shared memory: plain values, and slices of them.
#![allow(unsafe_code)]

use super::header::Spec;
use bytemuck::Pod;
use std::any::type_name;
use std::ptr::NonNull;

/// What can lie in shared memory: any [`Pod`] type, or a slice of one.
///
/// Such types hold no pointers, have no padding, and are valid whatever their bits are, so that no other process can make them unsound.
/// Derive it for a type of your own: `#[derive(Clone, Copy, Pod, Zeroable)] #[repr(C)] #[bytemuck(crate = "par_process::bytemuck")]`.
pub trait Content: sealed::Sealed {
    /// The type of one element; of a single value, its own.
    type Element: Pod + Send + Sync;
}

impl<T: Pod + Send + Sync> Content for T {
    type Element = T;
}

impl<T: Pod + Send + Sync> Content for [T] {
    type Element = T;
}

pub(crate) mod sealed {
    use super::{NonNull, Pod};

    /// # Safety
    /// `place` must give a pointer to a value that consists of `count` elements from `start` on.
    pub unsafe trait Sealed {
        /// The value that begins here and has as many elements.
        #[doc(hidden)]
        fn place(start: NonNull<u8>, count: usize) -> NonNull<Self>;
        /// Whether it is a single value.
        #[doc(hidden)]
        const SINGLE: bool;
    }

    // SAFETY: a single value is one element; segments of single values have a count of one.
    unsafe impl<T: Pod + Send + Sync> Sealed for T {
        fn place(start: NonNull<u8>, _count: usize) -> NonNull<Self> {
            start.cast()
        }
        const SINGLE: bool = true;
    }

    // SAFETY: a slice is its elements.
    unsafe impl<T: Pod + Send + Sync> Sealed for [T] {
        fn place(start: NonNull<u8>, count: usize) -> NonNull<Self> {
            NonNull::slice_from_raw_parts(start.cast(), count)
        }
        const SINGLE: bool = false;
    }
}

/// How `count` elements of a type lie behind a head of `head` bytes.
pub(crate) fn spec<T: Content + ?Sized>(kind: &str, head: usize, count: usize) -> Spec {
    Spec {
        text: format!("{kind}<{}>", type_name::<T>()),
        head,
        count,
        exact: T::SINGLE,
        size: size_of::<T::Element>(),
        align: align_of::<T::Element>(),
    }
}
