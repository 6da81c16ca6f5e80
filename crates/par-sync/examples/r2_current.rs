//! Threads and their names: two that are given, and a default one.

use par_sync::{Barrier, BarrierError, Thread};
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let all_started = Arc::new(Barrier::new(3)?);
    let threads = [Some("first"), Some("second"), None].map(|name| {
        let all_started = Arc::clone(&all_started);
        let thread = Thread::new(move || {
            println!("{} starting", Thread::current().name());
            all_started.wait()?;
            println!("{} exiting", Thread::current().name());
            Ok::<(), BarrierError>(())
        });
        match name {
            Some(name) => thread.name(name).start(),
            None => thread.start(),
        }
    });
    for thread in threads {
        thread?.join()??;
    }
    Ok(())
}
