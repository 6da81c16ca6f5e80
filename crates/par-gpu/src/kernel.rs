//! Kernels: functions of numbers that every device can run, as Rust and as OpenCL C.

use crate::element::{Kind, Value};

/// A function of numbers that a device runs on each element of arrays; made by [`#[kernel]`](macro@crate::kernel).
///
/// ```
/// use par_gpu::{Device, Kernel, kernel, map};
///
/// #[kernel]
/// fn axpy(a: f32, x: f32, y: f32) -> f32 {
///     a * x + y
/// }
///
/// // A plain function, and a type that stands for it.
/// assert_eq!(axpy(2.0, 10.0, 1.0), 21.0);
/// assert_eq!(axpy::call((2.0, 10.0, 1.0)), 21.0);
///
/// let device = Device::cpu();
/// let x = device.array(&[1.0f32, 2.0, 3.0])?;
/// let y = device.array(&[10.0f32, 20.0, 30.0])?;
/// assert_eq!(map::<axpy>((2.0, &x, &y))?.to_vec()?, [12.0, 24.0, 36.0]);
/// # Ok::<(), par_gpu::Error>(())
/// ```
///
/// # Safety
/// Devices compile and run [`SOURCE`](Self::SOURCE) as it stands, in the memory of the program where the device is the host's
/// processor. It must have the parameters `Args` and the result `Output`, and touch nothing but these. What the macro makes
/// keeps that; there is no need to implement the trait by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no kernel",
    label = "kernels are functions marked `#[kernel]`, named here without arguments"
)]
pub unsafe trait Kernel: 'static {
    /// The parameters, as a tuple.
    type Args: Copy;
    /// What it returns.
    type Output: Copy;

    /// The same function for devices that compile OpenCL C.
    #[doc(hidden)]
    const SOURCE: &'static Source;

    /// Calls it, here.
    fn call(args: Self::Args) -> Self::Output;
}

/// A function in OpenCL C, as the macro writes it.
///
/// Two sources that are equal are the same function.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// What the function is called in Rust, for those who read the program.
    pub name: &'static str,
    /// The kinds of its parameters, which are called `p0`, `p1`, ...
    pub params: &'static [Kind],
    /// The kind of its result.
    pub output: Kind,
    /// Its body.
    pub body: &'static [Piece],
    /// The kernels that it calls.
    pub calls: &'static [&'static Source],
}

/// A piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// OpenCL C.
    Text(&'static str),
    /// The name of the called kernel with that number.
    Call(usize),
    /// A constant.
    Value(Value),
}
