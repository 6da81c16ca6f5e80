//! [`Event`]: a flag that threads wait for.
//!
//! 1. `up` is the flag; it changes under the lock of the number of times that it was raised, and of those who watch.
//! 2. Who waits looks at the flag, and once more under the lock. It goes on when the number has changed: then the flag was raised,
//!    also if it is down again by now.

use super::LockError;
#[cfg(not(loom))]
use crate::queue::Poke;
use crate::queue::Watchers;
use crate::sync_seam::{AtomicBool, Lock, Ordering, Signal, Until, const_fn};
use crate::watch::{Hold, Kind, Watch};
use std::fmt;
use std::time::Duration;

/// A flag that is up or down; threads wait until it is up.
///
/// ```
/// use par_sync::Event;
///
/// static READY: Event = Event::new();
/// std::thread::scope(|scope| {
///     scope.spawn(|| READY.set());
///     READY.wait();
/// });
/// assert!(READY.is_set());
/// ```
pub struct Event {
    watch: Watch,
    up: AtomicBool,
    state: Lock<State>,
    signal: Signal,
}

struct State {
    sets: u64,
    watchers: Watchers,
}

impl Event {
    const_fn! {
        /// An event whose flag is down.
        #[track_caller]
        pub fn new() -> Self {
            Event {
                watch: Watch::new(Kind::Event),
                up: AtomicBool::new(false),
                state: Lock::new(State { sets: 0, watchers: Watchers::new() }),
                signal: Signal::new(),
            }
        }
    }

    /// As [`new`](Self::new), with a name for reports.
    #[track_caller]
    pub fn named(name: &str) -> Self {
        let event = Event::new();
        event.watch.name(name);
        event
    }

    /// Whether the flag is up.
    #[doc(alias = "isSet")]
    pub fn is_set(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Raises the flag, and wakes all who wait for it.
    pub fn set(&self) {
        let mut state = self.state.lock();
        if !self.is_set() {
            state.sets += 1;
            self.up.store(true, Ordering::Release);
            let watchers = state.watchers.all();
            drop(state);
            self.signal.notify_all();
            watchers.poke();
        }
    }

    /// Takes the flag down. Those who waited when it was up go on nevertheless.
    pub fn clear(&self) {
        let _state = self.state.lock();
        self.up.store(false, Ordering::Release);
    }

    #[track_caller]
    fn wait_until(&self, until: Until) -> Result<bool, LockError> {
        if self.is_set() {
            return Ok(true);
        }
        if until == Until::Now {
            return Ok(false);
        }
        // Without the lock: what the watch has to say goes to code of users.
        let _waiting = self.watch.wait(Hold::Shared, until, || self.is_set())?;
        let mut state = self.state.lock();
        let before = state.sets;
        if self.is_set() {
            return Ok(true);
        }
        while state.sets == before {
            if !self.signal.wait(&mut state, until) {
                return Ok(state.sets != before);
            }
        }
        Ok(true)
    }

    /// From now on `poke` hears when the flag is raised, until it is let go.
    #[cfg(not(loom))]
    pub(crate) fn watch(&self, poke: &Poke) {
        self.state.lock().watchers.add(poke);
    }

    #[cfg(not(loom))]
    pub(crate) fn unwatch(&self, poke: &Poke) {
        self.state.lock().watchers.remove(poke);
    }

    /// Waits until the flag is up.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that nobody can raise it.
    #[track_caller]
    pub fn wait(&self) {
        if let Err(error) = self.wait_until(Until::Forever) {
            super::never(&error);
        }
    }

    /// As [`wait`](Self::wait), at most for `timeout`; whether the flag was up.
    ///
    /// # Errors
    /// [`LockError::Deadlock`] where the detector finds one.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<bool, LockError> {
        self.wait_until(if timeout.is_zero() {
            Until::Now
        } else {
            Until::after(timeout)
        })
    }
}

impl Default for Event {
    #[track_caller]
    fn default() -> Self {
        Event::new()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("is_set", &self.is_set())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn a_flag_raised_and_taken_down_wakes_who_waited() {
        loom::model(|| {
            let event = Arc::new(Event::new());
            let waiter = {
                let event = Arc::clone(&event);
                thread::spawn(move || event.wait())
            };
            event.set();
            event.clear();
            // Who came after that needs another.
            event.set();
            waiter.join().expect("it goes on");
        });
    }

    #[test]
    fn a_time_that_is_over_ends_a_wait() {
        loom::model(|| {
            let event = Arc::new(Event::new());
            let sets = {
                let event = Arc::clone(&event);
                thread::spawn(move || event.set())
            };
            let seen = event.wait_until(Until::passed()).expect("no detector");
            assert!(!seen || event.is_set());
            sets.join().expect("no panic");
            assert_eq!(event.wait_until(Until::passed()), Ok(true));
        });
    }

    #[test]
    fn what_was_written_before_is_seen_by_all_who_waited() {
        loom::model(|| {
            let event = Arc::new(Event::new());
            // Relaxed: it is the event that orders the write before the reads.
            let value = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let (event, value) = (Arc::clone(&event), Arc::clone(&value));
                    thread::spawn(move || {
                        event.wait();
                        value.load(Ordering::Relaxed)
                    })
                })
                .collect();
            value.store(7, Ordering::Relaxed);
            event.set();
            for waiter in waiters {
                assert_eq!(waiter.join().expect("it goes on"), 7);
            }
        });
    }
}
