//! The task queue on a real Redis server: what it carries, and what happens while it, or a worker, is killed or stands still.

#[path = "support/eta.rs"]
mod eta;
#[path = "support/redis.rs"]
mod server;
#[path = "support/storm.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod storm;

use par_dist::app::{App, AppBuilder, ResultError, Retry, State, TaskOptions, current_task};
use par_dist::task;
use serde_json::json;
use server::Redis;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use storm::PATIENCE;

#[task(name = "redis.add")]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task(name = "redis.flaky")]
fn flaky(times: u32) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    let run = current_task().ok_or("no worker runs it")?;
    if run.retries() < times {
        return Err("not yet".into());
    }
    run.progress("PROGRESS", json!({"done": 1}))?;
    Ok(run.retries())
}

#[task(name = "redis.requeued")]
fn requeued() -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
    let run = current_task().ok_or("no worker runs it")?;
    if run.is_redelivered() {
        return Ok(true);
    }
    Err(run.reject(true).into())
}

static ORDER: Mutex<Vec<u64>> = Mutex::new(Vec::new());

#[task(name = "redis.ordered")]
fn ordered(number: u64) {
    ORDER.lock().expect("no panics").push(number);
}

fn tasks(app: AppBuilder) -> AppBuilder {
    let retry = Retry {
        count: 3,
        delay: Duration::from_millis(10),
        ..Retry::default()
    };
    let late = TaskOptions {
        acks_late: true,
        retry,
        ..TaskOptions::default()
    };
    app.task::<add>()
        .task_with::<flaky>(late.clone())
        .task_with::<requeued>(late)
        .task::<ordered>()
        .task::<eta::begins>()
}

fn app(redis: &Redis) -> App {
    tasks(App::builder("test").broker(&redis.url()))
        .build()
        .expect("it connects")
}

#[test]
fn it_carries_tasks_and_keeps_results() {
    let redis = Redis::start().expect("a server");
    let app = app(&redis);
    // In the order of the steps of priority, 0 first; the same step in the order of arrival.
    for (number, priority) in [(5, 9), (3, 4), (0, 0), (1, 2), (4, 6), (2, 3)] {
        app.call::<ordered>(number)
            .priority(priority)
            .send()
            .expect("sent");
    }
    assert_eq!(app.waiting("celery").expect("counted"), 6);
    let worker = app.worker().concurrency(1).start().expect("starts");
    let sum = app.delay::<add>((2, 3)).expect("sent");
    assert_eq!(sum.get(PATIENCE).expect("a value"), 5);
    let last = app.call::<ordered>(6).priority(9).send().expect("sent");
    last.get(PATIENCE).expect("a value");
    assert_eq!(*ORDER.lock().expect("no panics"), [0, 1, 3, 2, 4, 5, 6]);
    assert_eq!(
        app.delay::<flaky>(2)
            .expect("sent")
            .get(PATIENCE)
            .expect("a value"),
        2
    );
    assert!(
        app.delay::<requeued>(())
            .expect("sent")
            .get(PATIENCE)
            .expect("a value")
    );
    let chain = app
        .call::<add>((1, 2))
        .then::<i64>(app.signature::<add>([10.into()]));
    assert_eq!(chain.send().expect("sent").get(PATIENCE).expect("a value"), 13);
    let start = Instant::now();
    let later = app
        .call::<add>((20, 22))
        .countdown(Duration::from_millis(300))
        .send()
        .expect("sent");
    assert_eq!(later.get(PATIENCE).expect("a value"), 42);
    assert!(start.elapsed() >= Duration::from_millis(300));
    eta::none_is_early(&app);
    assert_eq!(later.state().expect("read"), State::Success);
    later.forget().expect("done");
    assert_eq!(later.state().expect("read"), State::Pending);
    let one = |n| {
        app.call::<add>((n, 1))
            .idempotency_key("one")
            .send()
            .expect("sent")
    };
    assert_eq!(
        (
            one(1).get(PATIENCE).expect("a value"),
            one(2).get(PATIENCE).expect("a value")
        ),
        (2, 2)
    );
    // What somebody tells the server to forget is told to it again.
    let mut other = redis.connection().expect("a connection");
    let () = ::redis::cmd("SCRIPT")
        .arg("FLUSH")
        .query(&mut other)
        .expect("forgotten");
    // Whoever comes after the copy has seen it go.
    app.delay::<add>((1, 1))
        .expect("sent")
        .get(PATIENCE)
        .expect("a value");
    worker.stop();
    let call = app.delay::<add>((1, 1)).expect("sent");
    assert_eq!(
        (
            app.purge("celery").expect("dropped"),
            app.waiting("celery").expect("counted")
        ),
        (1, 0)
    );
    assert_eq!(call.state().expect("read"), State::Pending);
    // Nothing is left of what was leased.
    let mut raw = redis.connection().expect("a connection");
    for key in ["unacked", "unacked_index"] {
        assert!(
            !redis::cmd("EXISTS")
                .arg(key)
                .query::<bool>(&mut raw)
                .expect("asked"),
            "{key}"
        );
    }
}

