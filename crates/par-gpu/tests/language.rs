//! The language of kernels against plain Rust: every function here is compiled twice, as it stands and as a kernel, and
//! both compute arbitrary numbers, the kernel on every device.
//!
//! Where kernels mean something of their own (integers that wrap, the first of two zeros), the functions say it in plain words.

use par_gpu::{Device, Element, kernel, map};
use proptest::prelude::*;

/// Functions, and kernels of the same text.
macro_rules! twins {
    ($(fn $name:ident($($param:ident: $ty:ident),*) -> $out:ident { $($body:tt)* })*) => {
        /// As they stand.
        #[allow(unused, non_snake_case, clippy::all, reason = "these are the corners of the language")]
        mod plain {
            use super::*;
            $(pub(super) fn $name($($param: $ty),*) -> $out { $($body)* })*
        }
        $(
            #[kernel]
            #[allow(unused, non_snake_case, reason = "as above")]
            fn $name($($param: $ty),*) -> $out { $($body)* }
        )*
    };
}

const COUNT: i32 = 5;
const FLAG: bool = true;
const LEAST: f32 = -0.0;
const NOT_A_NUMBER: f64 = f64::NAN;
const MASK: u64 = 0xffff_0000_ffff_0000;

twins! {
    // Assignments within values: who is read first.
    fn orders(x: f32, y: f32) -> f32 {
        let mut a = x;
        a += { a = y; 1.0 };
        a *= { a -= 0.5; a };
        let b = a - { a = a * 0.5; a };
        let mut n: u32 = 3;
        n <<= { n = 5; 2_u32 };
        n ^= { n |= 8; n & 6 };
        let both = a > 0.0 && { n += 1; n > 2 };
        let either = both || { n += 100; b < a };
        if either ^ both { a + n as f32 } else { b - n as f32 }
    }
    // One name, many variables.
    fn shadows(x: f32, y: f32) -> f32 {
        let x = x + y;
        let mut y = y;
        {
            let x = x * 2.0;
            y = y + x;
            let y = 1.0_f32;
            let x = x - y;
        }
        let r#x: f32 = x - { let x = y * 0.25; x };
        let z = if x > y { let x = 3.0_f32; x + y } else if x == y { x } else { let y = x; -y };
        x * z + r#y
    }
    // Names that mean something in C.
    fn double(int: i32, float: f32) -> f32 {
        let __kernel = float * 2.0;
        let local = __kernel + 1.0;
        let global: i32 = int & 15;
        let t1 = local - 0.5;
        let p0 = global + 1;
        let v1_x = t1 * 3.0;
        let mut out = v1_x;
        let r#struct = 0.5_f32;
        let volatile: bool = FLAG;
        for i in 0..p0 {
            let INT_MAX = i as f32;
            out = out * r#struct + INT_MAX;
        }
        if volatile { out } else { t1 }
    }
    fn main_(len: f32, i: f32, leaf: f32, start: f32, acc: f32, end: f32, a0: f32, NULL: f32) -> f32 {
        let float4: f32 = double(3_i32, len) + double(1_i32, i);
        float4 - leaf * start + acc / (end * end + 1.0) - a0 * NULL
    }
    // Loops, with constants as bounds and conditions.
    fn loops(x: i32, n: i32) -> i32 {
        let n = n & 7;
        let mut sum = x;
        for i in 0_i32..COUNT {
            for j in i..n {
                sum = sum.wrapping_mul(31).wrapping_add(i ^ j);
            }
        }
        for _k in n..({ let half = n / 2; half + 3 }) { sum = sum.wrapping_add(7); }
        for k in (if n > 3 { 3 } else { n })..COUNT { sum = sum.wrapping_sub(k); }
        for k in i32::MAX - 2..i32::MAX { sum ^= k; }
        let mut left = n;
        while FLAG && left > 0 {
            left -= 1;
            let mut inner = left;
            while { inner -= 1; inner > 0 } { sum = sum.wrapping_add(inner); }
        }
        if FLAG { sum } else { 0 }
    }
    // Numbers as they are written.
    fn literals(x: f32, n: i64) -> f64 {
        let a = x as f64 * 1e-3 + 0.1 - 1_000.5e0_f64 + 4f64;
        let b = n.wrapping_add(-9_223_372_036_854_775_808) ^ 0x7fff_ffff_0000_0001_i64 ^ 0b1010 ^ 0o17;
        let c = i32::MIN as i64 - -2_147_483_648_i64 + i64::MAX / 3;
        let d = 3.4028235e38_f32 - 1e-45 + 1.1754944e-38;
        let e = -(-0.0_f32) + LEAST * 1.0 + -1.5e-7;
        a + b as f64 - c as f64 + (d * x) as f64 / (e as f64 - 7.)
    }
    fn constants(x: f64, n: u64) -> f64 {
        let bits = u32::BITS + f32::MANTISSA_DIGITS + u64::BITS + f64::DIGITS;
        let most = f64::MAX_EXP - f32::MIN_10_EXP;
        let masked = n & MASK & !(u32::MAX as u64);
        let scaled = x * std::f64::consts::PI + f64::EPSILON;
        if x < 0.0 && n > u64::MAX / 2 { NOT_A_NUMBER } else { scaled + (bits as i32 + most) as f64 - masked as f64 }
    }
    // Integers.
    fn signed(x: i32, y: i32) -> i32 {
        let a = x.wrapping_add(y).wrapping_mul(x) / 7 + y % 13 - x / 1_000_000;
        let b = (x >> (y & 31)) ^ (y << (x & 31)) ^ (x >> 31) & !y | 5;
        let c = x.min(y).max(-100).wrapping_neg() ^ x.wrapping_abs() ^ x.saturating_sub(y) ^ y.saturating_add(x);
        let d = ((x.count_ones() + y.leading_zeros()) as i32).wrapping_sub(x.rotate_left(y as u32));
        a.wrapping_sub(b) ^ c.wrapping_mul(d | 1)
    }
    fn unsigned(x: u32, y: u32) -> u32 {
        let a = x.wrapping_mul(y) / 3 ^ x % 10 ^ y.wrapping_sub(x) >> (x & 31);
        let b = if x < y { x } else { y } | x.max(y) & 0xff00_ff00;
        a.wrapping_add(b.rotate_left(x)) ^ x.saturating_sub(y) ^ y.saturating_add(x) ^ (x << (y % 32)).leading_zeros()
    }
    fn long(x: i64, y: i64) -> i64 {
        let a = x.wrapping_mul(y) / 1_000_003 ^ y % 4_294_967_297;
        let b = (x >> (y as u64 & 63)) ^ (y << (x & 63)) ^ x.rotate_left(y as u32) ^ -(x >> 1);
        let c = x.min(y).saturating_add(x).wrapping_abs() ^ y.saturating_sub(x).max(i64::MIN / 2);
        a.wrapping_add(b) ^ c ^ (x.count_ones() as i64) << 40 ^ y.leading_zeros() as i64
    }
    fn ulong(x: u64, y: u64) -> u64 {
        let a = x.wrapping_mul(y) / 10 ^ y % 18_446_744_073_709_551_615;
        (a >> (y & 63)).wrapping_sub(x.rotate_left(y as u32)) ^ x.max(y).saturating_add(a) ^ x.saturating_sub(y).min(a)
    }
    // What stays negative, where a compiler may think that it does not.
    fn least(x: i32, y: i64) -> i64 {
        let a = x.wrapping_abs() / 1000;
        let b = y.wrapping_abs() >> 3 ^ y.wrapping_neg() % 1000;
        let c = x.wrapping_neg() >> 1;
        if a < 0 || c < -1_000_000_000 { b.wrapping_sub(a as i64) } else { (a ^ c) as u32 as i64 ^ b }
    }
    // What a device's own compiler computes, as it knows the arguments.
    fn folded(x: f64, i: i32) -> f64 {
        let mut y = x as f32;
        let mut z = x;
        if i == 0 { y = (-1e10_f32).round_ties_even(); z = 1e300_f64.round_ties_even(); }
        if i == 1 { y = f32::NAN.floor(); z = f64::NAN.floor(); }
        if i == 2 { y = f32::NAN.ceil(); z = (-1e300_f64).ceil(); }
        if i == 3 { y = f32::INFINITY.trunc(); z = f64::NAN.trunc(); }
        if i == 4 { y = 3e9_f32.round(); z = f64::NAN.round(); }
        if i == 5 { y = f32::INFINITY.round_ties_even(); z = f64::NEG_INFINITY.round_ties_even(); }
        if i == 6 { y = f32::NAN as i32 as f32; z = 1e300 as i64 as f64; }
        if i == 7 { y = (-3e9_f32) as u32 as f32; z = f64::INFINITY as u64 as f64; }
        if i == 8 { y = (-0.0_f32).ceil() + (-0.3_f32).round(); z = (-0.7_f64).ceil(); }
        if i == 9 { y = 1e-40_f32 % 3.0; z = 1e300_f64 % 1e-310; }
        if i == 10 { y = 1e30_f32.mul_add(1e30, 2.0); z = (0.0_f64).recip(); }
        if x.is_nan() { z = x.floor() + x.round(); }
        if x > 1e17 { z = x.round_ties_even() + x.ceil(); }
        z + y as f64
    }
    // Casts, through every type.
    fn casts(x: f64, n: i64) -> f64 {
        let a = x as f32 as i32 as i64 as u32 as u64 as f32 as u32 as i32 as f64;
        let b = n as i32 as u64 as i64 as f32 as i64 as u64 as i32 as u32 as f32;
        let c = (x * 1e10) as u64 as f64 + (x * 1e3) as i32 as f64 + x as u32 as f64 + x as i64 as f64;
        let d = (x as f32 * 3.5) as i64 as f32 + (x as f32) as u64 as f32 + (n as u64) as f32 + (n as u32) as f32;
        a + b as f64 + c * 0.5 - d as f64 + (x > 0.0) as u32 as f64 - true as i32 as f64 + 3 as f64 + 7 as u64 as f64
    }
    // Truth.
    fn truth(x: i32, y: f32) -> u32 {
        let a = x > 0;
        let b: bool = y < 1.5 || y != y;
        let c = !a & b | a ^ (b == a) && !(x == 3);
        let d: bool = decides(c, x, a < b);
        let mut e = d;
        e |= a;
        e ^= b && c;
        e &= true;
        (a as u32) << 4 | (b as u32) << 3 | (c as u32) << 2 | (d as u32) << 1 | e as u32
    }
    fn decides(a: bool, x: i32, b: bool) -> bool {
        let flag = if a { b } else { x & 1 == 0 };
        a != flag || b
    }
    // Floats, and their bits.
    fn floats(x: f32, y: f32) -> f32 {
        let a = x.round() + y.floor() * x.ceil() - y.trunc() + x.round_ties_even();
        let b = x.mul_add(y, a) / (x.abs().sqrt() + 1.0) + y.recip() % 3.0 - (x % y);
        let c = x.copysign(-y) - -x * -y + x - y;
        if x.is_nan() || y.is_infinite() { c } else if !x.is_finite() { a } else { b - c * 0.3 }
    }
    fn doubles(x: f64, y: f64) -> f64 {
        let a = x.round() + y.floor() * x.ceil() - y.trunc() + x.round_ties_even();
        let b = x.mul_add(y, a) / (x.abs().sqrt() + 1.0) + y.recip() % 3.0 - (x % y);
        let c = x.copysign(-y) - -x * -y + x - y;
        if x.is_nan() || y.is_infinite() { c } else if !x.is_finite() { a } else { b - c * 0.3 }
    }
    fn whole(x: f32) -> f32 {
        x.round()
    }
    fn patterns(x: f32, n: u32) -> f32 {
        let sign = x.to_bits() & 0x8000_0000;
        let other = f32::from_bits(n & 0xff7f_ffff);
        let turned = f32::from_bits(x.abs().to_bits() ^ 1 | sign);
        if x.is_nan() { other } else { turned * other }
    }
    fn wide_patterns(x: f64, n: u64) -> f64 {
        let exponent = (x.to_bits() >> 52 & 0x7ff) as i64 - 1023;
        f64::from_bits(n & 0x7fef_ffff_ffff_ffff) + exponent as f64
    }
    // Calls of calls, of which two go to one.
    fn diamond(x: f32, y: f32) -> f32 {
        let left: f32 = left(x, y);
        left - right(y, x) * base(left)
    }
    fn left(x: f32, y: f32) -> f32 {
        base(x + y)
    }
    fn right(x: f32, y: f32) -> f32 {
        let b: f32 = base(y);
        x - b
    }
    fn base(x: f32) -> f32 {
        0.5 * x + 1.0
    }
}

