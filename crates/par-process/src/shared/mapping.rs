//! Mappings of whole files into memory: the only place that maps and unmaps shared memory.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use std::os::fd::AsFd;
use std::ptr::NonNull;

/// The size of a huge page, at which such mappings are aligned.
pub(crate) const HUGE: usize = 2 << 20;

/// A mapping, unmapped when dropped.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: a mapping is a range of addresses of the whole process. Whoever reads or writes there answers for that.
unsafe impl Send for Mapping {}
// SAFETY: as above; the mapping itself only tells where it is.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes of a file, which must be as long and sealed against becoming shorter. For huge pages the
    /// mapping is aligned, and the system is asked for them.
    pub(crate) fn new(file: impl AsFd, length: usize, writable: bool, huge: bool) -> Result<Self, Errno> {
        let protection = match writable {
            true => ProtFlags::READ | ProtFlags::WRITE,
            false => ProtFlags::READ,
        };
        if !huge {
            // SAFETY: the system chooses a range that is free.
            let start = unsafe {
                rustix::mm::mmap(
                    std::ptr::null_mut(),
                    length,
                    protection,
                    MapFlags::SHARED,
                    file,
                    0,
                )?
            };
            return Self::at(start.cast(), length);
        }
        let whole = length.checked_add(HUGE).ok_or(Errno::NOMEM)?;
        // SAFETY: as above; it reserves a range that holds an aligned one.
        let range = unsafe {
            rustix::mm::mmap_anonymous(
                std::ptr::null_mut(),
                whole,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        let reserved = Self::at(range.cast(), whole)?;
        let before = range.addr().next_multiple_of(HUGE) - range.addr();
        let (aligned, end) = (range.wrapping_byte_add(before), length.next_multiple_of(4096));
        // SAFETY: the new mapping replaces a part of the range that was reserved above and that nobody else knows.
        let start = unsafe {
            rustix::mm::mmap(
                aligned,
                length,
                protection,
                MapFlags::SHARED | MapFlags::FIXED,
                file,
                0,
            )?
        };
        std::mem::forget(reserved);
        // SAFETY: what is unmapped is the rest of that range, before and behind the new mapping. Rests that stay harm nobody.
        unsafe {
            if before > 0 {
                let _ = rustix::mm::munmap(range, before);
            }
            let _ = rustix::mm::munmap(aligned.wrapping_byte_add(end), whole - before - end);
            // A wish: the system may not have huge pages for shared memory.
            let _ = rustix::mm::madvise(start, length, Advice::LinuxHugepage);
        }
        Self::at(start.cast(), length)
    }

    fn at(start: *mut u8, length: usize) -> Result<Self, Errno> {
        let start = NonNull::new(start).ok_or(Errno::NOMEM)?;
        Ok(Mapping { start, length })
    }

    /// Where it begins.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and nobody borrows from it any more. That it might stay mapped harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
    }
}
