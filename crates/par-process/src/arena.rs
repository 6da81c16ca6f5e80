//! The memory that a pool and one worker share for large values, half for each direction.
//!
//! 1. Each half is a [`Ring`]: who writes to it takes places from its front, and whoever reads gives them back. A place is named
//!    in a request or a reply once all of its bytes are there, and is written again only after it was given back. So nobody
//!    reads what is being written, and a death in the middle of writing has named nothing.
//! 2. The pool gives back the place of an input when the request has been answered, recalled or lost; it gives back the place
//!    of an output after it has read it, by moving a counter in the page ([`Page::freed`](crate::page::Page::freed)).
//! 3. Memory is had before it is written to (`fallocate`), so that too little of it is an answer and no death. Without a place, and without
//!    memory, a value goes over the socket.
//! 4. The file has no name: it goes with the two processes that map it.
#![allow(unsafe_code)]

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Values of that many bytes and more go through here.
pub(crate) const LARGE: usize = 256 << 10;
/// Places begin at multiples of this.
const ALIGN: u64 = 64;
/// Memory is had in pieces of this.
const PIECE: u64 = 1 << 20;

/// A direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// From the pool: inputs.
    Down,
    /// From the worker: outputs.
    Up,
}

/// A place in one half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// Where the ring begins once this place, and all before it, are given back.
    pub(crate) release: u64,
}

/// The mapping, in either process.
pub(crate) struct Arena {
    start: NonNull<u8>,
    /// Bytes of a half.
    half: u64,
    file: OwnedFd,
    /// How much memory of the half that this process writes to is there.
    backed: AtomicU64,
}

// SAFETY: bytes are written and read by the rules above, and the mapping lives until the arena is dropped, wherever that happens.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    /// A new one with halves of so many bytes.
    pub(crate) fn create(half: u64) -> io::Result<Self> {
        let half = half.checked_next_multiple_of(PIECE);
        let (half, whole) = half
            .and_then(|half| Some((half, half.checked_mul(2)?)))
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let file = rustix::fs::memfd_create(
            "par-process-values",
            MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
        )?;
        rustix::fs::ftruncate(&file, whole)?;
        // A file that another process cut short would end this one at the next look.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Self::map(file, half)
    }

    /// That of the file which a pool has handed over.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let sealed = rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK);
        let whole = file.metadata()?.len();
        if !sealed || whole == 0 || !whole.is_multiple_of(2 * PIECE) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not the memory for the values of a pool",
            ));
        }
        Self::map(file.into(), whole / 2)
    }

    fn map(file: OwnedFd, half: u64) -> io::Result<Self> {
        let size = usize::try_from(2 * half).map_err(|_| io::ErrorKind::OutOfMemory)?;
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
        Ok(Arena {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            half,
            file,
            backed: AtomicU64::new(0),
        })
    }

    /// Bytes of a half.
    pub(crate) fn half(&self) -> u64 {
        self.half
    }

    /// The file, for the worker.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn base(&self, side: Side) -> u64 {
        match side {
            Side::Down => 0,
            Side::Up => self.half,
        }
    }

    /// Where bytes lie, if they lie within the half.
    fn at(&self, side: Side, offset: u64, length: u64) -> Option<NonNull<u8>> {
        let end = offset.checked_add(length)?;
        // SAFETY: the place lies within the mapping, whose size is a `usize`.
        (end <= self.half).then(|| unsafe { self.start.add((self.base(side) + offset) as usize) })
    }

    /// Writes a value to a place that the ring of this process has just given out; false where there is no memory for it.
    pub(crate) fn put(&self, side: Side, place: Place, bytes: &[u8]) -> bool {
        let Some(to) = self.at(side, place.offset, bytes.len() as u64) else {
            return false;
        };
        let end = place.offset + bytes.len() as u64;
        let backed = self.backed.load(Ordering::Relaxed);
        if end > backed {
            let end = end.next_multiple_of(PIECE).min(self.half);
            let from = self.base(side) + backed;
            if rustix::fs::fallocate(&self.file, FallocateFlags::empty(), from, end - backed).is_err() {
                return false;
            }
            self.backed.store(end, Ordering::Relaxed);
        }
        // SAFETY: the place lies within the mapping, as `at` has checked, and nobody reads or writes it (rule 1).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.as_ptr(), bytes.len()) };
        true
    }

    /// The bytes at a place that the other side has named; `None` if there is no such place.
    pub(crate) fn get(&self, side: Side, offset: u64, length: u64) -> Option<&[u8]> {
        let at = self.at(side, offset, length)?;
        // SAFETY: the place lies within the mapping, as `at` has checked; the other side, which is this very program, does not
        // write to it before it is given back (rule 1), which is after this borrow (rule 2).
        Some(unsafe { std::slice::from_raw_parts(at.as_ptr(), length as usize) })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size, and nobody borrows from it any more. That it might stay
        // mapped on an error harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), 2 * self.half as usize) };
    }
}

