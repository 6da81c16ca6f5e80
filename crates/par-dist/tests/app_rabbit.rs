//! The task queue on a real RabbitMQ server: kinds of queues, several addresses, TLS, several workers; and what happens while the server stands
//! still, has no room on its disk, or a worker is killed.

#[path = "support/eta.rs"]
mod eta;
#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;
#[path = "support/storm.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod storm;

use par_dist::app::{App, AppBuilder, ResultError, RunningWorker, TaskOptions, current_task};
use par_dist::task;
use rabbit::Rabbit;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use storm::PATIENCE;

type Any = Box<dyn std::error::Error + Send + Sync>;

#[task(name = "rabbit.add")]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task(name = "rabbit.reject")]
fn reject() -> Result<(), Any> {
    Err(current_task().ok_or("no worker runs it")?.reject(false).into())
}

static ORDER: Mutex<Vec<u64>> = Mutex::new(Vec::new());

#[task(name = "rabbit.ordered")]
fn ordered(number: u64) {
    ORDER.lock().expect("no panics").push(number);
}

static RUNS: Mutex<Vec<u64>> = Mutex::new(Vec::new());

#[task(name = "rabbit.counted")]
fn counted(number: u64) {
    RUNS.lock().expect("no panics").push(number);
}

fn tasks(app: AppBuilder) -> AppBuilder {
    let late = TaskOptions {
        acks_late: true,
        ..TaskOptions::default()
    };
    app.task::<add>()
        .task_with::<reject>(late)
        .task::<ordered>()
        .task::<counted>()
        .task::<eta::begins>()
}

fn app(rabbit: &Rabbit) -> AppBuilder {
    tasks(App::builder("test").broker(&rabbit.url()))
}

