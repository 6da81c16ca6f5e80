//! A lock that its owner takes again: methods that call each other, each with the lock.

use par_sync::{ReentrantMutex, scope};
use std::cell::Cell;

#[derive(Default)]
struct Box {
    items: ReentrantMutex<Cell<i32>>,
}

impl Box {
    fn change(&self, by: i32) {
        let items = self.items.lock();
        items.set(items.get() + by);
    }

    fn add(&self) {
        let items = self.items.lock();
        self.change(1); // which takes the lock again
        println!("1 item added, depth {}", self.items.depth());
        drop(items);
    }

    fn remove(&self) {
        let _items = self.items.lock();
        self.change(-1);
        println!("1 item removed, depth {}", self.items.depth());
    }
}

fn main() {
    let items = Box::default();
    scope(|scope| {
        scope.spawn(|| (0..5).for_each(|_| items.add()));
        scope.spawn(|| (0..5).for_each(|_| items.remove()));
    });
    println!("{} items left", items.items.lock().get());
}
