//! The kernels of the laws.

use crate::kernel;

#[kernel]
pub(super) fn axpby(a: f32, x: f32, b: f32, y: f32) -> f32 {
    a * x + b * y
}

#[kernel]
pub(super) fn bump(x: u32) -> u32 {
    x + 1
}

/// The index, which is not what a scalar or an array would be.
#[kernel]
pub(super) fn numbered(x: u32, i: u64, factor: u64) -> u64 {
    i * factor + x as u64
}

/// Calls, branches, loops and constants.
#[kernel]
pub(super) fn collatz(x: u32) -> u32 {
    let mut value = x & 0xfff | 1;
    let mut steps: u32 = 0;
    while value != 1 && steps < u32::MAX {
        if value % 2 == 0 {
            value /= 2;
        } else {
            value = value * 3 + 1;
        }
        steps += 1;
    }
    steps
}

#[kernel]
pub(super) fn horner(x: f32) -> f32 {
    let mut sum = 0.0_f32;
    for i in 0..4_i32 {
        let term: f32 = coefficient(i, x);
        sum = sum * x + term;
    }
    if sum.is_finite() {
        sum
    } else {
        std::f32::consts::PI
    }
}

#[kernel]
pub(super) fn coefficient(i: i32, x: f32) -> f32 {
    let even = i % 2 == 0 || x < -1.0;
    if even {
        0.25
    } else if i == 3 {
        x
    } else {
        -(i as f32)
    }
}

macro_rules! float_kernels {
    ($($ty:ident $int:ident $combined:ident $quotient:ident $rounded:ident $chosen:ident $power:ident $fused:ident;)*) => {$(
        /// A product and a sum, which a compiler that contracts would round once.
        #[kernel]
        pub(super) fn $combined(x: $ty, y: $ty) -> $ty {
            x * y + x - y * 0.1
        }

        #[kernel]
        pub(super) fn $quotient(x: $ty, y: $ty) -> $ty {
            let root = x.abs().sqrt();
            if y > 1.0 { root % y } else { root / y }
        }

        #[kernel]
        pub(super) fn $rounded(x: $ty, which: $int) -> $ty {
            if which % 6 == 0 {
                x.floor()
            } else if which % 6 == 1 {
                x.ceil()
            } else if which % 6 == 2 {
                x.trunc()
            } else if which % 6 == 3 {
                x.round()
            } else if which % 6 == 4 {
                x.round_ties_even()
            } else {
                x.recip()
            }
        }

        #[kernel]
        pub(super) fn $chosen(x: $ty, y: $ty, which: $int) -> $ty {
            if which == 0 { x.min(y) } else if which == 1 { x.max(y) } else { x.copysign(-y) }
        }

        #[kernel]
        pub(super) fn $power(x: $ty, n: i32) -> $ty {
            x.powi(n)
        }

        #[kernel]
        pub(super) fn $fused(x: $ty, y: $ty) -> $ty {
            x.mul_add(y, -1.0)
        }
    )*};
}
float_kernels! {
    f32 i32 combined_f32 quotient_f32 rounded_f32 chosen_f32 power_f32 fused_f32;
    f64 i64 combined_f64 quotient_f64 rounded_f64 chosen_f64 power_f64 fused_f64;
}

macro_rules! int_kernels {
    ($($ty:ident $arith:ident $bitwise:ident $counted:ident;)*) => {$(
        #[kernel]
        pub(super) fn $arith(x: $ty, y: $ty) -> $ty {
            let sum = x + y * 3 - (x * y);
            (sum / 7) ^ (sum % 5) | x.saturating_sub(y)
        }

        #[kernel]
        pub(super) fn $bitwise(x: $ty, y: $ty) -> $ty {
            (x << y) ^ (x >> y) ^ (!x & y) ^ (x << 3) ^ x.min(y) ^ x.rotate_left(y as u32)
        }

        #[kernel]
        pub(super) fn $counted(x: $ty, y: $ty) -> u32 {
            let edge = x.saturating_add(y).max(x);
            edge.count_ones() * 64 + x.leading_zeros() + if x >= y { 1 } else { 0 }
        }
    )*};
}
int_kernels! {
    i32 arith_i32 bitwise_i32 counted_i32;
    u32 arith_u32 bitwise_u32 counted_u32;
    i64 arith_i64 bitwise_i64 counted_i64;
    u64 arith_u64 bitwise_u64 counted_u64;
}

#[kernel]
pub(super) fn magnitude(x: i32) -> i32 {
    // The least number stays negative, whatever a compiler thinks of magnitudes.
    (-x.abs() - i32::MIN) ^ (x.abs() / 1000)
}

/// Truth values, as variables, parameters and results.
#[kernel]
pub(super) fn ordered(x: i32) -> u32 {
    let small: bool = within(x, 31_i32, true);
    let large: bool = within(x, i32::MAX, small);
    (small as u32) << 1 | (small ^ large) as u32
}

#[kernel]
fn within(x: i32, limit: i32, inclusive: bool) -> bool {
    x < limit || inclusive && !(x != limit)
}

macro_rules! casts {
    ($($name:ident $from:ident $to:ident;)*) => {$(
        #[kernel]
        pub(super) fn $name(x: $from) -> $to {
            x as $to
        }
    )*};
}
casts! {
    f32_i32 f32 i32; f32_u32 f32 u32; f32_i64 f32 i64; f32_u64 f32 u64;
    f64_i32 f64 i32; f64_u32 f64 u32; f64_i64 f64 i64; f64_u64 f64 u64;
    i32_f32 i32 f32; u32_f32 u32 f32; i64_f32 i64 f32; u64_f32 u64 f32;
    i64_f64 i64 f64; u64_f64 u64 f64; f64_f32 f64 f32; f32_f64 f32 f64;
    i32_i64 i32 i64; u32_i64 u32 i64; i64_i32 i64 i32; u64_u32 u64 u32; i32_u64 i32 u64; u32_i32 u32 i32;
}

#[kernel]
pub(super) fn product_f32(x: f32, y: f32) -> f32 {
    x * y
}

/// What follows one linear function by another, both packed as factor and summand: associative, and not commutative.
#[kernel]
pub(super) fn follow(left: u64, right: u64) -> u64 {
    let factor = (left >> 32) as u32 * (right >> 32) as u32;
    let summand = left as u32 * (right >> 32) as u32 + right as u32;
    (factor as u64) << 32 | summand as u64
}
