//! [`RawValue`] and [`RawArray`]: shared memory without a lock.
#![allow(unsafe_code)]

use super::content::spec;
use super::header::Spec;
use super::segment::Segment;
use super::token::{Handle, shared_handle};
use super::{SharedError, SharedOptions, cells};
use bytemuck::Pod;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

const VALUE: &str = "RawValue";
const ARRAY: &str = "RawArray";

/// A value in shared memory, without a lock.
///
/// A value of up to 8 bytes is read and written whole. A larger one that another process writes meanwhile may come half old, half new:
/// [`SharedValue`](crate::SharedValue) has a lock.
///
/// ```
/// use par_process::{Process, RawValue};
///
/// let answer = RawValue::new(0_u64)?;
/// let child = Process::of_fn(answer.clone(), |answer: RawValue<u64>| answer.store(42)).start()?;
/// assert_eq!(child.join()?, 0);
/// assert_eq!(answer.load(), 42);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.sharedctypes.RawValue")]
pub struct RawValue<T: Pod + Send + Sync> {
    segment: Arc<Segment>,
    value: PhantomData<fn() -> T>,
}

impl<T: Pod + Send + Sync> RawValue<T> {
    /// Shares a value.
    ///
    /// # Errors
    /// When the system has no memory or no file left.
    pub fn new(value: T) -> Result<Self, SharedError> {
        Segment::create(&Self::expected(), SharedOptions::new(), |place| {
            // SAFETY: new memory for one value, aligned by its header; nobody else has it.
            unsafe { cells::store_all(place.as_ptr().cast(), &[value]) };
            Ok(())
        })
        .map(Self::of)
    }

    /// The value.
    #[doc(alias = "value")]
    pub fn load(&self) -> T {
        // SAFETY: the segment holds one value, mapped as long as `self` lives, and safe code reaches it only here and atomically.
        unsafe { cells::load(self.place()) }
    }

    /// Writes the value.
    pub fn store(&self, value: T) {
        // SAFETY: as above.
        unsafe { cells::store_all(self.place(), &[value]) };
    }

    fn place(&self) -> *mut T {
        self.segment.start().as_ptr().cast()
    }
}

impl<T: Pod + Send + Sync> Handle for RawValue<T> {
    fn expected() -> Spec {
        spec::<T>(VALUE, 0, 1)
    }
    fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }
    fn of(segment: Arc<Segment>) -> Self {
        RawValue {
            segment,
            value: PhantomData,
        }
    }
}

shared_handle!(RawValue<T: [Pod + Send + Sync]>);

impl<T: Pod + Send + Sync + fmt::Debug> fmt::Debug for RawValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RawValue").field(&self.load()).finish()
    }
}

/// Numbers, or other plain values, in shared memory, without a lock: all processes read and write as they like.
///
/// An element of up to 8 bytes is read and written whole. What is guarded by other means, such as a
/// [`Barrier`](crate::sync::Barrier), may be [looked at as a slice](Self::as_slice).
///
/// ```
/// use par_process::{Process, RawArray};
///
/// let squares = RawArray::<u64>::zeroed(8)?;
/// let children: Result<Vec<_>, _> = (0..2)
///     .map(|half: usize| {
///         Process::of_fn((squares.clone(), half), |(squares, half): (RawArray<u64>, usize)| {
///             for i in half * 4..half * 4 + 4 {
///                 squares.set(i, (i * i) as u64).unwrap();
///             }
///         })
///         .start()
///     })
///     .collect();
/// for child in children? {
///     assert_eq!(child.join()?, 0);
/// }
/// assert_eq!(squares.to_vec(), [0, 1, 4, 9, 16, 25, 36, 49]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.sharedctypes.RawArray")]
pub struct RawArray<T: Pod + Send + Sync> {
    segment: Arc<Segment>,
    elements: PhantomData<fn() -> T>,
}

/// Bytes in shared memory.
///
/// ```
/// use par_process::SharedMemory;
///
/// let memory = SharedMemory::zeroed(1 << 20)?;
/// let name = format!("example-{}", std::process::id());
/// let published = memory.publish(&name)?;
/// memory.write(0, b"hello")?;
/// // Mostly in another process.
/// let same = SharedMemory::open(&name)?;
/// let mut word = [0; 5];
/// same.read(0, &mut word)?;
/// assert_eq!(&word, b"hello");
/// drop(published);
/// assert!(SharedMemory::open(&name).is_err());
/// # Ok::<(), par_process::SharedError>(())
/// ```
#[doc(alias = "multiprocessing.shared_memory.SharedMemory")]
#[doc(alias = "mmap")]
pub type SharedMemory = RawArray<u8>;

