//! Managers: deaths at named points, hostile clients, and who gives up.
#![allow(unsafe_code, reason = "entries in a section of the linker count as that")]

use super::address::Stream;
use super::key::present;
use super::protocol::{down, put_call};
use super::*;
use crate::failpoint::{How, arm};
use crate::{JoinableQueue, managed};
use par_core::wire;
use proptest::prelude::*;
use rustix::process::Signal;
use serde::Deserialize;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_millis(50);

/// Arms points in the manager's process.
#[derive(Serialize, Deserialize)]
struct Bomb {
    calls: u32,
}

impl Bomb {
    fn arm(&mut self, point: String, how: How) {
        arm(&point, 0, how);
    }

    fn limit_files(&mut self, files: u64) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        let limit = Rlimit {
            current: Some(files),
            maximum,
        };
        setrlimit(Resource::Nofile, limit).expect("a lower limit");
    }

    fn count(&mut self) -> u32 {
        self.calls += 1;
        self.calls
    }
}

managed! {
    BombProxy for Bomb {
        fn arm(point: String, how: How);
        fn limit_files(files: u64);
        fn count() -> u32;
    }
}

fn is_gone<T: fmt::Debug>(result: Result<T, ManagerError>) {
    assert!(matches!(&result, Err(ManagerError::Gone { .. })), "{result:?}");
}

#[test]
fn a_manager_that_dies_in_a_call_ends_it_and_all_others() {
    let points = ["manager.call.read", "manager.call.done"];
    let hows = [How::Kill, How::Abort, How::Exit, How::Overflow, How::Memory];
    for (point, how) in hows.iter().flat_map(|how| points.map(|point| (point, *how))) {
        let manager = Manager::start().expect("starts");
        let bomb = manager.own(Bomb { calls: 0 }).expect("owned");
        let event = manager.event().expect("made");
        let waiter = std::thread::spawn(move || event.wait());
        // The call that arms the point for later is past the first of these itself.
        if point == "manager.call.read" {
            bomb.arm(point.to_owned(), how).expect("armed");
        } else {
            // It dies between what it did and the answer.
            is_gone(bomb.arm(point.to_owned(), how));
        }
        is_gone(bomb.count());
        let process = manager.process().expect("its own");
        let expected = match how {
            How::Kill => -9,
            How::Exit => 3,
            // A role begins before the standard library catches this and aborts.
            How::Overflow => -11,
            _ => -6,
        };
        let ended = process.join_timeout(PATIENCE).expect("waits");
        assert_eq!(ended, Some(expected), "{how:?} at {point}");
        is_gone(waiter.join().expect("no panic"));
        is_gone(manager.counter(1));
        let error = wire::to_bytes(&bomb).expect_err("nobody to lend it").to_string();
        assert!(error.contains("a proxy: the manager at unix:"), "{error}");
    }
}

type Order = (Queue<u32>, String, How);

fn gets((queue, point, how): Order) {
    arm(&point, 0, how);
    queue.get().expect("an item");
}

#[test]
fn a_client_that_dies_in_a_get_leaves_the_item_until_it_has_it() {
    let manager = Manager::start().expect("starts");
    let queue = manager.queue::<u32>(2).expect("made");
    for (point, left) in [
        ("manager.get.arrived", vec![1, 2]),
        ("manager.get.confirmed", vec![2]),
    ] {
        queue.put(&1).expect("open");
        queue.put(&2).expect("open");
        let victim = Process::of_fn((queue.clone(), point.to_owned(), How::Kill), gets);
        assert_eq!(victim.start().expect("starts").join().expect("ends"), -9);
        let got = left.iter().map(|_| queue.get_timeout(PATIENCE).expect("an item"));
        // The manager may see the death after the first get.
        let mut got: Vec<_> = got.collect();
        got.sort_unstable();
        assert_eq!(got, left, "{point}");
        assert!(matches!(
            queue.get_timeout(Duration::ZERO),
            Err(QueueError::Empty)
        ));
    }
}

#[test]
fn a_stopped_client_keeps_what_it_holds_until_it_dies() {
    let manager = Manager::start().expect("starts");
    let queue = manager.queue::<u32>(1).expect("made");
    queue.put(&1).expect("open");
    let victim = Process::of_fn((queue.clone(), "manager.get.arrived".to_owned(), How::Stop), gets);
    // Should this fail, nobody waits for a process that is stopped.
    let victim = victim.daemon(true).start().expect("starts");
    let end = Instant::now() + PATIENCE;
    while queue.len().expect("it lives") > 0 {
        assert!(Instant::now() < end, "never taken");
    }
    // Its place is kept, as the item may come back.
    let full = queue.put_timeout(&2, BRIEF);
    assert!(matches!(full, Err(QueueError::Full)), "{full:?}");
    assert!(matches!(queue.get_timeout(BRIEF), Err(QueueError::Empty)));
    queue.close().expect("it lives");
    victim.kill().expect("signals");
    assert_eq!(queue.get_timeout(PATIENCE).expect("it came back"), 1);
    assert!(matches!(queue.get(), Err(QueueError::Closed)));
    assert!(matches!(queue.put(&3), Err(QueueError::Closed)));
}

