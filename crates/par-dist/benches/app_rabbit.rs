//! The task queue on RabbitMQ beside a bare loop of lapin that acknowledges the same and publishes the same results, and beside Celery from pip.
//!
//! One server, one run; `add` with prefetch 256, drained from a full queue; rates, ratios of medians, and processor time a task.
//! `cargo bench -p par-dist --features amqp --bench app_rabbit [-- --quick]`

#[path = "../tests/support/celery.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod celery;
#[path = "../tests/support/rabbit.rs"]
#[allow(dead_code, reason = "tests use the rest of it")]
mod rabbit;

use celery::Celery;
use lapin::message::DeliveryResult;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties};
use par_dist::app::{App, AppBuilder, Call};
use par_dist::task;
use rabbit::Rabbit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[task(name = "bench.add")]
fn add(a: u64, b: u64) -> u64 {
    a + b
}

/// How many tasks each worker has at most that it has not acknowledged.
const PREFETCH: u16 = 256;

/// A rate, and the processor time of this process for each, in microseconds.
#[derive(Clone, Copy)]
struct Figure {
    rate: f64,
    micros: f64,
}

fn processor() -> Duration {
    let times = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = times.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks = |at: usize| {
        after
            .split_whitespace()
            .nth(at)
            .and_then(|x| x.parse::<u64>().ok())
    };
    // utime and stime, in hundredths of a second (proc(5)).
    Duration::from_millis(10 * (ticks(11).unwrap_or(0) + ticks(12).unwrap_or(0)))
}

fn median(mut figures: Vec<Figure>) -> Figure {
    figures.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    figures[figures.len() / 2]
}

