//! Communicators: values by rank and tag over any transport, and the collectives built of them.

use crate::error::MpiError;
use crate::local::Local;
use crate::transport::{Channel, Match, Received, Transport};
use par_core::{Data, Reduction, TaskError, wire};
use std::sync::Arc;
use std::time::{Duration, Instant};

const BCAST: u32 = 1;
const GATHER: u32 = 2;
const SCATTER: u32 = 3;

/// One rank's end of a group of ranks.
#[doc(alias = "COMM_WORLD")]
pub struct Communicator {
    transport: Arc<dyn Transport>,
}

/// Runs `program` on `ranks` ranks, each a thread, and returns their values by rank.
///
/// # Errors
/// [`MpiError::NoRanks`]; the error of the lowest rank that returned one; [`MpiError::Rank`] of the lowest that panicked.
pub fn run<R: Send>(
    ranks: usize,
    program: impl Fn(&Communicator) -> Result<R, MpiError> + Sync,
) -> Result<Vec<R>, MpiError> {
    if ranks == 0 {
        return Err(MpiError::NoRanks);
    }
    let program = &program;
    let outcomes: Vec<Result<R, MpiError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = Local::group(ranks)
            .into_iter()
            .enumerate()
            .map(|(rank, end)| {
                // Dropped when the rank ends, however: that tells the others that nothing more comes from it.
                let comm = Communicator::over(Arc::new(end));
                scope.spawn(move || {
                    par_core::catch(|| program(&comm))
                        .unwrap_or_else(|error| Err(MpiError::Rank { rank, error }))
                })
            })
            .collect();
        let joined = threads.into_iter().enumerate();
        joined
            .map(|(rank, thread)| {
                let gone = |_| {
                    TaskError::Rejected("the thread of the rank panicked outside of its program".to_owned())
                };
                thread.join().unwrap_or_else(|payload| {
                    Err(MpiError::Rank {
                        rank,
                        error: gone(payload),
                    })
                })
            })
            .collect()
    });
    // A panic explains the errors of those who waited for that rank.
    let mut first = None;
    let mut values = Vec::with_capacity(ranks);
    for outcome in outcomes {
        match outcome {
            Ok(value) => values.push(value),
            Err(error @ MpiError::Rank { .. }) if !matches!(first, Some(MpiError::Rank { .. })) => {
                first = Some(error)
            }
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(values), Err)
}

impl Communicator {
    /// A communicator over ranks that somebody has started.
    pub fn over(transport: Arc<dyn Transport>) -> Self {
        Communicator { transport }
    }

