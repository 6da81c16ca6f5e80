//! Brokers: what stands between those who submit and those who work, and the trait that hides which one it is.
//!
//! A [`Broker`] is one peer's connection: a pool, or a worker, which is a pool too as soon as its tasks submit.
//!
//! Rules of delivery, cited by number elsewhere:
//!
//! 1. A message is published once and ends once: by one reply to its pool, or by the pool taking it back. Both delete it.
//! 2. A message is leased to one peer at a time. Before that peer runs it, it calls [`Broker::begin`], which leaves a mark
//!    that outlives the peer, and then runs it only if `begin` says so.
//! 3. A peer that is dead, or whose heartbeat stands still for the length of its lease, is buried once, by whoever notices. It is fenced
//!    first: from then on its `begin` says no. Then its marks are read. So what is not marked has never run and never will.
//! 4. The messages that a buried peer had leased go back to their pools as lost, with whether they were marked; the pools
//!    decide what is sent again. A reply of a buried peer is dropped: its lease is gone.
//! 5. What a buried peer had published is dropped with all its replies: nobody would read them.
//! 6. Replies become visible in the same transaction that ends the lease. Until then [`Broker::keep`] lets them outlive the peer, so
//!    that many can share a transaction and a death still loses only what had begun and not ended: who buries a peer
//!    delivers what it kept.

#[cfg(feature = "amqp")]
pub(crate) mod amqp;
mod kept;
mod presence;
#[cfg(feature = "redis")]
mod redis;
pub(crate) mod sqlite;
mod url;

pub use url::BrokerUrl;

use par_core::TaskError;
use par_core::remote::Part;
use std::sync::Arc;
use std::time::Duration;

/// Why a broker cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BrokerError {
    /// The operating system, or SQLite, does not open the file; or the server refuses.
    #[error("cannot open the broker {broker}: {reason}")]
    Open {
        /// The broker.
        broker: BrokerUrl,
        /// What was refused.
        reason: String,
    },
    /// The file is something else.
    #[error("{broker} is no broker of this toolkit: {reason}")]
    Foreign {
        /// The file that was to be a broker.
        broker: BrokerUrl,
        /// What was found.
        reason: String,
    },
    /// The file was written by a newer version.
    #[error("the broker {broker} has schema version {theirs}, this program knows versions up to {ours}")]
    Newer {
        /// The broker.
        broker: BrokerUrl,
        /// Its version.
        theirs: i64,
        /// The latest version that this program knows.
        ours: i64,
    },
    /// There is no room for what was to be written.
    #[error("the broker {broker} has no room: {reason}")]
    Full {
        /// The broker.
        broker: BrokerUrl,
        /// What SQLite or the server says.
        reason: String,
    },
    /// A message is longer than it takes.
    #[error("the broker {broker} does not take what is so long: {reason}")]
    TooLong {
        /// The broker.
        broker: BrokerUrl,
        /// How long it is, and how long it may be.
        reason: String,
    },
    /// Another failure while it was in use.
    #[error("the broker {broker} failed: {reason}")]
    Failed {
        /// The broker.
        broker: BrokerUrl,
        /// What SQLite or the server says.
        reason: String,
    },
    /// An option has a value that nothing can work with.
    #[error("bad option {option}: {reason}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What was wrong with its value, and what is expected.
        reason: String,
    },
    /// A worker or pool was taken for dead.
    #[error("the others took this process for dead: its heartbeat stood still for {} ms", lease.as_millis())]
    Buried {
        /// How long a heartbeat may stand still.
        lease: Duration,
    },
}

/// Which broker a peer joins, and how.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) url: BrokerUrl,
    /// Nothing in it outlives the pool that made it.
    pub(crate) temporary: bool,
    /// The most bytes that a file may grow to.
    pub(crate) limit: Option<u64>,
    /// How long a server may be away before it is given up.
    pub(crate) outage: Duration,
}

