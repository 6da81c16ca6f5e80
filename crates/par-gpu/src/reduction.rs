//! Reductions that devices know: par-core's own types, and any kernel of two values.

use crate::element::Element;
use crate::kernel::Kernel;
use par_core::{BitAnd, BitOr, BitXor, Data, Max, Min, Product, Reduction, Sum};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;

/// A reduction that is one kernel of two values, whether it takes in an item or joins two parts.
///
/// It gives the bits of [`par_core::fold`] on every device: leaves of 1024 items, combined as a binary counter. Integers wrap
/// around in every build, where par-core's [`Sum`] and [`Product`] panic in builds with overflow checks. The sign and the
/// payload of a NaN that was computed are the processor's; those of one that was only moved are kept.
pub trait DeviceReduction<T: Element>: Reduction<T> {
    /// The kernel that joins two values.
    type Op: Kernel<Args = (T, T), Output = T>;

    /// What stands before the first item, where there is something.
    fn start(&self) -> Option<T>;

    /// The accumulator of a fold; `None` of no items.
    fn acc(&self, folded: Option<T>) -> Self::Acc;
}

macro_rules! built_in {
    ($($reduction:ident $ty:ident $kernel:ident ($left:ident, $right:ident) => $body:expr, $start:expr;)*) => {$(
        #[par_macros::kernel]
        #[allow(unreachable_pub, reason = "the type of its name is named by a public trait")]
        pub fn $kernel($left: $ty, $right: $ty) -> $ty {
            $body
        }

        impl DeviceReduction<$ty> for $reduction {
            type Op = $kernel;

            fn start(&self) -> Option<$ty> {
                $start
            }

            fn acc(&self, folded: Option<$ty>) -> <Self as Reduction<$ty>>::Acc {
                folded.unwrap_or_else(|| Reduction::<$ty>::identity(self))
            }
        }
    )*};
}

built_in! {
    Sum f32 sum_f32 (left, right) => left + right, Some(-0.0);
    Sum f64 sum_f64 (left, right) => left + right, Some(-0.0);
    Sum i32 sum_i32 (left, right) => left + right, Some(0);
    Sum u32 sum_u32 (left, right) => left + right, Some(0);
    Sum i64 sum_i64 (left, right) => left + right, Some(0);
    Sum u64 sum_u64 (left, right) => left + right, Some(0);
    Product f32 product_f32 (left, right) => left * right, Some(1.0);
    Product f64 product_f64 (left, right) => left * right, Some(1.0);
    Product i32 product_i32 (left, right) => left * right, Some(1);
    Product u32 product_u32 (left, right) => left * right, Some(1);
    Product i64 product_i64 (left, right) => left * right, Some(1);
    Product u64 product_u64 (left, right) => left * right, Some(1);
    BitAnd i32 and_i32 (left, right) => left & right, Some(!0);
    BitAnd u32 and_u32 (left, right) => left & right, Some(!0);
    BitAnd i64 and_i64 (left, right) => left & right, Some(!0);
    BitAnd u64 and_u64 (left, right) => left & right, Some(!0);
    BitOr i32 or_i32 (left, right) => left | right, Some(0);
    BitOr u32 or_u32 (left, right) => left | right, Some(0);
    BitOr i64 or_i64 (left, right) => left | right, Some(0);
    BitOr u64 or_u64 (left, right) => left | right, Some(0);
    BitXor i32 xor_i32 (left, right) => left ^ right, Some(0);
    BitXor u32 xor_u32 (left, right) => left ^ right, Some(0);
    BitXor i64 xor_i64 (left, right) => left ^ right, Some(0);
    BitXor u64 xor_u64 (left, right) => left ^ right, Some(0);
}

/// The place of a float in the total order: its bits, of which all but the sign are turned where the sign is set.
macro_rules! places {
    ($($ty:ident $int:ident $uint:ident $shift:literal $kernel:ident;)*) => {$(
        #[par_macros::kernel]
        #[allow(unreachable_pub, reason = "the type of its name is named by a public trait")]
        pub fn $kernel(x: $ty) -> $int {
            let bits = x.to_bits() as $int;
            bits ^ (((bits >> $shift) as $uint >> 1) as $int)
        }
    )*};
}
places! {
    f32 i32 u32 31 place_f32;
    f64 i64 u64 63 place_f64;
}