/// What kernels define themselves, in plain words.
mod own {
    pub(super) fn chosen(x: f32, y: f32, n: i32) -> f32 {
        let min = if y < x || x.is_nan() { y } else { x };
        let max = if y > x || x.is_nan() { y } else { x };
        let (mut square, mut power) = (x, 1.0);
        for bit in 0..32 {
            if n.unsigned_abs() >> bit & 1 == 1 {
                power *= square;
            }
            square *= square;
        }
        if n == 0 {
            min
        } else if n == 1 {
            max
        } else if n < 0 {
            1.0 / power
        } else {
            power
        }
    }

    pub(super) fn wrapped(x: i32, y: i32) -> i32 {
        let mut z = x.wrapping_add(y).wrapping_mul(x).wrapping_sub(y);
        z = z.wrapping_add(x.wrapping_shl(y as u32));
        z ^= y.wrapping_shr(x as u32);
        z.wrapping_neg() ^ x.wrapping_abs()
    }
}

#[kernel]
fn chosen(x: f32, y: f32, n: i32) -> f32 {
    if n == 0 {
        x.min(y)
    } else if n == 1 {
        x.max(y)
    } else {
        x.powi(n)
    }
}

#[kernel]
fn wrapped(x: i32, y: i32) -> i32 {
    let mut z = (x + y) * x - y;
    z += x << y;
    z ^= y >> x;
    -z ^ x.abs()
}

