//! What limits a program, in words, from its measured times.

use super::{Metrics, Row, amdahl, fit_amdahl};
use std::fmt;

/// What limits a program; its `Display` is a sentence for people.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// Only one worker was measured.
    OneWorker {
        /// Time of the parallel program on one worker over the serial program's.
        cost: f64,
    },
    /// Slower than the serial program at every number of workers.
    NeverFaster {
        /// The best speedup, at most 1.
        speedup: f64,
    },
    /// Near the ideal at the largest number of workers that have a core each.
    NearIdeal {
        /// That number of workers.
        workers: usize,
        /// Efficiency there.
        efficiency: f64,
    },
    /// Faster than the ideal at the largest number of workers that have a core each.
    Superlinear {
        /// That number of workers.
        workers: usize,
        /// Speedup there.
        speedup: f64,
    },
    /// More workers made it slower, while each still had a core.
    Retrograde {
        /// Number of workers with the least time.
        best: usize,
        /// The larger number that took longer.
        worse: usize,
    },
    /// A growing Karp-Flatt fraction: overhead that grows with the workers.
    GrowingOverhead {
        /// Fraction at the smallest number of workers above one.
        from: f64,
        /// Fraction at the largest.
        to: f64,
    },
    /// A steady Karp-Flatt fraction: a serial part, so Amdahl's law sets the limit.
    SerialPart {
        /// The fitted serial fraction.
        fraction: f64,
        /// Speedup that no number of workers exceeds.
        limit: f64,
    },
    /// The parallel program on one worker is much slower than the serial one, and scales well from there.
    LayerCost {
        /// Time on one worker over the serial time.
        cost: f64,
    },
    /// One number of workers above one with a core each: too little to tell a serial part from overhead.
    TooFewCounts {
        /// Number of workers measured.
        workers: usize,
        /// Karp-Flatt fraction there.
        fraction: f64,
    },
    /// Every measured number of workers above one exceeds the cores.
    TooFewCores {
        /// Cores of the machine.
        cores: usize,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OneWorker { cost } => write!(
                f,
                "only one worker was measured, at {cost:.2} x the serial time: nothing can be said about scaling"
            ),
            Self::NeverFaster { speedup } => write!(
                f,
                "never faster than the serial program (best speedup {speedup:.2}): overhead exceeds the work; give each task more to do"
            ),
            Self::NearIdeal { workers, efficiency } => {
                write!(
                    f,
                    "near ideal: efficiency {efficiency:.2} on {workers} workers; nothing limits it yet"
                )
            }
            Self::Superlinear { workers, speedup } => write!(
                f,
                "superlinear: a speedup of {speedup:.1} on {workers} workers; it does the work in another way than the serial program (vectors, caches)"
            ),
            Self::Retrograde { best, worse } => write!(
                f,
                "slower on {worse} workers than on {best}, with a core each: they contend for something shared"
            ),
            Self::GrowingOverhead { from, to } => write!(
                f,
                "overhead grows with the workers (Karp-Flatt fraction {from:.3} to {to:.3}): starting, messages or uneven parts"
            ),
            Self::SerialPart { fraction, limit } => write!(
                f,
                "a serial part of {:.1} % (Karp-Flatt fraction steady): Amdahl's limit is a speedup of {limit:.1}",
                fraction * 100.0
            ),
            Self::LayerCost { cost } => write!(
                f,
                "one worker takes {cost:.2} x the serial time, and more workers scale well from there: the cost is in each item"
            ),
            Self::TooFewCounts { workers, fraction } => write!(
                f,
                "Karp-Flatt fraction {fraction:.3} on {workers} workers: one count cannot tell a serial part from overhead"
            ),
            Self::TooFewCores { cores } => {
                write!(
                    f,
                    "more workers than the {cores} cores at every count above one: cores are the limit"
                )
            }
        }
    }
}

/// Efficiency, absolute or relative, that counts as near ideal.
const NEAR_IDEAL: f64 = 0.9;
/// Efficiency that noise does not explain: by judgement.
const SUPERLINEAR: f64 = 1.2;
/// Times that differ by less than this factor are taken as equal: timing noise, by judgement.
const NOISE: f64 = 1.05;
/// A Karp-Flatt fraction has grown when it is larger by this factor and by this much: by judgement.
const GROWTH: (f64, f64) = (1.25, 0.01);

impl Metrics {
    /// Says what limits the program. Counts above the number of cores, where it is known, are left out: there a lack of
    /// cores would look like overhead.
    ///
    /// ```
    /// use par_core::metrics::{Metrics, Verdict};
    /// let metrics = Metrics::new(10.0, [(1, 10.0), (2, 5.5), (4, 3.25), (8, 2.125)])?;
    /// assert!(matches!(metrics.verdict(), Verdict::SerialPart { .. }));
    /// assert_eq!(
    ///     metrics.verdict().to_string(),
    ///     "a serial part of 10.0 % (Karp-Flatt fraction steady): Amdahl's limit is a speedup of 10.0"
    /// );
    /// # Ok::<(), par_core::metrics::MetricsError>(())
    /// ```
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let all = self.rows();
        let on_cores = |row: &&Row| self.cores.is_none_or(|cores| row.workers <= cores.max(1));
        let rows: Vec<&Row> = all.iter().filter(on_cores).collect();
        let parallel: Vec<&Row> = rows.iter().copied().filter(|row| row.workers > 1).collect();
        let (Some(first), Some(last)) = (parallel.first(), parallel.last()) else {
            return match (self.cores, all.first()) {
                (Some(cores), Some(_)) if all.iter().any(|row| row.workers > 1) => {
                    Verdict::TooFewCores { cores }
                }
                (_, row) => Verdict::OneWorker {
                    cost: row.map_or(f64::NAN, |row| 1.0 / row.speedup),
                },
            };
        };
        if last.efficiency >= SUPERLINEAR {
            return Verdict::Superlinear {
                workers: last.workers,
                speedup: last.speedup,
            };
        }
        if last.efficiency >= NEAR_IDEAL {
            return Verdict::NearIdeal {
                workers: last.workers,
                efficiency: last.efficiency,
            };
        }
        let best = rows.iter().fold(
            *last,
            |best, row| if row.seconds < best.seconds { row } else { best },
        );
        if best.speedup <= 1.0 {
            return Verdict::NeverFaster {
                speedup: best.speedup,
            };
        }
        if best.workers < last.workers && last.seconds > best.seconds * NOISE {
            return Verdict::Retrograde {
                best: best.workers,
                worse: last.workers,
            };
        }
        if let Some(relative) = last.relative_speedup
            && relative / last.workers as f64 >= NEAR_IDEAL
        {
            return Verdict::LayerCost {
                cost: relative / last.speedup,
            };
        }
        let (from, to) = (first.karp_flatt.unwrap_or(0.0), last.karp_flatt.unwrap_or(0.0));
        if first.workers == last.workers {
            return Verdict::TooFewCounts {
                workers: last.workers,
                fraction: to,
            };
        }
        if to > from.max(0.0) * GROWTH.0 + GROWTH.1 {
            return Verdict::GrowingOverhead { from, to };
        }
        let speedups: Vec<_> = parallel.iter().map(|row| (row.workers, row.speedup)).collect();
        let fraction = fit_amdahl(&speedups).map_or(to, |fit| fit.serial_fraction);
        let limit = amdahl(1.0 - fraction, f64::INFINITY).unwrap_or(f64::INFINITY);
        Verdict::SerialPart { fraction, limit }
    }
}