fn settle(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn adds(app: &App) {
    let sum = app.delay::<add>((2, 3)).expect("sent");
    assert_eq!(sum.get(PATIENCE).expect("a value"), 5);
}

/// With a worker that runs.
fn adds_with(app: &App, worker: &RunningWorker) {
    adds(app);
    assert_eq!(worker.trouble(), None);
}

#[test]
fn queues_are_made_as_the_app_says() {
    let rabbit = Rabbit::start().expect("a server");
    let quorum = app(&rabbit)
        .queue("quorum")
        .quorum_queues()
        .dead_letters("dead")
        .build()
        .expect("an app");
    let worker = quorum.worker().start().expect("starts");
    adds(&quorum);
    // What waits for its time is purged as well.
    for seconds in [1, 60, 5000] {
        let call = quorum
            .call::<add>((0, 0))
            .countdown(Duration::from_secs(seconds + 60));
        call.send().expect("sent");
    }
    // None of these goes with what is in it when it was not used for a while.
    let rooms = rabbit
        .control(&["list_queues", "--no-table-headers", "name", "arguments"])
        .expect("listed");
    let rooms = rooms.lines().filter(|line| line.starts_with("quorum.later."));
    let rooms: Vec<&str> = rooms.collect();
    let expires = rooms.iter().any(|room| room.contains("x-expires"));
    assert!(rooms.len() == 3 && !expires, "{rooms:?}");
    assert_eq!(quorum.purge("quorum").expect("purged"), 3);
    eta::none_is_early(&quorum);
    // What is rejected goes to the dead letters, and nowhere else.
    quorum.delay::<reject>(()).expect("sent");
    let count = |queue: &str| quorum.waiting(queue).expect("counted");
    settle("it is there", || count("dead") == 1);
    worker.stop();
    assert_eq!(count("quorum"), 0);
    let types = rabbit
        .control(&["list_queues", "--no-table-headers", "name", "type"])
        .expect("listed");
    assert!(types.contains("quorum\tquorum"), "{types}");

    let first = app(&rabbit)
        .queue("first")
        .highest_priority(9)
        .build()
        .expect("an app");
    for (number, priority) in [(2, 0), (1, 5), (0, 9)] {
        let call = first.call::<ordered>(number).priority(priority);
        call.send().expect("sent");
    }
    settle("all are there", || first.waiting("first").expect("counted") == 3);
    let worker = first.worker().concurrency(1).start().expect("starts");
    settle("all have run", || ORDER.lock().expect("no panics").len() == 3);
    assert_eq!(*ORDER.lock().expect("no panics"), [0, 1, 2]);
    worker.stop();
    let both = app(&rabbit).quorum_queues().highest_priority(9).build();
    assert!(both.is_err_and(|error| error.to_string().contains("highest_priority")));
    let keyed = quorum.call::<add>((1, 1)).idempotency_key("k").send();
    assert!(keyed.is_err_and(|error| error.to_string().contains("results that are kept")));
}

#[test]
fn workers_of_one_app_come_and_go() {
    let rabbit = Rabbit::start().expect("a server");
    let app = app(&rabbit).build().expect("an app");
    let one = app.worker().queues(["one"]).start().expect("starts");
    let two = app.worker().queues(["two"]).start().expect("starts");
    for queue in ["one", "two"] {
        let call = app.call::<add>((1, 1)).queue(queue).send().expect("sent");
        assert_eq!(call.get(PATIENCE).expect("a value"), 2);
    }
    two.stop();
    // Nobody in this process keeps what is sent now.
    app.call::<add>((1, 1)).queue("two").send().expect("sent");
    settle("it waits", || app.waiting("two").expect("counted") == 1);
    let call = app.call::<add>((1, 1)).queue("one").send().expect("sent");
    assert_eq!(call.get(PATIENCE).expect("a value"), 2);
    let two = app.worker().queues(["two"]).start().expect("starts");
    settle("it has run", || two.ended() == 1);
    // The first address is of nobody.
    let second = format!("amqp://127.0.0.1:1/%2f;{}", rabbit.url());
    let other = tasks(App::builder("test").broker(&second).queue("one"))
        .build()
        .expect("the second answers");
    adds(&other);
    one.stop();
}

#[test]
fn what_nobody_waits_for_arrives_as_well() {
    const COUNT: i64 = 3000;
    let rabbit = Rabbit::start().expect("a server");
    let sends = app(&rabbit).unconfirmed().build().expect("an app");
    let send = |number: i64| {
        if number == COUNT / 2 {
            let closed = rabbit.control(&["close_all_connections", "a test"]);
            closed.expect("closed");
        }
        sends.delay::<add>((number, 1)).expect("in the line")
    };
    let sent: Vec<_> = (0..COUNT).map(send).collect();
    sends.flush().expect("all are there");
    // Those that were on their way are sent again, and may be there twice.
    let waits = i64::try_from(sends.waiting("celery").expect("counted"));
    assert!(waits.is_ok_and(|waits| waits >= COUNT));
    let worker = sends.worker().concurrency(2).start().expect("starts");
    for (number, result) in sent.iter().enumerate() {
        assert_eq!(result.get(PATIENCE).expect("a value"), number as i64 + 1);
    }
    worker.stop();
    // The end of an app waits for what it sent.
    let leaves = app(&rabbit).unconfirmed().queue("last").build().expect("an app");
    for number in 0..COUNT {
        let call = leaves.call::<add>((number, 1)).ignore_result();
        call.send().expect("in the line");
    }
    drop(leaves);
    assert_eq!(sends.waiting("last").expect("counted"), COUNT as u64);
}

/// Also what waits, and passes by them just then.
#[test]
fn workers_that_stop_in_peace_run_nothing_twice() {
    const COUNT: u64 = 1500;
    let rabbit = Rabbit::start().expect("a server");
    let apps = [app(&rabbit), app(&rabbit).queue("quorum").quorum_queues()];
    for app in apps {
        let app = app.build().expect("an app");
        let calls = (0..COUNT).map(|number| {
            let pause = Duration::from_millis(number * 2);
            app.call::<counted>(number).countdown(pause).ignore_result()
        });
        app.send_all(calls).expect("sent");
        let ran = || RUNS.lock().expect("no panics").len() as u64;
        settle("all have run", || {
            let worker = app.worker().start().expect("starts");
            std::thread::sleep(Duration::from_millis(100));
            worker.stop();
            ran() >= COUNT
        });
        // Whoever comes after them finds nothing.
        let worker = app.worker().start().expect("starts");
        adds(&app);
        worker.stop();
        let mut runs = std::mem::take(&mut *RUNS.lock().expect("no panics"));
        runs.sort_unstable();
        assert_eq!(runs, (0..COUNT).collect::<Vec<_>>());
    }
}

#[test]
fn results_may_be_kept_in_a_file() {
    let rabbit = Rabbit::start().expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("results.db");
    let app = app(&rabbit)
        .results(path.to_str().expect("utf-8"))
        .build()
        .expect("an app");
    let _worker = app.worker().start().expect("starts");
    let one = |n| {
        let call = app.call::<add>((n, 1)).idempotency_key("one");
        call.send().expect("sent").get(PATIENCE).expect("a value")
    };
    assert_eq!((one(1), one(2)), (2, 2));
    // Who did not call reads it as well.
    let id = app.delay::<add>((2, 2)).expect("sent").id().to_owned();
    assert_eq!(app.result::<i64>(&id).get(PATIENCE).expect("a value"), 4);
}

#[test]
fn a_server_that_stands_still_or_is_full_is_waited_for() {
    let rabbit = Rabbit::start().expect("a server");
    let app = app(&rabbit).build().expect("an app");
    let worker = app.worker().start().expect("starts");
    adds(&app);
    let sends = || {
        let app = app.clone();
        std::thread::spawn(move || {
            let sent = app.delay::<add>((1, 1)).expect("sent once it can");
            sent.get(PATIENCE).expect("a value")
        })
    };
    rabbit.freeze().expect("it stands still");
    let waits = sends();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!waits.is_finished());
    rabbit.thaw().expect("it goes on");
    assert_eq!(waits.join().expect("no panic"), 2);
    // The alarm of a full disk blocks who publishes.
    rabbit
        .control(&["set_disk_free_limit", "1000000GB"])
        .expect("set");
    let waits = sends();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!waits.is_finished());
    rabbit.control(&["set_disk_free_limit", "1MB"]).expect("set");
    assert_eq!(waits.join().expect("no panic"), 2);
    assert_eq!(worker.trouble(), None);
    // A worker that has nothing to do stops without it.
    rabbit.freeze().expect("it stands still");
    worker.stop();
    rabbit.thaw().expect("it goes on");
}

