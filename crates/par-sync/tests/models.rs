//! Semaphores and barriers against sequential models: random scripts, each step by a thread of its own, looked at when it has settled.

use par_sync::{Barrier, BarrierError, BoundedSemaphore, Permit, Semaphore};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// What a step that is timed waits; nobody comes meanwhile.
const SHORT: Duration = Duration::from_millis(5);

fn settle(what: &str, done: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "it did not settle: {what}");
        thread::yield_now();
    }
}

/// Threads that do one thing each, and what came of it.
struct Crew<R> {
    heard: Vec<Receiver<R>>,
    outcomes: Vec<Option<R>>,
    over: Arc<AtomicUsize>,
}

impl<R: Send + 'static> Crew<R> {
    fn new() -> Self {
        Crew {
            heard: Vec::new(),
            outcomes: Vec::new(),
            over: Arc::default(),
        }
    }

    fn start(&mut self, work: impl FnOnce() -> R + Send + 'static) {
        let (tell, heard) = channel();
        let over = Arc::clone(&self.over);
        thread::spawn(move || {
            // Nobody listens where the test has failed.
            let _ = tell.send(work());
            over.fetch_add(1, Ordering::SeqCst);
        });
        self.heard.push(heard);
        self.outcomes.push(None);
    }

    /// The outcomes, once as many threads are over.
    fn settled(&mut self, what: &str, over: usize) -> &[Option<R>] {
        settle(what, || self.over.load(Ordering::SeqCst) >= over);
        for (heard, outcome) in self.heard.iter().zip(&mut self.outcomes) {
            if outcome.is_none() {
                *outcome = heard.try_recv().ok();
            }
        }
        &self.outcomes
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Acquire,
    Try,
    Timed,
    Release(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Acquire),
        1 => Just(Step::Try),
        1 => Just(Step::Timed),
        3 => (0..4usize).prop_map(Step::Release),
    ];
    prop::collection::vec(step, 1..16)
}

enum Either {
    Open(Semaphore),
    Bounded(BoundedSemaphore),
}

macro_rules! on {
    ($either:expr, $semaphore:ident => $does:expr) => {
        match &$either {
            Either::Open($semaphore) => $does,
            Either::Bounded($semaphore) => $does,
        }
    };
}

#[derive(Default)]
struct Permits {
    free: usize,
    line: VecDeque<usize>,
    outcomes: Vec<Option<bool>>,
}

impl Permits {
    fn take(&mut self, waits: bool) {
        let me = self.outcomes.len();
        let taken = self.free > 0;
        self.free -= usize::from(taken);
        if !taken && waits {
            self.line.push_back(me);
        }
        self.outcomes.push((taken || !waits).then_some(taken));
    }

    fn release(&mut self, given: usize, bound: usize) -> bool {
        if given > bound - self.free {
            return false;
        }
        for _ in 0..given {
            match self.line.pop_front() {
                Some(first) => self.outcomes[first] = Some(true),
                None => self.free += 1,
            }
        }
        true
    }

    fn over(&self) -> usize {
        self.outcomes.iter().flatten().count()
    }
}

