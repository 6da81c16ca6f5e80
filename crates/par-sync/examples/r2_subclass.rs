//! A type of one's own, with state and a run method, as a thread.

use par_sync::{Run, Thread};
use std::time::Duration;

struct Ticker {
    name: &'static str,
    pause: Duration,
}

impl Run for Ticker {
    type Output = ();

    fn run(self) {
        println!("{} starts", self.name);
        for tick in 1..=5 {
            std::thread::sleep(self.pause);
            println!("{} tick {tick}", self.name);
        }
        println!("{} exits", self.name);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let quick = Ticker {
        name: "quick",
        pause: Duration::from_millis(5),
    };
    let slow = Ticker {
        name: "slow",
        pause: Duration::from_millis(10),
    };
    let threads = [Thread::of(quick).start()?, Thread::of(slow).start()?];
    for thread in threads {
        thread.join()?;
    }
    Ok(())
}
