//! What copies of a program start from: the image that runs, also when its file is another by now; and what is said where there is
//! nothing to start them with.

mod common;

use common::{PATIENCE, alone, until};
use par_process::role::ROLE_VARIABLE;
use par_process::{Pipe, Process, ProcessPool, Sender, StartError, TaskError, role};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

#[par_process::task]
fn triple(x: u64) -> u64 {
    3 * x
}

#[par_process::task]
fn die(_x: ()) {
    std::process::abort();
}

role!("test-rebuilt", rebuilt);

/// Starts copies of itself before and after the test has changed its file.
fn rebuilt() -> i32 {
    let pool = ProcessPool::new(1).expect("starts");
    assert_eq!(pool.map::<triple>([1, 2]), Ok(vec![3, 6]));
    println!("running");
    std::io::stdin()
        .read_line(&mut String::new())
        .expect("the test says when");
    // Another worker in the place of one that died, another pool, and another process.
    let lost = pool.submit::<die>(()).expect("open").wait();
    assert!(matches!(lost, Err(TaskError::Lost { .. })), "{lost:?}");
    assert_eq!(pool.map_fn([3u64, 4], |x| 3 * x), Ok(vec![9, 12]));
    let other = ProcessPool::new(2).expect("starts");
    assert_eq!(other.map::<triple>([5]), Ok(vec![15]));
    let (receiver, sender) = Pipe::one_way().expect("a pipe");
    let child = Process::of_fn(sender, |sender: Sender| sender.send(7u8).expect("sent"));
    assert_eq!(child.start().expect("starts").join().expect("ends"), 0);
    assert_eq!(receiver.recv::<u8>().expect("comes"), 7);
    println!("fine");
    0
}

/// A program that is killed if the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // One that has ended is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_program_whose_file_is_another_starts_copies_of_itself() {
    alone(|| {
        for change in ["built again", "removed"] {
            let folder = tempfile::tempdir().expect("a folder");
            let file = folder.path().join("program");
            fs::copy("/proc/self/exe", &file).expect("a copy of this program");
            let program = Command::new(&file)
                .env(ROLE_VARIABLE, "test-rebuilt")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn();
            let mut program = Killed(program.expect("starts"));
            let mut said = BufReader::new(program.0.stdout.take().expect("piped"));
            let mut line = String::new();
            said.read_line(&mut line).expect("text");
            assert_eq!(line, "running\n");
            if change == "removed" {
                fs::remove_file(&file).expect("it is there");
            } else {
                // As a linker leaves it: another file of that name, which is no copy of the program.
                let next = folder.path().join("next");
                fs::copy("/bin/true", &next).expect("a program of the system");
                fs::rename(&next, &file).expect("the same folder");
            }
            let mut stdin = program.0.stdin.take().expect("piped");
            writeln!(stdin, "go on").expect("it reads");
            line.clear();
            said.read_to_string(&mut line).expect("text");
            assert_eq!(line, "fine\n", "{change}");
            assert_eq!(program.0.wait().expect("ends").code(), Some(0), "{change}");
        }
    });
}

role!("test-near-the-limit", near_the_limit);

/// Starts pools and processes with so many files left, from none to enough.
fn near_the_limit() -> i32 {
    let before = getrlimit(Resource::Nofile);
    let limit = Rlimit {
        current: Some(64),
        ..before
    };
    setrlimit(Resource::Nofile, limit).expect("lower is allowed");
    // What is made once.
    assert_eq!(
        Process::of_fn((), |()| ())
            .start()
            .expect("starts")
            .join()
            .expect("ends"),
        0
    );
    let mut held = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        held.push(file);
    }
    let (mut pools, mut processes) = (0, 0);
    while pools < 3 {
        match ProcessPool::new(2) {
            Ok(pool) => {
                pools += 1;
                assert_eq!(pool.map::<triple>(0..10).expect("they work").len(), 10);
            }
            Err(StartError::Io { what, source }) => println!("{what}: {source}"),
            Err(StartError::Unavailable(text)) => println!("{text}"),
            Err(other) => panic!("{other:?}"),
        }
        match Process::of_fn((), |()| ()).start() {
            Ok(child) => {
                processes += 1;
                assert_eq!(child.join_timeout(PATIENCE).expect("waits"), Some(0));
            }
            Err(StartError::Io { what, source }) => println!("{what}: {source}"),
            Err(other) => panic!("{other:?}"),
        }
        assert!(
            held.pop().is_some(),
            "all files were given back, and there is no pool"
        );
    }
    assert!(processes > 0);
    drop(held);
    setrlimit(Resource::Nofile, before).expect("as before");
    until("no child is left", || par_process::active_children().is_empty());
    let threads = fs::read_dir("/proc/self/task").expect("a folder of the system");
    let children: String = threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .collect();
    assert_eq!(children.trim(), "", "children");
    0
}

#[test]
fn near_the_limit_of_files_a_start_succeeds_or_says_what_is_missing() {
    alone(|| {
        let output = role::command("test-near-the-limit")
            .expect("registered")
            .output()
            .expect("starts");
        let (said, cried) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        );
        assert_eq!(output.status.code(), Some(0), "{said}{cried}");
        assert!(
            said.contains("cannot make an event: Too many open files"),
            "{said}"
        );
        assert!(
            said.contains("cannot start worker 0: Too many open files"),
            "{said}"
        );
        assert!(said.contains("cannot start process Process-"), "{said}");
    });
}
