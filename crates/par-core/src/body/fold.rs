//! The body of a reduction: claims fold whole leaves where they ran, and what is less than a leaf comes back as values.
//!
//! The tree of `fold` decides the bits, and it is the same whichever way a range was cut: leaves that a claim covers whole
//! become nodes, the rest is folded into its leaf, in order, by [`Gather`].

use super::Failures;
use crate::entry::{self, HasRun};
use crate::error::TaskError;
use crate::fold::{Counter, Node, slice_nodes, try_aligned_nodes};
use crate::job::Body;
use crate::kernel::{Kernel, encode_items};
use crate::panics;
use crate::reduction::Reduction;
use crate::remote::{self, Call, Code, Part, Run, RunFn};
use crate::run_async::{Running, poll_kernel};
use crate::slots::Slots;
use crate::wire;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

/// What a range of items became.
#[derive(Serialize, Deserialize)]
pub(crate) enum Piece<O, A> {
    /// Less than a leaf: the values themselves.
    Values(Vec<O>),
    /// Whole leaves: nodes of the tree.
    Nodes(Vec<Node<A>>),
}

/// Pieces of one range, in order.
type Pieces<O, R> = Vec<Piece<O, <R as Reduction<O>>::Acc>>;

/// Folds `count` items from index `first` on. The error carries the index of the item that failed.
pub(crate) fn fold_range<O, R: Reduction<O>>(
    reduction: &R,
    leaf: u64,
    first: u64,
    count: u64,
    mut next: impl FnMut() -> Result<O, TaskError>,
) -> Result<Pieces<O, R>, (u64, TaskError)> {
    let index = Cell::new(first);
    let end = first + count;
    let mut step = || {
        let item = next()?;
        index.set(index.get() + 1);
        Ok(item)
    };
    let result = panics::catch(|| {
        let mut pieces = Vec::new();
        let head = first.next_multiple_of(leaf).min(end);
        let body = (end - head) / leaf;
        let mut values = |count: u64| (0..count).map(|_| step()).collect::<Result<Vec<O>, TaskError>>();
        if head > first {
            pieces.push(Piece::Values(values(head - first)?));
        }
        if body > 0 {
            let items = (0..body * leaf).map(|_| step());
            pieces.push(Piece::Nodes(try_aligned_nodes(
                reduction,
                leaf as usize,
                head / leaf,
                items,
            )?));
        }
        let tail = end - head - body * leaf;
        if tail > 0 {
            pieces.push(Piece::Values(
                (0..tail).map(|_| step()).collect::<Result<Vec<O>, TaskError>>()?,
            ));
        }
        Ok(pieces)
    });
    result
        .and_then(|pieces| pieces)
        .map_err(|error| (index.get(), error))
}

/// As [`fold_range`], for a slice that is the range.
pub(crate) fn fold_slice<O: Copy, R: Reduction<O>>(
    reduction: &R,
    leaf: u64,
    first: u64,
    items: &[O],
) -> Result<Pieces<O, R>, (u64, TaskError)> {
    let head = (first.next_multiple_of(leaf) - first).min(items.len() as u64);
    let (head, rest) = items.split_at(head as usize);
    let (body, tail) = rest.split_at(rest.len() - rest.len() % leaf as usize);
    panics::catch(|| {
        let values = |items: &[O]| (!items.is_empty()).then(|| Piece::Values(items.to_vec()));
        let first_leaf = first.div_ceil(leaf);
        let nodes =
            (!body.is_empty()).then(|| Piece::Nodes(slice_nodes(reduction, leaf as usize, first_leaf, body)));
        [values(head), nodes, values(tail)]
            .into_iter()
            .flatten()
            .collect()
    })
    .map_err(|error| (first, error))
}

/// Whether pieces from elsewhere are those of `count` items from index `first` on.
fn covers<O, A>(pieces: &[Piece<O, A>], leaf: u64, first: u64, count: u64) -> bool {
    let mut at = first;
    for piece in pieces {
        let items = match piece {
            Piece::Values(values) => Some(values.len() as u64).filter(|n| at % leaf + n <= leaf),
            Piece::Nodes(nodes) if at.is_multiple_of(leaf) => nodes
                .iter()
                .try_fold(0u64, |sum, (level, _)| sum.checked_add(1u64.checked_shl(*level)?))
                .and_then(|leaves| leaves.checked_mul(leaf)),
            Piece::Nodes(_) => None,
        };
        match items.and_then(|items| at.checked_add(items)) {
            Some(next) if next <= first + count => at = next,
            _ => return false,
        }
    }
    at == first + count
}

