//! Queues for many readers and writers in several processes, in shared memory.

mod joinable;
mod lock;
mod region;
mod ring;
#[cfg(test)]
mod tests;

pub use joinable::{JoinableQueue, TaskDoneError};

use super::transit;
use par_core::Data;
use par_core::wire::{self, WireError};
use region::{MOST, Region};
use ring::{NotGot, NotPut, Ring};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bytes that a queue has room for, unless told otherwise: 16 MiB. Memory is taken as it is used.
const BYTES: u64 = 16 << 20;

/// A bounded queue in shared memory, for many readers and writers in several processes: first in, first out.
///
/// A clone is the same queue. A queue is itself a value while it is being sent through a [`Pipe`](super::Pipe) or given to a
/// [`Process`](crate::Process). Items are any serde values, but for open files, such as ends of pipes, which cannot lie in memory.
///
/// A process that dies in a put or a get, at whatever moment, loses no item but its own, doubles none, and blocks nobody: what
/// it was putting is in the queue or is not, and what it was getting is still there or went with it. One that is *stopped* in the
/// middle of a put or a get holds up others until it goes on or dies; their deadlines hold. Whoever waits sleeps.
///
/// ```
/// use par_process::{GetError, Process, Queue};
///
/// let (numbers, squares) = (Queue::new(10)?, Queue::new(10)?);
/// let work = |(numbers, squares): (Queue<u64>, Queue<u64>)| {
///     while let Ok(x) = numbers.get() {
///         squares.put(x * x).expect("the parent closes it last");
///     }
/// };
/// let workers: Vec<_> = (0..2)
///     .map(|_| Process::of_fn((numbers.clone(), squares.clone()), work).start())
///     .collect::<Result<_, _>>()?;
/// for x in 0..20 {
///     numbers.put(x)?;
///     assert!(squares.get()? < 400);
/// }
/// numbers.close();
/// assert!(matches!(numbers.get(), Err(GetError::Closed)));
/// for worker in workers {
///     assert_eq!(worker.join()?, 0);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.Queue")]
#[doc(alias = "SimpleQueue")]
pub struct Queue<T> {
    ring: Arc<Ring>,
    /// Items cross as bytes: the queue has none, and takes and gives them.
    items: PhantomData<fn(T) -> T>,
}

thread_local! {
    /// For the bytes of an item, on the way in or out.
    static ITEM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer of this length is kept for the next item.
const KEPT: usize = 1 << 20;

fn with_buffer<R>(run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = ITEM.take();
    buffer.clear();
    let result = run(&mut buffer);
    if buffer.capacity() <= KEPT {
        ITEM.set(buffer);
    }
    result
}

impl<T: Data> Queue<T> {
    /// A queue for at most `capacity` items, which together take at most 16 MiB.
    ///
    /// # Errors
    /// `InvalidInput` for a capacity of 0 or beyond 2^40; otherwise what the system says if it has no memory or no file for it.
    pub fn new(capacity: usize) -> io::Result<Self> {
        Self::with_bytes(capacity, BYTES as usize)
    }

    /// A queue for at most `capacity` items, which together take at most `bytes` as encoded. That is also the longest item. Memory is
    /// taken as it is used.
    ///
    /// # Errors
    /// `InvalidInput` for a 0, or a number beyond 2^40; otherwise what the system says if it has no memory or no file for it.
    pub fn with_bytes(capacity: usize, bytes: usize) -> io::Result<Self> {
        for (what, number) in [("capacity", capacity), ("bytes", bytes)] {
            if number == 0 || number as u64 > MOST {
                let text = format!("{what} of a queue: {number}, expected 1 to {MOST}");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
        }
        Ok(Self::of(Region::create(capacity as u64, bytes as u64)?))
    }

    /// Puts an item at the end; waits while the queue is full.
    ///
    /// # Errors
    /// [`PutError`], with the item.
    pub fn put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, None)
    }

    /// Puts an item, if there is room before the timeout is over.
    ///
    /// # Errors
    /// [`PutError`], with the item.
    pub fn put_timeout(&self, item: T, timeout: Duration) -> Result<(), PutError<T>> {
        self.put_until(item, Instant::now().checked_add(timeout))
    }

    /// Puts an item, if there is room now.
    ///
    /// # Errors
    /// [`PutError`], with the item.
    #[doc(alias = "put_nowait")]
    pub fn try_put(&self, item: T) -> Result<(), PutError<T>> {
        self.put_until(item, Some(Instant::now()))
    }

    fn put_until(&self, item: T, until: Option<Instant>) -> Result<(), PutError<T>> {
        with_buffer(|bytes| {
            if let Err(error) = wire::encode(&item, bytes) {
                return Err(PutError::Encode(item, error));
            }
            self.ring.put(bytes, until).map_err(|error| match error {
                NotPut::Full => PutError::Full(item),
                NotPut::Closed => PutError::Closed(item),
                NotPut::TooLong(allowed) => {
                    let claimed = bytes.len() as u64;
                    PutError::Encode(item, WireError::TooLarge { claimed, allowed })
                }
                NotPut::Io(error) => PutError::Io(item, error),
            })
        })
    }

    /// Takes the first item; waits while the queue is empty and open.
    ///
    /// # Errors
    /// [`GetError`].
    pub fn get(&self) -> Result<T, GetError> {
        self.get_until(None)
    }

    /// Takes the first item, if there is one before the timeout is over.
    ///
    /// # Errors
    /// [`GetError`].
    pub fn get_timeout(&self, timeout: Duration) -> Result<T, GetError> {
        self.get_until(Instant::now().checked_add(timeout))
    }

    /// Takes the first item, if there is one now.
    ///
    /// # Errors
    /// [`GetError`].
    #[doc(alias = "get_nowait")]
    pub fn try_get(&self) -> Result<T, GetError> {
        self.get_until(Some(Instant::now()))
    }

    fn get_until(&self, until: Option<Instant>) -> Result<T, GetError> {
        with_buffer(|bytes| {
            self.ring.get(bytes, until).map_err(|error| match error {
                NotGot::Empty => GetError::Empty,
                NotGot::Closed => GetError::Closed,
                NotGot::Io(error) => GetError::Io(error),
            })?;
            wire::from_bytes(bytes).map_err(GetError::Item)
        })
    }
}

