//! A program around an app, for the tests: `BROKER=... par-dist-app-demo worker | call | result | purge | status`.

use par_dist::app::{App, cli};
use par_dist::task;
use std::process::ExitCode;
use std::time::Duration;

#[task(name = "demo.add")]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task(name = "demo.nap")]
fn nap(millis: u64) -> u64 {
    // This is the work.
    std::thread::sleep(Duration::from_millis(millis));
    millis
}

fn main() -> ExitCode {
    let broker = std::env::var("BROKER").unwrap_or_default();
    match App::builder("demo")
        .broker(&broker)
        .task::<add>()
        .task::<nap>()
        .build()
    {
        Ok(app) => cli(&app),
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}