/// Puts the pieces of a whole input together, in order, whatever order they come in.
pub(crate) struct Gather<O, R: Reduction<O>> {
    reduction: R,
    leaf: u64,
    /// Index of the item that comes next.
    next: u64,
    counter: Counter<R::Acc>,
    /// The leaf that single values are folded into at the moment.
    open: Option<R::Acc>,
    /// Pieces that came before their turn, by first index, with the index after them.
    waiting: BTreeMap<u64, (u64, Pieces<O, R>)>,
}

impl<O, R: Reduction<O>> Gather<O, R> {
    pub(crate) fn new(reduction: R, leaf: usize) -> Self {
        Gather {
            reduction,
            leaf: leaf as u64,
            next: 0,
            counter: Counter::new(),
            open: None,
            waiting: BTreeMap::new(),
        }
    }

    pub(crate) fn push(&mut self, first: u64, count: u64, pieces: Pieces<O, R>) -> Result<(), TaskError> {
        self.waiting.insert(first, (first + count, pieces));
        while let Some((end, pieces)) = self.waiting.remove(&self.next) {
            for piece in pieces {
                self.apply(piece)?;
            }
            self.next = end;
        }
        Ok(())
    }

    fn apply(&mut self, piece: Piece<O, R::Acc>) -> Result<(), TaskError> {
        let reduction = &self.reduction;
        match piece {
            Piece::Nodes(nodes) => {
                for node in nodes {
                    self.counter
                        .push(node, |left, right| reduction.combine(left, right))
                        .map_err(|e| TaskError::Codec(format!("reply: {e}")))?;
                }
            }
            Piece::Values(values) => {
                // The open leaf says where we are: values never reach across one.
                let mut index = self.counter.next_leaf() * self.leaf + self.filled();
                for value in values {
                    let acc = self.open.take().unwrap_or_else(|| reduction.identity());
                    let acc = reduction.fold(acc, value, index);
                    index += 1;
                    if index.is_multiple_of(self.leaf) {
                        self.counter
                            .push_leaf(acc, |left, right| reduction.combine(left, right));
                    } else {
                        self.open = Some(acc);
                    }
                }
            }
        }
        Ok(())
    }

    /// Items in the open leaf when a run of pieces begins at `next`.
    fn filled(&self) -> u64 {
        if self.open.is_some() {
            self.next % self.leaf
        } else {
            0
        }
    }

    pub(crate) fn finish(mut self) -> R::Output {
        let reduction = &self.reduction;
        if let Some(acc) = self.open.take() {
            self.counter
                .push_leaf(acc, |left, right| reduction.combine(left, right));
        }
        let acc = self.counter.finish(|left, right| reduction.combine(left, right));
        self.reduction
            .finish(acc.unwrap_or_else(|| self.reduction.identity()))
    }
}

/// What the jobs of one reduction share: one job a block of input.
pub(crate) struct FoldState<O, R: Reduction<O>> {
    pub(crate) gather: Mutex<Gather<O, R>>,
    pub(crate) failures: Failures,
}

pub(crate) struct FoldBody<K: Kernel, R: Reduction<K::Out>> {
    kernel: K,
    reduction: R,
    leaf: u64,
    first: u64,
    inputs: Slots<K::In>,
    state: Arc<FoldState<K::Out, R>>,
    /// Whether the workers fold, or only map.
    folded_there: AtomicBool,
}

impl<K: Kernel, R: Reduction<K::Out>> FoldBody<K, R> {
    pub(crate) fn new(
        kernel: K,
        reduction: R,
        leaf: usize,
        first: u64,
        inputs: Vec<K::In>,
        state: Arc<FoldState<K::Out, R>>,
    ) -> Self {
        let inputs = Slots::full(inputs);
        FoldBody {
            kernel,
            reduction,
            leaf: leaf as u64,
            first,
            inputs,
            state,
            folded_there: AtomicBool::new(false),
        }
    }

    fn settle(&self, first: u64, count: u64, pieces: Result<Pieces<K::Out, R>, (u64, TaskError)>) {
        // A user's `combine` may panic: that is the failure of the items it was called for.
        let pushed = pieces.and_then(|pieces| {
            panics::catch(|| self.state.gather.lock().push(first, count, pieces))
                .and_then(|pushed| pushed)
                .map_err(|error| (first, error))
        });
        if let Err((index, error)) = pushed {
            self.state.failures.record(index, error);
        }
    }
}

