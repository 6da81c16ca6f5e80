//! The life of a process that is terminated.

use par_process::{Process, task};
use std::time::Duration;

#[task]
fn sleep(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sleeper = Process::new::<sleep>(60);
    println!("before: false"); // there is no process before start
    let sleeper = sleeper.start()?;
    println!("running: {}", sleeper.is_alive());
    sleeper.terminate()?;
    sleeper.join()?;
    println!("joined: {}", sleeper.is_alive());
    println!("exit code: {}", sleeper.exit_code().ok_or("no exit code")?);
    Ok(())
}
