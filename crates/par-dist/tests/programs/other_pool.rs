//! A program with a pool of its own, for the tests: it says what it has, and ends with its standard input.
//!
//! `other_pool WORKERS [BROKER]`: without a broker, a temporary one. Without workers, it only submits.

use par_dist::{ChunkPlan, ClusterPool, Options, Plan};
use std::io::Read;
use std::time::Duration;

#[par_dist::task(name = "tests.square")]
fn square(x: u64) -> u64 {
    x * x
}

/// Long enough for the other worker to get one too.
#[par_dist::task(name = "tests.process")]
fn process(_x: u64) -> u32 {
    std::thread::sleep(Duration::from_millis(20));
    std::process::id()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let workers: usize = arguments
        .next()
        .ok_or("the number of workers is missing")?
        .parse()?;
    let options = Options {
        broker: arguments.next().map(Into::into),
        local_workers: workers > 0,
        ..Options::default()
    };
    let pool = ClusterPool::builder()
        .workers(workers.max(1))
        .options(options)
        .build()?;
    if workers == 0 {
        let waits: Vec<_> = (0..50)
            .map(|x| pool.submit::<square>(x))
            .collect::<Result<_, _>>()?;
        while pool.engine().waiting()? < waits.len() as u64 {
            std::thread::sleep(Duration::from_millis(5));
        }
        println!("submitted");
        std::io::stdin().read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    let single = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    let squares = single.map::<square>(0..500)?;
    if !squares.into_iter().eq((0..500).map(|x| x * x)) {
        return Err("the squares are wrong".into());
    }
    let mut pids = Vec::new();
    while pids.len() < workers {
        pids.extend(single.map::<process>(0..2 * workers as u64)?);
        pids.sort_unstable();
        pids.dedup();
    }
    println!(
        "{}",
        pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
    );
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
