//! [`Event`]: a flag that processes wait for.
//!
//! 1. It is one word: the lowest bit is the flag, the others count how often it was raised.
//! 2. A waiter remembers the word that it found without the flag. It is done when the flag is up or the count is another:
//!    so also when the flag was taken down again before the waiter ran.
//! 3. Nobody has an event, so no death changes anything.

use super::PATROL;
use super::seam::{Until, Word};

const UP: u32 = 1;

/// The word in shared memory.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Flag {
    word: Word,
}

impl Flag {
    fn is_up(&self) -> bool {
        self.word.load() & UP == UP
    }

    fn raise(&self) {
        loop {
            let now = self.word.load();
            if now & UP == UP {
                return;
            }
            // From an even number to the odd one above: a raise more, and the flag.
            if self.word.exchange(now, now | UP) {
                return self.word.wake(u32::MAX);
            }
        }
    }

    fn lower(&self) {
        loop {
            let now = self.word.load();
            if now & UP == 0 || self.word.exchange(now, now.wrapping_add(1)) {
                return;
            }
        }
    }

    fn wait(&self, until: Until) -> bool {
        let seen = self.word.load();
        if seen & UP == UP {
            return true;
        }
        while self.word.load() == seen {
            if until.is_over() {
                return false;
            }
            self.word.sleep(seen, until.nap(PATROL * 600));
        }
        true
    }
}

#[cfg(not(loom))]
mod shared {
    use super::super::memory::Memory;
    use super::super::seam::Until;
    use super::Flag;
    use crate::shared::SharedError;
    use crate::shared::header::Spec;
    use crate::shared::segment::Segment;
    use crate::shared::token::{Handle, shared_handle};
    use std::fmt;
    use std::sync::Arc;
    use std::time::Duration;

    const KIND: &str = "Event";

    /// A flag that processes wait for. It survives everyone: nobody owns it.
    ///
    /// ```
    /// use par_process::{Process, sync::Event};
    ///
    /// let (go, gone) = (Event::new()?, Event::new()?);
    /// let child = Process::of_fn((go.clone(), gone.clone()), |(go, gone): (Event, Event)| {
    ///     go.wait();
    ///     gone.set();
    /// });
    /// let child = child.start()?;
    /// assert!(!gone.is_set());
    /// go.set();
    /// gone.wait();
    /// assert_eq!(child.join()?, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "multiprocessing.Event")]
    pub struct Event(Memory<Flag>);

    impl Event {
        /// An event whose flag is down.
        ///
        /// # Errors
        /// When the system has no memory or no file left.
        pub fn new() -> Result<Self, SharedError> {
            Memory::new(KIND, 0, |_| ()).map(Event)
        }

        /// Whether the flag is up.
        pub fn is_set(&self) -> bool {
            self.0.head().is_up()
        }

        /// Raises the flag, and wakes all who wait for it.
        pub fn set(&self) {
            self.0.head().raise();
        }

        /// Takes the flag down. Those who waited when it was up go on nevertheless.
        pub fn clear(&self) {
            self.0.head().lower();
        }

        /// Waits until the flag is up.
        pub fn wait(&self) {
            self.0.head().wait(Until::Forever);
        }

        /// Waits until the flag is up, at most for `timeout`; whether it was.
        #[must_use]
        pub fn wait_timeout(&self, timeout: Duration) -> bool {
            self.0.head().wait(Until::after(timeout))
        }
    }

    impl Handle for Event {
        fn expected() -> Spec {
            Memory::<Flag>::spec(KIND, 0)
        }
        fn segment(&self) -> &Arc<Segment> {
            self.0.segment()
        }
        fn of(segment: Arc<Segment>) -> Self {
            Event(Memory::of(segment))
        }
    }

    shared_handle!(Event);

    impl fmt::Debug for Event {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Event").field("is_set", &self.is_set()).finish()
        }
    }
}

#[cfg(not(loom))]
pub use shared::Event;

#[cfg(all(test, loom))]
mod models {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn no_raise_is_lost() {
        loom::model(|| {
            let flag = Arc::new(Flag::default());
            let waiters: Vec<_> = (0..2)
                .map(|_| {
                    let flag = flag.clone();
                    thread::spawn(move || assert!(flag.wait(Until::Forever)))
                })
                .collect();
            flag.raise();
            for waiter in waiters {
                waiter.join().expect("it is woken");
            }
        });
    }

    /// A waiter that sleeps when the flag goes up goes on, also if it is down again before the waiter runs.
    #[test]
    fn a_pulse_wakes_who_sleeps() {
        loom::model(|| {
            let flag = Arc::new(Flag::default());
            let other = flag.clone();
            let waiter = thread::spawn(move || {
                let seen = other.word.load();
                if seen & UP == 0 {
                    other.wait(Until::Forever);
                }
            });
            flag.raise();
            flag.lower();
            // For a waiter that came only now.
            flag.raise();
            waiter.join().expect("it is woken");
        });
    }
}
