//! The task queue as its users meet it, in one process: calls, options, results, what follows, and what does not fit.

#[path = "support/eta.rs"]
mod eta;

use par_dist::app::{App, AppBuilder, ResultError, Retry, State, TaskOptions, current_task};
use par_dist::task;
use serde_json::{Map, Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[task(name = "app.add")]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task(name = "app.sum")]
fn sum(first: i64, rest: Vec<Value>, named: Map<String, Value>) -> i64 {
    let rest = rest.iter().chain(named.values());
    first + rest.filter_map(Value::as_i64).sum::<i64>()
}

#[task(name = "app.fails")]
fn fails(text: String) -> Result<i64, std::io::Error> {
    Err(std::io::Error::other(text))
}

#[task(name = "app.panics")]
fn panics() {
    std::panic::resume_unwind(Box::new("oh".to_owned()));
}

#[task(name = "app.flaky")]
fn flaky(times: u32) -> Result<u32, std::io::Error> {
    let retries = current_task().map_or(0, |run| run.retries());
    if retries < times {
        return Err(std::io::Error::other("not yet"));
    }
    Ok(retries)
}

type Any = Box<dyn std::error::Error + Send + Sync>;

#[task(name = "app.leaves")]
fn leaves(how: String) -> Result<i64, Any> {
    let run = current_task().ok_or("no worker runs it")?;
    Err(match how.as_str() {
        "retry" => run.retry(Some(Duration::from_millis(5))),
        "ignore" => run.ignore(),
        "reject" => run.reject(false),
        "requeue" if !run.is_redelivered() => run.reject(true),
        "replace" => run.replace(run.app().signature::<add>([20.into(), 22.into()])),
        _ => return Ok(7),
    }
    .into())
}

#[task(name = "app.tells")]
fn tells() -> Result<Value, Any> {
    let run = current_task().ok_or("no worker runs it")?;
    run.progress("PROGRESS", json!({"done": 3}))?;
    let child = run.delay::<add>((1, 2))?;
    Ok(json!([run.queue(), run.root(), child.id(), run.retries()]))
}

/// The order in which tasks ran.
static ORDER: Mutex<Vec<u64>> = Mutex::new(Vec::new());

#[task(name = "app.ordered")]
fn ordered(number: u64) -> u64 {
    ORDER.lock().expect("no panics").push(number);
    number
}

fn tasks(app: AppBuilder) -> AppBuilder {
    let quick = |count| TaskOptions {
        retry: Retry {
            count,
            delay: Duration::from_millis(5),
            ..Retry::default()
        },
        ..TaskOptions::default()
    };
    let late = TaskOptions {
        acks_late: true,
        ..quick(3)
    };
    app.task::<add>()
        .task::<sum>()
        .task::<fails>()
        .task::<panics>()
        .task_with::<flaky>(quick(3))
        .task_with::<leaves>(late)
        .task::<tells>()
        .task::<ordered>()
        .task::<eta::begins>()
}

