//! Unmodified Celery beside us on one server, RabbitMQ or Redis: its producers and our workers, our producers and its workers, and chains
//! through both.
#![cfg(any(feature = "amqp", feature = "redis"))]

#[path = "support/celery.rs"]
mod celery;
#[cfg(feature = "amqp")]
#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;
#[cfg(feature = "redis")]
#[path = "support/redis.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod redis_server;

use celery::Celery;
use par_dist::app::{App, AppBuilder, ResultError, Retry, State, TaskOptions, current_task};
use par_dist::task;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

#[task(name = "app.add")]
fn add(a: i64, b: i64) -> i64 {
    a + b
}

#[task(name = "app.fails")]
fn fails(text: String) -> Result<i64, std::io::Error> {
    Err(std::io::Error::other(text))
}

#[task(name = "app.tells")]
fn tells(args: Vec<Value>, kwargs: Map<String, Value>) -> Result<Value, String> {
    let run = current_task().ok_or("no worker runs it")?;
    Ok(json!([args, kwargs, run.id(), run.root(), run.retries()]))
}

#[task(name = "app.third")]
fn third() -> Result<u32, std::io::Error> {
    match current_task().map_or(0, |run| run.retries()) {
        2 => Ok(2),
        _ => Err(std::io::Error::other("not yet")),
    }
}

fn tasks(app: AppBuilder) -> AppBuilder {
    let retry = Retry {
        count: 3,
        delay: Duration::from_millis(20),
        ..Retry::default()
    };
    let late = TaskOptions {
        acks_late: true,
        retry,
        ..TaskOptions::default()
    };
    app.task::<add>()
        .task::<fails>()
        .task::<tells>()
        .task_with::<third>(late)
}

fn app(broker: &str) -> App {
    tasks(App::builder("demo").broker(broker))
        .build()
        .expect("it connects")
}

#[cfg(feature = "amqp")]
#[test]
fn celery_and_this_serve_each_other_on_rabbitmq() {
    let rabbit = rabbit::Rabbit::start().expect("a server");
    serve_each_other(&rabbit.url(), "rpc://");
}

#[cfg(feature = "redis")]
#[test]
fn celery_and_this_serve_each_other_on_redis() {
    let redis = redis_server::Redis::start().expect("a server");
    serve_each_other(&redis.url(), &redis.url());
}

