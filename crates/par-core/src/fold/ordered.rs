//! Folding chunks that come out of order.

use super::{Counter, Node};
use crate::reduction::Reduction;
use std::collections::BTreeMap;

/// Nodes that do not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// No node of that level begins at that leaf.
    #[error("a node of level {level} cannot begin at leaf {leaf}")]
    Misplaced {
        /// The leaf where it should begin.
        leaf: u64,
        /// Its level.
        level: u32,
    },
    /// A chunk came twice, or covers leaves that came already.
    #[error("the chunk from leaf {0} on came already")]
    Repeated(u64),
    /// The end came before all chunks did.
    #[error("the chunk from leaf {0} on never came")]
    Missing(u64),
}

/// Folds the nodes of chunks that arrive in any order, in the order of the tree.
///
/// A chunk that comes early is held back, so memory is bounded by what is out of order.
///
/// ```
/// use par_core::{Sum, fold::{self, OrderedFold}};
/// let items: Vec<f64> = (0..5000).map(|i| 1.0 / f64::from(i + 1)).collect();
/// let mut fold = OrderedFold::new(Sum);
/// // Two chunks of two leaves and one of what is left, the last one first.
/// for chunk in [2, 0, 1] {
///     let part = items.chunks(2048).nth(chunk).unwrap().iter().copied();
///     let nodes = fold::aligned_nodes(&Sum, fold::LEAF, 2 * chunk as u64, part);
///     fold.push(2 * chunk as u64, nodes)?;
/// }
/// assert_eq!(fold.finish()?.to_bits(), fold::reduce(&Sum, items).to_bits());
/// # Ok::<(), fold::FoldError>(())
/// ```
#[derive(Debug)]
pub struct OrderedFold<R: Reduction<T>, T> {
    reduction: R,
    counter: Counter<R::Acc>,
    early: BTreeMap<u64, Vec<Node<R::Acc>>>,
}

impl<R: Reduction<T>, T> OrderedFold<R, T> {
    /// A fold of nothing so far.
    pub fn new(reduction: R) -> Self {
        OrderedFold {
            reduction,
            counter: Counter::new(),
            early: BTreeMap::new(),
        }
    }

    /// Takes the nodes of the chunk that begins with leaf number `first_leaf`. A chunk without nodes is ignored.
    ///
    /// # Errors
    /// [`FoldError::Repeated`] and [`FoldError::Misplaced`]. The fold is then of no more use: a chunk is missing.
    pub fn push(&mut self, first_leaf: u64, nodes: Vec<Node<R::Acc>>) -> Result<(), FoldError> {
        if nodes.is_empty() {
            return Ok(());
        }
        if first_leaf < self.counter.next_leaf() || self.early.contains_key(&first_leaf) {
            return Err(FoldError::Repeated(first_leaf));
        }
        if first_leaf > self.counter.next_leaf() {
            self.early.insert(first_leaf, nodes);
            return Ok(());
        }
        self.take(nodes)?;
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() > self.counter.next_leaf() {
                break;
            }
            if *entry.key() < self.counter.next_leaf() {
                return Err(FoldError::Repeated(*entry.key()));
            }
            let nodes = entry.remove();
            self.take(nodes)?;
        }
        Ok(())
    }

    fn take(&mut self, nodes: Vec<Node<R::Acc>>) -> Result<(), FoldError> {
        let combine = |left, right| self.reduction.combine(left, right);
        nodes
            .into_iter()
            .try_for_each(|node| self.counter.push(node, combine))
    }

    /// The number of the first leaf that has not come.
    pub fn next_leaf(&self) -> u64 {
        self.counter.next_leaf()
    }

    /// How many chunks are held back because one before them has not come.
    pub fn held_back(&self) -> usize {
        self.early.len()
    }

    /// The result.
    ///
    /// # Errors
    /// [`FoldError::Missing`] when a chunk is held back for one that never came.
    pub fn finish(self) -> Result<R::Output, FoldError> {
        if !self.early.is_empty() {
            return Err(FoldError::Missing(self.counter.next_leaf()));
        }
        let acc = self
            .counter
            .finish(|left, right| self.reduction.combine(left, right));
        Ok(self
            .reduction
            .finish(acc.unwrap_or_else(|| self.reduction.identity())))
    }
}
