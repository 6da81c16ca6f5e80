//! [`RawMutex`] and [`RawReentrantMutex`]: locks without data, taken and given back by calls.
//!
//! Under one small lock: who has it, how many times, and the [line](super::sleeper) of those who wait. What is given back goes to the first
//! in the line, in whose name it is held from then on.

use super::sleeper::{Line, Sleeper};
use super::{LockError, NotOwner};
use crate::Deadlock;
use crate::sync_seam::{Lock, ThreadId, Until, const_fn, current};
use crate::watch::{Hold, Kind, Watch};
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

struct Raw {
    watch: Watch,
    reentrant: bool,
    state: Lock<State>,
}

struct State {
    owner: Option<ThreadId>,
    depth: usize,
    line: Line,
    /// The threads of the line.
    names: VecDeque<ThreadId>,
}

impl Raw {
    const_fn! {
        #[track_caller]
        fn new(kind: Kind, reentrant: bool) -> Self {
            Raw {
                watch: Watch::new(kind),
                reentrant,
                state: Lock::new(State { owner: None, depth: 0, line: Line::new(), names: VecDeque::new() }),
            }
        }
    }

    #[track_caller]
    fn acquire(&self, until: Until) -> Result<(), LockError> {
        let me = current().id();
        if !self.take(&mut self.state.lock(), me) {
            if until == Until::Now {
                return Err(LockError::Busy);
            }
            // Without the lock: what the watch has to say goes to code of users.
            let waiting = self.watch.wait(Hold::Exclusive, until, || false)?;
            let mut state = self.state.lock();
            let taken = self.take(&mut state, me) || {
                let sleeper = Sleeper::mine();
                state.line.join(&sleeper);
                state.names.push_back(me);
                drop(state);
                sleeper.sleep(until) || {
                    let mut state = self.state.lock();
                    let left = state.line.leave(&sleeper);
                    if left {
                        state.names.retain(|name| *name != me);
                    }
                    !left
                }
            };
            waiting.over();
            if !taken {
                return Err(LockError::Busy);
            }
        }
        self.watch.acquired(Hold::Exclusive, until == Until::Now);
        Ok(())
    }

    /// Takes it if it is free, or this thread's.
    fn take(&self, state: &mut State, me: ThreadId) -> bool {
        let mine = state.owner.is_none() || self.reentrant && state.owner == Some(me);
        if mine {
            state.owner = Some(me);
            state.depth += 1;
        }
        mine
    }

    fn release(&self) -> Result<(), NotOwner> {
        let mut state = self.state.lock();
        match state.owner {
            None => return Err(NotOwner::Free),
            Some(owner) if owner != current().id() => return Err(NotOwner::Another),
            Some(_) => {}
        }
        self.watch.link().released(Hold::Exclusive);
        state.depth -= 1;
        if state.depth == 0 {
            state.owner = state.names.pop_front();
            state.depth = usize::from(state.owner.is_some());
            state.line.call_first();
        }
        Ok(())
    }

    fn depth(&self) -> usize {
        let state = self.state.lock();
        if state.owner == Some(current().id()) {
            state.depth
        } else {
            0
        }
    }
}