/// Fills a queue, and leaves: who reads results is another program.
fn fill(broker: &str, name: &str, queue: &str, count: usize, results: bool) {
    let app = app(broker);
    // What was not acknowledged when the one before left.
    app.purge(queue).expect("purged");
    for from in (0..count).step_by(1000) {
        let calls = (from..count.min(from + 1000)).map(|number| {
            let call: Call = app
                .call_by_name(name, vec![number.into(), 1.into()], serde_json::Map::new())
                .queue(queue);
            if results { call } else { call.ignore_result() }
        });
        app.send_all(calls).expect("sent");
    }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(300), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn ours(broker: &str, count: usize, results: bool) -> Figure {
    fill(broker, "bench.add", "celery", count, results);
    let works = app(broker);
    let (start, before) = (Instant::now(), processor());
    let worker = works
        .worker()
        .concurrency(2)
        .prefetch(usize::from(PREFETCH) / 2)
        .start()
        .expect("starts");
    until("all have run", || worker.ended() >= count as u64);
    let (took, used) = (start.elapsed(), processor() - before);
    worker.stop();
    figure(count, took, used)
}

fn figure(count: usize, took: Duration, used: Duration) -> Figure {
    Figure {
        rate: count as f64 / took.as_secs_f64(),
        micros: used.as_secs_f64() * 1e6 / count as f64,
    }
}

fn builder(broker: &str) -> AppBuilder {
    App::builder("bench").broker(broker).task::<add>()
}

fn app(broker: &str) -> App {
    builder(broker).build().expect("an app")
}

/// What Celery keeps of a result, up to the id of the task.
const RESULT: &str = r#"{"status":"SUCCESS","result":8,"traceback":null,"children":[],"date_done":"2026-11-25T20:00:00.000000+00:00","task_id":"#;

/// The floor: as many consumers, the same acknowledgements one by one, and the same results; the body is not even looked at.
fn bare(broker: &str, count: usize, results: bool) -> Figure {
    fill(broker, "bench.add", "celery", count, results);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let done = Arc::new(AtomicU64::new(0));
    runtime.block_on(async {
        let (start, before) = (Instant::now(), processor());
        let connection = Connection::connect(broker, ConnectionProperties::default())
            .await
            .expect("connects");
        let channel = connection.create_channel().await.expect("a channel");
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .expect("confirms");
        channel
            .basic_qos(PREFETCH, BasicQosOptions::default())
            .await
            .expect("prefetch");
        let consumer = channel
            .basic_consume(
                "celery".into(),
                "bare".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("consumes");
        let (here, counts) = (channel.clone(), Arc::clone(&done));
        consumer.set_delegate(move |delivery: DeliveryResult| {
            let (channel, counts) = (here.clone(), Arc::clone(&counts));
            async move {
                let Ok(Some(delivery)) = delivery else { return };
                delivery
                    .ack(BasicAckOptions::default())
                    .await
                    .expect("acknowledged");
                let properties = delivery.properties;
                if let (Some(to), Some(id)) = (properties.reply_to(), properties.correlation_id())
                    && results
                {
                    let document = format!("{RESULT}\"{id}\"}}");
                    let properties = BasicProperties::default()
                        .with_content_type("application/json".into())
                        .with_content_encoding("utf-8".into())
                        .with_correlation_id(id.clone())
                        .with_delivery_mode(2);
                    let sent = channel
                        .basic_publish(
                            "".into(),
                            to.clone(),
                            BasicPublishOptions::default(),
                            document.as_bytes(),
                            properties,
                        )
                        .await;
                    sent.expect("published").await.expect("confirmed");
                }
                counts.fetch_add(1, Ordering::Relaxed);
            }
        });
        while done.load(Ordering::Relaxed) < count as u64 {
            assert!(start.elapsed() < Duration::from_secs(300));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (took, used) = (start.elapsed(), processor() - before);
        connection.close(200, "".into()).await.expect("closed");
        figure(count, took, used)
    })
}

/// Celery's worker with two processes.
fn theirs(celery: &Celery, broker: &str, count: usize, results: bool) -> f64 {
    let sends = app(broker);
    fill(broker, "py.mul", "python", count, results);
    // It is ready before it takes the first: what is measured begins there.
    let _worker = celery.worker_with(
        "python",
        &[
            "-P",
            "prefork",
            "-c",
            "2",
            "--prefetch-multiplier",
            &(PREFETCH / 2).to_string(),
        ],
    );
    let left = || sends.waiting("python").expect("counted");
    until("it has begun", || left() < count as u64);
    let (start, from) = (Instant::now(), left());
    until("all are fetched", || left() == 0);
    from as f64 / start.elapsed().as_secs_f64()
}

/// How a producer sends: all but the first know of each task that the server has it.
#[derive(Clone, Copy)]
enum Sends {
    Unconfirmed,
    OneByOne,
    ByEightThreads,
    Together,
}

/// From a producer to a worker and back; the values are fetched at the end.
fn whole_way(broker: &str, count: usize, how: Sends) -> f64 {
    let sends = match how {
        Sends::Unconfirmed => builder(broker).unconfirmed().build().expect("an app"),
        _ => app(broker),
    };
    let works = app(broker);
    let prefetch = usize::from(PREFETCH) / 2;
    let worker = works.worker().concurrency(2).prefetch(prefetch);
    let _worker = worker.start().expect("starts");
    let start = Instant::now();
    let numbers = |part: usize, of: usize| (0..count).filter(move |number| number % of == part);
    let call = |number: usize| sends.call::<add>((number as u64, 1));
    let one_by_one = |part, of| -> Vec<_> {
        let sent = numbers(part, of).map(|number| call(number).send().expect("sent"));
        sent.collect()
    };
    let sent = match how {
        Sends::Unconfirmed | Sends::OneByOne => one_by_one(0, 1),
        Sends::ByEightThreads => std::thread::scope(|scope| {
            let one_by_one = &one_by_one;
            let threads: Vec<_> = (0..8)
                .map(|part| scope.spawn(move || one_by_one(part, 8)))
                .collect();
            let sent = threads.into_iter();
            sent.flat_map(|thread| thread.join().expect("no panic")).collect()
        }),
        Sends::Together => sends.send_all(numbers(0, 1).map(call)).expect("sent"),
    };
    let sum: u64 = sent
        .iter()
        .map(|result| result.get(Duration::from_secs(300)).expect("a value"))
        .sum();
    assert_eq!(sum, (1..=count as u64).sum::<u64>());
    count as f64 / start.elapsed().as_secs_f64()
}

/// The same with a program of Celery's; as it comes, it does not ask whether the server has what it sends.
fn their_whole_way(celery: &Celery, count: usize, confirms: bool) -> Option<f64> {
    let confirms = if confirms { "True" } else { "False" };
    let prefetch = (PREFETCH / 2).to_string();
    let arguments = ["-P", "prefork", "-c", "2", "--prefetch-multiplier", &prefetch];
    let _worker = celery.worker_with("python", &arguments).ok()?;
    let program = format!(
        r#"
from demo import mul
mul.app.conf.broker_transport_options = {{"confirm_publish": {confirms}}}
mul.apply_async((1, 1), queue="python").get(timeout=60)
start = time.time()
sent = [mul.apply_async((number, 1), queue="python") for number in range({count})]
for number, result in enumerate(sent):
    assert result.get(timeout=300) == number
print(json.dumps({count} / (time.time() - start)))
"#
    );
    let rate = celery.run(&program).expect("its program runs");
    rate.as_f64()
}

fn round_trip(broker: &str, count: usize) -> Duration {
    let app = app(broker);
    let _worker = self::app(broker).worker().concurrency(1).start().expect("starts");
    // Callers are other programs than workers.
    let mut times: Vec<Duration> = (0..count)
        .map(|number| {
            let start = Instant::now();
            let sent = app.delay::<add>((number as u64, 1)).expect("sent");
            sent.get(Duration::from_secs(60)).expect("a value");
            start.elapsed()
        })
        .collect();
    times.sort();
    times[count / 2]
}

/// There and back with nothing in between: a confirmed publish, an acknowledgement, and an answer to another queue.
fn bare_round_trip(broker: &str, count: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let connect = || async {
            let connection = Connection::connect(broker, ConnectionProperties::default())
                .await
                .expect("connects");
            let channel = connection.create_channel().await.expect("a channel");
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .expect("confirms");
            (connection, channel)
        };
        let ((_one, here), (_two, there)) = (connect().await, connect().await);
        for queue in ["bare-there", "bare-back"] {
            let durable = QueueDeclareOptions::durable();
            here.queue_declare(queue.into(), durable, FieldTable::default())
                .await
                .expect("declared");
        }
        let publish = |channel: lapin::Channel, queue: &'static str| async move {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let sent = channel
                .basic_publish(
                    "".into(),
                    queue.into(),
                    BasicPublishOptions::default(),
                    &[b'x'; 700],
                    properties,
                )
                .await;
            sent.expect("published").await.expect("confirmed");
        };
        let options = BasicConsumeOptions::default();
        let served = there
            .basic_consume("bare-there".into(), "".into(), options, FieldTable::default())
            .await
            .expect("consumes");
        let answers = there.clone();
        served.set_delegate(move |delivery: DeliveryResult| {
            let channel = answers.clone();
            async move {
                let Ok(Some(delivery)) = delivery else { return };
                delivery
                    .ack(BasicAckOptions::default())
                    .await
                    .expect("acknowledged");
                publish(channel, "bare-back").await;
            }
        });
        let back = here
            .basic_consume("bare-back".into(), "".into(), options, FieldTable::default())
            .await
            .expect("consumes");
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        back.set_delegate(move |delivery: DeliveryResult| {
            let tell = tell.clone();
            async move {
                let Ok(Some(delivery)) = delivery else { return };
                delivery
                    .ack(BasicAckOptions::default())
                    .await
                    .expect("acknowledged");
                let _ = tell.send(());
            }
        });
        let mut times = Vec::new();
        for _ in 0..count {
            let start = Instant::now();
            publish(here.clone(), "bare-there").await;
            told.recv().await.expect("it comes back");
            times.push(start.elapsed());
        }
        times.sort();
        times[count / 2]
    })
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (rounds, count) = if quick { (1, 3000) } else { (3, 20_000) };
    let rabbit = Rabbit::start().expect("a server");
    let broker = rabbit.url();
    let celery = Celery::new(&broker, "rpc://");
    for results in [false, true] {
        let kind = if results {
            "results to the caller"
        } else {
            "no results"
        };
        let (mut own, mut floor, mut python) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            floor.push(bare(&broker, count, results));
            own.push(ours(&broker, count, results));
            if let Ok(celery) = &celery {
                python.push(theirs(celery, &broker, count / 4, results));
            }
        }
        let (own, floor) = (median(own), median(floor));
        println!(
            "{kind}: {:.0} a second, {:.2} of bare lapin's {:.0}; processor {:.0} us a task, {:.2} x",
            own.rate,
            own.rate / floor.rate,
            floor.rate,
            own.micros,
            own.micros / floor.micros
        );
        python.sort_by(f64::total_cmp);
        match python.get(python.len() / 2) {
            Some(rate) => println!(
                "  Celery's worker of two processes: {rate:.0}, we are {:.1} x",
                own.rate / rate
            ),
            None => println!(
                "  no Celery here: {}",
                celery.as_ref().err().map(ToString::to_string).unwrap_or_default()
            ),
        }
    }
    let ways = [
        (false, "one by one", Sends::Unconfirmed),
        (true, "one by one", Sends::OneByOne),
        (true, "by 8 threads", Sends::ByEightThreads),
        (true, "together", Sends::Together),
    ];
    let rates = ways.map(|(confirms, what, how)| (confirms, what, whole_way(&broker, count, how)));
    println!("from a producer to a worker and back, a second:");
    for confirms in [false, true] {
        let kind = if confirms { "confirmed" } else { "unconfirmed" };
        let theirs = celery.as_ref().ok();
        let theirs = theirs.and_then(|celery| their_whole_way(celery, count / 4, confirms));
        for (_, what, rate) in rates.iter().filter(|(same, ..)| *same == confirms) {
            let times = theirs.map_or(String::new(), |theirs| {
                format!(", {:.1} x Celery's {theirs:.0}", rate / theirs)
            });
            println!("  {kind}, {what}: {rate:.0}{times}");
        }
    }
    let trips = count / 20;
    let (own, floor) = (round_trip(&broker, trips), bare_round_trip(&broker, trips));
    println!(
        "from a call to its value, p50: {} us, {:.2} x a bare round trip of {} us",
        own.as_micros(),
        own.as_secs_f64() / floor.as_secs_f64(),
        floor.as_micros()
    );
}
