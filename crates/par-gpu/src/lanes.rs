//! The loops of the cpu device: element-wise, folds of leaves side by side, scans.
//!
//! A fold must keep the order within a leaf, so one leaf is one chain of dependent operations, and a core would wait for
//! each. Leaves do not depend on each other: [`LANES`] of them are folded at once, a leaf a lane of a vector.
//!
//! Every loop is compiled twice, for the vectors of the build and for AVX2 with FMA, and the processor is asked which it has.
//! Neither changes a bit: Rust contracts nothing. A lane's elements lie one after the other, and lanes far apart: with AVX2
//! the loop reads a line of memory a lane and turns squares of elements in registers ([`transpose`]), so that whole vectors
//! are folded; without it the compiler does what it can.

#[cfg(target_arch = "x86_64")]
mod transpose;

use crate::arguments::{HostArgument, Split};
use crate::element::Element;
use crate::kernel::Kernel;
use par_core::ScanKind;
use par_core::fold::LEAF;

/// Leaves that are folded at once.
const LANES: usize = 8;
/// Elements of a lane that are read at once.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 2 * LANES;
/// Elements whose loop has a fixed length, so that it becomes vectors whatever the kernel is.
const BLOCK: usize = 32;

/// Work that is compiled for several kinds of vectors.
pub(crate) trait Work {
    /// Does it, `WIDE` where the vectors are AVX2's. Inlined, or the caller's kind of vectors would not reach it.
    fn run<const WIDE: bool>(self);
}

/// Runs work with the widest vectors that it is compiled for and this processor has.
#[inline]
pub(crate) fn run(work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if wide() {
        // SAFETY: the processor has what the function is compiled for: `wide` has asked it.
        unsafe { run_wide(work) };
        return;
    }
    work.run::<false>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_wide(work: impl Work) {
    work.run::<true>();
}

/// Whether this processor has the vectors of the second compilation.
#[inline]
pub(crate) fn wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Writes the kernel of every index of the arguments' part.
pub(crate) struct Map<'a, K: Kernel, H> {
    pub(crate) args: H,
    pub(crate) out: &'a mut [K::Output],
}

impl<K: Kernel, H: HostArgument<K::Args>> Work for Map<'_, K, H> {
    #[inline(always)]
    fn run<const WIDE: bool>(self) {
        let len = self.out.len();
        let mut blocks = self.out.chunks_exact_mut(BLOCK);
        for (block, out) in blocks.by_ref().enumerate() {
            let args = self.args.part(block * BLOCK..(block + 1) * BLOCK);
            for (index, out) in out.iter_mut().enumerate() {
                *out = K::call(args.at(index));
            }
        }
        let rest = blocks.into_remainder();
        let args = self.args.part(len - rest.len()..len);
        for (index, out) in rest.iter_mut().enumerate() {
            *out = K::call(args.at(index));
        }
    }
}

/// Changes every element of an array's part.
pub(crate) struct Update<'a, K: Kernel, H> {
    /// What stands beside the elements.
    pub(crate) args: H,
    pub(crate) array: &'a mut [K::Output],
}

impl<K, H> Work for Update<'_, K, H>
where
    K: Kernel<Args: Split<First = K::Output>>,
    H: HostArgument<<K::Args as Split>::Rest>,
{
    #[inline(always)]
    fn run<const WIDE: bool>(self) {
        for (block, elements) in self.array.chunks_mut(BLOCK).enumerate() {
            let first = block * BLOCK;
            let args = self.args.part(first..first + elements.len());
            for (index, element) in elements.iter_mut().enumerate() {
                *element = K::call(Split::join(*element, args.at(index)));
            }
        }
    }
}

/// Writes the total of each leaf of the arguments' part, which holds `len` elements.
pub(crate) struct FoldLeaves<'a, K: Kernel, O, H> {
    pub(crate) args: H,
    pub(crate) len: usize,
    pub(crate) start: Option<K::Output>,
    pub(crate) totals: &'a mut [K::Output],
    pub(crate) op: std::marker::PhantomData<fn() -> O>,
}

impl<K, O, H> Work for FoldLeaves<'_, K, O, H>
where
    K: Kernel<Output: Element>,
    O: Kernel<Args = (K::Output, K::Output), Output = K::Output>,
    H: HostArgument<K::Args>,
{
    #[inline(always)]
    fn run<const WIDE: bool>(self) {
        let whole = self.len / LEAF / LANES * LANES;
        let (groups, rest) = self.totals.split_at_mut(whole);
        for (group, totals) in groups.chunks_exact_mut(LANES).enumerate() {
            let first = group * LANES * LEAF;
            let args = self.args.part(first..first + LANES * LEAF);
            let accs = group_of_leaves::<K, O, H, WIDE>(args, self.start);
            totals.copy_from_slice(&accs);
        }
        for (leaf, total) in rest.iter_mut().enumerate() {
            let first = (whole + leaf) * LEAF;
            let args = self.args.part(first..self.len.min(first + LEAF));
            let start = begin::<O, _>(self.start, K::call(args.at(0)));
            let items = (1..LEAF.min(self.len - first)).map(|at| K::call(args.at(at)));
            *total = items.fold(start, |acc, item| O::call((acc, item)));
        }
    }
}

