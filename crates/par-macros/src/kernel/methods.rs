//! Methods of numbers that kernels know: those that every device computes to the last bit.

use super::lower::{Lowerer, Value, error};
use super::scalar::Scalar;
use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Expr, ExprMethodCall};

/// The type of an argument, or of the result.
#[derive(Clone, Copy)]
enum Ty {
    /// That of the receiver.
    Own,
    /// The unsigned integer of the receiver's size.
    Bits,
    Is(Scalar),
}

/// On which side a method is another function than in Rust's standard library.
struct Method {
    arguments: &'static [Ty],
    result: Ty,
    /// The C expression, with `$0` for the receiver, `$1` .. for arguments, `$u` for its unsigned type, `$t` for its type,
    /// `$n` for its name in Rust.
    c: &'static str,
    /// A function of `macro_support` that is called instead of the method of that name.
    ours: bool,
}

const fn method(arguments: &'static [Ty], result: Ty, c: &'static str) -> Option<Method> {
    Some(Method {
        arguments,
        result,
        c,
        ours: false,
    })
}

const fn ours(arguments: &'static [Ty], result: Ty, c: &'static str) -> Option<Method> {
    Some(Method {
        arguments,
        result,
        c,
        ours: true,
    })
}

const I32: Ty = Ty::Is(Scalar::I32);
const U32: Ty = Ty::Is(Scalar::U32);
const BOOL: Ty = Ty::Is(Scalar::Bool);

fn of_float(name: &str) -> Option<Method> {
    match name {
        "abs" => method(&[], Ty::Own, "fabs($0)"),
        "sqrt" => method(&[], Ty::Own, "par_sqrt_$n($0)"),
        "floor" => method(&[], Ty::Own, "par_floor_$n($0)"),
        "ceil" => method(&[], Ty::Own, "par_ceil_$n($0)"),
        "trunc" => method(&[], Ty::Own, "par_trunc_$n($0)"),
        "round" => method(&[], Ty::Own, "par_round_$n($0)"),
        "round_ties_even" => method(&[], Ty::Own, "par_rint_$n($0)"),
        "recip" => method(&[], Ty::Own, "par_div_$n(($t)1, $0)"),
        "mul_add" => method(&[Ty::Own, Ty::Own], Ty::Own, "fma($0, $1, $2)"),
        "copysign" => method(&[Ty::Own], Ty::Own, "copysign($0, $1)"),
        "min" => ours(&[Ty::Own], Ty::Own, "par_min_$n($0, $1)"),
        "max" => ours(&[Ty::Own], Ty::Own, "par_max_$n($0, $1)"),
        "powi" => ours(&[I32], Ty::Own, "par_powi_$n($0, $1)"),
        "is_nan" => method(&[], BOOL, "$0 != $0"),
        "is_finite" => method(&[], BOOL, "fabs($0) < ($t)INFINITY"),
        "is_infinite" => method(&[], BOOL, "fabs($0) == ($t)INFINITY"),
        "to_bits" => method(&[], Ty::Bits, "as_$u($0)"),
        _ => None,
    }
}

fn of_int(name: &str, signed: bool) -> Option<Method> {
    match name {
        // Not C's `abs`: PoCL's is undefined for the least number.
        "abs" | "wrapping_abs" if signed => method(&[], Ty::Own, "($t)($0 < 0 ? 0u - ($u)$0 : ($u)$0)"),
        "min" => method(&[Ty::Own], Ty::Own, "min($0, $1)"),
        "max" => method(&[Ty::Own], Ty::Own, "max($0, $1)"),
        "wrapping_add" => method(&[Ty::Own], Ty::Own, "($t)(($u)$0 + ($u)$1)"),
        "wrapping_sub" => method(&[Ty::Own], Ty::Own, "($t)(($u)$0 - ($u)$1)"),
        "wrapping_mul" => method(&[Ty::Own], Ty::Own, "($t)(($u)$0 * ($u)$1)"),
        "wrapping_neg" => method(&[], Ty::Own, "($t)(0u - ($u)$0)"),
        "saturating_add" => method(&[Ty::Own], Ty::Own, "add_sat($0, $1)"),
        "saturating_sub" => method(&[Ty::Own], Ty::Own, "sub_sat($0, $1)"),
        "rotate_left" => method(
            &[U32],
            Ty::Own,
            "rotate($0, ($t)($1 & (8u * (uint)sizeof($t) - 1u)))",
        ),
        "count_ones" => method(&[], U32, "(uint)popcount(($u)$0)"),
        "leading_zeros" => method(&[], U32, "(uint)clz(($u)$0)"),
        _ => None,
    }
}

