//! Pipes, queues and managers side by side with what they are measured against: a bare Unix socket in C, and CPython's multiprocessing.
//!
//! Prints medians and ratios. Rounds of all candidates alternate, so that whatever else the machine does meets them alike.
//! Where there is no C compiler or no Python, their part is left out.

use par_process::manager::Manager;
use par_process::{Connection, Pipe, Process, Queue};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Round trips of one round.
const TRIPS: u32 = 2_000;
/// Items of one round through a queue.
const ITEMS: u32 = 50_000;
const ROUNDS: usize = 15;

type Bytes = [u64; 8];

/// A program that answers each line with the seconds that its round took.
struct Peer {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    /// What it runs; removed at the end.
    files: tempfile::TempDir,
}

impl Peer {
    fn start(mut program: Command, files: tempfile::TempDir) -> Option<Self> {
        let mut child = program
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let lines = BufReader::new(child.stdout.take()?);
        Some(Peer { child, lines, files })
    }

    fn seconds(&mut self, order: &str) -> Option<f64> {
        writeln!(self.child.stdin.as_mut()?, "{order}").ok()?;
        let mut line = String::new();
        self.lines.read_line(&mut line).ok()?;
        line.trim().parse().ok()
    }

    /// The ping-pong in C.
    fn ping() -> Option<Self> {
        let files = tempfile::tempdir().ok()?;
        let program = files.path().join("ping");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/ping.c");
        let built = Command::new("cc")
            .args(["-O2", "-o"])
            .arg(&program)
            .arg(source)
            .status();
        if !built.ok()?.success() {
            return None;
        }
        let mut command = Command::new(program);
        command.arg(TRIPS.to_string());
        Peer::start(command, files)
    }

    /// multiprocessing, by the name of what is measured.
    fn python() -> Option<Self> {
        let files = tempfile::tempdir().ok()?;
        let script = files.path().join("peer.py");
        std::fs::write(&script, PYTHON).ok()?;
        let mut command = Command::new("python3");
        command.arg(script).args([TRIPS.to_string(), ITEMS.to_string()]);
        let mut peer = Peer::start(command, files)?;
        let mut line = String::new();
        peer.lines.read_line(&mut line).ok()?;
        (line == "ready\n").then_some(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // It ends with its input.
        let _ = self.child.wait();
        debug_assert!(self.files.path().exists());
    }
}

const PYTHON: &str = r"
import sys, time
from multiprocessing import Manager, Pipe, Process, Queue
def echo(conn):
    try:
        while True:
            conn.send(conn.recv())
    except EOFError:
        pass
def put(queue, go, items):
    while go.get():
        for i in range(items):
            queue.put(b'x' * 64)
def timed(run):
    start = time.perf_counter()
    run()
    print(time.perf_counter() - start, flush=True)
if __name__ == '__main__':
    trips, items = int(sys.argv[1]), int(sys.argv[2])
    near, far = Pipe()
    echoer = Process(target=echo, args=(far,), daemon=True)
    echoer.start()
    far.close()
    queue, go = Queue(1000), Queue()
    putter = Process(target=put, args=(queue, go, items), daemon=True)
    putter.start()
    manager = Manager()
    shared = manager.dict()
    shared[1] = 1
    def pipe():
        for i in range(trips):
            near.send(b'x' * 64)
            near.recv()
    def stream():
        go.put(True)
        for i in range(items):
            queue.get()
    def get():
        for i in range(trips):
            shared[1]
    print('ready', flush=True)
    for line in sys.stdin:
        timed({'pipe': pipe, 'queue': stream, 'dict': get}[line.strip()])
    go.put(False)
    putter.join()
    manager.shutdown()
";

fn timed(run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64()
}

/// What was measured of one candidate.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn median(&mut self) -> Option<f64> {
        self.0.sort_by(f64::total_cmp);
        self.0.get(self.0.len() / 2).copied()
    }
}

