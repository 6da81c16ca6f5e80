//! Law 2: every task ends exactly once, with a value or an error that says what happened.

use super::bench::{Bench, Check, submit};
use super::folder::Folder;
use super::law02_logs;
use super::law02_waits;
use super::tasks::{double, gate, late, mark, picky};
use crate::error::TaskError;
use crate::plan::{ChunkPlan, Plan};
use crate::pool::AnyPool;
use crate::reduction::Sum;
use std::time::Duration;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("values come back", values),
    ("a failure carries type, message and chain", failures),
    ("a panic carries message and place", panics),
    (
        "a deadline ends as TimedOut, a cancelled task as Cancelled",
        cut_short,
    ),
    ("a map fails with the lowest index", lowest_index),
    ("a failure that comes late is still the lowest", late_and_lowest),
    ("a hundred tasks of every kind all end", all_kinds),
    ("a detached task runs", detached),
    (
        "what tasks log reaches the observers, before the end of the task",
        law02_logs::arrive,
    ),
    (
        "a request carries a bounded number of log lines, and says so",
        law02_logs::bounded,
    ),
    ("callbacks run once, and all waits agree", law02_waits::agree),
    ("callbacks get the outcome, once", law02_waits::told),
    (
        "a map that is submitted has one handle",
        law02_waits::submitted_map,
    ),
];

fn values(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let handles: Vec<_> = (0..100).map(|x| submit::<double>(&pool, x)).collect();
    for (x, handle) in (0..).zip(handles) {
        assert_eq!(bench.ended(handle), Ok(2 * x));
    }
    assert_eq!(
        pool.map::<double>(0..1000),
        Ok((0..1000).map(|x| 2 * x).collect())
    );
    assert_eq!(pool.map::<double>([]), Ok(Vec::new()), "a map of nothing");
    assert_eq!(pool.map_reduce::<double, _>(0..1000, Sum), Ok(999_000));
}

fn failures(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    match bench.ended(submit::<picky>(&pool, 5)) {
        Err(TaskError::Failed(failure)) => {
            assert!(
                failure.type_name.ends_with("tasks::Unwelcome"),
                "the type of the error: {}",
                failure.type_name
            );
            assert_eq!(failure.message, "5 is not welcome");
            assert_eq!(failure.chain, ["invalid digit found in string"]);
        }
        other => panic!("it returned an error, and ended as {other:?}"),
    }
}

fn panics(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    for _ in 0..3 * bench.workers() {
        match bench.ended(submit::<picky>(&pool, 7)) {
            Err(TaskError::Panicked(panic)) => {
                assert_eq!(panic.message, "no 7 here");
                let location = panic.location.expect("where the panic was");
                assert!(location.contains("tasks.rs:"), "{location}");
            }
            other => panic!("it panicked, and ended as {other:?}"),
        }
    }
    assert_eq!(
        bench.ended(submit::<double>(&pool, 4)),
        Ok(8),
        "workers survive panics"
    );
}

fn cut_short(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a task cannot be cancelled and a deadline cannot stop it") {
        return;
    }
    let folder = Folder::new();
    let hurried = pool.with_plan(Plan::default().timeout(Duration::from_millis(30)));
    let late = submit::<gate>(&hurried, (folder.path(), 0));
    assert_eq!(bench.ended(late), Err(TaskError::TimedOut { limit_ms: 30 }));
    let running = submit::<gate>(&pool, (folder.path(), 1));
    bench.until("the task begins", || folder.count_of("gates", 1) == 1);
    running.cancel();
    assert_eq!(bench.ended(running), Err(TaskError::Cancelled));
}

fn lowest_index(bench: &Bench<AnyPool>) {
    for chunk in [
        ChunkPlan::Auto,
        ChunkPlan::Fixed(1),
        ChunkPlan::Fixed(7),
        ChunkPlan::Guided(2),
    ] {
        let pool = bench.pool().with_plan(Plan::default().chunk(chunk));
        // Items 10 to 59: the first that fails is 13, at place 3.
        let failed = pool.map::<picky>(10..60).expect_err("13 fails");
        assert_eq!(
            failed.to_string().split(" [").next(),
            Some("item 3: task failed: 13 is not welcome: invalid digit found in string")
        );
        let failed = pool.map_reduce::<picky, _>(10..60, Sum).expect_err("13 fails");
        assert_eq!(failed.index, 3, "map_reduce under {chunk:?}: {failed}");
        let failed = pool
            .for_each::<picky>((6..60).filter(|x| *x != 7))
            .expect_err("13 fails");
        assert_eq!(failed.index, 6, "for_each under {chunk:?}: {failed}");
        let outcomes = pool.map_outcomes::<picky>(0..30).expect("the plan is good");
        let failed: Vec<usize> = (0..30).filter(|i| outcomes[*i].is_err()).collect();
        assert_eq!(
            failed,
            [3, 5, 7, 13, 23],
            "items that failed in map_outcomes under {chunk:?}"
        );
    }
}

/// Items are read in blocks of 64 here: an item of the first block holds its caller up, until the third has failed and the second
/// has not yet.
fn late_and_lowest(bench: &Bench<AnyPool>) {
    let plan = Plan::default().window(256).chunk(ChunkPlan::Fixed(1));
    let pool = bench.pool().with_plan(plan);
    // Of unknown number: else they may be read in one piece.
    let items = || {
        (0..).take_while(|item| *item < 256).map(|item| match item {
            10 => (40, false),
            100 => (120, true),
            140 => (0, true),
            _ => (0, false),
        })
    };
    let failed = pool.map::<late>(items()).expect_err("item 100 fails");
    assert_eq!(failed.index, 100, "map: {failed}");
    let failed = pool.for_each::<late>(items()).expect_err("item 100 fails");
    assert_eq!(failed.index, 100, "for_each: {failed}");
}

fn all_kinds(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let handles: Vec<_> = (0..100).map(|x| submit::<picky>(&pool, x)).collect();
    let failed = handles
        .into_iter()
        .filter(|_| true)
        .map(|handle| bench.ended(handle))
        .filter(Result::is_err)
        .count();
    assert_eq!(failed, 12, "tasks of 100 that failed");
    assert_eq!(
        pool.map_outcomes::<picky>(0..100)
            .expect("the plan is good")
            .iter()
            .filter(|o| o.is_err())
            .count(),
        12
    );
}

fn detached(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let folder = Folder::new();
    for tag in 0..20 {
        drop(submit::<mark>(&pool, (folder.path(), tag)));
    }
    bench.until("20 tasks whose handles were dropped run", || {
        folder.count("marks") == 20
    });
}
