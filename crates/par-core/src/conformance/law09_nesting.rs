//! Law 9: a task may submit to its own pool and wait, and its thread meanwhile runs only what that wait needs.

use super::bench::{Bench, Check, submit};
use super::folder::Folder;
use super::law09_interleaving;
use super::tasks::{
    awaits, double, every_form, fibonacci, forbidden, gate, holds, impatient, inner_map, tree, wants,
};
use crate::context::forbid_blocking;
use crate::error::TaskError;
use crate::pool::AnyPool;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("three levels of tasks that wait", levels),
    ("many siblings that wait at once", siblings),
    ("a map inside a map", maps),
    ("joins inside joins", joins),
    ("every form of a wait inside a task", forms),
    ("async tasks that await their children", awaiting),
    ("a waiter that holds a lock runs nobody who wants it", locks),
    ("a wait with a deadline inside a task keeps it", deadlines),
    ("a blocking wait inside async code is an error", asynchronous),
    (
        "async tasks go on beside each other",
        law09_interleaving::beside_each_other,
    ),
    (
        "async tasks and blocking ones do not stop each other",
        law09_interleaving::beside_blocking,
    ),
    (
        "an async task is cancelled where it waits",
        law09_interleaving::cancelled,
    ),
];

fn levels(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    assert_eq!(bench.ended(submit::<tree>(&pool, (3, 3))), Ok(27));
    assert_eq!(
        bench.ended(submit::<tree>(&pool, (10, 1))),
        Ok(1),
        "ten levels, one below the other"
    );
}

fn siblings(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let trees: Vec<_> = (0..16).map(|_| submit::<tree>(&pool, (2, 2))).collect();
    for tree in trees {
        assert_eq!(bench.ended(tree), Ok(4));
    }
}

fn maps(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let sums = pool.map::<inner_map>(0..20).expect("a map of maps");
    assert_eq!(
        sums,
        (0..20u64).map(|n| n * n.saturating_sub(1)).collect::<Vec<_>>()
    );
}

fn joins(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    assert_eq!(bench.ended(submit::<fibonacci>(&pool, 9)), Ok(34));
}

fn forms(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let handles: Vec<_> = (0..2 * bench.workers())
        .map(|_| submit::<every_form>(&pool, ()))
        .collect();
    for handle in handles {
        assert_eq!(bench.ended(handle), Ok(7 * 12 + 12));
    }
}

fn awaiting(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let handles: Vec<_> = (0..2 * bench.workers())
        .map(|_| submit::<awaits>(&pool, 3))
        .collect();
    for handle in handles {
        assert_eq!(bench.ended(handle), Ok(8));
    }
}

fn locks(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a child runs while its parent holds what it holds") {
        return;
    }
    let limit_ms = u64::try_from(bench.patience().as_millis() / 2).unwrap_or(u64::MAX);
    for elsewhere in [false, true] {
        if elsewhere && bench.workers() == 1 {
            continue;
        }
        let folder = Folder::new();
        let holder = submit::<holds>(&pool, (folder.path(), limit_ms, elsewhere));
        if elsewhere {
            // Strangers before that could take every worker that the child might run on.
            bench.until("another worker begins the awaited child", || {
                folder.count("paused") == 1
            });
        }
        let strangers: Vec<_> = (0..4)
            .map(|_| submit::<wants>(&pool, (folder.path(), limit_ms)))
            .collect();
        assert_eq!(
            bench.ended(holder),
            Ok(()),
            "the holder of a lock, waiting for a child"
        );
        for stranger in strangers {
            assert_eq!(bench.ended(stranger), Ok(()), "a stranger who wants the lock");
        }
    }
}

fn deadlines(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a child has ended before its parent can wait") {
        return;
    }
    let folder = Folder::new();
    let took = bench
        .ended(submit::<impatient>(&pool, (folder.path(), 50)))
        .expect("it gave up in time");
    assert!(took >= 50, "a wait for 50 ms returned after {took} ms");
    assert!(
        took < 50 + bench.patience().as_millis() as u64 / 2,
        "a wait for 50 ms took {took} ms"
    );
}

fn asynchronous(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "there is nothing to wait for") {
        return;
    }
    let folder = Folder::new();
    let handle = submit::<gate>(&pool, (folder.path(), 0));
    {
        let _guard = forbid_blocking();
        match handle.wait() {
            Err(TaskError::Rejected(text)) => assert!(text.contains(".await"), "{text}"),
            other => panic!("a blocking wait where that is an error gave {other:?}"),
        }
        match pool.map::<double>(0..1).map_err(|e| e.error) {
            // An engine may be so fast that there was nothing left to wait for.
            Ok(values) => assert_eq!(values, [0]),
            Err(error) => assert!(error.to_string().contains(".await"), "{error}"),
        }
    }
    folder.open();
    let closed = Folder::new();
    let text = bench
        .ended(submit::<forbidden>(&pool, closed.path()))
        .expect("it gave the text of the error");
    assert!(text.contains(".await"), "{text}");
}
