//! The MPI engine side by side with mpi4py.futures: maps of tiny tasks under mpiexec, and what a message costs.
//!
//! `cargo bench -p par-mpi --features mpi`. It starts itself, and Python, under mpiexec, in turns, so that whatever else the machine does
//! meets both alike; prints medians and ratios. `PYTHON` names an interpreter that has mpi4py (default `python3`).

use par_mpi::{ChunkPlan, Communicator, MpiError, Plan, run_world, world};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::process::Command;
use std::time::Instant;

#[par_mpi::task]
fn step(x: u64) -> u64 {
    x.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17)
}

const ITEMS: u64 = 10_000;
const ROUNDS: usize = 5;
const TRIPS: u32 = 5_000;
/// Says to this program that it is a rank, and what it measures.
const ROLE: &str = "PAR_MPI_BENCH";

const PYTHON: &str = r"
import sys, time
from mpi4py.futures import MPIPoolExecutor
def step(x):
    x = (x * 6364136223846793005) & 0xffffffffffffffff
    return ((x << 17) | (x >> 47)) & 0xffffffffffffffff
if __name__ == '__main__':
    with MPIPoolExecutor() as pool:
        list(pool.map(step, range(1000)))
        for chunk in (1, 256):
            start = time.perf_counter()
            assert len(list(pool.map(step, range(10000), chunksize=chunk))) == 10000
            print(f'chunk-{chunk}', time.perf_counter() - start, flush=True)
";

const PYTHON_TRIPS: &str = r"
import time
from mpi4py import MPI
comm = MPI.COMM_WORLD
other = 1 - comm.rank
for name, value in (('int', 7), ('struct', {'id': 7, 'name': 'seven', 'weight': 7.5})):
    for measured in (False, True):
        comm.barrier()
        start = time.perf_counter()
        for _ in range(5000):
            if comm.rank == 0:
                comm.send(value, dest=other)
                comm.recv(source=other)
            else:
                comm.recv(source=other)
                comm.send(value, dest=other)
        if measured and comm.rank == 0:
            print(name, (time.perf_counter() - start) / 10000, flush=True)
";

#[derive(Serialize, Deserialize)]
struct Small {
    id: u64,
    name: String,
    weight: f64,
}

fn main() {
    let ended = match std::env::var(ROLE).as_deref() {
        Ok("map") => map(),
        Ok("trips") => run_world(trips),
        _ => return compare(),
    };
    ended.unwrap_or_else(|error| panic!("{error}"));
}

/// On the ranks: maps, one part a request and in chunks.
fn map() -> Result<(), MpiError> {
    world(|pool| {
        pool.map::<step>(0..1000).expect("a map");
        for chunk in [1, 256] {
            let pool = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(chunk)));
            let start = Instant::now();
            assert_eq!(pool.map::<step>(0..ITEMS).expect("a map").len(), ITEMS as usize);
            println!("chunk-{chunk} {}", start.elapsed().as_secs_f64());
        }
        let start = Instant::now();
        let handles: Vec<_> = (0..ITEMS)
            .map(|x| pool.submit::<step>(x).expect("open"))
            .collect();
        handles
            .into_iter()
            .for_each(|handle| assert!(handle.wait().is_ok()));
        println!("submits {}", start.elapsed().as_secs_f64());
    })?;
    Ok(())
}

/// On two ranks: half a round trip of an object.
fn trips(comm: &Communicator) -> Result<(), MpiError> {
    let small = Small {
        id: 7,
        name: "seven".to_owned(),
        weight: 7.5,
    };
    trip(comm, "int", &7u64)?;
    trip(comm, "struct", &small)
}

fn trip<T: par_mpi::Data>(comm: &Communicator, name: &str, value: &T) -> Result<(), MpiError> {
    let other = 1 - comm.rank();
    for measured in [false, true] {
        comm.barrier()?;
        let start = Instant::now();
        for _ in 0..TRIPS {
            if comm.rank() == 0 {
                comm.send(other, 0, value)?;
                comm.recv::<T>(other, 0)?;
            } else {
                comm.recv::<T>(other, 0)?;
                comm.send(other, 0, value)?;
            }
        }
        if measured && comm.rank() == 0 {
            println!("{name} {}", start.elapsed().as_secs_f64() / f64::from(2 * TRIPS));
        }
    }
    Ok(())
}