/// Kernels of one name whose texts differ in a constant only, and whose constants differ in a bit only.
mod plus {
    const ZERO: f32 = 0.0;

    #[par_gpu::kernel]
    pub(super) fn added(x: f32) -> f32 {
        x * ZERO
    }
}
mod minus {
    const ZERO: f32 = -0.0;

    #[par_gpu::kernel]
    pub(super) fn added(x: f32) -> f32 {
        x * ZERO
    }
}

#[kernel]
fn signs(x: f32) -> u32 {
    let plus: f32 = plus::added(x);
    let minus: f32 = minus::added(x);
    (plus.to_bits() >> 31) << 1 | minus.to_bits() >> 31
}

/// A trait whose methods have the names of others.
mod clamps {
    #[allow(dead_code, reason = "it stands in the way")]
    trait Clamps: Sized {
        fn min(self, _: Self) -> Self {
            self
        }
        fn max(self, _: Self) -> Self {
            self
        }
    }
    impl Clamps for i32 {}

    #[par_gpu::kernel]
    pub(super) fn clamped(x: i32) -> i32 {
        x.min(10).max(-10)
    }
}

/// A kernel, and a function of its name that hides it where both are in scope by `*` and by itself.
mod hides {
    pub(super) mod kernels {
        #[par_gpu::kernel]
        pub(in super::super) fn seven(x: i32) -> i32 {
            x * 0 + 7
        }
    }
    use kernels::*;

