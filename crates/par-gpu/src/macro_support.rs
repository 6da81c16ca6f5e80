//! What the expansion of `#[kernel]` names, and the functions of numbers that Rust leaves open to some degree.

pub use crate::element::{Kind, Value};
pub use crate::kernel::{Piece, Source};

/// Operations of numbers where kernels promise more than the standard library does.
pub trait Scalar: Sized {
    /// The lesser; the other where one is a NaN; of equal ones, as -0.0 and 0.0 are, the first.
    #[must_use]
    fn min(self, other: Self) -> Self;
    /// The greater; the other where one is a NaN; of equal ones the first.
    #[must_use]
    fn max(self, other: Self) -> Self;
    /// The power: squares, multiplied from the lowest bit of the exponent upwards; then the reciprocal, if it is negative.
    #[must_use]
    fn powi(self, exponent: i32) -> Self;
}

macro_rules! scalars {
    ($($ty:ident)*) => {$(
        impl Scalar for $ty {
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                if other < self || self.is_nan() { other } else { self }
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                if other > self || self.is_nan() { other } else { self }
            }

            #[inline(always)]
            fn powi(self, exponent: i32) -> Self {
                let (mut square, mut product, mut left) = (self, 1.0, exponent.unsigned_abs());
                while left != 0 {
                    if left & 1 == 1 {
                        product *= square;
                    }
                    square *= square;
                    left >>= 1;
                }
                if exponent < 0 { 1.0 / product } else { product }
            }
        }
    )*};
}
scalars!(f32 f64);
