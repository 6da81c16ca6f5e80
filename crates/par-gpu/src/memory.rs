//! Memory of the host: aligned buffers, huge pages for large ones, and writing them in parts from several threads.
//!
//! 1. A buffer begins as zeros, which every [`Element`] has among its values. Large ones are fresh pages, which are zeros
//!    without anybody writing them.
//! 2. Parts are disjoint, and each is handed out once: a second claim of a part does nothing ([`Chunks::run`]).
//! 3. A call that wrote all parts says so by their count; a backend that left one out is an error, and its buffer is dropped.

use crate::backend::{Chunks, HostBackend};
use crate::element::Element;
use crate::error::Error;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::c_void;
use std::ptr::NonNull;

/// From this size on a buffer is pages of its own.
const OWN_PAGES: usize = 256 << 10;
/// A cache line, and the widest vector.
const LINE: usize = 64;

/// An owned piece of memory.
#[derive(Debug)]
struct Block<T> {
    start: NonNull<T>,
    len: usize,
    /// The pages that it is part of; else it comes from the allocator.
    pages: Option<(*mut c_void, usize)>,
}

// SAFETY: it owns its memory, as a Vec does.
unsafe impl<T: Send> Send for Block<T> {}
// SAFETY: as above; a shared block is only read.
unsafe impl<T: Sync> Sync for Block<T> {}

/// The layout of a block from the allocator.
fn small_layout<T>(len: usize) -> Option<Layout> {
    Layout::array::<T>(len).ok()?.align_to(LINE).ok()
}

impl<T: Element> Block<T> {
    /// Zeros; `None` where there is no such room.
    fn new(len: usize) -> Option<Self> {
        let layout = small_layout::<T>(len)?;
        if len == 0 {
            let start = NonNull::dangling();
            return Some(Block {
                start,
                len,
                pages: None,
            });
        }
        if layout.size() >= OWN_PAGES
            && let Some((start, pages)) = own_pages(layout.size())
        {
            let start = start.cast();
            return Some(Block {
                start,
                len,
                pages: Some(pages),
            });
        }
        // SAFETY: the layout's size is not 0.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?.cast();
        Some(Block {
            start,
            len,
            pages: None,
        })
    }
}

/// Fresh pages that hold that many bytes, and the whole of what was mapped for them.
#[cfg(target_os = "linux")]
fn own_pages(bytes: usize) -> Option<(NonNull<c_void>, (*mut c_void, usize))> {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// From this size on a buffer lies in huge pages, where there are some.
    const HUGE: usize = 4 << 20;
    const HUGE_PAGE: usize = 2 << 20;
    /// What addresses of the same place in the first cache differ by.
    const PAGE: usize = 4 << 10;
    /// How far apart in a page buffers begin that follow each other: half of it and a line, so that those of one call do not
    /// push each other out of the cache. (A dot product of 2^24 pairs is a quarter faster for it.)
    const STEP: usize = PAGE / 2 + LINE;
    /// Counts buffers, so that those of one call begin at different places of a page.
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let offset = MADE.fetch_add(1, Ordering::Relaxed).wrapping_mul(STEP) % PAGE;
    let align = if bytes >= HUGE { HUGE_PAGE } else { PAGE };
    let mapped = bytes.checked_add(align + PAGE)?;
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping, at an address of the system's choice.
    let pages = unsafe { mmap_anonymous(std::ptr::null_mut(), mapped, access, MapFlags::PRIVATE) }.ok()?;
    let aligned = pages.wrapping_byte_add(pages.addr().next_multiple_of(align) - pages.addr());
    if bytes >= HUGE {
        // SAFETY: pages of this mapping. That the system has no huge ones changes nothing but speed.
        let _ = unsafe { madvise(aligned, bytes, Advice::LinuxHugepage) };
    }
    Some((NonNull::new(aligned.wrapping_byte_add(offset))?, (pages, mapped)))
}

#[cfg(not(target_os = "linux"))]
fn own_pages(_: usize) -> Option<(NonNull<c_void>, (*mut c_void, usize))> {
    None
}

