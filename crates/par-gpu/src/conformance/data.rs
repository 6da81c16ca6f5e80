//! Numbers to compute with: arbitrary bits that are the same in every run, the values at the edges, and how they are compared.

use crate::element::Element;
use std::fmt::Debug;

/// SplitMix64, by Steele, Lea and Flood.
pub(super) fn bits(index: usize) -> u64 {
    let mut z = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Moderate floats of both signs, with many different exponents.
pub(super) fn floats(len: usize) -> Vec<f64> {
    let one = |index| {
        let bits = bits(index);
        let (mantissa, exponent) = (bits as u32, (bits >> 32) as i32 % 20);
        (f64::from(mantissa) / f64::from(u32::MAX) - 0.5) * f64::powi(2.0, exponent)
    };
    (0..len).map(one).collect()
}

/// The same, rounded.
pub(super) fn singles(len: usize) -> Vec<f32> {
    floats(len).into_iter().map(|x| x as f32).collect()
}

/// Floats at the edges.
pub(super) const EDGES: [f64; 32] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    -2.5,
    2.5,
    0.1,
    1.0 / 3.0,
    7.0,
    16_777_217.0,
    2_147_483_647.0,
    2_147_483_648.0,
    -2_147_483_648.0,
    -2_147_483_649.0,
    4_294_967_296.0,
    9.3e18,
    -9.3e18,
    1.9e19,
    3.5e38,
    1e-40,
    -1e-45,
    1.2e-38,
    3e38,
    1e300,
    1e-310,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    f64::EPSILON,
];

/// Every pair of edges.
pub(super) fn pairs<T: Copy>(edges: &[T]) -> (Vec<T>, Vec<T>) {
    let one = |index: usize| (edges[index / edges.len()], edges[index % edges.len()]);
    (0..edges.len() * edges.len()).map(one).unzip()
}

/// Integers at the edges, cut to size.
pub(super) const INTEGERS: [u64; 16] = [
    0,
    1,
    2,
    7,
    31,
    32,
    63,
    64,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0001,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fff9,
    u64::MAX,
];

/// Compares bit by bit; NaNs that were computed are equal.
#[track_caller]
pub(super) fn same<T: Element>(what: &str, found: &[T], expected: &[T]) {
    assert_eq!(found.len(), expected.len(), "{what}: number of elements");
    #[allow(clippy::eq_op, reason = "only a NaN is not itself")]
    let nan = |x: T| x != x;
    let differs = |(x, y): (&T, &T)| x.bits() != y.bits() && !(nan(*x) && nan(*y));
    if let Some(index) = found.iter().zip(expected).position(differs) {
        let (found, expected) = (found[index], expected[index]);
        panic!(
            "{what}: element {index} is {found:?} ({:#x}), expected {expected:?} ({:#x})",
            found.bits(),
            expected.bits()
        );
    }
}

/// The value, or a panic that says what was done.
#[track_caller]
pub(super) fn done<T>(what: &str, result: Result<T, impl Debug + std::fmt::Display>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}
