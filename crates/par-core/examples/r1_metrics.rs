//! Recipe r1_metrics: speedup, efficiency, scalability, and the laws of Amdahl and Gustafson.
//!
//! Run: `cargo run --package par-core --example r1_metrics`

use par_core::metrics::{Metrics, MetricsError, amdahl, fit_amdahl, fit_usl, gustafson};

fn main() -> Result<(), MetricsError> {
    // The best serial program takes 90 s; the parallel one pays 10 s more on one worker, and a tenth of it is serial.
    let metrics = Metrics::new(90.0, [(1, 100.0), (2, 55.0), (4, 32.5), (8, 21.25)])?;

    println!("workers  seconds  absolute  relative  efficiency  scalability  Karp-Flatt");
    for row in metrics.rows() {
        println!(
            "{:>7}  {:>7.2}  {:>8.3}  {:>8}  {:>10.3}  {:>11}  {:>10}",
            row.workers,
            row.seconds,
            row.speedup,
            number(row.relative_speedup),
            row.efficiency,
            number(row.scalability),
            number(row.karp_flatt),
        );
    }
    println!("verdict: {}", metrics.verdict());
    println!(
        "fitted Amdahl serial fraction {:.3}",
        fit_amdahl(&metrics.speedups())?.serial_fraction
    );
    let usl = fit_usl(&metrics.speedups())?;
    println!(
        "fitted scalability law sigma {:.3} kappa {:.5}",
        usl.sigma, usl.kappa
    );

    println!("Amdahl P=0.9 p=10 {:.3}", amdahl(0.9, 10.0)?);
    println!("Amdahl P=0.9 p=inf {:.3}", amdahl(0.9, f64::INFINITY)?);
    println!("Gustafson p=10 alpha=0.1 {:.3}", gustafson(10.0, 0.1)?);

    match Metrics::new(90.0, [(2, -1.0)]) {
        Ok(_) => println!("a negative time was accepted"),
        Err(error) => println!("refused: {error}"),
    }
    Ok(())
}

/// A number, or a dash where the measured points do not give one.
fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}
