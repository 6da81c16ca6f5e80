//! The tree in which every engine folds, so that a reduction gives the same bits on all of them.
//!
//! 1. Items fold by index into leaves of [`LEAF`] items, each leaf from the reduction's identity; the last leaf
//!    may be shorter.
//! 2. Leaves combine as a binary counter: a leaf is a node of level 0; two neighbours of one level, of which the
//!    left begins at a multiple of both their lengths, combine to a node of the next level.
//! 3. What is left at the end, levels falling from left to right, combines from the right.
//!
//! Neither the length of the input nor the number of workers is needed to begin, so a stream folds as a slice
//! does. A chunk is any run of whole leaves: [`aligned_nodes`] folds it into the nodes of the tree that lie within
//! it, and feeding the nodes of all chunks in order gives the tree ([`Counter`]).
//!
//! A scan has its own order: see [`scan_leaf`].

mod scan;

pub use scan::{ScanKind, next_prefix, scan, scan_leaf};

use crate::reduction::Reduction;

/// How many items a leaf has, unless a plan says otherwise.
pub const LEAF: usize = 1024;

/// A node of the tree: its level, and the accumulator of the 2^level leaves (the last of which may be short)
/// that it covers.
pub type Node<A> = (u32, A);

/// A node that cannot stand where it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a node of level {level} cannot begin at leaf {leaf}")]
pub struct Misplaced {
    /// The leaf where it should begin.
    pub leaf: u64,
    /// Its level.
    pub level: u32,
}

/// Folds the items of one leaf, from the identity. `first_index` is the place of the first in the whole input.
#[inline]
pub fn fold_leaf<R: Reduction<T>, T>(
    reduction: &R,
    items: impl IntoIterator<Item = T>,
    first_index: u64,
) -> R::Acc {
    let mut index = first_index;
    items.into_iter().fold(reduction.identity(), |acc, item| {
        let acc = reduction.fold(acc, item, index);
        index = index.wrapping_add(1);
        acc
    })
}

/// Folds a run of whole leaves of `leaf` items each (0 counts as 1), the first of which is leaf number
/// `first_leaf` of the whole input, into the nodes of the tree that lie within the run.
///
/// Only the last chunk of an input may end with a short leaf.
///
/// ```
/// use par_core::{Sum, fold};
/// // Leaves 1, 2 and 3: the first has its partner outside, the other two are one node.
/// let nodes = fold::aligned_nodes(&Sum, 10, 1, vec![1u32; 30]);
/// assert_eq!(nodes, [(0, 10), (1, 20)]);
/// ```
pub fn aligned_nodes<R: Reduction<T>, T>(
    reduction: &R,
    leaf: usize,
    first_leaf: u64,
    items: impl IntoIterator<Item = T>,
) -> Vec<Node<R::Acc>> {
    let leaf = leaf.max(1);
    let mut counter = Counter::at(first_leaf);
    let mut items = items.into_iter();
    // A first leaf that no input reaches may come from elsewhere, and must not panic here.
    let mut index = first_leaf.wrapping_mul(leaf as u64);
    while let Some(first) = items.next() {
        let mut acc = reduction.fold(reduction.identity(), first, index);
        index = index.wrapping_add(1);
        for _ in 1..leaf {
            let Some(item) = items.next() else { break };
            acc = reduction.fold(acc, item, index);
            index = index.wrapping_add(1);
        }
        counter.push_leaf(acc, |left, right| reduction.combine(left, right));
    }
    counter.into_nodes()
}

/// As [`aligned_nodes`], for a slice. Leaves that do not wait for each other are folded side by side, since the steps within
/// a leaf do: a chain of float additions takes several cycles a step, and a core can do several such chains at once.
pub fn slice_nodes<R: Reduction<T>, T: Copy>(
    reduction: &R,
    leaf: usize,
    first_leaf: u64,
    items: &[T],
) -> Vec<Node<R::Acc>> {
    let leaf = leaf.max(1);
    let mut counter = Counter::at(first_leaf);
    let combine = |left, right| reduction.combine(left, right);
    let mut index = first_leaf.wrapping_mul(leaf as u64);
    let (four, rest) = items.split_at(items.len() - items.len() % (4 * leaf));
    for leaves in four.chunks_exact(4 * leaf) {
        let (ab, cd) = leaves.split_at(2 * leaf);
        let ((a, b), (c, d)) = (ab.split_at(leaf), cd.split_at(leaf));
        let start = |turn: u64| index.wrapping_add(turn.wrapping_mul(leaf as u64));
        let starts = [start(0), start(1), start(2), start(3)];
        let step = |acc, item: &T, turn: usize, at: usize| {
            reduction.fold(acc, *item, starts[turn].wrapping_add(at as u64))
        };
        let mut accs = [(); 4].map(|()| reduction.identity());
        for (at, (((a, b), c), d)) in a.iter().zip(b).zip(c).zip(d).enumerate() {
            let [w, x, y, z] = accs;
            accs = [
                step(w, a, 0, at),
                step(x, b, 1, at),
                step(y, c, 2, at),
                step(z, d, 3, at),
            ];
        }
        accs.into_iter().for_each(|acc| counter.push_leaf(acc, combine));
        index = start(4);
    }
    for leaf_items in rest.chunks(leaf) {
        counter.push_leaf(fold_leaf(reduction, leaf_items.iter().copied(), index), combine);
        index = index.wrapping_add(leaf as u64);
    }
    counter.into_nodes()
}

