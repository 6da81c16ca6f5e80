//! Guards of one value on one thread only; so the value may be a `Cell`, but not an `Rc`.
use par_sync::ReentrantMutex;
use std::rc::Rc;

fn main() {
    let mutex = ReentrantMutex::new(Rc::new(1));
    std::thread::scope(|scope| {
        scope.spawn(|| drop(mutex.lock().clone()));
    });
}
