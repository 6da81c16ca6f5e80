//! The processes that a process started, and those that they started: found by their parents, and ended.

use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;

/// Kills those of them that are still there.
pub(crate) fn kill(family: &[(u32, u64)]) {
    for &(process, born) in family {
        // The number may belong to another process by now, but not with the same time of birth.
        if birth(process) == Some(born) {
            signal(process, Signal::KILL);
        }
    }
}

/// Sends a signal to a process, which may be gone.
pub(crate) fn signal(process: u32, signal: Signal) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // A process that is gone needs no signal.
        let _ = kill_process(process, signal);
    }
}

/// All descendants of a process, with the times of their birth. None where the system has no /proc.
pub(crate) fn descendants(process: u32) -> Vec<(u32, u64)> {
    let all: Vec<_> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|id| {
            let (parent, born) = parent_and_birth(id)?;
            Some((id, parent, born))
        })
        .collect();
    let mut found = Vec::new();
    let mut parents = vec![process];
    while let Some(parent) = parents.pop() {
        for (id, _, born) in all.iter().filter(|(_, of, _)| *of == parent) {
            found.push((*id, *born));
            parents.push(*id);
        }
    }
    found
}

fn birth(process: u32) -> Option<u64> {
    parent_and_birth(process).map(|(_, born)| born)
}

/// From /proc/PID/stat (proc(5)): the 4th field and the 22nd, counted behind the name, which may hold anything.
fn parent_and_birth(process: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let born = fields.nth(17)?.parse().ok()?;
    Some((parent, born))
}
