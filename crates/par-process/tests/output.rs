//! What workers print comes out in whole lines, and all of it.

use par_process::{Options, Output, ProcessPool, role};
use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;

const LINES: u64 = 200;

/// Prints lines of one digit, each in pieces and longer than what a pipe takes at one go.
#[par_process::task]
fn print_pieces(digit: u64) {
    let mut out = std::io::stdout();
    for _ in 0..LINES {
        for _ in 0..10 {
            // Not `print!`, which a test harness may capture.
            let _ = write!(out, "{}", digit.to_string().repeat(997));
            let _ = out.flush();
        }
        let _ = writeln!(out);
    }
}

#[par_process::task]
fn print_and_abort(text: String) {
    let mut out = std::io::stdout();
    let _ = write!(out, "{text}");
    let _ = out.flush();
    std::process::abort();
}

fn run(role: &str) -> String {
    let output = role::command(role)
        .expect("registered")
        .stderr(Stdio::null())
        .output()
        .expect("starts");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).expect("text")
}

role!("test-pieces", pieces);
fn pieces() -> i32 {
    let pool = ProcessPool::new(3).expect("starts");
    // Whoever holds the standard output of the pool's program holds up nobody who prints there.
    let out = std::io::stdout().lock();
    let tasks: Vec<_> = (1..4).map(|digit| pool.submit::<print_pieces>(digit)).collect();
    for task in tasks {
        task.expect("open").wait().expect("printed");
    }
    drop(out);
    0
}

#[test]
fn lines_of_two_workers_do_not_mix() {
    let text = run("test-pieces");
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let first = line.chars().next().expect("no line is empty");
        assert!(line.chars().all(|c| c == first), "a line of two workers");
        assert_eq!(line.len(), 9970);
        *counts.entry(first).or_insert(0) += 1;
    }
    assert_eq!(counts, [('1', LINES), ('2', LINES), ('3', LINES)].into());
}

role!("test-last-words", last_words);
fn last_words() -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    let lost = pool
        .submit::<print_and_abort>("last words".to_owned())
        .expect("open");
    assert!(lost.wait().is_err());
    0
}

#[test]
fn what_a_worker_printed_before_its_death_comes_out() {
    assert_eq!(run("test-last-words"), "last words");
}

role!("test-direct", direct);
fn direct() -> i32 {
    let options = Options {
        output: Output::Inherit,
        ..Options::default()
    };
    let pool = ProcessPool::builder()
        .workers(1)
        .options(options)
        .build()
        .expect("starts");
    let same = pool
        .submit_fn(0, |_: u8| std::fs::read_link("/proc/self/fd/1").ok())
        .expect("open");
    let mine = std::fs::read_link("/proc/self/fd/1").ok();
    assert_eq!(same.wait().expect("a path"), mine);
    0
}

#[test]
fn workers_may_print_directly() {
    assert_eq!(run("test-direct"), "");
}
