//! Feeding: claims are taken from the queue, encoded, and sent to a rank, many in one message where they are small.

use super::Hub;
use super::queue::Taken;
use super::seat::{Packed, Pen};
use crate::protocol::{check_length, down};
use par_core::{ShareId, TaskError, wire};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one batch, about: more than that is encoded later.
const BATCH: usize = 512 << 10;
/// How long requests wait behind another before an idle worker gets them.
const PATIENCE: Duration = Duration::from_millis(1);
/// The most calls that a worker remembers.
const CALLS: usize = 1024;

impl Hub {
    /// Gives every worker that has nothing to do something to do.
    pub(super) fn feed_idle(&self) {
        for seat in 0..self.seats.len() {
            self.feed(seat, false);
        }
        self.office.expect();
    }

    /// Makes workers that wait behind long tasks give their requests to idle ones, and tells busy workers how many are idle; returns
    /// when to look again.
    pub(super) fn balance(&self) -> Option<Duration> {
        let mut idle = 0;
        for seat in &self.seats {
            let state = seat.state.lock();
            idle += usize::from(state.ready && state.flight.is_empty());
        }
        let free = if self.queue.is_empty() { idle as u64 } else { 0 };
        let mut next: Option<Duration> = None;
        for (index, seat) in self.seats.iter().enumerate() {
            let mut state = seat.state.lock();
            if !state.ready || state.ended || (free == 0 && state.told == 0 && !state.has_waiting()) {
                continue;
            }
            let left = PATIENCE.saturating_sub(state.since.elapsed());
            // Of a worker that answers all the time nobody wants anything.
            let busy = !state.flight.is_empty() && left.is_zero();
            let tell = if busy { free } else { 0 };
            if state.told != tell {
                state.told = tell;
                self.say(index, down::IDLE, |out| {
                    out.extend_from_slice(&tell.to_le_bytes())
                });
            }
            if idle == 0 || state.flight.is_empty() {
                continue;
            }
            if !busy {
                next = Some(next.map_or(left, |next| next.min(left)));
            } else if state.has_waiting() {
                state.recalls += 1;
                self.say(index, down::RECALL, |out| {
                    out.extend_from_slice(&0u64.to_le_bytes())
                });
            }
        }
        next
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
            let (mut pen, room) = {
                let mut state = seat.state.lock();
                let room = state.room(ahead);
                if room == 0 {
                    return;
                }
                match state.pen.take() {
                    Some(pen) => (pen, room),
                    None => {
                        state.wanted = true;
                        return;
                    }
                }
            };
            self.queue.take(index, room, &mut taken);
            let got = !taken.is_empty();
            let (packed, refused) = self.encode(index, &mut pen, &mut taken);
            let mut stale = Vec::new();
            let mut late = Vec::new();
            let wanted = {
                let mut state = seat.state.lock();
                if state.ended {
                    stale.extend(packed.into_iter().map(|packed| packed.taken));
                } else {
                    // Whoever cancelled them while they were encoded has not found them in the flight.
                    late.extend(
                        packed
                            .iter()
                            .map(|packed| packed.taken.claim.job())
                            .filter(|job| job.is_cancelled())
                            .map(Arc::clone),
                    );
                    if !pen.batch.is_empty() {
                        self.send_batch(index, &mut state, &mut pen, packed);
                    }
                    state.pen = Some(pen);
                    self.settle_evictions(index, &mut state);
                }
                std::mem::take(&mut state.wanted)
            };
            self.give_back(stale);
            for job in late {
                self.cancel(&job);
            }
            for (claim, error) in refused {
                self.fail_claim(claim, error);
            }
            if !got && !wanted {
                return;
            }
        }
    }

    /// Encodes what was taken into the pen's batch; what does not fit any more goes back to the queue. Returns what is in the batch,
    /// and what cannot be sent, with the reasons.
    fn encode(
        &self,
        index: usize,
        pen: &mut Pen,
        taken: &mut Vec<Taken>,
    ) -> (Vec<Packed>, Vec<(par_core::job::Claim, TaskError)>) {
        let mut refused = Vec::new();
        let mut packed = Vec::with_capacity(taken.len());
        let mut later = Vec::new();
        for mut taken in taken.drain(..) {
            if pen.batch.len() >= BATCH {
                later.push(taken);
                continue;
            }
            if taken.claim.job().is_cancelled() || taken.claim.job().is_done() {
                self.cancel_claim(taken.claim);
                continue;
            }
            // Code of users encodes, and may panic.
            match par_core::catch(|| self.encode_one(pen, &taken)).and_then(|encoded| encoded) {
                Ok(bytes) => {
                    taken.claim.delivered(index);
                    packed.push(Packed { taken, bytes });
                }
                Err(error) => refused.push((taken.claim, error)),
            }
        }
        self.put_back(later);
        (packed, refused)
    }

    /// Returns the length of the input.
    fn encode_one(&self, pen: &mut Pen, taken: &Taken) -> Result<usize, TaskError> {
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
            ..
        } = pen;
        input.clear();
        let part = taken.claim.encode(input, recorder)?;
        check_length("inputs", input.len(), self.longest)?;
        if !recorder.is_empty() {
            for share in recorder.take() {
                let id: ShareId = share.id();
                if !shares.contains(&id) {
                    let value = share.bytes()?;
                    check_length("a shared value", value.len(), self.longest)?;
                    batch.share(id, &value);
                    shares.insert(id);
                }
            }
        }
        batch.run(job.0, call, part, input);
        let bytes = input.len();
        if input.capacity() > BATCH {
            *input = Vec::new();
        }
        Ok(bytes)
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
