//! Tasks for many processes that meet at a broker: [`ClusterPool`] finds tasks by name, so that worker and submitter may be
//! different programs. The broker is embedded: one SQLite file, durable, without a server, for the processes of one machine. Or it
//! is a RabbitMQ or a Redis server (features `amqp` and `redis`), for processes on many; see [Brokers](#brokers).
//!
//! ```
//! use par_dist::{ClusterPool, SerialPool, Sum, task};
//!
//! #[task]
//! fn square(x: u64) -> u64 { x * x }
//!
//! let pool = ClusterPool::new(2)?; // two worker processes of this program, on a temporary broker
//! assert_eq!(pool.submit::<square>(12)?.wait()?, 144);
//! let sum = pool.map_reduce::<square, _>(0..1_000, Sum)?;
//! // The same task, the same calls and the same bits on every engine.
//! assert_eq!(sum, SerialPool::new(1)?.map_reduce::<square, _>(0..1_000, Sum)?);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The whole trait layer is re-exported here ([`Pool`], [`Handle`], [`Plan`], the reductions, ...): this crate is the only dependency
//! that its users need. Its modules are under [`par_core`].
//!
//! # Workers started by hand
//!
//! A pool starts its workers itself unless [`Options::local_workers`] says no; others may come and go at any time, from any program
//! that links tasks of the same names and signatures. Such a program is a `main` with one call:
//!
//! ```no_run
//! #[par_dist::task(name = "mail.send")]
//! fn send(to: String, text: String) -> Result<u64, String> {
//!     // ...
//! #   let _ = (to, text);
//!     Ok(1)
//! }
//!
//! fn main() -> Result<(), par_dist::WorkerError> {
//!     // Prints for whom it works and what it knows, then works until the process ends.
//!     par_dist::Worker::new("/var/tmp/jobs.db").concurrency(4).queue("mail").run()
//! }
//! ```
//!
//! The submitter declares a function of the same name and signature, whatever its body does, and opens the same broker:
//!
//! ```no_run,standalone_crate
//! # use par_dist::{ClusterPool, Options};
//! # #[par_dist::task(name = "mail.send")]
//! # fn send(to: String, text: String) -> Result<u64, String> { let _ = (to, text); Ok(1) }
//! let options = Options {
//!     broker: Some("/var/tmp/jobs.db".into()),
//!     queue: "mail".to_owned(),
//!     local_workers: false,
//!     ..Options::default()
//! };
//! let pool = ClusterPool::builder().options(options).build()?;
//! let sent = pool.submit::<send>(("ann@example.org".to_owned(), "hello".to_owned()))?.wait()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Pools and workers find each other by broker and queue, and any worker of a queue may get any message of it. So all workers of one queue
//! should know the same tasks; a worker that does not know a name, or knows it with another signature, ends the task with an
//! error that says what it knows. Give programs that share a broker but no tasks a queue each. What a worker's tasks submit
//! themselves ([`current`]) goes to the queue of that worker.
//!
//! # What is promised
//!
//! - A task ends once, with a value or a [`TaskError`]. It is begun at most once, unless it is declared `#[task(idempotent)]`: then it
//!   is begun again after its worker died, up to [`Plan::attempts`] times.
//! - The death of a worker, by SIGKILL too, loses only what it had begun and not ended ([`TaskError::Lost`], which says how the worker
//!   died). What it had fetched and not begun goes to others; outcomes that it had not yet handed over are found and delivered.
//! - Messages live as long as their pool. A worker may come and go; when a pool ends, in peace or killed, what it had published
//!   is dropped, for nobody is left who would read the replies. No worker process outlives the pool that started it, and the last
//!   of them removes the temporary broker of a killed pool.
//! - Killed processes damage nothing in the file. A power cut may lose the last moments; the file stays whole.
//!
//! # Brokers
//!
//! Which one it is, is chosen at run time, by [`Options::broker`] and [`Worker::new`]: a path, or a [URL](BrokerUrl) such as
//! `amqp://127.0.0.1:5672/%2f` or `redis://127.0.0.1:6379/0`. What is promised above holds on each, and the laws of the trait layer are
//! tested on each. A program that uses a server asks for the feature (`par-dist = { ..., features = ["amqp"] }`); nothing else in it is different:
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use par_dist::{ClusterPool, Options, Worker};
//! let url = "amqp://ann:secret@mail.example.org:5672/%2f";
//! // In the worker's program, for as long as it lives:
//! Worker::new(url).queue("mail").run()?;
//! // In the submitter's:
//! let pool = ClusterPool::builder()
//!     .options(Options { broker: Some(url.into()), queue: "mail".to_owned(), local_workers: false, ..Options::default() })
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! | | file (SQLite) | RabbitMQ (feature `amqp`, with TLS `amqp-tls`) | Redis (feature `redis`, with TLS `redis-tls`) |
//! |---|---|---|---|
//! | workers | on the machine of the file | on any machine | on any machine |
//! | who says what may run | the file: a lease is a transaction | the pool: the server carries offers, and each is granted to one worker, once | the server: a lease is a script |
//! | where begun work is marked | in files beside it | in files on the worker's machine, under the folder for temporary files | on the server |
//! | a worker dies | seen at once, by the kernel's lock | the same on the pool's machine; elsewhere by its heartbeat | at once on the machine of another peer; elsewhere by its heartbeat |
//! | what it had fetched and not begun | is run by others | the same on the pool's machine; elsewhere what it was granted counts as begun | is run by others |
//! | the broker goes away | does not happen | all connect again by themselves, with at most a second between tries, for [`Options::outage`] | the same |
//! | killed in the middle | the file stays whole | nothing is lost; tasks that are not idempotent still begin once | the same, if it writes each step to its disk (`appendonly yes`, `appendfsync always`); if not, its pools end with an error |
//! | largest message | 900 MiB | 15 MiB, [more](BrokerUrl) if the server is configured to | 256 MiB |
//! | bound | [`Options::max_bytes`] | what the server allows (memory, disk, policies); what it refuses is offered again, for [`Options::outage`] | `maxmemory`; what has no room is refused |
//! | left by a killed pool | nothing | queues that others delete, or that expire after 10 minutes | what others remove |
//!
//! With RabbitMQ a server that was killed or restarted may deliver a message again, and cannot say whether it was run. So every worker
//! asks the pool before it runs anything, for as many messages at a time as it has fetched, and a message that comes twice is
//! denied. Messages are persistent, publishes are confirmed, deliveries are acknowledged when they have ended, many at a time; what was
//! confirmed and not answered is written again as well, because a server that shuts down confirms what it has not stored.
//! Durable is the queue, not the promise: it ends with its pool, in whose memory the handles are.
//!
//! Names of queues begin with a prefix, `par` unless the URL has another one (`?prefix=jobs`). Queues are `PREFIX.work.QUEUE` and
//! `PREFIX.peer.NUMBER`, the exchange of heartbeats is `PREFIX.peers`. Keys on Redis begin with the prefix in braces.
//!
//! On Redis two steps of the server go with each message, one before it is run and one after, each with a write to the disk if the server is to
//! lose nothing; many at a time share only what is published, leased and read. It suits tasks of some milliseconds, on any number of machines. A
//! replica that takes over from its master may lack the master's last moments, and what had begun in them.
//!
//! # Limits
//!
//! - **Leases.** Every process shows a heartbeat. A process that ends is noticed at once, by a lock that the kernel drops. One that stands
//!   still (stopped, swapped out) for longer than its [`lease`](Options::lease), 30 s by default, is taken for dead: what it had begun is lost
//!   or begun again, and when it goes on it begins nothing more and ends. How long a *task* takes does not matter.
//! - **Sizes.** In a file, the input of a message may have up to 900 MiB, a reply up to 10^9 bytes; both up to 15 MiB on RabbitMQ, or what the URL says, and 256 MiB on Redis.
//!   Both pass through memory and through the broker once, so share what is large and used often ([`Pool::share`]). [`Options::max_bytes`] bounds the file.
//! - **Room.** What has no room, in the file or on its disk, is refused with an error that says so
//!   ([`TaskError::Rejected`]). What was published waits for room as long as a lease; then the pool is broken, and every wait says why.
//! - **One machine.** The file has to be on a local disk: SQLite's shared memory and the locks do not work across machines.
//! - **Trust.** File and folder are private to their user. Who can write to them, or to the virtual host of a server, can make the workers
//!   run any task that is linked into them, and no other code.
//!
//! # If you know Celery or SCOOP
//!
//! | Celery | here |
//! |---|---|
//! | `@app.task`, `name=` | [`#[task]`](task), `name = "..."` |
//! | `acks_late`, `reject_on_worker_lost` | `#[task(idempotent)]`, [`Plan::attempts`] |
//! | `broker_url` | [`Options::broker`], [`BrokerUrl`] |
//! | `broker_connection_max_retries` | [`Options::outage`] |
//! | `celery worker -c 4 -Q mail` | [`Worker`] in a program of your own |
//! | `worker_prefetch_multiplier` | [`Options::prefetch`], [`Worker::prefetch`] |
//! | `visibility_timeout` | [`Options::lease`], for processes and not for tasks |
//! | `delay`, `apply_async` | [`Pool::submit`] |
//! | `AsyncResult.get`, `get(timeout=)` | [`Handle::wait`], [`Handle::wait_timeout`], or `.await` |
//! | `revoke`, `revoke(terminate=True)` | [`Handle::cancel`], [`Handle::kill`] (local workers) |
//! | `time_limit` | [`Plan::timeout`] |
//! | `group`, `chunks` | [`Pool::map`] with a [`ChunkPlan`] |
//! | `chord` | [`Pool::map_reduce`] |
//! | `worker_process_init` | [`Builder::initializer`] |
//! | events | [`Pool::observer`] |
//! | length of a queue | [`ClusterEngine::waiting`] |
//!
//! | SCOOP | here |
//! |---|---|
//! | `python -m scoop -n 4` | [`ClusterPool::new(4)`](Pool::new) |
//! | `futures.submit` | [`Pool::submit`], inside of tasks on [`current()`](current) |
//! | `futures.map` | [`Pool::map`] |
//! | `futures.map_as_completed` | [`Pool::map_unordered`] |
//! | `futures.mapReduce`, `mapScan` | [`Pool::map_reduce`], [`Pool::scan`] |
//! | `futures.wait`, `as_completed` | [`wait_all`], [`wait_any`], [`as_completed`] |
//! | `shared.setConst` | [`Pool::share`] |
#![forbid(unsafe_code)]

pub mod app;
mod broker;
mod child;
mod client;
mod cluster;
mod consumer;
mod local;
mod nested;
mod node;
mod options;
mod private_file;
#[doc(hidden)]
pub mod probe;
mod process;
#[cfg(feature = "redis")]
mod redis_server;
mod worker;

pub use broker::{BrokerError, BrokerUrl};
pub use cluster::ClusterEngine;
pub use options::Options;
pub use worker::{RunningWorker, Worker, WorkerError};

pub use par_core;
// The whole trait layer: who depends on this crate alone needs no other. What is named here as well is this crate's.
pub use par_core::*;

/// A pool whose workers find tasks by name through a broker.
#[doc(alias = "Celery")]
#[doc(alias = "SCOOP")]
pub type ClusterPool = Pool<ClusterEngine>;

/// The name of the engine.
const NAME: &str = "cluster";

/// The key of a shared value in a broker.
fn share_key(share: par_core::ShareId) -> Vec<u8> {
    // Numbers always encode; an empty key names no value.
    par_core::wire::to_bytes(&share).unwrap_or_default()
}
