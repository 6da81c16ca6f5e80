//! A process with a name, and one with the default name.

use par_process::{Process, current_process, task};

#[task]
fn tell((): ()) {
    println!("this is {}", current_process().name());
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let named = Process::new::<tell>(()).name("foo_process").start()?;
    let default = Process::new::<tell>(()).start()?;
    named.join()?;
    default.join()?;
    Ok(())
}
