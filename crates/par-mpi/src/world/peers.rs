//! The processes of the other ranks on this machine: their deaths are seen at once, not when the launcher gets round to them.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::OwnedFd;

/// What is known of the process of another rank.
enum Peer {
    /// Nothing yet, or it runs elsewhere.
    Unknown,
    Process(OwnedFd, u32),
    /// It had died before anybody looked.
    Gone(u32),
}

/// The ranks, by number.
pub(super) struct Peers(Vec<Peer>);

/// The machine, as far as numbers of processes mean the same on it.
fn machine() -> Option<u64> {
    let boot = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
    let space = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let mut hasher = DefaultHasher::new();
    (boot, space).hash(&mut hasher);
    Some(hasher.finish())
}

/// What a rank says of itself to the others.
pub(super) fn card() -> Vec<u8> {
    let mut card = std::process::id().to_le_bytes().to_vec();
    card.extend(machine().map(u64::to_le_bytes).into_iter().flatten());
    card
}

impl Peers {
    pub(super) fn new(ranks: usize) -> Self {
        Peers((0..ranks).map(|_| Peer::Unknown).collect())
    }

    /// Reads the card of a rank. One that runs elsewhere, or where there are no such files, is left to the launcher.
    pub(super) fn meet(&mut self, rank: usize, card: &[u8]) {
        let Some((pid, theirs)) = card.split_first_chunk() else {
            return;
        };
        let number = u32::from_le_bytes(*pid);
        let here = machine().is_some_and(|ours| theirs == ours.to_le_bytes());
        let pid = i32::try_from(number).ok().and_then(Pid::from_raw);
        if let (true, Some(pid), Some(peer)) = (here, pid, self.0.get_mut(rank)) {
            *peer = match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(file) => Peer::Process(file, number),
                Err(rustix::io::Errno::SRCH) => Peer::Gone(number),
                Err(_) => Peer::Unknown,
            };
        }
    }

    /// The ranks whose processes have ended, with the numbers of these.
    pub(super) fn dead(&self) -> Vec<(usize, u32)> {
        let mut dead = Vec::new();
        let mut files = Vec::new();
        for (rank, peer) in self.0.iter().enumerate() {
            match peer {
                Peer::Unknown => {}
                Peer::Gone(number) => dead.push((rank, *number)),
                Peer::Process(file, number) => {
                    files.push((PollFd::new(file, PollFlags::IN), (rank, *number)))
                }
            }
        }
        let (mut polled, known): (Vec<_>, Vec<_>) = files.into_iter().unzip();
        // An interruption is a look without news.
        if poll(&mut polled, Some(&Timespec::default())).is_ok() {
            let ended = polled
                .iter()
                .zip(known)
                .filter(|(file, _)| !file.revents().is_empty());
            dead.extend(ended.map(|(_, peer)| peer));
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_death_on_this_machine_is_seen() {
        let mut peers = Peers::new(3);
        peers.meet(0, &card());
        let mut child = Command::new("sleep").arg("60").spawn().expect("a child");
        let mut theirs = card();
        theirs[..4].copy_from_slice(&child.id().to_le_bytes());
        peers.meet(1, &theirs);
        theirs.pop();
        peers.meet(2, &theirs);
        assert_eq!(peers.dead(), []);
        child.kill().expect("it lives");
        child.wait().expect("it ends");
        assert_eq!(peers.dead(), [(1, child.id())], "rank 2 is on another machine");
    }
}
