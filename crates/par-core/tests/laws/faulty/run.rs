//! How the workers of the test engine run claims: typed, through bytes, or on a thread that plays a process.

use super::{Fault, Faulty, Mode};
use par_core::conformance::simulate_death;
use par_core::job::Claim;
use par_core::remote::{Call, Part, Prepared};
use par_core::share::Recorder;
use par_core::{CancelFlag, TaskError, Token, WorkerGuard, push_token, registry, wire, worker_index};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// A worker of the engine.
pub(super) enum Worker {
    /// This thread runs the tasks.
    Here(
        #[allow(dead_code, reason = "held for its drop")] WorkerGuard,
        Result<(), TaskError>,
    ),
    /// Another thread plays a process; it can be replaced.
    There(usize, Executor),
}

impl Worker {
    pub(super) fn start(engine: &Faulty, index: usize) -> Self {
        if engine.options.mode == Mode::Processes {
            return Worker::There(index, Executor::start(engine, index));
        }
        let (guard, outcome) = engine.enter(index);
        Worker::Here(guard, outcome)
    }

    /// How the initialiser ended.
    pub(super) fn outcome(&self) -> Result<(), TaskError> {
        match self {
            Worker::Here(_, outcome) => outcome.clone(),
            Worker::There(_, executor) => executor.ready.clone(),
        }
    }

    pub(super) fn run(&mut self, engine: &Faulty, claim: Claim) {
        match self {
            Worker::Here(..) => in_place(engine, claim),
            Worker::There(index, executor) => there(engine, *index, executor, claim),
        }
    }
}

/// Runs a claim on this thread.
pub(super) fn in_place(engine: &Faulty, mut claim: Claim) {
    if engine.count(&claim) {
        return std::mem::forget(claim);
    }
    if claim.job().is_cancelled() && !engine.has(Fault::StartsCancelled) {
        return claim.fail(TaskError::Cancelled);
    }
    if engine.options.mode == Mode::Typed || claim.job().borrows() {
        return claim.run();
    }
    let half = claim.range().len() / 2;
    let swaps = engine.has(Fault::SwapsReplies) && half > 0 && 2 * half == claim.range().len();
    let rest = if swaps { claim.split_off(half) } else { None };
    let Some(first) = Answered::of(engine, claim) else {
        return;
    };
    let Some(rest) = rest else { return first.complete() };
    let Some(mut second) = Answered::of(engine, rest) else {
        return;
    };
    let mut first = first;
    std::mem::swap(&mut first.reply, &mut second.reply);
    first.complete();
    second.complete();
}

/// A claim with the reply to it.
struct Answered {
    claim: Claim,
    reply: Vec<u8>,
    started: Instant,
}

impl Answered {
    /// Encodes a claim, runs it here and keeps the reply; ends the claim where that fails.
    fn of(engine: &Faulty, claim: Claim) -> Option<Self> {
        let worker = worker_index().unwrap_or(0);
        let (claim, mut request) = Request::of(engine, claim, worker)?;
        let started = Instant::now();
        let mut reply = request.run();
        if engine.has(Fault::CutsLogs) {
            // The bit of the form byte that says that lines follow.
            reply[0] &= 0x7f;
        }
        if engine.has(Fault::RunsTwice) && !claim.job().idempotent() {
            request.run();
        }
        Some(Answered {
            claim,
            reply,
            started,
        })
    }

    fn complete(self) {
        let worker = worker_index().unwrap_or(0);
        self.claim
            .complete(&self.reply, worker, self.started, self.started.elapsed());
    }
}

/// What a worker elsewhere gets.
struct Request {
    prepared: Prepared,
    part: Part,
    input: Vec<u8>,
    token: Token,
}

