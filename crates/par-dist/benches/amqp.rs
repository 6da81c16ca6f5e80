//! Tiny tasks drained from a full queue on RabbitMQ: this crate, a bare loop over the same client, and Celery, on one server by turns.
//!
//! `cargo bench -p par-dist --features amqp --bench amqp [ours]`: with `ours`, without Celery. Celery is looked for in the Python
//! that `PYTHON` names, else in `python3`. Medians; the clock starts when a tenth has been taken, so that nobody's start counts.

#[path = "../tests/support/rabbit.rs"]
#[allow(dead_code, reason = "each program uses its part of it")]
mod rabbit;

use par_dist::probe::bare;
use par_dist::{ChunkPlan, ClusterPool, Options, Plan, Worker};
use rabbit::Rabbit;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Error = Box<dyn std::error::Error>;

const TASKS: u64 = 20_000;
/// Celery takes longer.
const CELERY_TASKS: u64 = 5_000;
const ROUNDS: usize = 5;
const WORKERS: usize = 2;
const PREFETCH: u16 = 128;

#[par_dist::task]
fn step(x: u64) -> u64 {
    spin(x)
}

fn spin(x: u64) -> u64 {
    x.wrapping_mul(6_364_136_223_846_793_005).rotate_left(17)
}

/// Processes that end with the value.
struct Workers(Vec<Child>);

impl Workers {
    fn start(command: impl Fn() -> Command) -> Result<Self, Error> {
        let mut workers = Workers(Vec::new());
        for _ in 0..WORKERS {
            let child = command().stdin(Stdio::null()).stderr(Stdio::null()).spawn()?;
            workers.0.push(child);
        }
        Ok(workers)
    }

