//! What an engine must be able to run, the workloads as jobs of it, and the serial program.

use super::mandelbrot::{self, View};
use super::wordcount::{self, Counts, Input};
use super::{dot, pi, sum};
use crate::Error;
use par_core::Observer;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A program that can run the workloads: the serial one, or an engine with a number of workers.
pub(crate) trait Runner {
    /// Hits of all blocks.
    fn pi(&self, blocks: u64) -> Result<u64, Error>;
    /// Every row of the view, from the top.
    fn mandelbrot(&self, view: View) -> Result<Vec<Vec<u32>>, Error>;
    /// Words of all batches, merged in their order.
    fn wordcount(&self, batches: &[Vec<String>]) -> Result<Counts, Error>;
    /// Sum of the first numbers, in the fixed order.
    fn sum(&self, numbers: u64) -> Result<f64, Error>;
    /// Lets `observer` see what the workers do from now on; whether there are any to be seen.
    fn observe(&self, observer: Arc<dyn Observer>) -> bool {
        let _ = observer;
        false
    }
}

/// The serial program: plain loops, nothing of the trait layer.
pub(crate) struct Serial;

impl Serial {
    pub(crate) const NAME: &str = "serial";
}

impl Runner for Serial {
    fn pi(&self, blocks: u64) -> Result<u64, Error> {
        Ok((0..blocks).map(pi::hits).sum())
    }

    fn mandelbrot(&self, view: View) -> Result<Vec<Vec<u32>>, Error> {
        Ok((0..view.height).map(|row| mandelbrot::row(view, row)).collect())
    }

    fn wordcount(&self, batches: &[Vec<String>]) -> Result<Counts, Error> {
        Ok(batches
            .iter()
            .map(|batch| wordcount::count(batch))
            .fold(Counts::default(), Counts::merge))
    }

    fn sum(&self, numbers: u64) -> Result<f64, Error> {
        Ok(sum::serial(numbers))
    }
}

/// How much of each workload is to be done.
pub(crate) struct Jobs {
    /// Blocks of `pi`.
    pub(crate) blocks: u64,
    pub(crate) view: View,
    /// Numbers of `sum`.
    pub(crate) numbers: u64,
    /// Pairs of `dot`.
    pub(crate) pairs: usize,
    /// Files of `wordcount`.
    pub(crate) text: Input,
}

impl Jobs {
    /// # Errors
    /// There is no text to count words of.
    pub(crate) fn new(quick: bool, input: Option<&Path>) -> Result<Self, Error> {
        let text = wordcount::find(input)?;
        Ok(if quick {
            Self {
                blocks: 256,
                view: View {
                    width: 360,
                    height: 288,
                    limit: 500,
                },
                numbers: 1_000_000,
                pairs: 1 << 20,
                text,
            }
        } else {
            Self {
                blocks: 4096,
                view: View {
                    width: 1500,
                    height: 1200,
                    limit: 1000,
                },
                numbers: 10_000_000,
                pairs: 1 << 24,
                text,
            }
        })
    }
}

impl fmt::Display for Jobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let View { width, height, limit } = self.view;
        let Input {
            batches,
            files,
            bytes,
            left_out,
        } = &self.text;
        writeln!(
            f,
            "pi: {} points in {} blocks",
            self.blocks * pi::BLOCK,
            self.blocks
        )?;
        writeln!(
            f,
            "mandelbrot: {width} x {height} points, at most {limit} iterations"
        )?;
        writeln!(
            f,
            "wordcount: {bytes} bytes in {files} files, {} batches",
            batches.len()
        )?;
        for reason in left_out {
            writeln!(f, "  left out: {reason}")?;
        }
        writeln!(f, "sum: {} numbers", self.numbers)?;
        write!(f, "dot: {} pairs of numbers, on devices", self.pairs)
    }
}

/// A workload's name and how a runner runs it.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&dyn Runner, &Jobs) -> Result<Output, Error>,
}

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "pi",
        run: |runner, jobs| {
            Ok(Output::Hits {
                hits: runner.pi(jobs.blocks)?,
                blocks: jobs.blocks,
            })
        },
    },
    Workload {
        name: "mandelbrot",
        run: |runner, jobs| Ok(Output::Rows(runner.mandelbrot(jobs.view)?)),
    },
    Workload {
        name: "wordcount",
        run: |runner, jobs| Ok(Output::Words(runner.wordcount(&jobs.text.batches)?)),
    },
    Workload {
        name: "sum",
        run: |runner, jobs| Ok(Output::Sum(runner.sum(jobs.numbers)?)),
    },
];

/// What a workload gives.
pub(crate) enum Output {
    Hits { hits: u64, blocks: u64 },
    Rows(Vec<Vec<u32>>),
    Words(Counts),
    Sum(f64),
    Dot(f32),
}

impl Output {
    /// Digest over the exact bits.
    pub(crate) fn digest(&self) -> String {
        match self {
            Self::Hits { hits, .. } => pi::digest(*hits),
            Self::Rows(rows) => mandelbrot::digest(rows),
            Self::Words(counts) => counts.digest(),
            Self::Sum(sum) => sum::digest(*sum),
            Self::Dot(dot) => dot::digest(*dot),
        }
    }

    /// The result in a few words, and what was wrong with the input, a line each.
    pub(crate) fn words(&self) -> Vec<String> {
        match self {
            Self::Hits { hits, blocks } => vec![format!("pi is about {}", pi::estimate(*hits, *blocks))],
            Self::Rows(rows) => {
                let iterations: u64 = rows.iter().flatten().map(|count| u64::from(*count)).sum();
                vec![format!(
                    "mandelbrot took {iterations} iterations in {} rows",
                    rows.len()
                )]
            }
            Self::Words(counts) => {
                let top = counts
                    .top(10)
                    .iter()
                    .map(|(word, n)| format!("{word} {n}"))
                    .collect::<Vec<_>>();
                let mut lines = vec![format!("top words: {}", top.join(", "))];
                if counts.not_utf8 > 0 {
                    lines.push(format!(
                        "files with bytes that are not UTF-8: {}",
                        counts.not_utf8
                    ));
                }
                lines.extend(
                    counts
                        .unreadable
                        .iter()
                        .map(|reason| format!("unreadable: {reason}")),
                );
                lines
            }
            Self::Sum(sum) => vec![format!("sum {sum:?}")],
            Self::Dot(dot) => vec![format!("dot product {dot:?}")],
        }
    }
}