impl<K: Kernel, R: Reduction<K::Out>> Body for FoldBody<K, R> {
    fn run(&self, range: Range<usize>) {
        let first = self.first + range.start as u64;
        let taken = Cell::new(range.start);
        let pieces = fold_range(&self.reduction, self.leaf, first, range.len() as u64, || {
            let part = taken.get();
            taken.set(part + 1);
            // SAFETY: our claim holds the range; `taken` moves on before each take, so each input is taken once.
            self.kernel.call(unsafe { self.inputs.take(part) })
        });
        // SAFETY: the inputs from `taken` on are still in their slots.
        unsafe { self.inputs.clear(taken.get()..range.end) };
        self.settle(first, range.len() as u64, pieces);
    }

    fn poll_part(&self, part: usize, running: &mut Option<Running>, cx: &mut Context<'_>) -> Poll<()> {
        let index = self.first + part as u64;
        // SAFETY: our claim holds the part; the first poll, and no other, takes its input.
        let input = || unsafe { self.inputs.take(part) };
        let outcome = ready!(poll_kernel(self.kernel, running, input, cx));
        // A value alone: parts end in any order, and the tree puts them in theirs.
        let pieces = outcome.map(|value| vec![Piece::Values(vec![value])]);
        self.settle(index, 1, pieces.map_err(|error| (index, error)));
        Poll::Ready(())
    }

    fn abandon(&self, part: usize, error: TaskError) {
        self.state.failures.record(self.first + part as u64, error);
    }

    fn call(&self, same_program: bool) -> Result<Call, TaskError> {
        if !same_program {
            return self.kernel.call_for(false);
        }
        let reduction =
            wire::to_bytes(&self.reduction).map_err(|e| TaskError::Codec(format!("reduction: {e}")))?;
        let data = wire::to_bytes(&(self.kernel.to_data(), reduction, self.leaf))
            .map_err(|e| TaskError::Codec(format!("reduction: {e}")))?;
        self.folded_there.store(true, Ordering::Relaxed);
        Ok(Call {
            code: Code::Entry {
                offset: entry::offset_of::<Folding<K, R>>(),
                data,
            },
            all_outcomes: false,
            logs: false,
        })
    }

    fn encode(&self, range: Range<usize>, out: &mut Vec<u8>) -> Result<Part, TaskError> {
        // SAFETY: the claim is out to a worker elsewhere, so its inputs stay in their slots until it ends.
        let inputs = range.clone().map(|part| unsafe { self.inputs.peek(part) });
        encode_items(inputs, out)?;
        Ok(Part {
            first: self.first + range.start as u64,
            items: range.len() as u64,
        })
    }

    fn complete(&self, range: Range<usize>, reply: &[u8]) {
        let (first, count) = (self.first + range.start as u64, range.len() as u64);
        // SAFETY: our claim ends here and its inputs were never taken.
        unsafe { self.inputs.clear(range) };
        let pieces = if self.folded_there.load(Ordering::Relaxed) {
            remote::form(reply, remote::PIECES).and_then(|rest| {
                // The user's own code for that may panic, on a thread that has others to serve.
                panics::catch(|| wire::from_bytes::<Result<Pieces<K::Out, R>, (u64, TaskError)>>(rest))
                    .and_then(|pieces| pieces.map_err(|e| TaskError::Codec(format!("reply: {e}"))))
                    .and_then(|pieces| match pieces {
                        Ok(pieces) if !covers(&pieces, self.leaf, first, count) => Err(TaskError::Codec(
                            "reply: it does not cover the items that were sent".to_owned(),
                        )),
                        other => Ok(other),
                    })
            })
        } else {
            remote::form(reply, remote::ITEMS).map(|mut rest| {
                fold_range(&self.reduction, self.leaf, first, count, || {
                    remote::next_outcome(&mut rest).unwrap_or(Err(TaskError::Cancelled))
                })
            })
        };
        self.settle(first, count, pieces.unwrap_or_else(|error| Err((first, error))));
    }

    fn fail(&self, range: Range<usize>, error: TaskError) {
        self.state.failures.record(self.first + range.start as u64, error);
        // SAFETY: the claim ends here and its inputs were never taken.
        unsafe { self.inputs.clear(range) };
    }

