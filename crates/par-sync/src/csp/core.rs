//! A channel, as both its sides have it.
//!
//! 1. Under one lock: the buffer, the readers and writers that wait, in the order of arrival, how many ends each side has, and whether it is
//!    poisoned.
//! 2. Who comes communicates with who waits, by closing both their offers (`offer`). Entries whose offers are closed by somebody else stay
//!    until they are withdrawn by who made them, and are passed over.
//! 3. If readers wait, whose offers are open, the buffer is empty; if such writers wait, it is full.
//! 4. Whoever closes the offer of another has put the outcome into the other's slot before, with the lock of the channel; and who withdraws takes that
//!    lock: so the outcome is there when it is looked for.

use super::offer::{Met, Offer, Wake};
use super::stop::Stop;
use super::trace::{self, What};
use crate::queue::Watchers;
use crate::sync_seam::{Lock, Locked};
use crate::watch::{Kind, Watch};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where the outcome of who waits is put.
pub(super) type Slot<O> = Arc<Lock<Option<O>>>;

/// Whether a word of the end of a channel is poison: the word itself is made by the process that hears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Poison,
    Retired,
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        match end {
            End::Poison => Stop::poison(),
            End::Retired => Stop::retired(),
        }
    }
}

pub(super) struct Core<T> {
    pub(super) watch: Watch,
    pub(super) number: u64,
    capacity: usize,
    state: Lock<State<T>>,
}

pub(super) struct State<T> {
    buffer: VecDeque<T>,
    readers: VecDeque<ReadEntry<T>>,
    writers: VecDeque<WriteEntry<T>>,
    pub(super) reader_ends: usize,
    pub(super) writer_ends: usize,
    poisoned: bool,
    /// Selects that have a reader of it among others.
    pub(super) watchers: Watchers,
}

struct ReadEntry<T> {
    offer: Arc<Offer>,
    branch: usize,
    slot: Slot<Result<T, End>>,
}

struct WriteEntry<T> {
    offer: Arc<Offer>,
    branch: usize,
    value: T,
    slot: Slot<Result<(), (End, T)>>,
}

/// What came of an attempt.
pub(super) enum Tried<'a, T, O> {
    Done(O),
    /// The own offer was taken elsewhere.
    Gone,
    Blocked(Locked<'a, State<T>>),
}

type Own<'a> = Option<(&'a Arc<Offer>, usize)>;

fn close_own(own: Own<'_>) -> bool {
    own.is_none_or(|(offer, branch)| offer.close_own(branch))
}

static NUMBERS: AtomicU64 = AtomicU64::new(1);