/// The totals of as many leaves as there are lanes.
#[inline(always)]
fn group_of_leaves<K, O, H, const WIDE: bool>(args: H, start: Option<K::Output>) -> [K::Output; LANES]
where
    K: Kernel<Output: Element>,
    O: Kernel<Args = (K::Output, K::Output), Output = K::Output>,
    H: HostArgument<K::Args>,
{
    let item = |lane: usize, at: usize| K::call(args.at(lane * LEAF + at));
    let step = |accs: [K::Output; LANES], items: [K::Output; LANES]| {
        std::array::from_fn(|lane| O::call((accs[lane], items[lane])))
    };
    #[cfg(target_arch = "x86_64")]
    if WIDE {
        let columns = |at: usize| {
            let squares = line_of_each::<K, H>(args, at);
            // SAFETY: only `run_wide` says that the vectors are wide.
            squares.map(|square| unsafe { transpose::columns(&square) })
        };
        let [[first, rest @ ..], second] = columns(0);
        let accs = first.map(|item| begin::<O, _>(start, item));
        let accs = rest.into_iter().chain(second).fold(accs, step);
        let lines = (1..LEAF / LINE).map(|line| columns(line * LINE));
        return lines.fold(accs, |accs, squares| {
            squares.into_iter().flatten().fold(accs, step)
        });
    }
    let first = std::array::from_fn(|lane| begin::<O, _>(start, item(lane, 0)));
    (1..LEAF).fold(first, |accs, at| {
        step(accs, std::array::from_fn(|lane| item(lane, at)))
    })
}

/// A line of memory of each lane, as two squares with a row a lane: read at once, as lanes lie in the same set of the cache
/// and would push each other out.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn line_of_each<K: Kernel<Output: Element>, H: HostArgument<K::Args>>(
    args: H,
    at: usize,
) -> [transpose::Square<K::Output>; 2] {
    let mut squares = [[[K::Output::default(); LANES]; LANES]; 2];
    for lane in 0..LANES {
        let first = lane * LEAF + at;
        let args = args.part(first..first + LINE);
        for (number, square) in squares.iter_mut().enumerate() {
            for (place, item) in square[lane].iter_mut().enumerate() {
                *item = K::call(args.at(number * LANES + place));
            }
        }
    }
    squares
}

/// The accumulator after the first item.
#[inline(always)]
fn begin<O: Kernel<Args = (T, T), Output = T>, T: Copy>(start: Option<T>, item: T) -> T {
    match start {
        Some(start) => O::call((start, item)),
        None => item,
    }
}

/// Writes the running folds of leaves, of which the first has `prefixes[0]` before it, or nothing.
pub(crate) struct ScanLeaves<'a, K: Kernel, O, H> {
    pub(crate) args: H,
    pub(crate) kind: ScanKind,
    /// What an exclusive scan needs to begin; see [`Error::NoIdentity`](crate::Error::NoIdentity).
    pub(crate) start: Option<K::Output>,
    pub(crate) prefixes: &'a [Option<K::Output>],
    pub(crate) out: &'a mut [K::Output],
    pub(crate) op: std::marker::PhantomData<fn() -> O>,
}

impl<K, O, H> Work for ScanLeaves<'_, K, O, H>
where
    K: Kernel,
    O: Kernel<Args = (K::Output, K::Output), Output = K::Output>,
    H: HostArgument<K::Args>,
{
    #[inline(always)]
    fn run<const WIDE: bool>(self) {
        for ((leaf, out), prefix) in self.out.chunks_mut(LEAF).enumerate().zip(self.prefixes) {
            let part = self.args.part(leaf * LEAF..leaf * LEAF + out.len());
            let value = |local| match prefix {
                Some(prefix) => O::call((*prefix, local)),
                None => local,
            };
            let mut local = self.start;
            for (at, out) in out.iter_mut().enumerate() {
                let next = begin::<O, _>(local, K::call(part.at(at)));
                let shown = match self.kind {
                    ScanKind::Inclusive => value(next),
                    // It has a start, or `scan` would have refused it.
                    ScanKind::Exclusive => local.map_or(next, value),
                };
                *out = shown;
                local = Some(next);
            }
        }
    }
}

#[cfg(test)]
mod tests;
