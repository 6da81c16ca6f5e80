//! The process engine side by side with what it is measured against: CPython's multiprocessing, and a bare Unix socket.
//!
//! Prints medians and ratios. Rounds of all candidates alternate, so that whatever else the machine does meets them alike.

use par_process::{ChunkPlan, Plan, ProcessPool, role};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

#[par_process::task]
fn step(x: u64) -> u64 {
    x.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17)
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

/// Runs `Pool.map` of CPython for each line of its input, `chunk`, and prints the seconds it took.
const PYTHON: &str = r"
import sys, time
from multiprocessing import Pool
def step(x):
    x = (x * 6364136223846793005) & 0xffffffffffffffff
    return ((x << 17) | (x >> 47)) & 0xffffffffffffffff
if __name__ == '__main__':
    with Pool(int(sys.argv[1])) as pool:
        pool.map(step, range(1000))
        print('ready', flush=True)
        for line in sys.stdin:
            start = time.perf_counter()
            pool.map(step, range(100000), chunksize=int(line))
            print(time.perf_counter() - start, flush=True)
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

    fn seconds(&mut self, chunk: usize) -> Option<f64> {
        writeln!(self.child.stdin.as_mut()?, "{chunk}").ok()?;
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

fn main() {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let pool = ProcessPool::new(workers).expect("starts");
    let one = ProcessPool::new(1).expect("starts");
    println!("{workers} cores; seconds are medians");

    let (mut near, theirs) = UnixStream::pair().expect("sockets");
    let mut echo = role::command("bench-echo")
        .expect("registered")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .expect("starts");
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
        "one round trip: {:.2} us, bare socket {:.2} us, ratio {:.2}",
        micros(trip),
        micros(floor),
        trip / floor
    );

    let mut python = Python::start(workers);
    if python.is_none() {
        println!("no python3 here: nothing to compare maps with");
    }
    for chunk in [1, 256] {
        let plan = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(chunk)));
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..7 {
            ours.push(timed(|| {
                plan.map::<step>(0..ITEMS).expect("a map");
            }));
            theirs.extend(python.as_mut().and_then(|python| python.seconds(chunk)));
        }
        let ours = median(ours);
        print!("map of {ITEMS} at chunk {chunk}: {ours:.4} s");
        if theirs.is_empty() {
            println!();
        } else {
            let theirs = median(theirs);
            println!(
                ", multiprocessing {theirs:.4} s, {:.1} times as fast",
                theirs / ours
            );
        }
    }
}
