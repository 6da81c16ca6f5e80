//! Law 4: the death of a worker loses only what it had begun; the pool heals, until its budget is spent.

use super::bench::{Bench, Check, submit};
use super::folder::Folder;
use super::law03_delivery::mortal;
use super::tasks::{DEATHS, Death, deadly, deadly_item, deadly_once, deadly_value, double, mark, value};
use crate::error::TaskError;
use crate::fold;
use crate::plan::{ChunkPlan, Plan};
use crate::pool::AnyPool;
use crate::reduction::Sum;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("a map survives the death of workers in its middle", map_survives),
    ("a sum keeps its bits through the death of workers", sum_survives),
    ("a death loses only what was begun", loses_only),
    ("the pool heals", heals),
    ("past the budget every wait says Broken", broken),
];

/// An item, which kills its worker in three places.
fn item(folder: &Folder, tag: u64) -> (String, u64, Option<Death>) {
    let how = match tag {
        20 => Some(DEATHS[0]),
        75 => Some(DEATHS[1]),
        130 => Some(DEATHS[2]),
        _ => None,
    };
    (folder.path(), tag, how)
}

fn map_survives(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if !mortal(bench, &pool) {
        return;
    }
    let expected: Vec<u64> = (0..150).map(|tag| 2 * tag).collect();
    for chunk in [ChunkPlan::Auto, ChunkPlan::Fixed(1), ChunkPlan::Fixed(40)] {
        let folder = Folder::new();
        let pool = pool.with_plan(Plan::default().chunk(chunk));
        let got = pool.map::<deadly_once>((0..150).map(|tag| item(&folder, tag)));
        assert_eq!(got, Ok(expected.clone()), "an idempotent map under {chunk:?}");
    }
}

fn sum_survives(bench: &Bench<AnyPool>) {
    let pool = bench.pool().with_plan(Plan::default().leaf(8));
    if !mortal(bench, &pool) {
        return;
    }
    let nodes = fold::aligned_nodes(&Sum, 8, 0, (0..150).map(value));
    let expected = nodes
        .into_iter()
        .map(|(_, acc)| acc)
        .rev()
        .reduce(|right, left| left + right);
    let folder = Folder::new();
    let sum = pool
        .map_reduce::<deadly_value, _>((0..150).map(|tag| item(&folder, tag)), Sum)
        .expect("a sum");
    assert_eq!(
        Some(sum.to_bits()),
        expected.map(f64::to_bits),
        "bits of a sum of 150 ({sum})"
    );
}

fn loses_only(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    if !mortal(bench, &pool) {
        return;
    }
    let folder = Folder::new();
    let pool = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    let outcomes = pool
        .map_outcomes::<deadly_item>((0..150).map(|tag| item(&folder, tag)))
        .expect("the plan is good");
    for (tag, outcome) in (0..).zip(outcomes) {
        match outcome {
            Err(TaskError::Lost { maybe_ran: true, .. }) if [20, 75, 130].contains(&tag) => {}
            outcome => assert_eq!(
                outcome,
                Ok(2 * tag),
                "item {tag}, when items 20, 75 and 130 killed their workers"
            ),
        }
        assert_eq!(folder.count_of("marks", tag), 1, "how often item {tag} was begun");
    }
}

fn heals(bench: &Bench<AnyPool>) {
    let folder = Folder::new();
    let pool = bench.pool_with(|setup| setup.initializer = Some((folder.path(), false)));
    if !mortal(bench, &pool) {
        return;
    }
    for tag in 0..3 {
        let lost = bench.ended(submit::<deadly>(&pool, (folder.path(), tag, Death::Kill)));
        assert!(
            matches!(lost, Err(TaskError::Lost { .. })),
            "it ended as {lost:?}"
        );
    }
    let gates = bench.occupy(&pool, &folder);
    assert_eq!(pool.workers(), bench.workers(), "workers after three deaths");
    let ready = folder.count("initialized");
    assert_eq!(
        ready,
        bench.workers() + 3,
        "initialisers that ran, those of the replacements included"
    );
    bench.release(&folder, gates);
}

fn broken(bench: &Bench<AnyPool>) {
    let pool = bench.pool_with(|setup| setup.restarts = Some(2));
    if !mortal(bench, &pool) {
        return;
    }
    let folder = Folder::new();
    let told = |outcome: Option<TaskError>, what: &str| match outcome {
        Some(TaskError::Broken(text)) => assert!(!text.is_empty(), "{what}: no reason is given"),
        other => panic!("{what} should say Broken, and says {other:?}"),
    };
    // Two restarts, and with several workers some deaths at once may share one.
    let most = 3 + bench.workers() as u64;
    let mut pending = Vec::new();
    for tag in 0..=most {
        assert!(
            tag < most,
            "the pool has 2 restarts and is not broken after {tag} deaths"
        );
        match pool.submit::<deadly>((folder.path(), tag, Death::Kill)) {
            Err(error) => {
                told(Some(error), "submit");
                break;
            }
            Ok(handle) => {
                pending.push(pool.submit::<mark>((folder.path(), 100 + tag)));
                if let Err(error @ TaskError::Broken(_)) = bench.ended(handle) {
                    told(Some(error), "a task");
                    break;
                }
            }
        }
    }
    for handle in pending.into_iter().flatten() {
        match bench.ended(handle) {
            Ok(_) => {}
            Err(error) => told(Some(error), "a task that waited when the pool broke"),
        }
    }
    bench.until("a task after the end is told Broken", || {
        match pool.submit::<double>(1) {
            Ok(handle) => matches!(bench.ended(handle), Err(TaskError::Broken(_))),
            Err(error) => matches!(error, TaskError::Broken(_)),
        }
    });
    told(pool.map::<double>(0..10).err().map(|e| e.error), "map");
    told(
        pool.try_submit::<double>(1).err().map(|e| e.reason.into()),
        "try_submit",
    );
}
