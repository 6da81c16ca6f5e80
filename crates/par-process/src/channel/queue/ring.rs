//! The protocol of a queue in shared memory: puts, gets, sleeping and waking, right whoever dies where.
//!
//! The counts of puts and gets only grow: item `n` is in the queue while `get.count <= n < put.count`. Its entry says where its
//! bytes lie. The count of finished tasks (`done.count`) is never above that of puts.
//!
//! 1. Each count has a robust lock, and only its holder raises it, by one store. That store is the whole of a put, a get or a
//!    finish: before it, nothing has happened that anybody could see; after it, all has. So the death of a holder leaves a queue
//!    that is right, and the next one who takes the lock has nothing to repair.
//! 2. A put writes bytes and entry where no item lies and no other put may write, then counts. A get copies the bytes out, then
//!    counts. So a process that dies in a put loses its own item or none, one that dies in a get takes the item that
//!    it was getting along or leaves it, and nobody ever gets an item twice.
//! 3. Who must wait for a count takes its lock, looks once more, marks its `sleepers`, lets go and sleeps on that word. So a
//!    getter sleeps on the side of puts, a putter on that of gets, and nobody ever holds two locks (but `close`, which takes them
//!    in one order).
//! 4. Who raises a count, and finds its sleepers marked, wakes all of them first, then counts, then lets go. Whoever wakes takes
//!    the lock before looking, and so looks after the count, or after the death of its holder. All are woken, as one
//!    that is woken may die before it does what it was woken for.
//! 5. An item lies in one piece. Where the queue is empty the next one begins at the front, so that few items use little
//!    memory; where it would go around the end, it begins at the front as well, if there is room.
//! 6. Before sleeping, who waits looks for some microseconds without a lock, and for fewer where that was in vain before. Nobody
//!    spins longer than that.

use super::lock::Held;
use super::region::{Region, Side};
use crate::failpoint::reach;
use rustix::io::Errno;
use rustix::thread::futex;
use std::cell::Cell;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::time::{Duration, Instant};

/// Rule 6.
const SPIN: Duration = Duration::from_micros(20);

/// Why nothing was put.
#[derive(Debug)]
pub(super) enum NotPut {
    Full,
    Closed,
    /// The item is longer than so many bytes, all that the queue has.
    TooLong(u64),
    Io(io::Error),
}

/// Why nothing was got.
#[derive(Debug)]
pub(super) enum NotGot {
    Empty,
    Closed,
    Io(io::Error),
}

pub(super) struct Ring {
    pub(super) region: Region,
}

fn is_over(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() >= until)
}

impl Side {
    /// Rule 4. The caller holds the lock of this side and is about to count.
    fn wake(&self) {
        let word = self.sleepers.load(Relaxed);
        if word & 1 != 0 {
            self.sleepers.store((word & !1).wrapping_add(2), Relaxed);
            // An error would say that the word is not there.
            let _ = futex::wake(&self.sleepers, futex::Flags::empty(), i32::MAX as u32);
        }
    }

    /// Rule 3. The caller holds the lock of this side, and sleeps on the word after letting go.
    fn mark(&self) -> u32 {
        let word = self.sleepers.load(Relaxed) | 1;
        self.sleepers.store(word, Relaxed);
        word
    }
}

