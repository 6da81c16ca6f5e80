//! How well a program scales: speedup, efficiency, scalability, the Karp-Flatt fraction, and the laws that bound them.
//!
//! [`Metrics`] holds measured times, [`amdahl`] and [`gustafson`] say what may be hoped for, the `fit_` functions find a
//! law's parameters from speedups, and [`Metrics::verdict`] says in words what limits the program.
//!
//! ```
//! use par_core::metrics::{Metrics, amdahl, fit_amdahl};
//!
//! // Serial program: 10 s. Parallel program: 10 s on one worker, 5.5 s on two, 3.25 s on four.
//! let metrics = Metrics::new(10.0, [(1, 10.0), (2, 5.5), (4, 3.25)])?;
//! let four = &metrics.rows()[2];
//! assert!((four.speedup - 3.077).abs() < 1e-3);
//! assert!((four.efficiency - 0.769).abs() < 1e-3);
//! assert!((four.karp_flatt.unwrap() - 0.1).abs() < 1e-9);
//!
//! let fit = fit_amdahl(&metrics.speedups())?;
//! assert!((fit.serial_fraction - 0.1).abs() < 1e-9);
//! assert!((amdahl(0.9, f64::INFINITY)? - 10.0).abs() < 1e-9);
//! # Ok::<(), par_core::metrics::MetricsError>(())
//! ```

mod fit;
mod verdict;

pub use fit::{AmdahlFit, GustafsonFit, UslFit, fit_amdahl, fit_gustafson, fit_usl};
pub use verdict::Verdict;

use serde::{Deserialize, Serialize};

/// What was wrong with an input of this module, and what was expected.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// There was nothing to measure.
    #[error("no measured points: expected at least one pair of workers and seconds")]
    NoPoints,
    /// A time that cannot be: zero, negative, NaN, infinite, or so extreme that its ratio to the serial time is.
    #[error("{what} took {seconds} seconds: expected a finite time above 0, within range of the serial time")]
    Seconds {
        /// Which time it was.
        what: &'static str,
        /// The time that was given.
        seconds: f64,
    },
    /// A number of workers that cannot be.
    #[error("{workers} workers: expected at least 1")]
    Workers {
        /// The number that was given.
        workers: f64,
    },
    /// Two times for one number of workers.
    #[error(
        "two points for {workers} workers: expected one, such as the minimum or the median of several runs"
    )]
    Duplicate {
        /// The number that was given twice.
        workers: usize,
    },
    /// A fraction outside 0 to 1.
    #[error("{what} is {value}: expected a number from 0 to 1")]
    Fraction {
        /// Which fraction it was.
        what: &'static str,
        /// The value that was given.
        value: f64,
    },
    /// A speedup that cannot be.
    #[error("speedup {value} at {workers} workers: expected a finite number above 0")]
    Speedup {
        /// The number of workers it was given for.
        workers: usize,
        /// The value that was given.
        value: f64,
    },
    /// Too few points to determine a law's parameters.
    #[error("fit of {law}: expected at least {needed} different worker counts above 1, got {got}")]
    TooFewPoints {
        /// The law to be fitted.
        law: &'static str,
        /// How many different counts above one worker the fit needs.
        needed: usize,
        /// How many there were.
        got: usize,
    },
}

/// What one measured point says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// Number of workers, p.
    pub workers: usize,
    /// Time on p workers, in seconds.
    pub seconds: f64,
    /// Absolute speedup: time of the best serial program over the time on p workers.
    pub speedup: f64,
    /// Relative speedup: time of the parallel program on one worker over the time on p. None where one worker was not measured.
    pub relative_speedup: Option<f64>,
    /// Absolute speedup per worker; 1 is ideal.
    pub efficiency: f64,
    /// Share of the added power that became speed since the next smaller count q: `(q * T_q) / (p * T_p)`; 1 is ideal.
    /// None for the smallest count.
    pub scalability: Option<f64>,
    /// Serial fraction found by experiment, `(1/S - 1/p) / (1 - 1/p)`; below 0 for a superlinear speedup S. None for one
    /// worker. After A. H. Karp and H. P. Flatt, "Measuring parallel processor performance", CACM 33(5), 1990.
    pub karp_flatt: Option<f64>,
}

/// Measured times of one program: the best serial version, and the parallel one at several numbers of workers.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    serial_seconds: f64,
    cores: Option<usize>,
    /// By rising workers, each once.
    points: Vec<(usize, f64)>,
}

impl Metrics {
    /// Takes the seconds of the best serial program, and pairs of workers and seconds in any order.
    ///
    /// # Errors
    /// A time that is not finite and above 0, no points, zero workers, or two points for one number of workers.
    ///
    /// ```
    /// use par_core::metrics::{Metrics, MetricsError};
    /// assert_eq!(Metrics::new(1.0, []), Err(MetricsError::NoPoints));
    /// assert_eq!(Metrics::new(1.0, [(0, 1.0)]).unwrap_err().to_string(), "0 workers: expected at least 1");
    /// ```
    pub fn new(
        serial_seconds: f64,
        points: impl IntoIterator<Item = (usize, f64)>,
    ) -> Result<Self, MetricsError> {
        if !(serial_seconds.is_finite() && serial_seconds > 0.0) {
            return Err(MetricsError::Seconds {
                what: "the serial program",
                seconds: serial_seconds,
            });
        }
        let mut points: Vec<_> = points.into_iter().collect();
        if points.is_empty() {
            return Err(MetricsError::NoPoints);
        }
        points.sort_by_key(|&(workers, _)| workers);
        for (index, &(workers, seconds)) in points.iter().enumerate() {
            if workers == 0 {
                return Err(MetricsError::Workers { workers: 0.0 });
            }
            // The ratio is checked too: from here on, no division gives 0, infinity or NaN.
            let plausible =
                seconds > 0.0 && seconds.is_finite() && ratios_hold(serial_seconds, points[0].1, seconds);
            if !plausible {
                return Err(MetricsError::Seconds {
                    what: "a parallel run",
                    seconds,
                });
            }
            if index > 0 && points[index - 1].0 == workers {
                return Err(MetricsError::Duplicate { workers });
            }
        }
        Ok(Self {
            serial_seconds,
            cores: None,
            points,
        })
    }

