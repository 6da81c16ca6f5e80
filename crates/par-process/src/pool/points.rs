//! Faults at each point of a task's life in a worker, and what becomes of the task.

use crate::failpoint::{How, arm};
use crate::{Plan, ProcessPool, Shutdown, TaskError};
use std::time::Duration;

/// The points, in the order of a request's life.
const POINTS: [&str; 5] = [
    "worker.received",
    "worker.begun",
    "worker.ran",
    "worker.kept",
    "worker.sending",
];

fn double(x: u64) -> u64 {
    2 * x
}

/// The process of the only worker.
fn pid(pool: &ProcessPool) -> u32 {
    let pid = pool.submit_fn((), |()| std::process::id());
    pid.and_then(|pid| pid.wait()).expect("it lives")
}

/// Has something happen at that point in the life of the next request.
fn arm_next(pool: &ProcessPool, point: &str, how: How) {
    // The request that arms passes the later points itself.
    let passes = u32::from(matches!(point, "worker.ran" | "worker.kept" | "worker.sending"));
    let armed = pool.submit_fn(
        (point.to_owned(), passes, how),
        |(point, passes, how): (String, _, _)| arm(&point, passes, how),
    );
    armed.and_then(|armed| armed.wait()).expect("armed");
}

#[test]
fn a_death_at_each_point_loses_no_more_than_it_must() {
    let pool = ProcessPool::new(1).expect("starts");
    for how in [How::Kill, How::Abort, How::Exit, How::Overflow, How::Memory] {
        for point in POINTS {
            let victim = pid(&pool);
            arm_next(&pool, point, how);
            let task = pool.submit_fn(21, double).expect("open");
            let next = pool.submit_fn(4, double).expect("open");
            let outcome = task.wait();
            match point {
                // Not begun: another worker runs it. Or ended: its reply lies in the page.
                "worker.received" | "worker.kept" | "worker.sending" => {
                    assert_eq!(outcome, Ok(42), "{how:?} at {point}");
                }
                _ => assert!(
                    matches!(
                        outcome,
                        Err(TaskError::Lost {
                            attempts: 1,
                            maybe_ran: true,
                            ..
                        })
                    ),
                    "{how:?} at {point}: {outcome:?}"
                ),
            }
            assert_eq!(next.wait(), Ok(8), "after {how:?} at {point}");
            assert_ne!(pid(&pool), victim, "{how:?} at {point} did not happen");
        }
    }
    pool.shutdown(Shutdown::Drain, None);
}

#[test]
fn a_worker_that_is_stopped_at_any_point_is_replaced_at_the_deadline() {
    let pool = ProcessPool::new(1).expect("starts");
    let limited = pool.with_plan(Plan::default().timeout(Duration::from_millis(300)));
    for point in POINTS {
        let victim = pid(&pool);
        arm_next(&pool, point, How::Stop);
        let outcome = limited.submit_fn(21, double).expect("open").wait();
        assert_eq!(outcome, Err(TaskError::TimedOut { limit_ms: 300 }), "at {point}");
        // Without a deadline: it would wait for ever for a worker that is stopped.
        let next = pool.submit_fn(4, double).expect("open");
        assert_eq!(next.wait(), Ok(8), "after a stop at {point}");
        assert_ne!(pid(&pool), victim, "a stop at {point} did not happen");
    }
}
