//! Workload `dot`: the dot product of two arrays of single precision, where each order of adding gives other bits.

use super::digest::Digest;
use super::philox::uniform_pair;
use super::tree;

/// Stream of the generator, so that no other workload draws the same numbers.
const STREAM: u32 = 3;

/// The two arrays, of numbers from -0.5 to 0.5.
pub(crate) fn inputs(pairs: usize) -> (Vec<f32>, Vec<f32>) {
    (0..pairs as u64)
        .map(|index| uniform_pair(STREAM, index).map(|number| (number - 0.5) as f32))
        .map(|[x, y]| (x, y))
        .unzip()
}

/// The dot product in the fixed order: each product is rounded before it is added.
pub(crate) fn serial(x: &[f32], y: &[f32]) -> f32 {
    let pairs = x.len().min(y.len());
    let leaf = |indexes: std::ops::Range<u64>| {
        let range = indexes.start as usize..indexes.end as usize;
        let products = x[range.clone()].iter().zip(&y[range]).map(|(x, y)| x * y);
        products.fold(-0.0, |sum, product| sum + product)
    };
    tree::sum(pairs as u64, leaf).unwrap_or(-0.0)
}

pub(crate) fn digest(dot: f32) -> String {
    Digest::new().number(u64::from(dot.to_bits())).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_matters_and_the_value_is_right() {
        let (x, y) = inputs(100_000);
        let exact: f64 = x.iter().zip(&y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum();
        assert!((f64::from(serial(&x, &y)) - exact).abs() < 1e-2);
        let left_to_right: f32 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
        assert_ne!(digest(serial(&x, &y)), digest(left_to_right));
        assert_eq!(serial(&[3.0], &[2.0, 9.0]), 6.0);
    }
}
