//! [`CspBarrier`]: processes that go on together, and may come and go between the rounds.

use super::offer::{Offer, Wake};
use crate::sync_seam::{Lock, Until};
use crate::watch::{self, Hold, Kind, Watch};
use std::fmt;
use std::sync::Arc;
use std::task::ready;

struct Shared {
    watch: Watch,
    state: Lock<State>,
}

struct State {
    enrolled: usize,
    waiting: Vec<Arc<Offer>>,
}

/// A place in a barrier: its process goes on when all enrolled ones have come. A clone is another place; one that is dropped resigns.
///
/// ```
/// use par_sync::csp::{self, CspBarrier};
/// use std::sync::atomic::{AtomicUsize, Ordering};
///
/// let (barrier, come) = (CspBarrier::new(), AtomicUsize::new(0));
/// csp::parallel(|network| {
///     for _ in 0..3 {
///         let (mut place, come) = (barrier.clone(), &come);
///         network.spawn("party", move || {
///             come.fetch_add(1, Ordering::Relaxed);
///             place.sync();
///             assert_eq!(come.load(Ordering::Relaxed), 3);
///             Ok(())
///         });
///     }
///     drop(barrier); // this place was only to make the others from
/// });
/// ```
pub struct CspBarrier {
    shared: Arc<Shared>,
}

impl CspBarrier {
    /// A barrier with one place, this.
    #[allow(clippy::new_without_default, reason = "a place is no default")]
    #[track_caller]
    pub fn new() -> Self {
        CspBarrier {
            shared: Arc::new(Shared {
                watch: Watch::new(Kind::Barrier),
                state: Lock::new(State {
                    enrolled: 1,
                    waiting: Vec::new(),
                }),
            }),
        }
    }

    /// How many places there are.
    pub fn enrolled(&self) -> usize {
        self.shared.state.lock().enrolled
    }

    /// The last to come wakes the others, and does not wait.
    fn come(&self) -> Option<Arc<Offer>> {
        let mut state = self.shared.state.lock();
        if state.waiting.len() + 1 >= state.enrolled {
            let all = std::mem::take(&mut state.waiting);
            drop(state);
            all.iter().filter_map(|offer| offer.close(0)).for_each(Wake::go);
            return None;
        }
        let offer = Offer::new();
        state.waiting.push(Arc::clone(&offer));
        Some(offer)
    }

    /// Waits until all have come.
    ///
    /// # Panics
    /// With the report, where the detector of deadlocks finds that the others cannot come.
    #[track_caller]
    pub fn sync(&mut self) {
        if let Some(offer) = self.come() {
            let come = || offer.taken().is_some();
            let sleep = watch::surely(self.shared.watch.wait(Hold::Shared, Until::Forever, come));
            offer.wait(Until::Forever);
            sleep.over();
        }
    }

    /// As [`sync`](Self::sync), for a light task.
    pub async fn sync_async(&mut self) {
        if let Some(offer) = self.come() {
            std::future::poll_fn(|cx| {
                ready!(offer.poll(cx));
                std::task::Poll::Ready(())
            })
            .await;
        }
    }
}

impl Clone for CspBarrier {
    /// Enrols another place.
    fn clone(&self) -> Self {
        self.shared.state.lock().enrolled += 1;
        CspBarrier {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl Drop for CspBarrier {
    /// Resigns.
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.enrolled -= 1;
        if state.enrolled > 0 && state.waiting.len() >= state.enrolled {
            let all = std::mem::take(&mut state.waiting);
            drop(state);
            all.iter().filter_map(|offer| offer.close(0)).for_each(Wake::go);
        }
    }
}

impl fmt::Debug for CspBarrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CspBarrier")
            .field("enrolled", &self.enrolled())
            .finish_non_exhaustive()
    }
}
