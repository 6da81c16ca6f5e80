//! [`ReentrantMutex`]: a lock that its owner may take again.
//!
//! The rules are those of [`Mutex`](super::mutex). As a thread may have several guards at once, they give the content as a
//! [`Cell`]: no reference into it can be left over from an outer guard.
#![allow(unsafe_code)]

use super::error::{Abandoned, LockError, Repair};
use super::mutex::Locked;
use super::seam::Until;
use crate::shared::header::Spec;
use crate::shared::segment::Segment;
use crate::shared::token::{Handle, shared_handle};
use crate::shared::{Content, SharedError, SharedOptions};
use bytemuck::Pod;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

const KIND: &str = "ReentrantMutex";

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

impl<T: Pod + Send + Sync> ReentrantMutex<T> {
    /// Shares a value.
    ///
    /// # Errors
    /// When the system has no memory or no file left.
    pub fn new(value: T) -> Result<Self, SharedError> {
        Locked::new(KIND, 1, SharedOptions::new(), |place| *place = value).map(ReentrantMutex)
    }
}

impl<T: Pod + Send + Sync> ReentrantMutex<[T]> {
    /// Shares a copy of these values.
    ///
    /// # Errors
    /// When the system has no memory or no file left.
    pub fn from_slice(values: &[T]) -> Result<Self, SharedError> {
        let fill = |place: &mut [T]| place.copy_from_slice(values);
        Locked::new(KIND, values.len(), SharedOptions::new(), fill).map(ReentrantMutex)
    }
}

impl<T: Content + ?Sized> ReentrantMutex<T> {
    /// Waits for the lock.
    ///
    /// # Errors
    /// [`LockError::Abandoned`] with the lock, if its last owner ended while it had it.
    #[doc(alias = "acquire")]
    pub fn lock(&self) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.lock_until(Until::Forever)
    }

    /// Takes the lock if it is free, or this thread's.
    ///
    /// # Errors
    /// [`LockError::Busy`] if it is not, and as [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.lock_until(Until::Now)
    }

    /// Waits for the lock, at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::Busy`] past that, and as [`lock`](Self::lock).
    pub fn lock_timeout(
        &self,
        timeout: Duration,
    ) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        self.lock_until(Until::after(timeout))
    }

    fn lock_until(
        &self,
        until: Until,
    ) -> Result<ReentrantMutexGuard<'_, T>, LockError<ReentrantMutexGuard<'_, T>>> {
        let clean = self.0.lock(until)?;
        let guard = ReentrantMutexGuard {
            mutex: self,
            panicking: thread::panicking(),
            here: PhantomData,
        };
        if clean {
            Ok(guard)
        } else {
            Err(LockError::Abandoned(Abandoned::new(guard)))
        }
    }
}

impl<T: Content + ?Sized> Handle for ReentrantMutex<T> {
    fn expected() -> Spec {
        Locked::<T, true>::spec(KIND, 1)
    }
    fn segment(&self) -> &Arc<Segment> {
        self.0.segment()
    }
    fn of(segment: Arc<Segment>) -> Self {
        ReentrantMutex(Locked::of(segment))
    }
}

shared_handle!(ReentrantMutex<T: [Content + ?Sized]>);

impl<T: Content + ?Sized> fmt::Debug for ReentrantMutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantMutex").finish_non_exhaustive()
    }
}

/// The content of a [`ReentrantMutex`], held until this is dropped. A thread gives back what it took itself.
#[must_use = "the lock is given back when this is dropped"]
pub struct ReentrantMutexGuard<'a, T: Content + ?Sized> {
    mutex: &'a ReentrantMutex<T>,
    panicking: bool,
    /// A lock belongs to a thread, and so do cells.
    here: PhantomData<*const ()>,
}

impl<T: Content + ?Sized> Deref for ReentrantMutexGuard<'_, T> {
    type Target = Cell<T>;

    fn deref(&self) -> &Cell<T> {
        let content = self.mutex.0.content.as_ptr() as *const Cell<T>;
        // SAFETY: a cell is laid out as its content, which is mapped as long as the mutex lives. This thread has the lock, nobody
        // reaches the content without it, and this thread only through cells, which do not leave it.
        unsafe { &*content }
    }
}

impl<T: Content + ?Sized> Repair for ReentrantMutexGuard<'_, T> {
    fn repair(&self) {
        self.mutex.0.repair();
    }
}

impl<T: Content + ?Sized> Drop for ReentrantMutexGuard<'_, T> {
    fn drop(&mut self) {
        let panicked = !self.panicking && thread::panicking();
        self.mutex.0.unlock(panicked);
    }
}

impl<T: Content + ?Sized> fmt::Debug for ReentrantMutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReentrantMutexGuard").finish_non_exhaustive()
    }
}
