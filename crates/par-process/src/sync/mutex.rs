//! [`Mutex`]: a value that one thread of one process has at a time. How it works, and its calls, stand in [`locked`](super::locked).
#![allow(unsafe_code)]

use super::error::LockError;
use super::locked::{Hold, Locked, lock_forms};
use super::seam::Until;
use crate::shared::Content;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A value in shared memory that one thread of one process has at a time.
///
/// It survives those who hold it: if the owner is killed, ends or panics, the next gets the lock together with word of that, as
/// [`LockError::Abandoned`], mends the value and goes on. `lock()?` stops there instead.
///
/// ```
/// use par_process::{Process, sync::{LockError, Mutex}};
///
/// let count = Mutex::new(0_u64)?;
/// let add = |count: Mutex<u64>| *count.lock().expect("nobody dies") += 1;
/// let children: Result<Vec<_>, _> = (0..3).map(|_| Process::of_fn(count.clone(), add).start()).collect();
/// for child in children? {
///     assert_eq!(child.join()?, 0);
/// }
/// assert_eq!(*count.lock()?, 3);
///
/// let child = Process::of_fn(count.clone(), |count: Mutex<u64>| {
///     let mut count = count.lock().expect("nobody died yet");
///     *count = 1_000_000;
///     std::process::abort();
/// });
/// child.start()?.join()?;
/// let mut count = match count.lock() {
///     Err(LockError::Abandoned(mut guard)) => {
///         **guard = 3;
///         guard.repaired()
///     }
///     other => panic!("{other:?}"),
/// };
/// *count += 1;
/// assert_eq!(*count, 4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A thread that locks it again gets [`LockError::Deadlock`]; [`ReentrantMutex`](super::ReentrantMutex) lets it.
#[doc(alias = "Lock")]
pub struct Mutex<T: Content + ?Sized>(Locked<T, false>);

/// A value in shared memory with a lock.
///
/// ```
/// use par_process::SharedValue;
///
/// let total = SharedValue::new(1.5)?;
/// *total.lock()? += 1.0;
/// assert_eq!(*total.lock()?, 2.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Value")]
pub type SharedValue<T> = Mutex<T>;

/// Numbers, or other plain values, in shared memory with one lock, which gives them as a slice.
///
/// ```
/// use par_process::{Process, SharedArray};
///
/// let numbers = SharedArray::from_slice(&[3, 1, 2])?;
/// let child = Process::of_fn(numbers.clone(), |numbers: SharedArray<i32>| numbers.lock().unwrap().sort());
/// assert_eq!(child.start()?.join()?, 0);
/// assert_eq!(*numbers.lock()?, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "Array")]
pub type SharedArray<T> = Mutex<[T]>;

lock_forms!(
    Mutex,
    MutexGuard,
    again: false,
    free: "Takes the lock if it is free.",
    errors: "[`LockError::Abandoned`] with the lock, if its last owner ended while it had it; [`LockError::Deadlock`] if this thread has it."
);

/// The content of a [`Mutex`], held until this is dropped. A thread gives back what it took itself.
#[must_use = "the lock is given back when this is dropped"]
pub struct MutexGuard<'a, T: Content + ?Sized>(pub(super) Hold<'a, T, false>);

// SAFETY: it gives no more than its content, which may be shared between threads (`Content`).
unsafe impl<T: Content + ?Sized> Sync for MutexGuard<'_, T> {}

impl<T: Content + ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this thread has the lock, and nobody reaches the content without it.
        unsafe { self.0.content().as_ref() }
    }
}

impl<T: Content + ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and nobody else has this guard meanwhile; a thread that has the lock does not get it again.
        unsafe { self.0.content().as_mut() }
    }
}

impl<T: Content + ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