/// A connection that has the key and says what it likes.
fn connection(manager: &Manager) -> Stream {
    let stream = Stream::connect(manager.address()).expect("it listens");
    present(&stream, manager.key(), 99, manager.address(), PATIENCE).expect("the key");
    stream.set_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// What comes back until the end of file.
fn hear(bytes: &[u8], manager: &Manager) -> Vec<u8> {
    let stream = connection(manager);
    // The manager may have closed it before the last byte.
    let _ = (&stream).write_all(bytes);
    if let Stream::Unix(stream) = &stream {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    let mut heard = Vec::new();
    let _ = (&stream).read_to_end(&mut heard);
    heard
}

#[test]
fn hostile_frames_end_their_connection_and_nothing_else() {
    let manager = Manager::start().expect("starts");
    let counter = manager.counter(1).expect("made");
    let huge = wire::FrameHeader {
        kind: down::CALL,
        length: 1 << 60,
    };
    assert!(hear(&huge.to_bytes(), &manager).is_empty());
    assert!(hear(b"GET / HTTP/1.1\r\n\r\n", &manager).is_empty());
    let mut confirm = Vec::new();
    wire::write_frame(&mut confirm, down::CONFIRM, &[]).expect("memory");
    assert!(hear(&confirm, &manager).is_empty());
    let fault = |kind: u8, payload: &[u8]| {
        let mut frame = Vec::new();
        wire::write_frame(&mut frame, kind, payload).expect("memory");
        let heard = hear(&frame, &manager);
        let mut payload = Vec::new();
        wire::read_frame(&mut &heard[..], 1 << 20, &mut payload)
            .expect("a frame")
            .expect("a frame");
        format!("{:?}", wire::from_bytes::<Fault>(&payload).expect("a fault"))
    };
    assert!(fault(down::CALL, b"abc").contains("without the number of an object"));
    assert!(fault(down::CALL, &[0; 8]).contains("the method is not readable"));
    assert!(fault(down::REQUEST, &[200]).contains("the arguments are not readable"));
    let mut call = Vec::new();
    put_call(&mut call, 77, "get", &()).expect("encodes");
    let call = &call[wire::FRAME_HEADER..];
    assert!(fault(down::CALL, call).contains("object 77 of the manager is gone"));
    assert_eq!(counter.get().expect("it lives"), 1);
}

#[test]
fn who_proves_nothing_is_let_wait_and_keeps_out_nobody_who_is_in() {
    let manager = Manager::start().expect("starts");
    let counter = manager.counter(1).expect("made");
    let mut strangers = Vec::new();
    let refused = loop {
        let stream = Stream::connect(manager.address()).expect("it listens");
        stream.set_timeout(Some(PATIENCE)).expect("a socket");
        let mut first = [0; 1];
        if (&stream).read(&mut first).is_ok_and(|count| count == 0) {
            break strangers.len();
        }
        strangers.push(stream);
        assert!(strangers.len() < 200, "no bound");
    };
    assert_eq!(refused, 64);
    assert_eq!(counter.add(1).expect("it lives"), 2);
    drop(strangers);
    let end = Instant::now() + PATIENCE;
    while Manager::connect(manager.address(), &Key::from("wrong"))
        .is_err_and(|error| !matches!(error, ManagerError::WrongKey(_)))
    {
        assert!(Instant::now() < end, "never let in again");
    }
}

#[test]
fn a_manager_at_its_limit_of_files_goes_on_when_there_is_room() {
    let manager = Manager::start().expect("starts");
    let bomb = manager.own(Bomb { calls: 0 }).expect("owned");
    bomb.limit_files(24).expect("it lives");
    let mut others = Vec::new();
    for _ in 0..64 {
        let stream = Stream::connect(manager.address()).expect("it listens");
        others.push(stream);
    }
    // Those who are in go on; the others wait.
    assert_eq!(bomb.count().expect("it lives"), 1);
    drop(others);
    let again = connection(&manager);
    drop(again);
    assert_eq!(bomb.count().expect("it lives"), 2);
}

#[test]
fn a_call_that_gives_up_leaves_nothing_behind() {
    let manager = Manager::start().expect("starts");
    let queue = manager.queue::<u32>(1).expect("made");
    let lock = manager.lock().expect("made");
    let guard = lock.lock().expect("free");
    let started = Instant::now();
    assert!(lock.lock_timeout(BRIEF).expect("it lives").is_none());
    assert!(matches!(queue.get_timeout(BRIEF), Err(QueueError::Empty)));
    let late = within(BRIEF, || lock.lock());
    assert!(matches!(late, Err(ManagerError::TimedOut)), "{late:?}");
    let late = within(BRIEF, || queue.get());
    assert!(
        matches!(late, Err(QueueError::Manager(ManagerError::TimedOut))),
        "{late:?}"
    );
    assert!(started.elapsed() < PATIENCE);
    // Neither the lock nor the item goes to those who gave up.
    guard.unlock().expect("held");
    queue.put(&7).expect("open");
    lock.lock_timeout(PATIENCE)
        .expect("it lives")
        .expect("free")
        .unlock()
        .expect("held");
    assert_eq!(queue.get_timeout(PATIENCE).expect("an item"), 7);
}

/// Whether every thread of a process is stopped.
fn is_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    threads.flatten().all(|thread| {
        std::fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|stat| stat.rsplit(')').next().unwrap_or_default().starts_with(" T"))
    })
}

