//! The queue beside iceoryx2, between two processes that are both awake: a round trip of 64 bytes, and each of many items.
//!
//! Prints medians and ratios. Rounds of both alternate, so that whatever else the machine does meets them alike. iceoryx2 is asked
//! again and again, without a pause, which is its quickest way; the queue waits as it always does.
#![forbid(unsafe_code)]

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory;
use par_process::{Process, Queue};
use std::time::{Duration, Instant};

/// Round trips of one round.
const TRIPS: u32 = 20_000;
/// Items of one round in one direction.
const ITEMS: u32 = 200_000;
const ROUNDS: usize = 15;
/// What may wait.
const ROOM: usize = 1_000;

type Bytes = [u64; 8];
type Service = ipc::Service;

/// Both ends of a service of iceoryx2 that loses nothing: who writes waits for room.
struct Ports {
    publisher: Publisher<Service, Bytes, ()>,
    subscriber: Subscriber<Service, Bytes, ()>,
    #[allow(dead_code, reason = "the services live as long")]
    services: [PortFactory<Service, Bytes, ()>; 2],
}

impl Ports {
    fn open(name: &str, to: &str, from: &str) -> Self {
        let node = NodeBuilder::new().create::<Service>().expect("a node");
        let service = |end: &str| {
            node.service_builder(&format!("{name}/{end}").as_str().try_into().expect("a name"))
                .publish_subscribe::<Bytes>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(ROOM)
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()
                .expect("a service")
        };
        let services = [service(to), service(from)];
        let publisher = services[0]
            .publisher_builder()
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create();
        let subscriber = services[1].subscriber_builder().create();
        Ports {
            publisher: publisher.expect("the only one"),
            subscriber: subscriber.expect("the only one"),
            services,
        }
    }

    fn put(&self, bytes: Bytes) {
        self.publisher.send_copy(bytes).expect("sent");
    }

    fn get(&self) -> Bytes {
        loop {
            if let Some(bytes) = self.subscriber.receive().expect("a subscriber") {
                return *bytes;
            }
            std::hint::spin_loop();
        }
    }
}

/// The first word of an item that ends a process.
const END: u64 = u64::MAX;
/// The first word of an item that orders a stream.
const STREAM: u64 = u64::MAX - 1;

/// Gives back what comes, and sends many where that is wanted.
fn answer(get: impl Fn() -> Bytes, put: impl Fn(Bytes)) {
    loop {
        match get() {
            [END, ..] => return,
            [STREAM, ..] => (0..ITEMS).for_each(|number| put([u64::from(number); 8])),
            bytes => put(bytes),
        }
    }
}

fn answer_ports(name: String) {
    let ports = Ports::open(&name, "back", "there");
    // Once for each side, so that neither speaks before the other listens.
    ports.put([1; 8]);
    answer(|| ports.get(), |bytes| ports.put(bytes));
}

fn answer_queues((there, back): (Queue<Bytes>, Queue<Bytes>)) {
    answer(
        || there.get().expect("open"),
        |bytes| back.put(bytes).expect("open"),
    );
}

fn timed(each: u32, run: impl FnOnce()) -> f64 {
    let start = Instant::now();
    run();
    start.elapsed().as_secs_f64() / f64::from(each) * 1e6
}

/// Microseconds of a round trip and of each item of a stream.
fn round(get: impl Fn() -> Bytes, put: impl Fn(Bytes)) -> [f64; 2] {
    let trips = timed(TRIPS, || {
        for number in 0..TRIPS {
            put([u64::from(number); 8]);
            assert_eq!(get(), [u64::from(number); 8]);
        }
    });
    let items = timed(ITEMS, || {
        put([STREAM; 8]);
        for number in 0..ITEMS {
            assert_eq!(get(), [u64::from(number); 8]);
        }
    });
    [trips, items]
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Processor time of a process, in ticks of the system.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let times = fields.skip(11).take(2);
    times.filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

fn main() {
    let name = format!("par-process/{}", std::process::id());
    let ports = Ports::open(&name, "there", "back");
    let theirs = Process::of_fn(name, answer_ports).daemon(true).start().expect("starts");
    ports.get();
    let there = Queue::<Bytes>::new(ROOM).expect("memory");
    let back = Queue::<Bytes>::new(ROOM).expect("memory");
    let ours = Process::of_fn((there.clone(), back.clone()), answer_queues);
    let ours = ours.daemon(true).start().expect("starts");
    let (mut our_times, mut their_times) = ([const { Vec::new() }; 2], [const { Vec::new() }; 2]);
    let get = || back.get().expect("open");
    let put = |bytes| there.put(bytes).expect("open");
    put([1; 8]);
    get();
    for _ in 0..ROUNDS {
        // The other pair must not take a processor away meanwhile: it asks without a pause.
        let pause = |signal: &str| {
            let sent = std::process::Command::new("kill")
                .args([signal, &theirs.pid().to_string()])
                .status();
            assert!(sent.expect("kill runs").success());
        };
        pause("-STOP");
        for (times, time) in our_times.iter_mut().zip(round(get, put)) {
            times.push(time);
        }
        pause("-CONT");
        let round = round(|| ports.get(), |bytes| ports.put(bytes));
        for (times, time) in their_times.iter_mut().zip(round) {
            times.push(time);
        }
    }
    println!("microseconds are medians of {ROUNDS} rounds; a ratio is ours to theirs");
    for (what, (ours, theirs)) in ["queue, round trip of 64 B", "queue, each of many items of 64 B"]
        .iter()
        .zip(our_times.iter_mut().zip(&mut their_times))
    {
        let (ours, theirs) = (median(ours), median(theirs));
        println!("{what}: {ours:.3} us, iceoryx2 {theirs:.3} us (ratio {:.2})", ours / theirs);
    }
    let before = ticks(ours.pid());
    std::thread::sleep(Duration::from_millis(500));
    println!(
        "a getter that waits at an empty queue for 500 ms takes {} ms of processor time",
        (ticks(ours.pid()) - before) * 10
    );
    there.put([END; 8]).expect("open");
    ports.put([END; 8]);
    for child in [ours, theirs] {
        assert_eq!(child.join().expect("ends"), 0);
    }
}
