//! The scalar types of kernels, in Rust and in OpenCL C.

use proc_macro2::{Ident, Span, TokenStream};
use quote::{format_ident, quote};
use syn::{Path, Type};

/// The type of every value in a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    F32,
    F64,
    I32,
    U32,
    I64,
    U64,
    Bool,
}

use Scalar::{Bool, F32, F64, I32, I64, U32, U64};

const ALL: [Scalar; 7] = [F32, F64, I32, U32, I64, U64, Bool];

impl Scalar {
    pub(crate) fn named(name: &str) -> Option<Scalar> {
        ALL.into_iter().find(|scalar| scalar.name() == name)
    }

    /// The type that is written there.
    pub(crate) fn of_type(ty: &Type) -> syn::Result<Scalar> {
        let found = match ty {
            Type::Group(group) => return Scalar::of_type(&group.elem),
            Type::Paren(paren) => return Scalar::of_type(&paren.elem),
            Type::Path(path) if path.qself.is_none() => {
                let last = path.path.segments.last();
                last.filter(|last| last.arguments.is_none())
                    .and_then(|last| Scalar::named(&last.ident.to_string()))
            }
            _ => None,
        };
        found.ok_or_else(|| {
            syn::Error::new_spanned(
                ty,
                "a kernel knows the types f32, f64, i32, u32, i64, u64 and bool, written by these names",
            )
        })
    }

    /// The type of a constant whose path names it, as `f32::EPSILON` and `std::f64::consts::PI` do.
    pub(crate) fn of_constant(path: &Path) -> Option<Scalar> {
        let mut segments = path
            .segments
            .iter()
            .rev()
            .map(|segment| segment.ident.to_string());
        let constant = segments.next()?;
        let owner = segments
            .find(|name| name != "consts")
            .and_then(|name| Scalar::named(&name))?;
        // What is said about a type need not be of it.
        Some(match &*constant {
            "BITS" | "DIGITS" | "MANTISSA_DIGITS" | "RADIX" => U32,
            "MIN_EXP" | "MAX_EXP" | "MIN_10_EXP" | "MAX_10_EXP" => I32,
            _ => owner,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            F32 => "f32",
            F64 => "f64",
            I32 => "i32",
            U32 => "u32",
            I64 => "i64",
            U64 => "u64",
            Bool => "bool",
        }
    }

    /// As OpenCL C writes it.
    pub(crate) fn c(self) -> &'static str {
        match self {
            F32 => "float",
            F64 => "double",
            I32 => "int",
            U32 => "uint",
            I64 => "long",
            U64 => "ulong",
            Bool => "bool",
        }
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, F32 | F64)
    }

    pub(crate) fn is_int(self) -> bool {
        !self.is_float() && self != Bool
    }

    pub(crate) fn is_signed(self) -> bool {
        matches!(self, I32 | I64)
    }

    pub(crate) fn bits(self) -> u32 {
        match self {
            F64 | I64 | U64 => 64,
            _ => 32,
        }
    }

    /// The unsigned integer of the same size.
    pub(crate) fn unsigned(self) -> Scalar {
        if self.bits() == 64 { U64 } else { U32 }
    }

    /// The type, where names of the user's cannot hide it.
    pub(crate) fn rust(self) -> TokenStream {
        let ident = self.name_ident(Span::call_site());
        quote!(::core::primitive::#ident)
    }

    pub(crate) fn name_ident(self, span: Span) -> Ident {
        Ident::new(self.name(), span)
    }

    pub(crate) fn kind(self, support: &TokenStream) -> TokenStream {
        let mut name = self.name().to_owned();
        name[..1].make_ascii_uppercase();
        let ident = format_ident!("{name}");
        quote!(#support::Kind::#ident)
    }
}
