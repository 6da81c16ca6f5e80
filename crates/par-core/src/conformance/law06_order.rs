//! Law 6: a map keeps the order of its items, and reductions need no commutativity.

use super::bench::{Bench, Check};
use super::tasks::{uneven, word};
use crate::plan::{ChunkPlan, Mapping, Plan};
use crate::pool::AnyPool;
use crate::reduction::Concat;
use std::collections::BTreeMap;

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("a map keeps order", map),
    ("an ordered stream keeps order", ordered),
    ("an unordered stream yields each item once", unordered),
    ("a reduction that does not commute is right", concat),
];

const PLANS: [(ChunkPlan, Mapping); 6] = [
    (ChunkPlan::Auto, Mapping::Dynamic),
    (ChunkPlan::Fixed(1), Mapping::Dynamic),
    (ChunkPlan::Guided(2), Mapping::Dynamic),
    (ChunkPlan::Fixed(3), Mapping::StaticBlock),
    (ChunkPlan::Fixed(5), Mapping::Cyclic),
    (ChunkPlan::Fixed(2), Mapping::Stealing),
];

fn map(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    for (chunk, mapping) in PLANS {
        let pool = pool.with_plan(Plan::default().chunk(chunk).mapping(mapping));
        let got = pool.map::<uneven>(0..96).expect("a map");
        assert_eq!(
            got,
            (0..96).map(|x| 2 * x).collect::<Vec<_>>(),
            "under {chunk:?}, {mapping:?}"
        );
    }
}

fn ordered(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let got: Vec<_> = pool
        .map_ordered::<uneven, _>(0..200)
        .expect("a stream")
        .map(|(i, o)| (i, o.expect("a value")))
        .collect();
    assert_eq!(got, (0..200).map(|x| (x, 2 * x)).collect::<Vec<_>>());
}

fn unordered(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let mut seen = BTreeMap::new();
    for (index, outcome) in pool.map_unordered::<uneven, _>(0..300).expect("a stream") {
        let twice = seen.insert(index, outcome.expect("a value"));
        assert_eq!(twice, None, "item {index} came twice");
    }
    assert_eq!(
        seen,
        (0..300).map(|x| (x, 2 * x)).collect(),
        "items and what became of them"
    );
}

fn concat(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let expected: String = (0..3000).map(|x| format!("{x},")).collect();
    for (chunk, mapping) in PLANS {
        let pool = pool.with_plan(Plan::default().chunk(chunk).mapping(mapping).leaf(16));
        let got = pool.map_reduce::<word, _>(0..3000, Concat).expect("a reduction");
        assert!(
            got == expected,
            "texts put together under {chunk:?}, {mapping:?} are out of order"
        );
    }
}