/// The same on both brokers.
fn on_each(check: impl Fn(&App)) {
    check(
        &tasks(App::builder("test").broker("memory:"))
            .build()
            .expect("an app"),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jobs.db");
    let broker = path.to_str().expect("a path in utf-8");
    check(
        &tasks(App::builder("test").broker(broker))
            .build()
            .expect("an app"),
    );
}

#[test]
fn calls_by_position_by_name_and_by_value() {
    on_each(|app| {
        let worker = app.worker().concurrency(2).start().expect("starts");
        assert_eq!(
            app.delay::<add>((2, 3))
                .expect("sent")
                .get(PATIENCE)
                .expect("a value"),
            5
        );
        let named = app.send_task("app.add", [2.into()], [("b".to_owned(), 4.into())]);
        assert_eq!(named.expect("sent").get(PATIENCE).expect("a value"), 6);
        let rest = [1, 2, 3].map(Value::from);
        let sum = app.send_task("app.sum", rest, [("more".to_owned(), 4.into())]);
        assert_eq!(sum.expect("sent").get(PATIENCE).expect("a value"), 10);
        let many = app
            .send_all((0..50).map(|number| app.call::<add>((number, 1))))
            .expect("sent");
        for (number, result) in many.iter().enumerate() {
            assert_eq!(result.get(PATIENCE).expect("a value"), number as i64 + 1);
        }
        worker.stop();
        let never = app.delay::<add>((1, 1)).expect("sent");
        assert!(matches!(
            never.get(Duration::from_millis(20)),
            Err(ResultError::TimedOut {
                state: State::Pending,
                ..
            })
        ));
        assert_eq!(
            (
                app.waiting("celery").expect("counted"),
                app.purge("celery").expect("purged")
            ),
            (1, 1)
        );
    });
}

#[test]
fn failures_say_why() {
    on_each(|app| {
        let worker = app.worker().start().expect("starts");
        let why = |name: &str, args: Vec<Value>, kwargs: Vec<(String, Value)>| {
            let sent = app.send_task(name, args, kwargs).expect("sent");
            let error = sent.get(PATIENCE).expect_err("it fails");
            assert_eq!(sent.state().expect("known"), State::Failure);
            error.to_string()
        };
        let failed = why("app.fails", vec!["disk on fire".into()], Vec::new());
        assert!(failed.contains("Error: disk on fire"), "{failed}");
        assert!(why("app.panics", Vec::new(), Vec::new()).contains("Panic: oh"));
        let unknown = why("app.nothing", Vec::new(), Vec::new());
        assert!(
            unknown.contains("NotRegistered") && unknown.contains("app.add"),
            "{unknown}"
        );
        let missing = why("app.add", vec![1.into()], Vec::new());
        assert!(
            missing.contains("TypeError") && missing.contains("\"b\""),
            "{missing}"
        );
        let wrong = why("app.add", vec![1.into(), "x".into()], Vec::new());
        assert!(
            wrong.contains("\"b\"") && wrong.contains("expected i64"),
            "{wrong}"
        );
        let wrong: par_dist::app::AsyncResult<String> =
            app.result(app.delay::<add>((1, 1)).expect("sent").id());
        assert!(matches!(wrong.get(PATIENCE), Err(ResultError::Type { .. })));
        worker.stop();
    });
}

#[test]
fn a_task_is_tried_again_as_often_as_it_may() {
    on_each(|app| {
        let worker = app.worker().start().expect("starts");
        assert_eq!(
            app.delay::<flaky>(2)
                .expect("sent")
                .get(PATIENCE)
                .expect("a value"),
            2
        );
        let often = app
            .delay::<flaky>(9)
            .expect("sent")
            .get(PATIENCE)
            .expect_err("too often");
        assert!(often.to_string().contains("not yet"), "{often}");
        let retries = app.delay::<leaves>("retry".to_owned()).expect("sent");
        let error = retries.get(PATIENCE).expect_err("too often").to_string();
        assert!(
            error.contains("MaxRetriesExceededError") && error.contains("4 times"),
            "{error}"
        );
        worker.stop();
    });
}

#[test]
fn a_task_may_leave_otherwise() {
    on_each(|app| {
        let worker = app.worker().start().expect("starts");
        let leave = |how: &str| app.delay::<leaves>(how.to_owned()).expect("sent");
        assert_eq!(leave("requeue").get(PATIENCE).expect("the second time"), 7);
        assert_eq!(leave("replace").get(PATIENCE).expect("the other's value"), 42);
        let (ignored, rejected) = (leave("ignore"), leave("reject"));
        // Those came first.
        assert_eq!(leave("no").get(PATIENCE).expect("a value"), 7);
        worker.stop();
        for none in [ignored, rejected] {
            assert_eq!(none.state().expect("known"), State::Pending);
        }
        assert_eq!(app.waiting("celery").expect("counted"), 0);
    });
}

#[test]
fn a_chain_hands_on_its_values_and_all_who_are_linked_hear() {
    on_each(|app| {
        let worker = app.worker().concurrency(2).start().expect("starts");
        let add_to = |number: i64| app.signature::<add>([number.into()]);
        let chain = app
            .call::<add>((1, 2))
            .link(add_to(100))
            .then::<i64>(add_to(10))
            .then::<i64>(app.signature::<add>([5.into(), 5.into()]).immutable())
            .then::<i64>(add_to(30));
        assert_eq!(chain.send().expect("sent").get(PATIENCE).expect("a value"), 40);
        let linked = app.call::<add>((1, 2)).link(add_to(100)).send().expect("sent");
        assert_eq!(linked.get(PATIENCE).expect("a value"), 3);
        let children = linked.children().expect("known");
        assert_eq!(children.len(), 1);
        assert_eq!(children[0].get(PATIENCE).expect("a value"), 103);
        // Who hears of a failure gets the id of what failed.
        let hears = app.signature::<sum>([Value::from(1)]);
        let failed = app
            .call::<fails>("no".to_owned())
            .link_error(hears)
            .id("the-one-that-fails")
            .send();
        assert!(failed.expect("sent").get(PATIENCE).is_err());
        worker.stop();
    });
}

#[test]
fn a_task_knows_its_run_and_tells_of_it() {
    on_each(|app| {
        let worker = app.worker().start().expect("starts");
        let sent = app
            .call::<tells>(())
            .queue("celery")
            .id("tells-1")
            .send()
            .expect("sent");
        let told = sent.get(PATIENCE).expect("a value");
        assert_eq!(
            (&told[0], &told[1], &told[3]),
            (&json!("celery"), &json!("tells-1"), &json!(0))
        );
        let children = sent.children().expect("known");
        assert_eq!(children[0].id(), told[2].as_str().expect("an id"));
        assert_eq!(children[0].get(PATIENCE).expect("a value"), 3);
        sent.forget().expect("forgotten");
        assert_eq!(sent.state().expect("known"), State::Pending);
        worker.stop();
    });
}

#[test]
fn higher_priorities_first_and_then_the_oldest_each_in_its_queue() {
    let app = tasks(
        App::builder("test")
            .broker("memory:")
            .route("app.ord*", "ordered"),
    );
    let app = app.build().expect("an app");
    let send = |number: u64, priority: u8| {
        app.call::<ordered>(number)
            .priority(priority)
            .send()
            .expect("sent")
    };
    let sent: Vec<_> = [(1, 0), (2, 9), (3, 0), (4, 5), (5, 9)]
        .map(|(number, priority)| send(number, priority))
        .into();
    assert_eq!(
        (
            app.waiting("ordered").expect("counted"),
            app.waiting("celery").expect("counted")
        ),
        (5, 0)
    );
    let worker = app
        .worker()
        .queues(["ordered"])
        .concurrency(1)
        .start()
        .expect("starts");
    for result in &sent {
        result.get(PATIENCE).expect("a value");
    }
    worker.stop();
    assert_eq!(*ORDER.lock().expect("no panics"), [2, 5, 4, 1, 3]);
}

#[test]
fn a_task_waits_for_its_time_and_one_that_came_too_late_does_not_run() {
    on_each(|app| {
        let late = app
            .call::<add>((1, 1))
            .expires(Duration::from_millis(1))
            .send()
            .expect("sent");
        std::thread::sleep(Duration::from_millis(5));
        let start = Instant::now();
        let pause = Duration::from_millis(300);
        let later = app.call::<add>((2, 2)).countdown(pause).send().expect("sent");
        let worker = app.worker().start().expect("starts");
        let now = app.delay::<add>((3, 3)).expect("sent");
        assert_eq!(now.get(PATIENCE).expect("a value"), 6);
        assert_eq!(later.get(PATIENCE).expect("a value"), 4);
        assert!(start.elapsed() >= pause, "{:?}", start.elapsed());
        assert!(matches!(late.get(PATIENCE), Err(ResultError::Revoked { .. })));
        assert_eq!(late.state().expect("known"), State::Revoked);
        worker.stop();
    });
}

#[test]
fn no_task_begins_before_its_time() {
    on_each(|app| {
        let worker = app.worker().start().expect("starts");
        eta::none_is_early(app);
        worker.stop();
    });
}

#[test]
fn an_eager_app_runs_at_once() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    #[task(name = "app.counts")]
    fn counts() -> u32 {
        RUNS.fetch_add(1, Ordering::SeqCst)
    }
    let app = tasks(App::builder("test").broker("memory:").eager()).task::<counts>();
    let app = app.build().expect("an app");
    let sent = app.delay::<counts>(()).expect("run");
    assert_eq!(RUNS.load(Ordering::SeqCst), 1);
    assert_eq!(sent.get(Duration::ZERO).expect("a value"), 0);
    let chain = app
        .call::<add>((1, 2))
        .then::<i64>(app.signature::<add>([3.into()]));
    assert_eq!(
        chain.send().expect("run").get(Duration::ZERO).expect("a value"),
        6
    );
    assert_eq!(
        app.delay::<flaky>(2)
            .expect("run")
            .get(Duration::ZERO)
            .expect("a value"),
        2
    );
    assert!(
        app.delay::<fails>("no".to_owned())
            .expect("run")
            .get(Duration::ZERO)
            .is_err()
    );
}

