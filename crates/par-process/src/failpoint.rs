//! Named points at which the tests of this crate have something happen to a process; elsewhere they are nothing.
//!
//! A point is called after what comes to it: `worker.begun`, `queue.put.locked`, `manager.call.read`, `semaphore.taken`.

/// This process has come to a point.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn reach(_point: &str) {}

#[cfg(test)]
pub(crate) use armed::{How, arm, reach};

#[cfg(test)]
mod armed {
    use parking_lot::Mutex;
    use rustix::process::{Signal, getpid, kill_process};
    use serde::{Deserialize, Serialize};

    /// What happens at a point.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
    pub(crate) enum How {
        Kill,
        Stop,
        Abort,
        /// With code 3.
        Exit,
        /// The stack of the thread overflows.
        Overflow,
        /// More memory is wanted than any address space has.
        Memory,
    }

    /// The point, how often it is passed before, and what happens then.
    static ARMED: Mutex<Option<(String, u32, How)>> = Mutex::new(None);

    /// Has something happen to this process when it comes to a point for the time after `passes`. Once.
    pub(crate) fn arm(point: &str, passes: u32, how: How) {
        *ARMED.lock() = Some((point.to_owned(), passes, how));
    }

    pub(crate) fn reach(point: &str) {
        let mut armed = ARMED.lock();
        let how = match &mut *armed {
            Some((name, 0, how)) if name == point => *how,
            Some((name, passes, _)) if name == point => {
                *passes -= 1;
                return;
            }
            _ => return,
        };
        *armed = None;
        drop(armed);
        happen(how);
    }

    fn happen(how: How) {
        match how {
            How::Kill => kill_process(getpid(), Signal::KILL).expect("a process may signal itself"),
            How::Stop => {
                kill_process(getpid(), Signal::STOP).expect("a process may signal itself");
                // Another thread may be the one that takes the signal; this one goes no further meanwhile, nor later.
                loop {
                    std::thread::park();
                }
            }
            How::Abort => std::process::abort(),
            How::Exit => std::process::exit(3),
            How::Overflow => {
                std::hint::black_box(deeper(1));
            }
            How::Memory => drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 62))),
        }
    }

    #[allow(unconditional_recursion, reason = "it is to overflow the stack")]
    fn deeper(depth: u64) -> u64 {
        let frame = std::hint::black_box([depth; 512]);
        deeper(depth + 1) + frame[(depth % 512) as usize]
    }
}
