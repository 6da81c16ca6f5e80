//! Presence: the files beside a broker by which peers on one machine see each other live, work and ring.
//!
//! In the folder `BROKER.peers`, private to its user, each peer has a file and a bell:
//!
//! - `ID.peer` is locked by its peer while that lives; the kernel drops the lock with the process. It holds words of 8 bytes:
//!   the fence, then a slot for each message that is leased at a time, holding the number of the message that was begun in it.
//!   A write to a file outlives a killed process, and costs less than a transaction. The peer writes the mark and then
//!   reads the fence; who buries it writes the fence and then reads the marks. So at least one of them sees the other's.
//! - `ID.kept` holds the outcomes that wait for their transaction.
//! - `ID.bell` is a datagram socket. SQLite has no notifications; a byte sent here ends the peer's sleep. Bells that
//!   cannot be made or reached only cost time: every sleep has an end.

use super::kept::{self, Kept, Record};
use super::{PeerId, Ring, Woken};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

const WORD: u64 = 8;
/// Sockets live at paths of at most 107 bytes.
const LONGEST: usize = 80;

/// The folder of all peers of one broker.
pub(super) struct Peers {
    path: PathBuf,
    /// As `path`, but short enough for a socket.
    sockets: PathBuf,
    /// Keeps `sockets` good, where it leads through the open folder.
    _open: File,
    /// What rings others.
    out: UnixDatagram,
}

impl Peers {
    /// Where the folder of a broker is.
    pub(super) fn path(broker: &Path) -> PathBuf {
        let mut name = broker.as_os_str().to_owned();
        name.push(".peers");
        PathBuf::from(name)
    }

    /// Opens the folder of a broker, making it where there is none.
    pub(super) fn open(broker: &Path) -> io::Result<Self> {
        let path = Self::path(broker);
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let open = File::open(&path)?;
        let sockets = if path.as_os_str().len() > LONGEST {
            PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
        } else {
            path.clone()
        };
        let out = UnixDatagram::unbound()?;
        out.set_nonblocking(true)?;
        Ok(Peers {
            path,
            sockets,
            _open: open,
            out,
        })
    }

    fn file(&self, peer: PeerId) -> PathBuf {
        self.path.join(format!("{}.peer", peer.0))
    }

    fn kept(&self, peer: PeerId) -> PathBuf {
        self.path.join(format!("{}.kept", peer.0))
    }

    fn bell(&self, peer: PeerId) -> PathBuf {
        self.sockets.join(format!("{}.bell", peer.0))
    }

    /// Makes file and bell of a new peer, with room for the marks of so many messages.
    ///
    /// Without `bell` it gets none: its broker rings in another way.
    pub(super) fn join(&self, me: PeerId, slots: usize, bell: bool) -> io::Result<Presence> {
        // Somebody who left last may have removed the folder since it was opened.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.file(me))?;
        file.lock()?;
        // Until it was locked it looked like that of a dead peer, and may have been removed as one.
        if fs::metadata(self.file(me))?.ino() != file.metadata()?.ino() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // In its whole length, so that no mark has to be refused later by a full disk.
        file.write_all_at(&vec![0; (slots + 1) * WORD as usize], 0)?;
        let kept = Kept::create(&self.kept(me))?;
        let bell = bell.then(|| UnixDatagram::bind(self.bell(me)).ok()).flatten();
        if let Some(bell) = &bell {
            bell.set_nonblocking(true)?;
        }
        Ok(Presence { file, kept, bell })
    }

    /// Rings a peer; whether its bell could be reached.
    pub(super) fn ring(&self, peer: PeerId, why: Ring) {
        let byte = match why {
            Ring::Work => b'w',
            Ring::Reply => b'r',
            Ring::News => b'n',
        };
        // A full bell has rung already, and a missing one is a peer that polls, or that is dead and will be noticed.
        let _ = self.out.send_to(&[byte], self.bell(peer));
    }

    /// Whether a peer has a file here.
    #[cfg(feature = "amqp")]
    pub(super) fn has(&self, peer: PeerId) -> bool {
        self.file(peer).exists()
    }

