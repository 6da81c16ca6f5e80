//! Tests of the metrics: laws at known points, fits that recover their parameters, verdicts, and bad input.

use super::*;
use proptest::prelude::*;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + b.abs())
}

fn metrics_of(law: impl Fn(f64) -> f64) -> Metrics {
    Metrics::new(10.0, [1, 2, 4, 8, 16].map(|p| (p, 10.0 / law(p as f64)))).unwrap()
}

#[test]
fn laws_at_known_points() {
    assert!(close(amdahl(0.9, f64::INFINITY).unwrap(), 10.0));
    assert!((amdahl(0.9, 10.0).unwrap() - 5.263).abs() < 5e-4);
    assert!(close(gustafson(10.0, 0.1).unwrap(), 9.1));
    assert_eq!(amdahl(1.0, f64::INFINITY), Ok(f64::INFINITY));
    assert_eq!(gustafson(f64::INFINITY, 1.0), Ok(1.0));
    assert_eq!(amdahl(0.0, 8.0), Ok(1.0));
}

#[test]
fn rows_of_known_times() {
    let rows = Metrics::new(9.0, [(4, 3.0), (1, 10.0), (2, 6.0)]).unwrap().rows();
    assert_eq!(rows.iter().map(|row| row.workers).collect::<Vec<_>>(), [1, 2, 4]);
    assert!(close(rows[2].speedup, 3.0) && close(rows[2].relative_speedup.unwrap(), 10.0 / 3.0));
    assert!(close(rows[2].efficiency, 0.75));
    assert!(close(rows[1].scalability.unwrap(), 10.0 / 12.0) && rows[0].scalability.is_none());
    assert!(close(rows[2].karp_flatt.unwrap(), (1.0 / 3.0 - 0.25) / 0.75) && rows[0].karp_flatt.is_none());
    assert_eq!(
        Metrics::new(9.0, [(2, 6.0)]).unwrap().rows()[0].relative_speedup,
        None
    );
}

#[test]
fn bad_input_is_named() {
    let bad = [0.0, -1.0, f64::NAN, f64::INFINITY];
    for seconds in bad {
        assert!(
            matches!(
                Metrics::new(seconds, [(1, 1.0)]),
                Err(MetricsError::Seconds { .. })
            ),
            "{seconds}"
        );
        assert!(
            matches!(
                Metrics::new(1.0, [(1, seconds)]),
                Err(MetricsError::Seconds { .. })
            ),
            "{seconds}"
        );
        assert!(
            matches!(
                fit_usl(&[(2, seconds), (4, 1.0)]),
                Err(MetricsError::Speedup { .. })
            ),
            "{seconds}"
        );
    }
    assert_eq!(
        Metrics::new(1.0, [(1, -1.0)]).unwrap_err().to_string(),
        "a parallel run took -1 seconds: expected a finite time above 0, within range of the serial time"
    );
    assert!(matches!(
        Metrics::new(1e300, [(1, 1e-300)]),
        Err(MetricsError::Seconds { .. })
    ));
    assert_eq!(Metrics::new(1.0, []), Err(MetricsError::NoPoints));
    assert_eq!(
        Metrics::new(1.0, [(0, 1.0)]),
        Err(MetricsError::Workers { workers: 0.0 })
    );
    assert_eq!(
        Metrics::new(1.0, [(2, 1.0), (2, 2.0)]),
        Err(MetricsError::Duplicate { workers: 2 })
    );
    assert_eq!(
        amdahl(1.1, 2.0).unwrap_err().to_string(),
        "parallel fraction is 1.1: expected a number from 0 to 1"
    );
    assert!(amdahl(f64::NAN, 2.0).is_err() && amdahl(0.5, 0.0).is_err() && amdahl(0.5, f64::NAN).is_err());
    assert!(gustafson(0.5, 0.5).is_err() && gustafson(2.0, -0.1).is_err());
    assert_eq!(fit_amdahl(&[]), Err(MetricsError::NoPoints));
    assert_eq!(
        fit_gustafson(&[(0, 1.0)]),
        Err(MetricsError::Workers { workers: 0.0 })
    );
    assert_eq!(
        fit_usl(&[(1, 1.0), (4, 3.0), (4, 3.1)]).unwrap_err().to_string(),
        "fit of the universal scalability law: expected at least 2 different worker counts above 1, got 1"
    );
}

#[test]
fn fits_stay_within_what_parameters_mean() {
    let superlinear = [(2, 2.2), (4, 4.6)];
    assert_eq!(fit_amdahl(&superlinear).unwrap().serial_fraction, 0.0);
    assert_eq!(fit_amdahl(&superlinear).unwrap().limit(), f64::INFINITY);
    assert_eq!(fit_gustafson(&superlinear).unwrap().serial_fraction, 0.0);
    let usl = fit_usl(&superlinear).unwrap();
    assert_eq!(
        (usl.sigma, usl.kappa, usl.peak_workers()),
        (0.0, 0.0, f64::INFINITY)
    );
    // Speedup that catches up late would need a negative coherency cost.
    let usl = fit_usl(&[(2, 1.2), (4, 3.0), (8, 7.0)]).unwrap();
    assert!(usl.kappa == 0.0 && usl.sigma > 0.0);
    assert!(usl.rms_error > 0.1);
}