/// Joins a broker as a new peer.
pub(crate) fn join(place: &Place, joining: Joining) -> Result<Arc<dyn Broker>> {
    match &place.url.0 {
        url::Place::File(path) => {
            let place = sqlite::Place {
                path: path.clone(),
                temporary: place.temporary,
                limit: place.limit,
            };
            Ok(sqlite::Sqlite::join(&place, joining)?)
        }
        url::Place::Server(_) if place.limit.is_some() => Err(BrokerError::Option {
            option: "max_bytes",
            reason: format!(
                "bounds a file, and {} is a server with bounds of its own",
                place.url
            ),
        }),
        url::Place::Server(url) => match url.split_once("://").map(|(scheme, _)| scheme) {
            #[cfg(feature = "amqp")]
            Some("amqp" | "amqps") => Ok(amqp::Amqp::join(url, place, joining)?),
            #[cfg(not(feature = "amqp"))]
            Some("amqp" | "amqps") => Err(lacks(place, "amqp")),
            #[cfg(feature = "redis")]
            Some("redis" | "rediss") => Ok(redis::Redis::join(url, place, joining)?),
            #[cfg(not(feature = "redis"))]
            Some("redis" | "rediss") => Err(lacks(place, "redis")),
            _ => Err(BrokerError::Option {
                option: "broker",
                reason: format!(
                    "a path, `amqp://...` or `redis://...` is expected, got {}",
                    place.url
                ),
            }),
        },
    }
}

#[cfg(not(all(feature = "amqp", feature = "redis")))]
fn lacks(place: &Place, feature: &str) -> BrokerError {
    BrokerError::Option {
        option: "broker",
        reason: format!(
            "{} needs the feature `{feature}`, which this program was built without",
            place.url
        ),
    }
}

/// Number of a peer, never used twice in a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PeerId(pub(crate) i64);

/// Number of a message, never used twice in a broker. Lower ones are delivered earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MessageId(pub(crate) i64);

/// Number of a stored call, never used twice in a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct CallId(pub(crate) i64);

/// A message to be published.
pub(crate) struct Outgoing {
    pub(crate) job: u64,
    /// The pool on whose behalf the task runs that submits; the peer itself outside of tasks.
    pub(crate) root: Option<PeerId>,
    pub(crate) call: CallId,
    pub(crate) part: Part,
    /// Keys of the shared values that the payload names.
    pub(crate) shares: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// A leased message.
pub(crate) struct Delivery {
    pub(crate) lease: Lease,
    pub(crate) pool: PeerId,
    pub(crate) root: PeerId,
    pub(crate) job: u64,
    pub(crate) call: CallId,
    pub(crate) part: Part,
    pub(crate) shares: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// The right to run a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) id: MessageId,
    /// Where the mark of rule 2 goes.
    pub(crate) slot: usize,
    /// Whether the payload is stored apart.
    pub(crate) apart: bool,
}

/// How a message ended.
pub(crate) enum Verdict {
    /// With the reply of the worker.
    Reply(Vec<u8>),
    /// The worker could not run it.
    Failed(TaskError),
    /// The worker is gone (rule 4).
    Lost { begun: bool, reason: String },
}

/// What a worker says of a message that it ran.
pub(crate) struct Settled {
    pub(crate) lease: Lease,
    pub(crate) pool: PeerId,
    pub(crate) took: Duration,
    pub(crate) verdict: Verdict,
    /// Whether it outlives the worker (rule 6).
    pub(crate) kept: bool,
}

/// What a pool hears of a message that it published.
pub(crate) struct Arrival {
    pub(crate) id: MessageId,
    pub(crate) worker: PeerId,
    pub(crate) took: Duration,
    pub(crate) verdict: Verdict,
}

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It only submits.
    Pool,
    /// It runs this many messages at a time.
    Worker { concurrency: usize },
}

/// What a peer says of itself when it joins.
#[derive(Clone)]
pub(crate) struct Joining {
    pub(crate) role: Role,
    pub(crate) queue: String,
    /// How long its heartbeat may stand still.
    pub(crate) lease: Duration,
    /// What every worker must run before its first message of this pool.
    pub(crate) initializer: Option<Vec<u8>>,
    /// The most messages that it leases at a time.
    pub(crate) leases: usize,
}

/// A peer as the others see it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) role: Role,
    pub(crate) queue: String,
    pub(crate) pid: u32,
    pub(crate) lease: Duration,
    /// Counts its heartbeats.
    pub(crate) beat: i64,
}

/// Why a peer is rung up. Several rings may become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    /// There may be messages.
    Work,
    /// There are replies.
    Reply,
    /// Peers came or went, a job was cancelled, or a shared value is gone.
    News,
}

/// What woke a peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Woken {
    pub(crate) work: bool,
    pub(crate) reply: bool,
    pub(crate) news: bool,
}

type Result<T> = std::result::Result<T, BrokerError>;

/// One peer's connection to a broker. All calls may come from any thread.
pub(crate) trait Broker: Send + Sync {
    /// Where the broker is, for errors.
    fn place(&self) -> BrokerUrl;
    /// The longest payload of a message that it takes.
    fn longest(&self) -> usize;
    /// The number of this peer.
    fn me(&self) -> PeerId;

