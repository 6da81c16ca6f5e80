//! Waits for what has no owner: looked at when every thread that is known waits for ever.
//!
//! Where they are all the threads of the process, and the system says that all of them sleep, twice, nobody is left to wake one: a
//! deadlock. Where there are others, they might: a warning.

use crate::thread::native_id;
use std::time::{Duration, Instant};

/// How long what may be a deadlock must last to be one: those that were woken have run by then.
pub(super) const LASTS: Duration = Duration::from_millis(100);

pub(super) const EVERYONE: &str =
    "deadlock: every thread of the program waits, and nobody is left to wake one:";

/// How many threads the process has. Linux; elsewhere nobody knows, and nothing is reported.
pub(super) fn threads() -> Option<usize> {
    Some(std::fs::read_dir("/proc/self/task").ok()?.count())
}

/// Whether the system says that all other threads sleep (proc(5): the state of a task). Asked without a lock of the detector, at which they
/// might sleep.
pub(super) fn others_sleep() -> bool {
    let mine = native_id();
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return false;
    };
    tasks.flatten().all(|task| {
        let is_mine = task.file_name().to_str().and_then(|name| name.parse().ok()) == Some(mine);
        let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        is_mine
            || stat
                .rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('S'))
    })
}

/// Whether all others sleep for a while, and it is still the `same` all the time.
pub(super) fn others_sleep_on(same: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    let mut asleep: Option<Instant> = None;
    let mut nap = LASTS / 10_000;
    // Who is about to sleep may not do so yet; who runs for long is awake.
    while same() && start.elapsed() < 10 * LASTS {
        if !others_sleep() {
            asleep = None;
        } else if asleep.get_or_insert_with(Instant::now).elapsed() >= LASTS {
            return same();
        }
        // Most waits are over soon.
        std::thread::sleep(nap);
        nap = (2 * nap).min(LASTS / 20);
    }
    false
}
