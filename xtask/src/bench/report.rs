//! Rows of a benchmark run, the file they are kept in, and the table that says what limits each engine.

use super::page;
use super::runner::Serial;
use super::scaling::Scaling;
use crate::Error;
use par_core::metrics::Metrics;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

/// Times of the repetitions of one workload on one engine, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timing {
    pub(crate) median: f64,
    pub(crate) minimum: f64,
    /// Seconds inside tasks, of all workers together, in the fastest repetition; None where nobody counts them.
    pub(crate) busy: Option<f64>,
}

impl Timing {
    /// Of repetitions: seconds, and seconds inside tasks.
    ///
    /// # Errors
    /// No times.
    pub(crate) fn of(mut runs: Vec<(f64, Option<f64>)>) -> Result<Self, Error> {
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let n = runs.len();
        let &(minimum, busy) = runs.first().ok_or("no repetition was timed")?;
        Ok(Self {
            median: (runs[(n - 1) / 2].0 + runs[n / 2].0) / 2.0,
            minimum,
            busy,
        })
    }
}

/// One workload on one engine with one number of workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) engine: String,
    pub(crate) workers: usize,
    pub(crate) seconds_median: f64,
    pub(crate) seconds_minimum: f64,
    /// Minimum of the serial program over the minimum here: on a shared machine, the least disturbed runs.
    pub(crate) speedup: f64,
    pub(crate) efficiency: f64,
    /// None with one worker.
    pub(crate) karp_flatt: Option<f64>,
    /// Seconds inside tasks, of all workers together, in the fastest repetition; None for the serial program.
    pub(crate) busy: Option<f64>,
    /// Sixteen hexadecimal digits over the exact bits of the result.
    pub(crate) digest: String,
}

/// What the run was made on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) os: String,
    pub(crate) architecture: String,
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// None where the system does not tell.
    pub(crate) processor: Option<String>,
}

impl Machine {
    pub(crate) fn here(cores: usize) -> Self {
        // Only Linux has this file; its absence says that the model is not known.
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| line.split_once(':'))
            .map(|(_, model)| model.trim().to_owned());
        Self {
            os: std::env::consts::OS.to_owned(),
            architecture: std::env::consts::ARCH.to_owned(),
            cores,
            processor,
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine {
            os,
            architecture,
            cores,
            processor,
        } = self;
        let processor = processor.as_deref().unwrap_or("unknown processor");
        write!(f, "{os} {architecture}, {cores} cores, {processor}")
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The command that made it.
    pub(crate) command: String,
    pub(crate) machine: Machine,
    /// The results in words.
    pub(crate) results: Vec<String>,
    pub(crate) rows: Vec<Row>,
    /// For each workload and engine: fitted laws, and what limits it.
    pub(crate) scaling: Vec<Scaling>,
    /// For each engine: the file, beside this one, that has the trace of one run.
    pub(crate) traces: Vec<Trace>,
    /// What was not measured, and what would change that.
    pub(crate) left_out: Vec<String>,
}

/// A trace in Chrome's format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trace {
    pub(crate) engine: String,
    pub(crate) workload: String,
    pub(crate) workers: usize,
    pub(crate) file: String,
}

