//! Workload `pi`: hits of random points in a quarter of a circle. An item is a block of points.

use super::digest::Digest;
use super::philox::uniform_pair;

/// Points of one item.
pub(crate) const BLOCK: u64 = 1 << 16;
/// Stream of the generator, so that no other workload draws the same numbers.
const STREAM: u32 = 1;

/// Hits among the points of a block, which are numbered from `block * BLOCK`.
pub(crate) fn hits(block: u64) -> u64 {
    let first = block.wrapping_mul(BLOCK);
    (0..BLOCK)
        .filter(|offset| {
            let [x, y] = uniform_pair(STREAM, first.wrapping_add(*offset));
            x * x + y * y < 1.0
        })
        .count() as u64
}

/// The estimate of pi from hits in a number of blocks; NaN without blocks.
pub(crate) fn estimate(hits: u64, blocks: u64) -> f64 {
    4.0 * hits as f64 / (blocks as f64 * BLOCK as f64)
}

pub(crate) fn digest(hits: u64) -> String {
    Digest::new().number(hits).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_is_near_pi_and_repeats() {
        let blocks = 8;
        let total: u64 = (0..blocks).map(hits).sum();
        // A hit has variance p (1 - p) with p = pi / 4; four standard deviations of the estimate.
        let n = (blocks * BLOCK) as f64;
        let p = std::f64::consts::FRAC_PI_4;
        let bound = 4.0 * 4.0 * (p * (1.0 - p) / n).sqrt();
        assert!((estimate(total, blocks) - std::f64::consts::PI).abs() < bound);
        assert_eq!(hits(3), hits(3));
        assert_ne!(hits(0), hits(1));
        assert_ne!(digest(total), digest(total + 1));
    }
}