impl<T> Drop for Block<T> {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        if let Some((pages, mapped)) = self.pages {
            // SAFETY: this block's own mapping, and nobody borrows from it any more.
            let _ = unsafe { rustix::mm::munmap(pages, mapped) };
            return;
        }
        if let Some(layout) = small_layout::<T>(self.len).filter(|layout| layout.size() > 0) {
            // SAFETY: allocated with this layout, by `new`.
            unsafe { dealloc(self.start.as_ptr().cast(), layout) };
        }
    }
}

/// Elements in the host's memory, aligned for its widest vectors.
#[derive(Debug)]
pub(crate) struct HostBuffer<T>(Block<T>);

impl<T: Element> HostBuffer<T> {
    /// A buffer of zeros, for the device of that name.
    pub(crate) fn zeroed(device: &str, len: usize) -> Result<Self, Error> {
        Block::new(len).map(HostBuffer).ok_or_else(|| Error::OutOfMemory {
            device: device.to_owned(),
            bytes: len.saturating_mul(size_of::<T>()),
        })
    }

    /// A buffer whose parts of `chunk` elements `write` fills, from the number of the part.
    pub(crate) fn filled(
        backend: &dyn HostBackend,
        len: usize,
        chunk: usize,
        write: &(dyn Fn(usize, &mut [T]) + Sync),
    ) -> Result<Self, Error> {
        let mut buffer = HostBuffer::zeroed(&backend.info().name, len)?;
        write_parts(backend, buffer.as_mut_slice(), chunk, write)?;
        Ok(buffer)
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: the block's own memory, whose elements are zeros or were written since.
        unsafe { std::slice::from_raw_parts(self.0.start.as_ptr(), self.0.len) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.0.start.as_ptr(), self.0.len) }
    }
}

/// A slice whose parts different threads write.
struct Parts<T> {
    start: *mut T,
    len: usize,
    chunk: usize,
}

// SAFETY: the parts that threads get are disjoint, so it moves elements between threads, never shares one.
unsafe impl<T: Send> Sync for Parts<T> {}

impl<T> Parts<T> {
    /// # Safety
    /// Nobody else has that part, and the slice outlives it.
    #[allow(clippy::mut_from_ref, reason = "disjoint parts, by the caller's promise")]
    unsafe fn part(&self, index: usize) -> &mut [T] {
        let first = index * self.chunk;
        assert!(
            first <= self.len,
            "part {index} of a slice of {} elements",
            self.len
        );
        let len = self.chunk.min(self.len - first);
        // SAFETY: in bounds by the line above, unshared by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(first), len) }
    }
}

/// Has a backend call `write` with each part of a slice, and its number.
pub(crate) fn write_parts<T: Element>(
    backend: &dyn HostBackend,
    elements: &mut [T],
    chunk: usize,
    write: &(dyn Fn(usize, &mut [T]) + Sync),
) -> Result<(), Error> {
    let parts = Parts {
        start: elements.as_mut_ptr(),
        len: elements.len(),
        chunk,
    };
    // SAFETY: `Chunks` calls with each number once, and this function, which borrows the slice, outlives `Chunks`.
    let run = |index: usize| write(index, unsafe { parts.part(index) });
    let chunks = Chunks::new(elements.len().div_ceil(chunk), &run);
    if chunks.count() > 0 {
        backend.run(&chunks);
    }
    chunks.finish(&backend.info().name)
}

/// The bits of elements.
pub(crate) fn bytes_of<T: Element>(elements: &[T]) -> &[u8] {
    // SAFETY: an element is plain bits without padding (`Element` is sealed).
    unsafe { std::slice::from_raw_parts(elements.as_ptr().cast(), size_of_val(elements)) }
}

/// The bits of elements, to be overwritten.
pub(crate) fn bytes_of_mut<T: Element>(elements: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and every pattern of bits is a value.
    unsafe { std::slice::from_raw_parts_mut(elements.as_mut_ptr().cast(), size_of_val(elements)) }
}
