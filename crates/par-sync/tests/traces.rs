//! Locks beside CPython's: what its threading did in recorded scenarios (tests/traces/locks.py), ours does too.

use par_sync::{
    Barrier, BarrierError, BoundedSemaphore, Condvar, LifoQueue, Mutex, Order, OrderedQueue, PriorityQueue,
    Queue, Semaphore,
};
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

#[derive(Deserialize)]
struct Traces {
    barriers: Vec<BarrierTrace>,
    conditions: Vec<ConditionTrace>,
    semaphores: Vec<SemaphoreTrace>,
}

#[derive(Deserialize)]
struct BarrierTrace {
    parties: usize,
    action: bool,
    steps: Vec<String>,
    /// After each step: how many wait, whether it is broken, runs of the action, and the outcome of each party.
    seen: Vec<(usize, bool, usize, Vec<Option<Outcome>>)>,
}

#[derive(Deserialize, Debug, Clone, PartialEq)]
#[serde(untagged)]
enum Outcome {
    Place(usize),
    Broken(String),
}

#[derive(Deserialize)]
struct ConditionTrace {
    steps: Vec<ConditionStep>,
    /// After each step: who went on, and whether notified.
    seen: Vec<Vec<(usize, bool)>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ConditionStep {
    Notify(usize),
    Wait(String),
}

#[derive(Deserialize)]
struct SemaphoreTrace {
    bounded: bool,
    permits: usize,
    steps: Vec<SemaphoreStep>,
    seen: Vec<bool>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SemaphoreStep {
    Release(usize),
    Acquire(String),
}

fn traces() -> Traces {
    serde_json::from_str(include_str!("traces/locks.json")).expect("what the recorder wrote")
}

/// What a step that is timed waits; nobody comes meanwhile.
const SHORT: Duration = Duration::from_millis(20);

fn settle(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "it did not settle: {what}");
        thread::yield_now();
    }
}

fn replay_barrier(number: usize, trace: &BarrierTrace) {
    let ran = Arc::new(AtomicUsize::new(0));
    let barrier = if trace.action {
        let ran = Arc::clone(&ran);
        Barrier::with_action(trace.parties, move || {
            ran.fetch_add(1, Ordering::SeqCst);
        })
    } else {
        Barrier::new(trace.parties)
    };
    let barrier = Arc::new(barrier.expect("parties"));
    let outcomes: Arc<Mutex<Vec<Option<Outcome>>>> = Arc::default();
    let mut parties: Vec<JoinHandle<()>> = Vec::new();
    for (at, (step, seen)) in trace.steps.iter().zip(&trace.seen).enumerate() {
        match &**step {
            "abort" => barrier.abort(),
            "reset" => barrier.reset(),
            wait => {
                let (barrier, outcomes) = (Arc::clone(&barrier), Arc::clone(&outcomes));
                let (timed, me) = (wait == "timed", parties.len());
                outcomes.lock().push(None);
                parties.push(thread::spawn(move || {
                    let came = if timed {
                        barrier.wait_timeout(SHORT)
                    } else {
                        barrier.wait()
                    };
                    outcomes.lock()[me] = Some(match came {
                        Ok(place) => Outcome::Place(place),
                        Err(BarrierError::Broken | BarrierError::TimedOut) => {
                            Outcome::Broken("broken".to_owned())
                        }
                        Err(other) => panic!("{other}"),
                    });
                }));
                if timed {
                    settle("a timed wait", || parties[me].is_finished());
                }
            }
        }
        let over = || parties.iter().filter(|party| party.is_finished()).count();
        settle(step, || barrier.waiting() + over() == parties.len());
        let now = (
            barrier.waiting(),
            barrier.is_broken(),
            ran.load(Ordering::SeqCst),
            outcomes.lock().clone(),
        );
        assert_eq!(
            &now, seen,
            "scenario {number}, step {at} ({step}) of {:?}",
            trace.steps
        );
    }
    barrier.abort();
    parties
        .into_iter()
        .for_each(|party| party.join().expect("no panic"));
}

#[test]
fn barriers_do_what_cpythons_do() {
    let traces = traces().barriers;
    assert!(traces.len() >= 100);
    traces
        .iter()
        .enumerate()
        .for_each(|(number, trace)| replay_barrier(number, trace));
}

