//! `cargo xtask bench`: the workloads on every engine, beside the serial program, compared to the last bit.
//!
//! - [`pi`], [`mandelbrot`], [`wordcount`], [`sum`]: the workloads, as plain functions of an item.
//! - [`runner`]: what an engine must be able to run, and the serial program.
//! - [`engines`]: the engines that there are; [`busy`]: what their workers did with their time.
//! - [`report`]: the rows, the file and the table.

mod busy;
mod digest;
mod engines;
mod mandelbrot;
mod philox;
mod pi;
mod report;
mod runner;
mod sum;
mod wordcount;

use crate::{Error, command};
use busy::Busy;
use engines::{ENGINES, Engine};
use indicatif::{ProgressBar, ProgressStyle};
use report::{Machine, Report, Timing};
use runner::{Jobs, Output, Runner, Serial, WORKLOADS, Workload};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Smaller workloads and fewer repetitions: seconds instead of minutes
    #[arg(long)]
    quick: bool,
    /// Text for the word count: a file or a folder. Default: sources of the packages that cargo has unpacked
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Engines to measure; all where none is named
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    engines: Option<Vec<String>>,
    /// Numbers of workers; by default 1, 2, 4, .. up to the cores of the machine
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    workers: Option<Vec<usize>>,
}

/// Measures, writes target/par-bench/report.json and the picture beside it, and prints the table.
///
/// # Errors
/// A bad option, an engine that fails, a file that cannot be written, or two results that differ.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let engines = choose_engines(options.engines.as_deref())?;
    let workers = choose_workers(options.workers.as_deref(), cores)?;
    if cfg!(debug_assertions) {
        return rerun_optimised();
    }
    let mut jobs = Jobs::new(options.quick, options.input.as_deref())?;
    if options.quick && options.input.is_none() {
        jobs.text.shorten(16 << 20);
    }
    println!("{jobs}\n");
    let folder = command::root().join("target").join("par-bench");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let report = Report::new(
        format!("cargo xtask {}", arguments.join(" ")),
        Machine::here(cores),
    );
    let report = measure(
        report,
        &jobs,
        &engines,
        &workers,
        if options.quick { 3 } else { 5 },
        &folder,
    )?;
    let file = report.write(&folder)?;
    print!("{}", report.table()?);
    println!("report: {}", file.display());
    report.check_digests()
}

/// Starts this command again as a release build: cargo runs xtask without optimisation.
fn rerun_optimised() -> Result<(), Error> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args([
        "run",
        "--release",
        "--quiet",
        "--package",
        "xtask",
        "--manifest-path",
    ]);
    // The working directory stays the caller's, so that a relative --input means what it says.
    cargo
        .arg(command::root().join("Cargo.toml"))
        .arg("--")
        .args(std::env::args_os().skip(1));
    let status = cargo.status()?;
    // The release build has said what was wrong.
    if status.success() {
        Ok(())
    } else {
        std::process::exit(status.code().unwrap_or(1))
    }
}

fn choose_engines(names: Option<&[String]>) -> Result<Vec<&'static Engine>, Error> {
    let Some(names) = names else {
        return Ok(ENGINES.iter().collect());
    };
    names
        .iter()
        .filter(|name| *name != Serial::NAME)
        .map(|name| {
            ENGINES.iter().find(|engine| engine.name == name).ok_or_else(|| {
                let known = ENGINES.iter().map(|engine| engine.name);
                let known: Vec<_> = std::iter::once(Serial::NAME).chain(known).collect();
                format!("unknown engine {name:?}: known are {}", known.join(", ")).into()
            })
        })
        .collect()
}

fn choose_workers(counts: Option<&[usize]>, cores: usize) -> Result<Vec<usize>, Error> {
    let mut counts = match counts {
        Some(counts) => counts.to_vec(),
        None => (0..usize::BITS)
            .map(|power| 1 << power)
            .take_while(|count| *count < cores)
            .chain([cores])
            .collect(),
    };
    if counts.contains(&0) {
        return Err("0 workers: expected at least 1".into());
    }
    counts.sort_unstable();
    counts.dedup();
    Ok(counts)
}

