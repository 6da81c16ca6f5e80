//! The page of memory that a pool and one worker share: how far the worker is, and whether others are idle.
//!
//! 1. A pool numbers the requests to a worker upwards and gives each the generation of the moment. Before a worker runs a
//!    request it moves [`Page::begin`] to its number, which succeeds only under that generation.
//! 2. [`Page::recall`] raises the generation and tells in the same step how far the worker was. So what the pool finds above that
//!    number never begins, without a word from the worker; and what a dead worker had begun is known to the request.
//! 3. Replies that a worker has not sent are kept here before it begins the next request: its death then loses only what it was at.
#![allow(unsafe_code)]

use rustix::event::Timespec;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};
use rustix::thread::futex;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Bytes of the mapping.
const SIZE: usize = 32 << 10;
/// Bytes of replies that can be kept.
pub(crate) const KEPT: usize = SIZE - size_of::<Words>();
/// Bits of a request's number; the rest is the generation.
const NUMBER_BITS: u32 = 40;
/// A worker ends itself because its memory is over its limit.
pub(crate) const OVER_MEMORY: u64 = 1;
/// The highest number of a request.
pub(crate) const NUMBERS: u64 = (1 << NUMBER_BITS) - 1;
/// Generations count in this many bits.
pub(crate) const GENERATIONS: u64 = u64::MAX >> NUMBER_BITS;

/// What lies at the start of the page. On cache lines of their own: each is written by another side.
#[repr(C)]
struct Words {
    begun: Line,
    idle: Line,
    /// Why the worker ends itself.
    verdict: Line,
    /// The ring of outputs is free up to there, and how often that was said.
    freed: Line,
    frees: Word,
    /// How many bytes of replies follow.
    kept: Line,
}

#[repr(C, align(64))]
struct Line(AtomicU64);

#[repr(C, align(64))]
struct Word(AtomicU32);

/// The mapping, in either process.
pub(crate) struct Page {
    words: NonNull<Words>,
}

// SAFETY: the mapping is reached through atomics only, and lives until the page is dropped, wherever that happens.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    /// A new page, and the file to hand to the worker.
    pub(crate) fn create() -> io::Result<(Self, OwnedFd)> {
        let file = rustix::fs::memfd_create("par-process", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&file, SIZE as u64)?;
        // A page that another process cut short would end this one at the next look.
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok((Self::map(&file)?, file))
    }

    /// The page of the file that a pool has handed over.
    pub(crate) fn open(file: OwnedFd) -> io::Result<Self> {
        let file = File::from(file);
        let sealed = rustix::fs::fcntl_get_seals(&file)?.contains(SealFlags::SHRINK);
        if !sealed || file.metadata()?.len() != SIZE as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is not the page of a pool",
            ));
        }
        Self::map(&file)
    }

    fn map(file: impl AsFd) -> io::Result<Self> {
        // SAFETY: a new mapping of a whole file, which is sealed against becoming shorter (checked by `open`).
        let start = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                SIZE,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                file,
                0,
            )?
        };
        let words = NonNull::new(start.cast::<Words>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Page { words })
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping begins at a page, is larger than the words, holds integers that are valid whatever their bits,
        // and is reached through atomics by both processes.
        unsafe { self.words.as_ref() }
    }

    /// In the worker: marks the request as begun; false if it was recalled, and must not be run.
    pub(crate) fn begin(&self, generation: u64, number: u64) -> bool {
        let word = &self.words().begun.0;
        word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
            (now >> NUMBER_BITS == generation).then_some(generation << NUMBER_BITS | number)
        })
        .is_ok()
    }

    /// In the pool: the number of the last request that was begun.
    pub(crate) fn begun(&self) -> u64 {
        self.words().begun.0.load(Ordering::Acquire) & NUMBERS
    }

    /// In the pool: takes back all requests after the number that it returns.
    pub(crate) fn recall(&self) -> u64 {
        self.words().begun.0.fetch_add(1 << NUMBER_BITS, Ordering::AcqRel) & NUMBERS
    }

    /// In the pool: tells how many workers have nothing to do.
    pub(crate) fn set_idle(&self, workers: u64) {
        self.words().idle.0.store(workers, Ordering::Relaxed);
    }

    /// In the pool: outputs before that position of the ring have been read.
    pub(crate) fn free(&self, release: u64) {
        let words = self.words();
        words.freed.0.store(release, Ordering::Release);
        words.frees.0.fetch_add(1, Ordering::Release);
        // Nobody may wait for it; then it costs a system call after a large value.
        let _ = futex::wake(&words.frees.0, futex::Flags::empty(), 1);
    }

    /// In the worker: up to where outputs have been read, and how often that has been said, for [`wait_freed`](Self::wait_freed).
    pub(crate) fn freed(&self) -> (u64, u32) {
        let words = self.words();
        let times = words.frees.0.load(Ordering::Acquire);
        (words.freed.0.load(Ordering::Acquire), times)
    }

    /// In the worker: waits until more is free than when [`freed`](Self::freed) was asked, not longer than `most`.
    pub(crate) fn wait_freed(&self, times: u32, most: Duration) {
        let most = Timespec::try_from(most).ok();
        // Whatever ends it, the caller looks again.
        let _ = futex::wait(&self.words().frees.0, futex::Flags::empty(), times, most.as_ref());
    }

    /// In the worker: says why it ends itself.
    pub(crate) fn set_verdict(&self, verdict: u64) {
        self.words().verdict.0.store(verdict, Ordering::Release);
    }

    /// In the pool, after the worker's death: why it ended itself; 0 where it did not.
    pub(crate) fn verdict(&self) -> u64 {
        self.words().verdict.0.load(Ordering::Acquire)
    }

    /// In the worker: how many workers have nothing to do.
    pub(crate) fn idle(&self) -> u64 {
        self.words().idle.0.load(Ordering::Relaxed)
    }
}

