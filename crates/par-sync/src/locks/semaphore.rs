//! [`Semaphore`] and [`BoundedSemaphore`]: a number of permits.
//!
//! 1. Under one lock: how many permits are free, and the [line](super::sleeper) of those who wait. Only if the line is empty are there
//!    free permits, and only then does who comes get one at once.
//! 2. What is given back goes to the first in the line, by its call: permits are served in the order of arrival.

use super::sleeper::{Line, Sleeper};
use super::{LockError, OverRelease};
use crate::sync_seam::{Lock, Until, const_fn};
use crate::watch::{Hold, Kind, Watch};
use std::fmt;
use std::time::Duration;

struct Permits {
    watch: Watch,
    bound: usize,
    state: Lock<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    line: Line,
}

impl State {
    /// Takes a permit that is free.
    fn take(&mut self) -> bool {
        let free = self.free > 0;
        self.free -= usize::from(free);
        free
    }
}

impl Permits {
    const_fn! {
        #[track_caller]
        fn new(free: usize, bound: usize) -> Self {
            Permits {
                watch: Watch::new(Kind::Semaphore),
                bound,
                state: Lock::new(State { free, line: Line::new() }),
            }
        }
    }

    #[track_caller]
    fn acquire(&self, until: Until) -> Result<Permit<'_>, LockError> {
        if self.state.lock().take() {
            return Ok(Permit { of: self });
        }
        if until == Until::Now {
            return Err(LockError::Busy);
        }
        // Without the lock: what the watch has to say goes to code of users.
        let waiting = self
            .watch
            .wait(Hold::Exclusive, until, || self.state.lock().free > 0)?;
        let mut state = self.state.lock();
        let taken = state.take() || {
            let me = Sleeper::mine();
            state.line.join(&me);
            drop(state);
            me.sleep(until) || !self.state.lock().line.leave(&me)
        };
        waiting.over();
        taken.then(|| Permit { of: self }).ok_or(LockError::Busy)
    }

    fn release(&self, given: usize) -> Result<(), OverRelease> {
        let mut state = self.state.lock();
        let (free, bound) = (state.free, self.bound);
        if given > bound - free {
            return Err(OverRelease { given, free, bound });
        }
        let called = (0..given).take_while(|_| state.line.call_first()).count();
        state.free += given - called;
        Ok(())
    }
}

/// A permit of a semaphore, given back when it is dropped.
#[must_use = "the permit is given back as soon as it is dropped"]
pub struct Permit<'a> {
    of: &'a Permits,
}

impl Permit<'_> {
    /// Keeps the permit for good; somebody may give one back with `release`.
    pub fn spend(self) {
        std::mem::forget(self);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        // There may be too many only if others gave back what they did not have; then this one is theirs.
        let _ = self.of.release(1);
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

/// What both kinds have.
macro_rules! semaphore {
    ($name:ident) => {
        impl $name {
            /// As `new`, with a name for reports.
            #[track_caller]
            pub fn named(name: &str, permits: usize) -> Self {
                let semaphore = $name::new(permits);
                semaphore.0.watch.name(name);
                semaphore
            }

            /// Waits for a permit.
            ///
            /// # Panics
            /// With the report, where the detector of deadlocks finds that nobody can give one back.
            #[track_caller]
            pub fn acquire(&self) -> Permit<'_> {
                match self.0.acquire(Until::Forever) {
                    Ok(permit) => permit,
                    Err(error) => super::never(&error),
                }
            }

            /// A permit if one is free, and nobody waits for it.
            ///
            /// # Errors
            /// [`LockError::Busy`] if none is.
            #[track_caller]
            pub fn try_acquire(&self) -> Result<Permit<'_>, LockError> {
                self.0.acquire(Until::Now)
            }

            /// Waits for a permit, at most for `timeout`.
            ///
            /// # Errors
            /// [`LockError::Busy`] when the time is over; [`LockError::Deadlock`] where the detector finds one.
            #[track_caller]
            pub fn acquire_timeout(&self, timeout: Duration) -> Result<Permit<'_>, LockError> {
                self.0.acquire(if timeout.is_zero() {
                    Until::Now
                } else {
                    Until::after(timeout)
                })
            }

            /// How many permits are free.
            pub fn available(&self) -> usize {
                self.0.state.lock().free
            }

            /// How many threads wait for a permit.
            pub fn waiting(&self) -> usize {
                self.0.state.lock().line.len()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("available", &self.available())
                    .field("waiting", &self.waiting())
                    .finish()
            }
        }
    };
}

