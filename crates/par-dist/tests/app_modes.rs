//! What a worker does to tasks that run: limits, revocation, rates, children that die or wear out, hooks; in each mode in which it can run them.

use par_dist::app::{
    App, AppBuilder, AppError, Cancelled, Hooks, Mode, ResultError, State, TaskContext, TaskOptions,
    current_task,
};
use par_dist::task;
use serde_json::{Value, json};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

type Any = Box<dyn std::error::Error + Send + Sync>;

#[task(name = "modes.add")]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task(name = "modes.pid")]
fn pid() -> u32 {
    std::process::id()
}

#[task(name = "modes.fails")]
fn fails() -> Result<(), std::io::Error> {
    Err(std::io::Error::other("it fails"))
}

#[task(name = "modes.panics")]
fn panics() {
    std::panic::resume_unwind(Box::new("it panics".to_owned()));
}

/// Goes on until it is told to end; then says why. Or until a file is there.
#[task(name = "modes.until_told")]
fn until_told(begun: String) -> Result<String, Any> {
    let run = current_task().ok_or("no worker runs it")?;
    std::fs::write(begun, run.id())?;
    let until = Instant::now() + PATIENCE;
    while run.cancelled().is_none() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    if !par_dist::par_core::cancelled() {
        return Err("the token says otherwise".into());
    }
    Ok(format!("{:?}", run.cancelled()))
}

/// Hears nothing.
#[task(name = "modes.deaf")]
fn deaf(begun: String) -> Result<u32, std::io::Error> {
    // Whole, or not there.
    let part = format!("{begun}.part");
    std::fs::write(&part, std::process::id().to_string())?;
    std::fs::rename(part, begun)?;
    std::thread::sleep(PATIENCE);
    Ok(1)
}

#[cfg(feature = "async")]
#[task(name = "modes.naps")]
async fn naps(millis: u64) -> Result<u64, Any> {
    tokio::time::sleep(Duration::from_millis(millis)).await;
    let run = current_task().ok_or("no worker runs it")?;
    Ok(run.id().len() as u64)
}

#[task(name = "modes.dies")]
fn dies(times: String) -> Result<u64, std::io::Error> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&times)?;
    file.write_all(b"x")?;
    if file.metadata()?.len() < 3 {
        std::process::abort();
    }
    Ok(file.metadata()?.len())
}

/// Kills whoever runs it, each time.
#[task(name = "modes.poison")]
fn poison(times: String) -> Result<(), std::io::Error> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(&times)?;
    file.write_all(b"x")?;
    std::process::abort()
}

#[task(name = "modes.tells")]
fn tells() -> Result<Value, Any> {
    let run = current_task().ok_or("no worker runs it")?;
    run.progress("PROGRESS", json!({"done": 3}))?;
    let child = run.delay::<add>((1, 2))?;
    let three = child.get(PATIENCE)?;
    Ok(json!([run.task(), run.queue(), three, child.id()]))
}

#[task(name = "modes.again")]
fn again() -> Result<u32, Any> {
    let run = current_task().ok_or("no worker runs it")?;
    if run.retries() < 2 {
        return Err(run.retry(Some(Duration::ZERO)).into());
    }
    Ok(run.retries())
}

#[task(name = "modes.grows")]
fn grows(bytes: usize) -> u32 {
    std::mem::forget(std::hint::black_box(vec![1u8; bytes]));
    std::process::id()
}

fn tasks(app: AppBuilder) -> AppBuilder {
    let retry = par_dist::app::Retry {
        count: 3,
        ..Default::default()
    };
    let late = |requeue_lost| TaskOptions {
        acks_late: true,
        requeue_lost,
        ..TaskOptions::default()
    };
    let app = app
        .task::<add>()
        .task::<pid>()
        .task::<fails>()
        .task::<panics>()
        .task_with::<until_told>(late(0))
        .task::<deaf>()
        .task_with::<dies>(late(2))
        .task_with::<poison>(late(3))
        .task::<tells>()
        .task::<grows>()
        .task_with::<again>(TaskOptions {
            retry,
            ..TaskOptions::default()
        });
    #[cfg(feature = "async")]
    let app = app.task::<naps>();
    app
}

