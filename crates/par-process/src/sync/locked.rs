//! What [`Mutex`](super::Mutex) and [`ReentrantMutex`](super::ReentrantMutex) have in common: how they lie in memory, how they are taken and
//! given back, and the calls that users make. What differs is whether a thread may take its lock again, and what a guard gives.
//!
//! 1. The lock is one of the C library's robust ones. The system marks it when its owner ends, and the next who locks it hears of that.
//! 2. That word is noted beside the lock before the lock is made usable again, and stays until somebody says that what the lock guards is
//!    [repaired](Abandoned::repaired). A guard that is dropped by a panic leaves the same note.
//! 3. A lock that a thread holds is in a list that the C library and the system follow. So its memory stays mapped while a
//!    thread of this process may have it, even where its guard was forgotten (`Segment::locked`).
#![allow(unsafe_code)]

use super::error::{Abandoned, LockError, Repair};
use super::memory;
use super::robust::{Again, Got, Robust};
use super::seam::Until;
use crate::shared::content::spec;
use crate::shared::header::Spec;
use crate::shared::segment::Segment;
use crate::shared::{Content, SharedError, SharedOptions};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// What lies in front of the content of every lock.
#[repr(C)]
struct Head {
    lock: Robust,
    /// Rule 2: not zero where the content may be half changed.
    abandoned: AtomicU32,
}

/// A lock and its content. `AGAIN` says whether a thread may take it again.
pub(super) struct Locked<T: ?Sized, const AGAIN: bool> {
    segment: Arc<Segment>,
    head: NonNull<Head>,
    content: NonNull<T>,
}

// SAFETY: the pointers lead into the segment's mapping, which is the process's. The content is reached by whoever has the lock only, and
// may move between threads (`Content`).
unsafe impl<T: Content + ?Sized, const AGAIN: bool> Send for Locked<T, AGAIN> {}
// SAFETY: as above.
unsafe impl<T: Content + ?Sized, const AGAIN: bool> Sync for Locked<T, AGAIN> {}

impl<T: Content + ?Sized, const AGAIN: bool> Locked<T, AGAIN> {
    pub(super) fn new(
        kind: &str,
        count: usize,
        options: SharedOptions,
        fill: impl FnOnce(&mut T),
    ) -> Result<Self, SharedError> {
        let spec = Self::spec(kind, count);
        let options = SharedOptions {
            frozen: false,
            ..options
        };
        let segment = Segment::create(&spec, options, |start| {
            let again = if AGAIN { Again::Counted } else { Again::Refused };
            // SAFETY: new memory, large enough and aligned by its header, which nobody else knows; zeroes are a valid head.
            unsafe { start.cast::<Head>().as_ref().lock.init(again) }.map_err(|source| {
                SharedError::System {
                    what: "make a lock in shared memory",
                    source,
                }
            })?;
            // SAFETY: as above; zeroes are valid elements.
            fill(unsafe { content::<T>(start, count).as_mut() });
            Ok(())
        })?;
        Ok(Self::of(segment))
    }

    pub(super) fn spec(kind: &str, count: usize) -> Spec {
        spec::<T>(kind, memory::head::<Head>(), count)
    }

    pub(super) fn of(segment: Arc<Segment>) -> Self {
        let start = segment.start();
        Locked {
            head: start.cast(),
            content: content(start, segment.count()),
            segment,
        }
    }

    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    fn head(&self) -> &Head {
        // SAFETY: the segment begins with a head (checked by its spec, or made so) and is mapped as long as `self` lives. A head is
        // valid whatever its bits are.
        unsafe { self.head.as_ref() }
    }

    /// Takes the lock, for the guard that `guard` makes.
    #[inline]
    pub(super) fn hold<'a, G: Repair>(
        &'a self,
        until: Until,
        guard: impl FnOnce(Hold<'a, T, AGAIN>) -> G,
    ) -> Result<G, LockError<G>> {
        match self.head().lock.lock(until) {
            Ok(Got::Clean) => {}
            Ok(Got::Died) => self.head().abandoned.store(1, Ordering::Relaxed),
            Ok(Got::Busy) => return Err(LockError::Busy),
            Ok(Got::Deadlock) => return Err(LockError::Deadlock),
            Err(error) => return Err(LockError::System(error)),
        }
        // Rule 3.
        self.count_locked(1);
        let clean = self.head().abandoned.load(Ordering::Relaxed) == 0;
        let guard = guard(Hold {
            locked: self,
            panicking: thread::panicking(),
            here: PhantomData,
        });
        if clean {
            Ok(guard)
        } else {
            Err(LockError::Abandoned(Abandoned::new(guard)))
        }
    }

    /// Rule 3: this thread has the lock, once or once more; or is about to give it back.
    #[inline]
    fn count_locked(&self, has: u32) {
        let locked = self.segment.locked();
        let times = match (AGAIN, has) {
            (false, has) => has,
            (true, 1) => locked.load(Ordering::Relaxed).wrapping_add(1),
            (true, _) => locked.load(Ordering::Relaxed).wrapping_sub(1),
        };
        locked.store(times, Ordering::Relaxed);
    }
}

fn content<T: Content + ?Sized>(start: NonNull<u8>, count: usize) -> NonNull<T> {
    let place = start.as_ptr().wrapping_add(memory::head::<Head>());
    // Within the mapping, so not null.
    T::place(NonNull::new(place).unwrap_or(start), count)
}

