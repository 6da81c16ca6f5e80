//! For the benches alone: the operations of a broker one by one, without a pool around them.

#[cfg(feature = "amqp")]
pub use crate::broker::amqp::bare;

use crate::BrokerError;
use crate::broker::sqlite::{Place, Sqlite};
use crate::broker::{Broker, CallId, Joining, Lease, Outgoing, PeerId, Role, Settled, Verdict};
use crate::options::{DEFAULT_QUEUE, LEASE};
use par_core::remote::Part;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One peer that submits and works, on the default queue of a file.
pub struct Probe {
    broker: Arc<Sqlite>,
}

/// A message that a probe has leased.
pub struct Leased {
    lease: Lease,
    pool: PeerId,
}

type Result<T> = std::result::Result<T, BrokerError>;

impl Probe {
    /// Joins.
    ///
    /// # Errors
    /// What was wrong with the file.
    pub fn join(broker: &Path, most_leases: usize) -> Result<Self> {
        let place = Place {
            path: broker.to_owned(),
            temporary: true,
            limit: None,
        };
        let joining = Joining {
            role: Role::Worker { concurrency: 1 },
            queue: DEFAULT_QUEUE.to_owned(),
            lease: LEASE,
            initializer: None,
            leases: most_leases,
        };
        let broker = Sqlite::join(&place, joining)?;
        Ok(Probe { broker })
    }

    /// Publishes messages of a job in one transaction.
    ///
    /// # Errors
    /// As the broker's.
    pub fn submit(&self, job: u64, messages: usize) -> Result<()> {
        let message = |index| Outgoing {
            job,
            root: None,
            call: CallId(1),
            part: Part {
                first: index as u64,
                items: 1,
            },
            shares: Vec::new(),
            payload: vec![0; 8],
        };
        let batch: Vec<_> = (0..messages).map(message).collect();
        self.broker.publish(&batch).map(|_| ())
    }

    /// Leases up to so many messages.
    ///
    /// # Errors
    /// As the broker's.
    pub fn lease(&self, messages: usize) -> Result<Vec<Leased>> {
        let leased = self.broker.lease(messages, usize::MAX)?;
        Ok(leased
            .into_iter()
            .map(|delivery| Leased {
                lease: delivery.lease,
                pool: delivery.pool,
            })
            .collect())
    }

    /// Answers them.
    ///
    /// # Errors
    /// As the broker's.
    pub fn settle(&self, leased: &[Leased]) -> Result<()> {
        let answer = |leased: &Leased| Settled {
            lease: leased.lease,
            pool: leased.pool,
            took: Duration::ZERO,
            verdict: Verdict::Reply(vec![0; 8]),
            kept: false,
        };
        self.broker.settle(&leased.iter().map(answer).collect::<Vec<_>>())
    }

    /// Takes answers out; how many there were.
    ///
    /// # Errors
    /// As the broker's.
    pub fn collect(&self) -> Result<usize> {
        self.broker.collect(usize::MAX).map(|arrivals| arrivals.len())
    }

    /// Cancels what waits of a job; how many messages that were.
    ///
    /// # Errors
    /// As the broker's.
    pub fn cancel(&self, job: u64) -> Result<usize> {
        self.broker.withdraw(job, usize::MAX).map(|taken| taken.len())
    }

    /// How many messages wait.
    ///
    /// # Errors
    /// As the broker's.
    pub fn count(&self) -> Result<u64> {
        self.broker.waiting()
    }
}
