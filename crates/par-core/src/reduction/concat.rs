//! Reductions of containers: put together end to end, or merged key by key.

use super::Reduction;
use crate::task::Data;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, LinkedList, VecDeque, btree_map, hash_map};
use std::hash::{BuildHasher, Hash};
use std::ops::AddAssign;

/// A container that takes in another of its kind.
pub trait Append: Default {
    /// Puts everything of `other` behind what is here. In a map the later value of a key wins.
    fn append(&mut self, other: Self);
}

/// For sequences whose own `append` keeps their memory.
macro_rules! by_append {
    ($([$($bounds:tt)*] $type:ty),*) => {$(
        impl<$($bounds)*> Append for $type {
            fn append(&mut self, mut other: Self) {
                // The first one is taken whole, which also keeps its memory.
                if self.is_empty() {
                    *self = other;
                } else {
                    <$type>::append(self, &mut other);
                }
            }
        }
    )*};
}
by_append!([T] Vec<T>, [T] VecDeque<T>, [T] LinkedList<T>, [T: Ord] BTreeSet<T>, [K: Ord, V] BTreeMap<K, V>);

macro_rules! by_extend {
    ($([$($bounds:tt)*] $type:ty),*) => {$(
        impl<$($bounds)*> Append for $type {
            fn append(&mut self, other: Self) {
                if self.is_empty() {
                    *self = other;
                } else {
                    self.extend(other);
                }
            }
        }
    )*};
}
by_extend!([T: Eq + Hash, S: BuildHasher + Default] HashSet<T, S>, [K: Eq + Hash, V, S: BuildHasher + Default] HashMap<K, V, S>);

impl Append for String {
    fn append(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
        } else {
            self.push_str(&other);
        }
    }
}

/// The items, which are containers, put together in input order. In a map the value of the last item wins.
///
/// ```
/// use par_core::{Concat, fold};
/// assert_eq!(fold::reduce(&Concat, ["par", "allel"].map(String::from)), "parallel");
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concat;

impl<T: Data + Append> Reduction<T> for Concat {
    type Acc = T;
    type Output = T;

    fn identity(&self) -> T {
        T::default()
    }

    fn fold(&self, mut acc: T, item: T, _: u64) -> T {
        acc.append(item);
        acc
    }

    fn combine(&self, left: T, right: T) -> T {
        Reduction::<T>::fold(self, left, right, 0)
    }

    fn finish(&self, acc: T) -> T {
        acc
    }
}

/// Maps merged into one; the values of a key are added, in input order.
///
/// ```
/// use par_core::{SumByKey, fold};
/// use std::collections::BTreeMap;
/// let pages = [BTreeMap::from([('a', 1), ('b', 2)]), BTreeMap::from([('b', 3)])];
/// assert_eq!(fold::reduce(&SumByKey, pages), BTreeMap::from([('a', 1), ('b', 5)]));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumByKey;

macro_rules! by_key {
    ($entry:ident [$($bounds:tt)*] $type:ty) => {
        impl<$($bounds)*> Reduction<$type> for SumByKey
        where
            $type: Data,
        {
            type Acc = $type;
            type Output = $type;

            fn identity(&self) -> $type {
                Default::default()
            }

            fn fold(&self, acc: $type, item: $type, _: u64) -> $type {
                Reduction::<$type>::combine(self, acc, item)
            }

            fn combine(&self, mut left: $type, mut right: $type) -> $type {
                // The larger map takes in the smaller one; left values stay left of the `+=` either way.
                if left.len() >= right.len() {
                    for (key, value) in right {
                        match left.entry(key) {
                            $entry::Entry::Occupied(mut slot) => *slot.get_mut() += value,
                            $entry::Entry::Vacant(slot) => {
                                slot.insert(value);
                            }
                        }
                    }
                    left
                } else {
                    for (key, value) in left {
                        match right.entry(key) {
                            $entry::Entry::Occupied(mut slot) => {
                                let later = slot.insert(value);
                                *slot.get_mut() += later;
                            }
                            $entry::Entry::Vacant(slot) => {
                                slot.insert(value);
                            }
                        }
                    }
                    right
                }
            }

            fn finish(&self, acc: $type) -> $type {
                acc
            }
        }
    };
}
by_key!(btree_map [K: Ord, V: AddAssign] BTreeMap<K, V>);
by_key!(hash_map [K: Eq + Hash, V: AddAssign, S: BuildHasher + Default] HashMap<K, V, S>);
