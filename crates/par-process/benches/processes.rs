//! The process engine side by side with what it is measured against: CPython's multiprocessing, and a bare Unix socket.
//!
//! Prints medians and ratios. Rounds of all candidates alternate, so that whatever else the machine does meets them alike.

use par_process::{ChunkPlan, Plan, ProcessPool, role};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

#[par_process::task]
fn step(x: u64) -> u64 {
    x.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17)
}

#[par_process::task]
fn array(x: u64) -> Vec<f64> {
    vec![x as f64; 1 << 20]
}

#[par_process::task]
fn total(values: Vec<f64>) -> f64 {
    values[0]
}

par_process::role!("bench-echo", echo);

/// Sends back every 64 bytes.
fn echo() -> i32 {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned() else {
        return 1;
    };
    let mut socket = UnixStream::from(socket);
    let mut bytes = [0; 64];
    while socket.read_exact(&mut bytes).is_ok() && socket.write_all(&bytes).is_ok() {}
    0
}

const ITEMS: u64 = 100_000;
const TRIPS: u32 = 2_000;

/// Measures CPython's multiprocessing: for each line of its input, it prints the seconds that it took.
const PYTHON: &str = r"
import sys, time
from multiprocessing import get_context
try:
    import numpy
except ImportError:
    numpy = None
def step(x):
    x = (x * 6364136223846793005) & 0xffffffffffffffff
    return ((x << 17) | (x >> 47)) & 0xffffffffffffffff
def array(x):
    return numpy.full(1 << 20, float(x))
def total(values):
    return float(values[0])
def timed(run):
    start = time.perf_counter()
    run()
    print(time.perf_counter() - start, flush=True)
def applies(pool):
    for x in range(2000):
        pool.apply(step, (x,))
def start():
    with get_context('fork').Pool(4) as pool:
        pool.apply(step, (1,))
if __name__ == '__main__':
    with get_context('fork').Pool(int(sys.argv[1])) as pool, get_context('fork').Pool(1) as one:
        pool.map(step, range(1000))
        one.apply(step, (1,))
        print('ready', flush=True)
        for line in sys.stdin:
            what, number = line.split()
            if what == 'map':
                timed(lambda: pool.map(step, range(100000), chunksize=int(number)))
            elif what == 'apply':
                timed(lambda: applies(one))
            elif what == 'start':
                timed(start)
            elif numpy is None:
                print('none', flush=True)
            elif what == 'arrays':
                timed(lambda: [values[0] for values in pool.imap(array, range(int(number)))])
            elif what == 'inputs':
                values = numpy.full(1 << 20, 1.0)
                timed(lambda: list(pool.imap(total, (values for _ in range(int(number))))))
";

struct Python {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Python {
    fn start(workers: usize) -> Option<Self> {
        // A file: multiprocessing imports the main module again in some of its ways to start.
        let script = std::env::temp_dir().join(format!("par-bench-{}.py", std::process::id()));
        std::fs::write(&script, PYTHON).ok()?;
        let mut child = Command::new("python3")
            .arg(&script)
            .arg(workers.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stdout.take()?);
        let mut line = String::new();
        lines.read_line(&mut line).ok()?;
        // It has been read.
        let _ = std::fs::remove_file(script);
        (line == "ready\n").then_some(Python { child, lines })
    }

    fn seconds(&mut self, what: &str, number: usize) -> Option<f64> {
        writeln!(self.child.stdin.as_mut()?, "{what} {number}").ok()?;
        let mut line = String::new();
        self.lines.read_line(&mut line).ok()?;
        line.trim().parse().ok()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends with its input.
        let _ = self.child.wait();
    }
}

fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Keeps this thread, and the processes that it starts from now on, on a core.
fn stay_on(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).expect("a core of this thread's");
}