#[test]
fn a_put_that_gave_up_while_the_manager_was_stopped_happens_once_or_not_at_all() {
    let manager = Manager::start().expect("starts");
    let queue = manager.queue::<u32>(5).expect("made");
    let pid = manager.process().expect("its own").pid();
    let signal = |signal| {
        let pid = rustix::process::Pid::from_raw(pid as i32).expect("not 0");
        rustix::process::kill_process(pid, signal).expect("it lives");
    };
    queue.put(&1).expect("open");
    signal(Signal::STOP);
    let end = Instant::now() + PATIENCE;
    while !is_stopped(pid) {
        assert!(Instant::now() < end, "never stopped");
    }
    let late = queue.put_timeout(&2, BRIEF);
    assert!(
        matches!(late, Err(QueueError::Manager(ManagerError::TimedOut))),
        "{late:?}"
    );
    signal(Signal::CONT);
    assert_eq!(queue.get_timeout(PATIENCE).expect("an item"), 1);
    queue.put(&3).expect("open");
    // The request of the late put may have been read before its client was seen to be gone; the page says so.
    let mut items = vec![queue.get_timeout(PATIENCE).expect("an item")];
    while let Ok(item) = queue.get_timeout(BRIEF) {
        items.push(item);
    }
    items.sort_unstable();
    assert!(items == [3] || items == [2, 3], "{items:?}");
}

#[test]
fn a_process_at_its_limit_of_files_is_told_so() {
    let manager = Manager::start().expect("starts");
    let counter = manager.counter(1).expect("made");
    let results = JoinableQueue::new(2).expect("memory");
    let child = Process::of_fn(
        (counter, results.clone()),
        |(counter, results): (Counter, JoinableQueue<String>)| {
            use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
            let maximum = getrlimit(Resource::Nofile).maximum;
            let limit = Rlimit {
                current: Some(32),
                maximum,
            };
            setrlimit(Resource::Nofile, limit).expect("a lower limit");
            let mut held = Vec::new();
            while let Ok(file) = std::fs::File::open("/dev/null") {
                held.push(file);
            }
            let error = counter.get().expect_err("no file for a socket");
            results.put(error.to_string()).expect("open");
            drop(held);
            let number = counter.get().expect("the manager lives");
            results.put(number.to_string()).expect("open");
        },
    );
    let child = child.start().expect("starts");
    let text = results.get_timeout(PATIENCE).expect("a text");
    assert!(text.starts_with("cannot reach the manager: "), "{text}");
    assert_eq!(results.get_timeout(PATIENCE).expect("a text"), "1");
    assert_eq!(child.join().expect("ends"), 0);
}

proptest! {
    #[test]
    fn hostile_calls_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        use super::protocol::{read_call, read_number, read_request};
        let _ = (read_call(&bytes), read_number(&bytes), read_request(&bytes));
        let _ = wire::from_bytes::<Fault>(&bytes);
        let _ = wire::from_bytes::<Proxy>(&bytes);
        let (mut dict, mut list) = (collections::DictObject::default(), collections::ListObject::default());
        for method in ["insert", "extend", "get", "set", "remove", "compare_exchange", "none"] {
            let mut reply = Vec::new();
            let _ = dict.call(method, &bytes, &mut reply);
            let _ = list.call(method, &bytes, &mut reply);
        }
    }
}
