//! Named points at which the tests of this crate end or stop a process; elsewhere they are nothing.

/// Marks a point.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn reach(_point: &str) {}

#[cfg(test)]
pub(crate) use armed::{arm, reach};

#[cfg(test)]
mod armed {
    use parking_lot::Mutex;
    use rustix::process::{Signal, getpid, kill_process};

    /// The point at which this process gets a signal, and how often it may pass before.
    static ARMED: Mutex<Option<(String, u32, Signal)>> = Mutex::new(None);

    /// Has this process signal itself when it reaches a point for the time after `passes`. Once.
    pub(crate) fn arm(point: &str, passes: u32, signal: Signal) {
        *ARMED.lock() = Some((point.to_owned(), passes, signal));
    }

    pub(crate) fn reach(point: &str) {
        let mut armed = ARMED.lock();
        let signal = match &mut *armed {
            Some((name, 0, signal)) if name == point => *signal,
            Some((name, passes, _)) if name == point => {
                *passes -= 1;
                return;
            }
            _ => return,
        };
        *armed = None;
        drop(armed);
        kill_process(getpid(), signal).expect("a process may signal itself");
    }
}
