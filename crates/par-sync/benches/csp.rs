//! Channels of processes: commstime (four processes in a ring with a consumer) as light tasks, and a rendezvous of two threads beside
//! crossbeam-channel's. Medians of rounds that alternate.

use par_sync::csp::{Lights, Stop, one2one};
use std::thread;
use std::time::Instant;

const ROUNDS: usize = 15;
const TURNS: u32 = 50_000;
const MEETINGS: u32 = 50_000;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Nanoseconds a communication: prefix, delta, successor, consumer; four a turn.
fn commstime() -> f64 {
    let (mut a_out, mut a_in) = one2one();
    let (mut b_out, mut b_in) = one2one();
    let (mut c_out, mut c_in) = one2one();
    let (mut d_out, mut d_in) = one2one();
    let mut lights = Lights::new();
    lights.spawn("prefix", async move {
        a_out.write_async(0u32).await?;
        loop {
            let number = b_in.read_async().await?;
            a_out.write_async(number).await?;
        }
    });
    lights.spawn("delta", async move {
        loop {
            let number = a_in.read_async().await?;
            d_out.write_async(number).await?;
            c_out.write_async(number).await?;
        }
    });
    lights.spawn("successor", async move {
        loop {
            let number: u32 = c_in.read_async().await?;
            b_out.write_async(number + 1).await?;
        }
    });
    lights.spawn("consumer", async move {
        for expected in 0..TURNS {
            assert_eq!(d_in.read_async().await?, expected);
        }
        d_in.poison();
        Ok::<(), Stop>(())
    });
    let start = Instant::now();
    lights.run().expect("no panic");
    start.elapsed().as_secs_f64() / f64::from(TURNS) / 4.0 * 1e9
}

fn spawning() -> f64 {
    let start = Instant::now();
    let mut lights = Lights::new();
    for _ in 0..100_000 {
        lights.spawn("empty", async { Ok(()) });
    }
    lights.run().expect("no panic");
    start.elapsed().as_secs_f64() / 100_000.0 * 1e9
}

fn ours() -> f64 {
    let (mut out, mut into) = one2one();
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || (0..MEETINGS).for_each(|number| out.write(number).expect("open")));
        (0..MEETINGS).for_each(|number| assert_eq!(into.read().expect("open"), number));
    });
    start.elapsed().as_secs_f64() / f64::from(MEETINGS) * 1e9
}

fn theirs() -> f64 {
    let (out, into) = crossbeam_channel::bounded(0);
    let start = Instant::now();
    thread::scope(|scope| {
        scope.spawn(move || (0..MEETINGS).for_each(|number| out.send(number).expect("open")));
        (0..MEETINGS).for_each(|number| assert_eq!(into.recv().expect("open"), number));
    });
    start.elapsed().as_secs_f64() / f64::from(MEETINGS) * 1e9
}

fn main() {
    let (mut light, mut spawn, mut here, mut there) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        light.push(commstime());
        spawn.push(spawning());
        here.push(ours());
        there.push(theirs());
    }
    println!("commstime, light tasks: {:.0} ns a communication", median(light));
    println!("a light task made, run and ended: {:.0} ns", median(spawn));
    let (here, there) = (median(here), median(there));
    println!(
        "rendezvous of two threads: {here:.0} ns, crossbeam {there:.0} ns, ratio {:.2}",
        here / there
    );
}
