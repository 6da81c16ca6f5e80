//! Values of a type of one's own, each the work of a process.

use par_process::{Process, Run, current_process};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct MyProcess {
    number: u32,
}

impl Run for MyProcess {
    fn run(self) {
        println!("{} runs with {}", current_process().name(), self.number);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for number in 0..5 {
        Process::of(MyProcess { number }).start()?.join()?;
    }
    Ok(())
}
