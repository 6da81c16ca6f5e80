//! `add.delay(5, 5)` and the same with options: 10 each time.

use par_dist::app::App;
use par_dist::task;
use std::time::Duration;

#[task(name = "proj.tasks.add")]
fn add(x: i64, y: i64) -> i64 {
    x + y
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = App::builder("proj").broker("memory:").task::<add>().build()?;
    let worker = app.worker().queues(["celery", "lopri"]).start()?;
    let patience = Duration::from_secs(60);
    println!("{}", app.delay::<add>((5, 5))?.get(patience)?);
    let call = app
        .call::<add>((5, 5))
        .queue("lopri")
        .countdown(Duration::from_millis(100));
    println!("{}", call.send()?.get(patience)?);
    worker.stop();
    Ok(())
}
