//! Law 3: at most once, but for idempotent tasks; what was delivered and not begun is not lost.

use super::bench::{Bench, Check, can, submit};
use super::folder::Folder;
use super::tasks::{DEATHS, deadly, deadly_again, deadly_gate, deadly_once, mark};
use crate::error::TaskError;
use crate::plan::{ChunkPlan, Plan};
use crate::pool::AnyPool;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("every task is begun exactly once", exactly_once),
    (
        "a task whose worker died is begun once, and told as lost",
        at_most_once,
    ),
    ("an idempotent task is run again", idempotent),
    (
        "what waited behind a task that killed its worker is run, once",
        not_begun,
    ),
];

fn exactly_once(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let folder = Folder::new();
    let handles: Vec<_> = (0..100)
        .map(|tag| submit::<mark>(&pool, (folder.path(), tag)))
        .collect();
    handles
        .into_iter()
        .for_each(|handle| assert!(bench.ended(handle).is_ok()));
    for (chunk, first) in [
        (ChunkPlan::Auto, 100),
        (ChunkPlan::Fixed(7), 200),
        (ChunkPlan::Guided(1), 300),
    ] {
        let pool = pool.with_plan(Plan::default().chunk(chunk));
        pool.map::<mark>((first..first + 100).map(|tag| (folder.path(), tag)))
            .expect("a map");
    }
    for tag in 0..400 {
        assert_eq!(folder.count_of("marks", tag), 1, "how often task {tag} was begun");
    }
    assert_eq!(folder.count("marks"), 400);
}

/// Whether workers can die at all; says what is not asked where they cannot.
pub(super) fn mortal(bench: &Bench<AnyPool>, pool: &AnyPool) -> bool {
    let can = can(pool);
    if !can.processes {
        bench.weaker(
            pool,
            "no worker is a process of its own (capability processes), so none can die alone",
        );
    } else if can.shared_fate {
        bench.weaker(
            pool,
            "the death of a worker ends the program (capability shared_fate), so none can die alone",
        );
    }
    can.processes && !can.shared_fate
}

fn at_most_once(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if !mortal(bench, &pool) {
        return;
    }
    let folder = Folder::new();
    for (tag, how) in (0..).zip(DEATHS) {
        match bench.ended(submit::<deadly>(&pool, (folder.path(), tag, how))) {
            Err(TaskError::Lost {
                attempts: 1,
                maybe_ran: true,
                reason,
            }) => assert!(!reason.is_empty()),
            other => panic!("its worker died ({how:?}), and it ended as {other:?}"),
        }
        assert_eq!(
            folder.count_of("marks", tag),
            1,
            "how often it was begun ({how:?})"
        );
    }
}

fn idempotent(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if !mortal(bench, &pool) {
        return;
    }
    let folder = Folder::new();
    for (tag, how) in (0..).zip(DEATHS) {
        let again = submit::<deadly_once>(&pool, (folder.path(), tag, Some(how)));
        assert_eq!(
            bench.ended(again),
            Ok(2 * tag),
            "it dies ({how:?}) the first time only"
        );
        assert_eq!(
            folder.count_of("marks", tag),
            2,
            "how often it was begun ({how:?})"
        );
    }
    let hopeless = submit::<deadly_again>(&pool.with_plan(Plan::default().attempts(2)), (folder.path(), 9));
    match bench.ended(hopeless) {
        Err(TaskError::Lost {
            attempts: 2,
            maybe_ran: true,
            ..
        }) => {}
        other => panic!("it kills every worker, at 2 attempts, and ended as {other:?}"),
    }
    assert_eq!(
        folder.count_of("marks", 9),
        2,
        "how often it was begun, at 2 attempts"
    );
}

fn not_begun(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if !mortal(bench, &pool) {
        return;
    }
    let folder = Folder::new();
    let killers: Vec<_> = (0..bench.workers() as u64)
        .map(|tag| submit::<deadly_gate>(&pool, (folder.path(), tag)))
        .collect();
    bench.until("each worker has its killer", || {
        folder.count("gates") == bench.workers()
    });
    let behind: Vec<_> = (0..100)
        .map(|tag| submit::<mark>(&pool, (folder.path(), tag)))
        .collect();
    folder.open();
    for killer in killers {
        match bench.ended(killer) {
            Err(TaskError::Lost { maybe_ran: true, .. }) => {}
            other => panic!("it killed its worker, and ended as {other:?}"),
        }
    }
    for (tag, handle) in (0..).zip(behind) {
        assert_eq!(bench.ended(handle), Ok(tag), "a task that waited behind a killer");
        assert_eq!(folder.count_of("marks", tag), 1, "how often task {tag} was begun");
    }
}
