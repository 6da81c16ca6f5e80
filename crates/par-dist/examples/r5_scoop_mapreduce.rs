//! SCOOP's map, map_as_completed and mapReduce beside the serial program: the sum of a * a for a < 1000.
//!
//! `cargo run -p par-dist --example r5_scoop_mapreduce`

use par_dist::ClusterPool;
use par_dist::Sum;

#[par_dist::task]
fn square(a: u64) -> u64 {
    a * a
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let serial: u64 = (0..1000).map(square).sum();
    println!("serial program:   {serial}");

    let pool = ClusterPool::new(2)?;
    // futures.map
    let total: u64 = pool.map::<square>(0..1000)?.into_iter().sum();
    println!("map:              {total}");
    // futures.map_as_completed
    let mut total = 0;
    for (_index, outcome) in pool.map_unordered::<square, _>(0..1000)? {
        total += outcome?;
    }
    println!("map_unordered:    {total}");
    // futures.mapReduce(square, operator.add, range(1000))
    let total: u64 = pool.map_reduce::<square, _>(0..1000, Sum)?;
    println!("map_reduce:       {total}");
    assert_eq!(total, serial);
    Ok(())
}
