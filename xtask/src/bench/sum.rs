//! Workload `sum`: floating-point numbers of very different size, where each order of adding gives other bits.

use super::digest::Digest;
use super::philox::uniform_pair;

/// Stream of the generator, so that no other workload draws the same numbers.
const STREAM: u32 = 2;
/// Items of a leaf: the default of the trait layer's plans.
const LEAF: u64 = 1024;

/// The number at an index: of either sign, of a size from about 2^-20 to 2^20.
pub(crate) fn value(index: u64) -> f64 {
    let [mantissa, size] = uniform_pair(STREAM, index);
    (mantissa - 0.5) * 2f64.powi((size * 40.0) as i32 - 20)
}

/// The sum of the first n numbers, by the fixed order of the trait layer (law 7 of its conformance tests): leaves of
/// 1024 items, each from -0.0 (the one number that changes no addend); two sums of equally many leaves merge; what is
/// left folds from the right.
///
/// It is written here anew, without the trait layer, so that the two check each other.
pub(crate) fn serial(n: u64) -> f64 {
    let mut stack: Vec<(u32, f64)> = Vec::new();
    let mut first = 0;
    while first < n {
        let last = n.min(first.saturating_add(LEAF));
        let (mut level, mut sum) = (0, (first..last).fold(-0.0, |sum, index| sum + value(index)));
        while let Some(&(left_level, left)) = stack.last()
            && left_level == level
        {
            sum += left;
            level += 1;
            stack.pop();
        }
        stack.push((level, sum));
        first = last;
    }
    stack
        .into_iter()
        .rev()
        .map(|(_, sum)| sum)
        .reduce(|right, left| left + right)
        .unwrap_or(-0.0)
}

pub(crate) fn digest(sum: f64) -> String {
    Digest::new().number(sum.to_bits()).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_the_fixed_tree() {
        let leaf = |k: u64| (k * LEAF..(k + 1) * LEAF).fold(0.0, |sum, index| sum + value(index));
        let tree = ((leaf(0) + leaf(1)) + (leaf(2) + leaf(3))) + ((leaf(4) + leaf(5)) + leaf(6));
        assert_eq!(serial(7 * LEAF).to_bits(), tree.to_bits());
        let rest = (7 * LEAF..7 * LEAF + 3).fold(0.0, |sum, index| sum + value(index));
        let tree = ((leaf(0) + leaf(1)) + (leaf(2) + leaf(3))) + ((leaf(4) + leaf(5)) + (leaf(6) + rest));
        assert_eq!(serial(7 * LEAF + 3).to_bits(), tree.to_bits());
        assert_eq!(serial(0), 0.0);
        assert_eq!(serial(1), 0.0 + value(0));
    }

    #[test]
    fn another_order_gives_other_bits() {
        let n = 100_000;
        let left_to_right: f64 = (0..n).map(value).sum();
        assert_ne!(digest(serial(n)), digest(left_to_right));
        assert!((serial(n) - left_to_right).abs() < 1e-3);
    }
}
