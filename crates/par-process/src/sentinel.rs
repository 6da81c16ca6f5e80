//! Files that become readable when a process has ended.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::process::Child;
use std::time::Instant;

/// That of a child which is not waited for yet, so that its number is its own.
pub(crate) fn of(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("its number is none"))?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

/// Waits until one of them is readable: the places of those that are, none past the deadline.
pub(crate) fn wait(sentinels: &[BorrowedFd<'_>], until: Option<Instant>) -> io::Result<Vec<usize>> {
    let mut files: Vec<_> = sentinels
        .iter()
        .map(|file| PollFd::new(file, PollFlags::IN))
        .collect();
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // A time beyond what the system can express is as good as none.
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut files, timeout.as_ref()) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return Ok(Vec::new()),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => {
                let ready = files
                    .iter()
                    .enumerate()
                    .filter(|(_, file)| !file.revents().is_empty());
                return Ok(ready.map(|(place, _)| place).collect());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
