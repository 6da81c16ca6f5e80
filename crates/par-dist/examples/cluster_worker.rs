//! A worker that is started by hand, and a submitter that finds it. In two terminals:
//!
//! ```text
//! cargo run -p par-dist --example cluster_worker -- work /var/tmp/jobs.db
//! cargo run -p par-dist --example cluster_worker -- submit /var/tmp/jobs.db
//! ```
//!
//! The same through RabbitMQ: with `--features amqp`, and `amqp://USER:PASSWORD@HOST:5672/%2f` in place of the file.

use par_dist::{ClusterPool, Options, Worker};

#[par_dist::task(name = "examples.square")]
fn square(x: u64) -> u64 {
    println!("process {} squares {x}", std::process::id());
    x * x
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work", broker] => Worker::new(broker).concurrency(2).run()?,
        ["submit", broker] => {
            let options = Options {
                broker: Some(broker.into()),
                local_workers: false,
                ..Options::default()
            };
            let pool = ClusterPool::builder().options(options).build()?;
            println!("{:?}", pool.map::<square>(0..10)?);
        }
        _ => println!("usage: cluster_worker work|submit BROKER"),
    }
    Ok(())
}
