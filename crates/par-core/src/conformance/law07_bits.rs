//! Law 7: the same items give the same bits, whoever folds them in whatever chunks.

use super::bench::{Bench, Check};
use super::tasks::{keyed, value, word};
use crate::fold::{self, LEAF, ScanKind};
use crate::plan::{ChunkPlan, Mapping, Plan};
use crate::pool::AnyPool;
use crate::reduction::{Concat, Max, MaxLoc, MinLoc, Product, Sum, SumByKey, TopK};

pub(super) const CHECKS: &[Check<AnyPool>] = &[
    ("a sum has the bits of the tree, at every length", lengths),
    ("a sum has the bits of the tree, under every plan", plans),
    ("every reduction agrees with the tree", reductions),
    ("a stream equals a slice", streams),
    (
        "a leaf of another size is another tree, the same everywhere",
        leaves,
    ),
    ("a scan states its order", scans),
];

const LENGTHS: [u64; 11] = [0, 1, 2, 1023, 1024, 1025, 2047, 2048, 3000, 4097, 5000];

fn values(length: u64) -> Vec<f64> {
    (0..length).map(value).collect()
}

fn tree(length: u64) -> u64 {
    fold::reduce(&Sum, values(length)).to_bits()
}

fn lengths(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    for length in LENGTHS {
        let sum = pool.map_reduce::<value, _>(0..length, Sum).expect("a sum");
        assert_eq!(
            sum.to_bits(),
            tree(length),
            "bits of the sum of a task's {length} values ({sum})"
        );
        let sum = pool.reduce(values(length), Sum).expect("a sum");
        assert_eq!(
            sum.to_bits(),
            tree(length),
            "bits of the sum of {length} items ({sum})"
        );
    }
}

fn plans(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    let chunks = [
        ChunkPlan::Fixed(1),
        ChunkPlan::Fixed(700),
        ChunkPlan::Fixed(1024),
        ChunkPlan::Fixed(3000),
        ChunkPlan::Guided(64),
    ];
    let mappings = [
        Mapping::Dynamic,
        Mapping::StaticBlock,
        Mapping::Cyclic,
        Mapping::Hierarchical { groups: 2 },
        Mapping::Stealing,
    ];
    for chunk in chunks {
        for mapping in mappings {
            let pool = pool.with_plan(Plan::default().chunk(chunk).mapping(mapping));
            for length in [1025, 5000] {
                let sum = pool.map_reduce::<value, _>(0..length, Sum).expect("a sum");
                assert_eq!(
                    sum.to_bits(),
                    tree(length),
                    "bits of a sum of {length} under {chunk:?}, {mapping:?} ({sum})"
                );
            }
        }
    }
}

fn reductions(bench: &Bench<AnyPool>) {
    let pool = bench
        .pool()
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(300)));
    let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
    for length in [1024, 2500] {
        let items = || (0..length).map(value);
        let got = pool
            .map_reduce::<keyed, _>(0..length, SumByKey)
            .expect("sums by key");
        let expected = fold::reduce(&SumByKey, (0..length).map(keyed));
        let of = |map: std::collections::BTreeMap<u64, f64>| {
            map.into_iter().map(|(k, v)| (k, v.to_bits())).collect::<Vec<_>>()
        };
        assert_eq!(of(got), of(expected), "SumByKey of {length}");
        let got = pool
            .map_reduce::<value, _>(0..length, TopK(10))
            .expect("the greatest ten");
        assert_eq!(
            bits(got),
            bits(fold::reduce(&TopK(10), items())),
            "TopK of {length}"
        );
        assert_eq!(
            pool.map_reduce::<value, _>(0..length, MinLoc),
            Ok(fold::reduce(&MinLoc, items())),
            "MinLoc of {length}"
        );
        assert_eq!(
            pool.map_reduce::<value, _>(0..length, MaxLoc),
            Ok(fold::reduce(&MaxLoc, items())),
            "MaxLoc of {length}"
        );
        assert_eq!(
            pool.map_reduce::<value, _>(0..length, Max),
            Ok(fold::reduce(&Max, items())),
            "Max of {length}"
        );
        let got = pool
            .map_reduce::<value, _>(0..length, Product)
            .expect("a product")
            .to_bits();
        assert_eq!(
            got,
            fold::reduce(&Product, items()).to_bits(),
            "Product of {length}"
        );
        assert_eq!(
            pool.map_reduce::<word, _>(0..length, Concat),
            Ok(fold::reduce(&Concat, (0..length).map(word)))
        );
    }
}

fn streams(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    for window in [4, 1000, 1 << 16] {
        let pool = pool.with_plan(Plan::default().window(window));
        for length in [1023, 1025, 3000] {
            // Nobody knows how many items a filter lets through.
            let sum = pool
                .map_reduce::<value, _>((0..length).filter(|_| true), Sum)
                .expect("a sum");
            assert_eq!(
                sum.to_bits(),
                tree(length),
                "bits of a stream of {length}, window {window} ({sum})"
            );
        }
    }
}

fn leaves(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    for leaf in [1, 7, 100] {
        let nodes = fold::aligned_nodes(&Sum, leaf, 0, values(3000));
        let expected = nodes
            .into_iter()
            .map(|(_, acc)| acc)
            .rev()
            .reduce(|right, left| left + right)
            .expect("some nodes");
        for chunk in [ChunkPlan::Auto, ChunkPlan::Fixed(33)] {
            let pool = pool.with_plan(Plan::default().leaf(leaf).chunk(chunk));
            let sum = pool.map_reduce::<value, _>(0..3000, Sum).expect("a sum");
            assert_eq!(
                sum.to_bits(),
                expected.to_bits(),
                "bits of a sum in leaves of {leaf} under {chunk:?} ({sum})"
            );
        }
    }
}

fn scans(bench: &Bench<AnyPool>) {
    let pool = bench.pool();
    for kind in [ScanKind::Inclusive, ScanKind::Exclusive] {
        for length in [0, 1, 1025, 2500] {
            let got = pool.scan::<value, _>(0..length, Sum, kind).expect("a scan");
            let expected = fold::scan(&Sum, kind, LEAF, &values(length));
            let same = got
                .iter()
                .map(|x| x.to_bits())
                .eq(expected.iter().map(|x| x.to_bits()));
            assert!(same, "bits of the {kind:?} scan of {length}");
        }
    }
}
