//! The pool's side: the ledger of what it has published, which alone says who may run what (rules 3 and 4 of the protocol).

use super::letter::Ended;
use crate::broker::kept::Record;
use crate::broker::{Arrival, MessageId, PeerId, Verdict};
use par_core::{TaskError, wire};
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// What an outcome is, in its head and where it is kept.
pub(super) const REPLY: u8 = 0;
pub(super) const FAILED: u8 = 1;

/// What a peer has published and not seen end.
#[derive(Default)]
pub(super) struct Ledger {
    entries: HashMap<MessageId, Entry>,
    jobs: HashMap<u64, HashSet<MessageId>>,
    arrivals: VecDeque<Arrival>,
    /// The workers that were told of a cancelled job.
    told: HashMap<u64, Vec<PeerId>>,
}

struct Entry {
    job: u64,
    since: Instant,
    /// Who may run it, by which of its questions. Nobody while it is on offer.
    holder: Option<(PeerId, u64)>,
}

impl Ledger {
    pub(super) fn enter(&mut self, id: MessageId, job: u64) {
        let entry = Entry {
            job,
            since: Instant::now(),
            holder: None,
        };
        self.entries.insert(id, entry);
        self.jobs.entry(job).or_default().insert(id);
    }

    fn remove(&mut self, id: MessageId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        if let Some(ids) = self.jobs.get_mut(&entry.job) {
            ids.remove(&id);
            if ids.is_empty() {
                self.jobs.remove(&entry.job);
            }
        }
        Some(entry)
    }

    /// Whether this worker may run a message. One question has one answer, however often it comes.
    pub(super) fn grant(&mut self, id: MessageId, worker: PeerId, ask: u64) -> bool {
        match self.entries.get_mut(&id) {
            Some(Entry {
                holder: holder @ None,
                ..
            }) => {
                *holder = Some((worker, ask));
                true
            }
            Some(entry) => entry.holder == Some((worker, ask)),
            None => false,
        }
    }

    /// An offer that will never be granted is made anew.
    pub(super) fn offer_again(&mut self, id: MessageId, reason: &str) {
        if self.entries.get(&id).is_some_and(|entry| entry.holder.is_none()) {
            self.lose(id, PeerId(0), false, reason);
        }
    }

    fn lose(&mut self, id: MessageId, worker: PeerId, begun: bool, reason: &str) {
        if self.remove(id).is_some() {
            self.arrivals.push_back(Arrival {
                id,
                worker,
                took: Duration::ZERO,
                verdict: Verdict::Lost {
                    begun,
                    reason: reason.to_owned(),
                },
            });
        }
    }

    fn is_held_by(&self, id: MessageId, worker: PeerId) -> bool {
        let entry = self.entries.get(&id);
        entry.is_some_and(|entry| entry.holder.is_some_and(|(holder, _)| holder == worker))
    }

    /// Takes messages of a job out that nobody may run.
    pub(super) fn withdraw(&mut self, job: u64, most: usize) -> Vec<MessageId> {
        let Some(ids) = self.jobs.get(&job) else {
            return Vec::new();
        };
        let offered = |id: &&MessageId| self.entries.get(id).is_some_and(|entry| entry.holder.is_none());
        let taken: Vec<MessageId> = ids.iter().filter(offered).take(most).copied().collect();
        for id in &taken {
            self.remove(*id);
        }
        taken
    }

    /// A worker gives a message back that it has not begun.
    pub(super) fn release(&mut self, id: MessageId, worker: PeerId) {
        if self.is_held_by(id, worker) {
            self.lose(id, worker, false, "its worker gave it back");
        }
    }

    /// Takes a message out that its own peer holds.
    pub(super) fn reclaim(&mut self, id: MessageId) {
        self.remove(id);
    }

