//! Arguments of a launch: arrays and scalars, each in the place of a kernel's parameter.

use crate::array::{Array, Storage};
use crate::backend::{Arg, Backend};
use crate::device::Device;
use crate::element::Element;
use crate::error::Error;
use std::ops::Range;

mod sealed {
    /// Keeps [`Argument`](super::Argument) and [`Arguments`](super::Arguments) to this crate: devices read as many elements as
    /// the shapes say that were checked here, and nobody else may say what an argument is.
    pub trait Sealed<T> {}
}

impl<T: Element> sealed::Sealed<T> for T {}
impl<T: Element> sealed::Sealed<T> for &Array<T> {}
impl sealed::Sealed<u64> for Index {}
impl sealed::Sealed<()> for () {}

/// What may stand for a parameter of type `T`: a number, which is the same for every element,
/// a reference to an array, or (for `u64`) the [`Index`]. No other crate can add to these.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not fit a parameter of type `{T}`",
    label = "neither a `{T}` nor an `&Array<{T}>`"
)]
pub trait Argument<T: Element>: sealed::Sealed<T> {
    /// How the loops of the host read it.
    #[doc(hidden)]
    type Host<'a>: HostArgument<T>
    where
        Self: 'a;

    #[doc(hidden)]
    fn array(&self) -> Option<&Array<T>>;

    /// `None` where it is not in the host's memory.
    #[doc(hidden)]
    fn host(&self) -> Option<Self::Host<'_>>;

    #[doc(hidden)]
    fn arg(&self) -> Option<Arg<'_>>;
}

impl<T: Element> Argument<T> for T {
    type Host<'a> = Same<T>;

    fn array(&self) -> Option<&Array<T>> {
        None
    }

    fn host(&self) -> Option<Same<T>> {
        Some(Same(*self))
    }

    fn arg(&self) -> Option<Arg<'_>> {
        Some(Arg::Scalar(self.value()))
    }
}

impl<T: Element> Argument<T> for &Array<T> {
    type Host<'a>
        = Each<'a, T>
    where
        Self: 'a;

    fn array(&self) -> Option<&Array<T>> {
        Some(self)
    }

    fn host(&self) -> Option<Each<'_, T>> {
        self.as_slice().map(Each)
    }

    fn arg(&self) -> Option<Arg<'_>> {
        match self.storage() {
            Storage::Device(memory) => Some(Arg::Array(&**memory, T::KIND)),
            Storage::Host(_) => None,
        }
    }
}

/// The number of the element, counted from 0: an argument for a parameter of type `u64`. Another argument must be an array.
///
/// ```
/// use par_gpu::{Device, Index, kernel, map};
///
/// #[kernel]
/// fn ramp(base: f32, i: u64) -> f32 {
///     base + i as f32
/// }
///
/// let zeros = Device::default().zeros::<f32>(4)?;
/// assert_eq!(map::<ramp>((&zeros, Index))?.to_vec()?, [0.0, 1.0, 2.0, 3.0]);
/// # Ok::<(), par_gpu::Error>(())
/// ```
#[doc(alias = "arange")]
#[derive(Debug, Clone, Copy)]
pub struct Index;

impl Argument<u64> for Index {
    type Host<'a> = From;

    fn array(&self) -> Option<&Array<u64>> {
        None
    }

    fn host(&self) -> Option<From> {
        Some(From(0))
    }

    fn arg(&self) -> Option<Arg<'_>> {
        Some(Arg::Index)
    }
}

/// The indexes from there on.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct From(u64);

impl HostArgument<u64> for From {
    #[inline(always)]
    fn part(self, range: Range<usize>) -> Self {
        From(self.0 + range.start as u64)
    }

    #[inline(always)]
    fn at(&self, index: usize) -> u64 {
        self.0 + index as u64
    }
}

/// An argument in the host's memory.
#[doc(hidden)]
pub trait HostArgument<T>: Copy + Sync {
    /// The part of it for these indexes.
    #[must_use]
    fn part(self, range: Range<usize>) -> Self;
    /// The number for an index, counted from the start of the part.
    fn at(&self, index: usize) -> T;
}