/// As [`aligned_nodes`], for items that may fail to come; stops at the first that does.
///
/// # Errors
/// The error of that item.
pub fn try_aligned_nodes<R: Reduction<T>, T, E>(
    reduction: &R,
    leaf: usize,
    first_leaf: u64,
    items: impl IntoIterator<Item = Result<T, E>>,
) -> Result<Vec<Node<R::Acc>>, E> {
    let mut failed = None;
    let mut items = items.into_iter();
    let good = std::iter::from_fn(|| match items.next()? {
        Ok(item) => Some(item),
        Err(error) => {
            failed = Some(error);
            None
        }
    });
    // A leaf asks again after the end of its items; the fuse keeps a failed stream ended.
    let nodes = aligned_nodes(reduction, leaf, first_leaf, good.fuse());
    failed.map_or(Ok(nodes), Err)
}

/// Folds all items here and now, in the order of the tree: what every engine must agree with.
pub fn reduce<R: Reduction<T>, T>(reduction: &R, items: impl IntoIterator<Item = T>) -> R::Output {
    let mut counter = Counter::new();
    counter.nodes = aligned_nodes(reduction, LEAF, 0, items);
    let acc = counter.finish(|left, right| reduction.combine(left, right));
    reduction.finish(acc.unwrap_or_else(|| reduction.identity()))
}

/// Takes nodes of the tree in order, combines those that are partners, and holds the others: never more than
/// one a level on either side of the highest.
///
/// ```
/// use par_core::fold::Counter;
/// let combine = |left, right| format!("({left} {right})");
/// let mut counter = Counter::new();
/// for leaf in ["a", "b", "c", "d", "e", "f", "g"] {
///     counter.push_leaf(leaf.to_owned(), combine);
/// }
/// assert_eq!(counter.finish(combine).unwrap(), "(((a b) (c d)) ((e f) g))");
/// ```
#[derive(Debug, Clone)]
pub struct Counter<A> {
    /// The leaf after the last node.
    end: u64,
    nodes: Vec<Node<A>>,
}

impl<A> Default for Counter<A> {
    fn default() -> Self {
        Self::new()
    }
}

impl<A> Counter<A> {
    /// A counter for a whole input.
    pub fn new() -> Self {
        Self::at(0)
    }

    /// A counter for the part of an input that begins with leaf number `first_leaf`.
    pub fn at(first_leaf: u64) -> Self {
        Counter {
            end: first_leaf,
            nodes: Vec::new(),
        }
    }

    /// The number of the leaf that comes next.
    pub fn next_leaf(&self) -> u64 {
        self.end
    }

    /// Takes the next leaf.
    pub fn push_leaf(&mut self, acc: A, combine: impl FnMut(A, A) -> A) {
        self.settle(0, acc, combine);
    }

    /// Takes the next node.
    ///
    /// # Errors
    /// [`Misplaced`] when no node of that level begins at the next leaf; nothing is taken then.
    pub fn push(&mut self, (level, acc): Node<A>, combine: impl FnMut(A, A) -> A) -> Result<(), Misplaced> {
        let fits = 1u64
            .checked_shl(level)
            .is_some_and(|length| self.end.is_multiple_of(length) && self.end.checked_add(length).is_some());
        if !fits {
            return Err(Misplaced {
                leaf: self.end,
                level,
            });
        }
        self.settle(level, acc, combine);
        Ok(())
    }

    // Not inlined: it calls the allocator, and an accumulator that lives in a register across that call would be
    // stored and loaded at every item of the loop that made it (three times slower for a sum of floats).
    #[inline(never)]
    fn settle(&mut self, mut level: u32, mut acc: A, mut combine: impl FnMut(A, A) -> A) {
        self.end = self.end.wrapping_add(1 << level);
        // A node is a right-hand partner when its number within its level is odd; its partner is then the
        // node before it, unless that began before this counter did.
        while (self.end >> level).is_multiple_of(2)
            && let Some((_, left)) = self.nodes.pop_if(|(other, _)| *other == level)
        {
            acc = combine(left, acc);
            level += 1;
        }
        self.nodes.push((level, acc));
    }

    /// The nodes that are held, from left to right.
    pub fn into_nodes(self) -> Vec<Node<A>> {
        self.nodes
    }

    /// Combines what is held, from the right; `None` where that is nothing.
    pub fn finish(self, mut combine: impl FnMut(A, A) -> A) -> Option<A> {
        let from_the_right = self.nodes.into_iter().map(|(_, acc)| acc).rev();
        from_the_right.reduce(|right, left| combine(left, right))
    }
}

#[cfg(test)]
mod tests;
