//! Philox4x32-10, a counter-based generator: a point's random bits follow from its index alone, on every engine.
//!
//! After J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.

/// Multipliers of the two halves, from table 2 of the paper.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Weyl increments of the two key words: the golden ratio and the square root of 3 less 1.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];

/// The four words that belong to a counter under a key.
pub(crate) fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut words, mut key) = (counter, key);
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let (high0, low0) = product(MULTIPLIERS[0], words[0]);
        let (high1, low1) = product(MULTIPLIERS[1], words[2]);
        words = [high1 ^ words[1] ^ key[0], low1, high0 ^ words[3] ^ key[1], low0];
    }
    words
}

fn product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// Two numbers in 0 to 1 (exclusive) of 53 random bits each, for an index in a stream; streams do not overlap.
pub(crate) fn uniform_pair(stream: u32, index: u64) -> [f64; 2] {
    let words = philox4x32([index as u32, (index >> 32) as u32, 0, 0], [stream, 0]);
    // 2^-53 is the distance of doubles just below 1; every product is exact.
    let unit =
        |high: u32, low: u32| (((u64::from(high) << 32) | u64::from(low)) >> 11) as f64 * 2f64.powi(-53);
    [unit(words[0], words[1]), unit(words[2], words[3])]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines `philox4x32 10` of tests/kat_vectors in Random123 1.14 (github.com/DEShawResearch/random123).
    #[test]
    fn known_answers() {
        let zeros = philox4x32([0; 4], [0; 2]);
        assert_eq!(zeros, [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        let ones = philox4x32([u32::MAX; 4], [u32::MAX; 2]);
        assert_eq!(ones, [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let pi = philox4x32(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
        );
        assert_eq!(pi, [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]);
    }

    #[test]
    fn uniform_within_bounds_and_spread() {
        let n = 100_000;
        let mut sum = 0.0;
        for index in 0..n {
            let pair = uniform_pair(1, index);
            assert!(pair.iter().all(|u| (0.0..1.0).contains(u)));
            sum += pair[0];
        }
        // The mean of n uniform numbers has standard deviation 1 / sqrt(12 n); six of them.
        assert!((sum / n as f64 - 0.5).abs() < 6.0 / (12.0 * n as f64).sqrt());
        assert_ne!(uniform_pair(1, 5), uniform_pair(2, 5));
        assert_ne!(uniform_pair(1, 5), uniform_pair(1, 5 + (1 << 32)));
    }
}
