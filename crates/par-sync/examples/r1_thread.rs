//! A thread that prints ten times while `main` goes on; `main` waits for it at its end only.

use par_sync::{Event, Thread, wait_at_exit};
use std::sync::Arc;

fn main() -> std::io::Result<()> {
    let _threads = wait_at_exit();
    let said = Arc::new(Event::new());
    let wait = Arc::clone(&said);
    Thread::new(move || {
        // So that the order of the lines does not depend on luck.
        wait.wait();
        for _ in 0..10 {
            println!("Hello from {}", Thread::current().name());
        }
    })
    .start()?;
    println!("Hello from the main thread, which has nothing more to say");
    said.set();
    Ok(())
}
