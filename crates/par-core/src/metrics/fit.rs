//! Least-squares fits of Amdahl's law, Gustafson's law and the universal scalability law to measured speedups.
//!
//! Each law is rewritten so that it is linear in its parameters, which are then kept within what they may mean (a
//! fraction within 0 to 1, a cost not below 0). With one parameter the nearest allowed value is the constrained optimum,
//! as the sum of squares is a parabola.

use super::MetricsError;
use serde::{Deserialize, Serialize};

/// Amdahl's law fitted to speedups of a problem of fixed size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AmdahlFit {
    /// Fraction of the serial time that does not run in parallel, 0 to 1.
    pub serial_fraction: f64,
    /// Root mean square of measured minus fitted speedup, over all points.
    pub rms_error: f64,
}

impl AmdahlFit {
    /// Speedup that the fit predicts for a number of workers, which may be infinite.
    #[must_use]
    pub fn speedup(&self, workers: f64) -> f64 {
        1.0 / (self.serial_fraction + (1.0 - self.serial_fraction) / workers)
    }

    /// Speedup that no number of workers exceeds; infinite without a serial part.
    #[must_use]
    pub fn limit(&self) -> f64 {
        1.0 / self.serial_fraction
    }
}

/// Gustafson's law fitted to speedups of a problem that grew with the workers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GustafsonFit {
    /// Fraction of the parallel program's time that is serial, 0 to 1.
    pub serial_fraction: f64,
    /// Root mean square of measured minus fitted speedup, over all points.
    pub rms_error: f64,
}

impl GustafsonFit {
    /// Speedup that the fit predicts for a number of workers.
    #[must_use]
    pub fn speedup(&self, workers: f64) -> f64 {
        workers - self.serial_fraction * (workers - 1.0)
    }
}

/// The universal scalability law, `p / (1 + sigma * (p - 1) + kappa * p * (p - 1))`, fitted to speedups.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UslFit {
    /// Contention: the cost of waiting for what is shared, as a fraction. Not below 0.
    pub sigma: f64,
    /// Coherency: the cost of each pair of workers keeping in step. Not below 0; above 0, speedup has a peak.
    pub kappa: f64,
    /// Root mean square of measured minus fitted speedup, over all points.
    pub rms_error: f64,
}

impl UslFit {
    /// Speedup that the fit predicts for a number of workers.
    #[must_use]
    pub fn speedup(&self, workers: f64) -> f64 {
        workers / (1.0 + self.sigma * (workers - 1.0) + self.kappa * workers * (workers - 1.0))
    }

    /// Number of workers with the highest speedup, at least 1; infinite without a coherency cost.
    #[must_use]
    pub fn peak_workers(&self) -> f64 {
        if self.kappa == 0.0 {
            return if self.sigma < 1.0 { f64::INFINITY } else { 1.0 };
        }
        ((1.0 - self.sigma).max(0.0) / self.kappa).sqrt().max(1.0)
    }
}

/// Fits Amdahl's law to pairs of workers and speedup, by `1/S - 1/p = s * (1 - 1/p)`.
///
/// # Errors
/// Zero workers, a speedup that is not finite and above 0, no point above one worker.
///
/// ```
/// let fit = par_core::metrics::fit_amdahl(&[(2, 1.6), (4, 2.2857142857142856)])?;
/// assert!((fit.serial_fraction - 0.25).abs() < 1e-9);
/// assert!((fit.limit() - 4.0).abs() < 1e-6);
/// # Ok::<(), par_core::metrics::MetricsError>(())
/// ```
pub fn fit_amdahl(speedups: &[(usize, f64)]) -> Result<AmdahlFit, MetricsError> {
    check("Amdahl's law", speedups, 1)?;
    let slope = slope(speedups, |p, s| (1.0 - 1.0 / p, 1.0 / s - 1.0 / p));
    let mut fit = AmdahlFit {
        serial_fraction: slope.clamp(0.0, 1.0),
        rms_error: 0.0,
    };
    fit.rms_error = rms_error(speedups, |p| fit.speedup(p));
    Ok(fit)
}

/// Fits Gustafson's law to pairs of workers and scaled speedup, by `p - S = a * (p - 1)`.
///
/// # Errors
/// Zero workers, a speedup that is not finite and above 0, no point above one worker.
///
/// ```
/// let fit = par_core::metrics::fit_gustafson(&[(2, 1.9), (10, 9.1)])?;
/// assert!((fit.serial_fraction - 0.1).abs() < 1e-9);
/// # Ok::<(), par_core::metrics::MetricsError>(())
/// ```
pub fn fit_gustafson(speedups: &[(usize, f64)]) -> Result<GustafsonFit, MetricsError> {
    check("Gustafson's law", speedups, 1)?;
    let slope = slope(speedups, |p, s| (p - 1.0, p - s));
    let mut fit = GustafsonFit {
        serial_fraction: slope.clamp(0.0, 1.0),
        rms_error: 0.0,
    };
    fit.rms_error = rms_error(speedups, |p| fit.speedup(p));
    Ok(fit)
}

