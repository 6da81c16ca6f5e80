//! Faults at each point of a task's life in a worker, and what becomes of the task.

use crate::worker::failpoint::{POINTS, arm};
use crate::{Plan, ProcessPool, Shutdown, TaskError};
use std::time::Duration;

fn double(x: u64) -> u64 {
    2 * x
}

/// Has something happen at that point in the life of the next request.
fn arm_next(pool: &ProcessPool, point: &str, how: &str) {
    // The request that arms passes the later points itself.
    let passes = u32::from(matches!(point, "ran" | "kept" | "sending"));
    let armed = pool.submit_fn((point.to_owned(), how.to_owned(), passes), arm);
    armed.and_then(|armed| armed.wait()).expect("armed");
}

#[test]
fn a_death_at_each_point_loses_no_more_than_it_must() {
    let pool = ProcessPool::new(1).expect("starts");
    for how in ["kill", "abort", "exit", "overflow", "memory"] {
        for point in POINTS {
            arm_next(&pool, point, how);
            let task = pool.submit_fn(21, double).expect("open");
            let next = pool.submit_fn(4, double).expect("open");
            let outcome = task.wait();
            match point {
                // Not begun: another worker runs it. Or ended: its reply lies in the page.
                "received" | "kept" | "sending" => assert_eq!(outcome, Ok(42), "{how} at {point}"),
                _ => assert!(
                    matches!(
                        outcome,
                        Err(TaskError::Lost {
                            attempts: 1,
                            maybe_ran: true,
                            ..
                        })
                    ),
                    "{how} at {point}: {outcome:?}"
                ),
            }
            assert_eq!(next.wait(), Ok(8), "after {how} at {point}");
        }
    }
    pool.shutdown(Shutdown::Drain, None);
}

#[test]
fn a_worker_that_is_stopped_at_any_point_is_replaced_at_the_deadline() {
    let pool = ProcessPool::new(1).expect("starts");
    let limited = pool.with_plan(Plan::default().timeout(Duration::from_millis(300)));
    for point in POINTS {
        arm_next(&pool, point, "stop");
        let outcome = limited.submit_fn(21, double).expect("open").wait();
        assert_eq!(outcome, Err(TaskError::TimedOut { limit_ms: 300 }), "at {point}");
        // Without a deadline: it would wait for ever for a worker that is stopped.
        let next = pool.submit_fn(4, double).expect("open");
        assert_eq!(next.wait(), Ok(8), "after a stop at {point}");
    }
}
