//! Numbers through two pipes: from here to a process that squares them, and back, until both ends of file.

use par_process::{Pipe, Process, Receiver, Sender};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (numbers, to_squares) = Pipe::one_way()?;
    let (squares, from_squares) = Pipe::one_way()?;
    let squarer = Process::of_fn(
        (numbers, from_squares),
        |(numbers, squares): (Receiver, Sender)| {
            while let Ok(x) = numbers.recv::<u64>() {
                squares.send(x * x).expect("somebody wants them");
            }
        },
    )
    .start()?;
    for x in 0..10u64 {
        to_squares.send(x)?;
    }
    // The squarer has the last end that sends squares; this was the last that sends numbers.
    drop(to_squares);
    while let Ok(square) = squares.recv::<u64>() {
        println!("{square}");
    }
    println!("End");
    assert_eq!(squarer.join()?, 0);
    Ok(())
}