    fn moot(&self, range: &Range<usize>) -> bool {
        self.state.failures.before(self.first + range.start as u64)
    }

    fn failure(&self) -> Option<TaskError> {
        self.state.failures.get().map(|failure| failure.error)
    }
}

/// The entry that maps and folds on a worker of the same build.
struct Folding<K, R>(PhantomData<(K, R)>);

impl<K: Kernel, R: Reduction<K::Out>> HasRun for Folding<K, R> {
    const RUN: RunFn = run_folding::<K, R>;
}

fn run_folding<K: Kernel, R: Reduction<K::Out>>(run: &mut Run<'_>) {
    run.reply.push(remote::PIECES);
    let part = run.part;
    let pieces = read_data::<K, R>(run.data)
        .map_err(|error| (part.first, error))
        .and_then(|(kernel, reduction, leaf)| {
            let mut input = run.input;
            fold_range(&reduction, leaf, part.first, part.items, || {
                crate::context::check_cancelled()?;
                let item = wire::decode(&mut input).map_err(|e| TaskError::Codec(format!("input: {e}")))?;
                kernel.call(item)
            })
        });
    let start = run.reply.len();
    if let Err(error) = wire::encode(&pieces, run.reply) {
        run.reply.truncate(start);
        let failure: Result<Pieces<K::Out, R>, _> =
            Err((part.first, TaskError::Codec(format!("output: {error}"))));
        // Texts and numbers always encode; should that change, the reader sees a short reply.
        let _ = wire::encode(&failure, run.reply);
    }
}

fn read_data<K: Kernel, R: Reduction<K::Out>>(data: &[u8]) -> Result<(K, R, u64), TaskError> {
    let codec = |e: wire::WireError| TaskError::Codec(format!("reduction: {e}"));
    let (kernel, reduction, leaf): (Vec<u8>, Vec<u8>, u64) = wire::from_bytes(data).map_err(codec)?;
    Ok((
        K::from_data(&kernel)?,
        wire::from_bytes(&reduction).map_err(codec)?,
        leaf.max(1),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold;
    use crate::{Concat, Sum};
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Cuts `items` at the given sizes, folds each range and gathers them in the order of `keys`.
    fn gather<O: Clone, R: Reduction<O>>(
        reduction: &R,
        leaf: usize,
        items: &[O],
        sizes: &[usize],
        keys: &[u32],
    ) -> R::Output {
        let mut ranges = Vec::new();
        let mut start = 0;
        for size in sizes.iter().cycle() {
            if start >= items.len() {
                break;
            }
            let end = items.len().min(start + size);
            let mut range = items[start..end].iter().cloned();
            let (first, count) = (start as u64, (end - start) as u64);
            let next = || range.next().ok_or(TaskError::Cancelled);
            let pieces = fold_range(reduction, leaf as u64, first, count, next)
                .map_err(|_| "range")
                .expect("items");
            assert!(covers(&pieces, leaf as u64, first, count));
            assert!(!covers(&pieces, leaf as u64, first, count + 1));
            ranges.push((first, count, pieces));
            start = end;
        }
        let mut keyed: Vec<_> = keys.iter().cycle().zip(ranges).collect();
        keyed.sort_by_key(|(key, _)| **key);
        let mut gather = Gather::new(reduction.clone(), leaf);
        for (_, (first, count, pieces)) in keyed {
            gather.push(first, count, pieces).expect("in place");
        }
        assert!(gather.waiting.is_empty());
        gather.finish()
    }

    proptest! {
        #[test]
        fn any_cut_in_any_order_gives_the_bits_of_the_tree(
            items in vec(-1e9f64..1e9, 0..6000),
            sizes in vec(1usize..3000, 1..9),
            keys in vec(any::<u32>(), 50),
        ) {
            let sum = gather(&Sum, fold::LEAF, &items, &sizes, &keys);
            prop_assert_eq!(sum.to_bits(), fold::reduce(&Sum, items.iter().copied()).to_bits());
        }

        #[test]
        fn any_cut_in_any_order_keeps_the_order_of_items(
            leaf in 1usize..9,
            items in 0usize..200,
            sizes in vec(1usize..30, 1..9),
            keys in vec(any::<u32>(), 50),
        ) {
            let items: Vec<String> = (0..items).map(|i| format!("{i},")).collect();
            prop_assert_eq!(gather(&Concat, leaf, &items, &sizes, &keys), items.concat());
        }
    }
}
