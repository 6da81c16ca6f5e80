//! What the macros refuse in a function: what cannot be named from elsewhere, or cannot leave its thread.

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::visit::Visit;
use syn::{FnArg, Item, ItemFn, PatType, ReturnType, Safety, Signature, Type, TypeImplTrait, TypeReference};

/// The function that the attribute stands on. `what` is "task", "reduction" or "kernel".
pub(crate) fn function(item: TokenStream, what: &str) -> syn::Result<ItemFn> {
    match syn::parse2(item)? {
        Item::Fn(function) => Ok(function),
        other => Err(syn::Error::new_spanned(
            other,
            format!("a {what} is a function: put the attribute on a `fn`"),
        )),
    }
}

/// Checks the function's signature and returns its parameters.
///
/// Every problem is reported, each at its place.
pub(crate) fn check<'a>(function: &'a ItemFn, what: &str) -> syn::Result<Vec<&'a PatType>> {
    let mut problems = Problems(None);
    let signature = &function.sig;
    kind_of_function(signature, what, &mut problems);
    let mut parameters = Vec::new();
    for input in &signature.inputs {
        match input {
            FnArg::Receiver(receiver) => problems.add(
                receiver,
                format!(
                    "a {what} is a free function: take the value as an ordinary parameter instead of `self`"
                ),
            ),
            FnArg::Typed(parameter) => {
                if let Some(cfg) = parameter.attrs.iter().find(|a| a.path().is_ident("cfg")) {
                    problems.add(
                        cfg,
                        format!("a {what} has the same parameters in every build: put `cfg` on the function"),
                    );
                }
                Owned {
                    place: "takes",
                    what,
                    problems: &mut problems,
                }
                .visit_type(&parameter.ty);
                parameters.push(parameter);
            }
        }
    }
    match &signature.output {
        ReturnType::Type(_, ty) if matches!(**ty, Type::Never(_)) => {
            problems.add(ty, format!("a {what} returns a value: leave out `-> !`"));
        }
        ReturnType::Type(_, ty) => Owned {
            place: "returns",
            what,
            problems: &mut problems,
        }
        .visit_type(ty),
        ReturnType::Default => {}
    }
    match problems.0 {
        Some(error) => Err(error),
        None => Ok(parameters),
    }
}

fn kind_of_function(signature: &Signature, what: &str, problems: &mut Problems) {
    if !signature.generics.params.is_empty() {
        problems.add(
            &signature.generics.params,
            format!(
                "a {what} cannot be generic: workers find it by its name alone; write a generic function and a {what} for each type that calls it"
            ),
        );
    } else if let Some(clause) = &signature.generics.where_clause {
        problems.add(
            clause,
            format!("a {what} cannot be generic, so it has no `where`"),
        );
    }
    if let Some(token) = &signature.constness {
        problems.add(
            token,
            format!("a {what} cannot be `const`: leave it out, or call a `const fn` from the {what}"),
        );
    }
    if !matches!(signature.safety, Safety::Default) {
        problems.add(
            &signature.safety,
            format!("a {what} must be safe to call: do the unsafe call inside it"),
        );
    }
    if let Some(abi) = &signature.abi {
        problems.add(
            abi,
            format!("a {what} has Rust's own calling convention: call the `extern` function from it"),
        );
    }
    if let Some(variadic) = &signature.variadic {
        problems.add(
            variadic,
            format!("a {what} has a fixed number of parameters: take a `Vec`"),
        );
    }
}

/// The errors so far, as one.
struct Problems(Option<syn::Error>);

impl Problems {
    fn add(&mut self, at: impl ToTokens, message: String) {
        let error = syn::Error::new_spanned(at, message);
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }
}

/// Looks for what is not owned, or has no name, within a type.
struct Owned<'a> {
    place: &'static str,
    what: &'a str,
    problems: &'a mut Problems,
}

impl<'ast> Visit<'ast> for Owned<'_> {
    fn visit_type_reference(&mut self, ty: &'ast TypeReference) {
        let instead = if ty.mutability.is_some() {
            "take the value itself and return what it became".to_owned()
        } else {
            format!("use `{}`", owned_form(&ty.elem))
        };
        let Owned { place, what, .. } = self;
        self.problems.add(
            ty,
            format!("a {what} {place} owned values, which can cross to another process: {instead}"),
        );
    }

    fn visit_type_impl_trait(&mut self, ty: &'ast TypeImplTrait) {
        let Owned { place, what, .. } = self;
        self.problems.add(
            ty,
            format!("a {what} {place} values of types that have a name: write the type instead of `impl`"),
        );
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        if lifetime.ident != "static" {
            let Owned { place, what, .. } = self;
            self.problems.add(
                lifetime,
                format!("a {what} {place} owned values: use a type that borrows nothing, or `'static`"),
            );
        }
    }
}

/// What to write instead of a reference to that type.
fn owned_form(target: &Type) -> String {
    match target {
        Type::Slice(slice) => format!("Vec<{}>", source_text(&slice.elem)),
        other => match source_text(other).as_str() {
            "str" => "String".to_owned(),
            "Path" | "std::path::Path" => "PathBuf".to_owned(),
            "OsStr" | "std::ffi::OsStr" => "OsString".to_owned(),
            "CStr" | "std::ffi::CStr" => "CString".to_owned(),
            text => text.to_owned(),
        },
    }
}

/// The type as somebody would write it: the tokens' own text has a space around every one.
fn source_text(ty: &Type) -> String {
    let text = ty.to_token_stream().to_string();
    text.replace(" :: ", "::")
        .replace(" < ", "<")
        .replace(" >", ">")
        .replace(" ,", ",")
        .replace("& ", "&")
}
