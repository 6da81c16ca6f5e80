//! Reductions of bools and bit patterns.

use super::Reduction;
use crate::task::Data;
use serde::{Deserialize, Serialize};
use std::ops::{self, Not};

/// A reduction over one type whose accumulator is its output.
macro_rules! plain {
    ($(#[$doc:meta])* $name:ident [$($bounds:tt)*] $item:ty, $identity:expr, $left:ident $right:ident => $combine:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $name;

        impl<$($bounds)*> Reduction<$item> for $name {
            type Acc = $item;
            type Output = $item;

            #[inline]
            fn identity(&self) -> $item {
                $identity
            }

            #[inline]
            fn fold(&self, acc: $item, item: $item, _: u64) -> $item {
                Reduction::<$item>::combine(self, acc, item)
            }

            #[inline]
            fn combine(&self, $left: $item, $right: $item) -> $item {
                $combine
            }

            #[inline]
            fn finish(&self, acc: $item) -> $item {
                acc
            }
        }
    };
}

plain! {
    /// Whether all items are true; of none it is true. Every item is looked at.
    All [] bool, true, left right => left && right
}

plain! {
    /// Whether any item is true; of none it is false. Every item is looked at.
    Any [] bool, false, left right => left || right
}

plain! {
    /// The bitwise and; of no items it has all bits set.
    BitAnd [T: Data + Default + Not<Output = T> + ops::BitAnd<Output = T>] T, !T::default(), left right => left & right
}

plain! {
    /// The bitwise or; of no items it is the default, which has no bit set.
    BitOr [T: Data + Default + ops::BitOr<Output = T>] T, T::default(), left right => left | right
}

plain! {
    /// The bitwise exclusive or; of no items it is the default, which has no bit set.
    BitXor [T: Data + Default + ops::BitXor<Output = T>] T, T::default(), left right => left ^ right
}
