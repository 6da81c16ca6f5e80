//! In which order items leave a queue.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

/// What keeps the items of an [`OrderedQueue`](crate::OrderedQueue): [`Fifo`], [`Lifo`], [`Priority`], or a user's own.
///
/// It is used with the queue locked, so it must not use the queue, and should not panic.
pub trait Order<T>: Default {
    /// Whether all items that are there leave before any that comes later. Then those who get take all of them at once, and do not stand in
    /// the way of those who put.
    const IN_TURN: bool = false;

    /// Puts an item.
    fn push(&mut self, item: T);
    /// Gets the next item, if there is one.
    fn pop(&mut self) -> Option<T>;
    /// How many items there are.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// First in, first out.
#[derive(Debug, Clone)]
pub struct Fifo<T>(VecDeque<T>);

impl<T> Fifo<T> {
    /// Whether a queue with a bound needs none of this, but a ring.
    pub(super) const RING: bool = true;
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Fifo(VecDeque::new())
    }
}

impl<T> Order<T> for Fifo<T> {
    const IN_TURN: bool = true;

    #[inline]
    fn push(&mut self, item: T) {
        self.0.push_back(item);
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// Last in, first out.
#[derive(Debug, Clone)]
pub struct Lifo<T>(Vec<T>);

impl<T> Lifo<T> {
    /// Whether a queue with a bound needs none of this, but a ring.
    pub(super) const RING: bool = false;
}

impl<T> Default for Lifo<T> {
    fn default() -> Self {
        Lifo(Vec::new())
    }
}

impl<T> Order<T> for Lifo<T> {
    #[inline]
    fn push(&mut self, item: T) {
        self.0.push(item);
    }

    #[inline]
    fn pop(&mut self) -> Option<T> {
        self.0.pop()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The least first; of equal ones the oldest.
#[derive(Debug, Clone)]
pub struct Priority<T> {
    heap: BinaryHeap<Ranked<T>>,
    puts: u64,
}

/// An item and its number; greater if it leaves earlier.
#[derive(Debug, Clone)]
struct Ranked<T> {
    item: T,
    number: u64,
}

impl<T: Ord> Ord for Ranked<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_item = other.item.cmp(&self.item);
        by_item.then_with(|| other.number.cmp(&self.number))
    }
}

impl<T: Ord> PartialOrd for Ranked<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: Ord> PartialEq for Ranked<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: Ord> Eq for Ranked<T> {}

impl<T> Priority<T> {
    /// Whether a queue with a bound needs none of this, but a ring.
    pub(super) const RING: bool = false;
}

impl<T: Ord> Default for Priority<T> {
    fn default() -> Self {
        Priority {
            heap: BinaryHeap::new(),
            puts: 0,
        }
    }
}

impl<T: Ord> Order<T> for Priority<T> {
    fn push(&mut self, item: T) {
        self.puts += 1;
        self.heap.push(Ranked {
            item,
            number: self.puts,
        });
    }

    fn pop(&mut self) -> Option<T> {
        self.heap.pop().map(|ranked| ranked.item)
    }

    fn len(&self) -> usize {
        self.heap.len()
    }
}
