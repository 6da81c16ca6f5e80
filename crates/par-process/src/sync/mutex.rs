//! [`Mutex`]: a value that one thread of one process has at a time.
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
use crate::shared::token::{Handle, shared_handle};
use crate::shared::{Content, SharedError, SharedOptions};
use bytemuck::{Pod, Zeroable};
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// What lies in front of the content of every lock.
#[repr(C)]
pub(super) struct Head {
    lock: Robust,
    /// Rule 2: not zero where the content may be half changed.
    abandoned: AtomicU32,
}

/// A lock and its content: what [`Mutex`] and [`ReentrantMutex`](super::ReentrantMutex) have in common.
pub(super) struct Locked<T: ?Sized, const AGAIN: bool> {
    segment: Arc<Segment>,
    head: NonNull<Head>,
    pub(super) content: NonNull<T>,
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

    /// Takes the lock; the value is whether it was left in peace.
    #[inline]
    pub(super) fn lock<G: Repair>(&self, until: Until) -> Result<bool, LockError<G>> {
        match self.head().lock.lock(until) {
            Ok(Got::Clean) => {}
            Ok(Got::Died) => self.head().abandoned.store(1, Ordering::Relaxed),
            Ok(Got::Busy) => return Err(LockError::Busy),
            Ok(Got::Deadlock) => return Err(LockError::Deadlock),
            Err(error) => return Err(LockError::System(error)),
        }
        // Rule 3.
        self.count_locked(1);
        Ok(self.head().abandoned.load(Ordering::Relaxed) == 0)
    }

    /// Gives the lock back.
    #[inline]
    pub(super) fn unlock(&self, panicked: bool) {
        if panicked {
            self.head().abandoned.store(1, Ordering::Relaxed);
        }
        self.count_locked(0);
        self.head().lock.unlock();
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

    pub(super) fn repair(&self) {
        self.head().abandoned.store(0, Ordering::Relaxed);
    }
}

fn content<T: Content + ?Sized>(start: NonNull<u8>, count: usize) -> NonNull<T> {
    let place = start.as_ptr().wrapping_add(memory::head::<Head>());
    // Within the mapping, so not null.
    T::place(NonNull::new(place).unwrap_or(start), count)
}

const KIND: &str = "Mutex";

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

impl<T: Pod + Send + Sync> Mutex<T> {
    /// Shares a value.
    ///
    /// # Errors
    /// When the system has no memory or no file left.
    pub fn new(value: T) -> Result<Self, SharedError> {
        Locked::new(KIND, 1, SharedOptions::new(), |place| *place = value).map(Mutex)
    }
}

impl<T: Pod + Send + Sync> Mutex<[T]> {
    /// Shares as many zeroes.
    ///
    /// # Errors
    /// When it is more than can be, or the system has no memory or no file left.
    pub fn zeroed(length: usize) -> Result<Self, SharedError> {
        Self::with(length, SharedOptions::new(), |_| ())
    }

    /// Shares a copy of these values.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn from_slice(values: &[T]) -> Result<Self, SharedError> {
        Self::with(values.len(), SharedOptions::new(), |place| {
            place.copy_from_slice(values)
        })
    }

    /// Shares as many values, which `fill` writes in their place. They are zero before.
    ///
    /// # Errors
    /// As [`zeroed`](Self::zeroed).
    pub fn with(
        length: usize,
        options: SharedOptions,
        fill: impl FnOnce(&mut [T]),
    ) -> Result<Self, SharedError> {
        Locked::new(KIND, length, options, fill).map(Mutex)
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

impl<T: Content + ?Sized> Mutex<T> {
    /// Waits for the lock.
    ///
    /// # Errors
    /// [`LockError::Abandoned`] with the lock, if its last owner ended while it had it; [`LockError::Deadlock`] if this thread has it.
    #[doc(alias = "acquire")]
    #[inline]
    pub fn lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Until::Forever)
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// [`LockError::Busy`] if it is not, and as [`lock`](Self::lock).
    pub fn try_lock(&self) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Until::Now)
    }

    /// Waits for the lock, at most for `timeout`.
    ///
    /// # Errors
    /// [`LockError::Busy`] past that, and as [`lock`](Self::lock).
    pub fn lock_timeout(&self, timeout: Duration) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        self.lock_until(Until::after(timeout))
    }

    #[inline]
    pub(super) fn lock_until(&self, until: Until) -> Result<MutexGuard<'_, T>, LockError<MutexGuard<'_, T>>> {
        let clean = self.0.lock(until)?;
        let guard = MutexGuard {
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

impl<T: Content + ?Sized> Handle for Mutex<T> {
    fn expected() -> Spec {
        Locked::<T, false>::spec(KIND, 1)
    }
    fn segment(&self) -> &Arc<Segment> {
        self.0.segment()
    }
    fn of(segment: Arc<Segment>) -> Self {
        Mutex(Locked::of(segment))
    }
}

shared_handle!(Mutex<T: [Content + ?Sized]>);

impl<T: Content + ?Sized> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex").finish_non_exhaustive()
    }
}

impl<T: Pod + Send + Sync + Zeroable + Default> Mutex<T> {
    /// Shares the type's default value.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_default() -> Result<Self, SharedError> {
        Self::new(T::default())
    }
}

/// The content of a [`Mutex`], held until this is dropped. A thread gives back what it took itself.
#[must_use = "the lock is given back when this is dropped"]
pub struct MutexGuard<'a, T: Content + ?Sized> {
    mutex: &'a Mutex<T>,
    panicking: bool,
    /// A lock belongs to a thread.
    here: PhantomData<*const ()>,
}

// SAFETY: it gives no more than its content, which may be shared between threads (`Content`).
unsafe impl<T: Content + ?Sized> Sync for MutexGuard<'_, T> {}

impl<'a, T: Content + ?Sized> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: Content + ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: mapped as long as the mutex lives; this thread has the lock, and nobody reaches the content without it. Any
        // bits are valid.
        unsafe { self.mutex.0.content.as_ref() }
    }
}

impl<T: Content + ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        let mut content = self.mutex.0.content;
        // SAFETY: as above, and nobody else has this guard meanwhile.
        unsafe { content.as_mut() }
    }
}

impl<T: Content + ?Sized> Repair for MutexGuard<'_, T> {
    fn repair(&self) {
        self.mutex.0.repair();
    }
}

impl<T: Content + ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        let panicked = !self.panicking && thread::panicking();
        self.mutex.0.unlock(panicked);
    }
}

impl<T: Content + ?Sized + fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