fn serve_each_other(broker: &str, backend: &str) {
    let celery = Celery::new(broker, backend).expect("Celery");
    let app = app(broker);
    let worker = app.worker().concurrency(2).start().expect("starts");

    // Its producers, our workers.
    let told = celery
        .run(
            r#"
out = {}
add = signature("app.add")
out["args"] = app.send_task("app.add", (2, 3)).get(timeout=60)
out["kwargs"] = app.send_task("app.add", (2,), {"b": 4}).get(timeout=60)
start = time.time()
out["later"] = app.send_task("app.add", (1, 1), countdown=0.5).get(timeout=60)
out["waited"] = time.time() - start
out["chain"] = chain(signature("app.add", (1, 2)), signature("app.add", (10,)), signature("app.add", (5, 5), immutable=True)).apply_async().get(timeout=60)
out["request"] = app.send_task("app.tells", (1, None, [0.1]), {"k": {"deep": True}}, task_id="the-id").get(timeout=60)
out["retried"] = app.send_task("app.third").get(timeout=60)
linked = app.send_task("app.add", (1, 2), link=signature("app.add", (100,)))
out["linked"] = linked.get(timeout=60)
out["children"] = [child.get(timeout=60) for child in linked.children]
for name, args in [("app.fails", ("disk on fire",)), ("app.add", (1, "x")), ("app.nothing", ())]:
    sent = app.send_task(name, args)
    try:
        sent.get(timeout=60)
    except Exception as error:
        out[name + repr(list(args))] = [type(error).__name__, str(error), sent.state]
late = app.send_task("app.add", (1, 1), expires=-1)
try:
    late.get(timeout=60)
except Exception as error:
    out["late"] = type(error).__name__
revoked = app.send_task("app.add", (1, 1), countdown=1)
app.control.revoke(revoked.id)
try:
    revoked.get(timeout=60)
except Exception as error:
    out["revoked"] = type(error).__name__
print(json.dumps(out))
"#,
        )
        .expect("its program runs");
    assert_eq!(
        (&told["args"], &told["kwargs"], &told["later"]),
        (&json!(5), &json!(6), &json!(2))
    );
    assert!(
        told["waited"].as_f64().is_some_and(|seconds| seconds >= 0.5),
        "{told}"
    );
    assert_eq!(told["chain"], 10);
    assert_eq!(
        told["request"],
        json!([[1, null, [0.1]], {"k": {"deep": true}}, "the-id", "the-id", 0])
    );
    assert_eq!(told["retried"], 2);
    assert_eq!((&told["linked"], &told["children"]), (&json!(3), &json!([103])));
    let failed = &told["app.fails['disk on fire']"];
    assert_eq!(
        (&failed[1], &failed[2]),
        (&json!("disk on fire"), &json!("FAILURE")),
        "{told}"
    );
    let wrong = &told["app.add[1, 'x']"];
    assert_eq!(wrong[0], "TypeError", "{told}");
    assert!(
        wrong[1].as_str().is_some_and(|text| text.contains("\"b\"")),
        "{told}"
    );
    assert!(
        told["app.nothing[]"][1]
            .as_str()
            .is_some_and(|text| text.contains("no task is named")),
        "{told}"
    );
    assert_eq!(told["late"], "TaskRevokedError", "{told}");
    assert_eq!(told["revoked"], "TaskRevokedError", "{told}");

    // Our producers, its workers.
    let theirs = celery.worker("python").expect("a worker");
    let send = |name: &str, args: Vec<Value>| {
        let signature = app.signature_by_name(name, args);
        app.call_signature(&signature)
            .queue("python")
            .send()
            .expect("sent")
    };
    assert_eq!(
        send("py.mul", vec![6.into(), 7.into()])
            .get(PATIENCE)
            .expect("a value"),
        42
    );
    let request = send("py.request", vec![0.1.into(), Value::Null])
        .get(PATIENCE)
        .expect("a value");
    assert_eq!((&request[0], &request[4]), (&json!([0.1, null]), &json!(0)));
    assert_eq!(request[2], request[3], "it is its own root");
    let failed = send("py.fail", vec!["no".into()]);
    match failed.get(PATIENCE) {
        Err(ResultError::Failed {
            kind,
            message,
            traceback,
            ..
        }) => {
            assert_eq!((kind.as_str(), message.as_str()), ("ValueError", "no"));
            assert!(traceback.is_some_and(|text| text.contains("demo.py")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(failed.state().expect("known"), State::Failure);
    let start = Instant::now();
    let later = app.call_signature(&app.signature_by_name("py.mul", vec![2.into(), 2.into()]));
    let later = later
        .queue("python")
        .countdown(Duration::from_millis(300))
        .send()
        .expect("sent");
    assert_eq!(later.get(PATIENCE).expect("a value"), 4);
    assert!(start.elapsed() >= Duration::from_millis(300));

    // It hears what is revoked here.
    let revoked = app.call_signature(&app.signature_by_name("py.mul", vec![2.into(), 2.into()]));
    let revoked = revoked
        .queue("python")
        .countdown(Duration::from_secs(2))
        .send()
        .expect("sent");
    revoked.revoke().expect("told");
    assert!(matches!(revoked.get(PATIENCE), Err(ResultError::Revoked { .. })));

    // A chain through both: ours, its, ours.
    let mul = app.signature_by_name("py.mul", vec![10.into()]).queue("python");
    let chain = app
        .call::<add>((1, 2))
        .then::<Value>(mul)
        .then::<i64>(app.signature::<add>([4.into()]).queue("celery"));
    assert_eq!(chain.send().expect("sent").get(PATIENCE).expect("a value"), 34);
    drop(theirs);
    worker.stop();
}

/// Bodies in other formats, both ways.
#[cfg(all(feature = "redis", feature = "msgpack", feature = "yaml"))]
#[test]
fn other_formats_are_read_here_and_there() {
    use par_dist::app::Format;
    let redis = redis_server::Redis::start().expect("a server");
    let celery = Celery::new(&redis.url(), &redis.url()).expect("Celery");
    let app = app(&redis.url());
    let worker = app.worker().start().expect("starts");
    let told = celery.run(
        r#"
args = (1, None, [0.1, "gr\u00fcn"])
print(json.dumps([app.send_task("app.tells", args, {"k": {"deep": True}}, serializer=kind).get(timeout=60) for kind in ("msgpack", "yaml")]))
"#,
    );
    for one in told.expect("its program runs").as_array().expect("a list") {
        assert_eq!(
            (&one[0], &one[1]),
            (&json!([1, null, [0.1, "grün"]]), &json!({"k": {"deep": true}}))
        );
    }
    let _theirs = celery.worker("python").expect("a worker");
    for format in [Format::Msgpack, Format::Yaml] {
        let app = App::builder("demo")
            .broker(&redis.url())
            .format(format)
            .build()
            .expect("an app");
        let call = app.call_signature(&app.signature_by_name("py.request", vec![0.1.into(), "grün".into()]));
        let request = call
            .queue("python")
            .send()
            .expect("sent")
            .get(PATIENCE)
            .expect("a value");
        assert_eq!(request[0], json!([0.1, "grün"]), "{format:?}");
    }
    worker.stop();
}

/// The server is killed in the middle: what was sent is run, and all connect again by themselves.
#[cfg(feature = "amqp")]
#[test]
fn a_server_that_is_killed_loses_nothing() {
    let mut rabbit = rabbit::Rabbit::start().expect("a server");
    let app = app(&rabbit.url());
    let worker = app.worker().concurrency(2).start().expect("starts");
    let before = app
        .send_all((0..50).map(|number| app.call::<add>((number, 1))))
        .expect("sent");
    for (number, result) in before.iter().enumerate() {
        assert_eq!(result.get(PATIENCE).expect("a value"), number as i64 + 1);
    }
    // Their time is over when the server comes back, while it opens one queue after the other; some of them may have to wait until it tries again.
    let queues: Vec<String> = (0..12).map(|number| format!("queue-{number}")).collect();
    let names = queues.iter().map(String::as_str);
    let others = self::app(&rabbit.url())
        .worker()
        .queues(names)
        .start()
        .expect("starts");
    let waits = || -> Vec<_> {
        let each = queues.iter().map(|queue| {
            let call = app.call::<add>((20, 22)).countdown(Duration::from_secs(3));
            call.queue(queue).send().expect("sent")
        });
        each.collect()
    };
    // A server that is killed may forget the queues that it made in the last moments, with what is in them: these are some seconds old.
    // The first time makes those of the way, one after the other.
    for first in waits() {
        assert_eq!(first.get(PATIENCE).expect("a value"), 42);
    }
    for second in waits() {
        assert_eq!(second.get(PATIENCE).expect("a value"), 42);
    }
    let later = waits();
    rabbit.kill().expect("it is ours");
    let sends = {
        let app = app.clone();
        std::thread::spawn(move || app.delay::<add>((1, 1)).expect("sent when it is back"))
    };
    rabbit.start_again().expect("it starts again");
    assert_eq!(sends.join().expect("no panic").get(PATIENCE).expect("a value"), 2);
    for later in later {
        assert_eq!(later.get(PATIENCE).expect("a value"), 42);
    }
    others.stop();
    rabbit
        .control(&["close_all_connections", "a test"])
        .expect("closed");
    assert_eq!(
        app.delay::<add>((2, 2))
            .expect("sent")
            .get(PATIENCE)
            .expect("a value"),
        4
    );
    // A queue that is deleted is made again, and consumed from again.
    rabbit.control(&["delete_queue", "celery"]).expect("deleted");
    let after = app.send_all((0..10).map(|number| app.call::<add>((number, 2))));
    for (number, result) in after.expect("sent").iter().enumerate() {
        assert_eq!(result.get(PATIENCE).expect("a value"), number as i64 + 2);
    }
    worker.stop();
    assert_eq!(app.waiting("celery").expect("counted"), 0);
}
