//! What cannot be used, and what comes from strangers: URLs, servers and messages that are wrong. What the user reads is asserted.

#[path = "support/rabbit.rs"]
#[allow(dead_code, reason = "each test uses its part of it")]
mod rabbit;

use par_dist::probe::bare;
use par_dist::{ClusterPool, Options, StartError, TaskError, Worker};
use rabbit::Rabbit;
use std::net::TcpListener;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[par_dist::task]
fn length(bytes: Vec<u8>) -> u64 {
    bytes.len() as u64
}

#[par_dist::task]
fn zeros(count: u64) -> Vec<u8> {
    vec![0; count as usize]
}

fn server() -> &'static Rabbit {
    static SERVER: OnceLock<Rabbit> = OnceLock::new();
    SERVER.get_or_init(|| Rabbit::start().expect("a server"))
}

fn started(url: &str, queue: &str) -> Result<ClusterPool, StartError> {
    let options = Options {
        broker: Some(url.into()),
        queue: queue.to_owned(),
        ..Options::default()
    };
    ClusterPool::builder().workers(1).options(options).build()
}

/// What a pool and a worker say that cannot start, at once.
fn refusal(url: &str, queue: &str) -> String {
    let start = Instant::now();
    let pool = started(url, queue).map(drop).expect_err("no pool").to_string();
    let worker = Worker::new(url)
        .queue(queue)
        .start()
        .map(drop)
        .expect_err("no worker")
        .to_string();
    assert_eq!(pool, worker);
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "not at once: {:?}",
        start.elapsed()
    );
    pool
}

#[test]
fn urls_that_are_wrong_are_told() {
    assert_eq!(
        refusal("http://ann:secret@example.org", "default"),
        "bad option broker: a path, `amqp://...` or `redis://...` is expected, got http://ann:***@example.org"
    );
    assert_eq!(
        refusal("amqp://example.org", &"q".repeat(300)),
        "bad option queue: has 300 bytes, at most 246 are taken"
    );
    let bounded = Options {
        broker: Some("amqp://example.org".into()),
        max_bytes: Some(1),
        ..Options::default()
    };
    assert_eq!(
        ClusterPool::builder()
            .options(bounded)
            .build()
            .map(drop)
            .expect_err("bounded")
            .to_string(),
        "bad option max_bytes: bounds a file, and amqp://example.org is a server with bounds of its own"
    );
}

#[test]
fn servers_that_refuse_are_told_at_once() {
    // A port that nobody listens on: it was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0")
        .expect("bind")
        .local_addr()
        .expect("address");
    let text = refusal(&format!("amqp://{free}/%2f"), "default");
    assert!(
        text.starts_with(&format!("cannot open the broker amqp://{free}/%2f: "))
            && text.contains("Connection refused"),
        "{text}"
    );
    // Somebody who takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = silent.local_addr().expect("address");
    let error = started(&format!("amqp://{address}"), "default")
        .map(drop)
        .expect_err("silent");
    assert_eq!(
        error.to_string(),
        format!("cannot open the broker amqp://{address}: no answer from {address} within 10 s")
    );
    let port = server().port();
    let text = refusal(&format!("amqp://guest:wrong@127.0.0.1:{port}"), "default");
    assert!(text.contains("guest:***@") && text.contains("ACCESS"), "{text}");
    let text = refusal(&format!("amqp://127.0.0.1:{port}/nowhere"), "default");
    assert!(text.contains("nowhere") && text.contains("NOT"), "{text}");
}

#[test]
fn a_queue_that_is_declared_otherwise_is_told() {
    let url = server().url();
    bare::fill(&url, "par.work.otherwise", "par.work.unused", 0).expect("declare");
    let text = refusal(&url, "otherwise");
    assert!(
        text.contains("PRECONDITION") && text.contains("par.work.otherwise") && text.contains("x-expires"),
        "{text}"
    );
}

#[test]
fn strange_messages_are_thrown_away_and_the_rest_goes_on() {
    let url = server().url();
    let pool = started(&url, "strange").expect("a pool");
    assert_eq!(pool.submit::<length>(vec![1; 10]).expect("submit").wait(), Ok(10));
    let giant = [&b"parA\x01"[..], &u32::MAX.to_le_bytes()].concat();
    let newer = b"parA\x63\x01\x00\x00\x00\x00".to_vec();
    // An offer whose head ends before it begins to say anything, one of an unknown kind, and plain noise.
    let short = b"parA\x01\x01\x00\x00\x00\x00".to_vec();
    let unknown = b"parA\x01\x01\x00\x00\x00\x7f".to_vec();
    let noise: Vec<u8> = (0..5000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let strange = [Vec::new(), giant, newer, short, unknown, noise];
    bare::send(&url, "", "par.work.strange", &strange).expect("send");
    bare::send(&url, "par.peers", "", &strange).expect("send");
    let mailboxes = server().queues("par.peer.").expect("queues");
    assert!(
        mailboxes.len() >= 2,
        "of the pool and of its worker: {mailboxes:?}"
    );
    for mailbox in mailboxes {
        bare::send(&url, "", &mailbox, &strange).expect("send");
    }
    for _ in 0..3 {
        assert_eq!(pool.map::<length>(vec![vec![0; 3]; 100]), Ok(vec![3; 100]));
    }
    let end = Instant::now() + Duration::from_secs(30);
    while pool.engine().waiting().expect("a server") > 0 {
        assert!(Instant::now() < end, "strange messages stay in the queue");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_is_too_long_for_a_message_is_refused_and_the_rest_goes_on() {
    // As that server has it.
    let url = format!("{}?max_message_size={}", server().url(), 128 << 20);
    let pool = started(&url, "long").expect("a pool");
    let long = 128 << 20;
    assert_eq!(
        pool.submit::<length>(vec![0; long]).expect("submit").wait(),
        Err(TaskError::Codec(format!(
            "inputs of {} bytes in one message, at most {} are taken",
            long + 4,
            127 << 20
        )))
    );
    let error = pool
        .submit::<zeros>(long as u64)
        .expect("submit")
        .wait()
        .expect_err("long")
        .to_string();
    assert!(
        error.contains("its reply did not fit") && error.contains("at most 133169152 are taken"),
        "{error}"
    );
    assert_eq!(
        pool.submit::<length>(vec![0; 1000]).expect("submit").wait(),
        Ok(1000)
    );
    let back = pool.submit::<zeros>(30 << 20).expect("submit").wait();
    assert!(
        back.is_ok_and(|back| back.len() == 30 << 20),
        "a long one that fits"
    );
}

#[cfg(feature = "amqp-tls")]
#[test]
fn it_goes_over_tls_and_a_stranger_is_not_trusted() {
    let server = Rabbit::start_with_tls().expect("a server");
    let (url, authority) = server.tls().expect("it has one");
    let trusting = format!("{url}?cacertfile={}", authority.display());
    let pool = started(&trusting, "default").expect("a pool");
    assert_eq!(
        pool.submit::<length>(vec![0; 100]).expect("submit").wait(),
        Ok(100)
    );
    let text = refusal(&url, "default");
    assert!(text.contains("certificate"), "{text}");
}
