//! An event for each direction: a signal alone would be lost if it came twice before anybody looked.

use par_sync::{Event, Mutex, scope};

fn main() {
    let (filled, emptied, slot) = (Event::new(), Event::new(), Mutex::new(None));
    emptied.set();
    scope(|scope| {
        scope.spawn(|| {
            for item in 0..10 {
                emptied.wait();
                emptied.clear();
                *slot.lock() = Some(item);
                filled.set();
            }
        });
        scope.spawn(|| {
            for _ in 0..10 {
                filled.wait();
                filled.clear();
                if let Some(item) = slot.lock().take() {
                    println!("consumed {item}");
                }
                emptied.set();
            }
        });
    });
}
