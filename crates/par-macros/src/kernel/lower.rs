//! Expressions of a kernel, written twice: as Rust, and as OpenCL C in which every operation is a statement of its own.
//!
//! 1. A value of the C side is a literal or a name that is assigned once; so there is no precedence and no order to get wrong.
//! 2. A variable that may be assigned to is copied where it is read.
//! 3. Integers wrap on both sides: the Rust side calls `wrapping_add` and its like, the C side computes unsigned.
//! 4. Variables are found by the text of their names, the last first ([`flat`]); `r#x` is `x`, as it is for Rust.
//! 5. A type is known from the value itself, else from the other operand, else from where the value goes; else it is an error.

use super::Parameter;
use super::literal::literal_value;
use super::refuse::{no_attributes, refused};
use super::scalar::Scalar;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{BinOp, Expr, ExprBinary, ExprCall, ExprCast, Ident, Lit, Path, UnOp};

/// A part of the C body.
pub(crate) enum Piece {
    Text(String),
    /// The name of the called kernel with that number.
    Call(usize),
    /// The value of a constant, which only the compiler knows.
    Constant(Path, Scalar),
}

/// A variable in scope.
#[derive(Clone)]
pub(super) struct Variable {
    pub(super) name: Ident,
    pub(super) scalar: Scalar,
    pub(super) c: String,
    pub(super) mutable: bool,
}

/// A value: its two forms and its type.
pub(super) struct Value {
    pub(super) rust: TokenStream,
    pub(super) c: String,
    pub(super) scalar: Scalar,
}

pub(crate) struct Lowerer {
    pub(super) gpu: TokenStream,
    own_name: Ident,
    pub(super) out: Vec<Piece>,
    calls: Vec<Path>,
    pub(super) scope: Vec<Variable>,
    names: usize,
}

/// A name of a variable as it is written in the expansion: found by its text alone, as the C side finds it, so that names
/// which come from different macros cannot mean one variable here and another there.
pub(super) fn flat(name: &Ident) -> Ident {
    let mut name = name.clone();
    name.set_span(name.span().resolved_at(Span::call_site()));
    name
}

pub(super) fn error(at: impl ToTokens, message: impl std::fmt::Display) -> syn::Error {
    syn::Error::new_spanned(at, message)
}

impl Lowerer {
    pub(super) fn new(gpu: TokenStream, own_name: &Ident, parameters: &[Parameter<'_>]) -> Self {
        let variable = |(index, parameter): (usize, &Parameter<'_>)| Variable {
            name: parameter.name.clone(),
            scalar: parameter.scalar,
            c: format!("p{index}"),
            mutable: parameter.mutable,
        };
        Lowerer {
            gpu,
            own_name: own_name.clone(),
            out: Vec::new(),
            calls: Vec::new(),
            scope: parameters.iter().enumerate().map(variable).collect(),
            names: 0,
        }
    }

    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.out
    }

    pub(crate) fn calls(&self) -> &[Path] {
        &self.calls
    }

    pub(super) fn write(&mut self, text: &str) {
        match self.out.last_mut() {
            Some(Piece::Text(last)) => last.push_str(text),
            _ => self.out.push(Piece::Text(text.to_owned())),
        }
    }

