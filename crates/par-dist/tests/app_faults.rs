//! The task queue on a file while its workers are killed, and while what is in the file is no task.

#[path = "support/storm.rs"]
mod storm;

use par_dist::app::{ResultError, State};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use storm::{PATIENCE, Place, Worker, check, early};

/// Waits until no task is left, neither waiting nor leased: what the dead had leased comes back.
fn drained(place: &Place) {
    let db = rusqlite::Connection::open(&place.broker).expect("the file");
    db.busy_timeout(PATIENCE).expect("an option");
    let start = Instant::now();
    let left = || db.query_row("SELECT count(*) FROM tasks", [], |row| row.get::<_, u32>(0));
    while left().expect("counted") > 0 {
        assert!(start.elapsed() < PATIENCE, "the queue is not drained");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_checker_sees_what_is_lost_and_what_is_doubled() {
    let good: HashMap<u64, (usize, usize)> = (0..10).map(|number| (number, (1, 1))).collect();
    assert_eq!(check(10, &good, true).and(check(10, &good, false)), Ok(()));
    let mut lost = good.clone();
    lost.remove(&3);
    assert_eq!(check(10, &lost, true), Err("task 3 is lost".to_owned()));
    let mut unfinished = good.clone();
    unfinished.insert(4, (2, 0));
    assert_eq!(check(10, &unfinished, true), Err("task 4 is lost".to_owned()));
    let mut doubled = good;
    doubled.insert(5, (2, 1));
    assert_eq!(
        check(10, &doubled, false),
        Err("task 5 was begun 2 times".to_owned())
    );
    assert_eq!(check(10, &doubled, true), Ok(()));
}

#[test]
fn what_acknowledges_late_is_never_lost() {
    storm::storm_loses_nothing(None, drained);
}

#[test]
fn what_acknowledges_early_is_begun_once() {
    const COUNT: u64 = 200;
    let place = Place::on(None);
    let (app, log) = (place.app(), Place::text(&place.log));
    let sent = app
        .send_all((0..COUNT).map(|number| app.call::<early>((log.clone(), number, 4))))
        .expect("sent");
    let mut workers: Vec<Worker> = (0..3).map(|_| place.worker()).collect();
    let start = Instant::now();
    let mut kills = 0;
    while app.waiting("celery").expect("counted") > 0 && kills < 10 {
        assert!(start.elapsed() < PATIENCE);
        let before = place.log().len();
        while place.log().len() < before + 10 && app.waiting("celery").expect("counted") > 0 {
            assert!(start.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
        workers[kills % 3].kill();
        workers[kills % 3] = place.worker();
        kills += 1;
    }
    // A killed worker had two threads: it took what they were at with it, and no more.
    let ended = |place: &Place| place.runs().values().filter(|(_, ended)| *ended > 0).count();
    while ended(&place) + 2 * kills < COUNT as usize {
        assert!(
            start.elapsed() < PATIENCE,
            "{} ended, {kills} kills",
            ended(&place)
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    drained(&place);
    workers.into_iter().for_each(Worker::stop);
    assert_eq!(check(COUNT, &place.runs(), false), Ok(()));
    let lost = sent
        .iter()
        .filter(|result| result.state().expect("known") == State::Pending)
        .count();
    assert!(lost <= 2 * kills, "{lost} lost with {kills} kills");
}

#[test]
fn a_worker_that_stops_ends_what_runs_and_gives_the_rest_back() {
    let place = Place::on(None);
    let (app, log) = (place.app(), Place::text(&place.log));
    let sent = app
        .send_all((0..20u64).map(|number| app.call::<early>((log.clone(), number, 30))))
        .expect("sent");
    let worker = place.worker();
    let start = Instant::now();
    while place.runs().is_empty() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(2));
    }
    worker.stop();
    let runs = place.runs();
    assert!(runs.values().all(|run| *run == (1, 1)), "{runs:?}");
    assert_eq!(app.waiting("celery").expect("counted") as usize + runs.len(), 20);
    let next = place.worker();
    for (number, result) in sent.iter().enumerate() {
        assert_eq!(result.get(PATIENCE).expect("a value"), number as u64);
    }
    next.stop();
    assert_eq!(check(20, &place.runs(), false), Ok(()));
}

#[test]
fn what_is_no_task_is_dropped_with_a_word_and_the_worker_goes_on() {
    let place = Place::on(None);
    let (app, log) = (place.app(), Place::text(&place.log));
    let db = rusqlite::Connection::open(&place.broker).expect("the file");
    db.busy_timeout(PATIENCE).expect("an option");
    let poison = |headers: &str, properties: &str, body: &[u8]| {
        db.execute(
            "INSERT INTO tasks (queue, priority, headers, properties, body) VALUES ('celery', 9, ?, ?, ?)",
            rusqlite::params![headers, properties, body],
        )
        .expect("written");
    };
    let json = r#"{"content_type": "application/json", "content_encoding": "utf-8", "correlation_id": "p"}"#;
    let pickle = json.replace("application/json", "application/x-python-serialize");
    let named = |id: &str| format!(r#"{{"task": "test.early", "id": "{id}"}}"#);
    poison("no json", "none either", b"\x80\x04\x95");
    poison("[1]", json, b"[[], {}, {}]");
    poison(
        &named("pickled"),
        &pickle.replace("serialize", "serialize-pickle"),
        b"\x80\x04",
    );
    poison(&named("broken"), json, b"[[], {}");
    poison(&named("half"), json, b"[[1], {}, {}]");
    poison(
        r#"{"task": "test.early", "id": "late", "eta": "tomorrow"}"#,
        json,
        b"[[], {}, {}]",
    );
    drop(db);
    let worker = place.worker();
    let fine = app.delay::<early>((log, 1, 0)).expect("sent");
    assert_eq!(fine.get(PATIENCE).expect("a value"), 1);
    for (id, says) in [
        ("pickled", "pickle is refused"),
        ("broken", "no [args, kwargs, embed]"),
        ("half", "misses the argument \"number\""),
        ("late", "no time of ISO 8601"),
    ] {
        match app.result::<u64>(id).get(PATIENCE) {
            Err(ResultError::Failed { message, .. }) => assert!(message.contains(says), "{message}"),
            other => panic!("{other:?}"),
        }
    }
    worker.stop();
    assert_eq!(app.waiting("celery").expect("counted"), 0);
}

#[test]
fn deaths_at_named_places_lose_what_they_may_and_no_more() {
    storm::deaths_at_named_places(None);
}