/// A task there and its output back, beside 64 bytes there and back, here and there on the given cores.
fn round_trips(place: &str, cores: Option<[usize; 2]>) {
    if let Some([_, there]) = cores {
        stay_on(there);
    }
    let one = ProcessPool::new(1).expect("starts");
    let (mut near, theirs) = UnixStream::pair().expect("sockets");
    let mut echo = role::command("bench-echo")
        .expect("registered")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .expect("starts");
    if let Some([here, _]) = cores {
        stay_on(here);
    }
    let (mut trips, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..15 {
        floor.push(timed(|| {
            let mut bytes = [0; 64];
            for _ in 0..TRIPS {
                near.write_all(&bytes).expect("sent");
                near.read_exact(&mut bytes).expect("received");
            }
        }));
        trips.push(timed(|| {
            for x in 0..TRIPS {
                one.submit::<step>(u64::from(x))
                    .expect("open")
                    .wait()
                    .expect("a value");
            }
        }));
    }
    drop(near);
    // It ends with its socket.
    let _ = echo.wait();
    let micros = |seconds: f64| seconds / f64::from(TRIPS) * 1e6;
    let (trip, floor) = (median(trips), median(floor));
    println!(
        "one round trip {place}: {:.2} us, bare socket {:.2} us, ratio {:.2}",
        micros(trip),
        micros(floor),
        trip / floor
    );
}

fn main() {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = ProcessPool::new(workers).expect("starts");
    println!("{workers} cores; seconds are medians");
    let all = sched_getaffinity(None).expect("this thread's cores");
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&core| all.is_set(core)).collect();
    // Where the two sides of a conversation run decides what a word costs; what the system chooses is not the same for both.
    let (first, last) = (cores[0], cores[cores.len() - 1]);
    round_trips("where the system likes", None);
    round_trips("on one core", Some([first, first]));
    if first != last {
        round_trips("on two cores", Some([first, last]));
    }
    sched_setaffinity(None, &all).expect("cores that were allowed before");
    let one = ProcessPool::new(1).expect("starts");

    let mut python = Python::start(workers);
    if python.is_none() {
        println!("no python3 here: nothing to compare maps with");
    }
    // Ours and theirs in turns.
    let mut compare = |what: &str, name: &str, number: usize, rounds: usize, ours: &mut dyn FnMut()| {
        let (mut here, mut there) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            here.push(timed(&mut *ours));
            there.extend(python.as_mut().and_then(|python| python.seconds(what, number)));
        }
        let here = median(here);
        print!("{name}: {here:.4} s");
        if there.is_empty() {
            println!();
        } else {
            let there = median(there);
            println!(
                ", multiprocessing {there:.4} s, {:.1} times as fast",
                there / here
            );
        }
    };
    for chunk in [1, 256] {
        let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(chunk)));
        let name = format!("map of {ITEMS} at chunk {chunk}");
        compare("map", &name, chunk, 7, &mut || {
            plan.map::<step>(0..ITEMS).expect("a map");
        });
    }
    compare("apply", "2000 single calls", 0, 7, &mut || {
        for x in 0..2000 {
            one.submit::<step>(x).expect("open").wait().expect("a value");
        }
    });
    let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)).window(8));
    compare("arrays", "100 outputs of 8 MiB of f64", 100, 7, &mut || {
        for (_, values) in plan.map_ordered::<array, _>(0..100).expect("a plan") {
            assert_eq!(values.expect("an array").len(), 1 << 20);
        }
    });
    let values = vec![1.0; 1 << 20];
    compare("inputs", "100 inputs of 8 MiB of f64", 100, 7, &mut || {
        let inputs = (0..100).map(|_| values.clone());
        for (_, first) in plan.map_ordered::<total, _>(inputs).expect("a plan") {
            assert_eq!(first, Ok(1.0));
        }
    });
    compare(
        "start",
        "a pool of 4 started, used once and ended",
        0,
        7,
        &mut || {
            let four = ProcessPool::new(4).expect("starts");
            four.submit::<step>(1).expect("open").wait().expect("a value");
        },
    );
    let idle = ProcessPool::new(1).expect("starts");
    let pid = idle.submit_fn(0, |_: u8| std::process::id()).expect("open");
    let pid = pid.wait().expect("a number");
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let kib = |what: &str| {
        let line = rollup.lines().find(|line| line.starts_with(what));
        line.and_then(|line| line.split_whitespace().nth(1))
            .unwrap_or("?")
            .to_owned()
    };
    println!(
        "an idle worker: {} KiB resident, {} KiB in proportion, {} KiB of its own",
        kib("Rss:"),
        kib("Pss:"),
        kib("Private_Dirty:")
    );
}
