//! `cargo xtask bench`: the workloads on every engine, beside the serial program, compared to the last bit.
//!
//! - [`pi`], [`mandelbrot`], [`wordcount`], [`sum`]: the workloads, as plain functions of an item.
//! - [`runner`]: what an engine must be able to run, and the serial program.
//! - [`engines`]: the engines that there are.
//! - [`measure`]: times and traces; [`busy`]: what the workers did with their time; [`scaling`]: what limits them.
//! - [`report`]: the rows, the file and the table; [`page`] and [`plot`]: the same for a browser.

mod busy;
mod digest;
mod engines;
mod mandelbrot;
mod measure;
mod page;
mod philox;
mod pi;
mod plot;
mod report;
mod runner;
mod scaling;
mod sum;
mod wordcount;

use crate::{Error, command};
use engines::{ENGINES, Engine};
use indicatif::{ProgressBar, ProgressStyle};
use measure::{Measured, Setting};
use report::{Machine, Report, Trace};
use runner::{Jobs, Output, Serial, WORKLOADS, Workload};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to measure.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Smaller workloads and fewer repetitions: seconds instead of minutes
    #[arg(long)]
    quick: bool,
    /// Text for the word count: a file or a folder. Default: sources of the packages that cargo has unpacked
    #[arg(long, value_name = "PATH")]
    input: Option<PathBuf>,
    /// Engines to measure; all that can run here where none is named
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    engines: Option<Vec<String>>,
    /// Numbers of workers; by default 1, 2, 4, .. up to the cores of the machine
    #[arg(long, value_name = "N,N", value_delimiter = ',')]
    workers: Option<Vec<usize>>,
    /// Show the report in the browser
    #[arg(long)]
    open: bool,
}

/// The workload that is traced: its rows differ most in what they cost.
const TRACED: &Workload = &WORKLOADS[1];

/// Measures, writes report.json, report.html and the picture into target/par-bench, and prints the table.
///
/// # Errors
/// A bad option, an engine that fails, a file that cannot be written, or two results that differ.
pub(crate) fn run(options: &Options) -> Result<(), Error> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = choose_workers(options.workers.as_deref(), cores)?;
    let engines = choose_engines(options.engines.as_deref())?;
    if cfg!(debug_assertions) {
        return rerun_optimised();
    }
    let runs = (1 + engines.len() * workers.len()) * WORKLOADS.len() * (repeats(options) + 1);
    let setting = setting(options, progress(runs as u64))?;
    println!("{}\n", setting.jobs);
    let folder = command::root().join("target").join("par-bench");
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut report = Report::new(
        format!("cargo xtask {}", arguments.join(" ")),
        Machine::here(cores),
    );
    let bench = Bench {
        setting: &setting,
        workers: &workers,
        traced: widest(&workers, cores),
        folder: &folder,
    };
    bench.serial(&mut report)?;
    for engine in engines {
        bench.engine(engine, &mut report)?;
    }
    setting.bar.finish_and_clear();
    report.conclude()?;
    let page = report.write(&folder)?;
    print!("{}", report.table());
    println!("report: {}", page.display());
    if options.open {
        open::that_detached(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    }
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

fn repeats(options: &Options) -> usize {
    if options.quick { 3 } else { 5 }
}

fn setting(options: &Options, bar: ProgressBar) -> Result<Setting, Error> {
    let mut jobs = Jobs::new(options.quick, options.input.as_deref())?;
    if options.quick && options.input.is_none() {
        jobs.text.shorten(16 << 20);
    }
    Ok(Setting {
        jobs,
        repeats: repeats(options),
        bar,
    })
}

/// The largest number of workers that have a core each, or else the smallest.
fn widest(workers: &[usize], cores: usize) -> usize {
    let on_cores = workers.iter().rfind(|count| **count <= cores);
    on_cores.or(workers.first()).copied().unwrap_or(1)
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

/// A run over engines and numbers of workers.
struct Bench<'a> {
    setting: &'a Setting,
    workers: &'a [usize],
    /// The number of workers that is traced.
    traced: usize,
    folder: &'a Path,
}

impl Bench<'_> {
    fn serial(&self, report: &mut Report) -> Result<(), Error> {
        for workload in WORKLOADS {
            let (timing, output) = self.setting.time(workload, &Serial, Serial::NAME, None)?;
            report.add(workload.name, Serial::NAME, 1, &timing, output.digest())?;
            report.results.extend(output.words());
            if let Output::Rows(rows) = &output {
                let file = self.folder.join("mandelbrot.png");
                mandelbrot::write_png(&file, self.setting.jobs.view, rows)
                    .map_err(|error| format!("{}: {error}", file.display()))?;
            }
        }
        Ok(())
    }

    fn engine(&self, engine: &Engine, report: &mut Report) -> Result<(), Error> {
        for &count in self.workers {
            let name = (count == self.traced).then(|| format!("trace-{}.json", engine.name));
            let trace = name.as_ref().map(|name| self.folder.join(name));
            let measured = self
                .measure(engine, count, trace.as_deref())
                .map_err(|error| format!("{} with {count} workers: {error}", engine.name))?;
            for Measured {
                workload,
                timing,
                digest,
            } in measured
            {
                report.add(workload, engine.name, count, &timing, digest)?;
            }
            report.traces.extend(name.map(|file| Trace {
                engine: engine.name.to_owned(),
                workload: TRACED.name.to_owned(),
                workers: count,
                file,
            }));
        }
        Ok(())
    }

    fn measure(&self, engine: &Engine, count: usize, trace: Option<&Path>) -> Result<Vec<Measured>, Error> {
        let runner = (engine.start)(count)?;
        let measured = self.setting.measure(&*runner, engine.name)?;
        if let Some(file) = trace {
            self.setting.trace(TRACED, &*runner, file)?;
        }
        Ok(measured)
    }
}

/// A bar on a terminal; nothing where standard error is a pipe or a file.
fn progress(runs: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:40}] {pos}/{len} {msg}");
    ProgressBar::new(runs).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::runner::Runner;
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
        let mut report = Report::new("test".to_owned(), Machine::here(2));
        let engine = Engine {
            name: "broken",
            start: |_| Ok(Box::new(Broken)),
        };
        let setting = Setting {
            jobs,
            repeats: 2,
            bar: ProgressBar::hidden(),
        };
        let bench = Bench {
            setting: &setting,
            workers: &[1, 2],
            traced: 2,
            folder: folder.path(),
        };
        bench.serial(&mut report).unwrap();
        bench.engine(&engine, &mut report).unwrap();
        report.conclude().unwrap();
        assert_eq!(report.rows.len(), 4 * 3);
        let error = report.check_digests().unwrap_err().to_string();
        assert!(
            error.contains("sum: serial gave") && error.contains("broken with 1 workers gave"),
            "{error}"
        );
        assert!(!error.contains("wordcount") && !error.contains("pi:"), "{error}");

        let page = std::fs::read_to_string(report.write(folder.path()).unwrap()).unwrap();
        let json = std::fs::read(folder.path().join("report.json")).unwrap();
        let back: Report = serde_json::from_slice(&json).unwrap();
        assert_eq!(back, report);
        assert_eq!(page::page(&back).unwrap(), page);
        assert!(
            page.contains("results differ") && page.contains("trace-broken.json"),
            "{page}"
        );
        assert!(folder.path().join("mandelbrot.png").exists());
        let table = report.table();
        assert!(
            table.contains("be 2, to 2, not 1, or 1") && table.contains("broken"),
            "{table}"
        );
    }
}
