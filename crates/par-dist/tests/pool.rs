//! A cluster pool with local workers does what every pool does.

use par_dist::Sum;
use par_dist::{ClusterPool, Shutdown, current};
use std::time::Duration;

#[par_dist::task]
fn square(x: u64) -> u64 {
    x * x
}

#[par_dist::task]
fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let pool = current().expect("inside a task");
    let a = pool.submit::<fib>(n - 1).expect("submit");
    let b = pool.submit::<fib>(n - 2).expect("submit");
    a.wait().expect("a") + b.wait().expect("b")
}

#[test]
fn tasks_run_in_worker_processes_and_values_come_back() {
    let pool = ClusterPool::new(2).expect("pool");
    assert_eq!(pool.submit::<square>(12).expect("submit").wait(), Ok(144));
    assert_eq!(
        pool.map::<square>(0..1000).expect("map"),
        (0..1000).map(|x| x * x).collect::<Vec<_>>()
    );
    assert_eq!(pool.map_reduce::<square, _>(0..1000, Sum), Ok(332_833_500));
    let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_secs(10)));
    assert_eq!(
        (report.ran, report.cancelled, report.lost, report.detached),
        (2001, 0, 0, 0)
    );
}

#[test]
fn tasks_wait_for_tasks_at_one_worker() {
    let pool = ClusterPool::new(1).expect("pool");
    assert_eq!(pool.submit::<fib>(12).expect("submit").wait(), Ok(144));
}

#[test]
fn tasks_wait_for_tasks_at_three_workers() {
    let pool = ClusterPool::new(3).expect("pool");
    assert_eq!(pool.map::<fib>(0..15).expect("map")[14], 377);
}