const FLOATS: &str = "abs, sqrt, floor, ceil, trunc, round, round_ties_even, recip, mul_add, copysign, min, max, powi, \
                      is_nan, is_finite, is_infinite, to_bits";
const INTS: &str = "abs, wrapping_abs, min, max, wrapping_add, wrapping_sub, wrapping_mul, wrapping_neg, saturating_add, \
                    saturating_sub, rotate_left, count_ones, leading_zeros";

fn find(scalar: Scalar, name: &str) -> Option<Method> {
    if scalar.is_float() {
        of_float(name)
    } else if scalar.is_int() {
        of_int(name, scalar.is_signed())
    } else {
        None
    }
}

fn resolve(ty: Ty, own: Scalar) -> Scalar {
    match ty {
        Ty::Own => own,
        Ty::Bits => own.unsigned(),
        Ty::Is(scalar) => scalar,
    }
}

impl Lowerer {
    /// The type of the result, as far as the receiver's or an argument's tells it.
    pub(super) fn known_method(&self, call: &ExprMethodCall) -> Option<Scalar> {
        let own = self.receiver_type(call)?;
        let method = find(own, &call.method.to_string())?;
        Some(resolve(method.result, own))
    }

    fn receiver_type(&self, call: &ExprMethodCall) -> Option<Scalar> {
        self.known(&call.receiver).or_else(|| {
            // The arguments of all but these are of the receiver's type.
            let other = ["powi", "rotate_left"].iter().any(|name| call.method == name);
            let mut arguments = call.args.iter().filter(|_| !other);
            arguments.find_map(|argument| self.known(argument))
        })
    }

    pub(super) fn method(&mut self, call: &ExprMethodCall, expected: Option<Scalar>) -> syn::Result<Value> {
        let name = call.method.to_string();
        if let Some(turbofish) = &call.turbofish {
            return Err(error(turbofish, "methods in a kernel have no type arguments"));
        }
        // Where nothing else tells, the receiver has the type of the result; that holds for those methods that keep it.
        let keeps = |scalar| find(scalar, &name).is_some_and(|method| matches!(method.result, Ty::Own));
        let hint = self
            .receiver_type(call)
            .or(expected.filter(|scalar| keeps(*scalar)));
        let receiver = self.value(&call.receiver, hint)?;
        let own = receiver.scalar;
        let Some(method) = find(own, &name) else {
            let known = if own.is_float() { FLOATS } else { INTS };
            let known = if own == Scalar::Bool { "none" } else { known };
            return Err(error(
                &call.method,
                format!(
                    "a kernel does not know the method `{name}` of `{}`; it knows those that have the same bits on every \
                     device: {known}",
                    own.name()
                ),
            ));
        };
        let arguments: Vec<&Expr> = call.args.iter().collect();
        if arguments.len() != method.arguments.len() {
            let (takes, given) = (method.arguments.len(), arguments.len());
            return Err(error(
                call,
                format!("`{name}` takes {takes} arguments, {given} are given"),
            ));
        }
        let mut values = vec![receiver];
        for (argument, ty) in arguments.into_iter().zip(method.arguments) {
            values.push(self.value_of(argument, resolve(*ty, own))?);
        }
        let mut c = method
            .c
            .replace("$t", own.c())
            .replace("$u", own.unsigned().c())
            .replace("$n", own.name());
        for (place, value) in values.iter().enumerate() {
            c = c.replace(&format!("${place}"), &value.c);
        }
        let scalar = resolve(method.result, own);
        Ok(Value {
            rust: self.method_in_rust(call, &method, &values),
            c: self.bind(scalar, &c),
            scalar,
        })
    }

    fn method_in_rust(&self, call: &ExprMethodCall, method: &Method, values: &[Value]) -> TokenStream {
        let (mut name, gpu, own) = (call.method.clone(), &self.gpu, values[0].scalar);
        let ty = own.rust();
        if own.is_int() && name == "abs" {
            // Integers wrap, in every build.
            name = syn::Ident::new("wrapping_abs", name.span());
        }
        let arguments = values.iter().map(|value| value.rust.to_token_stream());
        if method.ours {
            quote_spanned!(call.span()=> <#ty as #gpu::macro_support::Scalar>::#name(#(#arguments),*))
        } else if own.is_int() && (name == "min" || name == "max") {
            // A trait's methods, and another trait in scope may have some of these names.
            quote_spanned!(call.span()=> <#ty as ::core::cmp::Ord>::#name(#(#arguments),*))
        } else {
            let path = quote!(<#ty>::#name);
            quote_spanned!(call.span()=> #path(#(#arguments),*))
        }
    }
}