impl<T: Pod + Send + Sync> RawArray<T> {
    /// Shares as many zeroes. The system gives the memory piece by piece, as it is touched.
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
        let spec = spec::<[T]>(ARRAY, 0, length);
        Segment::create(
            &spec,
            SharedOptions {
                frozen: false,
                ..options
            },
            |place| {
                // SAFETY: new memory for as many values, aligned by its header and zero, which is valid; nobody else has it.
                fill(unsafe { std::slice::from_raw_parts_mut(place.as_ptr().cast(), length) });
                Ok(())
            },
        )
        .map(Self::of)
    }

    /// How many elements there are.
    pub fn len(&self) -> usize {
        self.segment.count()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<T> {
        // SAFETY: within the array, by `place`.
        self.place(index, 1)
            .ok()
            .map(|place| unsafe { cells::load(place) })
    }

    /// Writes the element at `index`.
    ///
    /// # Errors
    /// [`SharedError::Range`] if there is none.
    pub fn set(&self, index: usize, value: T) -> Result<(), SharedError> {
        self.write(index, &[value])
    }

    /// Copies elements from `start` on.
    ///
    /// # Errors
    /// [`SharedError::Range`] if there are fewer.
    pub fn read(&self, start: usize, values: &mut [T]) -> Result<(), SharedError> {
        let place = self.place(start, values.len())?;
        // SAFETY: within the array, by `place`.
        unsafe { cells::load_all(place, values) };
        Ok(())
    }

    /// Writes elements from `start` on.
    ///
    /// # Errors
    /// [`SharedError::Range`] if there are fewer.
    pub fn write(&self, start: usize, values: &[T]) -> Result<(), SharedError> {
        let place = self.place(start, values.len())?;
        // SAFETY: within the array, by `place`.
        unsafe { cells::store_all(place, values) };
        Ok(())
    }

    /// A copy of all elements.
    pub fn to_vec(&self) -> Vec<T> {
        let mut values = vec![T::zeroed(); self.len()];
        // As many as there are.
        let _ = self.read(0, &mut values);
        values
    }

    /// The elements in their place.
    ///
    /// # Safety
    /// While the slice is used, no process may write to these elements.
    pub unsafe fn as_slice(&self) -> &[T] {
        // SAFETY: the array is mapped as long as `self` lives; the caller answers for the rest.
        unsafe { std::slice::from_raw_parts(self.segment.start().as_ptr().cast(), self.len()) }
    }

    /// Some elements in their place, to be written.
    ///
    /// # Safety
    /// While the slice is used, no process, this one included, may read or write these elements in another way.
    ///
    /// # Errors
    /// [`SharedError::Range`] if there are fewer.
    #[expect(
        clippy::mut_from_ref,
        reason = "who may write is for the processes to agree on, as the caller promises"
    )]
    pub unsafe fn slice_mut(&self, range: Range<usize>) -> Result<&mut [T], SharedError> {
        let length = range.len();
        let place = self.place(range.start, length)?;
        // SAFETY: within the array, by `place`; mapped as long as `self` lives; the caller answers for the rest.
        Ok(unsafe { std::slice::from_raw_parts_mut(place, length) })
    }

    fn place(&self, start: usize, count: usize) -> Result<*mut T, SharedError> {
        let (end, length) = (start.saturating_add(count), self.len());
        if end > length {
            return Err(SharedError::Range { start, end, length });
        }
        Ok(self.segment.start().as_ptr().cast::<T>().wrapping_add(start))
    }
}

/// Arrays of numbers that are shared through atomics.
macro_rules! atomics {
    ($($number:ty, $atomic:ty);*) => {$(
        impl RawArray<$number> {
            /// The elements as atomics: for counters that need no lock.
            ///
            /// ```
            /// use par_process::RawArray;
            /// use std::sync::atomic::Ordering;
            ///
            #[doc = concat!("let counts = RawArray::<", stringify!($number), ">::zeroed(2)?;")]
            /// counts.as_atomics()[1].fetch_add(3, Ordering::Relaxed);
            /// assert_eq!(counts.to_vec(), [0, 3]);
            /// # Ok::<(), par_process::SharedError>(())
            /// ```
            pub fn as_atomics(&self) -> &[$atomic] {
                // SAFETY: atomics have the size and bits of their numbers; the memory is aligned for them, mapped as long as `self`
                // lives, and safe code accesses it by atomics of this size only.
                unsafe { std::slice::from_raw_parts(self.segment.start().as_ptr().cast(), self.len()) }
            }
        }
    )*};
}
atomics!(u8, AtomicU8; u32, AtomicU32; i32, AtomicI32);
// Elsewhere these are copied in words of another size.
#[cfg(target_pointer_width = "64")]
atomics!(u64, AtomicU64; i64, AtomicI64; usize, AtomicUsize);

impl<T: Pod + Send + Sync> Handle for RawArray<T> {
    fn expected() -> Spec {
        spec::<[T]>(ARRAY, 0, 0)
    }
    fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }
    fn of(segment: Arc<Segment>) -> Self {
        RawArray {
            segment,
            elements: PhantomData,
        }
    }
}

shared_handle!(RawArray<T: [Pod + Send + Sync]>);

impl<T: Pod + Send + Sync> fmt::Debug for RawArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawArray")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}
