//! Statements of a kernel: `let`, assignments, `if`, `while`, `for`, and the blocks that hold them.

use super::binding;
use super::lower::{Lowerer, Value, Variable, error, flat, plain_sign};
use super::refuse::{no_attributes, refused};
use super::scalar::Scalar;
use proc_macro2::{Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{BinOp, Block, Expr, ExprBinary, ExprForLoop, ExprIf, ExprWhile, Local, Pat, RangeLimits, Stmt};

impl Lowerer {
    /// The body of the function, which ends with its value.
    pub(super) fn function_body(&mut self, block: &Block, output: Scalar) -> syn::Result<TokenStream> {
        let value = self.block_value(block, Some(output))?;
        if value.scalar != output {
            let (found, wanted) = (value.scalar.name(), output.name());
            return Err(error(
                block.stmts.last(),
                format!("this is `{found}`, and the kernel returns `{wanted}`"),
            ));
        }
        self.write(&format!("return {};\n", value.c));
        let rust = value.rust;
        Ok(quote!({ #rust }))
    }

    /// A block that ends with a value.
    pub(super) fn block_value(&mut self, block: &Block, expected: Option<Scalar>) -> syn::Result<Value> {
        let Some((Stmt::Expr(tail, None), before)) = block.stmts.split_last() else {
            return Err(match block.stmts.last() {
                Some(Stmt::Expr(other @ Expr::Return(_), _)) => error(other, refused(other)),
                _ => error(block, "this block must end with a value, without `;`"),
            });
        };
        let depth = self.scope.len();
        let mut statements = Vec::new();
        for statement in before {
            statements.push(self.statement(statement)?);
        }
        let Value { rust, c, scalar } = self.value(tail, expected)?;
        self.scope.truncate(depth);
        Ok(Value {
            rust: if statements.is_empty() {
                rust
            } else {
                quote!({ #(#statements)* #rust })
            },
            c,
            scalar,
        })
    }

    /// A block whose value is not used.
    fn block(&mut self, block: &Block) -> syn::Result<TokenStream> {
        let depth = self.scope.len();
        let mut statements = Vec::new();
        for statement in &block.stmts {
            statements.push(self.statement(statement)?);
        }
        self.scope.truncate(depth);
        Ok(quote!({ #(#statements)* }))
    }

    fn statement(&mut self, statement: &Stmt) -> syn::Result<TokenStream> {
        if let Stmt::Expr(expr, _) = statement {
            no_attributes(expr)?;
        }
        match statement {
            Stmt::Local(local) => self.local(local),
            Stmt::Expr(Expr::Assign(assign), _) => {
                let variable = self.assigned(&assign.left)?;
                let value = self.value_of(&assign.right, variable.scalar)?;
                self.write(&format!("{} = {};\n", variable.c, value.c));
                let (name, rust) = (flat(&variable.name), value.rust);
                Ok(quote_spanned!(assign.span()=> #name = #rust;))
            }
            Stmt::Expr(Expr::Binary(binary), _) if assigns(binary.op) => self.assign_with(binary),
            Stmt::Expr(Expr::While(repeat), _) => self.repeat(repeat),
            Stmt::Expr(Expr::ForLoop(count), _) => self.count(count),
            Stmt::Expr(Expr::If(branch), _) => self.branch(branch),
            Stmt::Expr(Expr::Block(block), _) if block.label.is_none() => {
                self.write("{\n");
                let rust = self.block(&block.block)?;
                self.write("}\n");
                Ok(rust)
            }
            Stmt::Expr(
                other @ (Expr::Lit(_)
                | Expr::Path(_)
                | Expr::Binary(_)
                | Expr::Call(_)
                | Expr::MethodCall(_)
                | Expr::Unary(_)
                | Expr::Cast(_)
                | Expr::Paren(_)),
                _,
            ) => Err(error(
                other,
                "a value that goes nowhere: a kernel has no side effects",
            )),
            Stmt::Expr(other, _) => {
                let message = refused(other);
                Err(error(other, message))
            }
            Stmt::Item(item) => Err(error(
                item,
                "a kernel cannot have an item inside: put it beside the kernel",
            )),
            Stmt::Macro(call) => Err(error(
                call,
                "a kernel cannot have a macro: a device can neither print nor panic",
            )),
        }
    }

    fn local(&mut self, local: &Local) -> syn::Result<TokenStream> {
        if let Some(attribute) = local.attrs.first() {
            return Err(error(attribute, "attributes inside a kernel are not supported"));
        }
        let (pattern, annotated) = match &local.pat {
            Pat::Type(typed) => (&*typed.pat, Some(Scalar::of_type(&typed.ty)?)),
            other => (other, None),
        };
        let (mutable, name) = binding(pattern)?;
        let Some(init) = &local.init else {
            return Err(error(
                local,
                "a variable in a kernel has a value from the start: `let x = ...`",
            ));
        };
        if init.diverge.is_some() {
            return Err(error(
                local,
                "a kernel cannot have `let ... else`: use `if` and `else`",
            ));
        }
        let value = match annotated {
            Some(scalar) => self.value_of(&init.expr, scalar)?,
            None => {
                let known = self.known(&init.expr);
                self.value(&init.expr, known)?
            }
        };
        let c = self.declare(name, value.scalar, mutable);
        let constant = if mutable { "" } else { "const " };
        self.write(&format!("{constant}{} {c} = {};\n", value.scalar.c(), value.c));
        let (ty, rust) = (value.scalar.rust(), value.rust);
        let (mutability, name) = (mutable.then(|| quote!(mut)), flat(name));
        Ok(quote_spanned!(local.span()=> let #mutability #name: #ty = #rust;))
    }

    /// Brings a variable into scope; returns its name in C.
    fn declare(&mut self, name: &Ident, scalar: Scalar, mutable: bool) -> String {
        let readable: String = name.unraw().to_string().chars().filter(char::is_ascii).collect();
        let c = format!("{}_{readable}", self.fresh("v"));
        self.scope.push(Variable {
            name: name.clone(),
            scalar,
            c: c.clone(),
            mutable,
        });
        c
    }

    fn assigned(&self, place: &Expr) -> syn::Result<Variable> {
        // Those of a statement stand here.
        no_attributes(place)?;
        let variable = match place {
            Expr::Path(path) => self.variable(&path.path),
            _ => None,
        };
        let variable = variable.ok_or_else(|| error(place, "a kernel assigns to its own variables only"))?;
        if !variable.mutable {
            return Err(error(
                place,
                format!("`{0}` is not `mut`: write `let mut {0}`", variable.name),
            ));
        }
        Ok(variable.clone())
    }

    /// `x += y` and its like.
    fn assign_with(&mut self, binary: &ExprBinary) -> syn::Result<TokenStream> {
        let variable = self.assigned(&binary.left)?;
        let shift = matches!(binary.op, BinOp::ShlAssign(_) | BinOp::ShrAssign(_));
        let mut right = if shift {
            let hint = self.known(&binary.right).unwrap_or(Scalar::U32);
            self.value(&binary.right, Some(hint))?
        } else {
            self.value_of(&binary.right, variable.scalar)?
        };
        // The left side is read after the right one, which may itself assign to it.
        let left = self.value(&binary.left, None)?;
        let first = Ident::new("right", Span::mixed_site());
        let (ty, right_rust) = (
            right.scalar.rust(),
            std::mem::replace(&mut right.rust, first.to_token_stream()),
        );
        debug_assert_ne!(plain_sign(binary.op), "this operator");
        let value = self.operation(binary, left, right, &binary.right)?;
        self.write(&format!("{} = {};\n", variable.c, value.c));
        let (name, rust) = (flat(&variable.name), value.rust);
        Ok(quote_spanned!(binary.span()=> #name = { let #first: #ty = #right_rust; #rust };))
    }

    fn repeat(&mut self, repeat: &ExprWhile) -> syn::Result<TokenStream> {
        if let Some(label) = &repeat.label {
            return Err(error(label, "a kernel cannot have a label: leave it out"));
        }
        self.write("for (;;) {\n");
        let condition = self.value_of(&repeat.cond, Scalar::Bool)?;
        self.write(&format!("if (!{}) break;\n", condition.c));
        let body = self.block(&repeat.body)?;
        self.write("}\n");
        let condition = condition.rust;
        Ok(quote_spanned!(repeat.span()=> while #condition #body))
    }

    fn count(&mut self, count: &ExprForLoop) -> syn::Result<TokenStream> {
        if let Some(label) = &count.label {
            return Err(error(label, "a kernel cannot have a label: leave it out"));
        }
        let form = "a kernel counts as in `for i in 0..n`, over integers";
        let Expr::Range(range) = &*count.expr else {
            return Err(error(&count.expr, form));
        };
        let (Some(start), Some(end), RangeLimits::HalfOpen(_)) = (&range.start, &range.end, &range.limits)
        else {
            return Err(error(range, form));
        };
        let (mutable, name) = binding(&count.pat)?;
        if mutable {
            return Err(error(&count.pat, "the counter of a `for` is not assigned to"));
        }
        let hint = self.known(start).or_else(|| self.known(end));
        let start = self.value(start, hint)?;
        let scalar = start.scalar;
        if !scalar.is_int() {
            return Err(error(range, form));
        }
        let end = self.value_of(end, scalar)?;
        let depth = self.scope.len();
        let c = self.declare(name, scalar, false);
        let (ty, first, last) = (scalar.c(), start.c, end.c);
        self.write(&format!("for ({ty} {c} = {first}; {c} < {last}; ++{c}) {{\n"));
        let body = self.block(&count.body)?;
        self.write("}\n");
        self.scope.truncate(depth);
        let (name, start, end) = (flat(name), start.rust, end.rust);
        // In parentheses, as a block after `..` would be taken for the body.
        Ok(quote_spanned!(count.span()=> for #name in (#start)..(#end) #body))
    }

    /// An `if` that is a statement.
    fn branch(&mut self, branch: &ExprIf) -> syn::Result<TokenStream> {
        let condition = self.value_of(&branch.cond, Scalar::Bool)?;
        self.write(&format!("if ({}) {{\n", condition.c));
        let then = self.block(&branch.then_branch)?;
        self.write("}\n");
        let otherwise = match &branch.else_branch {
            None => None,
            Some((_, expr)) => {
                self.write("else {\n");
                let rust = match &**expr {
                    Expr::If(next) => self.branch(next)?,
                    Expr::Block(block) => self.block(&block.block)?,
                    other => return Err(error(other, refused(other))),
                };
                self.write("}\n");
                Some(quote!(else #rust))
            }
        };
        let condition = condition.rust;
        Ok(quote_spanned!(branch.span()=> if #condition #then #otherwise))
    }

    /// An `if` that is a value.
    pub(super) fn if_value(&mut self, branch: &ExprIf, expected: Option<Scalar>) -> syn::Result<Value> {
        let Some((_, otherwise)) = &branch.else_branch else {
            return Err(error(branch, "an `if` whose value is used needs an `else`"));
        };
        let condition = self.value_of(&branch.cond, Scalar::Bool)?;
        let name = self.fresh("t");
        // Its type is declared before the branches, and known after the first of them.
        let before = std::mem::take(&mut self.out);
        let expected = expected.or_else(|| self.known(otherwise));
        let then = self.block_value(&branch.then_branch, expected)?;
        let inside = std::mem::replace(&mut self.out, before);
        let scalar = then.scalar;
        self.write(&format!("{} {name};\nif ({}) {{\n", scalar.c(), condition.c));
        self.out.extend(inside);
        self.write(&format!("{name} = {};\n}} else {{\n", then.c));
        let other = self.value_of(otherwise, scalar)?;
        self.write(&format!("{name} = {};\n}}\n", other.c));
        let (condition, then, other) = (condition.rust, then.rust, other.rust);
        Ok(Value {
            rust: quote_spanned!(branch.span()=> if #condition { #then } else { #other }),
            c: name,
            scalar,
        })
    }
}

fn assigns(op: BinOp) -> bool {
    matches!(
        op,
        BinOp::AddAssign(_)
            | BinOp::SubAssign(_)
            | BinOp::MulAssign(_)
            | BinOp::DivAssign(_)
            | BinOp::RemAssign(_)
            | BinOp::BitXorAssign(_)
            | BinOp::BitAndAssign(_)
            | BinOp::BitOrAssign(_)
            | BinOp::ShlAssign(_)
            | BinOp::ShrAssign(_)
    )
}
