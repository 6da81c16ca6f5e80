//! A worker program for the tests: linked with tasks of its own, which share names with the submitter's and nothing else.
//!
//! `other_worker BROKER [CONCURRENCY]`

use std::time::Duration;

/// The same name and signature as the submitter's, another function in another program.
#[par_dist::task(name = "tests.square")]
fn quadrat(x: u64) -> u64 {
    x * x
}

/// The submitter has a u64 there.
#[par_dist::task(name = "tests.label")]
fn label(text: String, count: u32) -> String {
    text.repeat(count as usize)
}

#[par_dist::task(name = "tests.process")]
fn process(_x: u64) -> u32 {
    std::process::id()
}

#[par_dist::task(name = "tests.nap")]
fn nap(ms: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(ms.min(50)));
    std::process::id()
}

/// Runs until it is killed, or its token is up.
#[par_dist::task(name = "tests.endless")]
fn endless(mark: String) -> Result<(), par_dist::TaskError> {
    std::fs::write(&mark, std::process::id().to_string()).map_err(par_dist::TaskError::failed)?;
    loop {
        std::thread::sleep(Duration::from_millis(1));
        par_dist::check_cancelled()?;
    }
}

#[par_dist::task(name = "tests.only_on_the_worker")]
fn only_here() {}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let broker = arguments.next().ok_or("the file of the broker is missing")?;
    let concurrency = arguments.next().map_or(Ok(1), |text| text.parse())?;
    par_dist::Worker::new(broker)
        .concurrency(concurrency)
        .lease(Duration::from_secs(5))
        .run()?;
    Ok(())
}