#[test]
fn conditions_do_what_cpythons_do() {
    let traces = traces().conditions;
    assert!(traces.len() >= 50);
    for (number, trace) in traces.iter().enumerate() {
        /// How many have come, and who went on.
        type State = Mutex<(usize, Vec<(usize, bool)>)>;
        let shared: Arc<(State, Condvar)> = Arc::default();
        let (mut started, mut sleeping) = (0, 0);
        let mut threads = Vec::new();
        for (at, (step, seen)) in trace.steps.iter().zip(&trace.seen).enumerate() {
            let before = shared.0.lock().1.len();
            match step {
                ConditionStep::Wait(kind) => {
                    let (shared, me, timed) = (Arc::clone(&shared), started, kind == "timed");
                    started += 1;
                    sleeping += usize::from(!timed);
                    threads.push(thread::spawn(move || {
                        let mut state = shared.0.lock();
                        state.0 += 1;
                        let notified = if timed {
                            shared.1.wait_timeout(&mut state, SHORT).expect("no detector")
                        } else {
                            shared.1.wait(&mut state);
                            true
                        };
                        state.1.push((me, notified));
                    }));
                }
                ConditionStep::Notify(count) => {
                    // In CPython with the lock; here it does not matter.
                    let woken = shared.1.notify(*count);
                    assert_eq!(woken, sleeping.min(*count), "scenario {number}, step {at}");
                    sleeping -= woken;
                }
            }
            settle("a condition", || {
                let state = shared.0.lock();
                state.0 == started && state.1.len() + sleeping == started
            });
            let mut woken = shared.0.lock().1.split_off(before);
            woken.sort_unstable();
            assert_eq!(&woken, seen, "scenario {number}, step {at}");
            shared.0.lock().1.extend(woken);
        }
        shared.1.notify_all();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("no panic"));
    }
}

#[test]
fn semaphores_do_what_cpythons_do() {
    let traces = traces().semaphores;
    assert!(traces.len() >= 50);
    for (number, trace) in traces.iter().enumerate() {
        let (open, bounded) = (
            Semaphore::new(trace.permits),
            BoundedSemaphore::new(trace.permits),
        );
        for (at, (step, seen)) in trace.steps.iter().zip(&trace.seen).enumerate() {
            let done = match (step, trace.bounded) {
                (SemaphoreStep::Acquire(how), is_bounded) => {
                    assert_eq!(how, "acquire");
                    let permit = if is_bounded {
                        bounded.try_acquire()
                    } else {
                        open.try_acquire()
                    };
                    permit.map(par_sync::Permit::spend).is_ok()
                }
                (SemaphoreStep::Release(permits), true) => bounded.release(*permits).is_ok(),
                (SemaphoreStep::Release(permits), false) => open.release(*permits).is_ok(),
            };
            assert_eq!(done, *seen, "scenario {number}, step {at}");
        }
    }
}

#[derive(Deserialize)]
struct QueueTrace {
    kind: String,
    size: usize,
    steps: Vec<QueueStep>,
    /// After each step: its outcome, the number of items, whether it is empty, or full, and how many are not done.
    seen: Vec<(QueueOutcome, usize, bool, bool, usize)>,
}

#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum QueueStep {
    Put(u32),
    Other(String),
}

#[derive(Deserialize, Debug, PartialEq)]
#[serde(untagged)]
enum QueueOutcome {
    Got(u32),
    Word(String),
}

fn replay_queue<O: Order<u32>>(number: usize, trace: &QueueTrace, queue: &OrderedQueue<u32, O>) {
    let word = |word: &str| QueueOutcome::Word(word.to_owned());
    for (at, (step, seen)) in trace.steps.iter().zip(&trace.seen).enumerate() {
        let outcome = match step {
            QueueStep::Put(value) => word(queue.try_put(*value).map_or("full", |()| "ok")),
            QueueStep::Other(other) if other == "get" => {
                queue.try_get().map_or_else(|_| word("empty"), QueueOutcome::Got)
            }
            QueueStep::Other(_) => word(queue.task_done().map_or("error", |()| "ok")),
        };
        // CPython's is never full without a bound, and empty in the same words.
        let now = (
            outcome,
            queue.len(),
            queue.is_empty(),
            queue.is_full(),
            queue.unfinished(),
        );
        assert_eq!(&now, seen, "scenario {number} of {}, step {at}", trace.kind);
    }
    assert_eq!(queue.join_timeout(Duration::ZERO), queue.unfinished() == 0);
}

#[test]
fn queues_do_what_cpythons_do() {
    let traces: Vec<QueueTrace> =
        serde_json::from_str(include_str!("traces/queues.json")).expect("what the recorder wrote");
    assert!(traces.len() >= 100);
    for (number, trace) in traces.iter().enumerate() {
        match &*trace.kind {
            "Queue" => replay_queue(number, trace, &Queue::new(trace.size)),
            "LifoQueue" => replay_queue(number, trace, &LifoQueue::new(trace.size)),
            _ => replay_queue(number, trace, &PriorityQueue::new(trace.size)),
        }
    }
}
