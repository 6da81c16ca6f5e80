//! Scans: the running reduction at every item, in an order that any number of workers can keep.

use super::fold_leaf;
use crate::reduction::Reduction;

/// Whether the value at an item counts the item itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScanKind {
    /// It does: the first value is the first item.
    Inclusive,
    /// It does not: the first value is that of no items.
    Exclusive,
}

/// The values of one leaf of a scan.
///
/// The order of a scan: within each leaf items fold one after the other from the identity; the totals of the
/// leaves combine one after the other from the left into each leaf's `prefix` (see [`next_prefix`]); a value is the
/// prefix combined with what was folded within the leaf. The first leaf has no prefix, and nothing is
/// combined there. So the totals of all leaves ([`fold_leaf`]) can be computed at once, then the prefixes in
/// one short pass, then the values of all leaves at once; the bits do not depend on who computes what.
///
/// `first_index` is the place of the first item in the whole input.
pub fn scan_leaf<R: Reduction<T>, T>(
    reduction: &R,
    kind: ScanKind,
    prefix: Option<&R::Acc>,
    items: impl IntoIterator<Item = T>,
    first_index: u64,
) -> Vec<R::Output>
where
    R::Acc: Clone,
{
    let value = |local: R::Acc| match prefix {
        Some(prefix) => reduction.finish(reduction.combine(prefix.clone(), local)),
        None => reduction.finish(local),
    };
    let mut local = reduction.identity();
    let indices = first_index..;
    let step = |(item, index)| {
        let next = reduction.fold(local.clone(), item, index);
        let before = std::mem::replace(&mut local, next);
        value(match kind {
            ScanKind::Inclusive => local.clone(),
            ScanKind::Exclusive => before,
        })
    };
    items.into_iter().zip(indices).map(step).collect()
}

/// The prefix of the next leaf: the prefix of this one with the total of this one.
pub fn next_prefix<R: Reduction<T>, T>(reduction: &R, prefix: Option<R::Acc>, total: R::Acc) -> R::Acc {
    match prefix {
        Some(prefix) => reduction.combine(prefix, total),
        None => total,
    }
}

/// Scans all items here and now, in leaves of `leaf` items (0 counts as 1): what every engine must agree with.
///
/// ```
/// use par_core::{Sum, fold::{self, ScanKind}};
/// assert_eq!(fold::scan(&Sum, ScanKind::Inclusive, 2, &[1, 2, 3, 4, 5]), [1, 3, 6, 10, 15]);
/// assert_eq!(fold::scan(&Sum, ScanKind::Exclusive, 2, &[1, 2, 3, 4, 5]), [0, 1, 3, 6, 10]);
/// ```
pub fn scan<R: Reduction<T>, T: Clone>(
    reduction: &R,
    kind: ScanKind,
    leaf: usize,
    items: &[T],
) -> Vec<R::Output>
where
    R::Acc: Clone,
{
    let mut prefix = None;
    let mut values = Vec::with_capacity(items.len());
    let mut index = 0;
    for leaf in items.chunks(leaf.max(1)) {
        values.extend(scan_leaf(
            reduction,
            kind,
            prefix.as_ref(),
            leaf.iter().cloned(),
            index,
        ));
        let total = fold_leaf(reduction, leaf.iter().cloned(), index);
        prefix = Some(next_prefix(reduction, prefix, total));
        index += leaf.len() as u64;
    }
    values
}
