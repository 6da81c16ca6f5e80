//! Blocks: the input of a job-making call, read lazily, a bounded number of items ahead of the workers.

/// Cuts an iterator into vectors: small ones first, so that the first workers start at once, then larger ones.
pub(super) struct Blocks<I: Iterator> {
    /// Nothing once they were read in one piece.
    items: Option<I>,
    next: u64,
    size: usize,
    largest: usize,
}

/// What may be read in one piece, where its length is known and its items are plain data without heap memory of their own.
const WHOLE_BYTES: usize = 16 << 20;
/// What an ordinary block may take in memory, not counting what its items point to.
const BLOCK_BYTES: usize = 1 << 20;
/// Items of an ordinary block; those that own memory may be large.
const BLOCK_ITEMS: usize = 1 << 16;
const OWNING_ITEMS: usize = 1 << 12;

impl<I: Iterator> Blocks<I> {
    pub(super) fn new(items: I, first: usize, largest: usize) -> Self {
        let item = size_of::<I::Item>().max(1);
        let owning = std::mem::needs_drop::<I::Item>();
        let most = if owning { OWNING_ITEMS } else { BLOCK_ITEMS };
        let largest = largest.clamp(1, most.min((BLOCK_BYTES / item).max(1)));
        Blocks {
            items: Some(items),
            next: 0,
            size: first.clamp(1, largest),
            largest,
        }
    }

    /// Allows one block for all items, where they are known to be few bytes.
    pub(super) fn whole_if_flat(mut self) -> Self {
        if let Some((low, Some(high))) = self.items.as_ref().map(Iterator::size_hint)
            && low == high
            && !std::mem::needs_drop::<I::Item>()
            && low
                .checked_mul(size_of::<I::Item>())
                .is_some_and(|bytes| bytes <= WHOLE_BYTES)
        {
            self.size = usize::MAX;
        }
        self
    }

    /// The next block with the index of its first item; `None` when there are no more items.
    pub(super) fn next(&mut self) -> Option<(u64, Vec<I::Item>)> {
        let block: Vec<I::Item> = if self.size == usize::MAX {
            // By value: a vector's items are then not moved at all.
            self.items.take()?.collect()
        } else {
            let size = self.size;
            self.size = (size * 2).min(self.largest);
            self.items.as_mut()?.take(size).collect()
        };
        if block.is_empty() {
            return None;
        }
        let first = self.next;
        self.next += block.len() as u64;
        Some((first, block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_and_blocks_grow_to_their_bound() {
        let mut blocks = Blocks::new((0..1000).map(|i| i.to_string()), 4, 100);
        let mut seen = Vec::new();
        let mut sizes = Vec::new();
        while let Some((first, block)) = blocks.next() {
            assert_eq!(first as usize, seen.len());
            sizes.push(block.len());
            seen.extend(block);
        }
        assert_eq!(seen, (0..1000).map(|i| i.to_string()).collect::<Vec<_>>());
        assert_eq!(sizes[..6], [4, 8, 16, 32, 64, 100]);
    }

    #[test]
    fn plain_data_of_known_length_is_one_block_and_an_endless_iterator_is_not() {
        assert_eq!(
            Blocks::new(0..100_000u64, 4, 100)
                .whole_if_flat()
                .next()
                .expect("some")
                .1
                .len(),
            100_000
        );
        assert_eq!(
            Blocks::new(0u64.., 4, 100)
                .whole_if_flat()
                .next()
                .expect("some")
                .1
                .len(),
            4
        );
    }
}
