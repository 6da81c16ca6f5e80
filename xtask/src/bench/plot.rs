//! Plots of a report as SVG, in colours that can be read on light and on dark ground.

use super::report::Report;
use crate::Error;
use plotters::prelude::*;

/// Width and height of a plot in its own units; the page scales it. The library draws between whole units: many make curves
/// smooth.
const SIZE: (u32, u32) = (1560, 1020);

/// Stands for the colour of the page's text: replaced in the finished picture, as plots do not know it.
const INK: RGBColor = RGBColor(1, 2, 3);
const INK_IN_SVG: &str = "#010203";

/// Of middling lightness, so that each stands out on white and on black.
const COLORS: [RGBColor; 8] = [
    RGBColor(59, 130, 196),
    RGBColor(217, 119, 43),
    RGBColor(58, 157, 93),
    RGBColor(196, 80, 143),
    RGBColor(138, 111, 209),
    RGBColor(165, 138, 31),
    RGBColor(42, 161, 161),
    RGBColor(201, 79, 79),
];

/// What is plotted over the number of workers.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Quantity {
    Speedup,
    Efficiency,
}

impl Quantity {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Speedup => "speedup",
            Self::Efficiency => "efficiency",
        }
    }

    /// The value at a number of workers where the speedup is this.
    fn of(self, workers: f64, speedup: f64) -> f64 {
        match self {
            Self::Speedup => speedup,
            Self::Efficiency => speedup / workers,
        }
    }
}

/// The colour of an engine, by its place among the engines of the report.
fn color(place: usize) -> RGBColor {
    COLORS[place % COLORS.len()]
}

/// The same as a colour of CSS.
pub(super) fn css(place: usize) -> String {
    let RGBColor(red, green, blue) = color(place);
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Measured points of every engine on one workload, the curves fitted to them, and the ideal.
///
/// # Errors
/// What the drawing library refuses.
pub(super) fn plot(
    report: &Report,
    engines: &[&str],
    workload: &str,
    quantity: Quantity,
) -> Result<String, Error> {
    let points = |engine: &str| -> Vec<(f64, f64)> {
        let rows = report.rows.iter();
        rows.filter(|row| row.workload == workload && row.engine == engine)
            .map(|row| {
                let workers = row.workers as f64;
                (workers, quantity.of(workers, row.speedup))
            })
            .collect()
    };
    let all = || engines.iter().flat_map(|engine| points(engine));
    let widest = all().map(|point| point.0).fold(2.0, f64::max);
    let ideal = |workers: f64| quantity.of(workers, workers);
    let top = all().map(|point| point.1).fold(ideal(widest), f64::max);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(36)
            .x_label_area_size(120)
            .y_label_area_size(144)
            .build_cartesian_2d(0.9..widest + 0.1, 0.0..top * 1.08)?;
        let text = ("sans-serif", 42).into_font().color(&INK);
        chart
            .configure_mesh()
            .bold_line_style(INK.mix(0.15).stroke_width(3))
            .light_line_style(TRANSPARENT)
            .set_all_tick_mark_size(15)
            .axis_style(INK.mix(0.6).stroke_width(3))
            .label_style(text.clone())
            .axis_desc_style(text)
            .x_desc("workers")
            .y_desc(quantity.name())
            .x_labels(6)
            .x_label_formatter(&|workers| {
                // Between whole workers there are none.
                let whole = (workers - workers.round()).abs() < 1e-9;
                if whole {
                    format!("{workers:.0}")
                } else {
                    String::new()
                }
            })
            .draw()?;
        // Curves are drawn through this many places between the smallest and the largest number of workers.
        let over = || (0..=60).map(|step| 1.0 + (widest - 1.0) * f64::from(step) / 60.0);
        chart.draw_series(DashedLineSeries::new(
            over().map(|workers| (workers, ideal(workers))),
            6,
            12,
            INK.mix(0.5).stroke_width(3),
        ))?;
        for (place, engine) in engines.iter().enumerate() {
            let color = color(place);
            let scaling = report
                .scaling
                .iter()
                .find(|scaling| scaling.workload == workload && scaling.engine == *engine);
            if let Some(fit) = scaling.and_then(|scaling| scaling.amdahl) {
                let curve = over().map(|workers| (workers, quantity.of(workers, fit.speedup(workers))));
                chart.draw_series(LineSeries::new(curve, color.stroke_width(6)))?;
            }
            if let Some(fit) = scaling.and_then(|scaling| scaling.usl) {
                let curve = over().map(|workers| (workers, quantity.of(workers, fit.speedup(workers))));
                chart.draw_series(DashedLineSeries::new(curve, 18, 12, color.stroke_width(6)))?;
            }
            let dots = points(engine).into_iter();
            chart.draw_series(dots.map(|point| Circle::new(point, 12, color.filled())))?;
        }
        area.present()?;
    }
    Ok(fitting(
        &svg,
        &format!("{workload}: {} by workers", quantity.name()),
    ))
}

/// The picture without a size of its own, with the text in the page's colour and a name for those who cannot see it.
fn fitting(svg: &str, name: &str) -> String {
    let (width, height) = SIZE;
    let body = svg
        .split_once('>')
        .filter(|(head, _)| head.starts_with("<svg"))
        .map_or(svg, |(_, body)| body);
    format!(
        "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{name}\" xmlns=\"http://www.w3.org/2000/svg\">{}",
        body.replace(INK_IN_SVG, "currentColor")
    )
}
