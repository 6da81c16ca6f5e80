//! How what the peers tell each other over a Redis server is written.

use crate::broker::{
    Arrival, CallId, Delivery, Joining, Lease, MessageId, Peer, PeerId, Role, Settled, Verdict,
};
use crate::process::Process;
use par_core::TaskError;
use par_core::remote::Part;
use par_core::wire;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::time::Duration;

/// What a reply is.
const REPLY: u8 = 0;
const FAILED: u8 = 1;
pub(super) const LOST: u8 = 2;
pub(super) const LOST_BEGUN: u8 = 3;

/// What a peer says of itself.
#[derive(Serialize, Deserialize)]
struct Card<'a> {
    queue: Cow<'a, str>,
    /// 0: it only submits.
    concurrency: usize,
    lease_ms: u64,
    boot: Cow<'a, str>,
    pid: u32,
    started: i64,
}

pub(super) fn card(joining: &Joining, this: &Process) -> String {
    let card = Card {
        queue: joining.queue.as_str().into(),
        concurrency: match joining.role {
            Role::Pool => 0,
            Role::Worker { concurrency } => concurrency.max(1),
        },
        lease_ms: u64::try_from(joining.lease.as_millis()).unwrap_or(u64::MAX),
        boot: this.boot.as_str().into(),
        pid: this.pid,
        started: this.started,
    };
    // Texts and numbers always encode.
    serde_json::to_string(&card).unwrap_or_default()
}

/// Peers, from the number, the card and the heartbeats of each. What is none is left out.
pub(super) fn peers(fields: &[String], grace: i64) -> Vec<(Peer, Process)> {
    let read = |three: &[String]| {
        let card: Card<'_> = serde_json::from_str(&three[1]).ok()?;
        let peer = Peer {
            id: PeerId(three[0].parse().ok()?),
            role: match card.concurrency {
                0 => Role::Pool,
                concurrency => Role::Worker { concurrency },
            },
            queue: card.queue.into_owned(),
            pid: card.pid,
            lease: Duration::from_millis(card.lease_ms.max(1)),
            beat: three[2].parse::<i64>().ok()?.wrapping_add(grace),
        };
        let process = Process {
            boot: card.boot.into_owned(),
            pid: card.pid,
            started: card.started,
        };
        Some((peer, process))
    };
    fields.chunks_exact(3).filter_map(read).collect()
}

/// Leased messages, from nine fields each. What is none is left out: its worker's death ends it.
pub(super) fn deliveries(fields: Vec<Vec<u8>>) -> Vec<Delivery> {
    let mut fields = fields.into_iter();
    let mut deliveries = Vec::with_capacity(fields.len() / 9);
    while let Ok(nine) = fields.by_ref().take(9).collect::<Vec<_>>().try_into() {
        deliveries.extend(delivery(nine));
    }
    deliveries
}

fn delivery([id, pool, root, job, call, first, items, shares, payload]: [Vec<u8>; 9]) -> Option<Delivery> {
    fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
        std::str::from_utf8(text).ok()?.parse().ok()
    }
    Some(Delivery {
        lease: Lease {
            id: MessageId(number(&id)?),
            slot: 0,
            apart: false,
        },
        pool: PeerId(number(&pool)?),
        root: PeerId(number(&root)?),
        job: number(&job)?,
        call: CallId(number(&call)?),
        part: Part {
            first: number(&first)?,
            items: number(&items)?,
        },
        shares,
        payload,
    })
}

/// A reply: a line with the number of its message, its kind, the worker and microseconds, and then the body.
pub(super) fn reply(me: PeerId, settled: &Settled) -> Vec<u8> {
    let (kind, body) = match &settled.verdict {
        Verdict::Reply(bytes) => (REPLY, Cow::Borrowed(&bytes[..])),
        // Texts and numbers always encode; should that change, the pool says that it could not read it.
        Verdict::Failed(error) => (FAILED, Cow::Owned(wire::to_bytes(error).unwrap_or_default())),
        Verdict::Lost { begun, reason } => (
            if *begun { LOST_BEGUN } else { LOST },
            Cow::Borrowed(reason.as_bytes()),
        ),
    };
    let (id, took) = (settled.lease.id.0, settled.took.as_micros());
    let mut reply = format!("{id} {kind} {} {took}\n", me.0).into_bytes();
    reply.extend_from_slice(&body);
    reply
}

/// A reply as it was read; nothing if it is none.
pub(super) fn arrival(reply: &[u8]) -> Option<Arrival> {
    let end = reply.iter().position(|byte| *byte == b'\n')?;
    let (line, body) = (std::str::from_utf8(&reply[..end]).ok()?, &reply[end + 1..]);
    let mut words = line.split(' ');
    let id = MessageId(words.next()?.parse().ok()?);
    let kind: u8 = words.next()?.parse().ok()?;
    let worker = PeerId(words.next()?.parse().ok()?);
    let took = Duration::from_micros(words.next()?.parse().ok()?);
    let lost = |begun| Verdict::Lost {
        begun,
        reason: String::from_utf8_lossy(body).into_owned(),
    };
    let verdict = match kind {
        REPLY => Verdict::Reply(body.to_vec()),
        LOST => lost(false),
        LOST_BEGUN => lost(true),
        FAILED => Verdict::Failed(wire::from_bytes(body).unwrap_or_else(|error| {
            TaskError::Codec(format!(
                "reply: the error of the worker was not readable: {error}"
            ))
        })),
        other => Verdict::Failed(TaskError::Codec(format!("reply: unknown kind {other}"))),
    };
    Some(Arrival {
        id,
        worker,
        took,
        verdict,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        let settled = |verdict| Settled {
            lease: Lease {
                id: MessageId(7),
                slot: 0,
                apart: false,
            },
            pool: PeerId(1),
            took: Duration::from_micros(42),
            verdict,
            kept: false,
        };
        let body = b"first\nsecond \xff".to_vec();
        let read = arrival(&reply(PeerId(3), &settled(Verdict::Reply(body.clone())))).expect("a reply");
        assert_eq!(
            (read.id, read.worker, read.took),
            (MessageId(7), PeerId(3), Duration::from_micros(42))
        );
        assert!(matches!(read.verdict, Verdict::Reply(read) if read == body));
        let failed = Verdict::Failed(TaskError::Rejected("no".to_owned()));
        let read = arrival(&reply(PeerId(3), &settled(failed))).expect("a reply");
        assert!(matches!(read.verdict, Verdict::Failed(TaskError::Rejected(text)) if text == "no"));
    }

    proptest! {
        /// Whatever stands on a server, what reads it returns.
        #[test]
        fn nothing_that_is_read_is_believed(bytes in prop::collection::vec(any::<u8>(), 0..200), line in "[0-9 -]{0,40}\n.{0,9}") {
            let _ = arrival(&bytes);
            let _ = arrival(line.as_bytes());
            let text = String::from_utf8_lossy(&bytes).into_owned();
            prop_assert!(peers(&[line.clone(), text, line.clone()], 1).is_empty());
            let fields = vec![line.into_bytes(); 9 + bytes.len() % 9];
            let read = deliveries(fields);
            prop_assert!(read.len() <= 1);
        }
    }
}
