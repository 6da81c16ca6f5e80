//! Reductions by order: least, greatest, where they stand, and the greatest few.

use super::Reduction;
use crate::task::Data;
use serde::{Deserialize, Serialize};
use std::cmp::{Ordering, Reverse};

/// An order in which any two values compare, floats by [`f64::total_cmp`] (so that a NaN has its place: above
/// infinity, or below minus infinity where its sign is set).
///
/// ```
/// use par_core::{Max, TotalOrder, fold};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize)]
/// struct City { name: String, people: u64 }
///
/// impl TotalOrder for City {
///     fn total_order(&self, other: &Self) -> std::cmp::Ordering { self.people.cmp(&other.people) }
/// }
///
/// let cities = [("Bern", 134_506), ("Basel", 173_552)];
/// let cities = cities.map(|(name, people)| City { name: name.to_owned(), people });
/// assert_eq!(fold::reduce(&Max, cities).unwrap().name, "Basel");
/// ```
pub trait TotalOrder {
    /// How `self` stands to `other`.
    fn total_order(&self, other: &Self) -> Ordering;
}

macro_rules! by_ord {
    ($($type:ty)*) => {$(
        impl TotalOrder for $type {
            #[inline]
            fn total_order(&self, other: &Self) -> Ordering {
                self.cmp(other)
            }
        }
    )*};
}
by_ord!(() u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize bool char String std::time::Duration);

macro_rules! by_total_cmp {
    ($($type:ty)*) => {$(
        impl TotalOrder for $type {
            #[inline]
            fn total_order(&self, other: &Self) -> Ordering {
                self.total_cmp(other)
            }
        }
    )*};
}
by_total_cmp!(f32 f64);

macro_rules! by_fields {
    ($($name:ident $index:tt)*) => {
        impl<$($name: TotalOrder),*> TotalOrder for ($($name,)*) {
            fn total_order(&self, other: &Self) -> Ordering {
                Ordering::Equal$(.then_with(|| self.$index.total_order(&other.$index)))*
            }
        }
    };
}
by_fields!(A 0);
by_fields!(A 0 B 1);
by_fields!(A 0 B 1 C 2);
by_fields!(A 0 B 1 C 2 D 3);
by_fields!(A 0 B 1 C 2 D 3 E 4);
by_fields!(A 0 B 1 C 2 D 3 E 4 F 5);

impl<T: TotalOrder> TotalOrder for Reverse<T> {
    #[inline]
    fn total_order(&self, other: &Self) -> Ordering {
        other.0.total_order(&self.0)
    }
}

impl<T: TotalOrder> TotalOrder for Option<T> {
    fn total_order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Some(left), Some(right)) => left.total_order(right),
            _ => self.is_some().cmp(&other.is_some()),
        }
    }
}

impl<T: TotalOrder> TotalOrder for [T] {
    fn total_order(&self, other: &Self) -> Ordering {
        let mut pairs = self
            .iter()
            .zip(other)
            .map(|(left, right)| left.total_order(right));
        pairs
            .find(|order| order.is_ne())
            .unwrap_or_else(|| self.len().cmp(&other.len()))
    }
}

impl<T: TotalOrder> TotalOrder for Vec<T> {
    fn total_order(&self, other: &Self) -> Ordering {
        self.as_slice().total_order(other)
    }
}

impl<T: TotalOrder, const N: usize> TotalOrder for [T; N] {
    fn total_order(&self, other: &Self) -> Ordering {
        self.as_slice().total_order(other)
    }
}

impl<T: TotalOrder + ?Sized> TotalOrder for Box<T> {
    fn total_order(&self, other: &Self) -> Ordering {
        (**self).total_order(other)
    }
}

/// A reduction that keeps one item: the first, unless a later one compares as `$wins` to what is kept.
macro_rules! extreme {
    ($name:ident $with_index:ident $wins:ident, $what:literal) => {
        #[doc = concat!("The ", $what, " item by [`TotalOrder`]; of equal ones the first; of none `None`.")]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name;

        impl<T: Data + TotalOrder> Reduction<T> for $name {
            type Acc = Option<T>;
            type Output = Option<T>;

            #[inline]
            fn identity(&self) -> Option<T> {
                None
            }

            #[inline]
            fn fold(&self, acc: Option<T>, item: T, _: u64) -> Option<T> {
                match acc {
                    Some(kept) if item.total_order(&kept) != Ordering::$wins => Some(kept),
                    _ => Some(item),
                }
            }

            #[inline]
            fn combine(&self, left: Option<T>, right: Option<T>) -> Option<T> {
                match right {
                    Some(item) => self.fold(left, item, 0),
                    None => left,
                }
            }

            #[inline]
            fn finish(&self, acc: Option<T>) -> Option<T> {
                acc
            }
        }

        #[doc = concat!("Index in the input and value of the ", $what, " item by [`TotalOrder`]; of equal ones the lowest index; of none `None`.")]
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $with_index;

        impl<T: Data + TotalOrder> Reduction<T> for $with_index {
            type Acc = Option<(u64, T)>;
            type Output = Option<(u64, T)>;

            #[inline]
            fn identity(&self) -> Option<(u64, T)> {
                None
            }

            #[inline]
            fn fold(&self, acc: Option<(u64, T)>, item: T, index: u64) -> Option<(u64, T)> {
                match acc {
                    Some(kept) if item.total_order(&kept.1) != Ordering::$wins => Some(kept),
                    _ => Some((index, item)),
                }
            }

            #[inline]
            fn combine(&self, left: Option<(u64, T)>, right: Option<(u64, T)>) -> Option<(u64, T)> {
                match right {
                    Some((index, item)) => self.fold(left, item, index),
                    None => left,
                }
            }

            #[inline]
            fn finish(&self, acc: Option<(u64, T)>) -> Option<(u64, T)> {
                acc
            }
        }
    };
}
extreme!(Min MinLoc Less, "least");
extreme!(Max MaxLoc Greater, "greatest");

/// The greatest items by [`TotalOrder`], at most that many, greatest first; equal ones in input order.
///
/// ```
/// use par_core::{TopK, fold};
/// assert_eq!(fold::reduce(&TopK(2), [3.5, 9.0, 1.0, 7.5]), [9.0, 7.5]);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopK(pub usize);

impl<T: Data + TotalOrder> Reduction<T> for TopK {
    /// Greatest first, equal ones in input order: what stands before was there first, so no index is needed.
    type Acc = Vec<T>;
    type Output = Vec<T>;

    fn identity(&self) -> Vec<T> {
        Vec::new()
    }

    fn fold(&self, mut acc: Vec<T>, item: T, _: u64) -> Vec<T> {
        let place = acc.partition_point(|kept| kept.total_order(&item).is_ge());
        if place < self.0 {
            acc.truncate(self.0 - 1);
            acc.insert(place, item);
        }
        acc
    }

    fn combine(&self, left: Vec<T>, right: Vec<T>) -> Vec<T> {
        let mut out = Vec::with_capacity(self.0.min(left.len() + right.len()));
        let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
        while out.len() < self.0 {
            let next = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) if a.total_order(b).is_lt() => right.next(),
                (Some(_), _) => left.next(),
                (None, _) => right.next(),
            };
            let Some(item) = next else { break };
            out.push(item);
        }
        out
    }

    fn finish(&self, acc: Vec<T>) -> Vec<T> {
        acc
    }
}