/// Fits the universal scalability law to pairs of workers and speedup, by
/// `(p/S - 1) / (p - 1) = sigma + kappa * p`.
///
/// The law is N. J. Gunther's: "Guerrilla Capacity Planning", Springer 2007, and "A general theory of computational
/// scalability based on rational functions", arXiv:0808.1431. Gunther fits the parabola `p/S - 1 = a X^2 + b X` in
/// X = p - 1; divided by X it is this straight line, which weighs relative deviations alike.
///
/// # Errors
/// Zero workers, a speedup that is not finite and above 0, fewer than two different worker counts above one.
///
/// ```
/// use par_core::metrics::fit_usl;
/// let law = |p: f64| p / (1.0 + 0.05 * (p - 1.0) + 0.001 * p * (p - 1.0));
/// let fit = fit_usl(&[2, 4, 8, 16].map(|p| (p, law(p as f64))))?;
/// assert!((fit.sigma - 0.05).abs() < 1e-9 && (fit.kappa - 0.001).abs() < 1e-9);
/// assert_eq!(fit.peak_workers().round(), 31.0);
/// # Ok::<(), par_core::metrics::MetricsError>(())
/// ```
pub fn fit_usl(speedups: &[(usize, f64)]) -> Result<UslFit, MetricsError> {
    check("the universal scalability law", speedups, 2)?;
    let line: Vec<(f64, f64)> = speedups
        .iter()
        .filter(|point| point.0 > 1)
        .map(|&(p, s)| (p as f64, (p as f64 / s - 1.0) / (p as f64 - 1.0)))
        .collect();
    let n = line.len() as f64;
    let (mean_x, mean_y) = line
        .iter()
        .fold((0.0, 0.0), |(x, y), point| (x + point.0 / n, y + point.1 / n));
    let (xx, xy) = line.iter().fold((0.0, 0.0), |(xx, xy), &(x, y)| {
        (xx + (x - mean_x) * (x - mean_x), xy + (x - mean_x) * (y - mean_y))
    });
    let kappa = xy / xx;
    let sigma = mean_y - kappa * mean_x;
    let (sigma, kappa) = if sigma >= 0.0 && kappa >= 0.0 {
        (sigma, kappa)
    } else {
        // The least sum of squares under both bounds then lies on one of them.
        let through_zero =
            line.iter().map(|(x, y)| x * y).sum::<f64>() / line.iter().map(|(x, _)| x * x).sum::<f64>();
        let edges = [(mean_y.max(0.0), 0.0), (0.0, through_zero.max(0.0))];
        let cost = |(sigma, kappa): (f64, f64)| -> f64 {
            line.iter().map(|(x, y)| (y - sigma - kappa * x).powi(2)).sum()
        };
        if cost(edges[0]) <= cost(edges[1]) {
            edges[0]
        } else {
            edges[1]
        }
    };
    let mut fit = UslFit {
        sigma,
        kappa,
        rms_error: 0.0,
    };
    fit.rms_error = rms_error(speedups, |p| fit.speedup(p));
    Ok(fit)
}

/// Refuses what no fit can use; a point at one worker is allowed and says nothing about the parameters.
fn check(law: &'static str, speedups: &[(usize, f64)], needed: usize) -> Result<(), MetricsError> {
    if speedups.is_empty() {
        return Err(MetricsError::NoPoints);
    }
    for &(workers, value) in speedups {
        if workers == 0 {
            return Err(MetricsError::Workers { workers: 0.0 });
        }
        if !(value.is_normal() && value > 0.0) {
            return Err(MetricsError::Speedup { workers, value });
        }
    }
    let mut counts: Vec<usize> = speedups
        .iter()
        .map(|point| point.0)
        .filter(|&workers| workers > 1)
        .collect();
    counts.sort_unstable();
    counts.dedup();
    if counts.len() < needed {
        return Err(MetricsError::TooFewPoints {
            law,
            needed,
            got: counts.len(),
        });
    }
    Ok(())
}

/// Least-squares slope of y = slope * x, where `axes` maps workers and speedup to x and y.
fn slope(speedups: &[(usize, f64)], axes: impl Fn(f64, f64) -> (f64, f64)) -> f64 {
    let (xy, xx) = speedups.iter().fold((0.0, 0.0), |(xy, xx), &(p, s)| {
        let (x, y) = axes(p as f64, s);
        (xy + x * y, xx + x * x)
    });
    xy / xx
}

fn rms_error(speedups: &[(usize, f64)], law: impl Fn(f64) -> f64) -> f64 {
    let squares: f64 = speedups.iter().map(|&(p, s)| (s - law(p as f64)).powi(2)).sum();
    (squares / speedups.len() as f64).sqrt()
}