/// This thread has the lock, once or once more, until this is dropped.
pub(super) struct Hold<'a, T: Content + ?Sized, const AGAIN: bool> {
    locked: &'a Locked<T, AGAIN>,
    /// Whether the thread unwound already when it took the lock.
    panicking: bool,
    /// A lock belongs to a thread.
    here: PhantomData<*const ()>,
}

impl<'a, T: Content + ?Sized, const AGAIN: bool> Hold<'a, T, AGAIN> {
    pub(super) fn locked(&self) -> &'a Locked<T, AGAIN> {
        self.locked
    }

    /// The content, which is mapped as long as the lock lives. Nobody reaches it without the lock; any bits are valid.
    #[inline]
    pub(super) fn content(&self) -> NonNull<T> {
        self.locked.content
    }
}

impl<T: Content + ?Sized, const AGAIN: bool> Repair for Hold<'_, T, AGAIN> {
    fn repair(&self) {
        self.locked.head().abandoned.store(0, Ordering::Relaxed);
    }
}

impl<T: Content + ?Sized, const AGAIN: bool> Drop for Hold<'_, T, AGAIN> {
    #[inline]
    fn drop(&mut self) {
        let head = self.locked.head();
        if !self.panicking && thread::panicking() {
            head.abandoned.store(1, Ordering::Relaxed);
        }
        self.locked.count_locked(0);
        head.lock.unlock();
    }
}

/// The calls of a lock, with a guard that is made of a [`Hold`].
macro_rules! lock_forms {
    ($lock:ident, $guard:ident, again: $again:literal, free: $free:literal, errors: $errors:literal) => {
        impl<T: bytemuck::Pod + Send + Sync> $lock<T> {
            /// Shares a value.
            ///
            /// # Errors
            /// When the system has no memory or no file left.
            pub fn new(value: T) -> Result<Self, $crate::SharedError> {
                let fill = |place: &mut T| *place = value;
                Locked::new(stringify!($lock), 1, $crate::SharedOptions::new(), fill).map($lock)
            }

            /// Shares the type's default value.
            ///
            /// # Errors
            /// As [`new`](Self::new).
            pub fn with_default() -> Result<Self, $crate::SharedError>
            where
                T: Default,
            {
                Self::new(T::default())
            }
        }

        impl<T: bytemuck::Pod + Send + Sync> $lock<[T]> {
            /// Shares as many zeroes.
            ///
            /// # Errors
            /// When it is more than can be, or the system has no memory or no file left.
            pub fn zeroed(length: usize) -> Result<Self, $crate::SharedError> {
                Self::with(length, $crate::SharedOptions::new(), |_| ())
            }

            /// Shares a copy of these values.
            ///
            /// # Errors
            /// As [`zeroed`](Self::zeroed).
            pub fn from_slice(values: &[T]) -> Result<Self, $crate::SharedError> {
                Self::with(values.len(), $crate::SharedOptions::new(), |place| {
                    place.copy_from_slice(values)
                })
            }

            /// Shares as many values, which `fill` writes in their place. They are zero before.
            ///
            /// # Errors
            /// As [`zeroed`](Self::zeroed).
            pub fn with(
                length: usize,
                options: $crate::SharedOptions,
                fill: impl FnOnce(&mut [T]),
            ) -> Result<Self, $crate::SharedError> {
                Locked::new(stringify!($lock), length, options, fill).map($lock)
            }

            /// How many elements there are.
            pub fn len(&self) -> usize {
                self.0.segment().count()
            }

            /// Whether there is none.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }
        }

        impl<T: $crate::Content + ?Sized> $lock<T> {
            /// Waits for the lock.
            ///
            /// # Errors
            #[doc = $errors]
            #[doc(alias = "acquire")]
            #[inline]
            pub fn lock(&self) -> Result<$guard<'_, T>, LockError<$guard<'_, T>>> {
                self.0.hold(Until::Forever, $guard)
            }

            #[doc = $free]
            ///
            /// # Errors
            /// [`LockError::Busy`] if it is not, and as [`lock`](Self::lock).
            pub fn try_lock(&self) -> Result<$guard<'_, T>, LockError<$guard<'_, T>>> {
                self.0.hold(Until::Now, $guard)
            }

            /// Waits for the lock, at most for `timeout`.
            ///
            /// # Errors
            /// [`LockError::Busy`] past that, and as [`lock`](Self::lock).
            pub fn lock_timeout(
                &self,
                timeout: std::time::Duration,
            ) -> Result<$guard<'_, T>, LockError<$guard<'_, T>>> {
                self.0.hold(Until::after(timeout), $guard)
            }
        }

        impl<T: $crate::Content + ?Sized> $crate::shared::token::Handle for $lock<T> {
            fn expected() -> $crate::shared::header::Spec {
                Locked::<T, $again>::spec(stringify!($lock), 1)
            }
            fn segment(&self) -> &std::sync::Arc<$crate::shared::segment::Segment> {
                self.0.segment()
            }
            fn of(segment: std::sync::Arc<$crate::shared::segment::Segment>) -> Self {
                $lock(Locked::of(segment))
            }
        }

        $crate::shared::token::shared_handle!($lock<T: [$crate::Content + ?Sized]>);

        impl<T: $crate::Content + ?Sized> std::fmt::Debug for $lock<T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($lock)).finish_non_exhaustive()
            }
        }

        impl<T: $crate::Content + ?Sized> $crate::sync::Repair for $guard<'_, T> {
            fn repair(&self) {
                self.0.repair();
            }
        }
    };
}
pub(super) use lock_forms;
