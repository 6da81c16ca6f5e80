//! Workload `dot` on devices: the dot product of two arrays, by a kernel of one source and a reduction in the fixed order.

use super::dot;
use super::measure::Setting;
use super::report::Report;
use super::runner::{Output, Serial};
use crate::Error;
use par_gpu::{Device, Sum, kernel};

/// The name by which the devices are chosen.
pub(crate) const NAME: &str = "devices";

/// The workload's name in the report.
const DOT: &str = "dot";

/// The product of two numbers, rounded to one.
#[kernel]
fn times(x: f32, y: f32) -> f32 {
    x * y
}

/// Times the serial program and every device. The arrays are in the device's memory before; the result comes back to the host.
///
/// # Errors
/// A device fails, or two of its runs differ.
pub(super) fn measure(setting: &Setting, report: &mut Report) -> Result<(), Error> {
    let (x, y) = dot::inputs(setting.jobs.pairs);
    let run = || Ok(Output::Dot(dot::serial(&x, &y)));
    let (timing, output) = setting.time(DOT, Serial::NAME, None, run)?;
    report.add(DOT, Serial::NAME, 1, &timing, output.digest())?;
    report.results.extend(output.words());
    for device in Device::list() {
        let info = device.info();
        let named = |error| format!("{DOT} on {}: {error}", info.name);
        let (x, y) = (device.array(&x).map_err(named)?, device.array(&y).map_err(named)?);
        let run = || {
            Ok(Output::Dot(
                par_gpu::map_reduce::<times, _>((&x, &y), Sum).map_err(named)?,
            ))
        };
        let (timing, output) = setting.time(DOT, &info.name, None, run)?;
        report.add(
            DOT,
            &info.name,
            info.compute_units.max(1),
            &timing,
            output.digest(),
        )?;
        report.results.push(format!(
            "device {} is {} of {}, {} compute units",
            info.name, info.model, info.platform, info.compute_units
        ));
    }
    let problems = Device::problems();
    report
        .left_out
        .extend(problems.iter().map(|problem| format!("{DOT}: {problem}")));
    Ok(())
}
