//! The cluster engine: a pool whose workers find tasks by name through a broker.

use crate::broker::{self, BrokerUrl, Joining, Place, Role};
use crate::child;
use crate::local::Local;
use crate::node::{Node, Setup};
use crate::{NAME, Options, share_key};
use par_core::engine::{
    Capabilities, Common, Engine, Info, Kill, Launch, Refused, Room, Shutdown, ShutdownReport,
};
use par_core::job::Job;
use par_core::observe::Observers;
use par_core::share::ShareId;
use par_core::{StartError, TaskError, wire};
use parking_lot::Mutex;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How often it is looked whether something was given back meanwhile.
const LOOK: Duration = Duration::from_millis(50);
/// How long killed workers may take to be gone from the broker.
const BURIED: Duration = Duration::from_secs(5);

/// The engine of [`ClusterPool`](crate::ClusterPool).
pub struct ClusterEngine {
    node: Arc<Node>,
    /// None where all workers are started by hand.
    local: Option<Local>,
    own: usize,
    /// Taken by the shutdown.
    running: Mutex<Option<Running>>,
}

/// What a shutdown ends.
struct Running {
    thread: JoinHandle<()>,
    /// The folder of a temporary broker; removed when dropped.
    folder: Option<TempDir>,
}

impl Launch for ClusterEngine {
    type Options = Options;

    fn launch(common: Common, options: Options) -> Result<Arc<Self>, StartError> {
        options.check().map_err(start_error)?;
        let folder = match options.broker {
            Some(_) => None,
            None => Some(temporary()?),
        };
        let url = match (&options.broker, &folder) {
            (Some(url), _) => url.clone(),
            (None, Some(folder)) => BrokerUrl::from(folder.path().join("broker.db")),
            (None, None) => return Err(StartError::Unavailable("no place for the broker".to_owned())),
        };
        let place = Place {
            url: url.clone(),
            temporary: folder.is_some(),
            limit: options.max_bytes,
            outage: options.outage,
        };
        let initializer = common
            .initializer
            .as_ref()
            .map(wire::to_bytes)
            .transpose()
            .map_err(|error| StartError::Option {
                option: "initializer",
                reason: error.to_string(),
            })?;
        let joining = Joining {
            role: Role::Pool,
            queue: options.queue.clone(),
            lease: options.lease,
            initializer,
            leases: 0,
        };
        let broker = broker::join(&place, joining).map_err(start_error)?;
        let own = if options.local_workers { common.workers } else { 0 };
        let setup = Setup {
            queue: options.queue.clone(),
            lease: options.lease,
            bound: common.queue,
            published: options.published,
            own,
        };
        let node = Node::new(broker, None, setup);
        let thread = node.start().map_err(|source| StartError::Io {
            what: "cannot start the thread of the broker".to_owned(),
            source,
        })?;
        let setup = child::Setup {
            broker: url,
            temporary: folder.as_ref().map(|folder| folder.path().to_owned()),
            limit: options.max_bytes,
            outage: options.outage,
            queue: options.queue,
            prefetch: options.prefetch,
            lease: options.lease,
            index: 0,
            pool: node.broker.me().0,
            initializer: common.initializer,
        };
        let running = Running { thread, folder };
        let local = match (own > 0)
            .then(|| Local::start(&node, own, common.restarts, setup))
            .transpose()
        {
            Ok(local) => local,
            Err(error) => {
                running.end(&node);
                return Err(error);
            }
        };
        Ok(Arc::new(ClusterEngine {
            node,
            local,
            own,
            running: Mutex::new(Some(running)),
        }))
    }
}

fn temporary() -> Result<TempDir, StartError> {
    tempfile::Builder::new()
        .prefix("par-dist-")
        .tempdir()
        .map_err(|source| StartError::Io {
            what: "cannot make a folder for the broker".to_owned(),
            source,
        })
}

fn start_error(error: crate::BrokerError) -> StartError {
    match error {
        crate::BrokerError::Option { option, reason } => StartError::Option { option, reason },
        other => StartError::Unavailable(other.to_string()),
    }
}

impl Running {
    fn end(self, node: &Arc<Node>) {
        node.stop();
        // A panic there has been printed by its hook.
        let _ = self.thread.join();
        // A broker that cannot be told notices by the lock that this peer left.
        let _ = node.broker.leave();
        drop(self.folder);
    }
}

impl ClusterEngine {
    /// How many tasks the workers of this queue run at a time that this pool did not start itself, as of the last look at the
    /// broker.
    pub fn workers_by_hand(&self) -> usize {
        self.node.workers()
    }