fn measure(
    mut report: Report,
    jobs: &Jobs,
    engines: &[&Engine],
    workers: &[usize],
    repeats: usize,
    folder: &Path,
) -> Result<Report, Error> {
    let runs = (1 + engines.len() * workers.len()) * WORKLOADS.len() * (repeats + 1);
    let bar = progress(runs as u64);
    for workload in WORKLOADS {
        let (timing, output) = time(workload, &Serial, jobs, repeats, &bar, Serial::NAME, None)?;
        report.add(workload.name, Serial::NAME, 1, &timing, output.digest())?;
        report.results.extend(output.words());
        if let Output::Rows(rows) = &output {
            std::fs::create_dir_all(folder)?;
            let file = folder.join("mandelbrot.png");
            mandelbrot::write_png(&file, jobs.view, rows)
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    for engine in engines {
        for &count in workers {
            let failed = |error: Error| format!("{} with {count} workers: {error}", engine.name);
            let runner = (engine.start)(count).map_err(failed)?;
            let busy = runner.count_time();
            for workload in WORKLOADS {
                let (timing, output) = time(
                    workload,
                    &*runner,
                    jobs,
                    repeats,
                    &bar,
                    engine.name,
                    busy.as_deref(),
                )
                .map_err(failed)?;
                report.add(workload.name, engine.name, count, &timing, output.digest())?;
            }
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Runs a workload once to warm up and then `repeats` times, and returns the times of the latter.
fn time(
    workload: &Workload,
    runner: &dyn Runner,
    jobs: &Jobs,
    repeats: usize,
    bar: &ProgressBar,
    engine: &str,
    busy: Option<&Busy>,
) -> Result<(Timing, Output), Error> {
    bar.set_message(format!("{} on {engine}", workload.name));
    let first = (workload.run)(runner, jobs)?;
    bar.inc(1);
    let mut seconds = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        busy.map(Busy::take);
        let started = Instant::now();
        let output = (workload.run)(runner, jobs)?;
        let took = started.elapsed().as_secs_f64();
        seconds.push((took, busy.map(|busy| busy.take().as_secs_f64())));
        bar.inc(1);
        if output.digest() != first.digest() {
            return Err(format!(
                "{}: two runs gave {} and {}",
                workload.name,
                first.digest(),
                output.digest()
            )
            .into());
        }
    }
    Ok((Timing::of(seconds)?, first))
}

/// A bar on a terminal; nothing where standard error is a pipe or a file.
fn progress(runs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos}/{len} {msg}");
    ProgressBar::new(runs).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_checked() {
        assert_eq!(choose_workers(None, 1).unwrap(), [1]);
        assert_eq!(choose_workers(None, 6).unwrap(), [1, 2, 4, 6]);
        assert_eq!(choose_workers(None, 8).unwrap(), [1, 2, 4, 8]);
        assert_eq!(choose_workers(Some(&[4, 1, 4]), 2).unwrap(), [1, 4]);
        assert_eq!(
            choose_workers(Some(&[1, 0]), 2).unwrap_err().to_string(),
            "0 workers: expected at least 1"
        );
    }

    #[test]
    fn unknown_engine_names_the_known() {
        let error = choose_engines(Some(&["abacus".to_owned()]))
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.starts_with("unknown engine \"abacus\": known are serial"),
            "{error}"
        );
        assert!(choose_engines(Some(&["serial".to_owned()])).unwrap().is_empty());
    }

    /// An engine whose word count is right and whose sum is off by one bit.
    struct Broken;

    impl Runner for Broken {
        fn pi(&self, blocks: u64) -> Result<u64, Error> {
            Serial.pi(blocks)
        }
        fn mandelbrot(&self, view: mandelbrot::View) -> Result<Vec<Vec<u32>>, Error> {
            Serial.mandelbrot(view)
        }
        fn wordcount(&self, batches: &[Vec<String>]) -> Result<wordcount::Counts, Error> {
            Serial.wordcount(batches)
        }
        fn sum(&self, numbers: u64) -> Result<f64, Error> {
            Serial.sum(numbers).map(f64::next_up)
        }
    }

    #[test]
    fn a_difference_of_one_bit_is_found_and_the_files_are_written() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("text.md"), "to be or not to be").unwrap();
        let jobs = Jobs {
            blocks: 1,
            view: mandelbrot::View {
                width: 8,
                height: 8,
                limit: 20,
            },
            numbers: 2000,
            text: wordcount::find(Some(folder.path())).unwrap(),
        };
        let report = Report::new("test".to_owned(), Machine::here(2));
        let engine = Engine {
            name: "broken",
            start: |_| Ok(Box::new(Broken)),
        };
        let report = measure(report, &jobs, &[&engine], &[1, 2], 2, folder.path()).unwrap();
        assert_eq!(report.rows.len(), 4 * 3);
        let error = report.check_digests().unwrap_err().to_string();
        assert!(
            error.contains("sum: serial gave") && error.contains("broken with 1 workers gave"),
            "{error}"
        );
        assert!(!error.contains("wordcount") && !error.contains("pi:"), "{error}");

        let file = report.write(folder.path()).unwrap();
        let back: Report = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        assert_eq!(back, report);
        assert!(folder.path().join("mandelbrot.png").exists());
        let table = report.table().unwrap();
        assert!(
            table.contains("be 2, to 2, not 1, or 1") && table.contains("broken"),
            "{table}"
        );
    }
}
