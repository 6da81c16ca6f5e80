//! Arrays on devices, and kernels written once, in Rust.
//!
//! A [`Device`] holds [`Array`]s. A function marked [`#[kernel]`](macro@kernel) runs on them at every index ([`map()`]), with a
//! [`Reduction`] after it ([`map_reduce`]) or a running one ([`map_scan`]): on the host's processor, where the compiler builds it
//! into vectorised loops over all cores, and on OpenCL devices (feature `opencl`), where the same function is compiled from C. The
//! results have the same bits everywhere, and reductions those of every other reduction of the toolkit.
//!
//! ```
//! use par_gpu::{Device, Sum, kernel, map, map_reduce};
//!
//! #[kernel]
//! fn axpby(a: f32, x: f32, b: f32, y: f32) -> f32 {
//!     a * x + b * y
//! }
//!
//! #[kernel]
//! fn times(x: f32, y: f32) -> f32 {
//!     x * y
//! }
//!
//! for device in Device::list() {
//!     let x = device.array(&[1.0f32, 2.0, 3.0])?;
//!     let y = device.array(&[10.0f32, 20.0, 30.0])?;
//!     let z = map::<axpby>((2.0, &x, 5.0, &y))?;
//!     assert_eq!(z.to_vec()?, [52.0, 104.0, 156.0]);
//!     assert_eq!(map_reduce::<times, _>((&x, &y), Sum)?, 140.0);
//! }
//! # Ok::<(), par_gpu::Error>(())
//! ```
//!
//! # If you know PyCUDA or PyOpenCL
//!
//! | there | here |
//! |---|---|
//! | `cl.get_platforms()`, `drv.Device(i)` | [`Device::list`], [`Device::info`] |
//! | `cl.create_some_context()`, `import pycuda.autoinit` | [`Device::default`] |
//! | an exception or a wait where a driver is missing | [`Device::problems`] |
//! | `gpuarray.to_gpu(a)`, `cl.array.to_device(queue, a)` | [`Device::array`] |
//! | `gpuarray.zeros(n, dtype)`, `cl.array.arange` | [`Device::zeros`], [`Device::collect`] |
//! | `a.get()`, `a.set(b)` | [`Array::to_vec`], [`Array::copy_to`], [`Array::copy_from`] |
//! | `ElementwiseKernel("float a, float *x, float *z", "z[i] = a * x[i]")` | `#[kernel] fn scale(a: f32, x: f32) -> f32 { a * x }` |
//! | `i` in an `ElementwiseKernel` | a parameter of type `u64`, called with [`Index`] |
//! | calling it: `k(a, x, z)` | `map_into::<k>((a, &x), &mut z)` ([`map_into`]), or [`map()`] for a new array |
//! | `"y[i] = y[i] + a * x[i]"` | `update::<k>(&mut y, (a, &x))` ([`update`]) |
//! | `ReductionKernel(..., map_expr="x[i] * y[i]", reduce_expr="a + b")` | `map_reduce::<times, _>((&x, &y), Sum)` ([`map_reduce`]), or [`By`] a kernel |
//! | `gpuarray.sum(a)`, `gpuarray.max(a)` | `a.reduce(Sum)`, `a.reduce(Max)` ([`Array::reduce`]) |
//! | `InclusiveScanKernel`, `ExclusiveScanKernel` | [`Array::scan`], [`map_scan`] |
//! | `queue.finish()`, `Context.synchronize()` | [`Device::synchronize`] |
//!
//! From Numba and numpy: `@vectorize` is `#[kernel]`, called by [`map()`]; `cuda.to_device(a)` is [`Device::array`], `d.copy_to_host()`
//! [`Array::to_vec`], `a.sum()` and `cuda.reduce` are [`Array::reduce`], `np.cumsum(a)` is [`Array::scan`] by [`Sum`],
//! `a.reshape(2, 3)` [`Array::reshape`].
//!
//! # Bits
//!
//! What a kernel may contain (see [`#[kernel]`](macro@kernel)) is what IEEE 754 and two's complement define to the last bit; `exp` and
//! its like differ from device to device, and are left out. Nothing is contracted: `a * x + y` rounds twice, and `mul_add` once.
//! A device that would flush subnormal numbers, or rounds divisions and roots otherwise, refuses a kernel that could tell
//! ([`Error::Unsupported`]). One thing is left to the processor: which NaN it computes. A NaN that is only moved keeps its bits.
//!
//! Reductions fold leaves of 1024 elements, each in order, and combine them as a binary counter ([`par_core::fold`]); scans keep
//! the order of [`par_core::fold::scan`]. So a sum of floats is the same on a graphics card, on threads and on a cluster.
//!
//! # Devices
//!
//! | backend | feature | needs |
//! |---|---|---|
//! | `cpu` | always there | nothing |
//! | `opencl` | `opencl` | a driver, found when the program runs: `apt-get install pocl-opencl-icd` gives one for any processor |
//!
//! A program built with `opencl` starts without a driver too: [`Device::list`] holds what is there, [`Device::problems`] what is
//! not, why, and what to install. The variable `PAR_OPENCL_LIBRARY` names another library than `libOpenCL.so.1`.
//! Other backends implement the traits of [`backend`].

// The macro names this crate by its own name, also where it is used within it.
extern crate self as par_gpu;

mod arguments;
mod array;
pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cpu;
mod device;
mod element;
mod error;
mod kernel;
mod lanes;
#[doc(hidden)]
pub mod macro_support;
mod map;
mod memory;
#[cfg(feature = "opencl")]
mod opencl;
mod reduce;
mod reduction;
mod scan;

pub use arguments::{Argument, Arguments, Index, Split};
pub use array::Array;
pub use device::{Device, DeviceInfo, DeviceKind};
pub use element::{Element, Kind, Value};
pub use error::{Error, Problem};
pub use kernel::{Kernel, Piece, Source};
pub use map::{map, map_into, update};
pub use par_core;
pub use par_core::{BitAnd, BitOr, BitXor, Max, Min, Product, Reduction, ScanKind, Sum};
/// ```
/// use par_gpu::{Device, kernel, map};
///
/// const STEPS: i32 = 50;
///
/// /// Kernels call kernels, and no type is guessed: the result of a call is named.
/// #[kernel]
/// fn outside(x: f32, y: f32) -> bool {
///     x * x + y * y > 4.0
/// }
///
/// #[kernel]
/// fn escapes(cx: f32, cy: f32) -> u32 {
///     let mut x = 0.0_f32;
///     let mut y = 0.0_f32;
///     let mut steps: u32 = 0;
///     for _step in 0_i32..STEPS {
///         let left: bool = outside(x, y);
///         if !left {
///             let next = x * x - y * y + cx;
///             y = 2.0 * x * y + cy;
///             x = next;
///             steps += 1;
///         }
///     }
///     steps
/// }
///
/// let device = Device::default();
/// let x = device.array(&[0.0f32, 1.0, 2.0])?;
/// assert_eq!(map::<escapes>((&x, 0.0))?.to_vec()?, [50, 3, 2]);
/// assert_eq!(escapes(1.0, 0.0), 3);
/// # Ok::<(), par_gpu::Error>(())
/// ```
#[doc(alias = "vectorize")]
#[doc(alias = "guvectorize")]
#[doc(alias = "cuda.jit")]
#[doc(alias = "SourceModule")]
pub use par_macros::kernel;
pub use reduce::map_reduce;
pub use reduction::{By, DeviceReduction};
pub use scan::map_scan;
