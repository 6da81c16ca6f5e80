//! Statistics of contention: what is counted of whom.
#![cfg(feature = "statistics")]

use par_sync::{Event, Mutex, scope, statistics};
use std::time::Duration;

#[test]
fn who_was_waited_for_is_counted() {
    statistics::enable();
    let (busy, idle) = (Mutex::named("busy", 0), Mutex::named("idle", 0));
    let taken = Event::named("taken");
    scope(|scope| {
        scope.spawn(|| {
            let _held = busy.lock();
            taken.set();
            // So long at least that the other waits.
            while statistics::snapshot()
                .iter()
                .all(|row| row.name != r#"event "taken""# || row.waits == 0)
            {
                std::thread::yield_now();
            }
            std::thread::sleep(Duration::from_millis(20));
        });
        taken.wait();
        *busy.lock() += 1;
    });
    (0..5).for_each(|_| *idle.lock() += 1);
    let rows = statistics::snapshot();
    let of = |name: &str| {
        rows.iter()
            .find(|row| row.name == name)
            .expect("it was used")
            .clone()
    };
    let (busy_row, idle_row) = (of(r#"mutex "busy""#), of(r#"mutex "idle""#));
    assert_eq!((busy_row.acquired, busy_row.waits), (2, 1));
    assert!(
        busy_row.waited >= Duration::from_millis(5) && busy_row.longest <= busy_row.waited,
        "{busy_row:?}"
    );
    assert_eq!((idle_row.acquired, idle_row.waits), (5, 0));
    let table = statistics::table();
    assert!(
        table
            .lines()
            .nth(1)
            .is_some_and(|line| line.contains("busy") || line.contains("taken")),
        "{table}"
    );
    drop((busy, idle));
    assert!(
        statistics::snapshot()
            .iter()
            .all(|row| !row.name.contains("busy")),
        "what is gone is not listed"
    );
}
