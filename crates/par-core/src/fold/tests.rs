//! Tests of the tree against its definition, for any chunking and any order of arrival.

use super::*;
use crate::reduction::Sum;
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// Writes down how it was combined.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Shape;

impl Reduction<u64> for Shape {
    type Acc = String;
    type Output = String;
    fn identity(&self) -> String {
        "i".to_owned()
    }
    fn fold(&self, acc: String, item: u64, index: u64) -> String {
        format!("{acc},{item}@{index}")
    }
    fn combine(&self, left: String, right: String) -> String {
        format!("({left} {right})")
    }
    fn finish(&self, acc: String) -> String {
        acc
    }
}

/// The tree over `leaves`, by its definition: the largest power of two of leaves on the left, the rest on the right.
fn defined(leaves: &[String]) -> String {
    match leaves.len() {
        0 => Shape.identity(),
        1 => leaves[0].clone(),
        count => {
            let left = if count.is_power_of_two() {
                count / 2
            } else {
                1 << count.ilog2()
            };
            format!("({} {})", defined(&leaves[..left]), defined(&leaves[left..]))
        }
    }
}

fn shape_of(items: u64, leaf: usize) -> String {
    let numbers: Vec<u64> = (0..items).collect();
    let leaves = numbers
        .chunks(leaf)
        .map(|chunk| fold_leaf(&Shape, chunk.iter().copied(), chunk[0]));
    defined(&leaves.collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn a_slice_folds_as_its_items_do(items in 0u64..200, leaf in 1usize..8, first_leaf in 0u64..20) {
        let numbers: Vec<u64> = (0..items).collect();
        prop_assert_eq!(
            slice_nodes(&Shape, leaf, first_leaf, &numbers),
            aligned_nodes(&Shape, leaf, first_leaf, numbers.iter().copied())
        );
    }

    #[test]
    fn any_chunking_gives_the_defined_tree(
        items in 0u64..300,
        leaf in 1usize..8,
        sizes in vec(1u64..9, 1..20),
    ) {
        // Chunks of varying numbers of leaves.
        let (mut chunks, mut first_leaf) = (Vec::new(), 0);
        for size in sizes.iter().cycle() {
            let (from, to) = (first_leaf * leaf as u64, (first_leaf + size) * leaf as u64);
            if from >= items {
                break;
            }
            chunks.push((first_leaf, aligned_nodes(&Shape, leaf, first_leaf, from..to.min(items))));
            first_leaf += size;
        }
        let mut counter = Counter::new();
        for node in chunks.iter().flat_map(|(_, nodes)| nodes.clone()) {
            counter.push(node, |left, right| Shape.combine(left, right)).unwrap();
        }
        let whole = counter.finish(|left, right| Shape.combine(left, right));
        prop_assert_eq!(whole.unwrap_or_else(|| Shape.identity()), shape_of(items, leaf));
    }

    #[test]
    fn a_scan_is_its_definition(items in vec(-1e9f64..1e9, 0..200), leaf in 1usize..20) {
        let inclusive = scan(&Sum, ScanKind::Inclusive, leaf, &items);
        let exclusive = scan(&Sum, ScanKind::Exclusive, leaf, &items);
        let mut prefix = None;
        for (number, part) in items.chunks(leaf).enumerate() {
            let mut local = -0.0;
            for (within, item) in part.iter().enumerate() {
                let at = number * leaf + within;
                let value = |local: f64| prefix.map_or(local, |prefix: f64| prefix + local).to_bits();
                prop_assert_eq!(exclusive[at].to_bits(), value(local));
                local += item;
                prop_assert_eq!(inclusive[at].to_bits(), value(local));
            }
            prefix = Some(prefix.map_or(local, |prefix| prefix + local));
        }
    }
}

#[test]
fn a_counter_holds_one_node_a_level() {
    let mut counter = Counter::new();
    for _ in 0..1023 {
        counter.push_leaf((), |(), ()| ());
    }
    let levels: Vec<_> = counter.into_nodes().iter().map(|(level, _)| *level).collect();
    assert_eq!(levels, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
}

#[test]
fn a_first_leaf_beyond_all_inputs_does_not_panic() {
    let nodes = aligned_nodes(&Sum, LEAF, u64::MAX, [1u64; 3000]);
    assert_eq!(nodes.iter().map(|(_, sum)| sum).sum::<u64>(), 3000);
    assert!(Counter::at(u64::MAX).push((0, 1u64), |a, b| a + b).is_err());
}

#[test]
fn a_failing_item_stops_the_fold_at_once() {
    let mut taken = 0;
    let items = (0..10u64).map(|item| {
        taken += 1;
        if item == 4 { Err("four") } else { Ok(item) }
    });
    assert_eq!(try_aligned_nodes(&Sum, 2, 0, items), Err("four"));
    assert_eq!(taken, 5);
    let items = (0..10u64).map(Ok::<_, ()>);
    assert_eq!(try_aligned_nodes(&Sum, 5, 0, items), Ok(vec![(1, 45)]));
}

#[test]
fn wrong_nodes_are_named() {
    let mut counter = Counter::new();
    let add = |a: u64, b: u64| a + b;
    counter.push((0, 1), add).unwrap();
    assert_eq!(counter.push((1, 1), add), Err(Misplaced { leaf: 1, level: 1 }));
    let error = counter.push((64, 1), add).unwrap_err();
    assert_eq!(error.to_string(), "a node of level 64 cannot begin at leaf 1");
    counter.push((0, 1), add).unwrap();
    assert_eq!(counter.finish(add), Some(2));
}