    /// What carries the messages, for what is not a value.
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.transport
    }

    /// The number of this rank, from 0.
    #[doc(alias = "Get_rank")]
    pub fn rank(&self) -> usize {
        self.transport.rank()
    }

    /// How many ranks there are.
    #[doc(alias = "Get_size")]
    pub fn size(&self) -> usize {
        self.transport.size()
    }

    /// Sends a value; it is buffered until it is received, so this never waits.
    ///
    /// # Errors
    /// [`MpiError::NoSuchRank`], [`MpiError::Tag`], [`MpiError::Codec`], [`MpiError::TooLong`].
    pub fn send<T: Data>(&self, dest: usize, tag: i64, value: &T) -> Result<(), MpiError> {
        let tag = self.check(dest, tag)?;
        self.post(Channel::User, dest, tag, value)
    }

    /// Receives the oldest value that `source` sent under `tag`, waiting for it.
    ///
    /// # Errors
    /// [`MpiError::PeerEnded`] if the source ends without sending it; as [`send`](Communicator::send).
    pub fn recv<T: Data>(&self, source: usize, tag: i64) -> Result<T, MpiError> {
        let tag = self.check(source, tag)?;
        self.fetch(Channel::User, source, tag, None)
    }

    /// As [`recv`](Communicator::recv), for at most `timeout`.
    ///
    /// # Errors
    /// [`MpiError::TimedOut`]; as [`recv`](Communicator::recv).
    pub fn recv_timeout<T: Data>(&self, source: usize, tag: i64, timeout: Duration) -> Result<T, MpiError> {
        let tag = self.check(source, tag)?;
        self.fetch(Channel::User, source, tag, Some(timeout))
    }

    /// Gives the value of rank `root` to all. The others pass anything; it is not read.
    ///
    /// # Errors
    /// As [`recv`](Communicator::recv).
    pub fn bcast<T: Data>(&self, root: usize, value: T) -> Result<T, MpiError> {
        self.check(root, 0)?;
        if self.rank() != root {
            return self.fetch(Channel::Collective, root, BCAST, None);
        }
        (0..self.size())
            .filter(|rank| *rank != root)
            .try_for_each(|rank| self.post(Channel::Collective, rank, BCAST, &value))?;
        Ok(value)
    }

    /// Collects one value of each rank at `root`, by rank; the others get `None`.
    ///
    /// # Errors
    /// As [`recv`](Communicator::recv).
    pub fn gather<T: Data>(&self, root: usize, value: T) -> Result<Option<Vec<T>>, MpiError> {
        self.check(root, 0)?;
        // Also the root's own value goes through its mailbox: then the order by rank needs no exception.
        self.post(Channel::Collective, root, GATHER, &value)?;
        if self.rank() != root {
            return Ok(None);
        }
        (0..self.size())
            .map(|rank| self.fetch(Channel::Collective, rank, GATHER, None))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// Deals one item of `items` at `root` to each rank. The others pass an empty vector.
    ///
    /// # Errors
    /// [`MpiError::Items`] on every rank unless the root has exactly one item for each; as [`recv`](Communicator::recv).
    pub fn scatter<T: Data>(&self, root: usize, items: Vec<T>) -> Result<T, MpiError> {
        self.check(root, 0)?;
        let size = self.size();
        if self.rank() == root {
            let got = items.len();
            let mut items = items.into_iter();
            for rank in 0..size {
                // The length goes with each item, so that a wrong one is an error everywhere and a hang nowhere.
                let item = if got == size { items.next() } else { None };
                self.post(Channel::Collective, rank, SCATTER, &(got as u64, item))?;
            }
        }
        let (got, item): (u64, Option<T>) = self.fetch(Channel::Collective, root, SCATTER, None)?;
        item.ok_or(MpiError::Items {
            expected: size,
            got: usize::try_from(got).unwrap_or(usize::MAX),
        })
    }

    /// Folds one value of each rank, in the order of ranks, and gives the result to all.
    ///
    /// # Errors
    /// As [`recv`](Communicator::recv).
    pub fn all_reduce<T: Data, R: Reduction<T>>(&self, value: T, reduction: R) -> Result<R::Output, MpiError>
    where
        R::Output: Data,
    {
        let values = self.gather(0, value)?;
        let result = values.map(|values| par_core::fold::reduce(&reduction, values));
        let shared: Option<R::Output> = self.bcast(0, result)?;
        let reason = "the root sent no result".to_owned();
        shared.ok_or(MpiError::Codec {
            from: 0,
            to: self.rank(),
            reason,
        })
    }

    /// Waits until all ranks have come here.
    ///
    /// # Errors
    /// As [`recv`](Communicator::recv).
    pub fn barrier(&self) -> Result<(), MpiError> {
        self.gather(0, ())?;
        self.bcast(0, ())
    }

    fn check(&self, rank: usize, tag: i64) -> Result<u32, MpiError> {
        let size = self.size();
        if rank >= size {
            return Err(MpiError::NoSuchRank { rank, size });
        }
        let most = self.transport.most_tag();
        let known = u32::try_from(tag).ok().filter(|tag| *tag <= most);
        known.ok_or(MpiError::Tag { tag, most })
    }

    fn post<T: Data>(&self, channel: Channel, dest: usize, tag: u32, value: &T) -> Result<(), MpiError> {
        let bytes = wire::to_bytes(value).map_err(|e| MpiError::Codec {
            from: self.rank(),
            to: dest,
            reason: e.to_string(),
        })?;
        self.transport.send(channel, dest, tag, bytes)
    }

    fn fetch<T: Data>(
        &self,
        channel: Channel,
        source: usize,
        tag: u32,
        timeout: Option<Duration>,
    ) -> Result<T, MpiError> {
        let begun = Instant::now();
        // A timeout beyond the end of time is none.
        let until = timeout.and_then(|timeout| begun.checked_add(timeout));
        let which = Match {
            source: Some(source),
            tag: Some(tag),
        };
        let (rank, source_rank, tag) = (self.rank(), source, i64::from(tag));
        let message = loop {
            match self.transport.receive(channel, which, until)? {
                Received::Message(message) => break message,
                Received::Nothing if until.is_none_or(|until| Instant::now() < until) => {}
                Received::Nothing => {
                    return Err(MpiError::TimedOut {
                        rank,
                        source_rank,
                        tag,
                        waited_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                    });
                }
                Received::Ended => {
                    return Err(MpiError::PeerEnded {
                        rank,
                        source_rank,
                        tag,
                    });
                }
            }
        };
        wire::from_bytes(&message.bytes).map_err(|e| MpiError::Codec {
            from: source,
            to: rank,
            reason: e.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use par_core::{Concat, Sum};

    #[test]
    fn collectives_go_by_rank() {
        let seen = run(5, |comm| {
            let hundred = comm.bcast(2, if comm.rank() == 2 { 100u32 } else { 0 })?;
            let squares = comm.gather(0, (comm.rank() as u64 + 1).pow(2))?;
            let item: u64 = comm.scatter(
                1,
                if comm.rank() == 1 {
                    vec![10, 11, 12, 13, 14]
                } else {
                    Vec::new()
                },
            )?;
            let text = comm.all_reduce(comm.rank().to_string(), Concat)?;
            comm.barrier()?;
            Ok((hundred, squares, item, text))
        })
        .expect("all ranks");
        assert_eq!(seen[0].1.as_deref(), Some(&[1, 4, 9, 16, 25][..]));
        for (rank, (hundred, squares, item, text)) in seen.into_iter().enumerate() {
            assert_eq!((hundred, item, text.as_str()), (100, 10 + rank as u64, "01234"));
            assert_eq!(squares.is_some(), rank == 0);
        }
    }

    #[test]
    fn a_wrong_number_of_items_is_an_error_on_every_rank() {
        let errors = run(3, |comm| {
            let items = if comm.rank() == 0 {
                (1..=10).collect()
            } else {
                Vec::new()
            };
            Ok(comm
                .scatter::<u64>(0, items)
                .expect_err("ten for three")
                .to_string())
        });
        assert_eq!(
            errors.expect("all ranks"),
            ["scatter: expected 3 items, got 10"; 3]
        );
    }

    #[test]
    fn a_dead_rank_ends_the_waits_for_it() {
        let error = run(2, |comm| {
            if comm.rank() == 1 {
                panic!("rank one fell over");
            }
            comm.recv::<u64>(1, 3)
        })
        .expect_err("rank 1 panicked");
        let text = error.to_string();
        assert!(
            text.starts_with("rank 1: task panicked: rank one fell over (at "),
            "{text}"
        );
        let ended = run(2, |comm| {
            if comm.rank() == 0 {
                comm.recv::<u64>(1, 3)
            } else {
                Ok(0)
            }
        });
        let text = ended.expect_err("nothing was sent").to_string();
        assert_eq!(
            text,
            "rank 0 waits for a message from rank 1 with tag 3, but that rank has ended"
        );
    }

    #[test]
    fn waits_keep_their_deadline_and_bad_arguments_are_named() {
        run(2, |comm| {
            let late = comm
                .recv_timeout::<u64>(comm.rank(), 0, Duration::from_millis(10))
                .expect_err("nothing comes");
            assert!(
                matches!(late, MpiError::TimedOut { waited_ms: 10.., .. }),
                "{late}"
            );
            let error = comm.send(7, 0, &1u8).expect_err("rank 7").to_string();
            assert_eq!(error, "rank 7 does not exist: the communicator has ranks 0 to 1");
            assert_eq!(
                comm.send(0, -4, &1u8).expect_err("tag").to_string(),
                "tags go from 0 to 4294967295, got -4"
            );
            Ok(())
        })
        .expect("all ranks");
        assert_eq!(run(0, |_| Ok(())).expect_err("none"), MpiError::NoRanks);
    }

    #[test]
    fn a_floating_sum_has_the_bits_of_the_serial_one() {
        let values = [0.1f64, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7];
        let sums = run(7, |comm| comm.all_reduce(values[comm.rank()], Sum)).expect("all ranks");
        assert!(
            sums.iter()
                .all(|sum| sum.to_bits() == par_core::fold::reduce(&Sum, values).to_bits())
        );
    }
}
