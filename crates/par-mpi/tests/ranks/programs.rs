//! What runs on the ranks.

use crate::launch::{event, sign_in};
use par_core::conformance::{LAWS, Limits, Setup, check, check_same_program};
use par_mpi::transport::{Channel, Match};
use par_mpi::{
    AnyPool, Communicator, Crew, MpiError, MpiOptions, MpiPool, Pool, StartError, Sum, par_core, run_world,
    world,
};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) fn run(program: &str) -> ExitCode {
    sign_in();
    let ended = match program {
        "laws" => laws(),
        "messages" => run_world(messages),
        "pool" => pool(),
        "twice" => twice(),
        "panics" => run_world(panics),
        "task_panics" => task_panics(),
        "killed" => run_world(killed),
        "exits" => exits(),
        other => Err(MpiError::Unusable(format!("no program is named {other}"))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

// --- laws ---

static CREW: OnceLock<Crew> = OnceLock::new();

fn start(setup: &Setup) -> Result<MpiPool, StartError> {
    let crew = CREW.get().cloned();
    let options = MpiOptions {
        crew,
        ..MpiOptions::default()
    };
    setup.builder().options(options).build()
}

fn start_any(setup: &Setup) -> Result<AnyPool, StartError> {
    start(setup).map(Pool::into_any)
}

fn laws() -> Result<(), MpiError> {
    let broken = run_world(|comm| {
        comm.serve(|crew| {
            CREW.set(crew.clone()).expect("set once");
            let workers = crew.workers();
            let mut broken = Vec::new();
            let mut told = |name: &str, held: Result<(), String>| match held {
                Ok(()) => println!("{name} holds"),
                Err(text) => broken.push(text),
            };
            for (number, law) in LAWS.iter().enumerate() {
                told(law.name, check(number, start_any, workers, Limits::default()));
            }
            told(
                "same program",
                check_same_program(start, workers, Limits::default()),
            );
            broken
        })
    })?;
    match broken {
        Some(broken) if !broken.is_empty() => Err(MpiError::Unusable(broken.join("\n"))),
        _ => Ok(()),
    }
}

// --- messages ---

fn messages(comm: &Communicator) -> Result<(), MpiError> {
    let (rank, size) = (comm.rank(), comm.size());
    let (right, left) = ((rank + 1) % size, (rank + size - 1) % size);
    // Long before short ones, to and from everybody at once: nobody waits for a receiver.
    let long: Vec<u64> = (0..2_000_000).map(|x| x * rank as u64).collect();
    comm.send(right, 7, &long)?;
    for x in 0..1000u64 {
        comm.send(right, 3, &(x, rank))?;
    }
    for x in 0..1000u64 {
        assert_eq!(
            comm.recv::<(u64, usize)>(left, 3)?,
            (x, left),
            "messages keep their order"
        );
    }
    let got: Vec<u64> = comm.recv(left, 7)?;
    assert!((0..2_000_000).map(|x| x * left as u64).eq(got), "the long one");

    let hundred = comm.bcast(size - 1, if rank == size - 1 { 100u32 } else { 0 })?;
    assert_eq!(hundred, 100);
    let squares = comm.gather(0, rank * rank)?;
    assert_eq!(squares, (rank == 0).then(|| (0..size).map(|x| x * x).collect()));
    let items = if rank == 0 {
        (10..10 + size).collect()
    } else {
        Vec::new()
    };
    assert_eq!(comm.scatter(0, items)?, 10 + rank);
    let sum = comm.all_reduce(0.1 * rank as f64, Sum)?;
    let serial = par_core::fold::reduce(&Sum, (0..size).map(|rank| 0.1 * rank as f64));
    assert_eq!(sum.to_bits(), serial.to_bits(), "the bits of a serial sum");

    let late = comm
        .recv_timeout::<u64>(rank, 1, Duration::from_millis(30))
        .expect_err("nothing comes");
    assert!(
        matches!(late, MpiError::TimedOut { waited_ms: 30.., .. }),
        "{late}"
    );
    for (tag, dest) in [(-1, 0), (i64::MAX, 0), (0, size)] {
        let error = comm.send(dest, tag, &1u8).expect_err("out of range");
        assert!(
            matches!(error, MpiError::Tag { .. } | MpiError::NoSuchRank { .. }),
            "{error}"
        );
    }
    let raw = comm.transport();
    assert!(raw.processes() && !raw.name().is_empty());
    raw.wake(Channel::User);
    let woken = raw.receive(Channel::User, Match::ANY, None)?;
    assert_eq!(
        woken,
        par_mpi::transport::Received::Nothing,
        "a wait that another thread ends"
    );
    comm.barrier()?;
    if size > 1 && rank == 0 {
        // It leaves without sending.
        let ended = comm.recv::<u64>(size - 1, 5).expect_err("nothing comes");
        assert!(matches!(ended, MpiError::PeerEnded { .. }), "{ended}");
    }
    // Nobody receives these, and nobody is held up by that.
    comm.send(right, 9, &vec![1u64; 100_000])?;
    println!("rank {rank}: all good");
    Ok(())
}

// --- pools ---

#[par_mpi::task]
fn square(x: u64) -> u64 {
    x * x
}

fn pool() -> Result<(), MpiError> {
    let told = world(|pool| (pool.map_reduce::<square, _>(0..1000, Sum), pool.workers()))?;
    if let Some((sum, workers)) = told {
        println!("{} on {workers}", sum.expect("a sum"));
    }
    Ok(())
}

fn twice() -> Result<(), MpiError> {
    run_world(|_| Ok(()))?;
    let error = run_world(|_| Ok(())).expect_err("a second time");
    println!("{error}");
    Ok(())
}

// --- fate ---

fn panics(comm: &Communicator) -> Result<(), MpiError> {
    comm.barrier()?;
    if comm.rank() == 2 {
        event();
        panic!("rank two fell over");
    }
    // The others wait for what never comes, the first as the pool of a crew that is not complete.
    comm.recv::<u64>(2, 0)?;
    println!("rank {} went on", comm.rank());
    Ok(())
}

fn killed(comm: &Communicator) -> Result<(), MpiError> {
    comm.barrier()?;
    if comm.rank() == 2 {
        event();
        let me = rustix::process::getpid();
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
    comm.recv::<u64>(2, 0)?;
    println!("rank {} went on", comm.rank());
    Ok(())
}

#[par_mpi::task]
fn deadly(x: u64) -> u64 {
    if x == 5 {
        event();
        std::process::exit(3);
    }
    x
}

fn exits() -> Result<(), MpiError> {
    // Only rank 1 works, and exits in the middle of it.
    run_world(|comm| {
        comm.serve(|crew| {
            let pool = crew.builder().workers(1).build().expect("a pool");
            let mapped = pool.map::<deadly>(0..10);
            println!("rank 0 went on: {mapped:?}");
        })
    })?;
    Ok(())
}

#[par_mpi::task]
fn picky(x: u64) -> u64 {
    assert!(x != 7, "no {x} here");
    x
}

fn task_panics() -> Result<(), MpiError> {
    let told = world(|pool| {
        let failed = pool.map::<picky>(0..100).expect_err("item 7 panics");
        assert_eq!(
            pool.map::<picky>(10..20).map(|kept| kept.len()),
            Ok(10),
            "the pool goes on"
        );
        failed
    })?;
    if let Some(failed) = told {
        println!("{failed}");
    }
    Ok(())
}
