//! Calls a program and waits for it; then becomes another program, so that its own last line never runs.

use std::process::Command;
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut called = Command::new("echo");
    called.arg("called");
    let output = par_process::run(called, Some(Duration::from_secs(60)))?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    println!("the program that was called ended with {}", output.status);

    let mut next = Command::new("echo");
    next.arg("this process is now another program");
    let error = par_process::exec(next);
    println!("this line never runs: {error}");
    Err(error.into())
}
