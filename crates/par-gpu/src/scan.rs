//! Scans of arrays: the running reduction at every index.
//!
//! The order is that of [`par_core::fold::scan_leaf`]: within a leaf items fold one after the other; the totals of the leaves
//! combine one after the other from the left into the prefix of each leaf; a value is the prefix with what was folded within
//! the leaf. Devices fold the leaves, the host combines their totals, devices write the values.

use crate::arguments::{Arguments, HostArgument, Place};
use crate::array::{Array, CHUNK, Storage};
use crate::backend::Backend;
use crate::element::Element;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::lanes;
use crate::map::launch;
use crate::memory::{self, HostBuffer};
use crate::reduce::{fold, totals};
use crate::reduction::DeviceReduction;
use par_core::ScanKind;
use par_core::fold::LEAF;
use std::marker::PhantomData;

/// The running reduction of the kernel of each index, with the bits of every other scan of the same values.
///
/// ```
/// use par_gpu::{Device, ScanKind, Sum, kernel, map_scan};
///
/// #[kernel]
/// fn positive(x: f32) -> u32 { if x > 0.0 { 1 } else { 0 } }
///
/// // Where each positive element would stand in an array of those alone.
/// let x = Device::default().array(&[1.5f32, -2.0, 0.5, 3.0])?;
/// assert_eq!(map_scan::<positive, _>((&x,), Sum, ScanKind::Exclusive)?.to_vec()?, [0, 1, 1, 2]);
/// # Ok::<(), par_gpu::Error>(())
/// ```
///
/// # Errors
/// As [`map`](crate::map); and [`Error::NoIdentity`] for an exclusive scan by [`Min`](par_core::Min) or
/// [`Max`](par_core::Max), which are not empty, as there is no first value.
#[doc(alias = "GenericScanKernel")]
pub fn map_scan<K, R>(
    args: impl Arguments<K::Args>,
    reduction: R,
    kind: ScanKind,
) -> Result<Array<K::Output>, Error>
where
    K: Kernel<Output: Element>,
    R: DeviceReduction<K::Output>,
{
    let place = Place::of(&args)?;
    let (len, shape, start) = (place.len(), place.shape.to_vec(), reduction.start());
    if kind == ScanKind::Exclusive && start.is_none() && len > 0 {
        let reduction = std::any::type_name::<R>();
        return Err(Error::NoIdentity {
            reduction: reduction.rsplit("::").next().unwrap_or(reduction).to_owned(),
            kind: K::Output::KIND,
        });
    }
    let bytes = place.device.room_for::<K::Output>(len)?;
    let prefixes = prefixes::<R::Op, _>(&totals::<K, R>(&place, &args, &reduction)?);
    let storage = match place.backend() {
        Backend::Host(host) => {
            let host_args = place.host(&args)?;
            let buffer = HostBuffer::filled(&**host, len, CHUNK, &|index, out| {
                let (first, leaf) = (index * CHUNK, index * CHUNK / LEAF);
                let leaves = out.len().div_ceil(LEAF);
                lanes::run(lanes::ScanLeaves::<K, R::Op, _> {
                    args: host_args.part(first..first + out.len()),
                    kind,
                    start,
                    prefixes: &prefixes[leaf..leaf + leaves],
                    out,
                    op: PhantomData,
                });
            });
            Storage::Host(buffer?)
        }
        Backend::Device(device) => {
            let mut out = device.allocate(bytes.max(1))?;
            if len > 0 {
                let plain: Vec<_> = prefixes.iter().map(|prefix| prefix.unwrap_or_default()).collect();
                let launch_args = place.args(&args)?;
                let (launch, fold) = (launch::<K>(&launch_args, len), fold::<K, R>(&reduction));
                device.scan_leaves(&launch, &fold, kind, memory::bytes_of(&plain), &mut *out)?;
            }
            Storage::Device(out)
        }
    };
    Ok(Array::new(place.device, shape, len, storage))
}

/// What stands before each leaf: nothing before the first.
fn prefixes<O, T>(totals: &[T]) -> Vec<Option<T>>
where
    O: Kernel<Args = (T, T), Output = T>,
    T: Copy,
{
    let mut prefix = None;
    let before = totals.iter().map(|total| {
        let next = match prefix {
            Some(prefix) => O::call((prefix, *total)),
            None => *total,
        };
        prefix.replace(next)
    });
    before.collect()
}

impl<T: Element> Array<T> {
    /// The running reduction of the elements.
    ///
    /// ```
    /// use par_gpu::{Device, ScanKind, Sum};
    /// let x = Device::default().array(&[1u32, 2, 3])?;
    /// assert_eq!(x.scan(Sum, ScanKind::Inclusive)?.to_vec()?, [1, 3, 6]);
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`map_scan`].
    #[doc(alias = "InclusiveScanKernel")]
    #[doc(alias = "ExclusiveScanKernel")]
    #[doc(alias = "cumsum")]
    #[doc(alias = "accumulate")]
    pub fn scan<R: DeviceReduction<T>>(&self, reduction: R, kind: ScanKind) -> Result<Array<T>, Error> {
        map_scan::<T::Same, R>((self,), reduction, kind)
    }
}
