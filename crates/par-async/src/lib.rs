//! Awaiting the pools of the par toolkit: several handles at once, from any async runtime, without a thread each.
//!
//! A [`Handle`] of any pool is a future. This crate adds the waits over several of them. It needs no runtime of its own:
//! the worker that finishes a task wakes whoever awaits it. Its own event loop and its pool of async tasks are still to come.
//!
//! ```
//! use par_async::{SerialPool, block_on, gather, task};
//!
//! #[task]
//! fn square(x: u64) -> u64 { x * x }
//!
//! let pool = SerialPool::new(1)?;
//! let handles = [2, 3, 4].map(|x| pool.submit::<square>(x)).into_iter().collect::<Result<Vec<_>, _>>()?;
//! let squares = block_on(gather(handles));
//! assert_eq!(squares, [Ok(4), Ok(9), Ok(16)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | asyncio, concurrent.futures | here |
//! |---|---|
//! | `await future` | `handle.await` |
//! | `asyncio.gather` | [`gather`] |
//! | `asyncio.wait(.., FIRST_COMPLETED)` | [`first_completed`] |
//! | `asyncio.as_completed` | [`as_completed`] |
//! | `future.cancel()` | [`Handle::cancel`] |

#![forbid(unsafe_code)]

pub use par_core;
// The whole trait layer: who depends on this crate alone needs no other. The waits below replace the blocking ones of that name.
pub use par_core::*;

mod pool;

pub use pool::{AsyncEngine, AsyncOptions, AsyncPool, OnRuntime};

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Awaits all handles; the outcomes, in their order.
#[doc(alias = "asyncio.gather")]
pub async fn gather<O: 'static>(handles: impl IntoIterator<Item = Handle<O>>) -> Vec<Result<O, TaskError>> {
    let mut outcomes = Vec::new();
    // All tasks run already: awaiting one after the other takes as long as the slowest of them.
    for handle in handles.into_iter().collect::<Vec<_>>() {
        outcomes.push(handle.await);
    }
    outcomes
}

/// Awaits whichever handle is done first, takes it out of the vector and returns its place and outcome. `None` if there is
/// no handle.
#[doc(alias = "FIRST_COMPLETED")]
pub async fn first_completed<O: 'static>(
    handles: &mut Vec<Handle<O>>,
) -> Option<(usize, Result<O, TaskError>)> {
    if handles.is_empty() {
        return None;
    }
    let (place, outcome) = poll_fn(|cx| poll_any(handles, cx)).await;
    handles.remove(place);
    Some((place, outcome))
}

fn poll_any<O: 'static>(
    handles: &mut [Handle<O>],
    cx: &mut Context<'_>,
) -> Poll<(usize, Result<O, TaskError>)> {
    // Every pending handle must hold the waker, so the search ends only at one that is ready.
    for (place, handle) in handles.iter_mut().enumerate() {
        if let Poll::Ready(outcome) = Pin::new(handle).poll(cx) {
            return Poll::Ready((place, outcome));
        }
    }
    Poll::Pending
}

/// The outcomes of the handles as their tasks end.
///
/// ```
/// use par_async::{SerialPool, as_completed, block_on, task};
///
/// #[task]
/// fn half(x: u64) -> u64 { x / 2 }
///
/// let pool = SerialPool::new(1)?;
/// let mut done = as_completed([pool.submit::<half>(6)?, pool.submit::<half>(8)?]);
/// let total = block_on(async {
///     let mut total = 0;
///     while let Some((_, outcome)) = done.next().await {
///         total += outcome.unwrap();
///     }
///     total
/// });
/// assert_eq!(total, 7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn as_completed<O: 'static>(handles: impl IntoIterator<Item = Handle<O>>) -> AsCompleted<O> {
    let (places, handles) = handles.into_iter().enumerate().unzip();
    AsCompleted { places, handles }
}

/// See [`as_completed`].
pub struct AsCompleted<O: 'static> {
    /// The place in the input of each handle that is left.
    places: Vec<usize>,
    handles: Vec<Handle<O>>,
}

impl<O: 'static> AsCompleted<O> {
    /// The next outcome, with the place of its handle in the input; `None` when all have come.
    pub async fn next(&mut self) -> Option<(usize, Result<O, TaskError>)> {
        let (now, outcome) = first_completed(&mut self.handles).await?;
        Some((self.places.remove(now), outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_core::SerialPool;

    #[par_core::task]
    fn picky(x: u64) -> Result<u64, String> {
        if x == 2 { Err("two".to_owned()) } else { Ok(x) }
    }

    fn handles(inputs: &[u64]) -> Vec<Handle<u64>> {
        let pool = SerialPool::new(1).expect("starts");
        inputs
            .iter()
            .map(|x| pool.submit::<picky>(*x).expect("open"))
            .collect()
    }

    #[test]
    fn outcomes_keep_the_order_of_their_handles_and_failures_stay_values() {
        let outcomes = block_on(gather(handles(&[1, 2, 3])));
        assert_eq!((&outcomes[0], &outcomes[2]), (&Ok(1), &Ok(3)));
        let error = outcomes[1].as_ref().expect_err("two").to_string();
        assert_eq!(error, "task failed: two [alloc::string::String]");
    }

    #[test]
    fn each_outcome_comes_once_with_its_place() {
        let mut done = as_completed(handles(&[1, 4, 5]));
        let mut seen = Vec::new();
        while let Some((place, outcome)) = block_on(done.next()) {
            seen.push((place, outcome.expect("fine")));
        }
        seen.sort_unstable();
        assert_eq!(seen, [(0, 1), (1, 4), (2, 5)]);
        assert!(block_on(first_completed::<u64>(&mut Vec::new())).is_none());
    }
}
