//! The promise of the test engine to those who borrow.

use super::Faulty;
use par_core::engine::Borrowing;
use std::thread;

// SAFETY: jobs are run by the threads of this process, and a claim ends when its run does; nothing of a job is touched after.
unsafe impl Borrowing for Faulty {
    fn join<A, B, RA, RB>(&self, a: A, b: B) -> (RA, RB)
    where
        A: FnOnce() -> RA + Send,
        B: FnOnce() -> RB + Send,
        RA: Send,
        RB: Send,
    {
        thread::scope(|scope| {
            let b = scope.spawn(b);
            let a = a();
            (
                a,
                b.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        })
    }
}
