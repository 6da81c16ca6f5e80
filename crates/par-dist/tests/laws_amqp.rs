//! The laws on the cluster engine over a real RabbitMQ, with workers that the pool starts itself.

#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;

use par_dist::{ClusterEngine, Options, Pool, par_core};
use rabbit::Rabbit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// One server for all of them; a queue each.
fn options() -> Options {
    static SERVER: OnceLock<Rabbit> = OnceLock::new();
    static QUEUES: AtomicU64 = AtomicU64::new(0);
    let server = SERVER.get_or_init(|| Rabbit::start().expect("a server"));
    let number = QUEUES.fetch_add(1, Ordering::Relaxed);
    Options {
        broker: Some(server.url().into()),
        queue: format!("laws {number}"),
        ..Options::default()
    }
}

par_core::conformance::stamp!(amqp, [1, 3], |setup| setup
    .builder::<ClusterEngine>()
    .options(options())
    .build()
    .map(Pool::into_any));
