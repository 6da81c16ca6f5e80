//! Law 11: a scope ends when all its children have, whatever made it end.

use super::bench::{Bench, Check};
use super::folder::Folder;
use super::tasks::{gate, picky, slow_mark};
use crate::error::TaskError;
use crate::pool::AnyPool;
use std::time::{Duration, Instant};

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("all children have ended at the end", all_ended),
    ("and when the body fails", body_fails),
    ("and when the body panics", body_panics),
    ("the first failure cancels the rest", first_failure),
    ("a deadline cancels, then joins", deadline),
];

/// Everything that began has ended.
#[track_caller]
fn settled(folder: &Folder, begun: &str, ended: &str) {
    assert_eq!(
        folder.count(ended),
        folder.count(begun),
        "children that had ended, and that had begun, when the scope did"
    );
}

fn all_ended(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let folder = Folder::new();
    let sum = pool.scope(|scope| {
        let first = scope.submit::<slow_mark>((folder.path(), 5))?;
        for tag in 0..10 {
            drop(scope.submit::<slow_mark>((folder.path(), tag))?);
        }
        first.wait()
    });
    assert_eq!(sum, Ok(5));
    assert_eq!(
        folder.count("ended"),
        11,
        "children that had ended when the scope did"
    );
}

fn body_fails(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let folder = Folder::new();
    let result = pool.scope(|scope| -> Result<(), TaskError> {
        for tag in 0..10 {
            drop(scope.submit::<slow_mark>((folder.path(), tag))?);
        }
        Err(TaskError::Rejected("the body says no".to_owned()))
    });
    assert_eq!(result, Err(TaskError::Rejected("the body says no".to_owned())));
    settled(&folder, "begun", "ended");
}

fn body_panics(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a scope's body finds every child ended") {
        return;
    }
    let folder = Folder::new();
    let workers = bench.workers();
    let result = crate::panics::catch(|| {
        pool.scope(|scope| -> Result<(), TaskError> {
            for tag in 0..workers as u64 + 3 {
                drop(scope.submit::<gate>((folder.path(), tag))?);
            }
            bench.until("each worker begins a child", || folder.count("gates") == workers);
            panic!("the body of the scope");
        })
    });
    let error = result.expect_err("the panic goes on").to_string();
    assert!(error.contains("the body of the scope"), "{error}");
    settled(&folder, "gates", "gates ended");
}

fn first_failure(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a child that fails has no siblings that run") {
        return;
    }
    let folder = Folder::new();
    let result = pool.scope(|scope| {
        // Submitted first: with one worker it runs before those that do not end.
        let bad = scope.submit::<picky>(3)?;
        for tag in 0..2 * bench.workers() as u64 {
            match scope.submit::<gate>((folder.path(), tag)) {
                Ok(handle) => drop(handle),
                Err(error) => assert_eq!(error, TaskError::Cancelled, "a child submitted after the failure"),
            }
        }
        drop(bad);
        Ok(())
    });
    let error = result.expect_err("a child failed").to_string();
    assert!(error.contains("3 is not welcome"), "{error}");
    settled(&folder, "gates", "gates ended");
}

fn deadline(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if bench.inline(&pool, "a deadline finds every child ended") {
        return;
    }
    const LIMIT: Duration = Duration::from_millis(60);
    let folder = Folder::new();
    let start = Instant::now();
    let result = pool.scope_timeout(LIMIT, |scope| {
        for tag in 0..bench.workers() as u64 + 2 {
            drop(scope.submit::<gate>((folder.path(), tag))?);
        }
        Ok(())
    });
    let took = start.elapsed();
    assert_eq!(result, Err(TaskError::TimedOut { limit_ms: 60 }));
    assert!(
        took >= LIMIT && took < LIMIT + bench.patience() / 2,
        "a scope of {LIMIT:?} ended after {took:?}"
    );
    settled(&folder, "gates", "gates ended");
}