    /// Stores a call, which messages then name by its number.
    fn store_call(&self, call: &[u8]) -> Result<CallId>;
    /// A call that a pool has stored; nothing once that is gone.
    fn call(&self, pool: PeerId, id: CallId) -> Result<Option<Vec<u8>>>;
    /// The initialiser of a pool.
    fn initializer(&self, pool: PeerId) -> Result<Option<Vec<u8>>>;

    /// Publishes a batch, all or nothing, and wakes workers.
    fn publish(&self, batch: &[Outgoing]) -> Result<Vec<MessageId>>;
    /// Takes back up to `most` messages of a job of this peer that nobody has leased.
    fn withdraw(&self, job: u64, most: usize) -> Result<Vec<MessageId>>;
    /// Takes messages of this peer back that it has leased itself and not begun.
    fn reclaim(&self, leases: &[Lease]) -> Result<()>;
    /// Takes replies to this peer out, up to about `bytes` at a time.
    fn collect(&self, bytes: usize) -> Result<Vec<Arrival>>;
    /// Tells the workers that a job of this peer was cancelled.
    fn raise(&self, job: u64) -> Result<()>;
    /// Forgets that a job of this peer was cancelled: nothing of it is left.
    fn lower(&self, job: u64) -> Result<()>;
    /// Who has leased messages of a job of this peer, and whether it has begun them.
    fn holders(&self, job: u64) -> Result<Vec<(PeerId, bool)>>;

    /// Leases messages, up to about `bytes` at a time.
    fn lease(&self, messages: usize, bytes: usize) -> Result<Vec<Delivery>>;
    /// Fetches nothing ahead until the next [`lease`](Self::lease), and gives back what was fetched and not leased.
    fn pause(&self) {}
    /// Whether messages were fetched that are not leased.
    fn has_fetched(&self) -> bool {
        false
    }
    /// Marks a message as begun; false if it must not be run (rules 2 and 3): whoever buried this peer ends it.
    ///
    /// # Errors
    /// The mark could not be left. The message is still leased, and this peer has to end it.
    fn begin(&self, lease: Lease) -> Result<bool>;
    /// Makes sure that an outcome outlives this peer (rule 6); false if it cannot: then it is to be settled before anything
    /// else begins.
    fn keep(&self, settled: &Settled) -> bool;
    /// How many messages wait in the queue of this peer.
    fn waiting(&self) -> Result<u64>;
    /// Gives leased messages back that were not begun.
    fn release(&self, leases: &[Lease]) -> Result<()>;
    /// Ends leased messages with their replies and wakes their pools.
    fn settle(&self, batch: &[Settled]) -> Result<()>;
    /// Whether kept outcomes had better wait for others, as some are on their way. The peer is woken when those have arrived.
    fn is_telling(&self) -> bool {
        false
    }
    /// The jobs that are cancelled, of all pools.
    fn raised(&self) -> Result<Vec<(PeerId, u64)>>;

    /// Stores a shared value.
    fn put_share(&self, key: &[u8], value: &[u8]) -> Result<()>;
    /// A shared value, if the pool whose message names it still has it.
    fn share(&self, pool: PeerId, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Whether a shared value that this peer has got is still there.
    fn has_share(&self, key: &[u8]) -> Result<bool>;
    /// Drops a shared value and tells the workers.
    fn evict(&self, key: &[u8]) -> Result<()>;

    /// Shows that this peer lives.
    ///
    /// # Errors
    /// [`BrokerError::Buried`] if the others took it for dead.
    fn beat(&self) -> Result<()>;
    /// All peers that joined and neither left nor were buried.
    fn peers(&self) -> Result<Arc<[Peer]>>;
    /// Whether the process of a peer has ended.
    fn is_dead(&self, peer: PeerId) -> bool;
    /// Buries a peer (rules 3 to 5); nothing happens if somebody did so before.
    fn bury(&self, peer: PeerId, reason: &str) -> Result<()>;

    /// Sleeps until somebody rings or the time is up.
    fn sleep(&self, timeout: Duration) -> Woken;
    /// Ends the sleep of this peer.
    fn wake(&self);
    /// Ends its sleep as it is to leave soon: it waits no longer for a server that is away.
    fn stop(&self) {
        self.wake();
    }
    /// Leaves: drops what this peer published and what it had leased.
    fn leave(&self) -> Result<()>;
}
