//! Peers: who shows itself, who is dead, and what a peer does once about each of the dead (rules 8 and 9 of the protocol).

use super::letter::{Card, Letter};
use super::post::To;
use super::server::Server;
use super::{Shared, State};
use crate::broker::kept::Record;
use crate::broker::presence::{Peers, Presence};
use crate::broker::{BrokerError, Peer, PeerId, Result, Role};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, DirBuilder};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Peers that are believed to be there.
const MOST: usize = 4096;
/// Bytes in the name of a queue, and messages at a time, that are believed of a peer.
const LONGEST_NAME: usize = 255;
const WIDEST: usize = 1 << 16;
/// The files of the dead are there for all pools to read; after that long, all have.
const READ: Duration = Duration::from_secs(60);

/// The peers that have shown themselves.
#[derive(Default)]
pub(super) struct Known {
    peers: BTreeMap<PeerId, (Card, i64)>,
    buried: HashSet<PeerId>,
    /// Whose files are still there, and since when that is known.
    dead: HashMap<PeerId, Instant>,
    /// What was found of those whose messages are still to be ended.
    graves: HashMap<PeerId, Grave>,
    /// Grows while this peer does not hear itself, so that no heart seems to stand still.
    deaf: i64,
    /// When this peer last heard itself, and since when it has waited to.
    pub(super) heard: Option<Instant>,
    pub(super) sent: Option<Instant>,
    pub(super) beats: u64,
}

/// What a dead peer left in its files.
struct Grave {
    reason: String,
    marks: Option<Vec<i64>>,
    outcomes: HashMap<i64, Record>,
}

impl Known {
    /// Takes a heartbeat; whether the peer is new.
    pub(super) fn hear(&mut self, card: Card, count: u64) -> bool {
        let peer = card.peer();
        if self.buried.contains(&peer) || !self.has_place_for(&card) {
            return false;
        }
        self.peers
            .insert(peer, (card, i64::try_from(count).unwrap_or(i64::MAX)))
            .is_none()
    }

    /// Takes a question for a sign of life; false if its writer is buried, or not to be believed.
    pub(super) fn meet(&mut self, card: Card) -> bool {
        let peer = card.peer();
        if self.buried.contains(&peer) || !self.has_place_for(&card) {
            return false;
        }
        self.peers.entry(peer).or_insert((card, 0));
        true
    }

    /// Whether a peer is believed in: strangers must not fill the memory.
    fn has_place_for(&self, card: &Card) -> bool {
        card.queue.len() <= LONGEST_NAME && (self.peers.len() < MOST || self.peers.contains_key(&card.peer()))
    }

    pub(super) fn is_buried(&self, peer: PeerId) -> bool {
        self.buried.contains(&peer)
    }

    /// The dead whose messages are still to be ended.
    pub(super) fn open_graves(&self) -> Vec<(PeerId, String)> {
        let open = |(peer, grave): (&PeerId, &Grave)| (*peer, grave.reason.clone());
        self.graves.iter().map(open).collect()
    }

    pub(super) fn folder(&self, peer: PeerId) -> Option<u64> {
        self.peers.get(&peer).map(|(card, _)| card.folder)
    }

    pub(super) fn workers(&self) -> Vec<PeerId> {
        let worker = |(peer, (card, _)): (&PeerId, &(Card, i64))| (card.concurrency > 0).then_some(*peer);
        self.peers.iter().filter_map(worker).collect()
    }

    pub(super) fn has_worker(&self, queue: &str) -> bool {
        self.peers
            .values()
            .any(|(card, _)| card.concurrency > 0 && card.queue == queue)
    }

    /// All peers, and this one among them.
    pub(super) fn list(&mut self, own: &Card) -> Arc<[Peer]> {
        let patience = Duration::from_secs(1);
        if self.heard.is_none_or(|heard| heard.elapsed() > patience) {
            self.deaf += 1;
        }
        let deaf = self.deaf;
        let peer = |card: &Card, beat: i64| Peer {
            id: card.peer(),
            role: match usize::try_from(card.concurrency) {
                Ok(0) | Err(_) => Role::Pool,
                Ok(concurrency) => Role::Worker {
                    concurrency: concurrency.min(WIDEST),
                },
            },
            queue: card.queue.clone(),
            pid: card.pid,
            lease: Duration::from_millis(card.lease_ms.max(1)),
            beat: beat.wrapping_add(deaf),
        };
        let others = self
            .peers
            .iter()
            .filter(|(id, _)| **id != own.peer())
            .map(|(_, (card, beat))| peer(card, *beat));
        others.chain([peer(own, 0)]).collect()
    }
}

impl Shared {
    /// Notes a pool that is about to be asked (rule 9): one that died before this peer came is then noticed like all others, by its
    /// lock or by its silence.
    pub(super) fn reckon_with(&self, state: &mut State, pool: PeerId) {
        if pool == self.me || state.peers.peers.contains_key(&pool) {
            return;
        }
        state.peers.meet(Card {
            id: pool.0,
            queue: String::new(),
            concurrency: 0,
            pid: 0,
            lease_ms: self.card.lease_ms,
            // Without a file here it may be on another machine.
            folder: if self.folder.has(pool) {
                self.card.folder
            } else {
                0
            },
        });
    }

    /// Takes a peer for dead, once. What it held ends when this peer has read everything else that it wrote (rule 8).
    pub(super) fn bury(&self, peer: PeerId, reason: &str) -> Result<()> {
        if peer == self.me {
            return Ok(());
        }
        let here = {
            let state = self.state.lock();
            if state.peers.is_buried(peer) {
                return Ok(());
            }
            state
                .peers
                .folder(peer)
                .is_none_or(|folder| folder == self.card.folder)
        };
        if here {
            self.folder.fence(peer).map_err(|error| BrokerError::Failed {
                broker: self.url.clone(),
                reason: format!("cannot fence peer {}: {error}", peer.0),
            })?;
        }
        self.give_up(peer, reason);
        Ok(())
    }