    /// Whether the process of a peer has ended.
    pub(super) fn is_dead(&self, peer: PeerId) -> bool {
        match File::open(self.file(peer)) {
            Ok(file) => match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                // Where locks do not work, only a heartbeat that stands still tells.
                Err(TryLockError::Error(_)) => false,
            },
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Sets the fence of a peer; its later `begin`s say no.
    pub(super) fn fence(&self, peer: PeerId) -> io::Result<()> {
        match OpenOptions::new().write(true).open(self.file(peer)) {
            Ok(file) => {
                file.write_all_at(&1u64.to_le_bytes(), 0)?;
                fence(Ordering::SeqCst);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The numbers that a peer has in its slots. A file that is gone or unreadable says nothing: `None`.
    pub(super) fn marks(&self, peer: PeerId) -> Option<Vec<i64>> {
        let bytes = fs::read(self.file(peer)).ok()?;
        let words = bytes.chunks_exact(WORD as usize).skip(1);
        Some(
            words
                .map(|word| i64::from_le_bytes(word.try_into().unwrap_or_default()))
                .collect(),
        )
    }

    /// The outcomes that a peer kept.
    pub(super) fn outcomes(&self, peer: PeerId) -> HashMap<i64, Record> {
        kept::read(&self.kept(peer))
    }

    /// Removes the files and the bell of a peer, and the folder with the last.
    pub(super) fn remove(&self, peer: PeerId) {
        // What is gone is gone; a folder in use stays.
        let _ = fs::remove_file(self.bell(peer));
        let _ = fs::remove_file(self.kept(peer));
        let _ = fs::remove_file(self.file(peer));
    }

    /// Removes the files of a dead peer. Its lock is held meanwhile: so one that has just come is never removed unnoticed.
    #[cfg(feature = "amqp")]
    pub(super) fn remove_dead(&self, peer: PeerId) {
        if let Ok(file) = File::open(self.file(peer))
            && file.try_lock().is_ok()
        {
            self.remove(peer);
        }
    }

    /// The peers that have files here.
    #[cfg(feature = "amqp")]
    pub(super) fn all(&self) -> Vec<PeerId> {
        let Ok(entries) = fs::read_dir(&self.path) else {
            return Vec::new();
        };
        let peer = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let name = entry.file_name();
            Some(PeerId(name.to_str()?.strip_suffix(".peer")?.parse().ok()?))
        };
        entries.filter_map(peer).collect()
    }

    /// What tells this folder from all others, on other machines too.
    #[cfg(feature = "amqp")]
    pub(super) fn identity(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        // Whatever cannot be read is the same for all peers in the folder.
        for file in ["/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/hostname"] {
            fs::read(file).unwrap_or_default().hash(&mut hasher);
        }
        if let Ok(metadata) = fs::metadata(&self.path) {
            (metadata.dev(), metadata.ino()).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Removes the folder if nobody is in it.
    pub(super) fn close(&self) {
        let _ = fs::remove_dir(&self.path);
    }
}

/// This peer's own file and bell.
pub(super) struct Presence {
    file: File,
    pub(super) kept: Kept,
    bell: Option<UnixDatagram>,
}

impl Presence {
    /// Whether somebody has set the fence, or this peer itself.
    #[cfg(feature = "amqp")]
    pub(super) fn is_fenced(&self) -> bool {
        let mut fence = [0; WORD as usize];
        self.file.read_exact_at(&mut fence, 0).is_ok() && fence != [0; WORD as usize]
    }

    /// Leaves the mark of `message`; whether it may be run.
    pub(super) fn begin(&self, slot: usize, message: i64) -> io::Result<bool> {
        let at = (slot as u64 + 1) * WORD;
        self.file.write_all_at(&message.to_le_bytes(), at)?;
        // The mark is there before the fence is looked at; so it is for who buries, the other way round.
        fence(Ordering::SeqCst);
        let mut fence = [0; WORD as usize];
        self.file.read_exact_at(&mut fence, 0)?;
        Ok(fence == [0; WORD as usize])
    }

    /// Sleeps until somebody rings or the time is up.
    pub(super) fn sleep(&self, timeout: Duration) -> Woken {
        let Some(bell) = &self.bell else {
            // No bell could be made: poll.
            std::thread::sleep(timeout.min(Duration::from_millis(2)));
            return Woken {
                work: true,
                reply: true,
                news: false,
            };
        };
        let limit = Timespec {
            tv_sec: timeout.as_secs().min(3600) as i64,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // An interrupted sleep is a short one.
        let _ = poll(&mut [PollFd::new(bell, PollFlags::IN)], Some(&limit));
        let mut woken = Woken::default();
        let mut bytes = [0; 16];
        while let Ok(count) = bell.recv(&mut bytes) {
            for byte in &bytes[..count] {
                match byte {
                    b'w' => woken.work = true,
                    b'r' => woken.reply = true,
                    b'n' => woken.news = true,
                    _ => {}
                }
            }
        }
        woken
    }
}
