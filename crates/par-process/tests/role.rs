//! Roles: the standard library works in a copy, and every way out has its own code.

use par_process::role::{self, ROLE_VARIABLE, UNKNOWN_ROLE};
use std::io::{BufRead, Write};
use std::process::{Command, Stdio};

par_process::role!("test-echo", echo);
par_process::role!("test-panic", panics);
par_process::role!("test-pipe", pipe);

/// Reads lines on another thread and prints them with the first argument; fails on what a main would not see.
fn echo() -> i32 {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.len() != 2 || std::env::var_os(ROLE_VARIABLE).is_some() {
        return 9;
    }
    let reader = std::thread::spawn(|| {
        std::io::stdin()
            .lock()
            .lines()
            .map(|line| line.expect("text"))
            .collect::<Vec<_>>()
    });
    let lines = reader.join().expect("no panic");
    let caught = std::panic::catch_unwind(|| panic!("caught"));
    println!("{} {} {}", arguments[1], lines.join("+"), caught.is_err());
    7
}

fn panics() -> i32 {
    panic!("out of the role");
}

/// Writes to a pipe that nobody reads: an error, not a signal.
fn pipe() -> i32 {
    let mut byte = [0];
    // The parent closes our stdout before it closes our stdin.
    let _ = std::io::Read::read(&mut std::io::stdin(), &mut byte);
    match std::io::stdout()
        .write_all(b"nobody reads\n")
        .and_then(|()| std::io::stdout().flush())
    {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 5,
        other => {
            eprintln!("{other:?}");
            6
        }
    }
}

#[test]
fn a_copy_has_arguments_streams_threads_and_panics() {
    let mut command = role::command("test-echo").expect("registered");
    let mut child = command
        .arg("argument")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(b"one\ntwo\n")
        .expect("written");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "argument one+two true\n");
    assert_eq!(output.status.code(), Some(7));
}

#[test]
fn a_panic_ends_the_copy_with_the_code_of_a_panicking_main() {
    let output = role::command("test-panic")
        .expect("registered")
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(101));
    assert!(String::from_utf8_lossy(&output.stderr).contains("out of the role"));
}

#[test]
fn a_closed_pipe_is_an_error_in_a_copy() {
    let mut command = role::command("test-pipe").expect("registered");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    drop(child.stdout.take());
    drop(child.stdin.take());
    let output = child.wait_with_output().expect("ends");
    assert_eq!(
        output.status.code(),
        Some(5),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn an_unknown_role_is_refused_here_and_there() {
    let error = role::command("no such role").expect_err("unknown").to_string();
    assert!(
        error.starts_with("no role is named \"no such role\" in this program; it knows "),
        "{error}"
    );
    assert!(error.contains("test-echo"), "{error}");
    let output = Command::new("/proc/self/exe")
        .env(ROLE_VARIABLE, "other")
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(UNKNOWN_ROLE));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.starts_with("par-process: no role is named \"other\" in this program"),
        "{text}"
    );
}
