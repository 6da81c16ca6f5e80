//! Outcomes that wait for their transaction, in a file that outlives their worker: records from the start of the file, begun anew
//! whenever none waits. What is left of earlier ones belongs to messages that have ended, and does no harm.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// A longer outcome pays for a transaction of its own.
const LONGEST: usize = 256 << 10;
/// With so much waiting, the next outcome waits for a transaction too.
const MOST: u64 = 8 << 20;
/// Number of the message, kind, time, length, checksum.
const HEADER: usize = 40;

/// The file of one worker.
pub(super) struct Kept {
    file: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    end: u64,
    waiting: usize,
}

/// An outcome as it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: i64,
    pub(super) took_us: i64,
    pub(super) body: Vec<u8>,
}

impl Kept {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Ok(Kept {
            file,
            state: Mutex::default(),
        })
    }

    /// Keeps an outcome; whether it did.
    pub(super) fn put(&self, message: i64, kind: i64, took_us: i64, body: &[u8]) -> bool {
        if body.len() > LONGEST {
            return false;
        }
        let mut state = self.state.lock();
        if state.end > MOST {
            return false;
        }
        let numbers = [message, kind, took_us, body.len() as i64];
        let mut record = Vec::with_capacity(HEADER + body.len());
        for number in numbers {
            record.extend(number.to_le_bytes());
        }
        record.extend(checksum(&numbers, body).to_le_bytes());
        record.extend(body);
        if self.file.write_all_at(&record, state.end).is_err() {
            return false;
        }
        state.end += record.len() as u64;
        state.waiting += 1;
        true
    }

    /// So many of them need not be kept any more.
    pub(super) fn drop_some(&self, count: usize) {
        let mut state = self.state.lock();
        state.waiting = state.waiting.saturating_sub(count);
        if state.waiting == 0 {
            state.end = 0;
        }
    }
}

/// Everything that a file holds, by message. What is not whole counts as the end.
pub(super) fn read(path: &Path) -> HashMap<i64, Record> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What cannot be read was not kept.
        let _ = file
            .take(MOST + (LONGEST + HEADER) as u64)
            .read_to_end(&mut bytes);
    }
    let mut records = HashMap::new();
    let mut rest = &bytes[..];
    while let Some((header, after)) = rest.split_first_chunk::<HEADER>() {
        let number = |at: usize| i64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
        let numbers = [number(0), number(8), number(16), number(24)];
        let Some(body) = usize::try_from(numbers[3])
            .ok()
            .and_then(|length| after.get(..length))
        else {
            break;
        };
        if checksum(&numbers, body) != number(32) as u64 {
            break;
        }
        rest = &after[body.len()..];
        records.insert(
            numbers[0],
            Record {
                kind: numbers[1],
                took_us: numbers[2],
                body: body.to_vec(),
            },
        );
    }
    records
}

/// FNV-1a over words of 8 bytes: tells a torn or stale record from a whole one; nobody forges them here.
fn checksum(numbers: &[i64; 4], body: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(23);
    numbers.iter().for_each(|number| mix(*number as u64));
    for chunk in body.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(u64::from_le_bytes(word));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_found_and_what_is_torn_or_stale_is_not() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("1.kept");
        let kept = Kept::create(&path).expect("create");
        assert!(kept.put(7, 0, 5, b"seven"));
        assert!(kept.put(8, 3, 6, &[1; 1000]));
        let found = read(&path);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[&7],
            Record {
                kind: 0,
                took_us: 5,
                body: b"seven".to_vec()
            }
        );
        // Anew: the first record is overwritten by a shorter one, whose end lies within it.
        kept.drop_some(2);
        assert!(kept.put(9, 0, 0, b""));
        assert_eq!(read(&path).into_keys().collect::<Vec<_>>(), [9]);
        let whole = std::fs::read(&path).expect("read");
        for length in 0..HEADER {
            std::fs::write(&path, &whole[..length]).expect("write");
            assert!(read(&path).is_empty(), "{length}");
        }
        let noise: Vec<u8> = (0..4096u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        std::fs::write(&path, noise).expect("write");
        assert!(read(&path).is_empty());
        assert!(!kept.put(1, 0, 0, &vec![0; LONGEST + 1]), "too long");
    }
}