    /// How many messages wait in the queue, of all pools, that no worker has leased. What a pool holds back
    /// ([`Options::published`](crate::Options::published)) does not count. Costs the same however many there are.
    ///
    /// # Errors
    /// What the broker failed with.
    #[doc(alias = "queue length")]
    pub fn waiting(&self) -> Result<u64, crate::BrokerError> {
        self.node.broker.waiting()
    }

    /// Cancels everything; the number of parts that nobody had begun or leased.
    fn cancel_all(&self) -> u64 {
        let client = &self.node.client;
        let mut parts = client.fail_waiting(&TaskError::Cancelled);
        for job in client.jobs_out() {
            job.cancel();
            // What cannot be taken back ends with the workers, or at the deadline.
            parts += client.cancel(&job).map_or(0, |(taken, _)| taken);
        }
        parts
    }
}

impl Engine for ClusterEngine {
    fn info(&self) -> Info {
        let capabilities = Capabilities {
            processes: true,
            kill: self.local.is_some(),
            ..Capabilities::default()
        };
        let workers = (self.own + self.node.workers()).max(1);
        Info {
            name: NAME,
            workers,
            capabilities,
        }
    }

    fn submit(&self, job: Arc<Job>, room: Room) -> Result<(), Refused> {
        self.node.client.submit(job, room, None, false)
    }

    fn cancel(&self, job: &Arc<Job>, kill: bool) {
        // A broker that cannot be told keeps running what nobody will read.
        let held = self.node.client.cancel(job).is_ok_and(|(_, held)| held);
        if let (true, true, Some(local)) = (kill, held, &self.local) {
            local.kill_job(job.id().0);
        }
    }

    fn evict(&self, share: ShareId) {
        // If that fails, the value goes with the pool.
        let _ = self.node.broker.evict(&share_key(share));
    }

    fn observers(&self) -> &Observers {
        &self.node.client.observers
    }

    fn shutdown(&self, how: Shutdown, deadline: Option<Duration>) -> ShutdownReport {
        let client = &self.node.client;
        let until = deadline.map(|deadline| Instant::now() + deadline);
        client.refuse(Refused::Closed);
        let mut running = self.running.lock();
        let Some(running) = running.take() else {
            return ShutdownReport {
                ran: client.ran(),
                ..ShutdownReport::default()
            };
        };
        let (lost_before, there_before) = (client.lost(), client.cancelled_there());
        let mut cancelled = 0;
        if how != Shutdown::Drain {
            cancelled += self.cancel_all();
        }
        let mut idle = how != Shutdown::Kill && client.wait_idle(until);
        let mut lost = 0;
        let mut detached = 0;
        if !idle {
            cancelled += self.cancel_all();
            if let Some(local) = &self.local {
                local.kill_all();
                // What they ran comes back as lost; what one gave back before it died has to be taken back.
                let end = Instant::now() + BURIED;
                while !idle && Instant::now() < end {
                    idle = client.wait_idle(Some(end.min(Instant::now() + LOOK)));
                    if !idle {
                        cancelled += self.cancel_all();
                    }
                }
            }
        }
        if !idle {
            // Workers that were started by hand, and go on.
            let holders = client
                .jobs_out()
                .into_iter()
                .flat_map(|job| self.node.broker.holders(job.id().0));
            let mut busy: Vec<_> = holders
                .flatten()
                .filter(|(_, begun)| *begun)
                .map(|(peer, _)| peer)
                .collect();
            // What the dead had begun could not be told any more.
            if let Ok(peers) = self.node.broker.peers() {
                busy.retain(|busy| peers.iter().any(|peer| peer.id == *busy));
            }
            busy.sort_unstable();
            busy.dedup();
            detached = busy.len();
            lost += client.give_up(|claim| TaskError::Lost {
                attempts: claim.attempts(),
                maybe_ran: true,
                reason: "its pool was shut down while a worker had it".to_owned(),
            });
        }
        if let Some(local) = &self.local {
            local.stop(until);
        }
        running.end(&self.node);
        lost += client.lost() - lost_before;
        cancelled += client.cancelled_there() - there_before;
        ShutdownReport {
            ran: client.ran(),
            cancelled,
            lost,
            detached,
        }
    }
}

impl Kill for ClusterEngine {}

impl Drop for ClusterEngine {
    fn drop(&mut self) {
        // Only where no pool was made of it: pools shut their engine down.
        self.shutdown(Shutdown::Kill, None);
    }
}
