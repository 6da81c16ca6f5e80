//! The laws of arrays, as tests for whoever writes a backend (feature `conformance`).
//!
//! A [`Subject`] is a device and the ways in which it is used; [`OnDevice`] uses it as everybody does. Each law is a function
//! that panics where it is broken. Computed NaNs count as equal; everything else is compared bit by bit.
//!
//! | law | in one line |
//! |---|---|
//! | copies | what goes to a device comes back with its bits, NaNs included |
//! | shapes | a result has the shape of its first array |
//! | values | a kernel computes at every index, at every length, what the function computes |
//! | exact | floats to the last bit: rounding, subnormals, infinities, zeros; no contraction |
//! | wrap | integers wrap, shifts mask, casts saturate |
//! | reduce | the bits of `par_core::fold::reduce` |
//! | scan | the bits of `par_core::fold::scan` |
//! | empty | no elements are no special case |
//! | errors | what cannot be is refused, and the error says what it was |
//!
//! ```no_run
//! use par_gpu::{Device, conformance::{LAWS, OnDevice, laws}};
//! let subject = OnDevice(Device::cpu());
//! for (name, law) in LAWS.iter().zip(laws::<OnDevice>()) {
//!     println!("{name}");
//!     law(&subject);
//! }
//! ```

mod data;
mod exact;
mod folds;
mod kernels;
mod plain;

use crate::arguments::{Arguments, Split};
use crate::array::Array;
use crate::device::Device;
use crate::element::Element;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::reduction::DeviceReduction;
use par_core::ScanKind;

/// A device under test, and how it is used. A broken one for the laws' own tests overrides a method.
pub trait Subject {
    /// The device.
    fn device(&self) -> &Device;

    /// Lengths to try. Each kernel is compiled once, so lengths cost little but their elements.
    fn lengths(&self) -> Vec<usize> {
        let mut lengths = vec![0, 1, 2, 1023, 1024, 1025, 4097];
        if self.device().info().backend == "cpu" {
            lengths.push(1_000_000);
        }
        lengths
    }

    /// [`Device::array`].
    ///
    /// # Errors
    /// Its own.
    fn array<T: Element>(&self, values: &[T]) -> Result<Array<T>, Error> {
        self.device().array(values)
    }

    /// [`Array::to_vec`].
    ///
    /// # Errors
    /// Its own.
    fn to_vec<T: Element>(&self, array: &Array<T>) -> Result<Vec<T>, Error> {
        array.to_vec()
    }

    /// [`map`](crate::map()).
    ///
    /// # Errors
    /// Its own.
    fn map<K: Kernel<Output: Element>>(
        &self,
        args: impl Arguments<K::Args>,
    ) -> Result<Array<K::Output>, Error> {
        crate::map::<K>(args)
    }

    /// [`map_into`](crate::map_into).
    ///
    /// # Errors
    /// Its own.
    fn map_into<K: Kernel<Output: Element>>(
        &self,
        args: impl Arguments<K::Args>,
        out: &mut Array<K::Output>,
    ) -> Result<(), Error> {
        crate::map_into::<K>(args, out)
    }

    /// [`update`](crate::update).
    ///
    /// # Errors
    /// Its own.
    fn update<K>(
        &self,
        array: &mut Array<K::Output>,
        args: impl Arguments<<K::Args as Split>::Rest>,
    ) -> Result<(), Error>
    where
        K: Kernel<Args: Split<First = K::Output>, Output: Element>,
    {
        crate::update::<K>(array, args)
    }

    /// [`map_reduce`](crate::map_reduce).
    ///
    /// # Errors
    /// Its own.
    fn map_reduce<K: Kernel<Output: Element>, R: DeviceReduction<K::Output>>(
        &self,
        args: impl Arguments<K::Args>,
        reduction: R,
    ) -> Result<R::Output, Error> {
        crate::map_reduce::<K, R>(args, reduction)
    }

    /// [`map_scan`](crate::map_scan).
    ///
    /// # Errors
    /// Its own.
    fn map_scan<K: Kernel<Output: Element>, R: DeviceReduction<K::Output>>(
        &self,
        args: impl Arguments<K::Args>,
        reduction: R,
        kind: ScanKind,
    ) -> Result<Array<K::Output>, Error> {
        crate::map_scan::<K, R>(args, reduction, kind)
    }
}

/// A device, used as everybody does.
#[derive(Debug, Clone)]
pub struct OnDevice(pub Device);

impl Subject for OnDevice {
    fn device(&self) -> &Device {
        &self.0
    }
}

/// The names of the laws, in the order of [`laws`].
pub const LAWS: [&str; 9] = [
    "copies", "shapes", "values", "exact", "wrap", "reduce", "scan", "empty", "errors",
];

/// The laws. Each panics where the subject breaks it, with what was found.
pub fn laws<S: Subject>() -> [fn(&S); 9] {
    [
        plain::copies,
        plain::shapes,
        plain::values,
        exact::exact,
        exact::wrap,
        folds::reduce,
        folds::scan,
        plain::empty,
        plain::errors,
    ]
}