/// A number.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Same<T>(T);

impl<T: Element> HostArgument<T> for Same<T> {
    #[inline(always)]
    fn part(self, _: Range<usize>) -> Self {
        self
    }

    #[inline(always)]
    fn at(&self, _: usize) -> T {
        self.0
    }
}

/// An array.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Each<'a, T>(&'a [T]);

impl<T: Element> HostArgument<T> for Each<'_, T> {
    #[inline(always)]
    fn part(self, range: Range<usize>) -> Self {
        Each(&self.0[range])
    }

    #[inline(always)]
    fn at(&self, index: usize) -> T {
        self.0[index]
    }
}

/// A tuple of arguments for a kernel whose parameters are the tuple `P`. No other crate can add to these.
#[diagnostic::on_unimplemented(
    message = "the arguments `{Self}` do not fit a kernel with the parameters `{P}`",
    label = "one argument a parameter: a number of its type, an `&Array` of it, or `Index`"
)]
pub trait Arguments<P>: sealed::Sealed<P> {
    #[doc(hidden)]
    type Host<'a>: HostArgument<P>
    where
        Self: 'a;

    #[doc(hidden)]
    fn host(&self) -> Option<Self::Host<'_>>;

    /// Device and shape of each array, with its place.
    #[doc(hidden)]
    fn arrays<'a>(&'a self, visit: &mut dyn FnMut(usize, &'a Device, &'a [usize]));

    /// One for each argument, where all arrays are in the memory of a device.
    #[doc(hidden)]
    fn args(&self) -> Option<Vec<Arg<'_>>>;
}

/// A tuple of parameters, of which the first stands for the element that a call changes.
pub trait Split {
    /// The first.
    type First;
    /// The others, as a tuple.
    type Rest;
    #[doc(hidden)]
    fn join(first: Self::First, rest: Self::Rest) -> Self;
}

macro_rules! splits {
    ($($rest:ident $place:tt),*) => {
        impl<T, $($rest),*> Split for (T, $($rest,)*) {
            type First = T;
            type Rest = ($($rest,)*);

            #[inline(always)]
            fn join(first: T, rest: ($($rest,)*)) -> Self {
                let _ = &rest;
                (first, $(rest.$place,)*)
            }
        }
    };
}
splits!();
splits!(P 0);
splits!(P 0, Q 1);
splits!(P 0, Q 1, R 2);
splits!(P 0, Q 1, R 2, S 3);
splits!(P 0, Q 1, R 2, S 3, U 4);
splits!(P 0, Q 1, R 2, S 3, U 4, V 5);
splits!(P 0, Q 1, R 2, S 3, U 4, V 5, W 6);

/// No arguments beside the element itself.
impl Arguments<()> for () {
    type Host<'a> = ();

    fn host(&self) -> Option<()> {
        Some(())
    }

    fn arrays<'a>(&'a self, _: &mut dyn FnMut(usize, &'a Device, &'a [usize])) {}

    fn args(&self) -> Option<Vec<Arg<'_>>> {
        Some(Vec::new())
    }
}

impl HostArgument<()> for () {
    #[inline(always)]
    fn part(self, _: Range<usize>) -> Self {}

    #[inline(always)]
    fn at(&self, _: usize) {}
}

