//! The fixed order of adding: law 7 of the trait layer, written here anew, without it, so that the two check each other.

use std::ops::{Add, Range};

/// Items of a leaf: the default of the trait layer's plans.
pub(crate) const LEAF: u64 = 1024;

/// Sums of leaves, added in the fixed order: leaves have 1024 items; two sums of equally many leaves merge; what is left folds
/// from the right. `leaf` sums the items of a range from -0.0, the one number that changes no addend. Nothing of no items.
pub(crate) fn sum<T: Copy + Add<Output = T>>(items: u64, leaf: impl Fn(Range<u64>) -> T) -> Option<T> {
    let mut stack: Vec<(u32, T)> = Vec::new();
    let mut first = 0;
    while first < items {
        let last = items.min(first.saturating_add(LEAF));
        let (mut level, mut sum) = (0, leaf(first..last));
        while let Some(&(left_level, left)) = stack.last()
            && left_level == level
        {
            sum = left + sum;
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(index: u64) -> f64 {
        1.0 / (index as f64 + 0.7)
    }

    #[test]
    fn order_is_the_fixed_tree() {
        let leaf = |items: Range<u64>| items.fold(-0.0, |sum, index| sum + value(index));
        let nth = |k: u64| leaf(k * LEAF..(k + 1) * LEAF);
        let tree = ((nth(0) + nth(1)) + (nth(2) + nth(3))) + ((nth(4) + nth(5)) + nth(6));
        assert_eq!(sum(7 * LEAF, leaf).map(f64::to_bits), Some(tree.to_bits()));
        let rest = leaf(7 * LEAF..7 * LEAF + 3);
        let tree = ((nth(0) + nth(1)) + (nth(2) + nth(3))) + ((nth(4) + nth(5)) + (nth(6) + rest));
        assert_eq!(sum(7 * LEAF + 3, leaf).map(f64::to_bits), Some(tree.to_bits()));
        assert_eq!(sum(0, leaf), None);
    }
}
