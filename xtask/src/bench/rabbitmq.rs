//! The cluster on a RabbitMQ of its own, which is started before and stopped after.

#[path = "../../../crates/par-dist/tests/support/rabbit.rs"]
#[allow(dead_code, reason = "tests of faults do more with a server")]
mod server;

use super::Bench;
use super::engines::RABBITMQ;
use super::measure::Measured;
use crate::Error;
use par_dist::{ClusterPool, Options};
use std::path::Path;

/// Measures on that many workers of this program.
///
/// # Errors
/// The server does not start, or the pool fails.
pub(super) fn measure(
    bench: &Bench<'_>,
    workers: usize,
    trace: Option<&Path>,
) -> Result<Vec<Measured>, Error> {
    let server = server::Rabbit::start()?;
    let options = Options {
        broker: Some(server.url().into()),
        ..Options::default()
    };
    // Declared after the server, so dropped before it.
    let pool = ClusterPool::builder().workers(workers).options(options).build()?;
    bench.on(&pool, RABBITMQ, trace)
}
