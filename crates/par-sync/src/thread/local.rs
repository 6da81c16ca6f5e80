//! [`Local`]: a value a thread, that goes with the thread or with the object.
//!
//! 1. The values lie in the object, by the numbers of their threads. Whoever uses one has taken it out meanwhile.
//! 2. A thread remembers in which objects it has values, and takes them out when it ends.

use super::registry::Thread;
use parking_lot::Mutex;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Weak};

/// A value for each thread that uses it, made when it first does.
///
/// ```
/// use par_sync::{Local, Thread};
///
/// static NAME: Local<String> = Local::new(String::new);
/// NAME.with(|name| name.push_str("ann"));
/// let other = Thread::new(|| NAME.with(|name| name.clone())).start()?;
/// assert_eq!(other.join()?, "");
/// assert_eq!(NAME.with(|name| name.clone()), "ann");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[doc(alias = "local")]
pub struct Local<T: Send + 'static, F = fn() -> T> {
    init: F,
    values: std::sync::OnceLock<Arc<Values<T>>>,
}

/// The values by the numbers of threads; none where one is in use.
struct Values<T>(Mutex<HashMap<u64, Option<T>>>);

/// An object that may hold a value of a thread.
trait Holds: Send + Sync {
    fn leave(&self, thread: u64);
}

impl<T: Send> Holds for Values<T> {
    fn leave(&self, thread: u64) {
        // Dropped without the lock: it is the user's.
        let left = self.0.lock().remove(&thread);
        drop(left);
    }
}

/// The objects in which a thread has values (rule 2).
#[derive(Default)]
struct Places {
    thread: u64,
    known: HashSet<usize>,
    places: Vec<(usize, Weak<dyn Holds>)>,
}

impl Drop for Places {
    fn drop(&mut self) {
        for place in self.places.drain(..).filter_map(|(_, place)| place.upgrade()) {
            let thread = self.thread;
            if let Err(panic) = par_core::catch(|| place.leave(thread)) {
                eprintln!("par-sync: a thread's local value, when it was dropped: {panic}");
            }
        }
    }
}

thread_local! {
    static PLACES: RefCell<Places> = RefCell::default();
}

impl<T: Send + 'static, F: Fn() -> T> Local<T, F> {
    /// Values that `init` makes.
    pub const fn new(init: F) -> Self {
        Local {
            init,
            values: std::sync::OnceLock::new(),
        }
    }

    /// Calls `f` with the value of this thread.
    ///
    /// # Panics
    /// When `f` uses the same object again, as it has its value already. The panics of `f` pass; the value stays.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        let values = self.values.get_or_init(|| Arc::new(Values(Mutex::default())));
        let thread = Thread::current().ident();
        remember(thread, values);
        let taken = values.0.lock().insert(thread, None);
        let value = match taken {
            Some(Some(value)) => value,
            Some(None) => panic!("a Local is used within itself, by one thread"),
            None => {
                let making = Making { values, thread };
                let value = (self.init)();
                std::mem::forget(making);
                value
            }
        };
        let mut using = Using {
            values,
            thread,
            value: Some(value),
        };
        f(using
            .value
            .get_or_insert_with(|| unreachable!("it is put back when this is dropped")))
    }
}

/// Notes that a thread has a value there.
fn remember<T: Send + 'static>(thread: u64, values: &Arc<Values<T>>) {
    let at = Arc::as_ptr(values) as usize;
    // A thread that ends already leaves its value to the object.
    let _ = PLACES.try_with(|places| {
        let mut places = places.borrow_mut();
        places.thread = thread;
        if !places.known.insert(at) {
            return;
        }
        // Objects that are gone keep their memory, and so their address, until they are forgotten: now and then, at little cost.
        if places.places.len().is_power_of_two() {
            places.places.retain(|(_, place)| place.strong_count() > 0);
            places.known = places.places.iter().map(|(at, _)| *at).chain([at]).collect();
        }
        let place: Weak<Values<T>> = Arc::downgrade(values);
        places.places.push((at, place));
    });
}

/// A value that is made; dropped only when that panics.
struct Making<'a, T> {
    values: &'a Values<T>,
    thread: u64,
}

impl<T> Drop for Making<'_, T> {
    fn drop(&mut self) {
        self.values.0.lock().remove(&self.thread);
    }
}

/// A value in use.
struct Using<'a, T> {
    values: &'a Values<T>,
    thread: u64,
    value: Option<T>,
}

impl<T> Drop for Using<'_, T> {
    fn drop(&mut self) {
        self.values.0.lock().insert(self.thread, self.value.take());
    }
}

impl<T: Send + 'static, F> fmt::Debug for Local<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Local").finish_non_exhaustive()
    }
}
