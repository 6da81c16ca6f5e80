//! Workload `sum`: floating-point numbers of very different size, where each order of adding gives other bits.

use super::digest::Digest;
use super::philox::uniform_pair;
use super::tree;

/// Stream of the generator, so that no other workload draws the same numbers.
const STREAM: u32 = 2;

/// The number at an index: of either sign, of a size from about 2^-20 to 2^20.
pub(crate) fn value(index: u64) -> f64 {
    let [mantissa, size] = uniform_pair(STREAM, index);
    (mantissa - 0.5) * 2f64.powi((size * 40.0) as i32 - 20)
}

/// The sum of the first n numbers, in the fixed order.
pub(crate) fn serial(n: u64) -> f64 {
    tree::sum(n, |indexes| indexes.fold(-0.0, |sum, index| sum + value(index))).unwrap_or(-0.0)
}

pub(crate) fn digest(sum: f64) -> String {
    Digest::new().number(sum.to_bits()).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_and_one_number_have_their_sums() {
        assert_eq!(serial(0).to_bits(), (-0.0f64).to_bits());
        assert_eq!(serial(1), value(0));
    }

    #[test]
    fn another_order_gives_other_bits() {
        let n = 100_000;
        let left_to_right: f64 = (0..n).map(value).sum();
        assert_ne!(digest(serial(n)), digest(left_to_right));
        assert!((serial(n) - left_to_right).abs() < 1e-3);
    }
}
