//! Tests of the built-in reductions against the plain loop.

use super::*;
use crate::fold::{ScanKind, reduce, scan};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

#[test]
fn nothing_reduces_to_the_identity() {
    assert_eq!(reduce(&Sum, [0u8; 0]), 0);
    assert_eq!(reduce(&Sum, [0.0f64; 0]).to_bits(), (-0.0f64).to_bits());
    assert_eq!(reduce(&Product, [0.0f64; 0]), 1.0);
    assert_eq!(reduce(&Min, [0u8; 0]), None);
    assert_eq!(reduce(&MaxLoc, [0u8; 0]), None);
    assert!(reduce(&All, []));
    assert!(!reduce(&Any, []));
    assert_eq!(reduce(&BitAnd, [0u8; 0]), 255);
    assert_eq!(reduce(&BitOr, [0u8; 0]), 0);
    assert!(reduce(&TopK(3), [0u8; 0]).is_empty());
    assert_eq!(reduce(&Count, [0u8; 0]), 0);
}

#[test]
fn floats_compare_by_total_order() {
    let items = [1.0, f64::NAN, f64::NEG_INFINITY, -0.0, 0.0];
    assert!(reduce(&Max, items).unwrap().is_nan());
    assert_eq!(reduce(&Min, items), Some(f64::NEG_INFINITY));
    assert_eq!(reduce(&MinLoc, [0.0, -0.0]), Some((1, -0.0)));
    assert!((1.0, f64::NAN).total_order(&(1.0, 2.0)).is_gt());
    assert!(Some(f32::MIN).total_order(&None).is_gt());
    assert!(vec![1, 2].total_order(&vec![1, 2, 0]).is_lt());
    assert_eq!(reduce(&Max, [2.0, 1.0].map(Reverse)), Some(Reverse(1.0)));
}

#[test]
fn every_built_in_crosses_the_wire() {
    fn crosses<R: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: R) {
        let bytes = crate::wire::to_bytes(&value).unwrap();
        assert_eq!(crate::wire::from_bytes::<R>(&bytes).unwrap(), value);
    }
    crosses((Sum, Product, Count, Min, Max, MinLoc, MaxLoc, All));
    crosses((Any, BitAnd, BitOr, BitXor, Concat, SumByKey, TopK(12)));
}

#[test]
fn a_top_of_none_keeps_none() {
    assert!(reduce(&TopK(0), [1, 2, 3]).is_empty());
    assert!(TopK(0).combine(vec![1], vec![2]).is_empty());
}

proptest! {
    #[test]
    fn built_ins_agree_with_plain_loops(items in vec(0u8..50, 0..3000), k in 0usize..9) {
        let wide = || items.iter().map(|&item| u64::from(item));
        prop_assert_eq!(reduce(&Sum, wide()), wide().sum::<u64>());
        prop_assert_eq!(reduce(&Count, wide()), items.len() as u64);
        prop_assert_eq!(reduce(&Min, wide()), wide().min());
        prop_assert_eq!(reduce(&Max, wide()), wide().max());
        prop_assert_eq!(reduce(&BitAnd, wide()), wide().fold(!0, |a, b| a & b));
        prop_assert_eq!(reduce(&BitOr, wide()), wide().fold(0, |a, b| a | b));
        prop_assert_eq!(reduce(&BitXor, wide()), wide().fold(0, |a, b| a ^ b));
        prop_assert_eq!(reduce(&All, wide().map(|i| i > 0)), wide().all(|i| i > 0));
        prop_assert_eq!(reduce(&Any, wide().map(|i| i > 48)), wide().any(|i| i > 48));
        // min_by_key gives the first of equal ones.
        let indexed = || (0u64..).zip(items.iter().copied());
        prop_assert_eq!(reduce(&MinLoc, items.clone()), indexed().min_by_key(|pair| pair.1));
        prop_assert_eq!(reduce(&MaxLoc, items.clone()), indexed().min_by_key(|pair| Reverse(pair.1)));
        let texts: Vec<String> = items.iter().map(u8::to_string).collect();
        prop_assert_eq!(reduce(&Concat, texts.clone()), texts.concat());
        prop_assert_eq!(scan(&Concat, ScanKind::Inclusive, 7, &texts).last().cloned().unwrap_or_default(), texts.concat());
        // Pairs that compare by their first half alone show that equal ones keep their order.
        let pairs: Vec<ByFirst> = indexed().map(|(index, item)| ByFirst(item, index)).collect();
        let mut sorted = pairs.clone();
        sorted.sort_by_key(|pair| Reverse(pair.0));
        sorted.truncate(k);
        prop_assert_eq!(reduce(&TopK(k), pairs), sorted);
    }

    #[test]
    fn maps_merge_key_by_key_in_order(maps in vec(proptest::collection::btree_map(0u8..20, 0u32..100, 0..20), 0..40)) {
        let mut expected: BTreeMap<u8, Trail> = BTreeMap::new();
        let as_trails = |map: &BTreeMap<u8, u32>| map.iter().map(|(&k, &v)| (k, Trail(vec![v]))).collect::<Vec<_>>();
        for (key, value) in maps.iter().flat_map(as_trails) {
            *expected.entry(key).or_default() += value;
        }
        let trees = maps.iter().map(|map| BTreeMap::from_iter(as_trails(map)));
        prop_assert_eq!(&reduce(&SumByKey, trees), &expected);
        let hashes = maps.iter().map(|map| HashMap::<_, _>::from_iter(as_trails(map)));
        prop_assert_eq!(reduce(&SumByKey, hashes), HashMap::from_iter(expected));
    }
}

/// Compares by its first field only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct ByFirst(u8, u64);

impl TotalOrder for ByFirst {
    fn total_order(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

/// An addition that remembers its order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Trail(Vec<u32>);

impl std::ops::AddAssign for Trail {
    fn add_assign(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }
}
