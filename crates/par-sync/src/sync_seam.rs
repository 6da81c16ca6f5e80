//! The seam through which the protocols of this crate reach atomics, locks and parking, so that loom can replace them.

#[cfg(not(loom))]
mod real {
    pub(crate) use std::sync::atomic::{AtomicUsize, Ordering, fence};
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::{Thread, current, park};
}

#[cfg(loom)]
mod real {
    pub(crate) use loom::sync::atomic::{AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use loom::thread::{Thread, current, park};
}

pub(crate) use real::{AtomicUsize, Condvar, Mutex, Ordering, Thread, current, fence, park};

use real::MutexGuard;
use std::sync::PoisonError;

/// Locks; what these locks guard is never left half changed by a panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a notification.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
