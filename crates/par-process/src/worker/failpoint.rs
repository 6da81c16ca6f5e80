//! Named points of a request's life in a worker, at which the tests of this crate have something happen. Nothing in other builds.

/// The points, in the order of a request's life.
#[cfg(test)]
pub(crate) const POINTS: [&str; 5] = ["received", "begun", "ran", "kept", "sending"];

/// A request has come to this point.
#[cfg(not(test))]
#[inline(always)]
pub(crate) fn reach(_point: &'static str) {}

#[cfg(test)]
pub(crate) use armed::{arm, reach};

#[cfg(test)]
mod armed {
    use parking_lot::Mutex;

    /// The point, what happens there, and how often it is passed before.
    static ARMED: Mutex<Option<(String, String, u32)>> = Mutex::new(None);

    /// Has something happen at a point when it is reached for the time after `passes`.
    pub(crate) fn arm((point, how, passes): (String, String, u32)) {
        assert!(super::POINTS.contains(&&*point), "there is no point {point}");
        *ARMED.lock() = Some((point, how, passes));
    }

    pub(crate) fn reach(point: &'static str) {
        let how = {
            let mut armed = ARMED.lock();
            match &mut *armed {
                Some((at, _, passes)) if at == point && *passes > 0 => {
                    *passes -= 1;
                    return;
                }
                Some((at, ..)) if at == point => armed.take().map(|(_, how, _)| how),
                _ => return,
            }
        };
        happen(&how.unwrap_or_default());
    }

    fn happen(how: &str) {
        use rustix::process::{Signal, getpid, kill_process};
        match how {
            "kill" => {
                let _ = kill_process(getpid(), Signal::KILL);
            }
            "stop" => {
                let _ = kill_process(getpid(), Signal::STOP);
                // Another thread may be the one that takes the signal; this one goes no further meanwhile.
                std::thread::sleep(std::time::Duration::from_secs(60));
            }
            "abort" => std::process::abort(),
            "exit" => std::process::exit(3),
            "overflow" => {
                std::hint::black_box(deeper(1));
            }
            // More than any address space has.
            "memory" => drop(std::hint::black_box(Vec::<u8>::with_capacity(1 << 62))),
            other => panic!("nothing is called {other}"),
        }
    }

    #[allow(unconditional_recursion, reason = "it is to overflow the stack")]
    fn deeper(depth: u64) -> u64 {
        let frame = std::hint::black_box([depth; 512]);
        deeper(depth + 1) + frame[(depth % 512) as usize]
    }
}
