//! What can go wrong between ranks.

use par_core::TaskError;

/// Why a message was not sent or received, or why the ranks cannot work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[doc(alias = "MPI.Exception")]
pub enum MpiError {
    /// There is no such rank.
    #[error("rank {rank} does not exist: the communicator has ranks 0 to {}", size - 1)]
    NoSuchRank {
        /// The rank that was named.
        rank: usize,
        /// How many there are.
        size: usize,
    },
    /// A communicator needs a rank.
    #[error("a communicator needs at least 1 rank, got 0")]
    NoRanks,
    /// A tag is out of range.
    #[error("tags go from 0 to {most}, got {tag}")]
    Tag {
        /// The tag that was named.
        tag: i64,
        /// The highest that the transport knows.
        most: u32,
    },
    /// A message is longer than the transport can carry.
    #[error("message of {bytes} bytes to rank {to}: at most {most} are carried")]
    TooLong {
        /// Who should receive it.
        to: usize,
        /// Its length.
        bytes: usize,
        /// The longest.
        most: usize,
    },
    /// The value could not be encoded or decoded.
    #[error("message from rank {from} to rank {to}: {reason}")]
    Codec {
        /// Who sent it.
        from: usize,
        /// Who should receive it.
        to: usize,
        /// What was wrong.
        reason: String,
    },
    /// The deadline of a receive passed.
    #[error("rank {rank} waited {waited_ms} ms for a message from rank {source_rank} with tag {tag}")]
    TimedOut {
        /// Who waited.
        rank: usize,
        /// For whom.
        source_rank: usize,
        /// For which tag.
        tag: i64,
        /// How long, in milliseconds.
        waited_ms: u64,
    },
    /// The other rank has ended without sending.
    #[error(
        "rank {rank} waits for a message from rank {source_rank} with tag {tag}, but that rank has ended"
    )]
    PeerEnded {
        /// Who waited.
        rank: usize,
        /// For whom.
        source_rank: usize,
        /// For which tag.
        tag: i64,
    },
    /// A scatter had a wrong number of items.
    #[error("scatter: expected {expected} items, got {got}")]
    Items {
        /// One for each rank.
        expected: usize,
        /// What the root had.
        got: usize,
    },
    /// A rank panicked.
    #[error("rank {rank}: {error}")]
    Rank {
        /// Which one: the lowest of those that panicked.
        rank: usize,
        /// Message and place.
        #[source]
        error: TaskError,
    },
    /// A rank runs another program than rank 0, and can run none of its tasks.
    #[error(
        "rank {rank} runs another program than rank 0 (build {theirs:#018x}, not {ours:#018x}); start one program on all ranks"
    )]
    OtherProgram {
        /// Which one: the lowest.
        rank: usize,
        /// The build of rank 0.
        ours: u64,
        /// The build of that rank.
        theirs: u64,
    },
    /// An MPI library refused a call.
    #[error("rank {rank}, {operation}: {text} (MPI error {code}, class {class})")]
    Native {
        /// The code that the call returned.
        code: i32,
        /// Its error class, such as that of `MPI_ERR_TRUNCATE`.
        class: i32,
        /// What the library says of it.
        text: String,
        /// The call.
        operation: &'static str,
        /// Where it was made.
        rank: usize,
    },
    /// MPI cannot be used as asked, or what came makes no sense.
    #[error("{0}")]
    Unusable(String),
}
