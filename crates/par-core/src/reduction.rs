//! Reductions: how the results of many tasks become one value, the same bits on every engine.
//!
//! A [`Reduction`] folds items into an accumulator and combines accumulators. Its combine must be associative
//! (exactly, or as floats are: the tree of [`fold`](crate::fold) fixes the order, so the bits are the same
//! everywhere); it need not be commutative. Reductions are values, so that [`TopK`]`(10)` works, and they cross
//! to workers. `#[par_core::reduction]` makes one of a function.

mod bits;
mod concat;
mod order;

pub use bits::{All, Any, BitAnd, BitOr, BitXor};
pub use concat::{Append, Concat, SumByKey};
pub use order::{Max, MaxLoc, Min, MinLoc, TopK, TotalOrder};

use crate::task::Data;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::iter;

/// A way to fold items of type `T` into one value.
///
/// Laws, for all accumulators `a`, `b`, `c` that the reduction makes:
/// `combine(a, combine(b, c))` means the same as `combine(combine(a, b), c)`; `combine(identity(), a)` and
/// `combine(a, identity())` mean the same as `a`; folding items into `a` means the same as combining `a` with
/// what folding them into `identity()` gives.
///
/// ```
/// use par_core::{Data, Reduction};
/// use serde::{Deserialize, Serialize};
///
/// /// The mean of floats; of none it is `None`.
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Mean;
///
/// impl Reduction<f64> for Mean {
///     type Acc = (f64, u64);
///     type Output = Option<f64>;
///     fn identity(&self) -> (f64, u64) { (0.0, 0) }
///     fn fold(&self, (sum, n): (f64, u64), item: f64, _index: u64) -> (f64, u64) { (sum + item, n + 1) }
///     fn combine(&self, l: (f64, u64), r: (f64, u64)) -> (f64, u64) { (l.0 + r.0, l.1 + r.1) }
///     fn finish(&self, (sum, n): (f64, u64)) -> Option<f64> { (n > 0).then(|| sum / n as f64) }
/// }
///
/// assert_eq!(par_core::fold::reduce(&Mean, [1.0, 2.0, 6.0]), Some(3.0));
/// ```
pub trait Reduction<T>: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// What is carried along; it crosses from the workers to the caller.
    type Acc: Data;
    /// What comes out at the end.
    type Output;

    /// The accumulator of no items.
    fn identity(&self) -> Self::Acc;

    /// Adds one item; `index` is its place in the whole input, counted from 0.
    fn fold(&self, acc: Self::Acc, item: T, index: u64) -> Self::Acc;

    /// Joins two accumulators; all items of `left` stood before those of `right`.
    fn combine(&self, left: Self::Acc, right: Self::Acc) -> Self::Acc;

    /// Turns the last accumulator into the result.
    fn finish(&self, acc: Self::Acc) -> Self::Output;
}

/// The sum, over [`std::iter::Sum`]. Of no floats it is -0.0, as in the standard library.
///
/// Integers that overflow panic in builds with overflow checks and wrap in others, as `+` does.
///
/// ```
/// use par_core::{Sum, fold};
/// assert_eq!(fold::reduce(&Sum, 1..=100u64), 5050);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum;

impl<T: Data + iter::Sum<T>> Reduction<T> for Sum {
    type Acc = T;
    type Output = T;

    #[inline]
    fn identity(&self) -> T {
        iter::empty().sum()
    }

    // The float sum starts at -0.0, which changes no addend, so this is one addition to the optimiser.
    #[inline]
    fn fold(&self, acc: T, item: T, _: u64) -> T {
        [acc, item].into_iter().sum()
    }

    #[inline]
    fn combine(&self, left: T, right: T) -> T {
        [left, right].into_iter().sum()
    }

    #[inline]
    fn finish(&self, acc: T) -> T {
        acc
    }
}

/// The product, over [`std::iter::Product`].
///
/// Integers that overflow panic in builds with overflow checks and wrap in others, as `*` does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product;

impl<T: Data + iter::Product<T>> Reduction<T> for Product {
    type Acc = T;
    type Output = T;

    #[inline]
    fn identity(&self) -> T {
        iter::empty().product()
    }

    #[inline]
    fn fold(&self, acc: T, item: T, _: u64) -> T {
        [acc, item].into_iter().product()
    }

    #[inline]
    fn combine(&self, left: T, right: T) -> T {
        [left, right].into_iter().product()
    }

    #[inline]
    fn finish(&self, acc: T) -> T {
        acc
    }
}

/// How many items there were; the items themselves are dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count;

impl<T> Reduction<T> for Count {
    type Acc = u64;
    type Output = u64;

    #[inline]
    fn identity(&self) -> u64 {
        0
    }

    #[inline]
    fn fold(&self, acc: u64, _: T, _: u64) -> u64 {
        acc + 1
    }

    #[inline]
    fn combine(&self, left: u64, right: u64) -> u64 {
        left + right
    }

    #[inline]
    fn finish(&self, acc: u64) -> u64 {
        acc
    }
}

#[cfg(test)]
mod tests;
