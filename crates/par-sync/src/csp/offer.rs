//! An offer: a process that waits at one or several channels, and takes the first communication that comes.
//!
//! 1. An offer is open until it is closed once, with the number of the branch that was taken. It is closed under its own lock.
//! 2. Two offers that meet are closed together or not at all: both locks are held, that with the lower address first.
//! 3. Locks of offers are taken with that of a channel held, and none after them. One channel is locked at a time.

use crate::sync_seam::{Lock, Locked, Signal, Until};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

pub(super) struct Offer {
    state: Lock<State>,
    signal: Signal,
}

#[derive(Default)]
struct State {
    taken: Option<usize>,
    waker: Option<Waker>,
}

/// Whom to wake, once no lock is held: a waker is code of the user's.
#[must_use]
pub(super) struct Wake(Option<Waker>);

impl Wake {
    pub(super) fn go(self) {
        if let Some(waker) = self.0 {
            waker.wake();
        }
    }
}

/// What came of two offers that met.
pub(super) enum Met {
    Both(Wake),
    /// The other has been taken by somebody else; its entry stays where it is, until it is withdrawn.
    OtherGone,
    OwnGone,
}

impl Offer {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Offer {
            state: Lock::new(State::default()),
            signal: Signal::new(),
        })
    }

    fn close_locked(&self, mut state: Locked<'_, State>, branch: usize) -> Wake {
        state.taken = Some(branch);
        let waker = state.waker.take();
        drop(state);
        self.signal.notify_all();
        Wake(waker)
    }

    /// Closes it, if it is open.
    pub(super) fn close(&self, branch: usize) -> Option<Wake> {
        let state = self.state.lock();
        state.taken.is_none().then(|| self.close_locked(state, branch))
    }

    /// As `close`, for the process that made it, which needs no waking.
    pub(super) fn close_own(&self, branch: usize) -> bool {
        self.close(branch).is_some()
    }

    /// Closes both (rule 2); without an own offer, the other alone.
    pub(super) fn meet(own: Option<(&Arc<Offer>, usize)>, other: &Arc<Offer>, branch: usize) -> Met {
        let Some((own, mine)) = own else {
            return other.close(branch).map_or(Met::OtherGone, Met::Both);
        };
        if Arc::ptr_eq(own, other) {
            return Met::OtherGone;
        }
        let own_first = Arc::as_ptr(own) < Arc::as_ptr(other);
        let (first, second) = if own_first { (own, other) } else { (other, own) };
        let (one, two) = (first.state.lock(), second.state.lock());
        let (my_state, other_state) = if own_first { (one, two) } else { (two, one) };
        if my_state.taken.is_some() {
            return Met::OwnGone;
        }
        if other_state.taken.is_some() {
            return Met::OtherGone;
        }
        // It is not asleep.
        let _ = own.close_locked(my_state, mine);
        Met::Both(other.close_locked(other_state, branch))
    }

    /// The branch that was taken, if one was in time.
    pub(super) fn wait(&self, until: Until) -> Option<usize> {
        let mut state = self.state.lock();
        while state.taken.is_none() {
            if !self.signal.wait(&mut state, until) {
                break;
            }
        }
        state.taken
    }

    pub(super) fn taken(&self) -> Option<usize> {
        self.state.lock().taken
    }

    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<usize> {
        let mut state = self.state.lock();
        if let Some(branch) = state.taken {
            return Poll::Ready(branch);
        }
        // A waker is dropped without the lock: it is not ours.
        let old = match &state.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => state.waker.replace(cx.waker().clone()),
        };
        drop(state);
        drop(old);
        Poll::Pending
    }
}