    #[allow(dead_code, reason = "it stands in the way")]
    fn seven(x: i32) -> i32 {
        x + 1
    }

    #[par_gpu::kernel]
    pub(super) fn calls(x: i32) -> i32 {
        seven(x)
    }
}

/// Numbers at the edges, small ones, and arbitrary bits.
trait Sample: Element {
    const EDGES: &'static [Self];
    fn of_bits(bits: u64) -> Self;
    fn small(number: i32) -> Self;
}

macro_rules! samples {
    ($($ty:ident [$($edge:expr),*] $of_bits:expr;)*) => {$(
        impl Sample for $ty {
            const EDGES: &'static [Self] = &[$($edge),*];
            fn of_bits(bits: u64) -> Self {
                $of_bits(bits)
            }
            fn small(number: i32) -> Self {
                number as $ty
            }
        }
    )*};
}
samples! {
    f32 [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 0.499_999_97, 8_388_609.0, -8_388_607.5, 4_194_304.5, 16_777_217.0,
        2_147_483_648.0, 2_147_483_520.0, -2_147_483_648.0, 4_294_967_296.0, (1_u64 << 63) as f32, i64::MIN as f32,
        u64::MAX as f32, 1e-45, -1e-40, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN] |bits: u64| f32::from_bits(bits as u32);
    f64 [0.0, -0.0, 0.5, 1.5, -2.5, 0.499_999_999_999_999_94, 4_503_599_627_370_495.5, 2_147_483_647.5, -2_147_483_648.5,
        -2_147_483_649.0, 4_294_967_295.5, (1_u64 << 63) as f64, u64::MAX as f64, 5e-324, 1e-310, 3.5e38,
        f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] f64::from_bits;
    i32 [0, 1, -1, 31, 32, i32::MIN, i32::MAX, i32::MIN + 1] |bits: u64| bits as i32;
    u32 [0, 1, 31, 32, u32::MAX, 1 << 31, (1 << 31) - 1] |bits: u64| bits as u32;
    i64 [0, 1, -1, 63, 64, i64::MIN, i64::MAX, 1 << 32, -1 << 31] |bits: u64| bits as i64;
    u64 [0, 1, 63, 64, u64::MAX, 1 << 63, 1 << 53, (1 << 53) + 1] std::convert::identity;
}