fn permits(free: usize, bounded: bool, steps: &[Step]) -> Result<(), TestCaseError> {
    let bound = if bounded { free } else { usize::MAX };
    let real = Arc::new(if bounded {
        Either::Bounded(BoundedSemaphore::new(free))
    } else {
        Either::Open(Semaphore::new(free))
    });
    let (mut model, mut crew) = (
        Permits {
            free,
            ..Permits::default()
        },
        Crew::new(),
    );
    // In the end all go on.
    let ends = (0..steps.len()).map(|_| Step::Release(1));
    for step in steps.iter().copied().chain(ends) {
        if let Step::Release(given) = step {
            let done = on!(*real, semaphore => semaphore.release(given).is_ok());
            prop_assert_eq!(done, model.release(given, bound));
        } else {
            model.take(matches!(step, Step::Acquire));
            let real = Arc::clone(&real);
            crew.start(move || {
                on!(*real, semaphore => match step {
                    Step::Acquire => Ok(semaphore.acquire()),
                    Step::Try => semaphore.try_acquire(),
                    _ => semaphore.acquire_timeout(SHORT),
                }
                .map(Permit::spend)
                .is_ok())
            });
        }
        settle("the line", || {
            on!(*real, semaphore => semaphore.waiting()) == model.line.len()
        });
        let what = format!("{step:?} of {steps:?}");
        prop_assert_eq!(crew.settled(&what, model.over()), &model.outcomes[..], "{}", what);
        prop_assert_eq!(on!(*real, semaphore => semaphore.available()), model.free);
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Move {
    Wait,
    Timed,
    Abort,
    Reset,
}

#[derive(Debug, Clone, PartialEq)]
enum Came {
    Place(usize),
    Broken,
    TimedOut,
    Panicked,
}

#[derive(Default)]
struct Round {
    come: Vec<usize>,
    broken: bool,
    runs: usize,
    outcomes: Vec<Option<Came>>,
}

impl Round {
    fn ends(&mut self) {
        for party in self.come.drain(..) {
            self.outcomes[party] = Some(Came::Broken);
        }
    }

    fn come(&mut self, parties: usize, action: bool, panics_at: usize, timed: bool) {
        let (me, place) = (self.outcomes.len(), self.come.len());
        self.outcomes.push(None);
        if self.broken {
            self.outcomes[me] = Some(Came::Broken);
        } else if place + 1 == parties {
            self.runs += usize::from(action);
            if action && self.runs == panics_at {
                self.broken = true;
                self.ends();
                self.outcomes[me] = Some(Came::Panicked);
                return;
            }
            self.come.push(me);
            for (place, party) in self.come.drain(..).enumerate() {
                self.outcomes[party] = Some(Came::Place(place));
            }
        } else if timed {
            self.broken = true;
            self.ends();
            self.outcomes[me] = Some(Came::TimedOut);
        } else {
            self.come.push(me);
        }
    }
}

fn barrier(parties: usize, action: bool, panics_at: usize, moves: &[Move]) -> Result<(), TestCaseError> {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let real = if action {
        Barrier::with_action(parties, move || {
            // Without the noise of a panic's message.
            if counted.fetch_add(1, Ordering::SeqCst) + 1 == panics_at {
                std::panic::resume_unwind(Box::new("an action that fails"));
            }
        })
    } else {
        Barrier::new(parties)
    };
    let real = Arc::new(real.expect("parties"));
    let (mut model, mut crew) = (Round::default(), Crew::new());
    for next in moves.iter().copied().chain([Move::Abort]) {
        match next {
            Move::Abort => {
                real.abort();
                model.broken = true;
                model.ends();
            }
            Move::Reset => {
                real.reset();
                model.broken = false;
                model.ends();
            }
            Move::Wait | Move::Timed => {
                model.come(parties, action, panics_at, next == Move::Timed);
                let real = Arc::clone(&real);
                crew.start(move || {
                    let came = catch_unwind(AssertUnwindSafe(|| match next {
                        Move::Timed => real.wait_timeout(SHORT),
                        _ => real.wait(),
                    }));
                    match came {
                        Ok(Ok(place)) => Came::Place(place),
                        Ok(Err(BarrierError::TimedOut)) => Came::TimedOut,
                        Ok(Err(_)) => Came::Broken,
                        Err(_) => Came::Panicked,
                    }
                });
            }
        }
        let what = format!("{next:?} of {moves:?}");
        settle(&what, || real.waiting() == model.come.len());
        let over = model.outcomes.iter().flatten().count();
        prop_assert_eq!(crew.settled(&what, over), &model.outcomes[..], "{}", what);
        prop_assert_eq!(real.is_broken(), model.broken, "{}", what);
        prop_assert_eq!(runs.load(Ordering::SeqCst), model.runs, "{}", what);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn semaphores_serve_in_the_order_of_arrival(free in 0..3usize, bounded: bool, steps in steps()) {
        permits(free, bounded, &steps)?;
    }

    #[test]
    fn barriers_keep_their_rounds(
        parties in 1..4usize,
        action: bool,
        panics_at in 1..4usize,
        moves in prop::collection::vec(prop_oneof![
            6 => Just(Move::Wait),
            1 => Just(Move::Timed),
            1 => Just(Move::Abort),
            1 => Just(Move::Reset),
        ], 1..16),
    ) {
        barrier(parties, action, panics_at, &moves)?;
    }
}
