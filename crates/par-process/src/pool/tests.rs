//! What can only be tested from inside of the pool.

use crate::ProcessPool;
use std::sync::mpsc::channel;
use std::time::Duration;

/// Nothing here takes that long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn workers_are_replaced_while_somebody_reads_for_long() {
    let pool = ProcessPool::new(1).expect("starts");
    let (reading, reads) = channel::<()>();
    let (reached, at_role) = channel();
    // The pool's own thread finds nobody reading, and before it takes the role somebody does.
    *pool.engine().hub.pump.before_role.lock() = Some(Box::new(move || {
        reached.send(()).expect("the test waits");
        reads.recv_timeout(PATIENCE).expect("somebody reads");
    }));
    pool.engine().hub.pump.call_own();
    at_role.recv_timeout(PATIENCE).expect("it comes by");
    let (tell, told) = channel();
    let waiter = std::thread::spawn({
        let pool = pool.clone();
        move || {
            let lost = pool.submit_fn(7, |code: i32| -> () { std::process::exit(code) });
            let next = pool.submit_fn(2, |x: u32| x + 1);
            let both = (lost.map(|_| ()), next.and_then(|next| next.wait()));
            tell.send(both).expect("the test waits");
        }
    });
    while !pool.engine().hub.pump.is_wanted() {
        std::thread::yield_now();
    }
    reading.send(()).expect("it waits");
    let (_, next) = told
        .recv_timeout(PATIENCE)
        .expect("a worker takes the place of the one that died");
    assert_eq!(next, Ok(3));
    waiter.join().expect("no panic");
}

#[test]
fn a_request_that_the_socket_takes_in_pieces_is_sent_to_its_end() {
    let options = crate::Options {
        shared: 0,
        ..crate::Options::default()
    };
    let builder = ProcessPool::builder().workers(1);
    let pool = builder.options(options).build().expect("starts");
    let (cut, pieces) = channel::<()>();
    let (reached, at_polling) = channel();
    // The pool's own thread has looked for what waits for sockets, and does not wait for them yet.
    *pool.engine().hub.pump.before_polling.lock() = Some(Box::new(move || {
        reached.send(()).expect("the test waits");
        pieces.recv_timeout(PATIENCE).expect("a request");
    }));
    pool.engine().hub.pump.call_own();
    at_polling.recv_timeout(PATIENCE).expect("it comes by");
    // More than a socket takes at once.
    let sum = pool
        .submit_fn(vec![1u8; 8 << 20], |bytes: Vec<u8>| bytes.len())
        .expect("open");
    let (tell, told) = channel();
    sum.on_done(move || tell.send(()).expect("the test waits"));
    cut.send(()).expect("it waits");
    // Nobody waits for the outcome in a way that makes it read.
    told.recv_timeout(PATIENCE).expect("the rest is sent");
    assert_eq!(sum.wait(), Ok(8 << 20));
}

/// Memory that the values of the first worker have taken so far, in bytes.
fn taken(pool: &ProcessPool) -> u64 {
    let state = pool.engine().hub.seats[0].state.lock();
    let arena = state.link.as_ref().and_then(|link| link.arena.as_ref());
    let stat = rustix::fs::fstat(arena.expect("memory for values").file()).expect("a file");
    u64::try_from(stat.st_blocks).expect("a number") * 512
}

#[test]
fn large_values_take_memory_once() {
    const MANY: usize = 3 << 20;
    let pool = ProcessPool::new(1).expect("starts");
    let turn = |first: u8| {
        let reversed = pool.submit_fn(vec![first; MANY], |mut bytes: Vec<u8>| {
            bytes.push(7);
            bytes.reverse();
            bytes
        });
        let bytes = reversed
            .and_then(|reversed| reversed.wait())
            .expect("they come back");
        assert_eq!((bytes.len(), bytes[0], bytes[MANY]), (MANY + 1, 7, first));
    };
    assert_eq!(taken(&pool), 0);
    (0..20).for_each(turn);
    let once = taken(&pool);
    // An input and an output, each in whole mebibytes.
    assert!((6 << 20..=9 << 20).contains(&once), "{once}");
    (20..40).for_each(turn);
    assert_eq!(taken(&pool), once);
}
