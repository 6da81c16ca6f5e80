//! The loops for the vectors of the build: `run` takes those of the processor, which the laws cover.

use super::*;
use crate::arguments::Argument;
use crate::array::Array;
use crate::device::Device;
use crate::reduction::DeviceReduction;
use par_core::{Max, Sum};
use std::marker::PhantomData;

#[par_macros::kernel]
fn halved(x: f32) -> f64 {
    x as f64 * 0.5 + 0.1
}

fn bits<T: Element>(values: &[T]) -> Vec<u64> {
    values.iter().map(|value| value.bits()).collect()
}

/// The totals of leaves, by the vectors of the build and by those of the processor.
fn totals<K, R>(args: impl HostArgument<K::Args>, len: usize, reduction: &R) -> [Vec<u64>; 2]
where
    K: Kernel<Output: Element>,
    R: DeviceReduction<K::Output>,
{
    [false, true].map(|widest| {
        let mut totals = vec![K::Output::default(); len.div_ceil(LEAF)];
        let work = FoldLeaves::<K, R::Op, _> {
            args,
            len,
            start: reduction.start(),
            totals: &mut totals,
            op: PhantomData,
        };
        if widest {
            run(work)
        } else {
            work.run::<false>()
        }
        bits(&totals)
    })
}

#[test]
fn all_vectors_give_the_same_bits() {
    for len in [1, 31, 33, 1024, 8 * LEAF, 8 * LEAF + 1, 21 * LEAF + 17] {
        let values: Vec<f32> = (0..len).map(|i| (i * 7919 % 1237) as f32 / 3.0 - 200.0).collect();
        let array: Array<f32> = Device::cpu().array(&values).expect("an array");
        let array = &array;
        let args = (array.host().expect("in the host's memory"),);

        let mut out = vec![0.0; len];
        Map::<halved, _> { args, out: &mut out }.run::<false>();
        let expected: Vec<f64> = values.iter().map(|x| halved(*x)).collect();
        assert_eq!(bits(&out), bits(&expected), "a map of {len}");

        // The order within a leaf is that of the items.
        let sums: Vec<f64> = expected
            .chunks(LEAF)
            .map(|leaf| leaf.iter().fold(-0.0, |sum, x| sum + x))
            .collect();
        assert_eq!(
            totals::<halved, _>(args, len, &Sum),
            [bits(&sums), bits(&sums)],
            "sums of {len}"
        );
        let sums: Vec<f32> = values
            .chunks(LEAF)
            .map(|leaf| leaf.iter().fold(-0.0, |sum, x| sum + x))
            .collect();
        let found = totals::<<f32 as Element>::Same, _>(args, len, &Sum);
        assert_eq!(found, [bits(&sums), bits(&sums)], "sums of {len} singles");
        let greatest: Vec<f32> = values
            .chunks(LEAF)
            .map(|leaf| leaf.iter().copied().fold(f32::MIN, f32::max))
            .collect();
        let found = totals::<<f32 as Element>::Same, _>(args, len, &Max);
        assert_eq!(found, [bits(&greatest), bits(&greatest)], "greatest of {len}");
    }
}
