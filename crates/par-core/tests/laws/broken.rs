//! For each law engines that break it: the law must say so, and in the words that the breach deserves.

use crate::faulty::{Fault, Faulty, Mode, Options};
use par_core::conformance::{self, LAWS, Limits, Setup, Start};
use par_core::{AnyPool, Pool, StartError};
use std::time::Duration;

/// Short, because what is broken often hangs.
const LIMITS: Limits = Limits {
    patience: Duration::from_secs(2),
    deadline: Duration::from_secs(12),
};

fn start(setup: &Setup, mode: Mode, fault: Fault) -> Result<AnyPool, StartError> {
    setup
        .builder::<Faulty>()
        .options(Options { mode, fault })
        .build()
        .map(Pool::into_any)
}

/// Holds a faulty engine against a law, which must fail with that text.
fn fails(law: usize, workers: usize, start: Start<AnyPool>, text: &str) {
    let broken = conformance::check(law, start, workers, LIMITS);
    let broken = broken.expect_err(&format!("{} does not notice", LAWS[law].name));
    assert!(broken.contains(&format!("law {law} (")), "{broken}");
    assert!(broken.contains(text), "{text:?} is not what was told:\n{broken}");
}

macro_rules! fails {
    ($($name:ident: $law:literal at $workers:literal, $mode:ident, $fault:ident, $text:literal;)+) => {$(
        #[test]
        fn $name() {
            fails($law, $workers, |setup| start(setup, Mode::$mode, Fault::$fault), $text);
        }
    )+};
}

fails! {
    law_0_skips_the_initialiser: 0 at 3, Typed, SkipsInitializer, "initialisers that ran before all workers had a task";
    law_1_ignores_the_signature: 1 at 1, Encoded, IgnoresSignature, "it should be rejected";
    law_2_forgets_claims: 2 at 1, Typed, ForgetsClaims, "never ended";
    law_2_forgets_claims_at_3: 2 at 3, Encoded, ForgetsClaims, "never ended";
    law_2_cuts_logs: 2 at 1, Encoded, CutsLogs, "what a task logged";
    law_3_runs_twice: 3 at 1, Encoded, RunsTwice, "how often task 0 was begun";
    law_3_runs_twice_at_3: 3 at 3, Encoded, RunsTwice, "how often task 0 was begun";
    law_3_loses_what_was_delivered: 3 at 1, Processes, LosesDelivered, "a task that waited behind a killer";
    law_4_loses_all: 4 at 1, Processes, LosesAll, "when items 20, 75 and 130 killed their workers";
    law_4_loses_all_at_3: 4 at 3, Processes, LosesAll, "an idempotent map";
    law_4_never_breaks: 4 at 3, Processes, NeverBreaks, "is not broken after";
    law_5_starts_what_was_cancelled: 5 at 1, Typed, StartsCancelled, "a pending task never starts";
    law_5_starts_what_was_cancelled_at_3: 5 at 3, Typed, StartsCancelled, "a pending task never starts";
    law_5_hides_tokens: 5 at 1, Encoded, HidesTokens, "a running task sees its token";
    law_6_swaps_replies: 6 at 1, Encoded, SwapsReplies, "a map keeps order";
    law_6_swaps_replies_at_3: 6 at 3, Encoded, SwapsReplies, "a map keeps order";
    law_7_shifts_leaves: 7 at 1, Encoded, ShiftsLeaves, "the bits of the tree";
    law_7_shifts_leaves_at_3: 7 at 3, Encoded, ShiftsLeaves, "the bits of the tree";
    law_8_takes_without_bound: 8 at 1, Typed, Unbounded, "a queue of 4 took";
    law_8_takes_without_bound_at_3: 8 at 3, Typed, Unbounded, "a queue of 4 took";
    law_9_runs_strangers: 9 at 1, Typed, RunsStrangers, "the lock";
    law_9_assists_anyone: 9 at 3, Typed, AssistsAnyone, "the lock";
    law_9_gives_async_tasks_a_worker_each: 9 at 1, Typed, BlocksOnAsync, "never met";
    law_9_lets_blocking_tasks_stop_async_ones: 9 at 3, Typed, BlocksOnAsync, "async tasks and blocking ones do not stop each other";
    law_9_cancels_async_tasks_by_their_token_alone: 9 at 3, Typed, BlocksOnAsync, "an async task is cancelled where it waits";
    law_10_leaves_threads: 10 at 1, Typed, LeavesThreads, "every worker is gone";
    law_10_lies: 10 at 3, Typed, LiesInReport, "Drain runs everything";
    law_10_drops_what_waits: 10 at 1, Typed, DropsQueue, "a task that waited when the pool was drained";
    law_11_tells_the_end_early: 11 at 1, Typed, EndsEarly, "children that had ended, and that had begun";
    law_11_tells_the_end_early_at_3: 11 at 3, Typed, EndsEarly, "children that had ended, and that had begun";
    law_12_ignores_deadlines: 12 at 1, Typed, IgnoresDeadlines, "a shutdown";
}

/// Holds a faulty engine against what elastic engines promise, which must fail with that text.
fn fails_elastic(workers: usize, start: Start<Pool<Faulty>>, text: &str) {
    let broken = conformance::check_elastic(start, workers, LIMITS).expect_err("the breach is not noticed");
    assert!(broken.contains("elastic, "), "{broken}");
    assert!(broken.contains(text), "{text:?} is not what was told:\n{broken}");
}

macro_rules! fails_elastic {
    ($($name:ident: at $workers:literal, $fault:ident, $text:literal;)+) => {$(
        #[test]
        fn $name() {
            let start: Start<Pool<Faulty>> = |setup| {
                let (mode, fault) = (Mode::Typed, Fault::$fault);
                setup.builder::<Faulty>().options(Options { mode, fault }).build()
            };
            fails_elastic($workers, start, $text);
        }
    )+};
}

fails_elastic! {
    elastic_grows_in_name: at 1, GrowsInName, "initialisers that ran before the pool had grown";
    elastic_grows_too_soon: at 3, GrowsTooSoon, "a new worker whose initialiser fails";
    elastic_shrinks_by_force: at 3, ShrinksByForce, "a pool that shrinks finishes what runs";
    elastic_keeps_workers: at 1, KeepsWorkers, "the workers that are too many are gone";
    elastic_keeps_a_size_that_was_refused: at 3, KeepsSize, "the size after growth that failed";
}

#[test]
fn an_engine_that_never_starts_is_told() {
    let error =
        conformance::check(6, |_| Err(StartError::Workers(0)), 1, LIMITS).expect_err("it does not start");
    assert!(
        error.contains("law 6 (order), a map keeps order, at 1 worker: "),
        "{error}"
    );
    assert!(
        error.contains("the pool does not start: a pool needs at least 1 worker, got 0"),
        "{error}"
    );
}