/// SplitMix64, by Steele, Lea and Flood.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn sample<T: Sample>(state: &mut u64) -> Vec<T> {
    let one = |bits: u64| match bits % 3 {
        0 => T::EDGES[(bits >> 2) as usize % T::EDGES.len()],
        1 => T::small((bits >> 2) as i32 % 100),
        _ => T::of_bits(bits.rotate_left(17)),
    };
    (0..500).map(|_| one(next(state))).collect()
}

/// The place of the first difference; computed NaNs are equal.
#[allow(clippy::eq_op, reason = "only a NaN is not itself")]
fn difference<T: Element>(found: &[T], expected: &[T]) -> Option<usize> {
    assert_eq!(found.len(), expected.len());
    let differs = |(x, y): (&T, &T)| x.bits() != y.bits() && !(x != x && y != y);
    found.iter().zip(expected).position(differs)
}

/// Compares a function with the kernel of its name: here, and on every device.
macro_rules! compare {
    ($state:ident $module:ident::$name:ident($($arg:ident: $ty:ident),*)) => {{
        $(let $arg: Vec<$ty> = sample(&mut $state);)*
        let expected: Vec<_> = (0..500).map(|at| $module::$name($($arg[at]),*)).collect();
        let here: Vec<_> = (0..500).map(|at| $name($($arg[at]),*)).collect();
        let mut results = vec![("the function".to_owned(), here)];
        for device in Device::list().into_iter().filter(|device| device.info().fp64) {
            let found = {
                $(let $arg = device.array(&$arg)?;)*
                map::<$name>(($(&$arg,)*))?.to_vec()?
            };
            results.push((device.name().to_owned(), found));
        }
        for (place, found) in results {
            if let Some(at) = difference(&found, &expected) {
                let arguments = [$(format!("{:?}", $arg[at])),*].join(", ");
                let (name, found, expected) = (stringify!($name), found[at], expected[at]);
                prop_assert!(false, "{place}: {name}({arguments}) is {found:?}, expected {expected:?}");
            }
        }
    }};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn kernels_mean_what_rust_means(seed: u64) {
        let mut state = seed;
        compare!(state plain::orders(a: f32, b: f32));
        compare!(state plain::shadows(a: f32, b: f32));
        compare!(state plain::double(a: i32, b: f32));
        compare!(state plain::main_(a: f32, b: f32, c: f32, d: f32, e: f32, f: f32, g: f32, h: f32));
        compare!(state plain::loops(a: i32, b: i32));
        compare!(state plain::literals(a: f32, b: i64));
        compare!(state plain::constants(a: f64, b: u64));
        compare!(state plain::signed(a: i32, b: i32));
        compare!(state plain::unsigned(a: u32, b: u32));
        compare!(state plain::long(a: i64, b: i64));
        compare!(state plain::ulong(a: u64, b: u64));
        compare!(state plain::least(a: i32, b: i64));
        compare!(state plain::folded(a: f64, b: i32));
        compare!(state plain::casts(a: f64, b: i64));
        compare!(state plain::truth(a: i32, b: f32));
        compare!(state plain::floats(a: f32, b: f32));
        compare!(state plain::doubles(a: f64, b: f64));
        compare!(state plain::whole(a: f32));
        compare!(state plain::patterns(a: f32, b: u32));
        compare!(state plain::wide_patterns(a: f64, b: u64));
        compare!(state plain::diamond(a: f32, b: f32));
        compare!(state own::chosen(a: f32, b: f32, n: i32));
        compare!(state own::wrapped(a: i32, b: i32));
    }
}

#[test]
fn kernels_that_differ_in_the_sign_of_a_zero_are_two() {
    for device in Device::list() {
        let x = device.array(&[1.0f32, -1.0]).expect("an array");
        let found = x.map::<signs>().expect("a map").to_vec().expect("a copy");
        assert_eq!(found, [signs(1.0), signs(-1.0)], "{device:?}");
        assert_eq!(found, [1, 2], "{device:?}");
    }
}

#[test]
fn names_of_others_do_not_reach_into_a_kernel() {
    for device in Device::list() {
        let x = device.array(&[-50, 3, 50]).expect("an array");
        let found = x
            .map::<clamps::clamped>()
            .expect("a map")
            .to_vec()
            .expect("a copy");
        assert_eq!(found, [-10, 3, 10], "{device:?}");
        let found = x.map::<hides::calls>().expect("a map").to_vec().expect("a copy");
        assert_eq!(found, [7; 3], "{device:?}");
    }
}