    /// Takes the outcomes of a worker; what it does not hold any more has ended in another way.
    pub(super) fn end(&mut self, worker: PeerId, list: &[Ended], tail: &[u8]) -> Result<(), String> {
        let mut rest = tail;
        for ended in list {
            let Some((body, after)) = usize::try_from(ended.length)
                .ok()
                .and_then(|length| rest.split_at_checked(length))
            else {
                return Err(format!(
                    "an outcome of {} bytes where {} are left",
                    ended.length,
                    rest.len()
                ));
            };
            rest = after;
            let id = MessageId(ended.id);
            if self.is_held_by(id, worker) {
                let verdict = verdict(ended.kind, body.to_vec());
                self.arrive(id, worker, Duration::from_micros(ended.took_us), verdict);
            }
        }
        Ok(())
    }

    /// Takes an outcome as it is.
    pub(super) fn arrive(&mut self, id: MessageId, worker: PeerId, took: Duration, verdict: Verdict) {
        if self.remove(id).is_some() {
            self.arrivals.push_back(Arrival {
                id,
                worker,
                took,
                verdict,
            });
        }
    }

    /// Whether a worker holds anything.
    pub(super) fn has_holder(&self, worker: PeerId) -> bool {
        let held = |entry: &Entry| entry.holder.is_some_and(|(holder, _)| holder == worker);
        self.entries.values().any(held)
    }

    /// Rule 8: ends everything that a dead worker holds, by what it left. Without marks it counts as having begun all.
    pub(super) fn bury(
        &mut self,
        worker: PeerId,
        marks: Option<&[i64]>,
        outcomes: &HashMap<i64, Record>,
        reason: &str,
    ) {
        let held = |(id, entry): (&MessageId, &Entry)| {
            entry
                .holder
                .is_some_and(|(holder, _)| holder == worker)
                .then_some(*id)
        };
        let mut held: Vec<MessageId> = self.entries.iter().filter_map(held).collect();
        held.sort_unstable();
        for id in held {
            match outcomes.get(&id.0) {
                Some(record) => {
                    let took = Duration::from_micros(record.took_us.max(0) as u64);
                    let kind = u8::try_from(record.kind).unwrap_or(u8::MAX);
                    self.arrive(id, worker, took, verdict(kind, record.body.clone()));
                }
                None => {
                    let begun = marks.is_none_or(|marks| marks.contains(&id.0));
                    self.lose(id, worker, begun, reason);
                }
            }
        }
    }

    /// Who holds messages of a job.
    pub(super) fn holders(&self, job: u64) -> Vec<(PeerId, MessageId)> {
        let ids = self.jobs.get(&job).into_iter().flatten();
        let holder = |id: &MessageId| Some((self.entries.get(id)?.holder?.0, *id));
        ids.filter_map(holder).collect()
    }

    /// Notes that a job is cancelled; the workers that have to be told.
    pub(super) fn raise(&mut self, job: u64) -> Vec<PeerId> {
        let mut workers: Vec<PeerId> = self.holders(job).into_iter().map(|(worker, _)| worker).collect();
        workers.sort_unstable();
        workers.dedup();
        self.told.insert(job, workers.clone());
        workers
    }

    /// Forgets that a job was cancelled; the workers that were told.
    pub(super) fn lower(&mut self, job: u64) -> Vec<PeerId> {
        self.told.remove(&job).unwrap_or_default()
    }

    /// What has been on offer for so long.
    pub(super) fn offered_before(&self, at: Instant) -> Vec<MessageId> {
        let old =
            |(id, entry): (&MessageId, &Entry)| (entry.holder.is_none() && entry.since < at).then_some(*id);
        self.entries.iter().filter_map(old).collect()
    }

    pub(super) fn has_arrivals(&self) -> bool {
        !self.arrivals.is_empty()
    }

    /// Takes arrivals out, up to about so many bytes.
    pub(super) fn collect(&mut self, bytes: usize) -> Vec<Arrival> {
        let mut size = 0;
        let mut taken = Vec::new();
        while size < bytes
            && let Some(arrival) = self.arrivals.pop_front()
        {
            if let Verdict::Reply(body) = &arrival.verdict {
                size += body.len();
            }
            taken.push(arrival);
        }
        taken
    }
}

