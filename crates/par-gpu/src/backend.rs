//! What a backend must do: run parts of a computation in the host's memory, or keep memory and compile kernels of its own.
//!
//! There are two kinds. A [`HostBackend`] only spreads work over threads: the compiler has built each kernel into the loop
//! that it runs. A [`DeviceBackend`] holds arrays elsewhere and compiles a kernel's [`Source`]; it computes leaves, and
//! what combines leaves is done by the caller in the one order that there is, so that a backend cannot get it wrong.

use crate::device::DeviceInfo;
use crate::element::{Kind, Value};
use crate::error::Error;
use crate::kernel::Source;
use par_core::ScanKind;
use std::any::{Any, TypeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A backend whose arrays are in the host's memory.
///
/// ```
/// use par_gpu::backend::{Chunks, HostBackend};
/// use par_gpu::{Device, DeviceInfo, Sum};
/// use std::sync::Arc;
///
/// /// One core.
/// struct Serial(DeviceInfo);
///
/// impl HostBackend for Serial {
///     fn info(&self) -> &DeviceInfo { &self.0 }
///     fn run(&self, chunks: &Chunks<'_>) {
///         (0..chunks.count()).for_each(|index| chunks.run(index));
///     }
/// }
///
/// let info = DeviceInfo { name: "serial".to_owned(), compute_units: 1, ..Device::cpu().info().clone() };
/// let device = Device::of_host(Arc::new(Serial(info)));
/// let x = device.collect((0..100_000).map(f64::from))?;
/// assert_eq!(x.reduce(Sum)?, 4_999_950_000.0);
/// # Ok::<(), par_gpu::Error>(())
/// ```
pub trait HostBackend: Send + Sync {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Runs every chunk, in any order and on any threads, and returns when all have ended.
    fn run(&self, chunks: &Chunks<'_>);
}

/// A backend with memory of its own. Work is done in the order of the calls; only reading has to wait for it.
pub trait DeviceBackend: Send + Sync {
    /// What it is.
    fn info(&self) -> &DeviceInfo;

    /// Memory of that many bytes, at least one, which need not have values.
    ///
    /// # Errors
    /// There is no room.
    fn allocate(&self, bytes: usize) -> Result<Box<dyn Memory>, Error>;

    /// Copies from the host. The slice may be used for something else when this returns.
    ///
    /// # Errors
    /// The driver's.
    fn write(&self, memory: &mut dyn Memory, bytes: &[u8]) -> Result<(), Error>;

    /// Copies to the host, after all work that was given to the device before.
    ///
    /// # Errors
    /// The driver's.
    fn read(&self, memory: &dyn Memory, bytes: &mut [u8]) -> Result<(), Error>;

    /// Writes the kernel of each index to `out`.
    ///
    /// # Errors
    /// The driver's, and what the device cannot compute.
    fn map(&self, launch: &Launch<'_>, out: &mut dyn Memory) -> Result<(), Error>;

    /// Folds the kernel of the indexes of each leaf of [`LEAF`](par_core::fold::LEAF), one after the other, and copies the
    /// total of each leaf to the host.
    ///
    /// # Errors
    /// As [`map`](Self::map).
    fn fold_leaves(&self, launch: &Launch<'_>, fold: &Fold, totals: &mut [u8]) -> Result<(), Error>;

    /// Writes the running folds within each leaf, joined to the prefix of the leaf (for all but the first).
    ///
    /// # Errors
    /// As [`map`](Self::map).
    fn scan_leaves(
        &self,
        launch: &Launch<'_>,
        fold: &Fold,
        kind: ScanKind,
        prefixes: &[u8],
        out: &mut dyn Memory,
    ) -> Result<(), Error>;

    /// Waits for all work that was given to the device.
    ///
    /// # Errors
    /// The driver's.
    fn synchronize(&self) -> Result<(), Error>;
}

/// Memory of a device, known to its backend only.
pub trait Memory: Any + Send + Sync {}

/// A kernel on arrays and scalars.
pub struct Launch<'a> {
    /// The kernel.
    pub source: &'static Source,
    /// The type that stands for it.
    pub id: TypeId,
    /// Its arguments, one a parameter.
    pub args: &'a [Arg<'a>],
    /// The elements of each array: more than 0.
    pub len: usize,
}

/// An argument of a launch.
pub enum Arg<'a> {
    /// The same number for every index.
    Scalar(Value),
    /// The element of that index.
    Array(&'a dyn Memory, Kind),
    /// The index itself, as `u64`.
    Index,
    /// The element of the output, as it was before; in a map only.
    Output,
}

/// How a leaf is folded.
pub struct Fold {
    /// The kernel of two values that joins them.
    pub source: &'static Source,
    /// The type that stands for it.
    pub id: TypeId,
    /// What stands before the first item; where there is nothing, the first item is what is carried on.
    pub start: Option<Value>,
}

/// One of the two kinds of backends.
#[derive(Clone)]
pub(crate) enum Backend {
    Host(Arc<dyn HostBackend>),
    Device(Arc<dyn DeviceBackend>),
}

/// The parts of a computation, each of which runs once.
pub struct Chunks<'a> {
    claimed: Vec<AtomicBool>,
    done: AtomicUsize,
    run: &'a (dyn Fn(usize) + Sync),
}

impl<'a> Chunks<'a> {
    pub(crate) fn new(count: usize, run: &'a (dyn Fn(usize) + Sync)) -> Self {
        Chunks {
            claimed: (0..count).map(|_| AtomicBool::new(false)).collect(),
            done: AtomicUsize::new(0),
            run,
        }
    }

    /// How many there are: at least one.
    pub fn count(&self) -> usize {
        self.claimed.len()
    }

    /// Runs the chunk of that number; the second time, and for a number that is too high, it does nothing.
    pub fn run(&self, index: usize) {
        if self
            .claimed
            .get(index)
            .is_some_and(|claimed| !claimed.swap(true, Ordering::Relaxed))
        {
            (self.run)(index);
            // Pairs with `finish`: who sees all done sees what all wrote.
            self.done.fetch_add(1, Ordering::Release);
        }
    }

    pub(crate) fn finish(self, device: &str) -> Result<(), Error> {
        let (done, count) = (self.done.load(Ordering::Acquire), self.count());
        if done == count {
            return Ok(());
        }
        Err(Error::Backend {
            device: device.to_owned(),
            how: format!("ran {done} of {count} chunks"),
        })
    }
}
