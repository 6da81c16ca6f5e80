//! Single processes: names, ends, families.

use par_process::{
    Pipe, Process, Receiver, RecvError, Run, StartError, active_children, current_process, parent_process,
    task,
};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a machine under load; nothing waits so long where all is right.
const LONG: Duration = Duration::from_secs(60);

fn text(process: &Process) -> String {
    let mut text = String::new();
    let mut pipe = process.take_stdout().expect("redirected to a pipe");
    pipe.read_to_string(&mut text).expect("text");
    text
}

/// Whether a process with this number runs. One that has ended and that nobody has waited for does not.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with(['Z', 'X']));
    state == Some(false)
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::yield_now();
    }
}

#[task]
fn tell(word: String) {
    let me = current_process();
    let parent = parent_process().expect("a parent");
    println!(
        "{word} {} {} {} {} {}",
        me.name(),
        me.is_daemon(),
        parent.name(),
        parent.pid(),
        parent.is_alive()
    );
}

#[test]
fn a_child_knows_itself_and_its_parent() {
    let child = Process::new::<tell>("hi".to_owned())
        .name("teller")
        .stdout(Stdio::piped())
        .start()
        .expect("starts");
    assert_eq!(
        text(&child),
        format!("hi teller false MainProcess {} true\n", std::process::id())
    );
    assert_eq!(child.join().expect("waits"), 0);
    assert_eq!(child.exit_code(), Some(0));
    let default = Process::of_fn((), |()| ()).start().expect("starts");
    let number = default.name().strip_prefix("Process-").expect("the default");
    assert!(number.parse::<u32>().is_ok(), "{number}");
    default.join().expect("waits");
}

#[task]
fn fails(_: ()) -> Result<(), String> {
    Err("it must".to_owned())
}

#[test]
fn exit_codes_are_pythons() {
    let code = |child: Process| child.join_timeout(LONG).expect("waits").expect("ends");
    let quiet = |builder: par_process::ProcessBuilder| builder.stderr(Stdio::null()).start().expect("starts");
    assert_eq!(code(quiet(Process::new::<fails>(()))), 1);
    assert_eq!(code(quiet(Process::of_fn((), |()| panic!("it must")))), 1);
    assert_eq!(
        code(quiet(Process::of_fn(7, |code: i32| std::process::exit(code)))),
        7
    );
    assert_eq!(code(quiet(Process::of_fn((), |()| std::process::abort()))), -6);
    let sleeper = || quiet(Process::of_fn((), |()| std::thread::sleep(LONG)));
    let child = sleeper();
    assert!(child.is_alive());
    assert_eq!(
        child.join_timeout(Duration::from_millis(10)).expect("waits"),
        None
    );
    child.terminate().expect("signals");
    assert_eq!(code(child.clone()), -15);
    child.terminate().expect("no error after its end");
    let child = sleeper();
    child.kill().expect("signals");
    assert_eq!(code(child), -9);
}

#[test]
fn a_failure_is_told_on_standard_error() {
    let child = Process::new::<fails>(())
        .name("f")
        .stderr(Stdio::piped())
        .start()
        .expect("starts");
    let mut text = String::new();
    child
        .take_stderr()
        .expect("a pipe")
        .read_to_string(&mut text)
        .expect("text");
    assert_eq!(text, "process f: task failed: it must [alloc::string::String]\n");
    assert_eq!(child.join().expect("waits"), 1);
}

#[derive(Serialize, Deserialize)]
struct Shout<T> {
    word: T,
}

impl Run for Shout<String> {
    fn run(self) {
        println!("{}", self.word.to_uppercase());
    }
}

#[test]
fn a_users_type_runs_and_names_its_process() {
    let shout = Shout {
        word: "hello".to_owned(),
    };
    let child = Process::of(shout).stdout(Stdio::piped()).start().expect("starts");
    assert!(child.name().starts_with("Shout-"), "{}", child.name());
    assert_eq!(text(&child), "HELLO\n");
    assert_eq!(child.join().expect("waits"), 0);
}

#[test]
fn environment_and_folder_are_the_childs() {
    let folder = tempfile::tempdir().expect("folder");
    let child = Process::of_fn((), |()| {
        let folder = std::env::current_dir().expect("folder");
        let mut input = String::new();
        std::io::stdin().read_to_string(&mut input).expect("empty");
        println!(
            "{:?} {:?} {input:?}",
            std::env::var("PAR_TEST").ok(),
            std::env::var_os("HOME")
        );
        println!("{}", folder.display());
    })
    .env("PAR_TEST", "1")
    .env_remove("HOME")
    .current_dir(folder.path())
    .stdout(Stdio::piped())
    .start()
    .expect("starts");
    let path = folder.path().canonicalize().expect("path");
    assert_eq!(
        text(&child),
        format!("Some(\"1\") None \"\"\n{}\n", path.display())
    );
    child.join().expect("waits");
    let error = Process::of_fn((), |()| ()).current_dir("/no/such/folder").start();
    let error = error.expect_err("no folder").to_string();
    assert!(error.starts_with("cannot start process Process-"), "{error}");
}

