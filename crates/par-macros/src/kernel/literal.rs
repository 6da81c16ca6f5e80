//! Literals of a kernel, in Rust and in OpenCL C.

use super::lower::{Value, error};
use super::scalar::Scalar;
use proc_macro2::{Literal, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::Lit;

/// As [`unknown`], of a number.
fn unknown_number(literal: &Lit, digits: &str) -> syn::Error {
    let ty = if matches!(literal, Lit::Int(_)) {
        "i32"
    } else {
        "f32"
    };
    error(
        literal,
        format!("the type of this number is not known here: name it, as in `{digits}_{ty}`"),
    )
}

pub(super) fn literal_value(literal: &Lit, expected: Option<Scalar>, negative: bool) -> syn::Result<Value> {
    let minus = if negative { "-" } else { "" };
    let (text, suffix) = match literal {
        Lit::Bool(value) if !negative => {
            return Ok(Value {
                rust: value.to_token_stream(),
                c: value.value.to_string(),
                scalar: Scalar::Bool,
            });
        }
        Lit::Float(float) => (float.base10_digits(), float.suffix()),
        Lit::Int(int) => (int.base10_digits(), int.suffix()),
        other => {
            return Err(error(
                other,
                "a kernel knows literals of numbers and `true` and `false`",
            ));
        }
    };
    let scalar = match (suffix, expected) {
        ("", None) => return Err(unknown_number(literal, text)),
        ("", Some(scalar)) => scalar,
        (suffix, _) => Scalar::named(suffix)
            .ok_or_else(|| error(literal, format!("a kernel does not know the type `{suffix}`")))?,
    };
    let span = literal.span();
    let whole = matches!(literal, Lit::Int(_));
    let (rust, c) = match scalar {
        Scalar::F32 if !whole || !suffix.is_empty() => {
            let value: f32 = text.parse().map_err(|e| error(literal, e))?;
            if !value.is_finite() {
                return Err(error(literal, "this literal is too large for `f32`"));
            }
            let token = Literal::f32_suffixed(value).into_token_stream();
            (token, format!("({minus}{value:e}f)"))
        }
        Scalar::F64 if !whole || !suffix.is_empty() => {
            let value: f64 = text.parse().map_err(|e| error(literal, e))?;
            if !value.is_finite() {
                return Err(error(literal, "this literal is too large for `f64`"));
            }
            let token = Literal::f64_suffixed(value).into_token_stream();
            (token, format!("({minus}{value:e})"))
        }
        Scalar::F32 | Scalar::F64 => {
            let name = scalar.name();
            return Err(error(
                literal,
                format!("an integer literal where `{name}` is needed: write `{text}.0`"),
            ));
        }
        Scalar::Bool => return Err(error(literal, "a number where `bool` is needed")),
        _ if !whole => {
            let name = scalar.name();
            return Err(error(
                literal,
                format!("a float literal where `{name}` is needed"),
            ));
        }
        integer => return integer_literal(literal, text, integer, negative),
    };
    let rust = respan(rust, span);
    Ok(Value {
        rust: if negative {
            quote_spanned!(span=> (-#rust))
        } else {
            rust
        },
        c,
        scalar,
    })
}

fn respan(tokens: TokenStream, span: Span) -> TokenStream {
    tokens
        .into_iter()
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}

fn integer_literal(at: &Lit, digits: &str, scalar: Scalar, negative: bool) -> syn::Result<Value> {
    let too_large = || error(at, format!("this literal does not fit `{}`", scalar.name()));
    let magnitude: i128 = digits.parse().map_err(|_| too_large())?;
    let value = if negative { -magnitude } else { magnitude };
    let (low, high) = match scalar {
        Scalar::I32 => (i128::from(i32::MIN), i128::from(i32::MAX)),
        Scalar::U32 => (0, i128::from(u32::MAX)),
        Scalar::I64 => (i128::from(i64::MIN), i128::from(i64::MAX)),
        _ => (0, i128::from(u64::MAX)),
    };
    if !(low..=high).contains(&value) {
        return Err(too_large());
    }
    let token: TokenStream = format!("{value}{}", scalar.name())
        .parse()
        .map_err(|e| error(at, e))?;
    let rust = respan(token, at.span());
    // C has no literal for the least value: it is written one above, less one.
    let c = match scalar {
        Scalar::I32 if value == low => "(-2147483647 - 1)".to_owned(),
        Scalar::I64 if value == low => "(-9223372036854775807L - 1)".to_owned(),
        Scalar::I32 => format!("({value})"),
        Scalar::U32 => format!("{value}u"),
        Scalar::I64 => format!("({value}L)"),
        _ => format!("{value}UL"),
    };
    Ok(Value {
        rust: quote!((#rust)),
        c,
        scalar,
    })
}