macro_rules! tuples {
    ($($arg:ident $param:ident $place:tt),*) => {
        impl<$($arg, $param),*> sealed::Sealed<($($param,)*)> for ($($arg,)*)
        where
            $($param: Element, $arg: Argument<$param>,)*
        {
        }

        impl<$($arg, $param),*> Arguments<($($param,)*)> for ($($arg,)*)
        where
            $($param: Element, $arg: Argument<$param>,)*
        {
            type Host<'a> = ($($arg::Host<'a>,)*) where Self: 'a;

            fn host(&self) -> Option<Self::Host<'_>> {
                Some(($(self.$place.host()?,)*))
            }

            fn arrays<'a>(&'a self, visit: &mut dyn FnMut(usize, &'a Device, &'a [usize])) {
                $(if let Some(array) = self.$place.array() {
                    visit($place, array.device(), array.shape());
                })*
            }

            fn args(&self) -> Option<Vec<Arg<'_>>> {
                Some(vec![$(self.$place.arg()?),*])
            }
        }

        impl<$($arg, $param),*> HostArgument<($($param,)*)> for ($($arg,)*)
        where
            $($arg: HostArgument<$param>,)*
        {
            #[inline(always)]
            fn part(self, range: Range<usize>) -> Self {
                ($(self.$place.part(range.clone()),)*)
            }

            #[inline(always)]
            fn at(&self, index: usize) -> ($($param,)*) {
                ($(self.$place.at(index),)*)
            }
        }
    };
}
tuples!(A P 0);
tuples!(A P 0, B Q 1);
tuples!(A P 0, B Q 1, C R 2);
tuples!(A P 0, B Q 1, C R 2, D S 3);
tuples!(A P 0, B Q 1, C R 2, D S 3, E T 4);
tuples!(A P 0, B Q 1, C R 2, D S 3, E T 4, F U 5);
tuples!(A P 0, B Q 1, C R 2, D S 3, E T 4, F U 5, G V 6);
tuples!(A P 0, B Q 1, C R 2, D S 3, E T 4, F U 5, G V 6, H W 7);

/// Where a call runs, and on how many elements.
pub(crate) struct Place<'a> {
    pub(crate) device: &'a Device,
    pub(crate) shape: &'a [usize],
}

impl<'a> Place<'a> {
    /// That of the first array; all others must agree.
    pub(crate) fn of<P>(args: &'a impl Arguments<P>) -> Result<Self, Error> {
        let mut found: Result<Option<Place<'a>>, Error> = Ok(None);
        args.arrays(&mut |index, device, shape| {
            found = match std::mem::replace(&mut found, Ok(None)) {
                Ok(None) => Ok(Some(Place { device, shape })),
                Ok(Some(place)) => place
                    .check(&|| format!("argument {}", index + 1), device, shape)
                    .map(|()| Some(place)),
                error => error,
            };
        });
        found?.ok_or(Error::NoArray)
    }

    /// That of an array that is changed in place; all arguments must agree.
    pub(crate) fn of_changed<T: Element, P>(
        out: &'a Array<T>,
        args: &impl Arguments<P>,
    ) -> Result<Self, Error> {
        let place = Place {
            device: out.device(),
            shape: out.shape(),
        };
        let mut checked = Ok(());
        args.arrays(&mut |index, device, shape| {
            if checked.is_ok() {
                checked = place.check(&|| format!("argument {}", index + 1), device, shape);
            }
        });
        checked.map(|()| place)
    }

    /// Refuses an array that is elsewhere or has another shape.
    pub(crate) fn check(
        &self,
        what: &dyn Fn() -> String,
        device: &Device,
        shape: &[usize],
    ) -> Result<(), Error> {
        if device != self.device {
            return Err(Error::Devices {
                what: what(),
                expected: self.device.name().to_owned(),
                found: device.name().to_owned(),
            });
        }
        if shape != self.shape {
            return Err(Error::Shapes {
                what: what(),
                expected: self.shape.to_vec(),
                found: shape.to_vec(),
            });
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The arguments for a launch on this device's own memory.
    pub(crate) fn args<'b, P>(&self, args: &'b impl Arguments<P>) -> Result<Vec<Arg<'b>>, Error> {
        args.args().ok_or_else(|| self.mixed())
    }

    /// The arguments for a loop in the host's memory.
    pub(crate) fn host<'b, P, A: Arguments<P>>(&self, args: &'b A) -> Result<A::Host<'b>, Error> {
        args.host().ok_or_else(|| self.mixed())
    }

    fn mixed(&self) -> Error {
        Error::Backend {
            device: self.device.name().to_owned(),
            how: "holds an array in memory of another kind".to_owned(),
        }
    }

    pub(crate) fn backend(&self) -> &'a Backend {
        self.device.backend()
    }
}
