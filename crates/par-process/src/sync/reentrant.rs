//! [`ReentrantMutex`]: a lock that its owner may take again.
//!
//! It is a [lock](super::locked) as [`Mutex`](super::Mutex) is. As a thread may have several guards at once, they give the content as a
//! [`Cell`]: no reference into it can be left over from an outer guard.
#![allow(unsafe_code)]

use super::error::LockError;
use super::locked::{Hold, Locked, lock_forms};
use super::seam::Until;
use crate::shared::Content;
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

/// A value in shared memory that one thread of one process has at a time; that thread may lock it again.
///
/// The guards give it as a [`Cell`], or as a cell of a slice, whose elements are cells ([`Cell::as_slice_of_cells`]). It is free again when
/// its owner has dropped all of them. It survives its owners as a [`Mutex`](super::Mutex) does.
///
/// ```
/// use par_process::sync::ReentrantMutex;
///
/// let level = ReentrantMutex::new(0_u32)?;
/// let outer = level.lock()?;
/// outer.set(1);
/// {
///     let inner = level.lock()?;
///     inner.set(inner.get() + 1);
/// }
/// assert_eq!(outer.get(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "RLock")]
pub struct ReentrantMutex<T: Content + ?Sized>(Locked<T, true>);

lock_forms!(
    ReentrantMutex,
    ReentrantMutexGuard,
    again: true,
    free: "Takes the lock if it is free, or this thread's.",
    errors: "[`LockError::Abandoned`] with the lock, if its last owner ended while it had it."
);

/// The content of a [`ReentrantMutex`], held until this is dropped. A thread gives back what it took itself.
#[must_use = "the lock is given back when this is dropped"]
pub struct ReentrantMutexGuard<'a, T: Content + ?Sized>(Hold<'a, T, true>);

impl<T: Content + ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = Cell<T>;

    fn deref(&self) -> &Cell<T> {
        let content = self.0.content().as_ptr() as *const Cell<T>;
        // SAFETY: a cell is laid out as its content. This thread has the lock, nobody reaches the content without it, and this
        // thread only through cells, which do not leave it.
        unsafe { &*content }
    }
}

impl<T: Content + ?Sized> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantMutexGuard").finish_non_exhaustive()
    }
}
