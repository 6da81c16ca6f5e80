//! The cluster engine on a real Redis server: the laws, and what happens when the server is killed, stands still, forgets, or has no room.

#[path = "support/programs.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod programs;
#[path = "support/redis.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod redis_server;
#[path = "support/survive.rs"]
mod survive;

use par_dist::{ClusterEngine, ClusterPool, Options, Pool, TaskError, par_core};
use programs::{Program, endless, pool, square, until};
use redis_server::Redis;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One server for all of the laws, that need not wait for its disk; a queue each.
fn options() -> Options {
    static SERVER: OnceLock<Redis> = OnceLock::new();
    static QUEUES: AtomicU64 = AtomicU64::new(0);
    let server = SERVER.get_or_init(|| Redis::start_forgetful().expect("a server"));
    let number = QUEUES.fetch_add(1, Ordering::Relaxed);
    Options {
        broker: Some(server.url().into()),
        queue: format!("laws {number}"),
        ..Options::default()
    }
}

par_core::conformance::stamp!(on_redis, [1, 3], |setup| setup
    .builder::<ClusterEngine>()
    .options(options())
    .build()
    .map(Pool::into_any));

fn survive(fault: impl FnOnce(&mut Redis)) {
    let mut server = Redis::start().expect("a server");
    let url = server.url();
    // Each is begun and settled with a write to the disk of its own.
    survive::survive(&url, 2_500, || fault(&mut server));
}

#[test]
fn killed() {
    survive(|server| {
        server.kill().expect("kill");
        server.start_again().expect("start");
    });
}

#[test]
fn its_connections_cut() {
    survive(|server| {
        for _ in 0..20 {
            let mut connection = server.connection().expect("a connection");
            for kind in ["normal", "pubsub"] {
                let mut cut = redis::cmd("CLIENT");
                cut.arg("KILL").arg("TYPE").arg(kind);
                cut.query::<u64>(&mut connection).expect("cut");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
}

#[test]
fn stopped_for_a_while() {
    survive(|server| {
        server.signal("-STOP").expect("stop");
        std::thread::sleep(Duration::from_secs(3));
        server.signal("-CONT").expect("go on");
    });
}

#[test]
fn a_server_that_stays_away_ends_every_wait() {
    let mut server = Redis::start().expect("a server");
    let url = server.url();
    let reason = survive::stays_away(&url, || server.kill().expect("kill"));
    assert!(
        reason.starts_with(&format!("the broker {url} failed: ")),
        "{reason}"
    );
}

#[test]
fn a_server_that_forgets_ends_every_wait_and_starts_over() {
    let mut server = Redis::start_forgetful().expect("a server");
    let url = server.url();
    let reason = survive::stays_away(&url, || {
        server.kill().expect("kill");
        server.start_again().expect("start");
    });
    assert!(reason.contains("took this process for dead"), "{reason}");
    // Who comes then finds all as new.
    let pool = pool(&*url, 1);
    assert_eq!(pool.submit::<square>(5).expect("submit").wait(), Ok(25));
}

#[par_dist::task]
fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

#[test]
fn a_worker_that_is_killed_loses_what_it_had_begun_and_its_pool_leaves_nothing() {
    let server = Redis::start().expect("a server");
    let url = format!("{}?prefix=jobs", server.url());
    let pool = pool(&*url, 0);
    let mut worker = Program::worker(&url, 1);
    assert_eq!(pool.submit::<square>(12).expect("submit").wait(), Ok(144));
    let folder = tempfile::tempdir().expect("folder");
    let mark = folder.path().join("begun");
    let begun = pool
        .submit::<endless>(mark.display().to_string())
        .expect("submit");
    let fetched: Vec<_> = (0..5)
        .map(|x| pool.submit::<square>(x).expect("submit"))
        .collect();
    until("it has begun", || mark.exists());
    worker.kill();
    match begun.wait_timeout(Duration::from_secs(30)).map_err(|_| "no end") {
        Ok(Err(TaskError::Lost { .. })) => {}
        other => panic!("{other:?}"),
    }
    // What it had fetched and not begun, others run.
    let _worker = Program::worker(&url, 1);
    for (x, handle) in (0..5).zip(fetched) {
        assert_eq!(handle.wait(), Ok(x * x));
    }
    drop(pool);
    let mut connection = server.connection().expect("a connection");
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
    keys.retain(|key| !key.contains(":peers") && !key.contains(":beats"));
    keys.sort();
    assert_eq!(keys, ["{jobs}:epoch", "{jobs}:next"]);
}

#[test]
fn long_messages_go_there_and_back_and_what_has_no_room_is_refused() {
    let server = Redis::start().expect("a server");
    let pool = pool(server.url(), 1);
    let long = pool.submit::<length>(vec![7; 64 << 20]).expect("submit");
    assert_eq!(long.wait(), Ok(64 << 20));
    let mut connection = server.connection().expect("a connection");
    let mut limit = |bytes: &str| {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes);
        set.query::<()>(&mut connection).expect("set");
    };
    limit("1mb");
    match pool
        .submit::<length>(vec![7; 8 << 20])
        .map(|handle| handle.wait())
    {
        Ok(Err(TaskError::Rejected(reason))) => assert!(reason.contains("no room"), "{reason}"),
        other => panic!("{other:?}"),
    }
    limit("0");
    assert_eq!(pool.submit::<square>(3).expect("submit").wait(), Ok(9));
}

#[test]
fn urls_that_are_wrong_are_told() {
    let started = |url: &str| {
        let options = Options {
            broker: Some(url.into()),
            local_workers: false,
            ..Options::default()
        };
        let built = ClusterPool::builder().options(options).build();
        built.map(drop).expect_err(url).to_string()
    };
    for (url, said) in [
        (
            "redis://127.0.0.1:1/0",
            "cannot open the broker redis://127.0.0.1:1/0",
        ),
        (
            "redis://127.0.0.1:1/0?prefex=a",
            "unknown option \"prefex\", known are cacertfile, prefix",
        ),
        ("redis://127.0.0.1:one/0", "bad option broker"),
        (
            "http://127.0.0.1",
            "a path, `amqp://...` or `redis://...` is expected",
        ),
    ] {
        let error = started(url);
        assert!(error.contains(said), "{url}: {error}");
    }
}

#[cfg(feature = "redis-tls")]
#[test]
fn it_goes_over_tls_and_a_stranger_is_not_trusted() {
    let server = Redis::start_with_tls().expect("a server");
    let (url, authority) = server.tls().expect("it has one");
    let trusting = format!("{url}?cacertfile={}", authority.display());
    let pool = pool(&*trusting, 1);
    assert_eq!(pool.submit::<square>(6).expect("submit").wait(), Ok(36));
    let options = Options {
        broker: Some(url.into()),
        local_workers: false,
        ..Options::default()
    };
    let built = ClusterPool::builder().options(options).build();
    let error = built
        .map(drop)
        .expect_err("nobody knows its authority")
        .to_string();
    assert!(error.contains("certificate"), "{error}");
}
