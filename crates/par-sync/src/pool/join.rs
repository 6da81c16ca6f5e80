//! Fork and join: the second half is offered on the worker's deque while the first runs.
//!
//! 1. Thieves take the oldest half of a deque; its owner takes back the newest. A deque therefore holds only halves that
//!    frames of its owner wait for, and what was offered earlier was stolen earlier.
//! 2. A joiner whose half was stolen runs only what that half waits for (law 9): halves from the deque of its thief. All of
//!    them belong to the stolen half, since the thief's deque was empty when it stole: only a worker with an empty deque
//!    steals, by rule 1 (leapfrogging: Wagner and Calder, 1993).
//! 3. A joiner that finds nothing of that kind sleeps on the latch of its half; the thief wakes it early when it offers a
//!    half of its own.

use super::stack_job::StackJob;
use super::worker::Worker;
use super::{Inner, blocking::Asleep};
use par_core::Carried;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Looks at the latch before the joiner sleeps; the last three quarters let others have the core.
const LOOKS: u32 = 256;

/// Runs both halves, on a worker that is here or by way of one.
#[inline]
pub(crate) fn join<A, B, RA, RB>(inner: &Inner, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    Worker::here(inner, |worker| match worker {
        Some(worker) => join_here(worker, a, b),
        None => join_from_outside(inner, a, b),
    })
}

/// The first half runs here, the second wherever it is taken first.
fn join_here<A, B, RA, RB>(worker: &Worker, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    let Some(bench) = worker.bench() else {
        // A substitute has no deque: it is there to keep things going, not to go fast.
        return in_turn(a, b);
    };
    let half = StackJob::new(b, &bench.thread, worker.task());
    // SAFETY: the reference goes into the deque only, and below it comes back or the latch is waited for, also when `a`
    // panics. The task is held by the frame that runs it, which lies below this one.
    bench.offer(unsafe { half.reference() }, worker.inner());
    let a = catch_unwind(AssertUnwindSafe(a)).map_err(Carried::of);
    match bench.take_back() {
        Some(reference) if reference.is(&half) => match half.into_function() {
            Some(b) => then(a, b),
            None => unreachable!("a half whose reference came back was not run"),
        },
        Some(_) => {
            // The join within `a` that offered it has not ended, which rule 1 excludes. Nothing could be done that is sound.
            eprintln!("par: a join has ended before one that it holds");
            std::process::abort()
        }
        None => {
            wait_stolen(worker, &half);
            match (a, half.into_result()) {
                (Ok(a), Some(Ok(b))) => (a, b),
                (Err(panic), _) | (Ok(_), Some(Err(panic))) => panic.resume(),
                (Ok(_), None) => unreachable!("an open latch has a result"),
            }
        }
    }
}

/// Both halves, one after the other.
fn in_turn<A, B, RA, RB>(a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA,
    B: FnOnce() -> RB,
{
    then(catch_unwind(AssertUnwindSafe(a)).map_err(Carried::of), b)
}

/// The second half after the first. Both end before a panic goes on; of two panics it is the first.
#[inline]
fn then<B, RA, RB>(a: Result<RA, Carried>, b: B) -> (RA, RB)
where
    B: FnOnce() -> RB,
{
    match a {
        Ok(a) => (a, b()),
        Err(panic) => {
            let _ = catch_unwind(AssertUnwindSafe(b)).map_err(Carried::of);
            panic.resume()
        }
    }
}

#[cold]
fn wait_stolen<F, R>(worker: &Worker, half: &StackJob<'_, F, R>)
where
    F: FnOnce() -> R + Send,
    R: Send,
{
    let mut looks = 0;
    while !half.latch.is_open() {
        let thief = half.thief();
        if let Some(stolen) = thief.and_then(|thief| worker.steal_from(thief)) {
            stolen.run(worker);
            looks = 0;
            continue;
        }
        looks += 1;
        if looks < LOOKS / 4 {
            std::hint::spin_loop();
        } else if looks < LOOKS || thief.is_none() {
            thread::yield_now();
        } else if let Some(thief) = thief {
            if worker.watch(thief) {
                let _asleep = Asleep::begin(worker.inner(), worker.index());
                half.latch.sleep();
            }
            looks = 0;
        }
    }
}

/// A join by a thread that is no worker: both halves move to one, and the caller sleeps meanwhile.
fn join_from_outside<A, B, RA, RB>(inner: &Inner, a: A, b: B) -> (RA, RB)
where
    A: FnOnce() -> RA + Send,
    B: FnOnce() -> RB + Send,
    RA: Send,
    RB: Send,
{
    let me = crate::sync_seam::current();
    let both = StackJob::new(
        || {
            Worker::here(inner, |worker| match worker {
                Some(worker) => join_here(worker, a, b),
                None => in_turn(a, b),
            })
        },
        &me,
        std::ptr::null(),
    );
    // SAFETY: either the reference is refused and dropped, or the latch is waited for below.
    if inner.inject(unsafe { both.reference() }) {
        for look in 0..LOOKS {
            if both.latch.is_open() {
                break;
            }
            if look < LOOKS / 4 {
                std::hint::spin_loop()
            } else {
                thread::yield_now()
            }
        }
        while !both.latch.is_open() {
            both.latch.sleep();
        }
        match both.into_result() {
            Some(Ok(values)) => values,
            Some(Err(panic)) => panic.resume(),
            None => unreachable!("an open latch has a result"),
        }
    } else {
        // The pool is closed: nobody would come.
        match both.into_function() {
            Some(both) => both(),
            None => unreachable!("a refused half was not run"),
        }
    }
}
