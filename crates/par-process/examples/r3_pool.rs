//! Squares of 0 to 99, by the serial program and by a pool of processes.

use par_process::{ChunkPlan, Plan, ProcessPool, task};
use std::sync::mpsc::channel;

#[task]
fn square(x: u64) -> u64 {
    x * x
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = ProcessPool::new(4)?;
    let line = |name: &str, squares: Vec<u64>| {
        let squares: Vec<String> = squares.iter().map(u64::to_string).collect();
        println!("{name}: {}", squares.join(" "));
    };
    line("map", pool.map::<square>(0..100)?);
    // As large pieces, which is what `chunksize` is for.
    let large = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(25)));
    line("large chunks", large.map::<square>(0..100)?);
    // One task: waited for, or told to a callback.
    println!("apply: {}", pool.submit::<square>(9)?.wait()?);
    let (tell, told) = channel();
    let tell_one = tell.clone();
    pool.submit::<square>(9)?.then(move |outcome| {
        // Nobody listens where this program has ended with an error.
        let _ = tell_one.send(
            outcome
                .map(|square| vec![square])
                .map_err(|error| error.to_string()),
        );
    });
    let squares = told.recv()??;
    println!("apply_async: {}", squares[0]);
    // A map that runs meanwhile, and ends in a callback.
    pool.submit_map::<square>(0..100)?.then(move |outcome| {
        let _ = tell.send(outcome.map_err(|error| error.to_string()));
    });
    line("map_async", told.recv()??);
    let squares = pool.map_ordered::<square, _>(0..100)?.map(|(_, outcome)| outcome);
    line("imap", squares.collect::<Result<_, _>>()?);
    Ok(())
}
