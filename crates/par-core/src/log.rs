//! Log lines of tasks that run from bytes: kept while a request runs, sent back behind its outcomes.
//!
//! A reply with lines has [`LOGGED`] set in its form byte, and at its end the lines and then their length in bytes, as a
//! little-endian `u32`. One without lines is as if there were no logs.

use crate::error::TaskError;
use crate::observe::Level;
use crate::wire;
use parking_lot::Mutex;
use std::borrow::Cow;

/// How serious it is, and what it says.
type Line = (Level, String);

/// The bit of a reply's form byte that says that log lines follow the outcomes.
pub(crate) const LOGGED: u8 = 0x80;

/// How much text a request carries back, in bytes.
const MOST: usize = 64 << 10;

/// The lines of one request.
#[derive(Default)]
pub(crate) struct Lines {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    lines: Vec<Line>,
    bytes: usize,
    dropped: u64,
}

/// What a line costs beside its text, so that empty lines are not free.
const EACH: usize = 8;

impl Lines {
    pub(crate) fn push(&self, level: Level, text: String) {
        let mut kept = self.kept.lock();
        let bytes = kept.bytes + EACH + text.len();
        // Once a line was dropped, the rest is as well: gaps are only at the end, where they are named.
        if kept.dropped > 0 || bytes > MOST {
            kept.dropped += 1;
        } else {
            kept.bytes = bytes;
            kept.lines.push((level, text));
        }
    }
}

/// Puts the lines at the end of `reply`, whose form byte stands at `form`.
pub(crate) fn append(lines: &Lines, form: usize, reply: &mut Vec<u8>) {
    let Kept {
        mut lines, dropped, ..
    } = std::mem::take(&mut *lines.kept.lock());
    if dropped > 0 {
        let text =
            format!("{dropped} more log lines were dropped: a request carries at most {MOST} bytes of them");
        lines.push((Level::Warn, text));
    }
    let start = reply.len();
    if lines.is_empty() || start == form {
        return;
    }
    let encoded = wire::encode(&lines, reply);
    match u32::try_from(reply.len() - start) {
        Ok(length) if encoded.is_ok() => {
            reply.extend(length.to_le_bytes());
            reply[form] |= LOGGED;
        }
        // Texts always encode, and they are bounded; a reply without its lines is better than none.
        _ => reply.truncate(start),
    }
}

/// Splits the lines from a reply, which then is as if there had been none.
pub(crate) fn split(reply: &[u8]) -> Result<(Cow<'_, [u8]>, Vec<Line>), TaskError> {
    if reply.first().is_none_or(|form| form & LOGGED == 0) {
        return Ok((Cow::Borrowed(reply), Vec::new()));
    }
    let parts = reply[1..].split_last_chunk().and_then(|(rest, length)| {
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        Some(1 + rest.len().checked_sub(length)?..1 + rest.len())
    });
    let Some(lines) = parts else {
        return Err(TaskError::Codec("reply: its log lines are cut short".to_owned()));
    };
    let decoded = wire::from_bytes(&reply[lines.clone()])
        .map_err(|error| TaskError::Codec(format!("reply: its log lines: {error}")))?;
    let mut outcomes = reply[..lines.start].to_vec();
    outcomes[0] &= !LOGGED;
    Ok((Cow::Owned(outcomes), decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_come_back_and_leave_the_reply_as_it_was() {
        let lines = Lines::default();
        let mut reply = vec![9, 9, 0, 1, 2];
        append(&lines, 2, &mut reply);
        assert_eq!(reply, [9, 9, 0, 1, 2], "no lines, no trace of them");
        lines.push(Level::Info, "one".to_owned());
        lines.push(Level::Error, String::new());
        append(&lines, 2, &mut reply);
        let (outcomes, lines) = split(&reply[2..]).expect("whole");
        assert_eq!(*outcomes, [0, 1, 2]);
        assert_eq!(
            lines,
            [(Level::Info, "one".to_owned()), (Level::Error, String::new())]
        );
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines = Lines::default();
        for _ in 0..3 * MOST {
            lines.push(Level::Debug, "x".to_owned());
        }
        let mut reply = vec![0];
        append(&lines, 0, &mut reply);
        assert!(reply.len() < 2 * MOST, "{} bytes", reply.len());
        let (_, lines) = split(&reply).expect("whole");
        let (level, last) = lines.last().expect("some");
        let dropped = 3 * MOST + 1 - lines.len();
        assert_eq!(*level, Level::Warn);
        assert!(
            last.starts_with(&format!("{dropped} more log lines were dropped")),
            "{last}"
        );
    }

    proptest! {
        #[test]
        fn hostile_replies_are_refused_or_read(mut reply in proptest::collection::vec(any::<u8>(), 1..64)) {
            reply[0] |= LOGGED;
            if let Ok((outcomes, _)) = split(&reply) {
                prop_assert!(!outcomes.is_empty() && outcomes.len() + 4 <= reply.len());
            }
        }
    }
}
