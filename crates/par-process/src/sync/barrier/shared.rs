//! The barrier that users have: a table in shared memory.

use super::super::identity::Identity;
use super::super::memory::Memory;
use super::super::seam::{Ordering, Until};
use super::{Gate, SyncError, View, WAITING};
use crate::shared::SharedError;
use crate::shared::header::Spec;
use crate::shared::segment::Segment;
use crate::shared::token::{Handle, shared_handle};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

const KIND: &str = "Barrier";

/// Places for those who were woken and have not run since, beside two rounds of parties.
const SPARE: usize = 16;

/// Parties of several processes that go on when all have come, round after round.
///
/// It breaks, rather than let anybody hang: when a party's time is over, when one dies while it waits (seen by the others within about
/// 100 ms), when the action panics, or by [`abort`](Self::abort). All that wait and all that come then get [`SyncError::Broken`],
/// until [`reset`](Self::reset). A party that dies before it came is seen by nobody: use
/// [`wait_timeout`](Self::wait_timeout) where that can be.
///
/// ```
/// use par_process::{Process, sync::Barrier};
///
/// let both = Barrier::new(2)?;
/// let child = Process::of_fn(both.clone(), |both: Barrier| {
///     both.wait().expect("nobody gives up");
/// });
/// let child = child.start()?;
/// both.wait()?;
/// assert_eq!(child.join()?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "multiprocessing.Barrier")]
pub struct Barrier(Memory<Gate>);

impl Barrier {
    /// A barrier for so many parties.
    ///
    /// # Errors
    /// When there is no party, or more than some 32 000; when the system has no memory or no file left.
    pub fn new(parties: usize) -> Result<Self, SharedError> {
        if parties == 0 {
            return Err(SharedError::Layout {
                what: "a barrier for no party".to_owned(),
            });
        }
        let places = parties.saturating_mul(2).saturating_add(SPARE);
        Memory::new(KIND, places, |gate: &Gate| {
            gate.parties.store(parties as u64, Ordering::Relaxed);
        })
        .map(Barrier)
    }

    fn view(&self) -> View<'_> {
        View {
            gate: self.0.head(),
            slots: self.0.places(),
        }
    }

    /// Waits until all have come. The place in the order of arrival: 0 for the first, [`parties`](Self::parties) - 1 for the last.
    ///
    /// # Errors
    /// [`SyncError::Broken`] when the barrier is broken, or breaks meanwhile.
    pub fn wait(&self) -> Result<usize, SyncError> {
        self.view().wait(Identity::own()?, Until::Forever, None::<fn()>)
    }

    /// As [`wait`](Self::wait), at most for `timeout`; past that, the barrier breaks for all.
    ///
    /// # Errors
    /// [`SyncError::TimedOut`] for the party whose time is over, and as [`wait`](Self::wait).
    pub fn wait_timeout(&self, timeout: Duration) -> Result<usize, SyncError> {
        self.view()
            .wait(Identity::own()?, Until::after(timeout), None::<fn()>)
    }

    /// As [`wait`](Self::wait), or [`wait_timeout`](Self::wait_timeout) where there is one, with an action: that of the last party to come
    /// is run, by that party, before anybody goes on.
    ///
    /// # Errors
    /// As [`wait_timeout`](Self::wait_timeout); `Broken` also if the time of another party was over while the action ran.
    ///
    /// # Panics
    /// When the action does; the barrier is broken then.
    ///
    /// ```
    /// use par_process::sync::{Barrier, Event};
    ///
    /// let (alone, done) = (Barrier::new(1)?, Event::new()?);
    /// assert_eq!(alone.wait_with(None, || done.set())?, 0);
    /// assert!(done.is_set());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn wait_with(&self, timeout: Option<Duration>, action: impl FnOnce()) -> Result<usize, SyncError> {
        let until = timeout.map_or(Until::Forever, Until::after);
        self.view().wait(Identity::own()?, until, Some(action))
    }

    /// Breaks the barrier: all that wait, and all that come, get [`SyncError::Broken`].
    ///
    /// # Errors
    /// What the system says if the table cannot be locked.
    pub fn abort(&self) -> Result<(), SyncError> {
        self.view().abort()
    }

    /// Makes the barrier as new. All that wait get [`SyncError::Broken`].
    ///
    /// # Errors
    /// What the system says if the table cannot be locked.
    pub fn reset(&self) -> Result<(), SyncError> {
        self.view().reset()
    }

    /// How many must come.
    pub fn parties(&self) -> usize {
        usize::try_from(self.0.head().parties.load(Ordering::Relaxed)).unwrap_or(usize::MAX)
    }

    /// How many wait at this moment.
    #[doc(alias = "n_waiting")]
    pub fn waiting(&self) -> usize {
        self.0
            .places()
            .iter()
            .filter(|slot| slot.state() == WAITING)
            .count()
    }

    /// Whether it is broken.
    #[doc(alias = "broken")]
    pub fn is_broken(&self) -> bool {
        self.0.head().broken.load(Ordering::Relaxed) != 0
    }
}

impl Handle for Barrier {
    fn expected() -> Spec {
        Memory::<Gate>::spec(KIND, 0)
    }
    fn segment(&self) -> &Arc<Segment> {
        self.0.segment()
    }
    fn of(segment: Arc<Segment>) -> Self {
        Barrier(Memory::of(segment))
    }
}

shared_handle!(Barrier);

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier")
            .field("parties", &self.parties())
            .field("waiting", &self.waiting())
            .field("broken", &self.is_broken())
            .finish()
    }
}
