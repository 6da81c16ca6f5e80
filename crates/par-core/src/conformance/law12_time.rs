//! Law 12: every wait has a form with a deadline, and keeps it.

use super::bench::{Bench, Check, submit};
use super::folder::Folder;
use super::tasks::{double, gate, stubborn};
use crate::engine::Shutdown;
use crate::error::TaskError;
use crate::executor::block_on;
use crate::handle::wait_any;
use crate::plan::Plan;
use crate::pool::AnyPool;
use crate::reduction::Sum;
use std::sync::mpsc;
use std::time::{Duration, Instant};

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("waits for one and for any", waits),
    ("a stream's next", streams),
    ("the deadline of a plan ends every form", plans),
    ("a deadline ends what is pending", pending),
    ("a shutdown", shutdown),
];

const LIMIT: Duration = Duration::from_millis(40);

/// Runs it and checks how long it took.
#[track_caller]
fn timed<R>(bench: &Bench<AnyPool>, what: &str, call: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = call();
    let took = start.elapsed();
    assert!(
        took >= LIMIT,
        "{what} with a deadline of {LIMIT:?} returned after {took:?}, before it"
    );
    assert!(
        took < LIMIT + bench.patience() / 4,
        "{what} with a deadline of {LIMIT:?} took {took:?}"
    );
    result
}

fn waits(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "every wait finds its task ended") {
        return;
    }
    let folder = Folder::new();
    let handle = submit::<gate>(&pool, (folder.path(), 0));
    let handle = timed(bench, "wait_timeout", || handle.wait_timeout(LIMIT)).expect_err("it has not ended");
    let handle = handle.wait_timeout(Duration::ZERO).expect_err("it has not ended");
    let mut handles = vec![handle, submit::<gate>(&pool, (folder.path(), 1))];
    let none = timed(bench, "wait_any", || {
        wait_any(&mut handles, Some(Instant::now() + LIMIT))
    });
    assert!(
        none.is_none() && handles.len() == 2,
        "wait_any gave {none:?} and left {handles:?}"
    );
    folder.open();
    let one = wait_any(&mut handles, Some(Instant::now() + bench.patience())).expect("they end");
    bench.ended(one).expect("opened");
}

fn streams(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "every item of a stream has ended when it is read") {
        return;
    }
    let folder = Folder::new();
    let mut stream = pool
        .map_unordered::<gate, _>((0..2).map(|tag| (folder.path(), tag)))
        .expect("a stream");
    assert_eq!(timed(bench, "next_timeout", || stream.next_timeout(LIMIT)), None);
    folder.open();
    let mut tags: Vec<_> = stream.map(|(_, outcome)| outcome.expect("opened")).collect();
    tags.sort_unstable();
    assert_eq!(tags, [0, 1], "what came after the time was up");
}

fn plans(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a deadline cannot stop what runs") {
        return;
    }
    let folder = Folder::new();
    let hurried = pool.with_plan(Plan::default().timeout(LIMIT));
    let late = TaskError::TimedOut { limit_ms: 40 };
    let start = || submit::<gate>(&hurried, (folder.path(), 0));
    assert_eq!(timed(bench, "wait", || start().wait()), Err(late.clone()));
    assert_eq!(timed(bench, "await", || block_on(start())), Err(late.clone()));
    let called = timed(bench, "a callback", || {
        let (tell, told) = mpsc::channel();
        let handle = start();
        handle.on_done(move || tell.send(()).unwrap_or_default());
        told.recv_timeout(bench.patience())
    });
    assert_eq!(called, Ok(()), "the callback of a task past its deadline");
    let items = || (0..3).map(|tag| (folder.path(), tag));
    assert_eq!(
        timed(bench, "map", || hurried.map::<gate>(items()))
            .expect_err("late")
            .error,
        late
    );
    assert_eq!(
        timed(bench, "map_reduce", || hurried
            .map_reduce::<gate, _>(items(), Sum))
        .expect_err("late")
        .error,
        late
    );
    assert_eq!(
        timed(bench, "for_each", || hurried.for_each::<gate>(items()))
            .expect_err("late")
            .error,
        late
    );
    folder.open();
    assert_eq!(bench.ended(submit::<double>(&pool, 4)), Ok(8), "the pool goes on");
}

fn pending(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "nothing is ever pending") {
        return;
    }
    let folder = Folder::new();
    let gates = bench.occupy(&pool, &folder);
    let hurried = pool.with_plan(Plan::default().timeout(LIMIT));
    let handle = timed(bench, "a pending task", || {
        let handle = submit::<double>(&hurried, 4);
        bench.until("it ends", || handle.is_done());
        handle
    });
    assert_eq!(
        bench.ended(handle),
        Err(TaskError::TimedOut { limit_ms: 40 }),
        "a task that nobody had time for"
    );
    bench.release(&folder, gates);
}

fn shutdown(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a shutdown never finds a task running") {
        return;
    }
    for how in [Shutdown::Drain, Shutdown::CancelPending] {
        let pool = bench.pool();
        let folder = Folder::new();
        let handle = submit::<stubborn>(&pool, (folder.path(), 0));
        bench.until("the task begins", || folder.count("gates") == 1);
        timed(bench, "shutdown", || pool.shutdown(how, Some(LIMIT)));
        assert!(
            bench.ended(handle).is_err(),
            "a task that was left behind by {how:?}"
        );
    }
}
