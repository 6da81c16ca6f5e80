//! What a kernel cannot have, and what to write instead.

use super::lower::error;
use syn::Expr;

pub(super) fn no_attributes(expr: &Expr) -> syn::Result<()> {
    let attributes = match expr {
        Expr::Binary(e) => &e.attrs,
        Expr::Block(e) => &e.attrs,
        Expr::Call(e) => &e.attrs,
        Expr::Cast(e) => &e.attrs,
        Expr::If(e) => &e.attrs,
        Expr::Lit(e) => &e.attrs,
        Expr::MethodCall(e) => &e.attrs,
        Expr::Paren(e) => &e.attrs,
        Expr::Path(e) => &e.attrs,
        Expr::Unary(e) => &e.attrs,
        Expr::While(e) => &e.attrs,
        Expr::ForLoop(e) => &e.attrs,
        Expr::Assign(e) => &e.attrs,
        _ => return Ok(()),
    };
    match attributes.first() {
        Some(attribute) => Err(error(attribute, "attributes inside a kernel are not supported")),
        None => Ok(()),
    }
}

/// What a kernel cannot do, by name.
pub(super) fn refused(expr: &Expr) -> String {
    let (what, instead) = match expr {
        Expr::Array(_) | Expr::Repeat(_) => ("an array", "give it several parameters"),
        Expr::Async(_) | Expr::Await(_) => ("`async` code", "nothing on a device waits"),
        Expr::Assign(_) => ("the value of an assignment", "assign in a statement of its own"),
        Expr::Break(_) => ("`break`", "say in the condition of `while` when it ends"),
        Expr::Closure(_) => ("a closure", "write another kernel and call it"),
        Expr::Continue(_) => ("`continue`", "use `if`"),
        Expr::Field(_) => ("a field", "a value is one number"),
        Expr::ForLoop(_) | Expr::While(_) => ("the value of a loop", "use it as a statement"),
        Expr::Index(_) => ("an index", "a kernel sees one element of each array"),
        Expr::Let(_) => ("`if let`", "compare with `==`"),
        Expr::Loop(_) => ("`loop`", "use `while`"),
        Expr::Macro(_) => ("a macro", "a device can neither print nor panic"),
        Expr::Match(_) => ("`match`", "use `if` and `else`"),
        Expr::Range(_) => ("a range", "use it in `for i in a..b`"),
        Expr::Reference(_) | Expr::RawAddr(_) => ("a reference", "pass the value"),
        Expr::Return(_) => ("`return`", "end with the value"),
        Expr::Struct(_) => ("a struct", "a value is one number"),
        Expr::Try(_) | Expr::TryBlock(_) => ("`?`", "nothing in a kernel fails"),
        Expr::Tuple(_) => ("a tuple", "a value is one number"),
        Expr::Unsafe(_) => ("an `unsafe` block", "a kernel needs none"),
        Expr::Block(_) => ("a label", "leave it out"),
        _ => (
            "this expression",
            "a kernel is arithmetic, `let`, `if`, `while`, `for` and calls of kernels",
        ),
    };
    format!("a kernel cannot have {what}: {instead}")
}
