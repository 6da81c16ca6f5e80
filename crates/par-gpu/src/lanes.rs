//! The loops of the cpu device: element-wise, folds of leaves side by side, scans.
//!
//! A fold must keep the order within a leaf, so one leaf is one chain of dependent operations, and a core would wait for
//! each. Leaves do not depend on each other: [`LANES`] of them are folded at once, a leaf a lane.
//!
//! Every loop is compiled twice, for the vectors of the build and for AVX2 with FMA, and the processor is asked which it has.
//! Neither changes a bit: Rust contracts nothing.

use crate::arguments::HostArgument;
use crate::kernel::Kernel;
use par_core::ScanKind;
use par_core::fold::LEAF;

/// Leaves that are folded at once.
pub(crate) const LANES: usize = 8;

/// Work that is compiled for several kinds of vectors.
pub(crate) trait Work {
    /// Does it. Inlined, or the caller's kind of vectors would not reach it.
    fn run(self);
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
    work.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_wide(work: impl Work) {
    work.run();
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
    fn run(self) {
        let args = self.args;
        for (index, out) in self.out.iter_mut().enumerate() {
            *out = K::call(args.at(index));
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
    K: Kernel,
    O: Kernel<Args = (K::Output, K::Output), Output = K::Output>,
    H: HostArgument<K::Args>,
{
    #[inline(always)]
    fn run(self) {
        let mut leaf = 0;
        let whole = self.len / LEAF;
        while leaf + LANES <= whole {
            let part = self.args.part(leaf * LEAF..(leaf + LANES) * LEAF);
            let item = |lane: usize, at: usize| K::call(part.at(lane * LEAF + at));
            let mut accs: [K::Output; LANES] =
                std::array::from_fn(|lane| begin::<O, _>(self.start, item(lane, 0)));
            for at in 1..LEAF {
                for (lane, acc) in accs.iter_mut().enumerate() {
                    *acc = O::call((*acc, item(lane, at)));
                }
            }
            for (total, acc) in self.totals[leaf..leaf + LANES].iter_mut().zip(accs) {
                *total = acc;
            }
            leaf += LANES;
        }
        for (leaf, total) in self.totals.iter_mut().enumerate().skip(leaf) {
            let range = leaf * LEAF..self.len.min((leaf + 1) * LEAF);
            let part = self.args.part(range.clone());
            let first = begin::<O, _>(self.start, K::call(part.at(0)));
            let rest = 1..range.len();
            *total = rest.fold(first, |acc, at| O::call((acc, K::call(part.at(at)))));
        }
    }
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
    fn run(self) {
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
                    // Without a start an exclusive scan is refused, but for its first leaf's neighbour: see `scan`.
                    ScanKind::Exclusive => local.map_or(next, value),
                };
                *out = shown;
                local = Some(next);
            }
        }
    }
}