/// Permits, which are taken and given back, also by others than those who took them. Served in the order of arrival.
///
/// ```
/// use par_sync::Semaphore;
///
/// // At most two at a time.
/// let places = Semaphore::new(2);
/// let (_one, two) = (places.acquire(), places.acquire());
/// assert!(places.try_acquire().is_err());
/// drop(two);
/// assert!(places.try_acquire().is_ok());
///
/// // One thread makes what another uses.
/// let made = Semaphore::new(0);
/// std::thread::scope(|scope| {
///     scope.spawn(|| made.release(3));
///     (0..3).for_each(|_| made.acquire().spend());
/// });
/// assert_eq!(made.available(), 0);
/// ```
pub struct Semaphore(Permits);

impl Semaphore {
    const_fn! {
        /// A semaphore with that many free permits. Less than none cannot be said.
        #[track_caller]
        pub fn new(permits: usize) -> Self {
            Semaphore(Permits::new(permits, usize::MAX))
        }
    }

    /// Gives back, or makes, as many permits, and wakes as many of those who wait. None is nothing, and no error as in CPython.
    ///
    /// # Errors
    /// [`OverRelease`] when there would be more than a `usize` counts; nothing is given back then.
    pub fn release(&self, permits: usize) -> Result<(), OverRelease> {
        self.0.release(permits)
    }
}

semaphore!(Semaphore);

/// A [`Semaphore`] that never has more free permits than it began with: what is given back too often is an error.
///
/// ```
/// use par_sync::BoundedSemaphore;
///
/// let connections = BoundedSemaphore::new(1);
/// connections.acquire().spend();
/// assert!(connections.release(1).is_ok());
/// assert_eq!(
///     connections.release(1).unwrap_err().to_string(),
///     "1 permits given back would make 1 free ones more than the 1 there may be"
/// );
/// ```
pub struct BoundedSemaphore(Permits);

impl BoundedSemaphore {
    const_fn! {
        /// A semaphore with that many permits, all free.
        #[track_caller]
        pub fn new(permits: usize) -> Self {
            BoundedSemaphore(Permits::new(permits, permits))
        }
    }

    /// Gives back as many permits, and wakes as many of those who wait.
    ///
    /// # Errors
    /// [`OverRelease`] when more would be free than there are; nothing is given back then.
    pub fn release(&self, permits: usize) -> Result<(), OverRelease> {
        self.0.release(permits)
    }
}

semaphore!(BoundedSemaphore);

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn one_permit_is_one_threads() {
        loom::model(|| {
            let semaphore = Arc::new(Semaphore::new(1));
            let inside = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let enter = |semaphore: &Semaphore, inside: &loom::sync::atomic::AtomicUsize| {
                let _permit = semaphore.acquire();
                assert_eq!(inside.fetch_add(1, loom::sync::atomic::Ordering::Relaxed), 0);
                inside.fetch_sub(1, loom::sync::atomic::Ordering::Relaxed);
            };
            let other = {
                let (semaphore, inside) = (Arc::clone(&semaphore), Arc::clone(&inside));
                thread::spawn(move || enter(&semaphore, &inside))
            };
            enter(&semaphore, &inside);
            other.join().expect("it had its turn");
            assert_eq!((semaphore.available(), semaphore.waiting()), (1, 0));
        });
    }

    #[test]
    fn a_permit_that_comes_with_the_end_of_the_time_is_not_lost() {
        loom::model(|| {
            let semaphore = Arc::new(Semaphore::new(0));
            let gives = {
                let semaphore = Arc::clone(&semaphore);
                thread::spawn(move || semaphore.release(1).expect("room"))
            };
            let taken = semaphore.0.acquire(Until::passed()).map(Permit::spend).is_ok();
            gives.join().expect("it gave");
            assert_eq!(semaphore.available(), usize::from(!taken));
            assert_eq!(semaphore.waiting(), 0);
        });
    }

    #[test]
    fn what_is_made_wakes_as_many() {
        loom::model(|| {
            let semaphore = Arc::new(Semaphore::new(0));
            let takers: Vec<_> = (0..2)
                .map(|_| {
                    let semaphore = Arc::clone(&semaphore);
                    thread::spawn(move || semaphore.acquire().spend())
                })
                .collect();
            semaphore.release(2).expect("room");
            takers
                .into_iter()
                .for_each(|taker| taker.join().expect("it has one"));
            assert_eq!((semaphore.available(), semaphore.waiting()), (0, 0));
        });
    }
}
