//! The raw layer that everything in this crate stands on: numbered ranks that send bytes to each other.
//!
//! A transport keeps these rules, whichever it is:
//!
//! 1. Messages of one rank to another on one [`Channel`] under one tag are received in the order in which they were sent.
//! 2. `send` never waits for the receiver. The transport owns the bytes until it is rid of them.
//! 3. A receive takes the oldest message that matches. Channels do not see each other's messages.
//! 4. All methods may be called by any thread at any time. Two threads may not wait for the same messages.
//!
//! ```
//! use par_mpi::transport::{Channel, Match, Received};
//!
//! let greetings = par_mpi::run(2, |comm| {
//!     let raw = comm.transport();
//!     raw.send(Channel::User, 1 - raw.rank(), 7, b"hello".to_vec())?;
//!     match raw.receive(Channel::User, Match::ANY, None)? {
//!         Received::Message(message) => Ok((message.source, message.tag, message.bytes)),
//!         other => panic!("no message: {other:?}"),
//!     }
//! })?;
//! assert_eq!(greetings[0], (1, 7, b"hello".to_vec()));
//! # Ok::<(), par_mpi::MpiError>(())
//! ```

use crate::error::MpiError;
use std::time::Instant;

/// A space of tags of its own: what a library sends is never received as something of its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Messages of the user.
    User = 0,
    /// The steps of collectives.
    Collective = 1,
    /// A pool and its workers.
    Engine = 2,
}

/// How many channels there are.
pub(crate) const CHANNELS: usize = 3;

/// Which messages a receive takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    /// Of this rank, or of any.
    #[doc(alias = "MPI_ANY_SOURCE")]
    pub source: Option<usize>,
    /// Under this tag, or under any.
    #[doc(alias = "MPI_ANY_TAG")]
    pub tag: Option<u32>,
}

impl Match {
    /// Every message.
    pub const ANY: Match = Match {
        source: None,
        tag: None,
    };

    pub(crate) fn takes(self, source: usize, tag: u32) -> bool {
        self.source.is_none_or(|wanted| wanted == source) && self.tag.is_none_or(|wanted| wanted == tag)
    }
}

/// A message that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sent it.
    pub source: usize,
    /// Under which tag.
    pub tag: u32,
    /// What.
    pub bytes: Vec<u8>,
}

/// How a wait for a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// With this message.
    Message(Message),
    /// The deadline passed, or another thread called [`Transport::wake`].
    Nothing,
    /// The source has ended, and nothing of it is left.
    Ended,
}

/// One rank's end of a group of ranks, as bytes see it.
pub trait Transport: Send + Sync {
    /// What carries the messages, such as `threads` or the name of an MPI library.
    fn name(&self) -> String;

    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// Whether the ranks are processes of their own, which end together.
    fn processes(&self) -> bool;

    /// The highest tag.
    fn most_tag(&self) -> u32;

    /// Sends bytes (rule 2).
    ///
    /// # Errors
    /// [`MpiError::NoSuchRank`], [`MpiError::TooLong`], or what the library says.
    fn send(&self, channel: Channel, dest: usize, tag: u32, bytes: Vec<u8>) -> Result<(), MpiError>;

    /// Receives a message if one is there.
    ///
    /// # Errors
    /// What the library says.
    fn try_receive(&self, channel: Channel, which: Match) -> Result<Option<Message>, MpiError>;

    /// Waits for a message, until the deadline if there is one.
    ///
    /// # Errors
    /// What the library says.
    fn receive(&self, channel: Channel, which: Match, until: Option<Instant>) -> Result<Received, MpiError>;

    /// Ends the wait of a thread of this rank on that channel, or the next one.
    fn wake(&self, channel: Channel);

    /// Ends all ranks, where they are processes; says why on the standard error. Does nothing where they are threads, which end
    /// by themselves.
    #[doc(alias = "MPI_Abort")]
    fn abort(&self, code: i32, why: &str);
}