macro_rules! extremes {
    ($($reduction:ident $ty:ident $kernel:ident ($left:ident, $right:ident) $sign:tt $key:ident $l:expr, $r:expr;)*) => {$(
        #[par_macros::kernel]
        #[allow(unreachable_pub, reason = "the type of its name is named by a public trait")]
        pub fn $kernel($left: $ty, $right: $ty) -> $ty {
            let l: $key = $l;
            let r: $key = $r;
            // Of equal ones the first.
            if r $sign l { $right } else { $left }
        }

        impl DeviceReduction<$ty> for $reduction {
            type Op = $kernel;

            fn start(&self) -> Option<$ty> {
                None
            }

            fn acc(&self, folded: Option<$ty>) -> Option<$ty> {
                folded
            }
        }
    )*};
}
extremes! {
    Min f32 min_f32 (left, right) < i32 place_f32(left), place_f32(right);
    Min f64 min_f64 (left, right) < i64 place_f64(left), place_f64(right);
    Min i32 min_i32 (left, right) < i32 left, right;
    Min u32 min_u32 (left, right) < u32 left, right;
    Min i64 min_i64 (left, right) < i64 left, right;
    Min u64 min_u64 (left, right) < u64 left, right;
    Max f32 max_f32 (left, right) > i32 place_f32(left), place_f32(right);
    Max f64 max_f64 (left, right) > i64 place_f64(left), place_f64(right);
    Max i32 max_i32 (left, right) > i32 left, right;
    Max u32 max_u32 (left, right) > u32 left, right;
    Max i64 max_i64 (left, right) > i64 left, right;
    Max u64 max_u64 (left, right) > u64 left, right;
}

/// A reduction by a kernel of two values, which must be associative, with the value that changes nothing.
///
/// ```
/// use par_gpu::{By, Device, kernel};
///
/// #[kernel]
/// fn farther(a: f32, b: f32) -> f32 {
///     if b.abs() > a.abs() { b } else { a }
/// }
///
/// let x = Device::default().array(&[1.0f32, -7.0, 3.0])?;
/// assert_eq!(x.reduce(By::<farther, _>::new(0.0))?, -7.0);
/// # Ok::<(), par_gpu::Error>(())
/// ```
#[doc(alias = "reduce_expr")]
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct By<K, T: Data> {
    identity: T,
    kernel: PhantomData<fn() -> K>,
}

impl<K: Kernel<Args = (T, T), Output = T>, T: Element> By<K, T> {
    /// The reduction by `K`, for which `identity` changes nothing.
    pub fn new(identity: T) -> Self {
        By {
            identity,
            kernel: PhantomData,
        }
    }
}

impl<K, T: Data + Copy> Clone for By<K, T> {
    fn clone(&self) -> Self {
        By {
            identity: self.identity,
            kernel: PhantomData,
        }
    }
}

impl<K, T: Data + fmt::Debug> fmt::Debug for By<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("By")
            .field("kernel", &std::any::type_name::<K>())
            .field("identity", &self.identity)
            .finish()
    }
}

impl<K: Kernel<Args = (T, T), Output = T>, T: Element> Reduction<T> for By<K, T> {
    type Acc = T;
    type Output = T;

    fn identity(&self) -> T {
        self.identity
    }

    fn fold(&self, acc: T, item: T, _: u64) -> T {
        K::call((acc, item))
    }

    fn combine(&self, left: T, right: T) -> T {
        K::call((left, right))
    }

    fn finish(&self, acc: T) -> T {
        acc
    }
}

impl<K: Kernel<Args = (T, T), Output = T>, T: Element> DeviceReduction<T> for By<K, T> {
    type Op = K;

    fn start(&self) -> Option<T> {
        Some(self.identity)
    }

    fn acc(&self, folded: Option<T>) -> T {
        folded.unwrap_or(self.identity)
    }
}
