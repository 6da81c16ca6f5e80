//! Element-wise calls of kernels.

use crate::arguments::{Argument, Arguments, HostArgument, Place, Split};
use crate::array::{Array, CHUNK, Storage};
use crate::backend::{Arg, Backend, HostBackend, Launch};
use crate::element::Element;
use crate::error::Error;
use crate::kernel::Kernel;
use crate::lanes;
use crate::memory::{self, HostBuffer};
use std::any::TypeId;

/// A new array with the kernel of each index of the arguments. It runs where they live, and has the shape of the first array.
///
/// ```
/// use par_gpu::{Device, kernel, map};
///
/// #[kernel]
/// fn clip(x: f64, low: f64, high: f64) -> f64 {
///     if x < low { low } else if x > high { high } else { x }
/// }
///
/// let x = Device::default().array(&[-3.0, 0.5, 7.0])?;
/// assert_eq!(map::<clip>((&x, -1.0, 1.0))?.to_vec()?, [-1.0, 0.5, 1.0]);
/// # Ok::<(), par_gpu::Error>(())
/// ```
///
/// # Errors
/// Arrays on different devices or of different shapes, no array at all, no room, and what the driver says.
#[doc(alias = "ElementwiseKernel")]
pub fn map<K: Kernel<Output: Element>>(args: impl Arguments<K::Args>) -> Result<Array<K::Output>, Error> {
    let place = Place::of(&args)?;
    let (len, shape) = (place.len(), place.shape.to_vec());
    let bytes = place.device.room_for::<K::Output>(len)?;
    let storage = match place.backend() {
        Backend::Host(host) => {
            let host_args = place.host(&args)?;
            let buffer = HostBuffer::filled(&**host, len, CHUNK, &|index, part| {
                write_part::<K, _>(host_args, index, part)
            });
            Storage::Host(buffer?)
        }
        Backend::Device(device) => {
            let mut out = device.allocate(bytes.max(1))?;
            if len > 0 {
                device.map(&launch::<K>(&place.args(&args)?, len), &mut *out)?;
            }
            Storage::Device(out)
        }
    };
    Ok(Array::new(place.device, shape, len, storage))
}

/// As [`map`], into an array that is there already: nothing is allocated.
///
/// ```
/// use par_gpu::{Device, kernel, map_into};
///
/// #[kernel]
/// fn scale(a: f32, x: f32) -> f32 { a * x }
///
/// let device = Device::default();
/// let x = device.array(&[1.0f32, 2.0])?;
/// let mut z = device.zeros(2)?;
/// map_into::<scale>((3.0, &x), &mut z)?;
/// assert_eq!(z.to_vec()?, [3.0, 6.0]);
/// # Ok::<(), par_gpu::Error>(())
/// ```
///
/// # Errors
/// As [`map`]; the array must have the shape of the arguments, and live with them.
pub fn map_into<K: Kernel<Output: Element>>(
    args: impl Arguments<K::Args>,
    out: &mut Array<K::Output>,
) -> Result<(), Error> {
    let place = Place::of(&args)?;
    place.check(&|| "the output".to_owned(), out.device(), out.shape())?;
    let len = place.len();
    match (place.backend(), out.storage_mut()) {
        (Backend::Host(host), Storage::Host(buffer)) => {
            let host_args = place.host(&args)?;
            write_all::<K, _>(&**host, host_args, buffer.as_mut_slice())
        }
        (Backend::Device(device), Storage::Device(out)) if len > 0 => {
            device.map(&launch::<K>(&place.args(&args)?, len), &mut **out)
        }
        _ => Ok(()),
    }
}

