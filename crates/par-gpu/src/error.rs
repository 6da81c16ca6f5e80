//! What can go wrong with devices and arrays.

use crate::element::Kind;

/// Why an operation on a device or an array failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A slice of the host has another length than the array that it is copied to or from.
    #[error("a slice of {found} elements, where the array has {expected}")]
    Length {
        /// The elements of the array.
        expected: usize,
        /// The elements of the slice.
        found: usize,
    },
    /// Arrays of different shapes stand in one call.
    #[error("{what} has the shape {found:?}, where {expected:?} is expected")]
    Shapes {
        /// Which array.
        what: String,
        /// The shape of the first array.
        expected: Vec<usize>,
        /// The shape that it has.
        found: Vec<usize>,
    },
    /// The extents of a shape do not multiply to the number of elements.
    #[error("{len} elements do not fill the shape {shape:?}")]
    Shape {
        /// The elements.
        len: usize,
        /// The extents asked for.
        shape: Vec<usize>,
    },
    /// Arrays of two devices stand in one call.
    #[error("{what} lives on {found:?}, and the call runs on {expected:?}: copy it there first")]
    Devices {
        /// Which array.
        what: String,
        /// The device of the call, which is that of its first array.
        expected: String,
        /// The device where the array lives.
        found: String,
    },
    /// No argument of a call is an array, so nothing says how many elements there are.
    #[error(
        "no argument of this call is an array, so nothing says on which device it runs, or on how many elements"
    )]
    NoArray,
    /// An array larger than the device takes.
    #[error("{bytes} bytes are more than {device:?} gives to one array ({limit})")]
    TooLarge {
        /// The device.
        device: String,
        /// What was asked for.
        bytes: u128,
        /// The most that one array may have.
        limit: u64,
    },
    /// The memory of the device is used up.
    #[error("{device:?} has no room for {bytes} bytes")]
    OutOfMemory {
        /// The device.
        device: String,
        /// What was asked for.
        bytes: usize,
    },
    /// The device cannot compute with this type, or not to the last bit.
    #[error("{device:?} cannot run this: {why}")]
    Unsupported {
        /// The device.
        device: String,
        /// What it lacks.
        why: String,
    },
    /// A value of no elements was needed, and the reduction has none.
    #[error(
        "the value of no {kind} elements is needed for the first of an exclusive scan, and {reduction} has none"
    )]
    NoIdentity {
        /// The reduction.
        reduction: String,
        /// The type of the elements.
        kind: Kind,
    },
    /// A call of the driver failed.
    #[error("{device:?}: {call} failed with {status}{}", detail(.log))]
    Driver {
        /// The device, or the platform.
        device: String,
        /// The function of the driver.
        call: &'static str,
        /// Its status, by name and number.
        status: String,
        /// What the driver's compiler said, or nothing.
        log: String,
    },
    /// A backend broke the rules of the trait that it implements.
    #[error("the backend of {device:?} {how}")]
    Backend {
        /// The device.
        device: String,
        /// Which rule.
        how: String,
    },
}

fn detail(log: &str) -> String {
    if log.trim().is_empty() {
        String::new()
    } else {
        format!(":\n{}", log.trim_end())
    }
}

/// What is not there, and how to get it: see [`Device::problems`](crate::Device::problems).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{backend}: {why}; {install}")]
pub struct Problem {
    /// The backend, as `opencl`.
    pub backend: &'static str,
    /// What is missing or broken.
    pub why: String,
    /// What to do about it.
    pub install: String,
}
