//! The shared memory of a queue: what lies where, and bytes in and out.
#![allow(unsafe_code)]

use super::lock::Lock;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Begins the memory of every queue.
const MAGIC: u64 = 0x7061_725f_7175_6531;
/// The most items and bytes of a queue: what follows is computed without overflow.
pub(super) const MOST: u64 = 1 << 40;

/// What lies at the start. What different sides write is on cache lines of its own.
#[repr(C)]
pub(super) struct Header {
    magic: AtomicU64,
    capacity: AtomicU64,
    bytes: AtomicU64,
    pub(super) closed: AtomicU32,
    pub(super) put: Side,
    pub(super) get: Side,
    pub(super) done: Side,
}

/// A side of the queue: its lock, what it has counted, and who sleeps until it counts on.
#[repr(C, align(64))]
pub(super) struct Side {
    pub(super) lock: Lock,
    pub(super) count: AtomicU64,
    /// Bit 0: somebody may sleep. The rest counts the times that the sleepers were woken.
    pub(super) sleepers: AtomicU32,
}

/// Where an item lies.
#[repr(C)]
pub(super) struct Entry {
    /// Its place among all bytes that were ever put.
    pub(super) start: AtomicU64,
    pub(super) length: AtomicU64,
}

/// The mapping, in any of the processes.
pub(super) struct Region {
    base: NonNull<Header>,
    size: usize,
    capacity: u64,
    bytes: u64,
    file: OwnedFd,
}

// SAFETY: the mapping is reached through atomics and locks, and as bytes by who the rules of the queue allow; it lives until the region
// is dropped, wherever that happens.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

/// There is an entry more than items, so that the last one is not written over before the next has come.
fn entries(capacity: u64) -> u64 {
    capacity + 1
}

/// Bytes of the whole, for at most [`MOST`] items and bytes.
fn size(capacity: u64, bytes: u64) -> u64 {
    size_of::<Header>() as u64 + entries(capacity) * size_of::<Entry>() as u64 + bytes
}

impl Region {
    /// New memory for so many items and bytes, both from 1 to [`MOST`].
    pub(super) fn create(capacity: u64, bytes: u64) -> io::Result<Self> {
        let file = rustix::fs::memfd_create(
            "par-process-queue",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        rustix::fs::ftruncate(&file, size(capacity, bytes))?;
        // Memory that another process cut short would end this one at the next look.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let region = Self::map(file, capacity, bytes)?;
        let header = region.header();
        for side in [&header.put, &header.get, &header.done] {
            side.lock.init()?;
        }
        use std::sync::atomic::Ordering::Relaxed;
        header.capacity.store(capacity, Relaxed);
        header.bytes.store(bytes, Relaxed);
        header.magic.store(MAGIC, Relaxed);
        Ok(region)
    }

    /// The memory of a queue that another process made.
    pub(super) fn open(file: OwnedFd) -> io::Result<Self> {
        let no = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the file is not the memory of a queue",
            )
        };
        let file = File::from(file);
        let length = file.metadata()?.len();
        let sealed = rustix::fs::fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed || length < size(1, 1) {
            return Err(no());
        }
        let words = {
            use std::os::unix::fs::FileExt;
            let mut words = [0; 24];
            file.read_exact_at(&mut words, 0)?;
            words
        };
        let word = |at: usize| {
            words[at..]
                .first_chunk()
                .map_or(0, |word| u64::from_ne_bytes(*word))
        };
        let (magic, capacity, bytes) = (word(0), word(8), word(16));
        let sane = |count: u64| (1..=MOST).contains(&count);
        if magic != MAGIC || !sane(capacity) || !sane(bytes) || size(capacity, bytes) != length {
            return Err(no());
        }
        Self::map(file.into(), capacity, bytes)
    }

    fn map(file: OwnedFd, capacity: u64, bytes: u64) -> io::Result<Self> {
        let size = usize::try_from(size(capacity, bytes)).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new mapping of a whole file, which is sealed against becoming shorter.
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &file,
                0,
            )?
        };
        let base = NonNull::new(start.cast::<Header>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Region {
            base,
            size,
            capacity,
            bytes,
            file,
        })
    }

    /// How many items there is room for.
    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// How many bytes there is room for.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn header(&self) -> &Header {
        // SAFETY: the mapping begins at a page, is larger than the header, and holds integers that are valid whatever their bits, and
        // locks that were made before the file left its maker. All of it is reached through atomics and by the locks' functions.
        unsafe { self.base.as_ref() }
    }

    /// Where the item of that number lies.
    pub(super) fn entry(&self, number: u64) -> &Entry {
        let place = (number % entries(self.capacity)) as usize;
        // SAFETY: the place lies within the entries, which follow the header and hold integers that are reached through atomics.
        unsafe { &*self.base.as_ptr().add(1).cast::<Entry>().add(place) }
    }

    fn data(&self, at: u64, length: usize) -> Option<*mut u8> {
        let at = usize::try_from(at % self.bytes).ok()?;
        // No truncation: the whole is mapped.
        let bytes = self.bytes as usize;
        if length > bytes - at {
            return None;
        }
        let before = self.size - bytes;
        // SAFETY: `before + at + length` is within the mapping, as checked.
        Some(unsafe { self.base.as_ptr().cast::<u8>().add(before + at) })
    }

    /// Writes bytes at a place where they fit without going around; false if they do not.
    pub(super) fn write(&self, at: u64, bytes: &[u8]) -> bool {
        let Some(place) = self.data(at, bytes.len()) else {
            return false;
        };
        // SAFETY: the place is within the mapping, and by the rules of the queue only the holder of its put lock writes there, where no
        // item lies. (A process that breaks the rules spoils the bytes of items, which the decoder does not trust.)
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len()) };
        true
    }

    /// Reads the bytes of an item to the end of `out`; false if there is no such place.
    pub(super) fn read(&self, at: u64, length: u64, out: &mut Vec<u8>) -> bool {
        let Ok(length) = usize::try_from(length) else {
            return false;
        };
        let Some(place) = self.data(at, length) else {
            return false;
        };
        out.reserve(length);
        // SAFETY: the place is within the mapping, and nobody writes there while the item is in the queue and the get lock is held; the
        // vector has room for it, and its new length is initialised.
        unsafe {
            std::ptr::copy_nonoverlapping(place, out.as_mut_ptr().add(out.len()), length);
            out.set_len(out.len() + length);
        }
        true
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size, and nobody borrows from it any more. That it might stay
        // mapped on an error harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.size) };
    }
}
