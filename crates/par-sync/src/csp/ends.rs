//! The ends of channels: [`Reader`] and [`Writer`], and the functions that make them.

use super::core::{Core, End, Slot, Tried};
use super::offer::Offer;
use super::stop::{Stop, WriteError, goes_down};
use super::trace::{self, What};
#[cfg(not(loom))]
use crate::queue::Poke;
use crate::sync_seam::{Lock, Until};
use crate::watch::{self, Hold};
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

/// The kind of an end that is the only one of its side.
#[derive(Debug)]
pub enum One {}

/// The kind of an end that may be cloned: several processes of one side take turns.
#[derive(Debug)]
pub enum Any {}

/// The end of a channel from which a process reads. Dropped, it retires; or poisons the channel, where its process ends by a poison or a
/// panic.
pub struct Reader<T, K = One> {
    pub(super) core: Arc<Core<T>>,
    _kind: PhantomData<fn() -> K>,
}

/// The end of a channel to which a process writes. Dropped, it retires; or poisons the channel, where its process ends by a poison or a
/// panic.
pub struct Writer<T, K = One> {
    pub(super) core: Arc<Core<T>>,
    _kind: PhantomData<fn() -> K>,
}

#[track_caller]
fn make<T, W, R>(capacity: usize) -> (Writer<T, W>, Reader<T, R>) {
    let core = Core::new(capacity);
    let writer = Writer {
        core: Arc::clone(&core),
        _kind: PhantomData,
    };
    (
        writer,
        Reader {
            core,
            _kind: PhantomData,
        },
    )
}

macro_rules! channels {
    ($($name:ident, $buffered:ident, $writer:ty, $reader:ty, $what:literal;)*) => {$(
        #[doc = concat!("A channel for ", $what, ", which meet at each communication.")]
        #[track_caller]
        pub fn $name<T>() -> (Writer<T, $writer>, Reader<T, $reader>) {
            make(0)
        }

        #[doc = concat!("A channel for ", $what, ", with a buffer for `room` values.")]
        #[doc(alias = "Buffer")]
        #[track_caller]
        pub fn $buffered<T>(room: usize) -> (Writer<T, $writer>, Reader<T, $reader>) {
            make(room)
        }
    )*};
}

channels! {
    one2one, one2one_buffered, One, One, "one writer and one reader";
    one2any, one2any_buffered, One, Any, "one writer and any number of readers";
    any2one, any2one_buffered, Any, One, "any number of writers and one reader";
    any2any, any2any_buffered, Any, Any, "any number of writers and of readers";
}

impl<T, K> Reader<T, K> {
    /// Waits for a value, and reads it.
    ///
    /// # Errors
    /// The [`Stop`]: the channel is poisoned, or all writers have retired and nothing is left.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can write.
    #[track_caller]
    pub fn read(&mut self) -> Result<T, Stop> {
        let read = self.read_until(Until::Forever)?;
        // It waits for ever.
        read.ok_or_else(Stop::retired)
    }

    /// Reads a value if there is one, or a writer waits with one.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn try_read(&mut self) -> Result<Option<T>, Stop> {
        self.read_until(Until::Now)
    }

    /// As [`read`](Self::read), at most for `timeout`.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    #[track_caller]
    pub fn read_timeout(&mut self, timeout: Duration) -> Result<Option<T>, Stop> {
        self.read_until(Until::after(timeout))
    }

    #[track_caller]
    fn read_until(&mut self, until: Until) -> Result<Option<T>, Stop> {
        let mut waiting = match self.begin(until == Until::Now) {
            Begun::Done(read) => return read.map(Some).map_err(Stop::from),
            Begun::Not => return Ok(None),
            Begun::Waiting(waiting) => waiting,
        };
        let taken = || waiting.offer.taken().is_some();
        let sleep = watch::surely(self.core.watch.wait(Hold::Shared, until, taken));
        if waiting.offer.wait(until).is_none() && waiting.offer.close_own(usize::MAX) {
            sleep.over();
            return Ok(None);
        }
        sleep.over();
        waiting.outcome().map(Some).map_err(Stop::from)
    }

    /// As [`read`](Self::read), for a light task or any other future. Dropped before it is ready, nothing is read.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_async(&mut self) -> impl Future<Output = Result<T, Stop>> + Send + '_
    where
        T: Send,
        K: 'static,
    {
        Reading {
            end: self,
            waiting: None,
        }
    }

    fn begin(&self, now: bool) -> Begun<Result<T, End>, ReadWait<T>> {
        match self.core.try_read(None) {
            Tried::Done(read) => {
                if read.is_ok() {
                    trace::channel(What::DoneRead, self.core.number);
                }
                Begun::Done(read)
            }
            Tried::Blocked(_) | Tried::Gone if now => Begun::Not,
            Tried::Gone => Begun::Not,
            Tried::Blocked(mut state) => {
                let waiting = ReadWait {
                    core: Arc::clone(&self.core),
                    offer: Offer::new(),
                    slot: Arc::new(Lock::new(None)),
                };
                state.read_later(&waiting.offer, 0, &waiting.slot);
                drop(state);
                trace::channel(What::BlockOnRead, self.core.number);
                Begun::Waiting(waiting)
            }
        }
    }

    /// From now on `poke` hears when there may be something to read, until it is let go.
    #[cfg(not(loom))]
    pub(crate) fn watch(&self, poke: &Poke) {
        self.core.lock().watchers.add(poke);
    }

    #[cfg(not(loom))]
    pub(crate) fn unwatch(&self, poke: &Poke) {
        self.core.lock().watchers.remove(poke);
    }

    /// Ends the channel at once, for all.
    pub fn poison(self) {
        let state = self.core.lock();
        self.core.end(state, End::Poison);
    }

    /// The number of the channel in a trace.
    pub fn channel(&self) -> u64 {
        self.core.number
    }
}

