//! Workload `dot` on devices: the dot product of two arrays, by a kernel of one source and a reduction in the fixed order.

use super::dot;
use super::measure::Setting;
use super::report::Report;
use super::runner::{Output, Serial};
use crate::Error;

/// The name by which the devices are chosen.
pub(crate) const NAME: &str = "devices";

/// The workload's name in the report.
const DOT: &str = "dot";

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
    Ok(())
}
