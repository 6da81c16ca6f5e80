//! A producer and two consumers on a shared queue; then the same items as tasks that are waited for.

use par_process::{JoinableQueue, Process, Queue};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let queue = Queue::new(10)?;
    let producer = Process::of_fn(queue.clone(), |queue: Queue<u32>| {
        for item in 0..10 {
            queue.put(item).expect("open");
        }
    })
    .start()?;
    assert_eq!(producer.join()?, 0);
    println!(
        "size {}, full {}, empty {}",
        queue.len(),
        queue.is_full(),
        queue.is_empty()
    );
    let consume = |(queue, name): (Queue<u32>, String)| {
        while let Ok(item) = queue.get() {
            println!("{name} got {item}");
        }
    };
    let consumers =
        ["first", "second"].map(|name| Process::of_fn((queue.clone(), name.to_owned()), consume).start());
    // What is in it is still consumed.
    queue.close();
    for consumer in consumers {
        assert_eq!(consumer?.join()?, 0);
    }
    println!("size {}, empty {}", queue.len(), queue.is_empty());

    let tasks = JoinableQueue::new(3)?;
    let worker = Process::of_fn(tasks.clone(), |tasks: JoinableQueue<u32>| {
        while let Ok(task) = tasks.get() {
            println!("task {task} is done");
            tasks.task_done().expect("one a get");
        }
    })
    .start()?;
    for task in 0..10 {
        tasks.put(task)?;
    }
    tasks.join()?;
    println!("all tasks are done");
    tasks.close();
    assert_eq!(worker.join()?, 0);
    Ok(())
}