#[test]
fn bad_options_are_errors_that_name_them() {
    let build = |app: AppBuilder| app.build().map(|_| ()).map_err(|error| error.to_string());
    let server = build(App::builder("test").broker("ftp://localhost"));
    assert!(server.is_err_and(|text| text.contains("broker") && text.contains("memory:")));
    let lease = build(App::builder("test").broker("memory:").lease(Duration::ZERO));
    assert!(lease.is_err_and(|text| text.contains("lease")));
    let folder = tempfile::tempdir().expect("a folder");
    let other = folder.path().join("other.txt");
    std::fs::write(
        &other,
        "this is no database, and long enough to be read as one ".repeat(10),
    )
    .expect("written");
    let foreign = build(App::builder("test").broker(other.to_str().expect("utf-8")));
    assert!(foreign.is_err_and(|text| text.contains("no broker of this toolkit")));
    let app = App::builder("test").broker("memory:").build().expect("an app");
    for (worker, option) in [
        (app.worker().concurrency(0), "concurrency"),
        (app.worker().prefetch(0), "prefetch"),
        (app.worker().queues([]), "queues"),
    ] {
        let error = worker.start().map(|_| ()).expect_err("bad").to_string();
        assert!(error.contains(option), "{error}");
    }
    let long = "x".repeat(300);
    for (call, option) in [
        (app.call::<add>((1, 1)).queue(&long), "queue"),
        (app.call::<add>((1, 1)).queue(""), "queue"),
        (app.call::<add>((1, 1)).id(&long), "id"),
        (
            app.call::<add>((1, 1)).header("mine", json!([{ &long: 1 }])),
            "header",
        ),
    ] {
        let error = call.send().map(|_| ()).expect_err("bad").to_string();
        assert!(error.contains(&format!("bad option {option}")), "{error}");
    }
    let long = "x".repeat(300);
    for (call, option) in [
        (app.call::<add>((1, 1)).queue(&long), "queue"),
        (app.call::<add>((1, 1)).queue(""), "queue"),
        (app.call::<add>((1, 1)).id(&long), "id"),
        (
            app.call::<add>((1, 1)).header("mine", json!([{ &long: 1 }])),
            "header",
        ),
    ] {
        let error = call.send().map(|_| ()).expect_err("bad").to_string();
        assert!(error.contains(&format!("bad option {option}")), "{error}");
    }
    let banner = app.worker().queues(["a", "b"]).concurrency(3).banner();
    for part in ["test", "memory:", "3 (threads)", ". a", ". b"] {
        assert!(banner.contains(part), "{banner}");
    }
}