#[test]
fn several_are_awaited_at_once() {
    let sleeper = || {
        Process::of_fn((), |()| std::thread::sleep(LONG))
            .daemon(true)
            .start()
            .expect("starts")
    };
    let (first, second) = (sleeper(), sleeper());
    let none = Process::wait_any(&[&first, &second], Some(Duration::from_millis(10)));
    assert_eq!(none.expect("waits"), []);
    assert_eq!(Process::wait_any(&[], None).expect("nothing to wait for"), []);
    second.kill().expect("signals");
    assert_eq!(
        Process::wait_any(&[&first, &second], Some(LONG)).expect("waits"),
        [1]
    );
    assert!(active_children().iter().any(|child| child.pid() == first.pid()));
    first.kill().expect("signals");
    first.join().expect("waits");
    assert!(!active_children().iter().any(|child| child.pid() == first.pid()));
}

#[test]
fn a_daemon_may_have_no_children() {
    let child = Process::of_fn((), |()| match Process::of_fn((), |()| ()).start() {
        Err(StartError::Option { option, reason }) => println!("{option}: {reason}"),
        other => println!("{other:?}"),
    })
    .name("d")
    .daemon(true)
    .stdout(Stdio::piped())
    .start()
    .expect("starts");
    assert_eq!(
        text(&child),
        "daemon: d is a daemon, and daemons may not have children\n"
    );
    child.join().expect("waits");
}

#[test]
fn children_of_children_carry_their_numbers() {
    let child = Process::of_fn((), |()| {
        let grandchild = Process::of_fn((), |()| println!("{}", current_process().name()))
            .start()
            .expect("starts");
        assert_eq!(grandchild.join().expect("waits"), 0);
    })
    .stdout(Stdio::piped())
    .start()
    .expect("starts");
    assert_eq!(text(&child), format!("{}:1\n", child.name()));
    assert_eq!(child.join().expect("waits"), 0);
}

/// Starts a sleeping daemon and a sleeping child, and tells their numbers; then ends, is killed, or waits for that.
fn parent() -> i32 {
    let how = std::env::var("PAR_TEST_HOW").expect("how");
    let sleeper = |daemon| {
        Process::of_fn((), |()| std::thread::sleep(LONG))
            .daemon(daemon)
            .start()
            .expect("starts")
    };
    let daemon = sleeper(true);
    // Lives as long as this function.
    let (ends, _until) = Pipe::one_way().expect("a pipe");
    let brief = Process::of_fn(ends, |ends: Receiver| {
        assert!(matches!(ends.recv::<()>(), Err(RecvError::Closed)));
        println!("brief is done");
    });
    let other = if how == "exit" {
        brief.start().expect("starts")
    } else {
        sleeper(false)
    };
    println!("{} {}", daemon.pid(), other.pid());
    if how != "exit" {
        std::thread::sleep(LONG);
    }
    0
}
par_process::role!("test-parent", parent);

fn family(
    how: &str,
) -> (
    std::process::Child,
    BufReader<std::process::ChildStdout>,
    Vec<u32>,
) {
    let mut command = par_process::role::command("test-parent").expect("role");
    let mut child = command
        .env("PAR_TEST_HOW", how)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("numbers");
    let numbers = line
        .split_whitespace()
        .map(|number| number.parse().expect("a number"))
        .collect();
    (child, out, numbers)
}

#[test]
fn at_exit_daemons_end_and_others_are_waited_for() {
    let (mut parent, mut out, children) = family("exit");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("text");
    assert_eq!(rest, "brief is done\n");
    assert!(parent.wait().expect("ends").success());
    until("all have ended", || !children.iter().any(|pid| lives(*pid)));
}

#[test]
fn children_end_with_a_killed_parent_also_stopped_ones() {
    let (mut parent, _out, children) = family("wait");
    let stop = Command::new("kill")
        .args(["-STOP", &children[1].to_string()])
        .status();
    assert!(stop.expect("kill runs").success());
    parent.kill().expect("signals");
    parent.wait().expect("ends");
    until("all have ended", || !children.iter().any(|pid| lives(*pid)));
}

#[test]
fn a_thread_that_starts_a_process_may_end_before_it() {
    let (goes, go) = Pipe::one_way().expect("a pipe");
    let child = std::thread::spawn(|| {
        Process::of_fn(goes, |goes: Receiver| goes.recv::<()>().expect("comes"))
            .start()
            .expect("starts")
    });
    let child = child.join().expect("the thread ends");
    go.send(()).expect("it lives");
    assert_eq!(child.join_timeout(LONG).expect("waits"), Some(0));
}

#[test]
fn a_called_program_is_given_up_at_its_deadline() {
    let mut slow = Command::new("sh");
    slow.args(["-c", "exec sleep 600"]);
    let started = Instant::now();
    let error = par_process::run(slow, Some(Duration::from_millis(100))).expect_err("too slow");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(started.elapsed() < LONG);
    let mut both = Command::new("sh");
    both.args(["-c", "echo out; echo err >&2; exit 3"]);
    let output = par_process::run(both, None).expect("runs");
    assert_eq!(
        (output.status.code(), &*output.stdout, &*output.stderr),
        (Some(3), &b"out\n"[..], &b"err\n"[..])
    );
}
