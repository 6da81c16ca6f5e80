//! Squares of 0 to 99, by the serial program and by a pool of processes.

use par_process::{ChunkPlan, Plan, ProcessPool, task};

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
    let handles = (0..100)
        .map(|x| pool.submit::<square>(x))
        .collect::<Result<Vec<_>, _>>()?;
    line(
        "submit",
        handles
            .into_iter()
            .map(|handle| handle.wait())
            .collect::<Result<_, _>>()?,
    );
    Ok(())
}
