//! Five child processes of one task, each with its argument.

use par_process::{Process, task};

#[task]
fn called(index: u32) {
    println!("called function in process: {index}");
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut children = Vec::new();
    for index in 0..5 {
        children.push(Process::new::<called>(index).start()?);
    }
    for child in children {
        child.join()?;
    }
    Ok(())
}