/// What a program under mpiexec measured, by name.
type Figures = Vec<(String, f64)>;

fn start(ranks: usize, program: &mut dyn FnMut(&mut Command)) -> Result<Figures, String> {
    let mut command = Command::new("mpiexec");
    // OpenMPI refuses to be started by root, as containers do, and more ranks than cores; others do not read these.
    command
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_MCA_hwloc_base_binding_policy", "none")
        .args(["-n", &ranks.to_string()]);
    program(&mut command);
    let ended = command
        .output()
        .map_err(|error| format!("mpiexec does not start: {error}"))?;
    if !ended.status.success() {
        let text = String::from_utf8_lossy(&ended.stderr).into_owned();
        return Err(text);
    }
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    let figures = out.lines().filter_map(|line| {
        let (name, figure) = line.split_once(' ')?;
        Some((name.to_owned(), figure.parse().ok()?))
    });
    Ok(figures.collect())
}

fn ours(ranks: usize, role: &str) -> Figures {
    let me = std::env::current_exe().expect("this program has a path");
    start(ranks, &mut |command| {
        command.arg(&me).env(ROLE, role);
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

fn theirs(ranks: usize, module: &[&str], script: &std::path::Path) -> Result<Figures, String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    start(ranks, &mut |command| {
        command.arg(&python).args(module).arg(script);
    })
}

fn median(rounds: &[Figures], name: &str) -> Option<f64> {
    let mut all: Vec<f64> = rounds
        .iter()
        .flatten()
        .filter(|(other, _)| other == name)
        .map(|(_, figure)| *figure)
        .collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}

fn script(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new()
        .suffix(".py")
        .tempfile()
        .expect("a file for a script");
    file.write_all(text.as_bytes()).expect("room for a script");
    file
}

fn compare() {
    let (futures, messages) = (script(PYTHON), script(PYTHON_TRIPS));
    for ranks in [2, 3] {
        let (mut rust, mut python) = (Vec::new(), Vec::new());
        let mut missing = None;
        for _ in 0..ROUNDS {
            rust.push(ours(ranks, "map"));
            match theirs(ranks, &["-m", "mpi4py.futures"], futures.path()) {
                Ok(figures) => python.push(figures),
                Err(error) => missing = Some(error),
            }
        }
        say_missing(missing);
        for name in ["chunk-1", "chunk-256", "submits"] {
            // What Python does for each submit is what it does for chunks of one.
            let against = if name == "submits" { "chunk-1" } else { name };
            line(
                &format!("{ranks} ranks, {ITEMS} tiny tasks, {name}"),
                1e3,
                "ms",
                median(&rust, name),
                median(&python, against),
            );
        }
    }
    let (mut rust, mut python) = (Vec::new(), Vec::new());
    let mut missing = None;
    for _ in 0..ROUNDS {
        rust.push(ours(2, "trips"));
        match theirs(2, &[], messages.path()) {
            Ok(figures) => python.push(figures),
            Err(error) => missing = Some(error),
        }
    }
    say_missing(missing);
    for name in ["int", "struct"] {
        let title = format!("half a round trip of an object, {name}");
        line(&title, 1e6, "us", median(&rust, name), median(&python, name));
    }
}

fn say_missing(missing: Option<String>) {
    if let Some(error) = missing {
        let last = error
            .lines()
            .rev()
            .find(|line| line.contains("mpi4py"))
            .unwrap_or(&error);
        println!("mpi4py is missing (pip install mpi4py; PYTHON names the interpreter): {last}");
    }
}

fn line(title: &str, scale: f64, unit: &str, rust: Option<f64>, python: Option<f64>) {
    let text = |figure: Option<f64>| figure.map_or("-".to_owned(), |figure| format!("{:.2}", figure * scale));
    let ratio = match (rust, python) {
        (Some(rust), Some(python)) => format!("{:.1} x", python / rust),
        _ => "-".to_owned(),
    };
    println!(
        "{title}: par-mpi {} {unit}, mpi4py {} {unit}, ratio {ratio}",
        text(rust),
        text(python)
    );
}