impl Report {
    pub(crate) fn new(command: String, machine: Machine) -> Self {
        Self {
            command,
            machine,
            results: Vec::new(),
            rows: Vec::new(),
            scaling: Vec::new(),
            traces: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Adds a row; the serial program's comes first.
    ///
    /// # Errors
    /// The serial program has no row yet, or a time is no time.
    pub(crate) fn add(
        &mut self,
        workload: &str,
        engine: &str,
        workers: usize,
        timing: &Timing,
        digest: String,
    ) -> Result<(), Error> {
        let serial = if engine == Serial::NAME {
            timing.minimum
        } else {
            self.serial(workload)?.seconds_minimum
        };
        let metrics = Metrics::new(serial, [(workers, timing.minimum)])?
            .rows()
            .remove(0);
        self.rows.push(Row {
            workload: workload.to_owned(),
            engine: engine.to_owned(),
            workers,
            seconds_median: timing.median,
            seconds_minimum: timing.minimum,
            speedup: metrics.speedup,
            efficiency: metrics.efficiency,
            karp_flatt: metrics.karp_flatt,
            busy: timing.busy,
            digest,
        });
        Ok(())
    }

    /// Says how everything scales, once all rows are there.
    ///
    /// # Errors
    /// Times that no metrics can be made of.
    pub(crate) fn conclude(&mut self) -> Result<(), Error> {
        let mut scaling = Vec::new();
        for (workload, engine) in self.pairs() {
            let mut rows: Vec<_> = self
                .rows
                .iter()
                .filter(|row| row.workload == workload && row.engine == engine)
                .collect();
            rows.sort_by_key(|row| row.workers);
            let serial = self.serial(workload)?.seconds_minimum;
            scaling.push(Scaling::of(&rows, serial, self.machine.cores)?);
        }
        self.scaling = scaling;
        Ok(())
    }

    fn serial(&self, workload: &str) -> Result<&Row, Error> {
        self.rows
            .iter()
            .find(|row| row.workload == workload && row.engine == Serial::NAME)
            .ok_or_else(|| format!("{workload}: the serial program was not measured").into())
    }

    /// Writes report.json and report.html into a folder: to files beside them first, so that readers see old or new ones.
    ///
    /// # Errors
    /// The folder or a file cannot be written, or a plot cannot be drawn.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf, Error> {
        let page = folder.join("report.html");
        let json = serde_json::to_string_pretty(self)? + "\n";
        for (file, text) in [
            (folder.join("report.json"), json),
            (page.clone(), page::page(self)?),
        ] {
            let beside = file.with_extension(std::process::id().to_string());
            fs::create_dir_all(folder)
                .and_then(|()| fs::write(&beside, text))
                .and_then(|()| fs::rename(&beside, &file))
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        Ok(page)
    }

    /// Every result equals the serial program's, to the last bit.
    ///
    /// # Errors
    /// Names each pair that differs.
    pub(crate) fn check_digests(&self) -> Result<(), Error> {
        let mut different = Vec::new();
        for row in &self.rows {
            let serial = self.serial(&row.workload)?;
            if row.digest != serial.digest {
                different.push(format!(
                    "{}: {} gave {}, {} with {} workers gave {}",
                    row.workload,
                    Serial::NAME,
                    serial.digest,
                    row.engine,
                    row.workers,
                    row.digest
                ));
            }
        }
        if different.is_empty() {
            Ok(())
        } else {
            Err(format!("results differ\n{}", different.join("\n")).into())
        }
    }

    /// The rows, the results, and a sentence for each workload and engine on what limits it.
    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n\n", self.machine);
        text += &format!(
            "{:<11} {:<11} {:>7} {:>10} {:>10} {:>8} {:>10} {:>10}  {}\n",
            "workload",
            "engine",
            "workers",
            "median s",
            "minimum s",
            "speedup",
            "efficiency",
            "Karp-Flatt",
            "digest"
        );
        for row in &self.rows {
            text += &format!(
                "{:<11} {:<11} {:>7} {:>10.4} {:>10.4} {:>8.2} {:>10.2} {:>10}  {}\n",
                row.workload,
                row.engine,
                row.workers,
                row.seconds_median,
                row.seconds_minimum,
                row.speedup,
                row.efficiency,
                row.karp_flatt
                    .map_or_else(|| "-".to_owned(), |fraction| format!("{fraction:.3}")),
                row.digest
            );
        }
        text += &format!("\n{}\n\n", self.results.join("\n"));
        for Scaling {
            workload,
            engine,
            verdict,
            ..
        } in &self.scaling
        {
            text += &format!("{workload} on {engine}: {verdict}\n");
        }
        for left_out in &self.left_out {
            text += &format!("not measured: {left_out}\n");
        }
        text
    }

    /// Workloads and parallel engines that have rows, in their order, each once.
    pub(super) fn pairs(&self) -> Vec<(&str, &str)> {
        let mut pairs = Vec::new();
        for row in self.rows.iter().filter(|row| row.engine != Serial::NAME) {
            let pair = (&*row.workload, &*row.engine);
            if !pairs.contains(&pair) {
                pairs.push(pair);
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("test".to_owned(), Machine::here(4));
        let timing = |seconds| Timing {
            median: seconds * 1.1,
            minimum: seconds,
            busy: Some(9.0),
        };
        for (engine, workers, seconds) in [
            ("serial", 1, 10.0),
            ("threads", 1, 10.0),
            ("threads", 2, 5.5),
            ("threads", 4, 3.25),
        ] {
            report
                .add("pi", engine, workers, &timing(seconds), "aa".to_owned())
                .unwrap();
        }
        report.conclude().unwrap();
        report
    }

    #[test]
    fn timing_is_median_and_minimum() {
        assert_eq!(
            Timing::of(vec![(3.0, None), (1.0, Some(0.5)), (2.0, None)]).unwrap(),
            Timing {
                median: 2.0,
                minimum: 1.0,
                busy: Some(0.5)
            }
        );
        assert_eq!(
            Timing::of(vec![(4.0, None), (1.0, None)]).unwrap(),
            Timing {
                median: 2.5,
                minimum: 1.0,
                busy: None
            }
        );
        assert!(Timing::of(Vec::new()).is_err());
    }

    #[test]
    fn rows_have_the_metrics() {
        let report = report();
        let row = &report.rows[3];
        assert!(
            (row.speedup - 10.0 / 3.25).abs() < 1e-12 && (row.efficiency - row.speedup / 4.0).abs() < 1e-12
        );
        assert!((row.karp_flatt.unwrap() - 0.1).abs() < 1e-9 && report.rows[0].karp_flatt.is_none());
        assert!(report.table().contains("pi on threads: a serial part of 10.0 %"));
        assert!(
            report
                .table()
                .contains("with 4 its workers were inside tasks 69 % of the time")
        );
        assert!(
            Report::new(String::new(), Machine::here(1))
                .add(
                    "pi",
                    "threads",
                    1,
                    &Timing {
                        median: 1.0,
                        minimum: 1.0,
                        busy: None
                    },
                    String::new()
                )
                .is_err()
        );
    }

    #[test]
    fn differences_name_the_pair() {
        let mut report = report();
        assert!(report.check_digests().is_ok());
        report.rows[2].digest = "bb".to_owned();
        let error = report.check_digests().unwrap_err().to_string();
        assert_eq!(
            error,
            "results differ\npi: serial gave aa, threads with 2 workers gave bb"
        );
    }

    #[test]
    fn unwritable_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(
            report()
                .write(&file)
                .unwrap_err()
                .to_string()
                .contains("report.json")
        );
    }
}
