//! Who a process is, for tables in shared memory: its number and the moment of its start, as numbers are given away again.

use std::fs;
use std::io;
use std::sync::OnceLock;

/// A process among all that ever ran since the system started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// In ticks since the system's start.
    pub(crate) start: u64,
}

/// State and start of a process; `None` if there is none of that number.
fn look(pid: u32) -> io::Result<Option<(u8, u64)>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name may hold anything; what comes after it may not.
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next().and_then(|state| state.bytes().next());
    let start = fields.nth(18).and_then(|start| start.parse().ok());
    state
        .zip(start)
        .map(Some)
        .ok_or_else(|| io::Error::other("/proc does not tell when a process began"))
}

impl Identity {
    /// This process.
    pub(crate) fn own() -> io::Result<Self> {
        static OWN: OnceLock<Identity> = OnceLock::new();
        if let Some(own) = OWN.get() {
            return Ok(*own);
        }
        let pid = std::process::id();
        let (_, start) = look(pid)?.ok_or_else(|| io::Error::other("/proc does not know this process"))?;
        Ok(*OWN.get_or_init(|| Identity { pid, start }))
    }

    /// Whether it has ended. A process that cannot be looked at counts as living.
    pub(crate) fn has_ended(self) -> bool {
        match look(self.pid) {
            Ok(None) => true,
            Ok(Some((_, start))) if start != self.start => true,
            Ok(Some((b'Z' | b'X', _))) => !other_threads_run(self.pid),
            _ => false,
        }
    }
}

/// A process whose first thread has ended lives on with the others.
fn other_threads_run(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_and_the_dead_are_told_apart() {
        let own = Identity::own().expect("known");
        assert!(!own.has_ended());
        assert!(
            Identity {
                start: own.start + 1,
                ..own
            }
            .has_ended()
        );
        assert!(
            Identity {
                pid: u32::MAX,
                start: 0
            }
            .has_ended()
        );
        let mut child = std::process::Command::new("true").spawn().expect("starts");
        let (_, start) = look(child.id()).expect("/proc").expect("not waited for");
        let identity = Identity {
            pid: child.id(),
            start,
        };
        // It is a zombie until it is waited for.
        while !identity.has_ended() {
            std::thread::yield_now();
        }
        child.wait().expect("waits");
        assert!(identity.has_ended());
    }
}
