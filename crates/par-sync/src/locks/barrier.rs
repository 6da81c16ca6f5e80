//! [`Barrier`]: parties that go on when all have come.
//!
//! 1. Under one lock: the number of the round, how many have come, whether the barrier is broken, and the rounds that broke with
//!    parties in them.
//! 2. The last to come runs the action without the lock, and then begins the next round; those who wait see that theirs is over.
//!    Whoever comes while an action runs waits until it has ended, and belongs to the next round.
//!    Should its time be over by then, the barrier is broken for those who come, and the round of the action goes on.
//! 3. The barrier breaks when a party's time is over, when the action panics, and by `abort`. A round that breaks is over too, and is
//!    noted with the number of its parties; each of them strikes itself off. Everyone who comes hears of it as well, until `reset`, which
//!    breaks the round of those who wait and then begins a new one.
//! 4. These are the rules of CPython's `threading.Barrier`, whose action runs with the lock of the barrier, but for these: who gave up because its
//!    time was over is told so; the action keeps nobody waiting who looks at the barrier, aborts or resets it, and nobody counts as waiting while
//!    it runs; a party that comes meanwhile and whose time ends before the action does breaks the barrier for those who come later; and after
//!    a reset during an action, the action of the next round may run beside it.

use super::BarrierError;
use crate::sync_seam::{Lock, Locked, Signal, Until};
use crate::watch::{Hold, Kind, Watch};
use std::fmt;
use std::time::Duration;

/// A place where a number of threads, its parties, wait for each other, again and again.
///
/// ```
/// use par_sync::Barrier;
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let written = AtomicUsize::new(0);
/// let barrier = Barrier::new(3)?;
/// std::thread::scope(|scope| {
///     for _ in 0..3 {
///         scope.spawn(|| {
///             written.fetch_add(1, Ordering::Relaxed);
///             barrier.wait().expect("nobody gave up");
///             assert_eq!(written.load(Ordering::Relaxed), 3);
///         });
///     }
/// });
/// # Ok::<(), par_sync::BarrierError>(())
/// ```
pub struct Barrier {
    watch: Watch,
    parties: usize,
    timeout: Option<Duration>,
    action: Option<Box<dyn Fn() + Send + Sync>>,
    state: Lock<State>,
    signal: Signal,
}

#[derive(Debug)]
struct State {
    round: u64,
    /// How many of the round have come.
    come: usize,
    /// Whether the action of the round before runs.
    acting: bool,
    broken: bool,
    /// Rounds that broke, and how many of their parties have not heard of it (rule 3).
    broken_rounds: Vec<(u64, usize)>,
}

impl State {
    /// Ends the round, for those who wait in it.
    fn break_round(&mut self) {
        if self.come > 0 {
            self.broken_rounds.push((self.round, self.come));
        }
        self.next_round();
    }

    fn next_round(&mut self) {
        self.round += 1;
        self.come = 0;
        self.acting = false;
    }

    /// Whether a round that is over broke; the caller was in it.
    fn strike_off(&mut self, round: u64) -> bool {
        let Some(at) = self.broken_rounds.iter().position(|(number, _)| *number == round) else {
            return false;
        };
        self.broken_rounds[at].1 -= 1;
        if self.broken_rounds[at].1 == 0 {
            self.broken_rounds.swap_remove(at);
        }
        true
    }
}

impl Barrier {
    #[track_caller]
    fn make(parties: usize, action: Option<Box<dyn Fn() + Send + Sync>>) -> Result<Self, BarrierError> {
        if parties == 0 {
            return Err(BarrierError::NoParties);
        }
        Ok(Barrier {
            watch: Watch::new(Kind::Barrier),
            parties,
            timeout: None,
            action,
            state: Lock::new(State {
                round: 0,
                come: 0,
                acting: false,
                broken: false,
                broken_rounds: Vec::new(),
            }),
            signal: Signal::new(),
        })
    }

    /// A barrier for that many parties.
    ///
    /// # Errors
    /// [`BarrierError::NoParties`] for none.
    #[track_caller]
    pub fn new(parties: usize) -> Result<Self, BarrierError> {
        Barrier::make(parties, None)
    }

