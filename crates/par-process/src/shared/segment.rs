//! Segments: memory that several processes have, and that goes with the last of them.
//!
//! 1. A segment is a memfd: it has no name in any file system, and the system frees it with the last file and the last mapping, however
//!    their processes end.
//! 2. Its size is sealed before anybody else sees it, and whoever receives a file checks the seals first: no process can cut memory
//!    away under another. What is frozen is sealed against writing too.
//! 3. The [header](super::header) is read from the file, never from the mapping: what a hostile process writes meanwhile changes nothing.
//! 4. A process has each segment once, however often a handle of it arrives.

use super::header::{Header, Id, SIZE, Spec};
use super::mapping::Mapping;
use super::{SharedError, SharedOptions};
use parking_lot::Mutex;
use rustix::fs::{MemfdFlags, SealFlags};
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Weak};

/// The segments of this process (rule 4).
static LIVE: LazyLock<Mutex<HashMap<Id, Weak<Segment>>>> = LazyLock::new(Mutex::default);

const SIZED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

pub(crate) struct Segment {
    header: Header,
    file: OwnedFd,
    /// `None` only while it is dropped.
    mapping: Option<Mapping>,
    frozen: bool,
    /// How often threads of this process have a lock in here: the mapping must then outlive the segment (see `Drop`).
    locked: AtomicU32,
}

impl Segment {
    /// New memory, all zero. `fill` gets the place of what is shared before anybody else can see it.
    pub(crate) fn create(
        spec: &Spec,
        options: SharedOptions,
        fill: impl FnOnce(NonNull<u8>) -> Result<(), SharedError>,
    ) -> Result<Arc<Self>, SharedError> {
        let header = Header::new(new_id()?, spec, options.huge_pages)?;
        let layout = || SharedError::Layout {
            what: spec.text.clone(),
        };
        let length = header.length().ok_or_else(layout)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("par-process", flags)
            .map_err(SharedError::system("create shared memory"))?;
        rustix::fs::ftruncate(&file, length as u64)
            .map_err(SharedError::system("make shared memory as large as it must be"))?;
        rustix::fs::fcntl_add_seals(&file, SIZED).map_err(SharedError::system("seal shared memory"))?;
        let written = rustix::io::pwrite(&file, bytemuck::bytes_of(&header), 0)
            .map_err(SharedError::system("write to shared memory"))?;
        if written != SIZE {
            return Err(layout());
        }
        let map = |writable| {
            Mapping::new(&file, length, writable, options.huge_pages)
                .map_err(SharedError::system("map shared memory"))
        };
        let mut mapping = map(true)?;
        fill(begin(&mapping, &header))?;
        if options.frozen {
            drop(mapping);
            rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SEAL)
                .map_err(SharedError::system("seal shared memory against writing"))?;
            mapping = map(false)?;
        }
        Ok(Self::register(header, file, mapping, options.frozen))
    }

    /// The memory that another process has handed over.
    pub(crate) fn adopt(file: OwnedFd, expected: &Spec, frozen: bool) -> Result<Arc<Self>, SharedError> {
        let foreign = |reason: &str| SharedError::Foreign {
            reason: reason.to_owned(),
        };
        let seals = rustix::fs::fcntl_get_seals(&file).map_err(|_| foreign("it is no memory"))?;
        if !seals.contains(SIZED) {
            return Err(foreign("its size is not sealed"));
        }
        let length = rustix::fs::fstat(&file).map_err(SharedError::system("look at shared memory"))?;
        let mut bytes = [0; SIZE];
        let read = rustix::io::pread(&file, &mut bytes, 0)
            .map_err(SharedError::system("read from shared memory"))?;
        if read != SIZE {
            return Err(foreign("it is too short"));
        }
        let header: Header = bytemuck::pod_read_unaligned(&bytes);
        header.check(u64::try_from(length.st_size).unwrap_or(0))?;
        header.expect(expected)?;
        if frozen && !seals.contains(SealFlags::WRITE) {
            return Err(foreign("it is not sealed against writing"));
        }
        let length = header.length().ok_or_else(|| foreign("its layout is none"))?;
        let huge = header.offset as usize == super::mapping::HUGE;
        let mapping =
            Mapping::new(&file, length, !frozen, huge).map_err(SharedError::system("map shared memory"))?;
        Ok(Self::register(header, file, mapping, frozen))
    }

    fn register(header: Header, file: OwnedFd, mapping: Mapping, frozen: bool) -> Arc<Self> {
        let new = Arc::new(Segment {
            header,
            file,
            mapping: Some(mapping),
            frozen,
            locked: AtomicU32::new(0),
        });
        let mut live = LIVE.lock();
        let place = live.entry(new.id()).or_default();
        let there = place.upgrade();
        if there.is_none() {
            *place = Arc::downgrade(&new);
        }
        // The segment that goes here, or the newcomer, looks at the table when it is dropped.
        drop(live);
        there.unwrap_or(new)
    }

    /// The segment, if this process has it.
    pub(crate) fn find(id: Id) -> Option<Arc<Self>> {
        LIVE.lock().get(&id)?.upgrade()
    }

    /// Whether it is of this type.
    pub(crate) fn expect(&self, expected: &Spec, frozen: bool) -> Result<(), SharedError> {
        if self.frozen != frozen {
            let reason = "it is not sealed against writing".to_owned();
            return Err(SharedError::Foreign { reason });
        }
        self.header.expect(expected)
    }

    pub(crate) fn id(&self) -> Id {
        self.header.id
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// How many elements there are.
    pub(crate) fn count(&self) -> usize {
        self.header.count()
    }

    /// Where what is shared begins, aligned for everything that may be in there.
    pub(crate) fn start(&self) -> NonNull<u8> {
        match &self.mapping {
            Some(mapping) => begin(mapping, &self.header),
            None => NonNull::dangling(),
        }
    }

    /// How often threads of this process have a lock in here. Whoever has the lock changes it, which orders the changes.
    #[inline]
    pub(crate) fn locked(&self) -> &AtomicU32 {
        &self.locked
    }
}

fn begin(mapping: &Mapping, header: &Header) -> NonNull<u8> {
    let address = mapping.start().as_ptr().wrapping_add(header.offset as usize);
    // Within the mapping, so not null.
    NonNull::new(address).unwrap_or(mapping.start())
}

fn new_id() -> Result<Id, SharedError> {
    let mut id = Id([0; 2]);
    rustix::rand::getrandom(
        bytemuck::bytes_of_mut(&mut id),
        rustix::rand::GetRandomFlags::empty(),
    )
    .map_err(SharedError::system("get random numbers"))?;
    Ok(id)
}

impl Drop for Segment {
    fn drop(&mut self) {
        let mut live = LIVE.lock();
        // Another one of the same id may have arrived since the last handle went.
        if live
            .get(&self.id())
            .is_some_and(|place| place.strong_count() == 0)
        {
            live.remove(&self.id());
        }
        drop(live);
        if self.locked.load(Ordering::Relaxed) != 0 {
            // A guard was forgotten. The thread's list of robust locks leads into this memory until the thread ends, and the C
            // library writes there at its next lock: the memory has to stay.
            std::mem::forget(self.mapping.take());
        }
    }
}