impl<T> Queue<T> {
    fn of(region: Region) -> Self {
        Queue {
            ring: Arc::new(Ring { region }),
            items: PhantomData,
        }
    }

    /// How many items are in it at this moment.
    #[doc(alias = "qsize")]
    pub fn len(&self) -> usize {
        usize::try_from(self.ring.len()).unwrap_or(usize::MAX)
    }

    /// Whether no item is in it at this moment.
    #[doc(alias = "empty")]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are as many items in it as it has room for, at this moment.
    #[doc(alias = "full")]
    pub fn is_full(&self) -> bool {
        self.len() >= self.capacity()
    }

    /// How many items it has room for.
    #[doc(alias = "maxsize")]
    pub fn capacity(&self) -> usize {
        usize::try_from(self.ring.region.capacity()).unwrap_or(usize::MAX)
    }

    /// Closes the queue for everybody: nothing can be put any more, and gets take what is left and then say
    /// [`GetError::Closed`]. Who waits in it wakes.
    pub fn close(&self) {
        // The lock could only fail on memory that is no queue, in which nothing can be put either.
        let _ = self.ring.close();
    }

    /// Whether somebody has closed it.
    pub fn is_closed(&self) -> bool {
        self.ring.is_closed()
    }
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Queue {
            ring: Arc::clone(&self.ring),
            items: PhantomData,
        }
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl<T> Serialize for Queue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        transit::serialize(self.ring.region.as_fd(), "a Queue", serializer)
    }
}

impl<'de, T> Deserialize<'de> for Queue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = transit::deserialize("a Queue", deserializer)?;
        Region::open(file).map(Self::of).map_err(de::Error::custom)
    }
}

/// Why an item was not put. The item comes back.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PutError<T> {
    /// The queue was closed.
    #[error("the item was not put: the queue is closed")]
    Closed(T),
    /// There was no room until the deadline.
    #[error("the item was not put: there was no room until the deadline")]
    Full(T),
    /// It does not encode, or is longer than the queue.
    #[error("the item was not put: {1}")]
    Encode(T, #[source] WireError),
    /// The system refused, or the memory of the queue was spoilt.
    #[error("the item was not put: {1}")]
    Io(T, #[source] io::Error),
}

impl<T> PutError<T> {
    /// What was to be put.
    pub fn into_inner(self) -> T {
        match self {
            PutError::Closed(item) | PutError::Full(item) => item,
            PutError::Encode(item, _) | PutError::Io(item, _) => item,
        }
    }
}

impl<T> fmt::Debug for PutError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PutError::Closed(_) => f.write_str("Closed(..)"),
            PutError::Full(_) => f.write_str("Full(..)"),
            PutError::Encode(_, error) => write!(f, "Encode(.., {error:?})"),
            PutError::Io(_, error) => write!(f, "Io(.., {error:?})"),
        }
    }
}

/// Why no item was got.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The queue is empty, and was closed.
    #[error("the queue is empty and closed")]
    Closed,
    /// There was no item until the deadline.
    #[error("there was no item until the deadline")]
    Empty,
    /// The item is of another type than this queue's; it is gone.
    #[error("an item that cannot be read: {0}")]
    Item(#[source] WireError),
    /// The system refused, or the memory of the queue was spoilt.
    #[error("cannot get: {0}")]
    Io(#[source] io::Error),
}