    /// A barrier whose last party runs `action` before all go on, each round.
    ///
    /// # Errors
    /// [`BarrierError::NoParties`] for none.
    ///
    /// ```
    /// use par_sync::Barrier;
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// let rounds = Arc::new(AtomicUsize::new(0));
    /// let counted = Arc::clone(&rounds);
    /// let barrier = Barrier::with_action(2, move || { counted.fetch_add(1, Ordering::Relaxed); })?;
    /// std::thread::scope(|scope| {
    ///     let other = scope.spawn(|| (0..10).try_for_each(|_| barrier.wait().map(drop)));
    ///     (0..10).try_for_each(|_| barrier.wait().map(drop))?;
    ///     other.join().expect("no panic")
    /// })?;
    /// assert_eq!(rounds.load(Ordering::Relaxed), 10);
    /// # Ok::<(), par_sync::BarrierError>(())
    /// ```
    #[track_caller]
    pub fn with_action(
        parties: usize,
        action: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, BarrierError> {
        Barrier::make(parties, Some(Box::new(action)))
    }

    /// With a time that [`wait`](Self::wait) waits at most.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// With a name for reports.
    #[must_use]
    pub fn named(self, name: &str) -> Self {
        self.watch.name(name);
        self
    }

    /// Waits for the others; the place in the order of arrival, from 0. For as long as it takes, unless the barrier was made
    /// with a [time](Self::timeout).
    ///
    /// # Errors
    /// [`BarrierError::Broken`], [`BarrierError::TimedOut`], or a [`BarrierError::Deadlock`] that the detector found.
    ///
    /// # Panics
    /// With the panic of the action, in the party that ran it; the barrier is broken then.
    #[track_caller]
    pub fn wait(&self) -> Result<usize, BarrierError> {
        self.wait_until(self.timeout.map_or(Until::Forever, Until::after))
    }

    /// As [`wait`](Self::wait), at most for `timeout`. The time of the action does not count.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, BarrierError> {
        self.wait_until(Until::after(timeout))
    }

    #[track_caller]
    fn wait_until(&self, until: Until) -> Result<usize, BarrierError> {
        // Without the lock: what the watch has to say goes to code of users.
        let waiting = if Watch::ON && !self.would_end() {
            Some(self.watch.wait(Hold::Shared, until, || self.would_end())?)
        } else {
            None
        };
        let mut state = self.state.lock();
        while state.acting && !state.broken {
            if !self.signal.wait(&mut state, until) && state.acting {
                // The round that acts is complete, and goes on.
                state.broken = true;
                self.signal.notify_all();
                return Err(BarrierError::TimedOut);
            }
        }
        if state.broken {
            return Err(BarrierError::Broken);
        }
        let (round, place) = (state.round, state.come);
        state.come += 1;
        if state.come == self.parties {
            if let Some(waiting) = waiting {
                waiting.over();
            }
            return self.open(state, round).map(|()| place);
        }
        while state.round == round {
            // While the action runs all have come, and its time does not count.
            let until = if state.acting { Until::Forever } else { until };
            if !self.signal.wait(&mut state, until) && state.round == round && !state.acting {
                let error = self.give_up(&mut state);
                state.strike_off(round);
                return Err(error);
            }
        }
        if state.strike_off(round) {
            return Err(BarrierError::Broken);
        }
        Ok(place)
    }

    /// Whether the next to come would not wait.
    fn would_end(&self) -> bool {
        let state = self.state.lock();
        state.broken || state.come + 1 == self.parties
    }

    /// A party's time is over.
    fn give_up(&self, state: &mut Locked<'_, State>) -> BarrierError {
        state.broken = true;
        state.break_round();
        self.signal.notify_all();
        BarrierError::TimedOut
    }

