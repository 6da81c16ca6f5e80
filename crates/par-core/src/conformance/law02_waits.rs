//! Law 2, the waits: whichever way one waits, the outcome comes once and is the same.

use super::bench::{Bench, submit};
use super::tasks::uneven;
use crate::executor::block_on;
use crate::handle::{Handle, as_completed, wait_all, wait_any};
use crate::pool::AnyPool;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const TASKS: u64 = 24;

pub(super) fn agree(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let calls = Arc::new(AtomicUsize::new(0));
    let start = || -> Vec<Handle<u64>> {
        let handles: Vec<_> = (0..TASKS).map(|x| submit::<uneven>(&pool, x)).collect();
        for handle in &handles {
            let calls = Arc::clone(&calls);
            handle.on_done(move || {
                calls.fetch_add(1, Ordering::Relaxed);
            });
        }
        handles
    };
    let expected: Vec<u64> = (0..TASKS).map(|x| 2 * x).collect();
    let good = |outcomes: Vec<Result<u64, _>>| {
        outcomes
            .into_iter()
            .collect::<Result<Vec<u64>, crate::TaskError>>()
    };

    assert_eq!(good(wait_all(start())), Ok(expected.clone()), "wait_all");
    assert_eq!(
        good(start().into_iter().map(block_on).collect()),
        Ok(expected.clone()),
        "await"
    );
    assert_eq!(
        good(start().into_iter().map(|handle| bench.ended(handle)).collect()),
        Ok(expected.clone()),
        "wait_timeout"
    );

    let mut by_place: Vec<(usize, u64)> = as_completed(start())
        .map(|(place, o)| (place, o.expect("a value")))
        .collect();
    by_place.sort_unstable();
    assert_eq!(
        by_place,
        expected.iter().copied().enumerate().collect::<Vec<_>>(),
        "as_completed"
    );

    let mut handles = start();
    let mut seen = BTreeSet::new();
    while let Some(done) = wait_any(&mut handles, Some(Instant::now() + bench.patience())) {
        assert!(done.is_done(), "wait_any gave a task that has not ended");
        assert!(
            seen.insert(bench.ended(done).expect("a value")),
            "wait_any gave a task twice"
        );
    }
    assert_eq!(
        (seen.len(), handles.len()),
        (expected.len(), 0),
        "what wait_any gave and what it left"
    );

    // One that is done already calls at once.
    let handle = submit::<uneven>(&pool, 7);
    bench.until("a task ends", || handle.is_done());
    let late = Arc::clone(&calls);
    handle.on_done(move || {
        late.fetch_add(1, Ordering::Relaxed);
    });
    assert_eq!(block_on(handle), Ok(14), "await of a task that has ended");

    let expected = 5 * TASKS as usize + 1;
    bench.until("every callback runs", || {
        calls.load(Ordering::Relaxed) >= expected
    });
    drop(pool);
    assert_eq!(
        calls.load(Ordering::Relaxed),
        expected,
        "callbacks that ran, each once"
    );
}
