//! The task queue while the network loses packets, or all of them for a while, and while clocks are set. As root, in a network of its own, with
//! `ip`, `iptables` and libfaketime.

#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;
#[path = "support/redis.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod redis;
#[path = "support/storm.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod storm;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use storm::{PATIENCE, Place, check, late};

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().expect("a program"))
        .args(words)
        .status();
    let status = status.unwrap_or_else(|error| panic!("{command}: {error}"));
    assert!(status.success(), "{command}: {status}");
}

/// Runs the test of that name in a process whose network is its own, and ends with it.
fn in_own_network(test: &str, work: impl FnOnce()) {
    const INSIDE: &str = "INSIDE_ITS_NETWORK";
    if std::env::var_os(INSIDE).is_some() {
        run("ip link set lo up");
        return work();
    }
    let status = Command::new("unshare")
        .args(["--net", "--"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare, of util-linux");
    assert!(status.success(), "{test}: {status}");
}

fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// One in ten packets to or from the server is lost, and then all of them for five seconds.
fn survives_a_bad_network(url: &str, port: u16) {
    const COUNT: u64 = 300;
    let lossy = |change: &str, end: &str| {
        let some = "-m statistic --mode random --probability 0.1";
        run(&format!(
            "iptables {change} INPUT -i lo -p tcp --{end} {port} {some} -j DROP"
        ));
    };
    let cut = |change: &str| {
        run(&format!(
            "iptables {change} INPUT -i lo -p tcp --dport {port} -j DROP"
        ))
    };
    let place = Place::on(Some(url));
    let (app, log) = (place.app(), Place::text(&place.log));
    let workers: Vec<_> = (0..3).map(|_| place.worker()).collect();
    until("all are ready", PATIENCE, || {
        place.log().iter().filter(|line| *line == "ready").count() == workers.len()
    });
    lossy("-A", "dport");
    lossy("-A", "sport");
    let calls = (0..COUNT).map(|number| app.call::<late>((log.clone(), number, 20)));
    let sent = app.send_all(calls).expect("sent");
    until("a third has begun", PATIENCE, || {
        place.runs().len() as u64 > COUNT / 3
    });
    cut("-I");
    // So long nothing arrives.
    std::thread::sleep(Duration::from_secs(5));
    let before = place.runs().len();
    assert!((before as u64) < COUNT, "all had begun before");
    cut("-D");
    until("it goes on", Duration::from_secs(10), || {
        place.runs().len() > before
    });
    for (number, result) in (0..).zip(&sent) {
        assert_eq!(result.get(PATIENCE).expect("a value"), number);
    }
    lossy("-D", "dport");
    lossy("-D", "sport");
    workers.into_iter().for_each(storm::Worker::stop);
    assert_eq!(check(COUNT, &place.runs(), true), Ok(()));
}

#[test]
fn rabbitmq_behind_a_network_that_loses_packets() {
    in_own_network("rabbitmq_behind_a_network_that_loses_packets", || {
        let server = rabbit::Rabbit::start().expect("a server");
        survives_a_bad_network(&server.url(), server.port());
    });
}

#[test]
fn redis_behind_a_network_that_loses_packets() {
    in_own_network("redis_behind_a_network_that_loses_packets", || {
        let server = redis::Redis::start().expect("a server");
        survives_a_bad_network(&server.url(), server.port());
    });
}

/// Sets the clock of who reads that file.
fn set_clock(file: &Path, to: &str) {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, to).expect("write");
    std::fs::rename(&fresh, file).expect("rename");
}

/// The clock of one worker goes forth and back by hours while both have leases, and tasks wait for their times.
fn survives_clocks_that_jump(server: Option<&str>) {
    const COUNT: u64 = 40;
    let place = Place::on(server);
    let (app, log) = (place.app(), Place::text(&place.log));
    let clock = place.log.with_file_name("clock");
    set_clock(&clock, "+0s");
    let right = place.worker();
    let wrong = place.worker_with(&[
        ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1"),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().expect("utf-8")),
        ("FAKETIME_NO_CACHE", "1"),
        // What is set are clocks, and not how long something takes.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("DONT_FAKE_MONOTONIC", "1"),
    ]);
    until("both are ready", PATIENCE, || {
        place.log().iter().filter(|line| *line == "ready").count() == 2
    });
    let calls = (0..COUNT).map(|number| {
        let call = app.call::<late>((log.clone(), number, 300));
        // Every other one has to wait.
        call.countdown(Duration::from_millis(number % 2 * (500 + 40 * number)))
    });
    let sent = app.send_all(calls).expect("sent");
    for (begun, time) in [(4, "+2h"), (12, "-2h"), (20, "+0s")] {
        until("some have begun", PATIENCE, || place.runs().len() >= begun);
        set_clock(&clock, time);
    }
    for (number, result) in (0..).zip(&sent) {
        assert_eq!(result.get(PATIENCE).expect("a value"), number);
    }
    right.stop();
    wrong.stop();
    // Nobody was taken for dead, and nothing that waited came twice.
    assert_eq!(check(COUNT, &place.runs(), false), Ok(()));
}

#[test]
fn a_clock_that_jumps_beside_a_file() {
    survives_clocks_that_jump(None);
}

#[test]
fn a_clock_that_jumps_beside_rabbitmq() {
    let server = rabbit::Rabbit::start().expect("a server");
    survives_clocks_that_jump(Some(&server.url()));
}

#[test]
fn a_clock_that_jumps_beside_redis() {
    let server = redis::Redis::start().expect("a server");
    survives_clocks_that_jump(Some(&server.url()));
}
