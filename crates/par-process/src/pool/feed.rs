//! Feeding: claims are taken from the queue, encoded, and sent to a worker.

use super::Hub;
use super::queue::Taken;
use super::seat::Pen;
use crate::arena::LARGE;
use crate::protocol::check_length;
use par_core::{ShareId, TaskError, wire};
use std::sync::Arc;

/// Bytes of one batch, about: more than that is encoded later.
const BATCH: usize = 512 << 10;
/// The most memory that stays with a pen for the next input.
const WARM: usize = 16 << 20;
/// The most calls that a worker remembers.
const CALLS: usize = 1024;

impl Hub {
    /// Gives every worker that has nothing to do something to do.
    pub(super) fn feed_idle(&self) {
        for seat in 0..self.seats.len() {
            self.feed(seat, false);
        }
    }

    /// Gives every worker what it should have, those that have nothing to do first.
    pub(super) fn feed_all(&self) {
        self.feed_idle();
        for seat in 0..self.seats.len() {
            self.feed(seat, true);
        }
    }

    fn feed(&self, index: usize, ahead: bool) {
        let seat = &self.seats[index];
        let mut taken = Vec::new();
        loop {
            let (mut pen, life, room, left, spent) = {
                let mut state = seat.state.lock();
                if state.is_through() {
                    drop(state);
                    return self.let_go(index);
                }
                let room = state.room(ahead);
                if room == 0 {
                    return;
                }
                match state.pen.take() {
                    Some(pen) => (pen, state.life, room, state.left_to_give(), state.is_spent()),
                    None => {
                        state.wanted = true;
                        return;
                    }
                }
            };
            let place = (index, self.seats.wanted(), self.seats.len());
            self.queue.take(place, room, spent, &mut taken);
            if !spent && self.tasks_per_worker < u64::MAX {
                self.put_back(self.beyond(left, &mut taken));
            }
            let got = !taken.is_empty();
            let refused = self.encode(index, &mut pen, &mut taken);
            let mut stale = Vec::new();
            let mut late = Vec::new();
            let wanted = {
                let mut state = seat.state.lock();
                if state.life == life {
                    // Whoever cancelled them while they were encoded has not found them in the flight.
                    late.extend(
                        taken
                            .iter()
                            .map(|taken| taken.claim.job())
                            .filter(|job| job.is_cancelled())
                            .map(Arc::clone),
                    );
                    if !pen.batch.is_empty() {
                        state.send_batch(&mut pen, taken.drain(..));
                    }
                    state.pen = Some(pen);
                    state.settle_evictions();
                } else {
                    stale = std::mem::take(&mut taken);
                }
                if state.is_clogged() {
                    self.pump.kick();
                }
                std::mem::take(&mut state.wanted)
            };
            self.give_back(stale);
            for job in late {
                self.cancel(&job, job.is_done());
            }
            for (claim, error) in refused {
                self.fail_claim(claim, error);
            }
            if !got && !wanted {
                return;
            }
        }
    }

    /// Takes out of `taken` what is beyond so many parts.
    fn beyond(&self, left: u64, taken: &mut Vec<Taken>) -> Vec<Taken> {
        let mut left = usize::try_from(left).unwrap_or(usize::MAX);
        let mut beyond = Vec::new();
        for mut one in std::mem::take(taken) {
            if left == 0 {
                beyond.push(one);
                continue;
            }
            if let Some(rest) = one.claim.split_off(left) {
                self.queue.held(1);
                beyond.push(Taken {
                    claim: rest,
                    nested: one.nested,
                });
            }
            left -= one.claim.range().len();
            taken.push(one);
        }
        beyond
    }

    /// Encodes what was taken into the pen's batch, and leaves in `taken` what is in it; what does not fit any more goes back to
    /// the queue. Returns what cannot be sent, with the reasons.
    fn encode(
        &self,
        index: usize,
        pen: &mut Pen,
        taken: &mut Vec<Taken>,
    ) -> Vec<(par_core::job::Claim, TaskError)> {
        pen.written = 0;
        let mut refused = Vec::new();
        let mut sent = Vec::with_capacity(taken.len());
        let mut later = Vec::new();
        for mut one in taken.drain(..) {
            if pen.batch.len() + pen.written >= BATCH {
                later.push(one);
                continue;
            }
            if one.claim.job().is_cancelled() || one.claim.job().is_done() {
                self.cancel_claim(one.claim);
                continue;
            }
            match self.encode_one(pen, &one) {
                Ok(()) => {
                    one.claim.delivered(index);
                    sent.push(one);
                }
                Err(error) => refused.push((one.claim, error)),
            }
        }
        *taken = sent;
        self.put_back(later);
        refused
    }

    fn encode_one(&self, pen: &mut Pen, taken: &Taken) -> Result<(), TaskError> {
        let job = taken.claim.job().id();
        let call = match pen.last {
            Some((last, call)) if last == job => call,
            _ => {
                let call = number_of(pen, &wire_error(wire::to_bytes(&taken.claim.call(true)?))?);
                pen.last = Some((job, call));
                call
            }
        };
        let Pen {
            batch,
            recorder,
            shares,
            input,
            arena,
            inputs,
            leases,
            written,
            ..
        } = pen;
        input.clear();
        let part = taken.claim.encode(input, recorder)?;
        check_length("inputs", input.len(), self.setup.longest)?;
        if !recorder.is_empty() {
            for share in recorder.take() {
                let id: ShareId = share.id();
                if !shares.contains(&id) {
                    let value = share.bytes()?;
                    check_length("a shared value", value.len(), self.setup.longest)?;
                    batch.share(id, &value);
                    shares.insert(id);
                }
            }
        }
        let shared = match arena {
            Some(arena) if input.len() >= LARGE => inputs.put(arena, input),
            _ => None,
        };
        match shared {
            Some((place, lease)) => {
                batch.run_shared(job.0, call, part, place);
                leases.push(Some(lease));
                *written += input.len();
            }
            None => {
                batch.run(job.0, call, part, input);
                leases.push(None);
            }
        }
        if input.capacity() > WARM {
            *input = Vec::new();
        }
        Ok(())
    }
}

/// The number by which the worker knows the call; tells it, if it does not.
fn number_of(pen: &mut Pen, call: &[u8]) -> u32 {
    if let Some(number) = pen.calls.get(call) {
        return *number;
    }
    if pen.calls.len() >= CALLS {
        pen.calls.clear();
        pen.batch.forget_calls();
    }
    // No truncation: there are few.
    let number = pen.calls.len() as u32;
    pen.calls.insert(call.to_vec(), number);
    pen.batch.call(number, call);
    number
}

fn wire_error<T>(result: Result<T, wire::WireError>) -> Result<T, TaskError> {
    result.map_err(|error| TaskError::Codec(error.to_string()))
}
