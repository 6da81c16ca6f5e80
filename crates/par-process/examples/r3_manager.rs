//! Ten processes write into a dictionary that a manager owns: each the key i, with the value 2i.

use par_process::Process;
use par_process::manager::{Dict, Manager};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manager = Manager::start()?;
    let dict = manager.dict::<u32, u32>()?;
    let children: Vec<Process> = (0..10)
        .map(|i| {
            let write = |(dict, i): (Dict<u32, u32>, u32)| {
                dict.insert(&i, &(2 * i)).expect("the manager lives");
            };
            Process::of_fn((dict.clone(), i), write).start()
        })
        .collect::<Result<_, _>>()?;
    for child in &children {
        assert_eq!(child.join()?, 0);
    }
    let mut items = dict.items()?;
    items.sort_unstable();
    let items: Vec<String> = items
        .iter()
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    println!("{{{}}}", items.join(", "));
    Ok(())
}