#[test]
fn what_is_no_task_is_dropped_with_a_word() {
    let redis = Redis::start().expect("a server");
    let app = app(&redis);
    let mut raw = redis.connection().expect("a connection");
    let mut push = |text: &str| {
        redis::cmd("LPUSH")
            .arg("celery")
            .arg(text)
            .query::<u64>(&mut raw)
            .expect("pushed");
    };
    push("no json");
    push("\u{0}\"[[");
    push(r#"{"headers": 7}"#);
    push(
        r#"{"body": "W10=", "content-type": "application/json", "content-encoding": "utf-8", "headers": {"task": "redis.add", "id": "no-list"}, "properties": {"body_encoding": "base64"}}"#,
    );
    push(
        r#"{"body": "gAQ=", "content-type": "application/x-python-serialize", "content-encoding": "binary", "headers": {"task": "redis.add", "id": "pickled"}, "properties": {}}"#,
    );
    let _worker = app.worker().start().expect("starts");
    assert_eq!(
        app.delay::<add>((1, 1))
            .expect("sent")
            .get(PATIENCE)
            .expect("a value"),
        2
    );
    for (id, part) in [
        ("no-list", "args, kwargs, embed"),
        ("pickled", "only application/json"),
    ] {
        let failed = app.result::<i64>(id).get(PATIENCE);
        assert!(
            matches!(&failed, Err(ResultError::Failed { message, .. }) if message.contains(part)),
            "{failed:?}"
        );
    }
}

#[test]
fn what_is_revoked_does_not_run() {
    let redis = Redis::start().expect("a server");
    let (app, other) = (app(&redis), app(&redis));
    let _worker = app.worker().start().expect("starts");
    assert_eq!(
        other
            .delay::<add>((1, 1))
            .expect("sent")
            .get(PATIENCE)
            .expect("a value"),
        2
    );
    let call = other
        .call::<add>((1, 1))
        .countdown(Duration::from_millis(700))
        .send()
        .expect("sent");
    call.revoke().expect("told");
    assert!(matches!(call.get(PATIENCE), Err(ResultError::Revoked { .. })));
}

#[test]
fn workers_that_are_killed_lose_nothing() {
    let redis = Redis::start().expect("a server");
    let mut raw = redis.connection().expect("a connection");
    storm::storm_loses_nothing(Some(&redis.url()), |place| {
        let (app, start) = (place.app(), Instant::now());
        let mut leased = || {
            redis::cmd("HLEN")
                .arg("unacked")
                .query::<u64>(&mut raw)
                .expect("asked")
        };
        while leased() > 0 || app.waiting("celery").expect("counted") > 0 {
            assert!(start.elapsed() < PATIENCE, "the queue is not drained");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_server_that_is_killed_or_stands_still_loses_nothing() {
    let mut redis = Redis::start().expect("a server");
    let app = app(&redis);
    let worker = app.worker().concurrency(2).start().expect("starts");
    let later = app
        .call::<add>((20, 22))
        .countdown(Duration::from_secs(1))
        .send()
        .expect("sent");
    redis.kill().expect("it is ours");
    let sends = {
        let app = app.clone();
        std::thread::spawn(move || app.delay::<add>((1, 1)).expect("sent when it is back"))
    };
    redis.start_again().expect("it starts again");
    let back = Instant::now();
    assert_eq!(sends.join().expect("no panic").get(PATIENCE).expect("a value"), 2);
    assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
    assert_eq!(later.get(PATIENCE).expect("a value"), 42);
    redis.signal("-STOP").expect("it stands still");
    let sends = {
        let app = app.clone();
        std::thread::spawn(move || app.delay::<add>((2, 2)).expect("sent when it goes on"))
    };
    std::thread::sleep(Duration::from_millis(500));
    assert!(!sends.is_finished());
    redis.signal("-CONT").expect("it goes on");
    assert_eq!(sends.join().expect("no panic").get(PATIENCE).expect("a value"), 4);
    assert_eq!(worker.trouble(), None);
    worker.stop();
}

#[test]
fn deaths_at_named_places_lose_what_they_may_and_no_more() {
    let redis = Redis::start().expect("a server");
    storm::deaths_at_named_places(Some(&redis.url()));
}

#[test]
fn results_that_are_away_are_kept_when_they_come_back() {
    let mut redis = Redis::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("jobs.db");
    let app = App::builder("test").broker(file.to_str().expect("utf-8"));
    let app = tasks(app.results(&redis.url())).build().expect("it connects");
    let _worker = app.worker().concurrency(2).start().expect("it starts");
    assert_eq!(
        app.delay::<add>((1, 1))
            .expect("sent")
            .get(PATIENCE)
            .expect("a value"),
        2
    );
    redis.kill().expect("kill");
    let sent: Vec<_> = (0..20).map(|x| app.delay::<add>((x, 1)).expect("sent")).collect();
    // As many run as there are threads, and cannot tell what came of them.
    let until = Instant::now() + PATIENCE;
    while app.waiting("celery").expect("a number") > 20 - 2 {
        assert!(Instant::now() < until, "they do not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    redis.start_again().expect("start");
    for (x, sum) in (0..).zip(sent) {
        assert_eq!(sum.get(PATIENCE).expect("a value"), x + 1);
    }
}

#[cfg(feature = "redis-tls")]
#[test]
fn it_goes_over_tls() {
    let redis = Redis::start_with_tls().expect("a server");
    let (url, authority) = redis.tls().expect("it has one");
    let trusting = format!("{url}?cacertfile={}", authority.display());
    let app = tasks(App::builder("test").broker(&trusting))
        .build()
        .expect("it connects");
    let _worker = app.worker().start().expect("it starts");
    let sum = app.delay::<add>((2, 3)).expect("sent");
    assert_eq!(sum.get(PATIENCE).expect("a value"), 5);
    let error = App::builder("test").broker(&url).build().map(drop);
    let error = error.expect_err("nobody knows its authority").to_string();
    assert!(error.contains("certificate"), "{error}");
}
