//! Squares of 8 x 8 elements, rows to columns, in the registers of AVX2.

use super::LANES;
use crate::element::Element;
use std::arch::x86_64::*;

/// A square of elements, by rows.
pub(super) type Square<T> = [[T; LANES]; LANES];

/// Turns rows into columns.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn columns<T: Element>(rows: &Square<T>) -> Square<T> {
    if size_of::<T>() == 4 {
        // SAFETY: an element of four bytes is plain bits, and so are eight vectors of eight.
        unsafe {
            let columns = of_words(&*std::ptr::from_ref(rows).cast::<[[u32; LANES]; LANES]>());
            std::mem::transmute_copy(&columns)
        }
    } else {
        assert!(size_of::<T>() == 8, "an element has four or eight bytes");
        // SAFETY: as above, of eight bytes.
        unsafe {
            let columns = of_double_words(&*std::ptr::from_ref(rows).cast::<[[u64; LANES]; LANES]>());
            std::mem::transmute_copy(&columns)
        }
    }
}

/// Pairs of rows are woven into pairs, these into fours, and these into eights.
#[target_feature(enable = "avx2")]
#[inline]
fn of_words(rows: &Square<u32>) -> [__m256; LANES] {
    // SAFETY: plain bits of the same size.
    let r: [__m256; LANES] = unsafe { std::mem::transmute_copy(rows) };
    let twos = |a, b| (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let (a0, a1) = twos(r[0], r[1]);
    let (a2, a3) = twos(r[2], r[3]);
    let (a4, a5) = twos(r[4], r[5]);
    let (a6, a7) = twos(r[6], r[7]);
    let fours = |a, b| (_mm256_shuffle_ps::<0x44>(a, b), _mm256_shuffle_ps::<0xee>(a, b));
    let (b0, b1) = fours(a0, a2);
    let (b2, b3) = fours(a1, a3);
    let (b4, b5) = fours(a4, a6);
    let (b6, b7) = fours(a5, a7);
    let low = |a, b| _mm256_permute2f128_ps::<0x20>(a, b);
    let high = |a, b| _mm256_permute2f128_ps::<0x31>(a, b);
    [
        low(b0, b4),
        low(b1, b5),
        low(b2, b6),
        low(b3, b7),
        high(b0, b4),
        high(b1, b5),
        high(b2, b6),
        high(b3, b7),
    ]
}

/// Four squares of 4 x 4, each turned in itself and put into its place.
#[target_feature(enable = "avx2")]
#[inline]
fn of_double_words(rows: &Square<u64>) -> [[__m256d; 2]; LANES] {
    // SAFETY: plain bits of the same size.
    let r: [[__m256d; 2]; LANES] = unsafe { std::mem::transmute_copy(rows) };
    let mut columns = [[_mm256_setzero_pd(); 2]; LANES];
    for half in 0..2 {
        for place in 0..2 {
            let [a, b, c, d] = [0, 1, 2, 3].map(|row| r[4 * half + row][place]);
            let (a0, a1) = (_mm256_unpacklo_pd(a, b), _mm256_unpackhi_pd(a, b));
            let (c0, c1) = (_mm256_unpacklo_pd(c, d), _mm256_unpackhi_pd(c, d));
            columns[4 * place][half] = _mm256_permute2f128_pd::<0x20>(a0, c0);
            columns[4 * place + 1][half] = _mm256_permute2f128_pd::<0x20>(a1, c1);
            columns[4 * place + 2][half] = _mm256_permute2f128_pd::<0x31>(a0, c0);
            columns[4 * place + 3][half] = _mm256_permute2f128_pd::<0x31>(a1, c1);
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a square whose elements are their places.
    fn check<T: Element>(of: impl Fn(usize) -> T) {
        if !super::super::wide() {
            return;
        }
        let rows: Square<T> = std::array::from_fn(|row| std::array::from_fn(|column| of(8 * row + column)));
        // SAFETY: the processor has AVX2.
        let columns = unsafe { columns(&rows) };
        for (row, column) in (0..LANES).flat_map(|row| (0..LANES).map(move |column| (row, column))) {
            assert_eq!(columns[column][row].bits(), rows[row][column].bits());
        }
    }

    #[test]
    fn rows_become_columns() {
        check(|place| place as u32);
        check(|place| f32::from_bits(0xffc0_0000 + place as u32));
        check(|place| place as i64 - 40);
        check(|place| f64::from_bits(0x7ff8_0000_0000_0000 + place as u64));
    }
}
