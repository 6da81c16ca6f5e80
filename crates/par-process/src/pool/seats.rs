//! The seats of a pool: as many as it ever had workers, of which the first so many are to have one.

use super::seat::Seat;
use std::ops::Index;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seats of the first chunk; every further one has as many as all before it.
const FIRST: usize = 16;
/// Chunks, at most.
const CHUNKS: usize = 13;
/// The most workers of a pool.
pub(super) const MOST: usize = FIRST << (CHUNKS - 1);

/// Seats are made and never taken away, so that they are reached without a lock while the pool grows.
pub(super) struct Seats {
    chunks: [OnceLock<Box<[Seat]>>; CHUNKS],
    made: AtomicUsize,
    wanted: AtomicUsize,
}

/// The chunk of a seat, and its place there.
fn place(index: usize) -> (usize, usize) {
    if index < FIRST {
        return (0, index);
    }
    let chunk = (index / FIRST).ilog2() as usize + 1;
    (chunk, index - (FIRST << (chunk - 1)))
}

impl Seats {
    /// Seats for so many workers, at most [`MOST`].
    pub(super) fn new(workers: usize) -> Self {
        let seats = Seats {
            chunks: [const { OnceLock::new() }; CHUNKS],
            made: AtomicUsize::new(0),
            wanted: AtomicUsize::new(0),
        };
        seats.want(workers);
        seats
    }

    /// From now on so many workers are wanted, at most [`MOST`]; returns how many were before. One thread at a time.
    pub(super) fn want(&self, workers: usize) -> usize {
        let made = self.len();
        for index in made..workers {
            let (chunk, _) = place(index);
            let length = if chunk == 0 { FIRST } else { FIRST << (chunk - 1) };
            self.chunks[chunk].get_or_init(|| (0..length).map(|_| Seat::new()).collect());
        }
        self.made.store(made.max(workers), Ordering::Release);
        self.wanted.swap(workers, Ordering::SeqCst)
    }

    /// How many workers are wanted: in the seats below this.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.load(Ordering::SeqCst)
    }

    /// How many seats there are.
    pub(super) fn len(&self) -> usize {
        self.made.load(Ordering::Acquire)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Seat> {
        (0..self.len()).map(|index| &self[index])
    }
}

impl Index<usize> for Seats {
    type Output = Seat;

    fn index(&self, index: usize) -> &Seat {
        let (chunk, place) = place(index);
        match self.chunks[chunk].get() {
            Some(seats) => &seats[place],
            None => unreachable!("seat {index} of {} was made", self.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_has_a_place_of_its_own() {
        let mut next = (0, 0);
        for index in 0..MOST {
            assert_eq!(place(index), next);
            let length = if next.0 == 0 { FIRST } else { FIRST << (next.0 - 1) };
            next = if next.1 + 1 == length {
                (next.0 + 1, 0)
            } else {
                (next.0, next.1 + 1)
            };
        }
        assert_eq!(next, (CHUNKS, 0));
    }

    #[test]
    fn seats_stay_when_fewer_are_wanted() {
        let seats = Seats::new(2);
        let first: *const Seat = &seats[0];
        assert_eq!(seats.want(40), 2);
        assert_eq!((seats.len(), seats.wanted()), (40, 40));
        assert_eq!(seats.want(1), 40);
        assert_eq!((seats.len(), seats.wanted(), seats.iter().count()), (40, 1, 40));
        assert!(std::ptr::eq(first, &seats[0]));
    }
}
