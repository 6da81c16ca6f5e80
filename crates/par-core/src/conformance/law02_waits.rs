//! Law 2, the waits: whichever way one waits, the outcome comes once and is the same.

use super::bench::{Bench, can, submit};
use super::folder::Folder;
use super::tasks::{double, mark, picky, uneven};
use crate::error::{MapError, TaskError};
use crate::executor::block_on;
use crate::handle::{Handle, as_completed, wait_all, wait_any};
use crate::pool::AnyPool;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
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

pub(super) fn told(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let (tell, outcomes) = channel();
    for x in 0..10 {
        let tell = tell.clone();
        submit::<picky>(&pool, x).then(move |outcome| {
            tell.send((x, outcome)).expect("the check waits");
            // Nobody else may suffer from it.
            assert!(x != 4, "a callback of the laws panics");
        });
    }
    let next = pool.clone();
    let and_then = tell.clone();
    submit::<double>(&pool, 20).then(move |outcome| {
        let doubled = outcome.expect("a value");
        // A callback may submit, and may not wait.
        let again = next.submit::<double>(doubled).expect("open");
        again.then(move |outcome| {
            and_then
                .send((20, Ok(outcome.expect("a value"))))
                .expect("the check waits")
        });
    });
    drop(tell);
    let mut seen = BTreeSet::new();
    for _ in 0..11 {
        let (x, outcome) = outcomes
            .recv_timeout(bench.patience())
            .unwrap_or_else(|_| panic!("no callback for some of 11 tasks, but for {seen:?}"));
        assert!(seen.insert(x), "two callbacks for task {x}");
        match (x, outcome) {
            (20, Ok(80)) | (0..=2 | 4 | 6 | 8..=9, Ok(_)) => {}
            (3 | 5, Err(TaskError::Failed(_))) | (7, Err(TaskError::Panicked(_))) => {}
            (x, outcome) => panic!("the callback of task {x} got {outcome:?}"),
        }
    }
    assert!(
        outcomes.recv_timeout(bench.patience()).is_err(),
        "more callbacks than tasks"
    );
}

pub(super) fn submitted_map(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let wait = |handle: Handle<Vec<u64>, MapError>| match handle.wait_timeout(bench.patience()) {
        Ok(outcome) => outcome,
        Err(handle) => panic!("a submitted map never ended: {handle:?}"),
    };
    let start = |count| pool.submit_map::<uneven>(0..count).expect("open");
    let expected = |count| Ok((0..count).map(|x| 2 * x).collect::<Vec<u64>>());
    for count in [0, 1, 50] {
        assert_eq!(wait(start(count)), expected(count), "a submitted map of {count}");
    }
    assert_eq!(block_on(start(20)), expected(20), "await of a submitted map");
    let (tell, told) = channel();
    start(20).then(move |outcome| tell.send(outcome).expect("the check waits"));
    assert_eq!(
        told.recv_timeout(bench.patience()),
        Ok(expected(20)),
        "a callback"
    );
    let all: Vec<_> = wait_all([start(5), start(10)]);
    assert_eq!(all, [expected(5), expected(10)], "wait_all of submitted maps");
    let failed = wait(pool.submit_map::<picky>(0..50).expect("open"));
    let failed = failed.expect_err("item 3 fails");
    assert_eq!(failed.index, 3, "the lowest index that failed: {failed}");
    // Dropped, it still runs.
    let folder = Folder::new();
    drop(
        pool.submit_map::<mark>((0..10).map(|tag| (folder.path(), tag)))
            .expect("open"),
    );
    bench.until("a map whose handle was dropped runs", || {
        folder.count("marks") == 10
    });
    if can(&pool).inline {
        return;
    }
    let folder = Folder::new();
    let gates = bench.occupy(&pool, &folder);
    let pending = pool
        .submit_map::<mark>((0..10).map(|tag| (folder.path(), tag)))
        .expect("open");
    pending.cancel();
    bench.release(&folder, gates);
    let cancelled = wait(pending);
    assert!(
        matches!(
            &cancelled,
            Err(MapError {
                error: TaskError::Cancelled,
                ..
            })
        ),
        "a submitted map that was cancelled while it waited: {cancelled:?}"
    );
    bench.ended(submit::<double>(&pool, 1)).expect("a value");
    assert_eq!(folder.count("marks"), 0, "items of a cancelled map that ran");
}
