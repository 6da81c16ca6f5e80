//! A re-entrant guard is no way to change the value: another guard may see it.
use par_sync::ReentrantMutex;

fn main() {
    let mutex = ReentrantMutex::new(1);
    *mutex.lock() = 2;
}