/// Places of one half, given out at the front and given back at the end. Positions count upwards for ever.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    size: u64,
    front: u64,
    end: u64,
}

impl Ring {
    pub(crate) fn new(size: u64) -> Self {
        Ring {
            size,
            front: 0,
            end: 0,
        }
    }

    /// Whether it has no places at all.
    pub(crate) fn is_none(&self) -> bool {
        self.size == 0
    }

    /// Everything before this position has been given back.
    pub(crate) fn free(&mut self, release: u64) {
        self.end = self.end.max(release.min(self.front));
    }

    /// Whether a value of that length will have a place, at the latest when all others are given back.
    pub(crate) fn fits(&self, length: usize) -> bool {
        length as u64 <= self.size
    }

    /// A place for a value, if there is one.
    pub(crate) fn place(&mut self, length: usize) -> Option<Place> {
        if !self.fits(length) {
            return None;
        }
        let takes = (length as u64).next_multiple_of(ALIGN);
        if self.front == self.end {
            // Memory that was used before is used again.
            self.front = self.front.next_multiple_of(self.size);
            self.end = self.front;
        }
        let offset = self.front % self.size;
        // A value is in one piece.
        let skip = if offset + takes > self.size {
            self.size - offset
        } else {
            0
        };
        if self.front + skip + takes - self.end > self.size {
            return None;
        }
        let begin = self.front + skip;
        self.front = begin + takes;
        Some(Place {
            offset: begin % self.size,
            length: length as u64,
            release: self.front,
        })
    }

    /// Takes back the place that was given out last.
    pub(crate) fn undo(&mut self, place: Place) {
        debug_assert_eq!(place.release, self.front);
        self.front = place.release - place.length.next_multiple_of(ALIGN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let pool = Arena::create(1).expect("memory");
        assert_eq!(pool.half(), PIECE);
        let file = pool.file().try_clone_to_owned().expect("a file");
        let worker = Arena::open(file).expect("the same memory");
        let mut ring = Ring::new(pool.half());
        let place = ring.place(5).expect("room");
        assert!(pool.put(Side::Down, place, b"there") && worker.put(Side::Up, place, b"again"));
        assert_eq!(worker.get(Side::Down, place.offset, 5), Some(&b"there"[..]));
        assert_eq!(pool.get(Side::Up, place.offset, 5), Some(&b"again"[..]));
        for (offset, length) in [(0, PIECE + 1), (PIECE, 1), (u64::MAX, 2), (1, u64::MAX)] {
            assert!(pool.get(Side::Up, offset, length).is_none());
        }
        assert!(pool.get(Side::Up, PIECE, 0).is_some());
    }

    #[test]
    fn another_file_is_no_arena() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(2 * PIECE).expect("long enough");
        assert!(Arena::open(file.into()).is_err());
    }

    #[test]
    fn more_than_any_memory_is_refused() {
        assert!(Arena::create(1 << 60).is_err());
        assert!(Arena::create(u64::MAX - PIECE).is_err());
        assert!(Arena::create(u64::MAX).is_err());
    }

    proptest! {
        #[test]
        fn places_never_overlap(steps in proptest::collection::vec((1usize..2000, any::<bool>()), 1..200)) {
            let mut ring = Ring::new(4096);
            let mut out: VecDeque<Place> = VecDeque::new();
            for (length, give_back) in steps {
                if give_back && let Some(first) = out.pop_front() {
                    ring.free(first.release);
                }
                let Some(place) = ring.place(length) else {
                    prop_assert!(!out.is_empty(), "an empty ring has room");
                    continue;
                };
                prop_assert!(place.offset + place.length <= 4096);
                for other in &out {
                    let apart = place.offset >= other.offset + other.length || other.offset >= place.offset + place.length;
                    prop_assert!(apart, "{place:?} {other:?}");
                }
                out.push_back(place);
            }
        }
    }
}