/// Sleeps until the word changes, or the deadline.
fn sleep(word: &AtomicU32, marked: u32, until: Option<Instant>) -> io::Result<()> {
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    // A time beyond what the system can express is as good as none.
    let left = left.and_then(|left| left.try_into().ok());
    match futex::wait(word, futex::Flags::empty(), marked, left.as_ref()) {
        Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Rule 6. Where there is only one processor, whoever is waited for cannot run meanwhile.
fn spin(holds: impl Fn() -> bool) -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    thread_local! {
        /// How often it was in vain since it last went well: looking is for whoever waits for somebody that is awake.
        static VAIN: Cell<u32> = const { Cell::new(0) };
    }
    if !SEVERAL.get_or_init(|| std::thread::available_parallelism().is_ok_and(|count| count.get() > 1)) {
        return holds();
    }
    let vain = VAIN.get();
    // Now and then for the whole time: two that both sleep too soon would never find each other awake.
    let shorter = if vain.is_multiple_of(16) { 0 } else { vain.min(4) };
    let start = Instant::now();
    loop {
        for _ in 0..32 {
            if holds() {
                VAIN.set(0);
                return true;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() >= SPIN / (1 << shorter) {
            VAIN.set(vain.wrapping_add(1));
            return false;
        }
    }
}

impl Ring {
    fn put_side(&self) -> &Side {
        &self.region.header().put
    }

    fn get_side(&self) -> &Side {
        &self.region.header().get
    }

    pub(super) fn is_closed(&self) -> bool {
        self.region.header().closed.load(Acquire) != 0
    }

    pub(super) fn len(&self) -> u64 {
        // In this order: the other could see gets of items whose puts it did not see.
        let got = self.get_side().count.load(Acquire);
        self.put_side().count.load(Acquire).saturating_sub(got)
    }

    /// Where an item of that length would lie; `None` if there is no room.
    fn place(&self, length: u64) -> Option<u64> {
        let bytes = self.region.bytes();
        let got = self.get_side().count.load(Acquire);
        let put = self.put_side().count.load(Acquire);
        if put.saturating_sub(got) >= self.region.capacity() {
            return None;
        }
        let front = |place: u64| place.next_multiple_of(bytes);
        if put == 0 {
            return Some(0);
        }
        let last = self.region.entry(put - 1);
        let end = last.start.load(Acquire).saturating_add(last.length.load(Acquire));
        // Positions count all bytes ever put; at a gigabyte a second they last for centuries.
        if end > u64::MAX - 2 * super::region::MOST {
            return None;
        }
        if got >= put {
            return Some(front(end));
        }
        let start = if end % bytes + length > bytes {
            front(end)
        } else {
            end
        };
        let oldest = self.region.entry(got).start.load(Acquire);
        (start + length <= oldest.saturating_add(bytes)).then_some(start)
    }

    pub(super) fn put(&self, item: &[u8], until: Option<Instant>) -> Result<(), NotPut> {
        let length = item.len() as u64;
        if length > self.region.bytes() {
            return Err(NotPut::TooLong(self.region.bytes()));
        }
        let side = self.put_side();
        loop {
            if let Some(held) = side.lock.lock(until).map_err(NotPut::Io)? {
                if self.is_closed() {
                    return Err(NotPut::Closed);
                }
                if let Some(start) = self.place(length) {
                    return self.put_at(start, item, held);
                }
            }
            if is_over(until) {
                return Err(NotPut::Full);
            }
            if spin(|| self.place(length).is_some()) {
                continue;
            }
            let other = self.get_side();
            let Some(held) = other.lock.lock(until).map_err(NotPut::Io)? else {
                continue;
            };
            if self.place(length).is_none() && !self.is_closed() {
                let marked = other.mark();
                drop(held);
                reach("queue.put.asleep");
                sleep(&other.sleepers, marked, until).map_err(NotPut::Io)?;
                reach("queue.put.awake");
            }
        }
    }

    /// Rules 1, 2 and 4.
    fn put_at(&self, start: u64, item: &[u8], _held: Held<'_>) -> Result<(), NotPut> {
        reach("queue.put.locked");
        let side = self.put_side();
        let number = side.count.load(Relaxed);
        if !self.region.write(start, item) {
            return Err(NotPut::Io(spoilt()));
        }
        let entry = self.region.entry(number);
        entry.start.store(start, Relaxed);
        entry.length.store(item.len() as u64, Relaxed);
        reach("queue.put.written");
        side.wake();
        reach("queue.put.woken");
        side.count.store(number + 1, Release);
        reach("queue.put.counted");
        Ok(())
    }

    /// Appends the bytes of the next item to `out`.
    pub(super) fn get(&self, out: &mut Vec<u8>, until: Option<Instant>) -> Result<(), NotGot> {
        let side = self.get_side();
        let other = self.put_side();
        loop {
            if let Some(held) = side.lock.lock(until).map_err(NotGot::Io)? {
                let number = side.count.load(Relaxed);
                if number < other.count.load(Acquire) {
                    return self.get_at(number, out, held);
                }
            }
            if is_over(until) {
                // What is closed and empty stays so, and says so.
                return Err(if self.is_closed() && self.len() == 0 {
                    NotGot::Closed
                } else {
                    NotGot::Empty
                });
            }
            if spin(|| self.len() > 0) {
                continue;
            }
            let Some(held) = other.lock.lock(until).map_err(NotGot::Io)? else {
                continue;
            };
            if self.len() == 0 {
                if self.is_closed() {
                    return Err(NotGot::Closed);
                }
                let marked = other.mark();
                drop(held);
                reach("queue.get.asleep");
                sleep(&other.sleepers, marked, until).map_err(NotGot::Io)?;
                reach("queue.get.awake");
            }
        }
    }

    /// Rules 1, 2 and 4.
    fn get_at(&self, number: u64, out: &mut Vec<u8>, _held: Held<'_>) -> Result<(), NotGot> {
        reach("queue.get.locked");
        let side = self.get_side();
        let entry = self.region.entry(number);
        let (start, length) = (entry.start.load(Relaxed), entry.length.load(Relaxed));
        let read = self.region.read(start, length, out);
        reach("queue.get.read");
        side.wake();
        reach("queue.get.woken");
        // What cannot be read is not left in the way of the others.
        side.count.store(number + 1, Release);
        reach("queue.get.counted");
        if read { Ok(()) } else { Err(NotGot::Io(spoilt())) }
    }

    /// From now on nothing can be put.
    pub(super) fn close(&self) -> io::Result<()> {
        let (get, put) = (self.get_side(), self.put_side());
        let _gets = get.lock.lock(None)?;
        let _puts = put.lock.lock(None)?;
        get.wake();
        put.wake();
        reach("queue.close.woken");
        self.region.header().closed.store(1, Release);
        Ok(())
    }

    /// How many items were put whose tasks are not finished.
    pub(super) fn unfinished(&self) -> u64 {
        let done = self.region.header().done.count.load(Acquire);
        self.put_side().count.load(Acquire).saturating_sub(done)
    }

    /// Finishes a task; false if all are finished.
    pub(super) fn finish(&self) -> io::Result<bool> {
        let side = &self.region.header().done;
        let _held = side.lock.lock(None)?;
        let number = side.count.load(Relaxed);
        let put = self.put_side().count.load(Acquire);
        if number >= put {
            return Ok(false);
        }
        reach("queue.done.locked");
        if number + 1 == put {
            side.wake();
        }
        reach("queue.done.woken");
        side.count.store(number + 1, Release);
        reach("queue.done.counted");
        Ok(true)
    }

    /// Waits until all tasks are finished; false past the deadline.
    pub(super) fn join(&self, until: Option<Instant>) -> io::Result<bool> {
        let side = &self.region.header().done;
        loop {
            if let Some(held) = side.lock.lock(until)? {
                if self.unfinished() == 0 {
                    return Ok(true);
                }
                let marked = side.mark();
                drop(held);
                if is_over(until) {
                    return Ok(false);
                }
                sleep(&side.sleepers, marked, until)?;
            } else if is_over(until) {
                return Ok(false);
            }
        }
    }
}

fn spoilt() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the memory of the queue was written to by somebody who does not keep its rules",
    )
}