/// Changes an array in place: the kernel's first parameter is the element as it was, the others are arguments.
///
/// ```
/// use par_gpu::{Device, kernel, update};
///
/// #[kernel]
/// fn add_scaled(y: f32, a: f32, x: f32) -> f32 { y + a * x }
///
/// let device = Device::default();
/// let x = device.array(&[1.0f32, 2.0])?;
/// let mut y = device.array(&[10.0f32, 20.0])?;
/// update::<add_scaled>(&mut y, (3.0, &x))?;
/// assert_eq!(y.to_vec()?, [13.0, 26.0]);
/// # Ok::<(), par_gpu::Error>(())
/// ```
///
/// # Errors
/// As [`map`]; the arrays among the arguments must have the array's shape, and live with it.
#[doc(alias = "axpy")]
pub fn update<K>(
    array: &mut Array<K::Output>,
    args: impl Arguments<<K::Args as Split>::Rest>,
) -> Result<(), Error>
where
    K: Kernel<Args: Split<First = K::Output>, Output: Element>,
{
    let place = Place::of_changed(array, &args)?;
    let (len, backend) = (place.len(), place.backend().clone());
    match backend {
        Backend::Host(host) => {
            let host_args = place.host(&args)?;
            if let Storage::Host(buffer) = array.storage_mut() {
                memory::write_parts(&*host, buffer.as_mut_slice(), CHUNK, &|index, part| {
                    let first = index * CHUNK;
                    let args = host_args.part(first..first + part.len());
                    lanes::run(lanes::Update::<K, _> { args, array: part });
                })?;
            }
        }
        Backend::Device(device) if len > 0 => {
            let mut launch_args = vec![Arg::Output];
            launch_args.extend(place.args(&args)?);
            if let Storage::Device(memory) = array.storage_mut() {
                device.map(&launch::<K>(&launch_args, len), &mut **memory)?;
            }
        }
        Backend::Device(_) => {}
    }
    Ok(())
}

pub(crate) fn launch<'a, K: Kernel>(args: &'a [Arg<'a>], len: usize) -> Launch<'a> {
    Launch {
        source: K::SOURCE,
        id: TypeId::of::<K>(),
        args,
        len,
    }
}

fn write_all<K: Kernel<Output: Element>, H: HostArgument<K::Args>>(
    host: &dyn HostBackend,
    args: H,
    out: &mut [K::Output],
) -> Result<(), Error> {
    memory::write_parts(host, out, CHUNK, &|index, part| {
        write_part::<K, _>(args, index, part)
    })
}

/// Writes every element of a part.
fn write_part<K: Kernel, H: HostArgument<K::Args>>(args: H, index: usize, part: &mut [K::Output]) {
    let first = index * CHUNK;
    let args = args.part(first..first + part.len());
    lanes::run(lanes::Map::<K, H> { args, out: part });
}

impl<T: Element> Array<T> {
    /// A new array with the kernel of each element: [`map`] for a kernel of one parameter.
    ///
    /// ```
    /// use par_gpu::{Device, kernel};
    ///
    /// #[kernel]
    /// fn root(x: f32) -> f32 { x.abs().sqrt() }
    ///
    /// let x = Device::default().array(&[4.0f32, -9.0])?;
    /// assert_eq!(x.map::<root>()?.to_vec()?, [2.0, 3.0]);
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`map`].
    pub fn map<K: Kernel<Args = (T,), Output: Element>>(&self) -> Result<Array<K::Output>, Error> {
        map::<K>((self,))
    }

    /// A new array with the kernel of each element and another argument, an array or a number: [`map`] for a kernel of two
    /// parameters.
    ///
    /// ```
    /// use par_gpu::{Device, kernel};
    ///
    /// #[kernel]
    /// fn minus(x: i32, y: i32) -> i32 { x - y }
    ///
    /// let x = Device::default().array(&[5, 3])?;
    /// assert_eq!(x.zip_map::<minus, _>(1)?.to_vec()?, [4, 2]);
    /// assert_eq!(x.zip_map::<minus, _>(&x)?.to_vec()?, [0, 0]);
    /// # Ok::<(), par_gpu::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`map`].
    pub fn zip_map<K: Kernel<Args = (T, U), Output: Element>, U: Element>(
        &self,
        other: impl Argument<U>,
    ) -> Result<Array<K::Output>, Error> {
        map::<K>((self, other))
    }
}
