//! The commands of a program around an app, as a user types them; and signals.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn demo(broker: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_par-dist-app-demo"));
    command.env("BROKER", broker).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A worker's process, which does not outlive the test.
struct Worker(Child);

impl Worker {
    /// Ready, and what it said until then.
    fn start(broker: &Path) -> (Self, String) {
        let (worker, banner, lines) = Worker::start_with(broker, &[]);
        // What it says later must not stop it.
        std::thread::spawn(move || lines.count());
        (worker, banner)
    }

    /// And what it says later.
    fn start_with(
        broker: &Path,
        arguments: &[&str],
    ) -> (Self, String, impl Iterator<Item = String> + Send + use<>) {
        let mut command = demo(broker);
        command
            .args(["worker", "-c", "2", "-Q", "celery,other"])
            .args(arguments)
            .process_group(0)
            .stderr(Stdio::piped());
        let mut worker = Worker(command.spawn().expect("a worker"));
        let mut lines = BufReader::new(worker.0.stderr.take().expect("piped")).lines();
        let mut banner = String::new();
        loop {
            let line = lines.next().expect("ready some day").expect("text");
            banner += &format!("{line}\n");
            if line.ends_with("ready.") {
                break;
            }
        }
        (worker, banner, lines.map_while(Result::ok))
    }

    fn signal(&self) {
        let id = self.0.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &id])
                .status()
                .expect("kill")
                .success()
        );
    }

    fn code(&mut self) -> Option<i32> {
        let until = Instant::now() + Duration::from_secs(60);
        while Instant::now() < until {
            if let Some(status) = self.0.try_wait().expect("it is ours") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("it does not end");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_worker_and_calls_by_hand() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = folder.path().join("jobs.db");
    let run = |args: &[&str]| demo(&broker).args(args).output().expect("it runs");
    let sent = run(&["call", "demo.add", "--args", "[2, 3]"]);
    assert!(sent.status.success());
    let id = said(&sent);
    assert_eq!(said(&run(&["status"])), "celery: 1 tasks wait");
    let none = run(&["result", &id]);
    assert!(!none.status.success() && String::from_utf8_lossy(&none.stderr).contains("PENDING"));

    let (mut worker, banner) = Worker::start(&broker);
    for part in [
        "app:         demo",
        "jobs.db",
        "2 (threads)",
        ". celery",
        ". other",
        ". demo.add",
    ] {
        assert!(banner.contains(part), "{banner}");
    }
    assert_eq!(said(&run(&["result", &id, "--wait", "60"])), "5");
    let by_name = run(&[
        "call",
        "demo.add",
        "-k",
        r#"{"a": 1, "b": 2}"#,
        "--queue",
        "other",
        "--wait",
        "60",
    ]);
    assert_eq!(said(&by_name), "3");
    let failed = run(&["call", "demo.add", "-a", "[1]", "--wait", "60"]);
    assert!(!failed.status.success());
    assert!(String::from_utf8_lossy(&failed.stderr).contains("misses the argument \"b\""));

    // Told to end, it ends what it began.
    let naps = said(&run(&["call", "demo.nap", "-a", "[300]"]));
    let start = Instant::now();
    while said(&run(&["status"])) != "celery: 0 tasks wait" {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    worker.signal();
    assert_eq!(worker.code(), Some(0));
    assert_eq!(said(&run(&["result", &naps])), "300");

    run(&["call", "demo.add", "-a", "[1, 1]", "--countdown", "1000"]);
    assert_eq!(said(&run(&["purge"])), "1 tasks dropped from celery");
    for (args, says) in [
        (
            &["call", "demo.add", "--args", "{}"][..],
            "--args is no list in JSON",
        ),
        (
            &["call", "demo.add", "--kwargs", "[]"],
            "--kwargs is no map in JSON",
        ),
        (&["dance"], "unrecognized subcommand"),
        (&["worker", "-c", "0"], "concurrency"),
    ] {
        let output = run(args);
        assert!(!output.status.success());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn a_second_signal_ends_a_worker_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = folder.path().join("jobs.db");
    let (mut worker, _) = Worker::start(&broker);
    let call = demo(&broker)
        .args(["call", "demo.nap", "-a", "[600000]"])
        .output();
    assert!(call.expect("it runs").status.success());
    let start = Instant::now();
    while said(&demo(&broker).arg("status").output().expect("it runs")) != "celery: 0 tasks wait" {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    worker.signal();
    std::thread::sleep(Duration::from_millis(100));
    assert!(
        worker.0.try_wait().expect("it is ours").is_none(),
        "it waits for what runs"
    );
    worker.signal();
    assert_eq!(worker.code(), Some(130));
}

#[test]
fn a_worker_of_processes_tells_how_it_is_and_ends_in_peace() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = folder.path().join("jobs.db");
    let arguments = [
        "-P",
        "processes",
        "--health",
        "127.0.0.1:0",
        "--json",
        "--max-tasks-per-child",
        "5",
    ];
    let (mut worker, banner, lines) = Worker::start_with(&broker, &arguments);
    assert!(banner.contains("2 (processes)"), "{banner}");
    let place = banner
        .lines()
        .find_map(|line| line.strip_prefix("health:      http://"));
    let place = place
        .expect("it says where")
        .trim_end_matches("/health")
        .to_owned();
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&place).expect("it listens");
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("answered");
        text
    };
    let run = |args: &[&str]| said(&demo(&broker).args(args).output().expect("it runs"));
    assert_eq!(run(&["call", "demo.add", "-a", "[2, 3]", "--wait", "60"]), "5");
    let health = ask("/health");
    assert!(
        health.contains(" 200 ") && health.contains("\"ended\":1"),
        "{health}"
    );
    assert!(ask("/").contains(" 404 "));
    // One that runs is ended.
    let nap = run(&["call", "demo.nap", "-a", "[600000]"]);
    let start = Instant::now();
    while !ask("/health").contains("\"running\":1") {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    run(&["revoke", &nap, "--terminate"]);
    let ended = demo(&broker)
        .args(["result", &nap, "--wait", "60"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(text.contains("revoked: terminated"), "{text}");
    // As a terminal does it, to all of its group: what runs is ended by the worker, not by the signal.
    let nap = run(&["call", "demo.nap", "-a", "[500]"]);
    while !ask("/health").contains("\"running\":1") {
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    let group = format!("-{}", worker.0.id());
    let told = Command::new("kill").args(["-INT", "--", &group]).status();
    assert!(told.expect("run").success());
    assert_eq!(worker.code(), Some(0));
    assert_eq!(run(&["result", &nap]), "500");
    // A line a word, in JSON.
    let logged: Vec<String> = lines.filter(|line| line.starts_with('{')).collect();
    let revoked = logged.iter().find(|line| line.contains("ended by force"));
    let revoked: serde_json::Value = serde_json::from_str(revoked.expect("it says so")).expect("JSON");
    assert_eq!(
        (&revoked["level"], &revoked["task"]),
        (&"WARN".into(), &"demo.nap".into())
    );
}
