//! What administrators, policies and the dead do to a broker on RabbitMQ: queues that are deleted, publishes that are refused, a server
//! without memory, pools that were killed before their workers came. The work goes on, each task once, or the error says why not.

#[path = "support/programs.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod programs;
#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;

use par_dist::probe::bare;
use par_dist::{ChunkPlan, ClusterPool, Options, Plan, Shutdown, TaskError, Worker};
use programs::{pool_with, square, until};
use rabbit::Rabbit;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Leaves a byte, so that it can be counted how often it was run.
#[par_dist::task]
fn note(path: String, x: u64) -> u64 {
    let mut record = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .expect("a record");
    record.write_all(b".").expect("write");
    x
}

fn noted(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn server() -> &'static Rabbit {
    static SERVER: OnceLock<Rabbit> = OnceLock::new();
    SERVER.get_or_init(|| Rabbit::start().expect("a server"))
}

/// A pool with a prefix of its own, so that what is done to it is done to nobody else.
fn pool(prefix: &str, workers: usize, outage: Duration) -> ClusterPool {
    let options = Options {
        broker: Some(format!("{}?prefix={prefix}&heartbeat=2", server().url()).into()),
        outage,
        ..Options::default()
    };
    pool_with(workers, options).with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)))
}

/// Maps over notes with something done in the middle: each of them runs once.
fn goes_on(pool: &ClusterPool, tasks: u64, trouble: impl FnOnce()) {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("record");
    let text = path.display().to_string();
    std::thread::scope(|scope| {
        let map = scope.spawn(|| pool.map::<note>((0..tasks).map(|x| (text.clone(), x))));
        until("some have run", || noted(&path) > 20);
        trouble();
        assert_eq!(map.join().expect("no panic"), Ok((0..tasks).collect()));
    });
    assert_eq!(noted(&path), tasks);
}

/// What a task ends with that nobody can run.
fn ends_with(pool: &ClusterPool) -> String {
    let waits = pool.submit::<square>(1).expect("submit");
    match waits.wait_timeout(Duration::from_secs(60)) {
        // What is submitted while the pool breaks is refused for the same reason.
        Ok(Err(TaskError::Broken(reason) | TaskError::Rejected(reason))) => reason,
        Ok(other) => panic!("{other:?}"),
        Err(_) => panic!("a wait without an end"),
    }
}

/// A program that is killed when the test ends.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_work_queue_that_is_deleted_is_made_anew_with_what_was_in_it() {
    let pool = pool("deleted", 2, Duration::from_secs(60));
    goes_on(&pool, 30_000, || {
        for _ in 0..2 {
            server()
                .control(&["delete_queue", "deleted.work.default"])
                .expect("delete");
        }
    });
}

#[test]
fn a_peer_whose_own_queue_is_deleted_says_so() {
    let pool = pool("orphan", 0, Duration::from_secs(60));
    let mailbox = server().queues("orphan.peer.").expect("queues").remove(0);
    server().control(&["delete_queue", &mailbox]).expect("delete");
    let reason = ends_with(&pool);
    assert!(
        reason.contains(&mailbox) && reason.contains("is gone from the server"),
        "{reason}"
    );
}

#[test]
fn publishes_that_are_refused_are_tried_again_without_haste() {
    let policy = |name: &str, pattern: &str, most: u32| {
        let definition = format!("{{\"max-length\":{most},\"overflow\":\"reject-publish\"}}");
        server()
            .control(&["set_policy", "--apply-to", "queues", name, pattern, &definition])
            .expect("a policy");
    };
    policy("few", "^few[.]work[.]", 10);
    let few = pool("few", 1, Duration::from_secs(60));
    goes_on(&few, 600, || {});
    policy("none", "^none[.]work[.]", 0);
    let none = pool("none", 0, Duration::from_secs(3));
    let reason = ends_with(&none);
    assert!(reason.contains("the server took no message for 3 s"), "{reason}");
}

#[test]
fn a_server_without_memory_is_waited_for() {
    // A server of its own: no other can publish meanwhile.
    let server = Rabbit::start().expect("a server");
    let options = Options {
        broker: Some(format!("{}?heartbeat=2", server.url()).into()),
        ..Options::default()
    };
    let pool = ClusterPool::builder()
        .workers(1)
        .options(options)
        .build()
        .expect("a pool")
        .with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    goes_on(&pool, 5_000, || {
        server
            .control(&["set_vm_memory_high_watermark", "0"])
            .expect("no memory");
        // Longer than two heartbeats: connections that publish hear nothing meanwhile.
        std::thread::sleep(Duration::from_secs(6));
        server
            .control(&["set_vm_memory_high_watermark", "0.4"])
            .expect("memory");
    });
}