    pub(super) fn fresh(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// Gives a C expression a name.
    pub(super) fn bind(&mut self, scalar: Scalar, expression: &str) -> String {
        let name = self.fresh("t");
        self.write(&format!("const {} {name} = {expression};\n", scalar.c()));
        name
    }

    pub(super) fn variable(&self, path: &Path) -> Option<&Variable> {
        let ident = path.get_ident()?.unraw();
        self.scope
            .iter()
            .rev()
            .find(|variable| variable.name.unraw() == ident)
    }

    /// The type that an expression has by itself.
    pub(super) fn known(&self, expr: &Expr) -> Option<Scalar> {
        match expr {
            Expr::Group(group) => self.known(&group.expr),
            Expr::Paren(paren) => self.known(&paren.expr),
            Expr::Lit(literal) => match &literal.lit {
                Lit::Float(float) => Scalar::named(float.suffix()),
                Lit::Int(int) => Scalar::named(int.suffix()),
                Lit::Bool(_) => Some(Scalar::Bool),
                _ => None,
            },
            Expr::Path(path) => match self.variable(&path.path) {
                Some(variable) => Some(variable.scalar),
                None => Scalar::of_constant(&path.path),
            },
            Expr::Cast(cast) => Scalar::of_type(&cast.ty).ok(),
            Expr::Unary(unary) => self.known(&unary.expr),
            Expr::Binary(binary) => match binary.op {
                BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_) => {
                    Some(Scalar::Bool)
                }
                BinOp::And(_) | BinOp::Or(_) => Some(Scalar::Bool),
                BinOp::Shl(_) | BinOp::Shr(_) => self.known(&binary.left),
                _ => self.known(&binary.left).or_else(|| self.known(&binary.right)),
            },
            Expr::MethodCall(call) => self.known_method(call),
            Expr::Call(call) => match &*call.func {
                Expr::Path(path) => from_bits(&path.path),
                _ => None,
            },
            Expr::Block(block) => match &block.block.stmts[..] {
                [syn::Stmt::Expr(tail, None)] => self.known(tail),
                _ => None,
            },
            Expr::If(branch) => {
                let then = match &branch.then_branch.stmts[..] {
                    [syn::Stmt::Expr(tail, None)] => self.known(tail),
                    _ => None,
                };
                then.or_else(|| self.known(&branch.else_branch.as_ref()?.1))
            }
            _ => None,
        }
    }

    /// An expression that must have that type.
    pub(super) fn value_of(&mut self, expr: &Expr, scalar: Scalar) -> syn::Result<Value> {
        let value = self.value(expr, Some(scalar))?;
        if value.scalar == scalar {
            return Ok(value);
        }
        let (found, wanted) = (value.scalar.name(), scalar.name());
        Err(error(
            expr,
            format!("this is `{found}` where `{wanted}` is needed, and a kernel converts only by `as`"),
        ))
    }

    /// An expression; `expected` is the type of the place where it goes.
    pub(super) fn value(&mut self, expr: &Expr, expected: Option<Scalar>) -> syn::Result<Value> {
        no_attributes(expr)?;
        match expr {
            Expr::Group(group) => self.value(&group.expr, expected),
            Expr::Paren(paren) => self.value(&paren.expr, expected),
            Expr::Lit(literal) => literal_value(&literal.lit, expected, false),
            Expr::Path(path) if path.qself.is_none() => self.path(&path.path, expected),
            Expr::Unary(unary) => self.unary(unary.op, &unary.expr, expr, expected),
            Expr::Binary(binary) => self.binary(binary, expected),
            Expr::Cast(cast) => self.cast(cast),
            Expr::Call(call) => self.call(call, expected),
            Expr::MethodCall(call) => self.method(call, expected),
            Expr::If(branch) => self.if_value(branch, expected),
            Expr::Block(block) if block.label.is_none() => self.block_value(&block.block, expected),
            other => Err(error(other, refused(other))),
        }
    }