#[test]
fn verdicts() {
    let verdict = |law: fn(f64) -> f64| metrics_of(law).verdict();
    assert!(matches!(
        verdict(|p| 1.0 + 3.0 * (p - 1.0)),
        Verdict::Superlinear { workers: 16, .. }
    ));
    assert!(matches!(verdict(|p| p), Verdict::NearIdeal { workers: 16, .. }));
    let Verdict::SerialPart { fraction, limit } = verdict(|p| 1.0 / (0.2 + 0.8 / p)) else {
        panic!()
    };
    assert!(close(fraction, 0.2) && close(limit, 5.0));
    assert!(matches!(
        verdict(|p| p / (1.0 + 0.01 * p * (p - 1.0) / 4.0)),
        Verdict::GrowingOverhead { .. }
    ));
    assert!(matches!(
        verdict(|p| p / (1.0 + 0.1 * p * (p - 1.0))),
        Verdict::Retrograde { best: 4, worse: 16 }
    ));
    assert!(matches!(verdict(|p| p / 20.0), Verdict::NeverFaster { .. }));
    assert!(matches!(verdict(|p| p / 2.0), Verdict::LayerCost { cost } if close(cost, 2.0)));

    let two = Metrics::new(1.0, [(1, 1.0), (2, 0.7), (4, 0.7)])
        .unwrap()
        .with_cores(2);
    assert!(matches!(two.verdict(), Verdict::TooFewCounts { workers: 2, .. }));
    assert!(matches!(
        two.clone().with_cores(1).verdict(),
        Verdict::TooFewCores { cores: 1 }
    ));
    assert!(
        matches!(Metrics::new(1.0, [(1, 2.0)]).unwrap().verdict(), Verdict::OneWorker { cost } if cost == 2.0)
    );
}

proptest! {
    #[test]
    fn amdahl_fit_recovers(s in 0.0..1.0f64) {
        let metrics = metrics_of(|p| amdahl(1.0 - s, p).unwrap());
        let fit = fit_amdahl(&metrics.speedups()).unwrap();
        prop_assert!(close(fit.serial_fraction, s) && fit.rms_error < 1e-6);
        for row in &metrics.rows()[1..] {
            prop_assert!(close(row.karp_flatt.unwrap(), s));
        }
    }

    #[test]
    fn gustafson_fit_recovers(a in 0.0..1.0f64) {
        let points = [2, 3, 7, 64].map(|p| (p, gustafson(p as f64, a).unwrap()));
        let fit = fit_gustafson(&points).unwrap();
        prop_assert!(close(fit.serial_fraction, a) && close(fit.speedup(1000.0), gustafson(1000.0, a).unwrap()));
    }

    #[test]
    fn usl_fit_recovers(sigma in 0.0..0.9f64, kappa in 0.0..0.1f64) {
        let law = |p: f64| p / (1.0 + sigma * (p - 1.0) + kappa * p * (p - 1.0));
        let fit = fit_usl(&[1, 2, 4, 8, 16, 32].map(|p| (p, law(p as f64)))).unwrap();
        prop_assert!(close(fit.sigma, sigma) && close(fit.kappa, kappa), "{fit:?}");
        // The peak is where the law says: no neighbour is higher.
        let peak = fit.peak_workers();
        if peak.is_finite() && peak > 2.0 {
            prop_assert!(fit.speedup(peak) >= fit.speedup(peak * 1.1) && fit.speedup(peak) >= fit.speedup(peak * 0.9));
        }
    }

    #[test]
    fn noisy_fit_is_near(sigma in 0.01..0.3f64, noise in proptest::array::uniform6(0.99..1.01f64)) {
        let counts = [2, 3, 4, 8, 16, 32];
        let points: Vec<_> = (0..6).map(|i| (counts[i], noise[i] * amdahl(1.0 - sigma, counts[i] as f64).unwrap())).collect();
        prop_assert!((fit_amdahl(&points).unwrap().serial_fraction - sigma).abs() < 0.02);
    }

    #[test]
    fn no_input_panics(serial in any::<f64>(), points in proptest::collection::vec((0usize..9, any::<f64>()), 0..6)) {
        if let Ok(metrics) = Metrics::new(serial, points) {
            prop_assert!(metrics.rows().iter().all(|row| row.efficiency.is_finite()));
            prop_assert!(!metrics.with_cores(4).verdict().to_string().contains("NaN"));
        }
    }
}