#[test]
fn what_a_killed_pool_left_keeps_nobody_from_work() {
    let url = format!("{}?prefix=left", server().url());
    let mut program = Program(
        Command::new(env!("CARGO_BIN_EXE_par-dist-other-pool"))
            .args(["0", &url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the other program starts"),
    );
    let mut line = String::new();
    let stdout = program.0.stdout.take().expect("piped");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "submitted\n");
    program.0.kill().expect("kill");
    program.0.wait().expect("wait");
    // Neither of these has ever heard of it.
    let worker = Worker::new(&url[..]).start().expect("a worker");
    let ours = pool("left", 0, Duration::from_secs(60));
    let start = Instant::now();
    let waits = ours.submit::<square>(12).expect("submit");
    assert_eq!(
        waits
            .wait_timeout(Duration::from_secs(60))
            .map_err(|_| "a wait without an end"),
        Ok(Ok(144))
    );
    eprintln!("after {:.1?}", start.elapsed());
    until("the queue of the dead is deleted", || {
        server().queues("left.peer.").expect("queues").len() == 2
    });
    drop(ours);
    assert!(worker.stop(Some(Duration::from_secs(10))));
}

#[test]
fn letters_in_letters_without_end_do_no_harm() {
    let pool = pool("deep", 1, Duration::from_secs(60));
    let deep = |kind: u8| {
        // A kind, and two numbers: the head of a registered letter, whichever kind that is.
        let head = [kind, 0, 0].repeat(1 << 20);
        let mut bytes = b"parA\x01".to_vec();
        bytes.extend((head.len() as u32).to_le_bytes());
        bytes.extend(head);
        bytes
    };
    let deep: Vec<Vec<u8>> = (0..20).map(deep).collect();
    let url = server().url();
    for mailbox in server().queues("deep.peer.").expect("queues") {
        bare::send(&url, "", &mailbox, &deep).expect("send");
    }
    bare::send(&url, "deep.peers", "", &deep).expect("send");
    bare::send(&url, "", "deep.work.default", &deep).expect("send");
    assert_eq!(
        pool.map::<square>(0..300),
        Ok((0..300).map(|x| x * x).collect::<Vec<u64>>())
    );
}

#[par_dist::task]
fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

/// A way to the server that lets through 8 MiB a second in each direction; its port.
fn slow_way() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let to = server().port();
    let carry = |mut from: TcpStream, mut into: TcpStream| {
        move || {
            let mut bytes = vec![0; 128 << 10];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                if into.write_all(&bytes[..count]).is_err() {
                    break;
                }
                // This is the slowness; nothing is waited for.
                std::thread::sleep(Duration::from_secs(1) * count as u32 / (8 << 20));
            }
            let _ = into.shutdown(std::net::Shutdown::Both);
        }
    };
    // Ends with the program.
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
                return;
            };
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else {
                return;
            };
            std::thread::spawn(carry(near, far));
            std::thread::spawn(carry(far_too, near_too));
        }
    });
    port
}

#[test]
fn long_messages_on_a_slow_network_arrive() {
    let options = Options {
        broker: Some(
            format!(
                "amqp://127.0.0.1:{}?prefix=slow&heartbeat=1&max_message_size=134217728",
                slow_way()
            )
            .into(),
        ),
        ..Options::default()
    };
    let pool = ClusterPool::builder()
        .workers(1)
        .options(options)
        .build()
        .expect("a pool");
    // Longer than a heartbeat there, and again to the worker.
    let long = 20 << 20;
    let waits = pool.submit::<length>(vec![0; long]).expect("submit");
    let outcome = waits.wait_timeout(Duration::from_secs(60));
    assert_eq!(outcome.map_err(|_| "a wait without an end"), Ok(Ok(long as u64)));
}

#[par_dist::task]
fn nap(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[test]
fn a_shutdown_ends_while_the_server_is_away() {
    let mut server = Rabbit::start().expect("a server");
    let pool = |server: &Rabbit, queue: &str| {
        let options = Options {
            broker: Some(server.url().into()),
            queue: queue.to_owned(),
            ..Options::default()
        };
        let pool = ClusterPool::builder()
            .workers(1)
            .options(options)
            .build()
            .expect("a pool");
        assert_eq!(pool.submit::<square>(2).expect("submit").wait(), Ok(4));
        let naps: Vec<_> = (0..20)
            .map(|_| pool.submit::<nap>(60_000).expect("submit"))
            .collect();
        (pool, naps)
    };
    let end = |(pool, naps): (ClusterPool, Vec<par_dist::Handle<()>>)| {
        let start = Instant::now();
        let report = pool.shutdown(Shutdown::Drain, Some(Duration::from_secs(1)));
        let took = start.elapsed();
        eprintln!("{report:?} after {took:.1?}");
        for nap in naps {
            assert!(nap.wait_timeout(Duration::ZERO).expect("it has ended").is_err());
        }
        assert_eq!((report.ran, report.detached), (1, 0));
        // Five seconds for the end of the workers that were killed, and two for the server.
        assert!(took < Duration::from_secs(10), "{took:?}");
    };
    let frozen = pool(&server, "frozen");
    let killed = pool(&server, "killed");
    server.freeze().expect("stop");
    end(frozen);
    server.thaw().expect("go on");
    server.kill().expect("kill");
    end(killed);
}