#[test]
fn workers_that_are_killed_lose_nothing() {
    let rabbit = Rabbit::start().expect("a server");
    storm::storm_loses_nothing(Some(&rabbit.url()), |_| {
        settle("the queue is drained", || {
            let left = rabbit.control(&["list_queues", "--no-table-headers", "name", "messages"]);
            let left = left.expect("listed");
            left.lines().any(|line| line == "celery\t0")
        });
    });
}

/// A user who may not make the queues of what waits.
#[test]
fn what_a_user_may_not_do_fails_and_the_rest_goes_on() {
    let rabbit = Rabbit::start().expect("a server");
    let full = app(&rabbit).build().expect("an app");
    adds_with(&full, &full.worker().start().expect("starts"));
    for command in [
        vec!["add_user", "ann", "secret"],
        vec!["set_permissions", "ann", r"^(?!.*\.later)", ".*", ".*"],
    ] {
        rabbit.control(&command).expect("done");
    }
    let url = rabbit.url().replace("amqp://", "amqp://ann:secret@");
    let narrow = tasks(App::builder("test").broker(&url)).build().expect("an app");
    let worker = narrow.worker().start().expect("starts");
    adds_with(&narrow, &worker);
    let later = narrow
        .call::<add>((1, 1))
        .countdown(Duration::from_secs(2))
        .send();
    let refused = later.map(drop).expect_err("refused").to_string();
    assert!(
        refused.contains("celery.later") && !refused.contains("secret"),
        "{refused}"
    );
    adds_with(&narrow, &worker);
    // What others send to wait passes by itself.
    let later = full.call::<add>((2, 3)).countdown(Duration::from_millis(300));
    assert_eq!(later.send().expect("sent").get(PATIENCE).expect("a value"), 5);
}

#[test]
fn a_task_of_nobody_is_refused_with_its_reason() {
    let rabbit = Rabbit::start().expect("a server");
    let app = app(&rabbit).build().expect("an app");
    let _worker = app.worker().start().expect("starts");
    let unknown = app.send_task("rabbit.nothing", [], []).expect("sent");
    let failed = unknown.get(PATIENCE);
    assert!(
        matches!(&failed, Err(ResultError::Failed { kind, .. }) if kind == "NotRegistered"),
        "{failed:?}"
    );
}

#[task(name = "rabbit.long")]
fn long(bytes: usize, text: String) -> String {
    text + &"x".repeat(bytes)
}

#[test]
fn what_is_too_long_is_refused_and_nobody_else_suffers() {
    const LIMIT: usize = 128 << 20;
    let rabbit = Rabbit::start().expect("a server");
    let app = tasks(App::builder("test").broker(&rabbit.url()).task::<long>())
        .build()
        .expect("it connects");
    let _worker = app.worker().start().expect("starts");
    let fits = app.delay::<long>((0, "x".repeat(LIMIT / 2))).expect("sent");
    assert_eq!(fits.get(PATIENCE).expect("a value").len(), LIMIT / 2);
    let refused = app.delay::<long>((0, "x".repeat(512 << 20))).map(drop);
    let reason = refused.expect_err("it is too long").to_string();
    assert!(
        reason.contains("max_message_size") && reason.contains(&LIMIT.to_string()),
        "{reason}"
    );
    let lost = app
        .delay::<long>((LIMIT, String::new()))
        .expect("sent")
        .get(PATIENCE);
    assert!(
        matches!(&lost, Err(ResultError::Failed { message, .. }) if message.contains("max_message_size")),
        "{lost:?}"
    );
    adds(&app);
}

#[cfg(feature = "amqp-tls")]
#[test]
fn a_server_is_known_by_its_certificate() {
    let rabbit = Rabbit::start_with_tls().expect("a server");
    let (url, authority) = rabbit.tls().expect("it has one");
    let known = format!("{url}?cacertfile={}", authority.display());
    let app = tasks(App::builder("test").broker(&known))
        .build()
        .expect("it connects");
    let _worker = app.worker().start().expect("starts");
    adds(&app);
    let unknown = tasks(App::builder("test").broker(&url)).build();
    assert!(unknown.is_err(), "nobody vouches for it");
}

#[test]
fn deaths_at_named_places_lose_what_they_may_and_no_more() {
    let rabbit = Rabbit::start().expect("a server");
    storm::deaths_at_named_places(Some(&rabbit.url()));
}