impl<T, K> Writer<T, K> {
    /// Writes a value: waits until it is read, or, with a buffer, until there is room.
    ///
    /// # Errors
    /// The [`Stop`], with the value: the channel is poisoned, or all readers have retired.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can read.
    #[track_caller]
    pub fn write(&mut self, value: T) -> Result<(), WriteError<T>> {
        match self.write_until(value, Until::Forever) {
            Ok(None) => Ok(()),
            // It waits for ever.
            Ok(Some(value)) => Err(WriteError {
                stop: Stop::retired(),
                value,
            }),
            Err(error) => Err(error),
        }
    }

    /// Writes a value if there is room, or a reader waits. If not, it comes back.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn try_write(&mut self, value: T) -> Result<Option<T>, WriteError<T>> {
        self.write_until(value, Until::Now)
    }

    /// As [`write`](Self::write), at most for `timeout`; then the value comes back.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn write_timeout(&mut self, value: T, timeout: Duration) -> Result<Option<T>, WriteError<T>> {
        self.write_until(value, Until::after(timeout))
    }

    #[track_caller]
    fn write_until(&mut self, value: T, until: Until) -> Result<Option<T>, WriteError<T>> {
        let mut value = Some(value);
        let waiting = match self.begin(&mut value, until == Until::Now) {
            Begun::Done(Ok(())) => return Ok(None),
            Begun::Done(Err(end)) => return Err(refused(end, value)),
            Begun::Not => return Ok(value),
            Begun::Waiting(waiting) => waiting,
        };
        let taken = || waiting.offer.taken().is_some();
        let sleep = watch::surely(self.core.watch.wait(Hold::Shared, until, taken));
        if waiting.offer.wait(until).is_none() && waiting.offer.close_own(usize::MAX) {
            sleep.over();
            return Ok(self.core.withdraw_write(&waiting.offer));
        }
        sleep.over();
        waiting.outcome().map(|()| None)
    }

    /// As [`write`](Self::write), for a light task or any other future. Dropped before it is ready, the value may have been read or not.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn write_async(&mut self, value: T) -> impl Future<Output = Result<(), WriteError<T>>> + Send + '_
    where
        T: Send + Unpin,
        K: 'static,
    {
        Writing {
            end: self,
            value: Some(value),
            waiting: None,
        }
    }

    fn begin(&self, value: &mut Option<T>, now: bool) -> Begun<Result<(), End>, WriteWait<T>> {
        match self.core.try_write(value, None) {
            Tried::Done(written) => {
                if written.is_ok() {
                    trace::channel(What::DoneWrite, self.core.number);
                }
                Begun::Done(written)
            }
            Tried::Blocked(_) | Tried::Gone if now => Begun::Not,
            Tried::Gone => Begun::Not,
            Tried::Blocked(mut state) => {
                let waiting = WriteWait {
                    core: Arc::clone(&self.core),
                    offer: Offer::new(),
                    slot: Arc::new(Lock::new(None)),
                };
                if let Some(value) = value.take() {
                    state.write_later(&waiting.offer, 0, value, &waiting.slot);
                }
                let watchers = state.watchers.all();
                drop(state);
                watchers.poke();
                trace::channel(What::BlockOnWrite, self.core.number);
                Begun::Waiting(waiting)
            }
        }
    }

    /// Ends the channel at once, for all.
    pub fn poison(self) {
        let state = self.core.lock();
        self.core.end(state, End::Poison);
    }

    /// The number of the channel in a trace.
    pub fn channel(&self) -> u64 {
        self.core.number
    }
}

fn refused<T>(end: End, value: Option<T>) -> WriteError<T> {
    match value {
        Some(value) => WriteError {
            stop: end.into(),
            value,
        },
        None => unreachable!("a value that was refused is there"),
    }
}

enum Begun<O, W> {
    Done(O),
    Not,
    Waiting(W),
}

