//! A future driven to its end on the calling thread, for async tasks on engines without a runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls `future` on this thread, parking between polls, until it is ready.
///
/// ```
/// assert_eq!(par_core::block_on(async { 2 + 2 }), 4);
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            // A wake between poll and park leaves a token behind, so none is missed.
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

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
}
