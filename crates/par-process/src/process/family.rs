//! The children of this process, and what becomes of them when it exits (rule 3).

use super::Process;
use crate::before_main::at_exit;
use parking_lot::Mutex;

/// Those that were not seen to have ended.
static CHILDREN: Mutex<Vec<Process>> = Mutex::new(Vec::new());

/// The children of this process that are alive.
///
/// ```
/// use par_process::{Process, active_children};
///
/// let child = Process::of_fn((), |()| std::thread::sleep(std::time::Duration::from_secs(60))).daemon(true).start()?;
/// assert!(active_children().iter().any(|active| active.pid() == child.pid()));
/// child.kill()?;
/// assert_eq!(child.join()?, -9);
/// assert!(active_children().is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn active_children() -> Vec<Process> {
    let mut children = CHILDREN.lock();
    children.retain(Process::is_alive);
    children.clone()
}

pub(super) fn add(process: &Process) {
    at_exit(part);
    let mut children = CHILDREN.lock();
    // Whoever starts many processes and never asks for them should not keep them all.
    children.retain(Process::is_alive);
    children.push(process.clone());
}

/// Ends the daemons and waits for the others.
fn part() {
    let children = active_children();
    for child in children.iter().filter(|child| child.is_daemon()) {
        // One that cannot be ended so ends with this process.
        let _ = child.terminate();
    }
    for child in children.iter().filter(|child| !child.is_daemon()) {
        // There is nobody left who could be told.
        let _ = child.join();
    }
}
