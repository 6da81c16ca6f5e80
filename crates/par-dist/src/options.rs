//! What a cluster pool can be told beyond what every pool can.

use crate::{BrokerError, BrokerUrl};
use std::time::Duration;

pub(crate) const DEFAULT_QUEUE: &str = "default";
pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const PREFETCH: usize = 128;
pub(crate) const OUTAGE: Duration = Duration::from_secs(300);
const PUBLISHED: usize = 192;
const SHORTEST_LEASE: Duration = Duration::from_millis(100);

/// Options of a [`ClusterPool`](crate::ClusterPool).
///
/// ```
/// use par_dist::{ClusterPool, Options};
/// let folder = tempfile::tempdir()?;
/// let options = Options { broker: Some(folder.path().join("jobs.db").into()), ..Options::default() };
/// let pool = ClusterPool::builder().workers(1).options(options).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// The file of the broker, made where there is none, or the URL of a RabbitMQ or Redis server (features `amqp`, `redis`). Without one, a temporary
    /// file that goes with the pool.
    #[doc(alias = "broker_url")]
    pub broker: Option<BrokerUrl>,
    /// The queue that the pool publishes to and that its workers work for.
    pub queue: String,
    /// Whether the pool starts its workers itself, as processes of this program. Otherwise all of them are started by hand
    /// ([`Worker`](crate::Worker)), and the pool counts those that it sees.
    pub local_workers: bool,
    /// How long a heartbeat, of this pool or of one of its workers, may stand still before the others take it for dead; at
    /// least 100 ms. A process that ends is noticed at once.
    #[doc(alias = "visibility_timeout")]
    pub lease: Duration,
    /// The most messages that each local worker leases ahead; at least 1. It leases fewer when they take long.
    #[doc(alias = "worker_prefetch_multiplier")]
    pub prefetch: usize,
    /// The most messages of this pool that are in the broker at a time, for each worker; at least 1. The rest waits in the pool,
    /// within the bound of its queue.
    pub published: usize,
    /// The most bytes that the broker's file may grow to by this pool and its local workers; not for a server. The log beside it is not counted: it
    /// holds the last few MiB, and as much as the largest batch.
    pub max_bytes: Option<u64>,
    /// How long a server may be out of reach, or take nothing of what it refused before, once the pool has started, before the pool is
    /// broken and every wait says so. Until then the pool and its local workers connect again by themselves and go on. A server forgets
    /// a pool that it has not seen for 10 minutes, and then it is broken too. A file is never out of reach.
    #[doc(alias = "broker_connection_max_retries")]
    pub outage: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            broker: None,
            queue: DEFAULT_QUEUE.to_owned(),
            local_workers: true,
            lease: LEASE,
            prefetch: PREFETCH,
            published: PUBLISHED,
            max_bytes: None,
            outage: OUTAGE,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), BrokerError> {
        let least = |value: usize, option| {
            if value == 0 {
                return Err(BrokerError::Option {
                    option,
                    reason: "must be at least 1, got 0".to_owned(),
                });
            }
            Ok(())
        };
        least(self.prefetch, "prefetch")?;
        least(self.published, "published")?;
        check_lease(self.lease)
    }
}

pub(crate) fn check_lease(lease: Duration) -> Result<(), BrokerError> {
    if lease < SHORTEST_LEASE {
        let reason = format!(
            "must be at least {} ms, got {} ms",
            SHORTEST_LEASE.as_millis(),
            lease.as_millis()
        );
        return Err(BrokerError::Option {
            option: "lease",
            reason,
        });
    }
    Ok(())
}