    /// What the last to come does (rule 2).
    fn open<'a>(&'a self, mut state: Locked<'a, State>, round: u64) -> Result<(), BarrierError> {
        if let Some(action) = &self.action {
            state.acting = true;
            drop(state);
            let acting = Acting { barrier: self, round };
            action();
            std::mem::forget(acting);
            state = self.state.lock();
            if state.round != round {
                // Somebody aborted or reset it meanwhile.
                state.strike_off(round);
                return Err(BarrierError::Broken);
            }
        }
        state.next_round();
        drop(state);
        self.signal.notify_all();
        Ok(())
    }

    /// Breaks the barrier: all who wait, and all who come, hear of it.
    pub fn abort(&self) {
        let mut state = self.state.lock();
        state.broken = true;
        state.break_round();
        drop(state);
        self.signal.notify_all();
    }

    /// Begins anew. Those who wait hear that their round broke.
    pub fn reset(&self) {
        let mut state = self.state.lock();
        state.broken = false;
        state.break_round();
        drop(state);
        self.signal.notify_all();
    }

    /// How many parties it is for.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// How many wait for others; none while the action runs, as all have come.
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        let state = self.state.lock();
        if state.acting { 0 } else { state.come }
    }

    /// Whether it is broken.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.state.lock().broken
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties)
            .field("waiting", &self.waiting())
            .field("is_broken", &self.is_broken())
            .finish_non_exhaustive()
    }
}

/// An action that runs; dropped only when it panics.
struct Acting<'a> {
    barrier: &'a Barrier,
    round: u64,
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        let barrier = self.barrier;
        let mut state = barrier.state.lock();
        if state.round == self.round {
            state.broken = true;
            state.break_round();
        }
        state.strike_off(self.round);
        drop(state);
        barrier.signal.notify_all();
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    fn pair(
        barrier: &Arc<Barrier>,
        other: impl FnOnce(&Barrier) -> bool + Send + 'static,
    ) -> thread::JoinHandle<bool> {
        let barrier = Arc::clone(barrier);
        thread::spawn(move || other(&barrier))
    }

    #[test]
    fn two_parties_meet_twice() {
        loom::model(|| {
            let barrier = Arc::new(Barrier::new(2).expect("parties"));
            let other = pair(&barrier, |barrier| {
                barrier.wait().is_ok() && barrier.wait().is_ok()
            });
            assert!(barrier.wait().is_ok() && barrier.wait().is_ok());
            assert!(other.join().expect("it goes on"));
            assert_eq!(barrier.waiting(), 0);
        });
    }

    #[test]
    fn who_gives_up_breaks_it_for_both_or_neither() {
        loom::model(|| {
            let barrier = Arc::new(Barrier::new(2).expect("parties"));
            let other = pair(&barrier, |barrier| barrier.wait().is_ok());
            let here = barrier.wait_until(Until::passed());
            let there = other.join().expect("it goes on");
            assert_eq!(here.is_ok(), there);
            assert_eq!(barrier.is_broken(), here == Err(BarrierError::TimedOut));
            assert!(barrier.state.lock().broken_rounds.is_empty());
        });
    }

    #[test]
    fn all_hear_of_an_abort() {
        loom::model(|| {
            let barrier = Arc::new(Barrier::new(2).expect("parties"));
            let other = pair(&barrier, |barrier| barrier.wait() == Err(BarrierError::Broken));
            barrier.abort();
            assert!(other.join().expect("it goes on"));
            assert!(barrier.is_broken());
            assert!(barrier.state.lock().broken_rounds.is_empty());
        });
    }

    #[test]
    fn a_reset_breaks_the_round_or_comes_before_it() {
        loom::model(|| {
            let barrier = Arc::new(Barrier::new(2).expect("parties"));
            let other = pair(&barrier, |barrier| match barrier.wait() {
                Err(BarrierError::Broken) => barrier.wait().is_ok(),
                met => met.is_ok(),
            });
            barrier.reset();
            assert!(barrier.wait().is_ok());
            assert!(other.join().expect("it goes on"));
            assert!(!barrier.is_broken());
            assert!(barrier.state.lock().broken_rounds.is_empty());
        });
    }

    #[test]
    fn an_action_runs_once_a_round_before_anybody_goes_on() {
        loom::model(|| {
            let runs = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
            let counted = Arc::clone(&runs);
            let order = loom::sync::atomic::Ordering::Relaxed;
            let barrier = Barrier::with_action(2, move || {
                counted.fetch_add(1, order);
            });
            let barrier = Arc::new(barrier.expect("parties"));
            let seen = Arc::clone(&runs);
            let other = pair(&barrier, move |barrier| {
                barrier.wait().is_ok() && seen.load(order) == 1
            });
            assert!(barrier.wait().is_ok());
            assert_eq!(runs.load(order), 1);
            assert!(other.join().expect("it goes on"));
        });
    }
}
