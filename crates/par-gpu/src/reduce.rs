//! Reductions of arrays, with or without a kernel on each index first.
//!
//! The order is that of [`par_core::fold`]. Devices fold the leaves, each from the start and in order; the totals come to
//! the host, and combine there as a binary counter does: neighbours level by level, what is left over from the right.

use crate::arguments::{Arguments, Place};
use crate::array::{Array, CHUNK};
use crate::backend::{Backend, Fold};
use crate::element::Element;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::lanes;
use crate::map::launch;
use crate::memory::{self, HostBuffer};
use crate::reduction::DeviceReduction;
use par_core::fold::LEAF;
use std::any::TypeId;
use std::marker::PhantomData;

/// Leaves of a chunk.
const LEAVES: usize = CHUNK / LEAF;

/// Folds the kernel of each index of the arguments, in one pass, with the bits of every other reduction of the same values.
///
/// ```
/// use par_gpu::{Device, Sum, kernel, map_reduce};
///
/// #[kernel]
/// fn times(x: f64, y: f64) -> f64 { x * y }
///
/// let device = Device::default();
/// let x = device.collect((0..400).map(f64::from))?;
/// assert_eq!(map_reduce::<times, _>((&x, &x), Sum)?, 21_253_400.0);
/// # Ok::<(), par_gpu::Error>(())
/// ```
///
/// # Errors
/// As [`map`](crate::map).
#[doc(alias = "ReductionKernel")]
#[doc(alias = "map_expr")]
pub fn map_reduce<K, R>(args: impl Arguments<K::Args>, reduction: R) -> Result<R::Output, Error>
where
    K: Kernel<Output: Element>,
    R: DeviceReduction<K::Output>,
{
    let place = Place::of(&args)?;
    let totals = totals::<K, R>(&place, &args, &reduction)?;
    Ok(reduction.finish(reduction.acc(combine::<R::Op, _>(totals))))
}

/// The totals of all leaves.
pub(crate) fn totals<K, R>(
    place: &Place<'_>,
    args: &impl Arguments<K::Args>,
    reduction: &R,
) -> Result<Vec<K::Output>, Error>
where
    K: Kernel<Output: Element>,
    R: DeviceReduction<K::Output>,
{
    let (len, start) = (place.len(), reduction.start());
    let leaves = len.div_ceil(LEAF);
    match place.backend() {
        Backend::Host(host) => {
            let host_args = place.host(args)?;
            let totals = HostBuffer::filled(&**host, leaves, LEAVES, &|index, totals| {
                let first = index * CHUNK;
                let len = CHUNK.min(len - first);
                lanes::run(lanes::FoldLeaves::<K, R::Op, _> {
                    args: crate::arguments::HostArgument::part(host_args, first..first + len),
                    len,
                    start,
                    totals,
                    op: PhantomData,
                });
            });
            Ok(totals?.as_slice().to_vec())
        }
        Backend::Device(device) => {
            let mut totals = vec![K::Output::default(); leaves];
            if len > 0 {
                let launch_args = place.args(args)?;
                let bytes = memory::bytes_of_mut(&mut totals);
                device.fold_leaves(&launch::<K>(&launch_args, len), &fold::<K, R>(reduction), bytes)?;
            }
            Ok(totals)
        }
    }
}

pub(crate) fn fold<K, R>(reduction: &R) -> Fold
where
    K: Kernel<Output: Element>,
    R: DeviceReduction<K::Output>,
{
    Fold {
        source: <R::Op as Kernel>::SOURCE,
        id: TypeId::of::<R::Op>(),
        start: reduction.start().map(Element::value),
    }
}

/// Combines the totals of leaves as a binary counter does.
fn combine<O, T>(mut nodes: Vec<T>) -> Option<T>
where
    O: Kernel<Args = (T, T), Output = T>,
    T: Copy,
{
    // What has no partner on a level waits; the later ones stand further left.
    let mut waiting = Vec::new();
    while nodes.len() > 1 {
        if !nodes.len().is_multiple_of(2) {
            waiting.extend(nodes.pop());
        }
        for pair in 0..nodes.len() / 2 {
            nodes[pair] = O::call((nodes[2 * pair], nodes[2 * pair + 1]));
        }
        nodes.truncate(nodes.len() / 2);
    }
    waiting.extend(nodes.pop());
    // From the right: the first that waited is the rightmost.
    waiting.into_iter().reduce(|right, left| O::call((left, right)))
}

impl<T: Element> Array<T> {
    /// Folds the elements, with the bits of every other reduction of the same values.
    ///
    /// ```
    /// use par_gpu::{Device, Max, Min, Sum};
    /// let x = Device::default().array(&[3i64, -5, 8])?;
    /// assert_eq!((x.reduce(Sum)?, x.reduce(Min)?, x.reduce(Max)?), (6, Some(-5), Some(8)));
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// What the driver says.
    #[doc(alias = "gpuarray.sum")]
    #[doc(alias = "sum")]
    #[doc(alias = "cuda.reduce")]
    pub fn reduce<R: DeviceReduction<T>>(&self, reduction: R) -> Result<R::Output, Error> {
        map_reduce::<T::Same, R>((self,), reduction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_core::fold::Counter;

    #[par_macros::kernel]
    fn mixed(a: u64, b: u64) -> u64 {
        a * 31 + (b ^ (b >> 7))
    }

    #[test]
    fn nodes_combine_as_the_counter_of_par_core_does() {
        for len in 0..200u64 {
            let mut counter = Counter::new();
            (0..len).for_each(|leaf| counter.push_leaf(leaf, mixed));
            assert_eq!(
                combine::<mixed, _>((0..len).collect()),
                counter.finish(mixed),
                "{len} leaves"
            );
        }
    }
}
