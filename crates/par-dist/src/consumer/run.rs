//! What a thread of a peer does: it takes a message, gets ready what it needs, and runs it.

use super::Consumer;
use crate::broker::{CallId, Delivery, Lease, PeerId, Settled, Verdict};
use par_core::engine::Initializer;
use par_core::remote::{Call, Prepared};
use par_core::share::{self, ShareId};
use par_core::{TaskError, Token, push_token, wire};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// The most calls that are kept found.
const CALLS: usize = 1024;
/// The most items that a message may claim to hold.
const ITEMS: u64 = 1 << 28;

thread_local! {
    /// The pool on whose behalf this thread runs.
    static ROOT: Cell<Option<PeerId>> = const { Cell::new(None) };
    /// The pools whose initialiser has run on this thread.
    static INITIALIZED: RefCell<HashSet<PeerId>> = RefCell::default();
}

/// The pool on whose behalf the current task runs.
pub(crate) fn current_root() -> Option<PeerId> {
    ROOT.get()
}

impl Consumer {
    pub(super) fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if state.stopping {
                return;
            }
            // Rule 4.
            if state.heavy == 0
                && state.free(self.concurrency) > 0
                && let Some(delivery) = state.ahead.pop_front()
            {
                let started = Instant::now();
                state.running.insert(delivery.lease.id.0, started);
                drop(state);
                let settled = self.run(delivery, started).map(|mut settled| {
                    settled.kept = self.broker.keep(&settled);
                    settled
                });
                state = self.state.lock();
                let took = started.elapsed();
                state.mean = Some(
                    state
                        .mean
                        .map_or(took, |mean| mean.mul_f64(0.8) + took.mul_f64(0.2)),
                );
                match settled {
                    Ok(settled) => {
                        state.running.remove(&settled.lease.id.0);
                        state.heavy += usize::from(!settled.kept);
                        state.done.push(settled);
                    }
                    Err(lease) => {
                        state.running.remove(&lease.id.0);
                    }
                }
                // A place is free for whoever waits for one.
                self.changed.notify_one();
                parking_lot::MutexGuard::unlocked(&mut state, || self.broker.wake());
                continue;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Runs a message; its lease alone where this peer must not run it any more.
    fn run(&self, delivery: Delivery, started: Instant) -> Result<Settled, Lease> {
        let Delivery {
            lease,
            pool,
            root,
            job,
            call,
            part,
            shares,
            payload,
        } = delivery;
        let flag = self.flag((pool, job));
        let mut reply = Vec::new();
        let outcome = self.get_ready(pool, root, call, &shares).and_then(|prepared| {
            if part.items > ITEMS {
                Err(too_many(part.items))
            } else {
                Ok(prepared)
            }
        });
        let outcome = match outcome {
            Ok(prepared) => {
                // Rule 3.
                match self.broker.begin(lease) {
                    // To be told that it may begin takes a while where a server says so, and it may have been cancelled meanwhile.
                    Ok(true) if flag.is_raised() => Err(TaskError::Cancelled),
                    Ok(true) => {
                        let before = ROOT.replace(Some(root));
                        let token = push_token(Token::Flag(flag));
                        // Code of users runs outside of tasks as well, while inputs are decoded.
                        let outcome = par_core::catch(|| prepared.run(part, &payload, &mut reply));
                        drop(token);
                        ROOT.set(before);
                        outcome
                    }
                    Ok(false) => return Err(lease),
                    Err(error) => Err(TaskError::Rejected(error.to_string())),
                }
            }
            Err(error) => Err(error),
        };
        let verdict = match outcome {
            Ok(()) => Verdict::Reply(reply),
            Err(error) => Verdict::Failed(error),
        };
        Ok(Settled {
            lease,
            pool,
            took: started.elapsed(),
            verdict,
            kept: false,
        })
    }

    fn get_ready(
        &self,
        pool: PeerId,
        root: PeerId,
        call: CallId,
        shares: &[u8],
    ) -> Result<Arc<Prepared>, TaskError> {
        let lost = |error: crate::BrokerError| TaskError::Rejected(error.to_string());
        if !INITIALIZED.with_borrow(|done| done.contains(&root)) {
            match self.broker.initializer(root).map_err(lost)? {
                Some(bytes) => {
                    let initializer = wire::from_bytes::<Initializer>(&bytes)
                        .map_err(|error| TaskError::Codec(format!("the initialiser of the pool: {error}")))?;
                    initialize(root, &initializer)?;
                }
                None => INITIALIZED.with_borrow_mut(|done| {
                    done.insert(root);
                }),
            }
        }
        let mut rest = shares;
        while !rest.is_empty() {
            let before = rest;
            let id: ShareId = wire::decode(&mut rest)
                .map_err(|error| TaskError::Codec(format!("shared values: {error}")))?;
            let key = &before[..before.len() - rest.len()];
            // What is not there any more is noticed by the input that names it, which says so.
            if !share::has(id)
                && let Some(value) = self.broker.share(pool, key).map_err(lost)?
            {
                share::receive(id, value);
                self.shares.lock().insert(key.to_vec(), id);
            }
        }
        if let Some(prepared) = self.calls.lock().get(&call) {
            return Ok(Arc::clone(prepared));
        }
        let bytes = self.broker.call(pool, call).map_err(lost)?;
        let bytes = bytes.ok_or_else(|| TaskError::Rejected("its pool is gone".to_owned()))?;
        let found =
            wire::from_bytes::<Call>(&bytes).map_err(|error| TaskError::Codec(format!("call: {error}")))?;
        if found.task_name().is_none() {
            // An entry is an address in another program; here nobody has checked that it is this one.
            return Err(TaskError::Rejected(
                "a broker carries tasks by name only".to_owned(),
            ));
        }
        let prepared = Arc::new(Prepared::new(&found)?);
        let mut calls = self.calls.lock();
        if calls.len() >= CALLS {
            calls.clear();
        }
        calls.insert(call, Arc::clone(&prepared));
        Ok(prepared)
    }
}

pub(super) fn initialize(pool: PeerId, initializer: &Initializer) -> Result<(), TaskError> {
    initializer.run()?;
    INITIALIZED.with_borrow_mut(|done| {
        done.insert(pool);
    });
    Ok(())
}

fn too_many(items: u64) -> TaskError {
    TaskError::Codec(format!(
        "a message claims to hold {items} items, at most {ITEMS} are believed"
    ))
}