/// A reader that waits; dropped, it waits no more, and what it was given and did not take goes back.
struct ReadWait<T> {
    core: Arc<Core<T>>,
    offer: Arc<Offer>,
    slot: Slot<Result<T, End>>,
}

impl<T> ReadWait<T> {
    /// Once the offer was taken.
    fn outcome(&mut self) -> Result<T, End> {
        // With the lock of the channel, as the outcome is put there with it.
        drop(self.core.lock());
        let outcome = self.slot.lock().take();
        if let Some(Ok(_)) = &outcome {
            trace::channel(What::DoneRead, self.core.number);
        }
        outcome.unwrap_or(Err(End::Retired))
    }
}

impl<T> Drop for ReadWait<T> {
    fn drop(&mut self) {
        if self.offer.close_own(usize::MAX) || self.offer.taken() == Some(usize::MAX) {
            return self.core.withdraw_read(&self.offer);
        }
        drop(self.core.lock());
        let left = self.slot.lock().take();
        if let Some(Ok(value)) = left {
            self.core.give_back(value);
        }
    }
}

/// A writer that waits; dropped, it waits no more.
struct WriteWait<T> {
    core: Arc<Core<T>>,
    offer: Arc<Offer>,
    slot: Slot<Result<(), (End, T)>>,
}

impl<T> WriteWait<T> {
    fn outcome(&self) -> Result<(), WriteError<T>> {
        drop(self.core.lock());
        let outcome = self.slot.lock().take();
        match outcome {
            Some(Err((end, value))) => Err(refused(end, Some(value))),
            _ => {
                trace::channel(What::DoneWrite, self.core.number);
                Ok(())
            }
        }
    }
}

impl<T> Drop for WriteWait<T> {
    fn drop(&mut self) {
        if self.offer.close_own(usize::MAX) {
            drop(self.core.withdraw_write(&self.offer));
        }
    }
}

struct Reading<'a, T, K> {
    end: &'a mut Reader<T, K>,
    waiting: Option<ReadWait<T>>,
}

impl<T, K> Future for Reading<'_, T, K> {
    type Output = Result<T, Stop>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.waiting.is_none() {
            match self.end.begin(false) {
                Begun::Done(read) => return Poll::Ready(read.map_err(Stop::from)),
                Begun::Not => return Poll::Ready(Err(Stop::retired())),
                Begun::Waiting(waiting) => self.waiting = Some(waiting),
            }
        }
        let Some(waiting) = &mut self.waiting else {
            return Poll::Pending;
        };
        ready!(waiting.offer.poll(cx));
        let outcome = waiting.outcome();
        self.waiting = None;
        Poll::Ready(outcome.map_err(Stop::from))
    }
}

struct Writing<'a, T, K> {
    end: &'a mut Writer<T, K>,
    value: Option<T>,
    waiting: Option<WriteWait<T>>,
}

impl<T: Unpin, K> Future for Writing<'_, T, K> {
    type Output = Result<(), WriteError<T>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.waiting.is_none() {
            let mut value = self.value.take();
            match self.end.begin(&mut value, false) {
                Begun::Done(Ok(())) | Begun::Not => return Poll::Ready(Ok(())),
                Begun::Done(Err(end)) => return Poll::Ready(Err(refused(end, value))),
                Begun::Waiting(waiting) => self.waiting = Some(waiting),
            }
        }
        let Some(waiting) = &self.waiting else {
            return Poll::Pending;
        };
        ready!(waiting.offer.poll(cx));
        let outcome = waiting.outcome();
        self.waiting = None;
        Poll::Ready(outcome)
    }
}

impl<T> Clone for Reader<T, Any> {
    fn clone(&self) -> Self {
        self.core.lock().reader_ends += 1;
        Reader {
            core: Arc::clone(&self.core),
            _kind: PhantomData,
        }
    }
}

impl<T> Clone for Writer<T, Any> {
    fn clone(&self) -> Self {
        self.core.lock().writer_ends += 1;
        Writer {
            core: Arc::clone(&self.core),
            _kind: PhantomData,
        }
    }
}

impl<T, K> Drop for Reader<T, K> {
    fn drop(&mut self) {
        let mut state = self.core.lock();
        state.reader_ends -= 1;
        let how = if goes_down() { End::Poison } else { End::Retired };
        if how == End::Poison || state.reader_ends == 0 {
            self.core.end(state, how);
        }
    }
}

impl<T, K> Drop for Writer<T, K> {
    fn drop(&mut self) {
        let mut state = self.core.lock();
        state.writer_ends -= 1;
        let how = if goes_down() { End::Poison } else { End::Retired };
        if how == End::Poison || state.writer_ends == 0 {
            self.core.end(state, how);
        }
    }
}

impl<T, K> fmt::Debug for Reader<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("channel", &self.channel())
            .finish()
    }
}

impl<T, K> fmt::Debug for Writer<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("channel", &self.channel())
            .finish()
    }
}