impl<T> Core<T> {
    #[track_caller]
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Core {
            watch: Watch::new(Kind::Channel),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            capacity,
            state: Lock::new(State {
                buffer: VecDeque::new(),
                readers: VecDeque::new(),
                writers: VecDeque::new(),
                reader_ends: 1,
                writer_ends: 1,
                poisoned: false,
                watchers: Watchers::default(),
            }),
        })
    }

    pub(super) fn lock(&self) -> Locked<'_, State<T>> {
        self.state.lock()
    }

    /// Reads what is there, or from who waits to write.
    pub(super) fn try_read(&self, own: Own<'_>) -> Tried<'_, T, Result<T, End>> {
        let mut state = self.state.lock();
        if state.poisoned {
            return end(own, End::Poison);
        }
        if !state.buffer.is_empty() {
            if !close_own(own) {
                return Tried::Gone;
            }
            if let Some(value) = state.buffer.pop_front() {
                let woken = self.refill(&mut state);
                drop(state);
                woken.into_iter().for_each(Wake::go);
                return Tried::Done(Ok(value));
            }
        }
        let mut at = 0;
        while let Some(entry) = state.writers.get(at) {
            match Offer::meet(own, &entry.offer, entry.branch) {
                Met::Both(woken) => {
                    if let Some(entry) = state.writers.remove(at) {
                        *entry.slot.lock() = Some(Ok(()));
                        drop(state);
                        woken.go();
                        return Tried::Done(Ok(entry.value));
                    }
                }
                Met::OtherGone => at += 1,
                Met::OwnGone => return Tried::Gone,
            }
        }
        if state.writer_ends == 0 {
            return end(own, End::Retired);
        }
        Tried::Blocked(state)
    }

    /// Takes from writers that wait what the buffer has room for.
    fn refill(&self, state: &mut State<T>) -> Vec<Wake> {
        let (mut at, mut woken) = (0, Vec::new());
        while state.buffer.len() < self.capacity && at < state.writers.len() {
            let entry = &state.writers[at];
            let Some(wake) = entry.offer.close(entry.branch) else {
                at += 1;
                continue;
            };
            woken.push(wake);
            if let Some(entry) = state.writers.remove(at) {
                *entry.slot.lock() = Some(Ok(()));
                state.buffer.push_back(entry.value);
            }
        }
        woken
    }

    /// Writes to who waits to read, or into the buffer. The value is taken out of `value` where that is done; a word of the end leaves it
    /// there.
    pub(super) fn try_write(&self, value: &mut Option<T>, own: Own<'_>) -> Tried<'_, T, Result<(), End>> {
        let mut state = self.state.lock();
        if state.poisoned {
            return end(own, End::Poison);
        }
        if state.reader_ends == 0 {
            return end(own, End::Retired);
        }
        let mut at = 0;
        while let Some(entry) = state.readers.get(at) {
            match Offer::meet(own, &entry.offer, entry.branch) {
                Met::Both(woken) => {
                    if let (Some(entry), Some(value)) = (state.readers.remove(at), value.take()) {
                        *entry.slot.lock() = Some(Ok(value));
                    }
                    drop(state);
                    woken.go();
                    return Tried::Done(Ok(()));
                }
                Met::OtherGone => at += 1,
                Met::OwnGone => return Tried::Gone,
            }
        }
        if state.buffer.len() < self.capacity {
            if !close_own(own) {
                return Tried::Gone;
            }
            state.buffer.extend(value.take());
            let watchers = state.watchers.all();
            drop(state);
            watchers.poke();
            return Tried::Done(Ok(()));
        }
        Tried::Blocked(state)
    }

    /// All of one side have gone, or somebody poisoned it: who waits hears of it. What nobody will read is dropped without the lock.
    pub(super) fn end(&self, mut state: Locked<'_, State<T>>, how: End) {
        if how == End::Poison {
            if !state.poisoned {
                trace::channel(What::Poison, self.number);
            }
            state.poisoned = true;
        } else if !state.poisoned {
            trace::channel(What::Retire, self.number);
        }
        let (mut woken, mut left) = (Vec::new(), VecDeque::new());
        if how == End::Poison || state.writer_ends == 0 {
            for entry in take_open(
                &mut state.readers,
                |entry| (&entry.offer, entry.branch),
                &mut woken,
            ) {
                *entry.slot.lock() = Some(Err(how));
            }
        }
        if how == End::Poison || state.reader_ends == 0 {
            for entry in take_open(
                &mut state.writers,
                |entry| (&entry.offer, entry.branch),
                &mut woken,
            ) {
                *entry.slot.lock() = Some(Err((how, entry.value)));
            }
            left = std::mem::take(&mut state.buffer);
        }
        let watchers = state.watchers.all();
        drop(state);
        woken.into_iter().for_each(Wake::go);
        watchers.poke();
        drop(left);
    }

    /// Takes out the entry of a reader whose offer is closed.
    pub(super) fn withdraw_read(&self, offer: &Arc<Offer>) {
        let mut state = self.state.lock();
        state.readers.retain(|entry| !Arc::ptr_eq(&entry.offer, offer));
    }

    /// Takes out the entry of a writer whose offer is closed; its value, if it is still there.
    pub(super) fn withdraw_write(&self, offer: &Arc<Offer>) -> Option<T> {
        let mut state = self.state.lock();
        let at = state
            .writers
            .iter()
            .position(|entry| Arc::ptr_eq(&entry.offer, offer))?;
        state.writers.remove(at).map(|entry| entry.value)
    }

    /// What a reader was given and did not take goes to the next.
    pub(super) fn give_back(&self, value: T) {
        let mut state = self.state.lock();
        if state.poisoned || state.reader_ends == 0 {
            drop(state);
            return drop(value);
        }
        let mut at = 0;
        while let Some(entry) = state.readers.get(at) {
            if let Some(woken) = entry.offer.close(entry.branch) {
                if let Some(entry) = state.readers.remove(at) {
                    *entry.slot.lock() = Some(Ok(value));
                }
                drop(state);
                return woken.go();
            }
            at += 1;
        }
        state.buffer.push_front(value);
        let watchers = state.watchers.all();
        drop(state);
        watchers.poke();
    }
}

/// Closes the offers of all entries that are open, and takes those out.
fn take_open<E>(
    entries: &mut VecDeque<E>,
    offer: impl Fn(&E) -> (&Arc<Offer>, usize),
    woken: &mut Vec<Wake>,
) -> Vec<E> {
    let (mut taken, mut kept) = (Vec::new(), VecDeque::new());
    for entry in entries.drain(..) {
        let (of, branch) = offer(&entry);
        match of.close(branch) {
            Some(wake) => {
                woken.push(wake);
                taken.push(entry);
            }
            None => kept.push_back(entry),
        }
    }
    *entries = kept;
    taken
}

fn end<'a, T, O>(own: Own<'_>, how: End) -> Tried<'a, T, Result<O, End>> {
    if close_own(own) {
        Tried::Done(Err(how))
    } else {
        Tried::Gone
    }
}

impl<T> State<T> {
    /// A reader begins to wait.
    pub(super) fn read_later(&mut self, offer: &Arc<Offer>, branch: usize, slot: &Slot<Result<T, End>>) {
        self.readers.push_back(ReadEntry {
            offer: Arc::clone(offer),
            branch,
            slot: Arc::clone(slot),
        });
    }

    /// A writer begins to wait.
    pub(super) fn write_later(
        &mut self,
        offer: &Arc<Offer>,
        branch: usize,
        value: T,
        slot: &Slot<Result<(), (End, T)>>,
    ) {
        self.writers.push_back(WriteEntry {
            offer: Arc::clone(offer),
            branch,
            value,
            slot: Arc::clone(slot),
        });
    }
}
