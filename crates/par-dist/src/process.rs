//! Processes of this machine, as others know them: which of them still live.

/// A process. Numbers are used again, so its start is part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// The machine since it was booted, and the space of numbers on it: containers have their own.
    pub(crate) boot: String,
    pub(crate) pid: u32,
    /// In ticks since boot; 0 where that is not known.
    pub(crate) started: i64,
}

impl Process {
    pub(crate) fn this() -> Self {
        let pid = std::process::id();
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let space = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Process {
            boot: format!(
                "{} {}",
                read("/proc/sys/kernel/random/boot_id").trim_end(),
                space.display()
            ),
            pid,
            started: started(pid).unwrap_or(0),
        }
    }

    /// Whether it was on this machine since that was booted, in a container perhaps.
    pub(crate) fn is_of_this_boot(&self, this: &Process) -> bool {
        let boot = |process: &Process| process.boot.split(' ').next().map(str::to_owned);
        boot(self) == boot(this)
    }

    /// Whether it was on this machine, as it is since it was booted, and is no more.
    pub(crate) fn is_dead(&self, this: &Process) -> bool {
        // Where the system does not tell of this one, it does not of others.
        this.started != 0 && self.boot == this.boot && started(self.pid) != Some(self.started)
    }
}

/// When a process started, in ticks since boot: the 22nd field of its status (proc(5)). A zombie lives no more.
fn started(pid: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(18)?.parse().ok())?
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_dead_when_it_has_ended_and_nobody_on_another_machine_is() {
        let this = Process::this();
        assert!(!this.is_dead(&this));
        let mut child = Command::new("sh")
            .args(["-c", "read -r line"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a child");
        let pid = child.id();
        let child_process = Process {
            pid,
            started: started(pid).expect("it lives"),
            ..this.clone()
        };
        assert!(!child_process.is_dead(&this));
        child.kill().expect("kill");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !child_process.is_dead(&this) {
            assert!(std::time::Instant::now() < until, "as a zombie, too");
            std::thread::yield_now();
        }
        child.wait().expect("wait");
        assert!(child_process.is_dead(&this));
        let elsewhere = Process {
            boot: "another machine".to_owned(),
            ..child_process
        };
        assert!(!elsewhere.is_dead(&this) && !elsewhere.is_of_this_boot(&this));
        let (boot, _) = this.boot.split_once(' ').expect("two words");
        let contained = Process {
            boot: format!("{boot} pid:[1]"),
            ..elsewhere
        };
        assert!(!contained.is_dead(&this) && contained.is_of_this_boot(&this));
    }
}
