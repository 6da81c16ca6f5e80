//! Segments that hold a head of atomics and a table: the only place that makes references of their addresses.
#![allow(unsafe_code)]

use super::MOST_PLACES;
use super::barrier::Gate;
use super::condvar::Notices;
use super::event::Flag;
use super::seam::RawLock;
use super::semaphore::{Holder, Permits};
use super::waiters::Slot;
use crate::shared::header::{ALIGN, Spec};
use crate::shared::segment::Segment;
use crate::shared::{SharedError, SharedOptions};
use std::marker::PhantomData;
use std::sync::Arc;

/// What lies at the start of a segment.
///
/// # Safety
/// The head and its places must be `repr(C)`, valid whatever their bits are, and change only through shared references: atomics, and
/// at most one lock. Their alignment must not be above `ALIGN`.
pub(crate) unsafe trait Head: Sync {
    /// What the table consists of.
    type Place: Sync;
    /// Whether the table has one length.
    const PLACES: Option<usize> = None;

    /// The lock of the table.
    fn lock(&self) -> Option<&RawLock>;
}

// SAFETY: made of an atomic word; there is no table.
unsafe impl Head for Flag {
    type Place = ();
    const PLACES: Option<usize> = Some(0);
    fn lock(&self) -> Option<&RawLock> {
        None
    }
}

// SAFETY: made of atomics and a lock, in the order written, and so are its places.
unsafe impl Head for Permits {
    type Place = Holder;
    fn lock(&self) -> Option<&RawLock> {
        Some(&self.lock)
    }
}

// SAFETY: as above.
unsafe impl Head for Notices {
    type Place = Slot;
    fn lock(&self) -> Option<&RawLock> {
        Some(&self.lock)
    }
}

// SAFETY: as above.
unsafe impl Head for Gate {
    type Place = Slot;
    fn lock(&self) -> Option<&RawLock> {
        Some(&self.lock)
    }
}

/// Bytes in front of what comes after a head.
pub(crate) const fn head<H>() -> usize {
    size_of::<H>().next_multiple_of(ALIGN)
}

/// A segment with such a head.
pub(crate) struct Memory<H> {
    segment: Arc<Segment>,
    head: PhantomData<fn() -> H>,
}

impl<H: Head> Memory<H> {
    /// New memory, with a table of `places`.
    pub(crate) fn new(kind: &str, places: usize, write: impl FnOnce(&H)) -> Result<Self, SharedError> {
        let spec = Self::spec(kind, places);
        if places > MOST_PLACES {
            return Err(SharedError::Layout {
                what: format!("a {kind} with {places} places (at most {MOST_PLACES})"),
            });
        }
        let segment = Segment::create(&spec, SharedOptions::new(), |place| {
            // SAFETY: new memory, large enough and aligned by its header, and zero, which is valid.
            let head = unsafe { place.cast::<H>().as_ref() };
            if let Some(lock) = head.lock() {
                // SAFETY: nobody else knows it yet.
                unsafe { lock.init() }.map_err(|source| SharedError::System {
                    what: "make a lock in shared memory",
                    source,
                })?;
            }
            write(head);
            Ok(())
        })?;
        Ok(Self::of(segment))
    }

    pub(crate) fn spec(kind: &str, places: usize) -> Spec {
        Spec {
            text: kind.to_owned(),
            head: head::<H>(),
            count: H::PLACES.unwrap_or(places),
            exact: H::PLACES.is_some(),
            size: size_of::<H::Place>(),
            align: align_of::<H::Place>(),
        }
    }

    /// The memory that a segment of this spec has.
    pub(crate) fn of(segment: Arc<Segment>) -> Self {
        Memory {
            segment,
            head: PhantomData,
        }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    pub(crate) fn head(&self) -> &H {
        // SAFETY: the segment begins with a head of this type (checked by its spec, or made so), aligned and mapped as long as
        // `self` lives. It is valid whatever other processes write, by the word of `Head`.
        unsafe { self.segment.start().cast().as_ref() }
    }

    pub(crate) fn places(&self) -> &[H::Place] {
        let start = self.segment.start().as_ptr().wrapping_add(head::<H>());
        // SAFETY: as above; the header's count of places lies within the mapping, which was checked.
        unsafe { std::slice::from_raw_parts(start.cast(), self.segment.count()) }
    }
}