/// Kind and body of an outcome, as they are sent and kept.
pub(super) fn form(verdict: &Verdict) -> (u8, std::borrow::Cow<'_, [u8]>) {
    match verdict {
        Verdict::Reply(bytes) => (REPLY, bytes.into()),
        Verdict::Failed(error) => (FAILED, wire::to_bytes(error).unwrap_or_default().into()),
        // A worker that lives loses nothing; should it say so, its pool can read it.
        Verdict::Lost { reason, .. } => {
            let error = TaskError::Rejected(reason.clone());
            (FAILED, wire::to_bytes(&error).unwrap_or_default().into())
        }
    }
}

fn verdict(kind: u8, body: Vec<u8>) -> Verdict {
    match kind {
        REPLY => Verdict::Reply(body),
        FAILED => Verdict::Failed(wire::from_bytes(&body).unwrap_or_else(|error| {
            TaskError::Codec(format!(
                "reply: the error of the worker was not readable: {error}"
            ))
        })),
        other => Verdict::Failed(TaskError::Codec(format!("reply: unknown kind {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: u64 = 7;
    const ANN: PeerId = PeerId(1);
    const BOB: PeerId = PeerId(2);

    fn ledger(ids: std::ops::Range<i64>) -> Ledger {
        let mut ledger = Ledger::default();
        ids.for_each(|id| ledger.enter(MessageId(id), JOB));
        ledger
    }

    fn lost(ledger: &mut Ledger) -> Vec<(i64, bool)> {
        let lost = |arrival: Arrival| match arrival.verdict {
            Verdict::Lost { begun, .. } => Some((arrival.id.0, begun)),
            _ => None,
        };
        ledger.collect(usize::MAX).into_iter().filter_map(lost).collect()
    }

    #[test]
    fn a_message_is_granted_to_one_question_of_one_worker() {
        let mut ledger = ledger(1..2);
        let id = MessageId(1);
        assert!(ledger.grant(id, ANN, 5));
        assert!(ledger.grant(id, ANN, 5), "the same question again");
        assert!(!ledger.grant(id, ANN, 6), "another question of the same worker");
        assert!(!ledger.grant(id, BOB, 5));
        assert!(ledger.withdraw(JOB, 9).is_empty());
        let ended = Ended {
            id: 1,
            kind: REPLY,
            took_us: 3,
            length: 2,
        };
        // Of who does not hold it; then twice of who does.
        for worker in [BOB, ANN, ANN] {
            assert_eq!(ledger.end(worker, &[ended], b"ok"), Ok(()));
        }
        let arrivals = ledger.collect(usize::MAX);
        assert_eq!(arrivals.len(), 1);
        assert!(matches!(&arrivals[0].verdict, Verdict::Reply(body) if body == b"ok"));
        assert!(!ledger.grant(id, BOB, 1), "it has ended");
        assert!(
            ledger.end(ANN, &[Ended { length: 3, ..ended }], b"ok").is_err(),
            "a claim beyond the tail"
        );
    }

    #[test]
    fn the_dead_lose_what_they_had_begun_and_not_ended() {
        let mut one = ledger(1..6);
        for id in 1..5 {
            assert!(one.grant(MessageId(id), ANN, 1));
        }
        let kept = Record {
            kind: REPLY.into(),
            took_us: 1,
            body: b"kept".to_vec(),
        };
        one.bury(ANN, Some(&[1, 2, 0]), &HashMap::from([(1, kept)]), "gone");
        let arrivals = one.collect(usize::MAX);
        let begun: Vec<_> = arrivals
            .iter()
            .map(|arrival| match &arrival.verdict {
                Verdict::Lost { begun, .. } => Some(*begun),
                _ => None,
            })
            .collect();
        assert_eq!(begun, [None, Some(true), Some(false), Some(false)]);
        assert_eq!(one.withdraw(JOB, 9), [MessageId(5)], "what was on offer still is");

        let mut two = ledger(1..3);
        assert!(two.grant(MessageId(1), BOB, 1));
        two.bury(BOB, None, &HashMap::new(), "gone");
        assert_eq!(lost(&mut two), [(1, true)], "without marks it counts as begun");
        two.offer_again(MessageId(2), "returned");
        two.release(MessageId(2), BOB);
        assert_eq!(lost(&mut two), [(2, false)]);
    }
}