    fn of_this_program(arguments: &[&str]) -> Result<Self, Error> {
        let program = std::env::current_exe()?;
        Self::start(|| {
            let mut command = Command::new(&program);
            command.args(arguments);
            command
        })
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits until a tenth of the messages has left the queue.
fn tenth(url: &str, queue: &str, of: u64) -> Result<Instant, Error> {
    let until = Instant::now() + Duration::from_secs(60);
    while bare::ready(url, queue)? > of - of / 10 {
        if Instant::now() > until {
            return Err(format!("nobody works on {queue}").into());
        }
    }
    Ok(Instant::now())
}

fn rate(of: u64, since: Instant) -> f64 {
    (of - of / 10) as f64 / since.elapsed().as_secs_f64()
}

/// Tasks a second of this crate.
fn ours(url: &str, round: usize) -> Result<f64, Error> {
    let queue = format!("bench {round}");
    let options = Options {
        broker: Some(url.into()),
        queue: queue.clone(),
        local_workers: false,
        published: TASKS as usize,
        ..Options::default()
    };
    let pool = ClusterPool::builder().workers(1).options(options).build()?;
    let single = pool.with_plan(Plan::default().chunk(ChunkPlan::Fixed(1)));
    std::thread::scope(|scope| {
        let map = scope.spawn(|| single.map::<step>(0..TASKS));
        while pool.engine().waiting()? < TASKS {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _workers = Workers::of_this_program(&["work", url, &queue])?;
        let since = tenth(url, &format!("par.work.{queue}"), TASKS)?;
        black_box(map.join().map_err(|_| "a panic")??);
        Ok(rate(TASKS, since))
    })
}

/// Tasks a second of the bare loop, with so many answers in a message.
fn bare_loop(url: &str, round: usize, batch: usize) -> Result<f64, Error> {
    let (queue, results) = (
        format!("bare.{round}.{batch}"),
        format!("results.{round}.{batch}"),
    );
    bare::fill(url, &queue, &results, TASKS)?;
    let rate = {
        let _workers = Workers::of_this_program(&["bare", url, &queue, &results, &batch.to_string()])?;
        let since = tenth(url, &queue, TASKS)?;
        bare::collect(url, &results, TASKS)?;
        rate(TASKS, since)
    };
    bare::remove(url, &[&queue, &results])?;
    Ok(rate)
}

const CELERY: &str = r#"
import sys
from celery import Celery

url, queue, backend = sys.argv[1:4] if __name__ == "__main__" else __import__("os").environ["BENCH"].split(" ")
app = Celery("bench", broker=url, backend="rpc://" if backend == "rpc" else None)
app.conf.update(task_default_queue=queue, task_ignore_result=backend != "rpc", worker_prefetch_multiplier=64,
                worker_send_task_events=False, broker_connection_retry_on_startup=True)

@app.task(name="bench.step")
def step(x):
    return (x * 6364136223846793005) & 0xffffffffffffffff

if __name__ == "__main__":
    results = [step.delay(x) for x in range(int(sys.argv[4]))]
    print("published", flush=True)
    if backend == "rpc":
        for result in results:
            result.get()
        print("collected", flush=True)
"#;

/// A Python that has Celery.
fn python() -> Result<PathBuf, String> {
    let python = std::env::var_os("PYTHON").map_or_else(|| "python3".into(), PathBuf::from);
    let output = Command::new(&python)
        .args(["-c", "import celery; print(celery.__version__)"])
        .output()
        .map_err(|error| format!("{}: {error}", python.display()))?;
    if !output.status.success() {
        return Err(format!("{} has no celery: pip install celery", python.display()));
    }
    println!("Celery {}", String::from_utf8_lossy(&output.stdout).trim());
    Ok(python)
}

/// Tasks a second of Celery.
fn celery(python: &Path, url: &str, folder: &Path, round: usize, results: bool) -> Result<f64, Error> {
    std::fs::write(folder.join("bench_celery.py"), CELERY)?;
    let backend = if results { "rpc" } else { "none" };
    let queue = format!("celery.{round}.{backend}");
    // Its client does not read an escaped virtual host as we do: the default one is two slashes.
    let broker = url
        .replace("amqp://", "amqp://guest:guest@")
        .replace("/%2f", "//");
    let mut client = Workers(vec![
        Command::new(python)
            .current_dir(folder)
            .args([
                "bench_celery.py",
                &broker,
                &queue,
                backend,
                &CELERY_TASKS.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?,
    ]);
    let stdout = client.0[0].stdout.take().ok_or("no output")?;
    let mut lines = BufReader::new(stdout).lines();
    let mut said = |what: &str| match lines.next() {
        Some(Ok(line)) if line == what => Ok(()),
        other => Err(format!("the client of Celery said {other:?} instead of {what:?}")),
    };
    said("published")?;
    let mut worker = Command::new(python);
    worker
        .current_dir(folder)
        .env("BENCH", format!("{broker} {queue} {backend}"))
        .args([
            "-m",
            "celery",
            "-A",
            "bench_celery",
            "worker",
            "-P",
            "prefork",
            "-l",
            "error",
        ])
        .args([
            "-c",
            &WORKERS.to_string(),
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ])
        .args(["-Q", &queue, "-n", &format!("bench{round}{backend}@localhost")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut worker = worker.spawn()?;
    let measured = (|| {
        let since = tenth(url, &queue, CELERY_TASKS)?;
        if results {
            said("collected")?;
        } else {
            while bare::ready(url, &queue)? > 0 {}
        }
        Ok(rate(CELERY_TASKS, since))
    })();
    // Its parent ends its children.
    let _ = Command::new("kill")
        .args(["-TERM", &worker.id().to_string()])
        .status();
    let _ = worker.wait();
    measured
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn bench(with_celery: bool) -> Result<(), Error> {
    let server = Rabbit::start()?;
    let url = server.url();
    let folder = tempfile::tempdir()?;
    println!(
        "tiny tasks a second from a full queue, {WORKERS} workers, prefetch {PREFETCH} (medians of {ROUNDS} by turns)"
    );
    let python = if with_celery {
        match python() {
            Ok(python) => Some(python),
            Err(reason) => {
                println!("  Celery is not measured: {reason}");
                None
            }
        }
    } else {
        None
    };
    let names = [
        "this crate",
        "bare client, a message a result",
        "bare client, 64 results a message",
        "Celery, without results",
        "Celery, rpc:// results",
    ];
    let mut rates: [Vec<f64>; 5] = Default::default();
    for round in 0..ROUNDS {
        rates[0].push(ours(&url, round)?);
        rates[1].push(bare_loop(&url, round, 1)?);
        rates[2].push(bare_loop(&url, round, 64)?);
        if let Some(python) = &python {
            rates[3].push(celery(python, &url, folder.path(), round, false)?);
            rates[4].push(celery(python, &url, folder.path(), round, true)?);
        }
        print!(".");
        std::io::stdout().flush()?;
    }
    println!();
    let medians = rates.map(|mut rates| (!rates.is_empty()).then(|| median(&mut rates)));
    let targets = ["", "0.8", "0.8", "2.5", "2.5"];
    for ((name, median), target) in names.iter().zip(medians).zip(targets) {
        let (Some(median), Some(first)) = (median, medians[0]) else {
            continue;
        };
        let target = if target.is_empty() {
            String::new()
        } else {
            format!(
                "  this crate is {:.2} x (target: at least {target})",
                first / median
            )
        };
        println!("  {name:<36} {median:>8.0} /s{target}");
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["work", url, queue] => Ok(Worker::new(url).queue(queue).prefetch(PREFETCH.into()).run()?),
        ["bare", url, queue, results, batch] => {
            Ok(bare::work(url, queue, results, PREFETCH, batch.parse()?, spin)?)
        }
        ["ours"] => bench(false),
        _ => bench(true),
    }
}
