//! The engine that tasks see on a worker: `par_core::current()` is a pool on the same broker.

use crate::NAME;
use crate::consumer::current_root;
use crate::node::Node;
use crate::share_key;
use par_core::engine::{Capabilities, Engine, Info, Refused, Room, Shutdown, ShutdownReport};
use par_core::job::{Claim, Job};
use par_core::observe::Observers;
use par_core::share::ShareId;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How long a waiting task sleeps before it looks again for what it can run itself.
const AGAIN: Duration = Duration::from_millis(20);

/// A worker's own pool. What its tasks submit is published for all workers of the queue.
pub(crate) struct Nested {
    me: Weak<Nested>,
    node: Arc<Node>,
}

impl Nested {
    pub(crate) fn new(node: Arc<Node>) -> Arc<Self> {
        Arc::new_cyclic(|me| Nested {
            me: Weak::clone(me),
            node,
        })
    }
}

impl Engine for Nested {
    fn info(&self) -> Info {
        let capabilities = Capabilities {
            processes: true,
            ..Capabilities::default()
        };
        Info {
            name: NAME,
            workers: self.node.workers().max(1),
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        self.node
            .client
            .submit(job, room, current_root(), par_core::worker_index().is_some())
    }

    fn cancel(&self, job: &Arc<Job>, _: bool) {
        // A broker that cannot be told keeps running what nobody will read.
        let _ = self.node.client.cancel(job);
    }

    fn run_inline(&self, claim: Claim) {
        self.node.client.ran_here(claim.range().len());
        claim.run();
    }

    fn assist(&self, job: &Job) -> bool {
        let Node {
            broker,
            client,
            consumer,
            ..
        } = &*self.node;
        let ahead = consumer
            .as_ref()
            .and_then(|consumer| consumer.take_ahead(broker.me(), job.id().0));
        let claim = match ahead {
            // Leased by this very worker, and not begun.
            Some(lease) => broker
                .reclaim(&[lease])
                .ok()
                .and_then(|()| client.reclaimed(lease.id)),
            None => client.take_back(job.id()),
        };
        match claim {
            Some(claim) => {
                self.run_inline(claim);
                true
            }
            None => false,
        }
    }

    fn look_again(&self) -> Option<Duration> {
        // What a wait needs may be on its way out or in when the wait looks, and then lie behind tasks that need what the
        // waiter holds, here or at another worker, who gives it back.
        Some(AGAIN)
    }

    fn blocking(&self, begins: bool) {
        if let Some(consumer) = &self.node.consumer {
            let me: Weak<dyn Engine> = Weak::clone(&self.me) as _;
            consumer.blocking(begins, &me);
        }
    }

    fn evict(&self, share: ShareId) {
        // The value goes with this worker at the latest.
        let _ = self.node.broker.evict(&share_key(share));
    }

    fn observers(&self) -> &Observers {
        &self.node.client.observers
    }

    /// A task cannot end the pool that it runs on.
    fn shutdown(&self, _: Shutdown, _: Option<Duration>) -> ShutdownReport {
        ShutdownReport {
            ran: self.node.client.ran(),
            ..ShutdownReport::default()
        }
    }
}