/// What both kinds have.
macro_rules! raw {
    ($name:ident, $kind:expr, $reentrant:expr) => {
        impl $name {
            const_fn! {
                /// A lock that is free.
                #[track_caller]
                pub fn new() -> Self {
                    $name(Raw::new($kind, $reentrant))
                }
            }

            /// As [`new`](Self::new), with a name for reports.
            #[track_caller]
            pub fn named(name: &str) -> Self {
                let lock = $name::new();
                lock.0.watch.name(name);
                lock
            }

            /// Waits for the lock.
            ///
            /// # Panics
            /// With the report, where the detector of deadlocks finds that it would wait for ever.
            #[track_caller]
            pub fn acquire(&self) {
                if let Err(error) = self.0.acquire(Until::Forever) {
                    super::never(&error);
                }
            }

            /// As [`acquire`](Self::acquire), for whom a deadlock is a value.
            ///
            /// # Errors
            /// The deadlock that the detector found.
            #[track_caller]
            pub fn acquire_checked(&self) -> Result<(), Deadlock> {
                match self.0.acquire(Until::Forever) {
                    Err(LockError::Deadlock(deadlock)) => Err(deadlock),
                    Err(error) => super::never(&error),
                    Ok(()) => Ok(()),
                }
            }

            /// Takes the lock if it can be had at once.
            ///
            /// # Errors
            /// [`LockError::Busy`] if it cannot.
            #[track_caller]
            pub fn try_acquire(&self) -> Result<(), LockError> {
                self.0.acquire(Until::Now)
            }

            /// Waits for the lock, at most for `timeout`.
            ///
            /// # Errors
            /// [`LockError::Busy`] when the time is over; [`LockError::Deadlock`] where the detector finds one.
            #[track_caller]
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<(), LockError> {
                self.0.acquire(Until::after(timeout))
            }

            /// Gives the lock back; it goes to who has waited longest.
            ///
            /// # Errors
            /// [`NotOwner`] if this thread does not have it. Nothing changes then.
            pub fn release(&self) -> Result<(), NotOwner> {
                self.0.release()
            }

            /// Whether somebody has it.
            #[doc(alias = "locked")]
            pub fn is_locked(&self) -> bool {
                self.0.state.lock().owner.is_some()
            }

            /// How many times this thread has it.
            pub fn depth(&self) -> usize {
                self.0.depth()
            }
        }

        impl Default for $name {
            #[track_caller]
            fn default() -> Self {
                $name::new()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("is_locked", &self.is_locked())
                    .finish_non_exhaustive()
            }
        }
    };
}

/// A lock without data, taken and given back by calls, where a guard cannot be: prefer a [`Mutex`](crate::Mutex).
///
/// Only its owner gives it back. Who waits is served in the order of arrival.
///
/// ```
/// use par_sync::{NotOwner, RawMutex};
///
/// let lock = RawMutex::new();
/// lock.acquire();
/// assert!(lock.try_acquire().is_err());
/// std::thread::scope(|scope| {
///     let other = scope.spawn(|| lock.release());
///     assert_eq!(other.join().expect("no panic"), Err(NotOwner::Another));
/// });
/// assert_eq!(lock.release(), Ok(()));
/// assert_eq!(lock.release(), Err(NotOwner::Free));
/// ```
#[doc(alias = "Lock")]
pub struct RawMutex(Raw);

raw!(RawMutex, Kind::Mutex, false);

/// As [`RawMutex`], for a thread that takes it again: it is free when it was given back as often.
///
/// ```
/// use par_sync::RawReentrantMutex;
///
/// let lock = RawReentrantMutex::new();
/// lock.acquire();
/// lock.acquire();
/// assert_eq!(lock.depth(), 2);
/// lock.release()?;
/// assert!(lock.is_locked());
/// lock.release()?;
/// assert!(!lock.is_locked());
/// # Ok::<(), par_sync::NotOwner>(())
/// ```
#[doc(alias = "RLock")]
pub struct RawReentrantMutex(Raw);

raw!(RawReentrantMutex, Kind::ReentrantMutex, true);

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn a_lock_that_comes_with_the_end_of_the_time_is_somebodys() {
        loom::model(|| {
            let lock = Arc::new(RawMutex::new());
            lock.acquire();
            let other = {
                let lock = Arc::clone(&lock);
                thread::spawn(move || {
                    let taken = lock.0.acquire(Until::passed()).is_ok();
                    assert_eq!(lock.release().is_ok(), taken);
                })
            };
            lock.release().expect("mine");
            other.join().expect("no panic");
            assert!(!lock.is_locked());
            assert!(lock.0.state.lock().names.is_empty());
        });
    }

    #[test]
    fn it_goes_from_hand_to_hand() {
        loom::model(|| {
            let lock = Arc::new(RawReentrantMutex::new());
            let inside = Arc::new(loom::sync::atomic::AtomicBool::new(false));
            let order = loom::sync::atomic::Ordering::Relaxed;
            let enter = move |lock: &RawReentrantMutex, inside: &loom::sync::atomic::AtomicBool| {
                lock.acquire();
                assert!(!inside.swap(true, order), "two are inside");
                inside.store(false, order);
                lock.release().expect("it is mine");
            };
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let (lock, inside) = (Arc::clone(&lock), Arc::clone(&inside));
                    thread::spawn(move || enter(&lock, &inside))
                })
                .collect();
            others
                .into_iter()
                .for_each(|other| other.join().expect("its turn came"));
            enter(&lock, &inside);
            assert!(!lock.is_locked());
        });
    }
}
