//! A producer and three consumers with a queue, which is joined; and what a queue says that is full, empty or shut down.

use par_sync::{Queue, scope};
use std::time::Duration;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = Queue::new(3);
    scope(|scope| {
        for consumer in 1..=3 {
            let queue = &queue;
            scope.spawn(move || {
                for item in queue {
                    println!("consumer {consumer} got item {item}");
                    queue.task_done().expect("one for each item");
                }
            });
        }
        (0..12).try_for_each(|item| queue.put(item))?;
        queue.join();
        println!("all items are done, {} unfinished", queue.unfinished());
        queue.shutdown();
        Ok::<(), par_sync::PutError<i32>>(())
    })?;

    let small = Queue::new(1);
    println!(
        "get: {}",
        small.try_get().map_err(|error| error.to_string()).unwrap_err()
    );
    small.put(1)?;
    println!(
        "put: {}",
        small.put_timeout(2, Duration::from_millis(10)).unwrap_err()
    );
    small.get_timeout(Duration::from_millis(10))?;
    println!(
        "get: {}",
        small.get_timeout(Duration::from_millis(10)).unwrap_err()
    );
    small.task_done()?;
    println!("task_done: {}", small.task_done().unwrap_err());
    small.shutdown();
    println!("put: {}", small.put(3).unwrap_err());
    Ok(())
}
