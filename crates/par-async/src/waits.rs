//! Waits over several handles of any pool, under any runtime.

use par_core::{Handle, TaskError};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Awaits all handles; the outcomes, in their order.
///
/// ```
/// use par_async::{SerialPool, block_on, gather, task};
///
/// #[task]
/// fn square(x: u64) -> u64 { x * x }
///
/// let pool = SerialPool::new(1)?;
/// let handles = [2, 3, 4].map(|x| pool.submit::<square>(x)).into_iter().collect::<Result<Vec<_>, _>>()?;
/// assert_eq!(block_on(gather(handles)), [Ok(4), Ok(9), Ok(16)]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
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
    let arrived = Arc::new(Mutex::new(Arrived::default()));
    let handles: Vec<_> = handles.into_iter().map(Some).collect();
    for (place, handle) in handles.iter().flatten().enumerate() {
        let arrived = Arc::clone(&arrived);
        handle.on_done(move || {
            let waker = {
                let mut arrived = arrived.lock();
                arrived.places.push_back(place);
                arrived.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        });
    }
    AsCompleted {
        handles,
        first: 0,
        arrived,
    }
}

/// See [`as_completed`].
pub struct AsCompleted<O: 'static> {
    /// By place; nothing where the outcome was given.
    handles: Vec<Option<Handle<O>>>,
    /// No handle is left before this place.
    first: usize,
    arrived: Arc<Mutex<Arrived>>,
}

#[derive(Default)]
struct Arrived {
    places: VecDeque<usize>,
    waker: Option<Waker>,
}

impl<O: 'static> AsCompleted<O> {
    /// The next outcome, with the place of its handle in the input; `None` when all have come.
    pub async fn next(&mut self) -> Option<(usize, Result<O, TaskError>)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Result<O, TaskError>)>> {
        loop {
            let place = {
                let mut arrived = self.arrived.lock();
                arrived.waker = Some(cx.waker().clone());
                arrived.places.pop_front()
            };
            match place {
                // One that was polled to its end below has been given already.
                Some(place) => {
                    if let Poll::Ready(Some(outcome)) = self.poll_at(place, cx) {
                        return Poll::Ready(Some((place, outcome)));
                    }
                }
                None => break,
            }
        }
        while self.handles.get(self.first).is_some_and(Option::is_none) {
            self.first += 1;
        }
        let place = self.first;
        if place == self.handles.len() {
            return Poll::Ready(None);
        }
        // On a worker of its pool without a runtime, awaiting is what runs it.
        self.poll_at(place, cx)
            .map(|outcome| outcome.map(|outcome| (place, outcome)))
    }

    /// The outcome of the handle at that place, once; nothing where it was given.
    fn poll_at(&mut self, place: usize, cx: &mut Context<'_>) -> Poll<Option<Result<O, TaskError>>> {
        let slot = &mut self.handles[place];
        let Some(handle) = slot else {
            return Poll::Ready(None);
        };
        Pin::new(handle).poll(cx).map(|outcome| {
            *slot = None;
            Some(outcome)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_core::{SerialPool, block_on};

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

    #[par_core::task]
    async fn in_turn(x: u64) -> Result<u64, TaskError> {
        let pool = par_core::current().expect("inside a task");
        let children = (0..x).map(|x| pool.submit::<picky>(x + 3));
        let mut done = as_completed(children.collect::<Result<Vec<_>, _>>()?);
        let mut sum = 0;
        while let Some((_, outcome)) = done.next().await {
            sum += outcome?;
        }
        Ok(sum)
    }

    #[test]
    fn a_worker_without_a_runtime_runs_what_it_awaits_by_completion() {
        let pool = par_sync::ThreadPool::new(1).expect("starts");
        let handle = pool.submit::<in_turn>(4).expect("open");
        let sum = handle
            .wait_timeout(std::time::Duration::from_secs(30))
            .expect("it hangs");
        assert_eq!(sum, Ok(3 + 4 + 5 + 6));
    }
}
