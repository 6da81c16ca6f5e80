//! [`FrozenArray`]: values that nobody can change any more.
#![allow(unsafe_code)]

use super::content::spec;
use super::header::Spec;
use super::segment::Segment;
use super::token::{Handle, shared_handle};
use super::{SharedError, SharedOptions};
use bytemuck::Pod;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// Plain values in shared memory that is sealed against writing: every process reads them in place, as a slice, and none can
/// change them.
///
/// ```
/// use par_process::{FrozenArray, Process};
///
/// let table = FrozenArray::from_slice(&[2.0, 3.0, 5.0])?;
/// let child = Process::of_fn(table.clone(), |table: FrozenArray<f64>| {
///     assert_eq!(table.iter().sum::<f64>(), 10.0);
/// });
/// assert_eq!(child.start()?.join()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct FrozenArray<T: Pod + Send + Sync> {
    segment: Arc<Segment>,
    elements: PhantomData<fn() -> T>,
}

impl<T: Pod + Send + Sync> FrozenArray<T> {
    /// Shares a copy of these values.
    ///
    /// # Errors
    /// When the system has no memory or no file left.
    pub fn from_slice(values: &[T]) -> Result<Self, SharedError> {
        Self::with(values.len(), SharedOptions::new(), |place| {
            place.copy_from_slice(values)
        })
    }

    /// Shares as many values, which `fill` writes in their place. They are zero before, and sealed after.
    ///
    /// # Errors
    /// When it is more than can be, or the system has no memory or no file left.
    pub fn with(
        length: usize,
        options: SharedOptions,
        fill: impl FnOnce(&mut [T]),
    ) -> Result<Self, SharedError> {
        let spec = spec::<[T]>(Self::KIND, 0, length);
        Segment::create(
            &spec,
            SharedOptions {
                frozen: true,
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

    const KIND: &str = "FrozenArray";
}

impl<T: Pod + Send + Sync> Deref for FrozenArray<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the array is mapped as long as `self` lives. It is sealed against writing, which was done here or checked when it
        // arrived, so that nobody writes to it. Any bits are valid.
        unsafe { std::slice::from_raw_parts(self.segment.start().as_ptr().cast(), self.segment.count()) }
    }
}

impl<T: Pod + Send + Sync> Handle for FrozenArray<T> {
    const FROZEN: bool = true;

    fn expected() -> Spec {
        spec::<[T]>(Self::KIND, 0, 0)
    }
    fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }
    fn of(segment: Arc<Segment>) -> Self {
        FrozenArray {
            segment,
            elements: PhantomData,
        }
    }
}

shared_handle!(FrozenArray<T: [Pod + Send + Sync]>);

impl<T: Pod + Send + Sync + fmt::Debug> fmt::Debug for FrozenArray<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