impl Request {
    fn of(engine: &Faulty, mut claim: Claim, worker: usize) -> Option<(Claim, Self)> {
        let made = claim.call(true).and_then(|call| {
            let call = if engine.has(Fault::IgnoresSignature) {
                with_our_signature(call)
            } else {
                call
            };
            let prepared = Prepared::new(&call)?;
            let mut input = Vec::new();
            let mut part = claim.encode(&mut input, &mut Recorder::new())?;
            if engine.has(Fault::ShiftsLeaves) {
                part.first += 512;
            }
            let token = if engine.has(Fault::HidesTokens) {
                Token::Flag(Arc::new(CancelFlag::new(None)))
            } else {
                Token::Job(Arc::clone(claim.job()))
            };
            Ok(Request {
                prepared,
                part,
                input,
                token,
            })
        });
        match made {
            Ok(request) => {
                claim.delivered(worker);
                claim.begun();
                Some((claim, request))
            }
            Err(error) => {
                claim.fail(error);
                None
            }
        }
    }

    fn run(&mut self) -> Vec<u8> {
        let mut reply = Vec::new();
        let _token = push_token(self.token.clone());
        self.prepared.run(self.part, &self.input, &mut reply);
        reply
    }
}

/// The form in which a call crosses, written down again to forge one.
#[derive(Serialize, Deserialize)]
struct Forged {
    code: ForgedCode,
    all_outcomes: bool,
    logs: bool,
}

#[derive(Serialize, Deserialize)]
enum ForgedCode {
    Task { name: String, signature: String },
    Entry { offset: u64, data: Vec<u8> },
}

fn with_our_signature(call: Call) -> Call {
    let mut forged: Forged =
        wire::from_bytes(&wire::to_bytes(&call).expect("texts")).expect("the form of a call");
    if let ForgedCode::Task { name, signature } = &mut forged.code
        && let Ok(entry) = registry::find(name)
    {
        entry.signature().text().clone_into(signature);
    }
    wire::from_bytes(&wire::to_bytes(&forged).expect("texts")).expect("the form of a call")
}

/// What comes back from a thread that plays a process.
enum Word {
    Reply(Vec<u8>),
    Died,
}

/// The near end of a thread that plays a process.
pub(super) struct Executor {
    requests: mpsc::Sender<Request>,
    words: mpsc::Receiver<Word>,
    ready: Result<(), TaskError>,
}

impl Executor {
    fn start(engine: &Faulty, index: usize) -> Self {
        let (requests, to_run) = mpsc::channel::<Request>();
        let (tell, words) = mpsc::channel();
        let (ready, told) = mpsc::channel();
        let weak = engine.me.clone();
        thread::spawn(move || {
            let Some(engine) = weak.upgrade() else { return };
            let (_guard, outcome) = engine.enter(index);
            drop(engine);
            let _ = ready.send(outcome);
            let death = tell.clone();
            simulate_death(move || {
                let _ = death.send(Word::Died);
                // A process that is dead says nothing more; this one must only be gone when its pool is.
                while weak.upgrade().is_some_and(|engine| !engine.state.lock().closed) {
                    thread::sleep(Duration::from_millis(5));
                }
            });
            for mut request in to_run {
                let reply = request.run();
                drop(request);
                if tell.send(Word::Reply(reply)).is_err() {
                    return;
                }
            }
        });
        let ready = told
            .recv()
            .unwrap_or_else(|_| Err(TaskError::Rejected("the pool is gone".to_owned())));
        Executor {
            requests,
            words,
            ready,
        }
    }
}

fn there(engine: &Faulty, index: usize, executor: &mut Executor, claim: Claim) {
    let mut next = Some(claim);
    while let Some(claim) = next.take() {
        if claim.job().is_cancelled() {
            return claim.fail(TaskError::Cancelled);
        }
        engine.count(&claim);
        let Some((claim, request)) = Request::of(engine, claim, index) else {
            return;
        };
        let started = Instant::now();
        // Should the thread be gone, the next line says so.
        let _ = executor.requests.send(request);
        if let Ok(Word::Reply(reply)) = executor.words.recv() {
            return claim.complete(&reply, index, started, started.elapsed());
        }
        if !engine.died(index) {
            return claim.fail(engine.broken().unwrap_or(TaskError::Cancelled));
        }
        *executor = Executor::start(engine, index);
        next = claim.lost("it only played at dying");
    }
}
