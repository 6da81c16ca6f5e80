//! A future driven to its end on the calling thread, for async tasks on engines without a runtime.

use crate::context;
use crate::handle::{Blocking, look_again};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

/// Says in a bit of its own that the future wants to be polled: what runs inside a poll may park as well, and then takes the
/// thread's token.
struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// Polls `future` on this thread, parking between polls, until it is ready. A worker that parks counts as one that waits.
///
/// ```
/// assert_eq!(par_core::block_on(async { 2 + 2 }), 4);
/// ```
///
/// # Panics
/// In an async task, if the future is not ready at once: parking would stall whatever polls the task. Await it instead.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let unpark = Arc::new(Unpark {
        thread: thread::current(),
        woken: AtomicBool::new(false),
    });
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        if unpark.woken.swap(false, Ordering::Acquire) {
            continue;
        }
        if let Err(error) = context::may_block() {
            panic!("{error}");
        }
        let engine = context::worker_engine();
        let _lent = engine.as_ref().map(Blocking::begin);
        let again = engine.as_ref().and_then(look_again);
        // A poll too many does no harm; on a worker it runs what is awaited where it can (law 9).
        while !unpark.woken.swap(false, Ordering::Acquire) && again.is_none_or(|again| Instant::now() < again)
        {
            match again {
                None => thread::park(),
                Some(again) => thread::park_timeout(again.saturating_duration_since(Instant::now())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_from_another_thread_ends_the_wait() {
        let flag = Arc::new(AtomicBool::new(false));
        let value = block_on(std::future::poll_fn(|cx| {
            if flag.load(Ordering::Acquire) {
                return Poll::Ready(5);
            }
            let (flag, waker) = (Arc::clone(&flag), cx.waker().clone());
            thread::spawn(move || {
                flag.store(true, Ordering::Release);
                waker.wake();
            });
            Poll::Pending
        }));
        assert_eq!(value, 5);
    }

    #[test]
    fn in_async_code_it_panics_instead_of_parking() {
        let _blocking = context::forbid_blocking();
        assert_eq!(block_on(async { 5 }), 5, "what is ready needs no parking");
        let outcome = crate::panics::catch(|| block_on(std::future::pending::<()>()));
        let error = outcome.expect_err("it would stall the runtime").to_string();
        assert!(error.contains(".await"), "{error}");
    }

    #[test]
    fn a_poll_that_parks_takes_no_wake_away() {
        let mut polls = 0;
        let value = block_on(std::future::poll_fn(|cx| {
            polls += 1;
            if polls == 2 {
                return Poll::Ready(polls);
            }
            cx.waker().wake_by_ref();
            thread::park(); // as a blocking wait inside a poll does
            Poll::Pending
        }));
        assert_eq!(value, 2);
    }
}
