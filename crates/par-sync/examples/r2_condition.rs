//! A buffer for ten items, and two conditions: not full, not empty.

use par_sync::{Condvar, Mutex, scope};

const ROOM: usize = 10;
const ITEMS: u32 = 20;

fn main() {
    let (buffer, not_full, not_empty) = (Mutex::new(Vec::new()), Condvar::new(), Condvar::new());
    scope(|scope| {
        scope.spawn(|| {
            for item in 0..ITEMS {
                let mut items = buffer.lock();
                not_full.wait_for(&mut items, |items| items.len() < ROOM);
                items.push(item);
                println!("produced, {} in the buffer", items.len());
                not_empty.notify_one();
            }
        });
        scope.spawn(|| {
            for _ in 0..ITEMS {
                let mut items = buffer.lock();
                not_empty.wait_for(&mut items, |items| !items.is_empty());
                items.pop();
                println!("consumed, {} in the buffer", items.len());
                not_full.notify_one();
            }
        });
    });
    println!("{} left", buffer.lock().len());
}
