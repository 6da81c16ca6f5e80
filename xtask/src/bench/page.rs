//! report.html: the report for a browser, one file that needs no network. Every cell comes from the report.

use super::plot::{self, Quantity};
use super::report::{Report, Row};
use super::runner::Serial;
use super::scaling::Scaling;
use crate::Error;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("page.css");

/// The whole page.
///
/// # Errors
/// A plot that cannot be drawn.
pub(super) fn page(report: &Report) -> Result<String, Error> {
    let workloads = each(report.rows.iter().map(|row| &*row.workload));
    let engines = each(report.pairs().into_iter().map(|(_, engine)| engine));
    let mut sections = Vec::new();
    for workload in workloads {
        sections.push(section(report, workload, &engines)?);
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "par bench" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "One task on every engine" }
                    p { (report.machine) }
                    p { code { (report.command) } }
                }
                main {
                    (agreement(report))
                    @for section in &sections { (section) }
                    (traces(report))
                }
            }
        }
    };
    Ok(page.into_string())
}

/// Each once, in their order.
fn each<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut each = Vec::new();
    for name in names {
        if !each.contains(&name) {
            each.push(name);
        }
    }
    each
}

/// Whether all results are equal, and what they are.
fn agreement(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Results" }
            @match report.check_digests() {
                Ok(()) => p class="good" { "Every engine gave the bits of the serial program." },
                Err(error) => pre class="bad" { (error) },
            }
            ul { @for line in &report.results { li { (line) } } }
            @if !report.left_out.is_empty() {
                h3 { "Not measured" }
                ul { @for line in &report.left_out { li { (line) } } }
            }
        }
    }
}

/// Times, plots and limits of one workload.
fn section(report: &Report, workload: &str, engines: &[&str]) -> Result<Markup, Error> {
    let rows = || report.rows.iter().filter(|row| row.workload == workload);
    let here: Vec<_> = engines
        .iter()
        .enumerate()
        .filter(|(_, engine)| rows().any(|row| row.engine == **engine))
        .collect();
    let mut plots = Vec::new();
    // A device has the units that it has: there is nothing to plot over.
    let scales = here
        .iter()
        .any(|(_, engine)| rows().filter(|row| row.engine == ***engine).count() > 1);
    for quantity in [Quantity::Speedup, Quantity::Efficiency] {
        if !scales {
            break;
        }
        plots.push((quantity, plot::plot(report, engines, workload, quantity)?));
    }
    let limits = || {
        report
            .scaling
            .iter()
            .filter(|scaling| scaling.workload == workload)
    };
    Ok(html! {
        section {
            h2 { (workload) }
            div class="wide" { (times(rows())) }
            div class="plots" {
                @for (quantity, svg) in &plots {
                    figure {
                        figcaption { (quantity.name()) " by workers" }
                        (PreEscaped(svg))
                    }
                }
            }
            @if scales {
                p class="legend" {
                    @for (place, engine) in here {
                        span { i style={ "background:" (plot::css(place)) } {} (engine) }
                    }
                    span { "dots: measured; lines: Amdahl's law fitted; dashes: universal scalability law fitted; dots in grey: ideal" }
                }
                div class="wide" { (fits(limits())) }
                p class="legend" {
                    "Fitted to the counts of workers that have a core each: Amdahl's law needs one above 1, the universal scalability law two."
                }
            }
            h3 { "What limits it" }
            ul { @for scaling in limits() { li { b { (scaling.engine) } ": " (scaling.verdict) } } }
        }
    })
}

fn times<'a>(rows: impl Iterator<Item = &'a Row>) -> Markup {
    html! {
        table {
            thead { tr {
                th { "engine" } th { "workers" } th { "median s" } th { "minimum s" } th { "speedup" } th { "efficiency" }
                th { "Karp-Flatt" } th { "inside tasks s" } th { "digest" }
            } }
            tbody {
                @for row in rows {
                    tr class=[(row.engine == Serial::NAME).then_some("serial")] {
                        th { (row.engine) }
                        td { (row.workers) }
                        td { (format!("{:.4}", row.seconds_median)) }
                        td { (format!("{:.4}", row.seconds_minimum)) }
                        td { (format!("{:.2}", row.speedup)) }
                        td { (format!("{:.2}", row.efficiency)) }
                        td { (maybe(row.karp_flatt, 3)) }
                        td { (maybe(row.busy, 4)) }
                        td { code { (row.digest) } }
                    }
                }
            }
        }
    }
}

fn fits<'a>(scaling: impl Iterator<Item = &'a Scaling>) -> Markup {
    html! {
        table {
            thead { tr {
                th { "engine" } th { "serial part" } th { "Amdahl's limit" } th { "contention σ" } th { "coherency κ" }
            } }
            tbody {
                @for scaling in scaling {
                    tr {
                        th { (scaling.engine) }
                        td { (maybe(scaling.amdahl.map(|fit| fit.serial_fraction), 3)) }
                        td { (maybe(scaling.amdahl.map(|fit| fit.limit()), 1)) }
                        td { (maybe(scaling.usl.map(|fit| fit.sigma), 3)) }
                        td { (maybe(scaling.usl.map(|fit| fit.kappa), 4)) }
                    }
                }
            }
        }
    }
}

fn traces(report: &Report) -> Markup {
    html! {
        @if !report.traces.is_empty() {
            section {
                h2 { "Traces" }
                p { "One run an engine, in Chrome's trace format: open a file in ui.perfetto.dev or chrome://tracing." }
                ul {
                    @for trace in &report.traces {
                        li {
                            a href=(trace.file) { (trace.file) }
                            ": " (trace.workload) " on " (trace.engine) ", " (trace.workers) " workers"
                        }
                    }
                }
            }
        }
    }
}

fn maybe(value: Option<f64>, digits: usize) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.is_infinite() => "∞".to_owned(),
        Some(value) => format!("{value:.digits$}"),
    }
}