    fn path(&mut self, path: &Path, expected: Option<Scalar>) -> syn::Result<Value> {
        if let Some(variable) = self.variable(path).cloned() {
            let c = if variable.mutable {
                self.bind(variable.scalar, &variable.c)
            } else {
                variable.c
            };
            return Ok(Value {
                rust: path.get_ident().map(flat).into_token_stream(),
                c,
                scalar: variable.scalar,
            });
        }
        let Some(scalar) = Scalar::of_constant(path).or(expected) else {
            return Err(unknown(path));
        };
        let name = self.fresh("t");
        self.write(&format!("const {} {name} = ", scalar.c()));
        self.out.push(Piece::Constant(path.clone(), scalar));
        self.write(";\n");
        let ty = scalar.rust();
        Ok(Value {
            rust: quote_spanned!(path.span()=> { const __PAR_VALUE: #ty = #path; __PAR_VALUE }),
            c: name,
            scalar,
        })
    }

    fn unary(
        &mut self,
        op: UnOp,
        inner: &Expr,
        whole: &Expr,
        expected: Option<Scalar>,
    ) -> syn::Result<Value> {
        let span = whole.span();
        match op {
            UnOp::Neg(_) => {
                if let Expr::Lit(literal) = inner {
                    return literal_value(&literal.lit, expected, true);
                }
                let Value { rust, c, scalar } = self.value(inner, expected)?;
                let rust = match scalar {
                    Scalar::F32 | Scalar::F64 => quote_spanned!(span=> (-#rust)),
                    Scalar::I32 | Scalar::I64 => quote_spanned!(span=> (#rust).wrapping_neg()),
                    other => return Err(error(whole, format!("`{}` has no negative", other.name()))),
                };
                let c = if scalar.is_float() {
                    self.bind(scalar, &format!("-{c}"))
                } else {
                    self.bind(
                        scalar,
                        &format!("({})(0u - ({}){c})", scalar.c(), scalar.unsigned().c()),
                    )
                };
                Ok(Value { rust, c, scalar })
            }
            UnOp::Not(_) => {
                let Value { rust, c, scalar } = self.value(inner, expected)?;
                if scalar.is_float() {
                    return Err(error(
                        whole,
                        format!("`!` has no meaning for `{}`", scalar.name()),
                    ));
                }
                let sign = if scalar == Scalar::Bool { "!" } else { "~" };
                Ok(Value {
                    rust: quote_spanned!(span=> (!#rust)),
                    c: self.bind(scalar, &format!("{sign}{c}")),
                    scalar,
                })
            }
            _ => Err(error(
                whole,
                "a kernel has no references, so there is nothing to dereference",
            )),
        }
    }

    fn binary(&mut self, binary: &ExprBinary, expected: Option<Scalar>) -> syn::Result<Value> {
        let (left, right) = (&*binary.left, &*binary.right);
        match binary.op {
            BinOp::And(_) | BinOp::Or(_) => self.lazy(binary),
            BinOp::Eq(_) | BinOp::Ne(_) | BinOp::Lt(_) | BinOp::Le(_) | BinOp::Gt(_) | BinOp::Ge(_) => {
                let hint = self.known(left).or_else(|| self.known(right));
                let left = self.value(left, hint)?;
                let right = self.value_of(right, left.scalar)?;
                let (op, sign) = (binary.op, binary.op.to_token_stream().to_string());
                let (l, r) = (left.rust, right.rust);
                let c = self.bind(Scalar::Bool, &format!("{} {sign} {}", left.c, right.c));
                Ok(Value {
                    rust: quote_spanned!(binary.span()=> (#l #op #r)),
                    c,
                    scalar: Scalar::Bool,
                })
            }
            BinOp::Shl(_) | BinOp::Shr(_) => {
                let left = self.value(left, expected)?;
                // Any integer will do.
                let hint = self.known(right).unwrap_or(Scalar::U32);
                let right_value = self.value(right, Some(hint))?;
                self.operation(binary, left, right_value, right)
            }
            _ => {
                let hint = self.known(left).or_else(|| self.known(right)).or(expected);
                let left = self.value(left, hint)?;
                let right_value = self.value_of(right, left.scalar)?;
                self.operation(binary, left, right_value, right)
            }
        }
    }

    /// `&&` and `||`, whose right side may not be computed.
    fn lazy(&mut self, binary: &ExprBinary) -> syn::Result<Value> {
        let left = self.value_of(&binary.left, Scalar::Bool)?;
        let name = self.fresh("t");
        let not = if matches!(binary.op, BinOp::And(_)) {
            ""
        } else {
            "!"
        };
        self.write(&format!("bool {name} = {};\nif ({not}{name}) {{\n", left.c));
        let right = self.value_of(&binary.right, Scalar::Bool)?;
        self.write(&format!("{name} = {};\n}}\n", right.c));
        let (l, op, r) = (left.rust, binary.op, right.rust);
        Ok(Value {
            rust: quote_spanned!(binary.span()=> (#l #op #r)),
            c: name,
            scalar: Scalar::Bool,
        })
    }

    /// An arithmetic operation of two values; `right_expr` is where the right one stands.
    pub(super) fn operation(
        &mut self,
        at: &ExprBinary,
        left: Value,
        right: Value,
        right_expr: &Expr,
    ) -> syn::Result<Value> {
        let (sign, span, scalar) = (plain_sign(at.op), at.span(), left.scalar);
        let (l, r) = (left.rust, right.rust);
        let (lc, rc) = (left.c, right.c);
        let (c_type, unsigned) = (scalar.c(), scalar.unsigned().c());
        let no_meaning = || error(at, format!("`{sign}` has no meaning for `{}`", scalar.name()));
        let (rust, c) = match sign {
            "+" | "-" | "*" if scalar.is_int() => {
                let method = match sign {
                    "+" => quote!(wrapping_add),
                    "-" => quote!(wrapping_sub),
                    _ => quote!(wrapping_mul),
                };
                let rust = quote_spanned!(span=> (#l).#method(#r));
                (
                    rust,
                    format!("({c_type})(({unsigned}){lc} {sign} ({unsigned}){rc})"),
                )
            }
            "/" | "%" if scalar.is_int() => {
                nonzero(right_expr)?;
                let op = if sign == "/" { quote!(/) } else { quote!(%) };
                (quote_spanned!(span=> (#l #op #r)), format!("{lc} {sign} {rc}"))
            }
            "%" if scalar.is_float() => (quote_spanned!(span=> (#l % #r)), format!("fmod({lc}, {rc})")),
            "+" | "-" | "*" | "/" if scalar.is_float() => {
                let op = match sign {
                    "+" => quote!(+),
                    "-" => quote!(-),
                    "*" => quote!(*),
                    _ => quote!(/),
                };
                let c = match sign {
                    "/" => format!("par_div_{}({lc}, {rc})", scalar.name()),
                    _ => format!("{lc} {sign} {rc}"),
                };
                (quote_spanned!(span=> (#l #op #r)), c)
            }
            "&" | "|" | "^" if !scalar.is_float() => {
                let op = match sign {
                    "&" => quote!(&),
                    "|" => quote!(|),
                    _ => quote!(^),
                };
                (quote_spanned!(span=> (#l #op #r)), format!("{lc} {sign} {rc}"))
            }
            "<<" | ">>" if scalar.is_int() && right.scalar.is_int() => {
                let mask = scalar.bits() - 1;
                let amount = quote_spanned!(span=> (#r) as ::core::primitive::u32);
                let places = format!("((uint){rc} & {mask}u)");
                if sign == "<<" {
                    let rust = quote_spanned!(span=> (#l).wrapping_shl(#amount));
                    (rust, format!("({c_type})(({unsigned}){lc} << {places})"))
                } else {
                    (
                        quote_spanned!(span=> (#l).wrapping_shr(#amount)),
                        format!("{lc} >> {places}"),
                    )
                }
            }
            _ => return Err(no_meaning()),
        };
        Ok(Value {
            rust,
            c: self.bind(scalar, &c),
            scalar,
        })
    }

    fn cast(&mut self, cast: &ExprCast) -> syn::Result<Value> {
        let to = Scalar::of_type(&cast.ty)?;
        let inner = unwrapped(&cast.expr);
        // As Rust does it, a literal takes the type of the cast where it can, and is an i32 or an f64 where it cannot.
        let hint = self.known(inner).or(match inner {
            Expr::Lit(literal) if matches!(literal.lit, Lit::Int(_)) && to.is_float() => Some(Scalar::I32),
            Expr::Lit(literal) if matches!(literal.lit, Lit::Float(_)) && to.is_int() => Some(Scalar::F64),
            Expr::Lit(_) => Some(to),
            _ => None,
        });
        let Value {
            rust,
            c,
            scalar: from,
        } = self.value(inner, hint)?;
        let conversion = match (from, to) {
            _ if from == to => c,
            (_, Scalar::Bool) | (Scalar::Bool, Scalar::F32 | Scalar::F64) => {
                let (from, to) = (from.name(), to.name());
                return Err(error(cast, format!("there is no cast from `{from}` to `{to}`")));
            }
            (Scalar::F64, Scalar::F32) => format!("convert_float_rte({c})"),
            (from, to) if from.is_float() && to.is_int() => format!("par_{}_{}({c})", from.name(), to.name()),
            (_, Scalar::F32) if from.is_int() => format!("convert_float_rte({c})"),
            (_, Scalar::F64) if from.is_int() => format!("convert_double_rte({c})"),
            (_, to) => format!("({})({c})", to.c()),
        };
        let ty = to.rust();
        Ok(Value {
            rust: quote_spanned!(cast.span()=> ((#rust) as #ty)),
            c: self.bind(to, &conversion),
            scalar: to,
        })
    }

    fn call(&mut self, call: &ExprCall, expected: Option<Scalar>) -> syn::Result<Value> {
        let Expr::Path(function) = &*call.func else {
            return Err(error(&call.func, "a kernel calls other kernels, by their names"));
        };
        let path = &function.path;
        if let Some(scalar) = from_bits(path) {
            let [bits] = &call.args.iter().collect::<Vec<_>>()[..] else {
                return Err(error(call, "`from_bits` takes one argument"));
            };
            let Value { rust, c, .. } = self.value_of(bits, scalar.unsigned())?;
            let ty = scalar.rust();
            return Ok(Value {
                rust: quote_spanned!(call.span()=> <#ty>::from_bits(#rust)),
                c: self.bind(scalar, &format!("as_{}({c})", scalar.c())),
                scalar,
            });
        }
        if path
            .get_ident()
            .is_some_and(|ident| ident.unraw() == self.own_name.unraw())
        {
            return Err(error(
                path,
                "a kernel cannot call itself: devices have no stack for it; use `while`",
            ));
        }
        let generic = path.segments.iter().any(|segment| !segment.arguments.is_none());
        if function.qself.is_some() || generic {
            return Err(error(path, "a kernel calls other kernels, by their plain names"));
        }
        if Scalar::of_constant(path).is_some()
            && let Some(method) = path.segments.last()
        {
            let method = &method.ident;
            return Err(error(
                path,
                format!("a kernel calls methods of numbers on a value: `x.{method}(...)`"),
            ));
        }
        let Some(scalar) = expected else {
            return Err(unknown(call));
        };
        let mut arguments = Vec::new();
        for argument in &call.args {
            let known = self.known(argument);
            arguments.push(self.value(argument, known)?);
        }
        let number = self.calls.len();
        self.calls.push(path.clone());
        let name = self.fresh("t");
        self.write(&format!("const {} {name} = ", scalar.c()));
        self.out.push(Piece::Call(number));
        let list: Vec<_> = arguments.iter().map(|argument| &*argument.c).collect();
        self.write(&format!("({});\n", list.join(", ")));
        let (values, ty, gpu) = (
            arguments.iter().map(|argument| &argument.rust),
            scalar.rust(),
            &self.gpu,
        );
        Ok(Value {
            // By the type of that name, as the C side finds it: a function beside it may be another's. The type of the result is
            // said again, so that the compiler agrees that it is the one that C was given.
            rust: quote_spanned!(call.span()=> {
                let value: #ty = <#path as #gpu::Kernel>::call((#(#values,)*));
                value
            }),
            c: name,
            scalar,
        })
    }
}

/// Whether a path is `f32::from_bits` or `f64::from_bits`, and of which.
fn from_bits(path: &Path) -> Option<Scalar> {
    let last = path.segments.last()?;
    (last.ident == "from_bits")
        .then(|| Scalar::of_constant(path))?
        .filter(|s| s.is_float())
}

fn unknown(at: impl ToTokens) -> syn::Error {
    error(
        at,
        "the type of this value is not known here: give it to a variable of a named type first, as in `let x: f32 = ...`",
    )
}

/// The operator without the assignment.
pub(super) fn plain_sign(op: BinOp) -> &'static str {
    match op {
        BinOp::Add(_) | BinOp::AddAssign(_) => "+",
        BinOp::Sub(_) | BinOp::SubAssign(_) => "-",
        BinOp::Mul(_) | BinOp::MulAssign(_) => "*",
        BinOp::Div(_) | BinOp::DivAssign(_) => "/",
        BinOp::Rem(_) | BinOp::RemAssign(_) => "%",
        BinOp::BitAnd(_) | BinOp::BitAndAssign(_) => "&",
        BinOp::BitOr(_) | BinOp::BitOrAssign(_) => "|",
        BinOp::BitXor(_) | BinOp::BitXorAssign(_) => "^",
        BinOp::Shl(_) | BinOp::ShlAssign(_) => "<<",
        BinOp::Shr(_) | BinOp::ShrAssign(_) => ">>",
        _ => "this operator",
    }
}

/// An expression without the parentheses around it.
fn unwrapped(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => unwrapped(&group.expr),
        Expr::Paren(paren) => unwrapped(&paren.expr),
        other => other,
    }
}

/// Integers are divided by a literal above 0 only: Rust panics where a device could not.
fn nonzero(divisor: &Expr) -> syn::Result<()> {
    let positive = match unwrapped(divisor) {
        Expr::Lit(literal) => match &literal.lit {
            Lit::Int(int) => int.base10_digits().bytes().any(|digit| digit != b'0'),
            _ => false,
        },
        _ => false,
    };
    positive.then_some(()).ok_or_else(|| {
        error(
            divisor,
            "a kernel divides integers by a literal above 0 only: by 0 Rust panics, which a device cannot",
        )
    })
}