    /// Forgets a peer that begins nothing any more, and notes that what it held is to be ended.
    pub(super) fn give_up(&self, peer: PeerId, reason: &str) {
        // Without its file nobody can say what it had begun.
        let grave = Grave {
            reason: reason.to_owned(),
            marks: self.folder.marks(peer),
            outcomes: self.folder.outcomes(peer),
        };
        let mut state = self.state.lock();
        if peer == self.me || !state.peers.buried.insert(peer) {
            return;
        }
        let state = &mut *state;
        state.peers.peers.remove(&peer);
        state.hands.forget(peer);
        self.presence.kept.drop_some(state.outbox.forget(peer));
        state.delete.push(peer);
        for fetch in state.fetches.values_mut().filter(|fetch| fetch.pool == peer) {
            fetch.answer.get_or_insert(None);
        }
        if state.ledger.has_holder(peer) {
            let letter = Letter::Bury {
                peer: peer.0,
                reason: reason.to_owned(),
            };
            state.peers.graves.insert(peer, grave);
            self.post(state, To::Peer(self.me), letter.seal(&[]));
        }
        self.pending.notify_one();
        self.changed.notify_all();
        self.ring(|rung| rung.news = true);
    }

    /// Ends what a buried peer held.
    pub(super) fn end_of(&self, state: &mut State, peer: PeerId, reason: &str) {
        // Only this peer writes such letters to itself, and one for each of the dead.
        if let Some(grave) = state.peers.graves.remove(&peer) {
            let Grave { marks, outcomes, .. } = grave;
            state.ledger.bury(peer, marks.as_deref(), &outcomes, reason);
            self.ring(|rung| rung.reply = true);
        }
    }

    /// Removes the files of those who have been dead for so long that all have read them.
    pub(super) fn tidy_dead(&self) {
        let all = self.folder.all();
        let mut state = self.state.lock();
        let dead = &mut state.peers.dead;
        dead.retain(|peer, _| all.contains(peer));
        for peer in all {
            if peer == self.me || !self.folder.is_dead(peer) {
                continue;
            }
            // Since when, no file says: the mark of a long task is old when its worker dies.
            let since = *dead.entry(peer).or_insert_with(Instant::now);
            if since.elapsed() > READ {
                self.folder.remove_dead(peer);
            }
        }
    }

    /// Of a peer that leaves: its files are for the others to read, if there are any. The last on a machine removes the folder.
    pub(super) fn tidy_folder(&self) {
        let all = self.folder.all();
        if all
            .iter()
            .all(|peer| *peer == self.me || self.folder.is_dead(*peer))
        {
            for peer in all {
                if peer == self.me {
                    self.folder.remove(peer);
                } else {
                    self.folder.remove_dead(peer);
                }
            }
            self.folder.close();
        }
    }
}

/// The folder of all peers of a server on this machine, and this peer's files in it.
pub(super) fn folder(server: &Server, me: PeerId, slots: usize) -> io::Result<(Peers, Presence)> {
    let user = rustix::process::getuid().as_raw();
    let base = std::env::temp_dir().join(format!("par-dist-{user}"));
    match DirBuilder::new().mode(0o700).create(&base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // The name can be guessed, and the folder above it is everybody's.
    let metadata = fs::symlink_metadata(&base)?;
    if !metadata.is_dir() || metadata.uid() != user || metadata.mode() & 0o077 != 0 {
        let text = format!(
            "{} is not a folder that belongs to user {user} alone",
            base.display()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in [&server.host, &server.vhost, &server.prefix] {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    let name = base.join(format!("{hash:016x}-{}", server.port));
    let mut tries = 0;
    loop {
        // Who leaves last may remove the folder meanwhile.
        let joined = Peers::open(&name).and_then(|folder| Ok((folder.join(me, slots, false)?, folder)));
        match joined {
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < 10 => tries += 1,
            joined => return joined.map(|(presence, folder)| (folder, presence)),
        }
    }
}

/// A number for a new peer, which nobody else has, by all odds.
pub(super) fn number() -> PeerId {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    hasher.write_u128(now.unwrap_or_default().as_nanos());
    PeerId((mix(hasher.finish()) >> 1).max(1) as i64)
}

/// Spreads numbers over all 64 bits, no two to the same (the finaliser of splitmix64, Steele and others 2014).
pub(super) fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(id: i64, queue: &str, concurrency: u64) -> Card {
        Card {
            id,
            queue: queue.to_owned(),
            concurrency,
            pid: 1,
            lease_ms: 1000,
            folder: 0,
        }
    }

    #[test]
    fn strangers_fill_no_memory_and_overflow_no_sum() {
        let mut known = Known::default();
        assert!(known.hear(card(1, "q", u64::MAX), u64::MAX));
        assert!(known.meet(card(2, "q", u64::MAX)));
        assert!(!known.hear(card(3, &"q".repeat(256), 1), 1));
        assert!(!known.meet(card(3, &"q".repeat(256), 1)));
        let threads = |peer: &Peer| match peer.role {
            Role::Worker { concurrency } => concurrency,
            Role::Pool => 0,
        };
        let own = card(0, "q", 0);
        assert_eq!(known.list(&own).iter().map(threads).sum::<usize>(), 2 * WIDEST);
        for id in 3..10_000 {
            known.hear(card(id, "q", 1), 1);
            known.meet(card(-id, "q", 1));
        }
        assert_eq!(known.peers.len(), MOST);
        assert!(known.meet(card(1, "q", 1)), "known ones stay so");
    }
}