impl Page {
    /// In the worker: keeps these bytes after the `held` ones that are kept already; false if there is no room.
    pub(crate) fn keep(&self, held: usize, bytes: &[u8]) -> bool {
        let end = held + bytes.len();
        if end > KEPT {
            return false;
        }
        // SAFETY: the place lies within the mapping, behind the words, as `end` is at most `KEPT`. The worker's threads write it
        // under the lock of their outbox, and the pool reads it only after the worker's death.
        unsafe {
            let start = self.words.as_ptr().add(1).cast::<u8>().add(held);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), start, bytes.len());
        }
        self.words().kept.0.store(end as u64, Ordering::Release);
        true
    }

    /// In the worker: what was kept has been sent.
    pub(crate) fn forget_kept(&self) {
        self.words().kept.0.store(0, Ordering::Release);
    }

    /// In the pool, after the worker's death: the replies that it kept.
    pub(crate) fn kept(&self) -> Vec<u8> {
        // Whatever the worker wrote there.
        let length = self.words().kept.0.load(Ordering::Acquire).min(KEPT as u64) as usize;
        let mut bytes = vec![0; length];
        // SAFETY: the place lies within the mapping, behind the words, as `length` is at most `KEPT`; nobody writes to it any more.
        unsafe {
            let start = self.words.as_ptr().add(1).cast::<u8>();
            std::ptr::copy_nonoverlapping(start, bytes.as_mut_ptr(), length);
        }
        bytes
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size, and nobody borrows from it any more. That it might stay
        // mapped on an error harms nobody.
        let _ = unsafe { rustix::mm::munmap(self.words.as_ptr().cast(), SIZE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recalled_does_not_begin() {
        let (pool, file) = Page::create().expect("memory");
        let worker = Page::open(file).expect("the same memory");
        assert!(worker.begin(0, 1) && worker.begin(0, 2));
        assert_eq!(pool.begun(), 2);
        assert_eq!(pool.recall(), 2);
        assert!(!worker.begin(0, 3));
        assert!(worker.begin(1, 4));
        assert_eq!(pool.begun(), 4);
        pool.set_idle(3);
        assert_eq!(worker.idle(), 3);
    }

    #[test]
    fn what_is_kept_is_found() {
        let (pool, file) = Page::create().expect("memory");
        let worker = Page::open(file).expect("the same memory");
        assert!(worker.keep(0, b"one") && worker.keep(3, b"two"));
        assert_eq!(pool.kept(), b"onetwo");
        assert!(!worker.keep(6, &[0; KEPT]));
        worker.forget_kept();
        assert!(pool.kept().is_empty());
        assert!(worker.keep(0, &[7; KEPT]));
        assert_eq!(pool.kept(), [7; KEPT]);
        worker.words().kept.0.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(pool.kept().len(), KEPT);
    }

    #[test]
    fn generations_start_again_after_the_last() {
        let (page, _file) = Page::create().expect("memory");
        page.words()
            .begun
            .0
            .store(GENERATIONS << NUMBER_BITS | 5, Ordering::Relaxed);
        assert_eq!(page.recall(), 5);
        assert!(page.begin(0, 6));
    }

    #[test]
    fn another_file_is_no_page() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(SIZE as u64).expect("long enough");
        assert!(Page::open(file.into()).is_err());
    }
}