fn line(what: &str, each: u32, ours: &mut Times, others: &mut [(&str, &mut Times)]) {
    let micros = |seconds: f64| seconds / f64::from(each) * 1e6;
    let Some(ours) = ours.median() else { return };
    print!("{what}: {:.3} us", micros(ours));
    for (name, times) in others {
        if let Some(theirs) = times.median() {
            print!(", {name} {:.3} us (ratio {:.2})", micros(theirs), ours / theirs);
        }
    }
    println!();
}

fn echo(far: Connection) {
    while let Ok(bytes) = far.recv::<Bytes>() {
        if far.send(bytes).is_err() {
            return;
        }
    }
}

fn bounce((to, from): (Queue<Bytes>, Queue<Bytes>)) {
    while let Ok(bytes) = to.get() {
        from.put(bytes).expect("open");
    }
}

fn stream((orders, items): (Queue<u32>, Queue<Bytes>)) {
    while let Ok(count) = orders.get() {
        for number in 0..count {
            items.put([u64::from(number); 8]).expect("open");
        }
    }
}

fn main() {
    let mut ping = Peer::ping();
    let mut python = Peer::python();
    let (near, far) = Pipe::duplex().expect("a pipe");
    let echoer = Process::of_fn(far, echo).start().expect("starts");
    let (to, from) = (
        Queue::new(1_000).expect("memory"),
        Queue::new(1_000).expect("memory"),
    );
    let bouncer = Process::of_fn((to.clone(), from.clone()), bounce)
        .start()
        .expect("starts");
    let (orders, items) = (Queue::new(1).expect("memory"), Queue::new(1_000).expect("memory"));
    let streamer = Process::of_fn((orders.clone(), items.clone()), stream)
        .start()
        .expect("starts");
    let manager = Manager::start().expect("starts");
    let dict = manager.dict::<u32, u32>().expect("made");
    dict.insert(&1, &1).expect("lives");

    let mut c = Times::default();
    let (mut pipes, mut hops, mut streams, mut gets) = <(Times, Times, Times, Times)>::default();
    let (mut their_pipes, mut their_streams, mut their_gets) = <(Times, Times, Times)>::default();
    for _ in 0..ROUNDS {
        c.0.extend(ping.as_mut().and_then(|ping| ping.seconds("")));
        pipes.0.push(timed(|| {
            for _ in 0..TRIPS {
                near.send([1u64; 8]).expect("sent");
                near.recv::<Bytes>().expect("comes back");
            }
        }));
        gets.0.push(timed(|| {
            for _ in 0..TRIPS {
                dict.get(&1).expect("lives");
            }
        }));
        hops.0.push(timed(|| {
            for _ in 0..TRIPS {
                to.put([1; 8]).expect("open");
                from.get().expect("comes back");
            }
        }));
        streams.0.push(timed(|| {
            orders.put(ITEMS).expect("open");
            for _ in 0..ITEMS {
                items.get().expect("comes");
            }
        }));
        let Some(python) = &mut python else { continue };
        their_pipes.0.extend(python.seconds("pipe"));
        their_streams.0.extend(python.seconds("queue"));
        their_gets.0.extend(python.seconds("dict"));
    }
    println!("microseconds are medians of {ROUNDS} rounds; a ratio is ours to theirs");
    line(
        "pipe, round trip of 64 B",
        TRIPS,
        &mut pipes,
        &mut [("socket in C", &mut c), ("multiprocessing", &mut their_pipes)],
    );
    line(
        "manager, get of a dict",
        TRIPS,
        &mut gets,
        &mut [("socket in C", &mut c), ("multiprocessing", &mut their_gets)],
    );
    line(
        "queue, round trip of 64 B",
        TRIPS,
        &mut hops,
        &mut [("socket in C", &mut c)],
    );
    line(
        "queue, each of many items of 64 B",
        ITEMS,
        &mut streams,
        &mut [("multiprocessing", &mut their_streams)],
    );

    drop(near);
    to.close();
    orders.close();
    for child in [echoer, bouncer, streamer] {
        assert_eq!(child.join().expect("ends"), 0);
    }
}
