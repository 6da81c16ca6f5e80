//! What a rank reads: setups, batches of requests, the code that they name, answers, and what pools want back.

use super::{Desk, Worker};
use crate::error::MpiError;
use crate::protocol::{Bad, Ended, Item, Items, down, read_answer, read_number, split_pool, up};
use crate::transport::{Channel, Match, Message, Received};
use par_core::remote::{Call, Part, Prepared};
use par_core::{TaskError, forbid_blocking, share, wire};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A request of a pool.
pub(super) struct Request {
    pub(super) number: u64,
    pub(super) job: u64,
    pub(super) call: Result<Arc<Prepared>, TaskError>,
    pub(super) part: Part,
    message: Arc<Vec<u8>>,
    input: Range<usize>,
}

impl Request {
    pub(super) fn input(&self) -> &[u8] {
        &self.message[self.input.clone()]
    }
}

/// Messages that are taken at once.
const MANY: usize = 64;

impl Desk {
    /// Waits for a message, and deals with it.
    pub(super) fn hear(self: &Arc<Self>) -> Result<(), MpiError> {
        match self.transport.receive(Channel::Engine, Match::ANY, None)? {
            Received::Message(message) => self.take(message),
            Received::Nothing | Received::Ended => Ok(()),
        }
    }

    /// Deals with the messages that are there.
    pub(super) fn hear_all(self: &Arc<Self>) -> Result<(), MpiError> {
        for _ in 0..MANY {
            match self.transport.try_receive(Channel::Engine, Match::ANY)? {
                Some(message) => self.take(message)?,
                None => break,
            }
        }
        Ok(())
    }

    fn take(self: &Arc<Self>, message: Message) -> Result<(), MpiError> {
        let (source, kind) = (message.source, message.tag);
        self.deal(message).map_err(|bad| {
            let rank = self.transport.rank();
            let what = format!("rank {rank} cannot read what rank {source} says, a message of kind {kind}");
            MpiError::Unusable(format!("{what}: {bad}"))
        })
    }

    fn deal(self: &Arc<Self>, message: Message) -> Result<(), Bad> {
        let (pool, payload) = split_pool(&message.bytes)?;
        match message.tag {
            down::SETUP => {
                let setup = wire::from_bytes(payload).map_err(|_| Bad("the setup is not readable"))?;
                self.set_up(pool, setup);
                return Ok(());
            }
            down::LEAVE => {
                let mut now = self.state.lock();
                now.leaving = true;
                now.stop_all();
                return Ok(());
            }
            _ => {}
        }
        // A post that has ended has nothing to hear.
        let Some(worker) = self
            .state
            .lock()
            .posts
            .get(&pool)
            .map(|post| Arc::clone(&post.worker))
        else {
            return Ok(());
        };
        match message.tag {
            down::BATCH => worker.batch(message.bytes)?,
            down::ANSWER => worker.answer(payload)?,
            down::CANCEL => worker.recall(read_number(payload)?, true),
            down::RECALL => worker.recall(read_number(payload)?, false),
            down::IDLE => {
                let idle = usize::try_from(read_number(payload)?).unwrap_or(usize::MAX);
                let mut now = self.state.lock();
                if let Some(post) = now.posts.get_mut(&pool) {
                    post.idle = idle;
                }
            }
            down::STOP => {
                let mut now = self.state.lock();
                if let Some(post) = now.posts.get_mut(&pool) {
                    post.stopping = true;
                }
                self.changed.notify_all();
            }
            _ => return Err(Bad("its kind is unknown")),
        }
        Ok(())
    }
}

impl Worker {
    fn batch(&self, bytes: Vec<u8>) -> Result<(), Bad> {
        let message = Arc::new(bytes);
        let mut items = Items::new(&message)?;
        let mut requests = Vec::new();
        let mut calls = self.calls.lock();
        while let Some(item) = items.next()? {
            match item {
                Item::Call { number, call } => {
                    let call = wire::from_bytes::<Call>(&message[call])
                        .map_err(|error| TaskError::Codec(format!("call: {error}")))
                        .and_then(|call| Prepared::new(&call))
                        .map(Arc::new);
                    calls.insert(number, call);
                }
                Item::ForgetCalls => calls.clear(),
                Item::Share { id, value } => share::receive(id, message[value].to_vec()),
                Item::Evict(id) => share::forget(id),
                Item::Run {
                    number,
                    job,
                    call,
                    part,
                    input,
                } => requests.push(Request {
                    number,
                    job,
                    call: calls.get(&call).ok_or(Bad("a request names no call"))?.clone(),
                    part,
                    message: Arc::clone(&message),
                    input,
                }),
            }
        }
        drop(calls);
        let mut now = self.desk.state.lock();
        if let Some(post) = now.posts.get_mut(&self.pool) {
            post.requests.extend(requests);
        }
        Ok(())
    }

    fn answer(&self, payload: &[u8]) -> Result<(), Bad> {
        let (id, ended) = read_answer(payload)?;
        // One that nobody waits for any more may still be answered.
        if let Some(claim) = self.nested.answered(id) {
            // Callbacks run here, and only this thread reads what they might wait for.
            let _reading = forbid_blocking();
            match ended {
                Ended::Reply(reply) => claim.complete(reply, self.index, Instant::now(), Duration::ZERO),
                Ended::Failed(error) => claim.fail(error),
            }
        }
        Ok(())
    }

    /// Gives back what has not begun of that job, or of any for 0, and raises the tokens of what runs of it (rule 4).
    fn recall(&self, job: u64, cancelled: bool) {
        let mut returned = Vec::new();
        {
            let mut now = self.desk.state.lock();
            let Some(post) = now.posts.get_mut(&self.pool) else {
                return;
            };
            post.requests.retain(|request| {
                let goes = job == 0 || request.job == job;
                if goes {
                    returned.push(request.number);
                }
                !goes
            });
            if cancelled {
                for (running, flag) in &post.running {
                    if *running == job {
                        flag.raise();
                    }
                }
            }
        }
        self.say(up::RETURNED, |out| {
            returned
                .iter()
                .for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
        });
    }
}
