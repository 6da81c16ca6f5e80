//! The start-up banner of a worker: app, broker, results, concurrency, queues and tasks.

use par_dist::app::App;
use par_dist::task;

#[task(name = "proj.tasks.add")]
fn add(x: i64, y: i64) -> i64 {
    x + y
}

#[task(name = "proj.tasks.mul")]
fn mul(x: i64, y: i64) -> i64 {
    x * y
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::builder("proj")
        .broker("memory:")
        .task::<add>()
        .task::<mul>()
        .build()?;
    let worker = app.worker().concurrency(4).queues(["celery"]);
    println!("{}", worker.banner());
    let worker = worker.start()?;
    println!("proj ready.");
    worker.stop();
    Ok(())
}
