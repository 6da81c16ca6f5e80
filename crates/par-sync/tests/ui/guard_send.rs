//! A lock is given back by the thread that took it.
use par_sync::Mutex;

static LOCK: Mutex<u32> = Mutex::new(0);

fn main() {
    let guard = LOCK.lock();
    std::thread::spawn(move || drop(guard));
}
