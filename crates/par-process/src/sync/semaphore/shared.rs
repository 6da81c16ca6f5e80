//! The semaphores that users have: permits in shared memory.

use super::super::PLACES;
use super::super::identity::Identity;
use super::super::memory::Memory;
use super::super::seam::{Ordering, Until};
use super::{Permits, SyncError, View};
use crate::shared::SharedError;
use crate::shared::header::Spec;
use crate::shared::segment::Segment;
use crate::shared::token::{Handle, shared_handle};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

impl Memory<Permits> {
    fn made(kind: &str, permits: u64, bound: u64, places: usize) -> Result<Self, SharedError> {
        Memory::new(kind, places, |head: &Permits| {
            head.total.store(permits, Ordering::Relaxed);
            head.bound.store(bound, Ordering::Relaxed);
        })
    }

    fn view(&self) -> View<'_> {
        View {
            permits: self.head(),
            holders: self.places(),
        }
    }

    fn acquire(&self, until: Until) -> Result<Permit<'_>, SyncError> {
        let who = Identity::own()?;
        self.view().take(who, until)?;
        Ok(Permit { memory: self, who })
    }
}

/// A permit of a semaphore, given back when this is dropped, or when the process ends, however it ends.
#[must_use = "the permit is given back when this is dropped"]
pub struct Permit<'a> {
    memory: &'a Memory<Permits>,
    who: Identity,
}

impl Permit<'_> {
    /// Spends the permit: it comes back by `release` alone, and no death brings it back.
    #[doc(alias = "acquire")]
    pub fn spend(self) {
        // Held as it is, the permit is there to be spent; a lock that fails for good leaves it to the table.
        let _ = self.memory.view().give_back(self.who, true);
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let _ = self.memory.view().give_back(self.who, false);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}

/// The calls that both semaphores have.
macro_rules! semaphore {
    ($type:ident, $kind:literal) => {
        impl $type {
            /// Waits for a permit.
            ///
            /// # Errors
            /// [`SyncError::Full`] if more processes hold permits than the table has places.
            pub fn acquire(&self) -> Result<Permit<'_>, SyncError> {
                self.0.acquire(Until::Forever)
            }

            /// Takes a permit if one is free; those of processes that have ended are.
            ///
            /// # Errors
            /// [`SyncError::TimedOut`] if none is, and as [`acquire`](Self::acquire).
            pub fn try_acquire(&self) -> Result<Permit<'_>, SyncError> {
                self.0.acquire(Until::Now)
            }

            /// Waits for a permit, at most for `timeout`.
            ///
            /// # Errors
            /// [`SyncError::TimedOut`] past that, and as [`acquire`](Self::acquire).
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, SyncError> {
                self.0.acquire(Until::after(timeout))
            }

            /// How many permits are free. Those of processes that have ended are found by those who wait.
            ///
            /// # Errors
            /// What the system says if the table cannot be locked.
            #[doc(alias = "get_value")]
            pub fn available(&self) -> Result<u64, SyncError> {
                self.0.view().available()
            }
        }

        impl Handle for $type {
            fn expected() -> Spec {
                Memory::<Permits>::spec($kind, 0)
            }
            fn segment(&self) -> &Arc<Segment> {
                self.0.segment()
            }
            fn of(segment: Arc<Segment>) -> Self {
                $type(Memory::of(segment))
            }
        }

        shared_handle!($type);

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct($kind)
                    .field("available", &self.available().ok())
                    .finish()
            }
        }
    };
}

/// Permits that processes take and give back.
///
/// What a process holds is written down beside the semaphore: when it ends, however it ends, its permits are free again, and those
/// who wait get them within about 100 ms. (Python loses them.) Where permits are a count of things that one side produces and another
/// uses up, [spend](Permit::spend) them.
///
/// ```
/// use par_process::{Process, sync::Semaphore};
///
/// let two = Semaphore::new(2)?;
/// let child = Process::of_fn(two.clone(), |two: Semaphore| {
///     let _permit = two.acquire().expect("there is room");
///     std::process::abort();
/// });
/// child.start()?.join()?;
/// // The child's is free again.
/// let (_one, _other) = (two.acquire()?, two.acquire()?);
/// assert!(two.try_acquire().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.Semaphore")]
pub struct Semaphore(Memory<Permits>);

impl Semaphore {
    /// A semaphore with so many permits, which up to 256 processes may hold at once.
    ///
    /// # Errors
    /// When the system has no memory or no file left.
    pub fn new(permits: u64) -> Result<Self, SharedError> {
        Self::with_places(permits, PLACES)
    }

    /// A semaphore whose permits so many processes may hold at once.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for more than 65 536 places.
    pub fn with_places(permits: u64, places: usize) -> Result<Self, SharedError> {
        Memory::made("Semaphore", permits, u64::MAX, places).map(Semaphore)
    }

    /// Adds permits, as many as there may ever be. What is held comes back by itself; this is for what was
    /// [spent](Permit::spend), and for new ones.
    ///
    /// # Errors
    /// [`SyncError::OverRelease`] beyond 2^64.
    pub fn release(&self, permits: u64) -> Result<(), SyncError> {
        self.0.view().release(permits)
    }
}

semaphore!(Semaphore, "Semaphore");

/// A [`Semaphore`] of which there are never more permits than at first: one given back too often is an error.
///
/// ```
/// use par_process::sync::{BoundedSemaphore, SyncError};
///
/// let semaphore = BoundedSemaphore::new(1)?;
/// semaphore.acquire()?.spend();
/// semaphore.release(1)?;
/// assert!(matches!(semaphore.release(1), Err(SyncError::OverRelease { given: 1, bound: 1 })));
/// // Held, it comes back by itself: releasing it is one too many.
/// let permit = semaphore.acquire()?;
/// assert!(semaphore.release(1).is_err());
/// # drop(permit);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.BoundedSemaphore")]
pub struct BoundedSemaphore(Memory<Permits>);

impl BoundedSemaphore {
    /// A semaphore with so many permits, which up to 256 processes may hold at once.
    ///
    /// # Errors
    /// When the system has no memory or no file left.
    pub fn new(permits: u64) -> Result<Self, SharedError> {
        Self::with_places(permits, PLACES)
    }

    /// A semaphore whose permits so many processes may hold at once.
    ///
    /// # Errors
    /// As [`new`](Self::new), and for more than 65 536 places.
    pub fn with_places(permits: u64, places: usize) -> Result<Self, SharedError> {
        Memory::made("BoundedSemaphore", permits, permits, places).map(BoundedSemaphore)
    }

    /// Gives back permits that were [spent](Permit::spend).
    ///
    /// # Errors
    /// [`SyncError::OverRelease`] if that makes more than there were at first.
    pub fn release(&self, permits: u64) -> Result<(), SyncError> {
        self.0.view().release(permits)
    }
}

semaphore!(BoundedSemaphore, "BoundedSemaphore");
