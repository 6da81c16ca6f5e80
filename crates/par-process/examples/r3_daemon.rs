//! A daemon ends with its parent, which waits for the other process; and it may have no children.

use par_process::{Process, current_process, task};
use std::time::Duration;

#[task]
fn work(rest: u64) {
    let name = current_process().name();
    println!("{name} begins");
    if current_process().is_daemon() {
        let child = Process::new::<work>(0).start();
        println!("{name} starts a process: {}", child.is_ok());
    }
    std::thread::sleep(Duration::from_millis(rest));
    println!("{name} ends");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let background = Process::new::<work>(60_000)
        .name("background")
        .daemon(true)
        .start()?;
    // It has a second to say its lines.
    background.join_timeout(Duration::from_secs(1))?;
    Process::new::<work>(100)
        .name("foreground")
        .daemon(false)
        .start()?;
    println!("main ends");
    Ok(())
}