fn app() -> App {
    tasks(App::builder("modes").broker("memory:"))
        .build()
        .expect("an app")
}

const MODES: &[Mode] = &[
    Mode::Threads,
    Mode::Processes,
    #[cfg(feature = "async")]
    Mode::Async,
];

/// A folder for marks, and a mark's text.
fn mark() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mark");
    let text = path.to_str().expect("utf-8").to_owned();
    (folder, text)
}

fn settle(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn each_mode_runs_what_there_is_to_run() {
    for mode in MODES {
        let app = app();
        let worker = app.worker().mode(*mode).concurrency(3).start().expect("starts");
        let sums: Vec<_> = (0..50).map(|n| app.delay::<add>((n, 1)).expect("sent")).collect();
        for (n, sum) in (0..).zip(&sums) {
            assert_eq!(sum.get(PATIENCE).expect("a value"), n + 1, "{mode}");
        }
        let failed = app.delay::<fails>(()).expect("sent").get(PATIENCE);
        assert!(
            matches!(&failed, Err(ResultError::Failed { message, .. }) if message == "it fails"),
            "{failed:?}"
        );
        let panicked = app.delay::<panics>(()).expect("sent").get(PATIENCE);
        assert!(
            matches!(&panicked, Err(ResultError::Failed { message, .. }) if message.contains("it panics")),
            "{panicked:?}"
        );
        let told = app.delay::<tells>(()).expect("sent");
        let value = told.get(PATIENCE).expect("a value");
        assert_eq!(
            (&value[0], &value[2]),
            (&json!("modes.tells"), &json!(3)),
            "{mode}"
        );
        let children = told.children().expect("read");
        assert_eq!(children[0].id(), value[3].as_str().expect("an id"));
        let again = app.delay::<again>(()).expect("sent").get(PATIENCE);
        assert_eq!(again.expect("a value"), 2, "{mode}");
        let here = app
            .delay::<pid>(())
            .expect("sent")
            .get(PATIENCE)
            .expect("a value");
        assert_eq!(here != std::process::id(), *mode == Mode::Processes);
        settle("all have ended", || worker.running() == 0);
        assert_eq!(worker.ended(), 50 + 2 + 2 + 3 + 1, "{mode}");
        worker.stop();
    }
}

#[test]
fn a_soft_limit_is_told_and_the_value_counts() {
    for mode in [Mode::Threads, Mode::Processes] {
        let (app, (_folder, mark)) = (app(), mark());
        let _worker = app.worker().mode(mode).concurrency(1).start().expect("starts");
        let call = app.call::<until_told>(mark).soft_limit(Duration::from_millis(30));
        let why = call.send().expect("sent").get(PATIENCE).expect("a value");
        assert_eq!(why, format!("{:?}", Some(Cancelled::SoftLimit)), "{mode}");
        // The next one is told nothing.
        assert_eq!(
            app.delay::<add>((1, 1))
                .expect("sent")
                .get(PATIENCE)
                .expect("a value"),
            2
        );
    }
}

#[test]
fn a_hard_limit_kills_a_process_and_the_next_task_has_another() {
    let (app, (_folder, mark)) = (app(), mark());
    let _worker = app
        .worker()
        .mode(Mode::Processes)
        .concurrency(1)
        .start()
        .expect("starts");
    let before = app
        .delay::<pid>(())
        .expect("sent")
        .get(PATIENCE)
        .expect("a value");
    let (errback, call) = (
        app.signature::<add>([1.into()]),
        app.call::<deaf>(mark).hard_limit(Duration::from_millis(50)),
    );
    let start = Instant::now();
    let failed = call.link_error(errback).send().expect("sent").get(PATIENCE);
    assert!(
        matches!(&failed, Err(ResultError::Failed { kind, .. }) if kind == "TimeLimitExceeded"),
        "{failed:?}"
    );
    assert!(start.elapsed() < PATIENCE / 2);
    let after = app
        .delay::<pid>(())
        .expect("sent")
        .get(PATIENCE)
        .expect("a value");
    assert_ne!(before, after);
}

#[test]
fn a_thread_past_its_hard_limit_is_told_and_has_failed() {
    let (app, (_folder, mark)) = (app(), mark());
    let _worker = app.worker().concurrency(1).start().expect("starts");
    let call = app.call::<until_told>(mark).hard_limit(Duration::from_millis(30));
    let failed = call.send().expect("sent").get(PATIENCE);
    assert!(
        matches!(&failed, Err(ResultError::Failed { kind, .. }) if kind == "TimeLimitExceeded"),
        "{failed:?}"
    );
}

#[cfg(feature = "async")]
#[test]
fn futures_wait_beside_each_other_and_are_dropped_at_their_limit() {
    let app = app();
    let worker = app
        .worker()
        .mode(Mode::Async)
        .concurrency(500)
        .prefetch(1)
        .start()
        .expect("starts");
    let start = Instant::now();
    let naps: Vec<_> = app
        .send_all((0..500).map(|_| app.call::<naps>(200)))
        .expect("sent");
    for nap in &naps {
        assert_eq!(nap.get(PATIENCE).expect("a value"), 36);
    }
    // One after the other they take 100 s.
    assert!(start.elapsed() < Duration::from_secs(50), "{:?}", start.elapsed());
    let long = app.call::<naps>(3_600_000).hard_limit(Duration::from_millis(50));
    let failed = long.send().expect("sent").get(PATIENCE);
    assert!(
        matches!(&failed, Err(ResultError::Failed { kind, .. }) if kind == "TimeLimitExceeded"),
        "{failed:?}"
    );
    let long = app.delay::<naps>(3_600_000).expect("sent");
    settle("it runs", || worker.running() == 1);
    long.terminate().expect("told");
    assert!(matches!(long.get(PATIENCE), Err(ResultError::Revoked { .. })));
    worker.stop();
}

#[test]
fn what_is_revoked_does_not_begin() {
    let app = app();
    let call = app.delay::<add>((1, 1)).expect("sent");
    call.revoke().expect("told");
    let after = app.delay::<add>((2, 2)).expect("sent");
    let _worker = app.worker().concurrency(1).start().expect("starts");
    assert_eq!(after.get(PATIENCE).expect("a value"), 4);
    assert!(matches!(call.get(PATIENCE), Err(ResultError::Revoked { reason, .. }) if reason == "revoked"));
    assert_eq!(call.state().expect("read"), State::Revoked);
}

#[test]
fn what_runs_is_ended_where_it_can_be() {
    for mode in [Mode::Threads, Mode::Processes] {
        let (app, (_folder, mark)) = (app(), mark());
        let _worker = app.worker().mode(mode).concurrency(1).start().expect("starts");
        let call = match mode {
            Mode::Processes => app.delay::<deaf>(mark.clone()).expect("sent").id().to_owned(),
            _ => app
                .delay::<until_told>(mark.clone())
                .expect("sent")
                .id()
                .to_owned(),
        };
        let call = app.result::<Value>(&call);
        settle("it runs", || std::fs::exists(&mark).expect("looked"));
        // Who only wants it not to begin comes too late.
        call.revoke().expect("told");
        call.terminate().expect("told");
        let ended = call.get(PATIENCE);
        assert!(
            matches!(&ended, Err(ResultError::Revoked { reason, .. }) if reason == "terminated"),
            "{ended:?}"
        );
        assert_eq!(
            app.delay::<add>((1, 1))
                .expect("sent")
                .get(PATIENCE)
                .expect("a value"),
            2
        );
    }
}

#[test]
fn a_child_that_dies_fails_its_task_or_gives_it_back() {
    let (app, (_folder, times)) = (app(), mark());
    let _worker = app
        .worker()
        .mode(Mode::Processes)
        .concurrency(2)
        .start()
        .expect("starts");
    // It may go back: the third time it lives.
    let back = app.delay::<dies>(times).expect("sent");
    assert_eq!(back.get(PATIENCE).expect("a value"), 3);
    let (_folder, times) = mark();
    let poison = app.delay::<poison>(times.clone()).expect("sent").get(PATIENCE);
    assert!(
        matches!(&poison, Err(ResultError::Failed { kind, message, .. }) if kind == "WorkerLostError" && message.contains("3 that ran it")),
        "{poison:?}"
    );
    // Not more often than it may.
    assert_eq!(std::fs::read_to_string(&times).expect("read"), "xxxx");
    let (_folder, mark) = mark();
    let call = app.delay::<deaf>(mark.clone()).expect("sent");
    settle("it runs", || std::fs::exists(&mark).expect("looked"));
    let pid = std::fs::read_to_string(&mark).expect("read");
    // It is a child of this very process.
    let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
    assert!(killed.expect("run").success());
    let lost = call.get(PATIENCE);
    assert!(
        matches!(&lost, Err(ResultError::Failed { kind, message, .. }) if kind == "WorkerLostError" && message.contains("signal 9")),
        "{lost:?}"
    );
    assert_eq!(
        app.delay::<add>((1, 1))
            .expect("sent")
            .get(PATIENCE)
            .expect("a value"),
        2
    );
}

#[test]
fn children_wear_out() {
    let app = app();
    let pids = |app: &App, count: usize| -> Vec<u32> {
        let each = (0..count).map(|_| {
            app.delay::<pid>(())
                .expect("sent")
                .get(PATIENCE)
                .expect("a value")
        });
        each.collect()
    };
    let worker = app
        .worker()
        .mode(Mode::Processes)
        .concurrency(1)
        .tasks_per_child(2)
        .start()
        .expect("starts");
    let mut all = pids(&app, 6);
    assert!(all.chunks(2).all(|two| two[0] == two[1]), "{all:?}");
    all.dedup();
    assert_eq!(all.len(), 3);
    worker.stop();
    let _worker = app
        .worker()
        .mode(Mode::Processes)
        .concurrency(1)
        .memory_per_child(256 << 20)
        .start()
        .expect("starts");
    let first = pids(&app, 2);
    assert_eq!(first[0], first[1]);
    let large = app.delay::<grows>(300 << 20).expect("sent").get(PATIENCE);
    assert_eq!(large.expect("a value"), first[0]);
    assert_ne!(pids(&app, 1)[0], first[0]);
}

#[test]
fn a_rate_spreads_its_tasks_and_lets_others_pass() {
    let slow = TaskOptions {
        rate: Some("20/s".parse().expect("a rate")),
        ..TaskOptions::default()
    };
    let (tell, told) = channel();
    let app = App::builder("modes")
        .broker("memory:")
        .task_with::<pid>(slow)
        .task::<add>()
        .hooks(Begins(tell))
        .build()
        .expect("an app");
    let slow: Vec<_> = (0..8).map(|_| app.delay::<pid>(()).expect("sent")).collect();
    let quick = app.delay::<add>((1, 1)).expect("sent");
    let start = Instant::now();
    let _worker = app.worker().concurrency(4).prefetch(4).start().expect("starts");
    for slow in &slow {
        slow.get(PATIENCE).expect("a value");
    }
    // Seven pauses.
    assert!(
        start.elapsed() >= Duration::from_millis(7 * 50),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(quick.get(PATIENCE).expect("a value"), 2);
    let begun: Vec<String> = told.try_iter().collect();
    assert_ne!(
        begun.last().map(String::as_str),
        Some("modes.add"),
        "it passes them: {begun:?}"
    );
}

struct Begins(Sender<String>);

impl Hooks for Begins {
    fn before(&self, run: &TaskContext) {
        self.0.send(run.task().to_owned()).expect("heard");
    }
}

#[test]
fn a_worker_that_may_wait_no_longer_gives_back_what_it_can() {
    let (app, (_folder, mark)) = (app(), mark());
    let worker = app
        .worker()
        .mode(Mode::Processes)
        .concurrency(2)
        .start()
        .expect("starts");
    let early = app.delay::<deaf>(format!("{mark}-early")).expect("sent");
    let late = app.delay::<until_told>(mark.clone()).expect("sent");
    settle("both run", || {
        std::fs::exists(&mark).expect("looked") && std::fs::exists(format!("{mark}-early")).expect("looked")
    });
    assert!(worker.stop_within(Duration::ZERO));
    let lost = early.get(PATIENCE);
    assert!(
        matches!(&lost, Err(ResultError::Failed { kind, .. }) if kind == "WorkerLostError"),
        "{lost:?}"
    );
    assert_eq!(app.waiting("celery").expect("counted"), 1);
    let _worker = app.worker().concurrency(1).start().expect("starts");
    settle("it runs again", || {
        !late.state().expect("read").is_ready() && app.waiting("celery").expect("counted") == 0
    });
    late.terminate().expect("told");
    assert!(matches!(late.get(PATIENCE), Err(ResultError::Revoked { .. })));
}

struct Tell(Sender<String>);

impl Hooks for Tell {
    fn sends(&self, task: &str, _: &str) {
        self.0.send(format!("sends {task}")).expect("heard");
    }
    fn before(&self, run: &TaskContext) {
        self.0.send(format!("before {}", run.task())).expect("heard");
    }
    fn after(&self, run: &TaskContext, state: &State, value: &Value) {
        self.0
            .send(format!("after {} {state} {value}", run.task()))
            .expect("heard");
        std::panic::resume_unwind(Box::new("a hook that panics"));
    }
}

#[test]
fn hooks_are_called_around_tasks() {
    for mode in MODES {
        let (tell, told) = channel();
        let app = tasks(App::builder("modes").broker("memory:").hooks(Tell(tell)))
            .build()
            .expect("an app");
        let _worker = app.worker().mode(*mode).start().expect("starts");
        app.delay::<add>((1, 2))
            .expect("sent")
            .get(PATIENCE)
            .expect("a value");
        let hear = || told.recv_timeout(PATIENCE).expect("told");
        assert_eq!(
            [hear(), hear(), hear()],
            ["sends modes.add", "before modes.add", "after modes.add SUCCESS 3"]
        );
    }
}

#[test]
fn of_calls_with_one_key_one_runs_and_all_have_its_result() {
    let (app, (_folder, times)) = (app(), mark());
    std::fs::write(&times, "xx").expect("written");
    let send = || {
        app.call::<dies>(times.clone())
            .idempotency_key("order-7")
            .send()
            .expect("sent")
    };
    let (one, two) = (send(), send());
    let _worker = app.worker().concurrency(4).start().expect("starts");
    let three = send();
    for call in [&one, &two, &three] {
        assert_eq!(call.get(PATIENCE).expect("a value"), 3);
    }
    let other = app
        .call::<dies>(times.clone())
        .idempotency_key("order-8")
        .send()
        .expect("sent");
    assert_eq!(other.get(PATIENCE).expect("a value"), 4);
    assert_eq!(std::fs::read_to_string(&times).expect("read"), "xxxx");
}

#[test]
fn what_is_prepared_is_a_value_until_it_is_sent() {
    let app = app();
    let prepared = app.call::<add>((20, 22)).prepare().expect("prepared");
    let text = serde_json::to_string(&prepared).expect("encodes");
    assert_eq!(app.waiting("celery").expect("counted"), 0);
    let prepared: par_dist::app::Prepared = serde_json::from_str(&text).expect("decodes");
    let id = prepared.id().to_owned();
    app.send_prepared([prepared]).expect("sent");
    let _worker = app.worker().start().expect("starts");
    assert_eq!(app.result::<i64>(&id).get(PATIENCE).expect("a value"), 42);
    let odd = text.replace("\"celery\"", "\"\"");
    let odd: par_dist::app::Prepared = serde_json::from_str(&odd).expect("decodes");
    assert!(matches!(
        app.send_prepared([odd]),
        Err(AppError::Option { option: "queue", .. })
    ));
}

#[test]
fn results_may_be_elsewhere() {
    let (folder, place) = mark();
    let both = |results: &str| tasks(App::builder("modes").broker("memory:").results(results)).build();
    let app = both(&place).expect("an app");
    let _worker = app.worker().start().expect("starts");
    let call = app.delay::<add>((2, 3)).expect("sent");
    assert_eq!(call.get(PATIENCE).expect("a value"), 5);
    // Another program reads it from there.
    let reader = tasks(App::builder("other").broker(&place))
        .build()
        .expect("an app");
    assert_eq!(reader.result::<i64>(call.id()).get(PATIENCE).expect("a value"), 5);
    drop(folder);
    for (results, part) in [("rpc://", "RabbitMQ"), ("ftp://x", "redis://")] {
        let refused = both(results).expect_err("it is none").to_string();
        assert!(refused.contains(part), "{refused}");
    }
}
