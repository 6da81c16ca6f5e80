//! What an array may hold, and the numbers of kernels.

use crate::kernel::Kernel;
use par_core::Data;
use std::fmt;

/// The type of a value in a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `f32`.
    F32,
    /// `f64`.
    F64,
    /// `i32`.
    I32,
    /// `u32`.
    U32,
    /// `i64`.
    I64,
    /// `u64`.
    U64,
    /// `bool`, of which there are no arrays.
    Bool,
}

impl Kind {
    /// The type's name in Rust.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::F32 => "f32",
            Kind::F64 => "f64",
            Kind::I32 => "i32",
            Kind::U32 => "u32",
            Kind::I64 => "i64",
            Kind::U64 => "u64",
            Kind::Bool => "bool",
        }
    }

    /// The type's name in OpenCL C.
    pub const fn c_name(self) -> &'static str {
        match self {
            Kind::F32 => "float",
            Kind::F64 => "double",
            Kind::I32 => "int",
            Kind::U32 => "uint",
            Kind::I64 => "long",
            Kind::U64 => "ulong",
            Kind::Bool => "bool",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One number of a kernel, of a kind that is known when the program runs only.
///
/// Two are equal where they are of one kind and have the same bits: a NaN is itself, and `-0.0` is not `0.0`.
#[derive(Debug, Clone, Copy)]
pub enum Value {
    /// An `f32`.
    F32(f32),
    /// An `f64`.
    F64(f64),
    /// An `i32`.
    I32(i32),
    /// A `u32`.
    U32(u32),
    /// An `i64`.
    I64(i64),
    /// A `u64`.
    U64(u64),
    /// A `bool`.
    Bool(bool),
}

/// How the macro makes a value of a constant, each named as its type.
#[doc(hidden)]
#[allow(missing_docs, reason = "named as their types, for the macro")]
impl Value {
    pub const fn f32(value: f32) -> Self {
        Value::F32(value)
    }
    pub const fn f64(value: f64) -> Self {
        Value::F64(value)
    }
    pub const fn i32(value: i32) -> Self {
        Value::I32(value)
    }
    pub const fn u32(value: u32) -> Self {
        Value::U32(value)
    }
    pub const fn i64(value: i64) -> Self {
        Value::I64(value)
    }
    pub const fn u64(value: u64) -> Self {
        Value::U64(value)
    }
    pub const fn bool(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Value::F32(one), Value::F32(two)) => one.to_bits() == two.to_bits(),
            (Value::F64(one), Value::F64(two)) => one.to_bits() == two.to_bits(),
            (Value::I32(one), Value::I32(two)) => one == two,
            (Value::U32(one), Value::U32(two)) => one == two,
            (Value::I64(one), Value::I64(two)) => one == two,
            (Value::U64(one), Value::U64(two)) => one == two,
            (Value::Bool(one), Value::Bool(two)) => one == two,
            _ => false,
        }
    }
}

impl Eq for Value {}

impl Value {
    /// The value as OpenCL C, to the last bit.
    pub fn c_literal(self) -> String {
        match self {
            Value::F32(value) => format!("as_float({:#010x}u)", value.to_bits()),
            Value::F64(value) => format!("as_double({:#018x}UL)", value.to_bits()),
            Value::I32(value) => format!("as_int({:#x}u)", value.cast_unsigned()),
            Value::U32(value) => format!("{value}u"),
            Value::I64(value) => format!("as_long({:#x}UL)", value.cast_unsigned()),
            Value::U64(value) => format!("{value}UL"),
            Value::Bool(value) => value.to_string(),
        }
    }
}

pub(crate) mod sealed {
    /// Keeps [`Element`](super::Element) to types of which every pattern of bits is a value.
    pub trait Sealed {}
}

/// What an array holds: `f32`, `f64`, `i32`, `u32`, `i64` or `u64`.
///
/// No other crate can add to these: whoever moves arrays to devices relies on it that each is plain bits.
#[diagnostic::on_unimplemented(
    message = "an array cannot hold `{Self}`",
    label = "arrays hold f32, f64, i32, u32, i64 and u64"
)]
pub trait Element:
    sealed::Sealed + Data + Sync + Copy + PartialEq + PartialOrd + fmt::Debug + Default
{
    /// Which of them it is.
    const KIND: Kind;

    /// The kernel that gives back its argument.
    #[doc(hidden)]
    type Same: Kernel<Args = (Self,), Output = Self>;

    /// The value with its kind.
    fn value(self) -> Value;

    /// Its bits, with zeros above; two values are the same bits where these are equal.
    fn bits(self) -> u64;
}

macro_rules! elements {
    ($($ty:ident $kind:ident $same:ident $bits:expr;)*) => {$(
        #[par_macros::kernel]
        #[allow(unreachable_pub, reason = "the type of its name is named by a public trait")]
        pub fn $same(x: $ty) -> $ty {
            x
        }

        impl sealed::Sealed for $ty {}

        impl Element for $ty {
            const KIND: Kind = Kind::$kind;
            type Same = $same;

            fn value(self) -> Value {
                Value::$kind(self)
            }

            fn bits(self) -> u64 {
                $bits(self)
            }
        }
    )*};
}

elements! {
    f32 F32 same_f32 |x: f32| u64::from(x.to_bits());
    f64 F64 same_f64 f64::to_bits;
    i32 I32 same_i32 |x: i32| u64::from(x.cast_unsigned());
    u32 U32 same_u32 u64::from;
    i64 I64 same_i64 i64::cast_unsigned;
    u64 U64 same_u64 std::convert::identity;
}