    /// Says how many processor cores the machine has, so that [`verdict`](Self::verdict) can tell a lack of cores from
    /// a fault of the program. Zero is taken as unknown.
    #[must_use]
    pub fn with_cores(mut self, cores: usize) -> Self {
        self.cores = (cores > 0).then_some(cores);
        self
    }

    /// Seconds of the best serial program.
    #[must_use]
    pub fn serial_seconds(&self) -> f64 {
        self.serial_seconds
    }

    /// A row for each point, by rising number of workers.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        let one_worker = self
            .points
            .first()
            .filter(|point| point.0 == 1)
            .map(|point| point.1);
        let mut previous: Option<(usize, f64)> = None;
        self.points
            .iter()
            .map(|&(workers, seconds)| {
                let speedup = self.serial_seconds / seconds;
                let row = Row {
                    workers,
                    seconds,
                    speedup,
                    relative_speedup: one_worker.map(|one| one / seconds),
                    efficiency: speedup / workers as f64,
                    scalability: previous.map(|(q, t)| (t / seconds) * (q as f64 / workers as f64)),
                    karp_flatt: karp_flatt(speedup, workers),
                };
                previous = Some((workers, seconds));
                row
            })
            .collect()
    }

    /// Pairs of workers and absolute speedup, as the `fit_` functions take them.
    #[must_use]
    pub fn speedups(&self) -> Vec<(usize, f64)> {
        self.points
            .iter()
            .map(|&(workers, seconds)| (workers, self.serial_seconds / seconds))
            .collect()
    }
}

/// Whether the ratios that are ever taken of these times are ordinary numbers.
fn ratios_hold(serial: f64, first: f64, seconds: f64) -> bool {
    [
        serial / seconds,
        seconds / serial,
        first / seconds,
        seconds / first,
    ]
    .iter()
    .all(|ratio| ratio.is_normal())
}

fn karp_flatt(speedup: f64, workers: usize) -> Option<f64> {
    let share = 1.0 / workers as f64;
    (workers > 1).then(|| (1.0 / speedup - share) / (1.0 - share))
}

/// Speedup of a problem of fixed size by Amdahl's law, `1 / ((1 - P) + P / p)`, for the fraction P of the serial time
/// that runs in parallel. `workers` may be [`f64::INFINITY`], which gives the limit.
///
/// After G. M. Amdahl, "Validity of the single processor approach to achieving large scale computing capabilities",
/// AFIPS 1967.
///
/// # Errors
/// A fraction outside 0 to 1, or less than one worker.
///
/// ```
/// use par_core::metrics::amdahl;
/// assert_eq!(format!("{:.3}", amdahl(0.9, 10.0)?), "5.263");
/// assert_eq!(format!("{:.3}", amdahl(0.9, f64::INFINITY)?), "10.000");
/// # Ok::<(), par_core::metrics::MetricsError>(())
/// ```
pub fn amdahl(parallel_fraction: f64, workers: f64) -> Result<f64, MetricsError> {
    check_fraction("parallel fraction", parallel_fraction)?;
    check_workers(workers)?;
    Ok(1.0 / ((1.0 - parallel_fraction) + parallel_fraction / workers))
}

/// Speedup of a problem that grows with the workers, by Gustafson's law, `p - a * (p - 1)`, for the fraction a of the
/// parallel program's time that is serial.
///
/// After J. L. Gustafson, "Reevaluating Amdahl's law", CACM 31(5), 1988.
///
/// # Errors
/// A fraction outside 0 to 1, or less than one worker.
///
/// ```
/// use par_core::metrics::gustafson;
/// assert_eq!(format!("{:.1}", gustafson(10.0, 0.1)?), "9.1");
/// # Ok::<(), par_core::metrics::MetricsError>(())
/// ```
pub fn gustafson(workers: f64, serial_fraction: f64) -> Result<f64, MetricsError> {
    check_workers(workers)?;
    check_fraction("serial fraction", serial_fraction)?;
    // A wholly serial program never gains; the formula would take infinity from infinity.
    Ok(if serial_fraction == 1.0 {
        1.0
    } else {
        serial_fraction + (1.0 - serial_fraction) * workers
    })
}

fn check_fraction(what: &'static str, value: f64) -> Result<(), MetricsError> {
    if (0.0..=1.0).contains(&value) {
        Ok(())
    } else {
        Err(MetricsError::Fraction { what, value })
    }
}

fn check_workers(workers: f64) -> Result<(), MetricsError> {
    if workers >= 1.0 {
        Ok(())
    } else {
        Err(MetricsError::Workers { workers })
    }
}

#[cfg(test)]
mod tests;
