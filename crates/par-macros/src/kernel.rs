//! The expansion of `#[kernel]`: the function in Rust, and the same function in OpenCL C.
//!
//! The body is read once and written twice, operation by operation, so that both mean the same ([`lower`]). Every value
//! has one of seven scalar types, which must be known where the value stands: nothing is inferred from later lines.

mod blocks;
mod literal;
mod lower;
mod methods;
mod refuse;
mod scalar;

use crate::options::Options;
use crate::owned;
use crate::task::cfgs;
use lower::{Lowerer, Piece};
use proc_macro2::TokenStream;
use quote::{ToTokens, quote, quote_spanned};
use scalar::Scalar;
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{FnArg, Ident, ItemFn, Pat, ReturnType, Safety, Signature};

/// Tuples of arguments that par-gpu knows.
const MOST_PARAMETERS: usize = 8;

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let function = owned::function(item, "kernel")?;
    let (options, bad_options) = match Options::parse(options, &["crate"]) {
        Ok(options) => (options, None),
        Err(error) => (Options::default(), Some(error)),
    };
    let made = match bad_options {
        None => tokens(&function, &options),
        Some(error) => Err(error),
    };
    Ok(made.unwrap_or_else(|error| {
        let (error, stand_in) = (error.into_compile_error(), stand_in(&function, &options));
        quote!(#stand_in #error)
    }))
}

/// The function and its type where there is an error, which must not hide them, or every use would be an error too. The body is
/// left out, or it would be reported twice.
fn stand_in(function: &ItemFn, options: &Options) -> TokenStream {
    let (signature, vis, ident) = (&function.sig, &function.vis, &function.sig.ident);
    let kernel = (|| -> syn::Result<TokenStream> {
        let ((parameters, output), gpu) = (head(signature)?, options.par_gpu()?);
        let (types, result) = (parameters.iter().map(|p| p.scalar.rust()), output.rust());
        let kind = output.kind(&quote!(#gpu::macro_support));
        Ok(quote! {
            // SAFETY: it is never run, as an error stands beside it.
            unsafe impl #gpu::Kernel for #ident {
                type Args = (#(#types,)*);
                type Output = #result;
                const SOURCE: &'static #gpu::macro_support::Source = &#gpu::macro_support::Source {
                    name: "",
                    params: &[],
                    output: #kind,
                    body: &[],
                    calls: &[],
                };
                fn call(_: Self::Args) -> #result {
                    ::core::unreachable!()
                }
            }
        })
    })();
    // Without an `impl` where the head itself is wrong.
    let kernel = kernel.unwrap_or_default();
    quote! {
        #[allow(unused, clippy::all, clippy::pedantic)]
        #vis #signature {
            ::core::unreachable!()
        }
        #[allow(non_camel_case_types, dead_code, unreachable_pub, missing_docs)]
        #vis struct #ident {}
        #[allow(unused)]
        const _: () = { #kernel };
    }
}

/// A parameter: whether it may be assigned to, its name and its type.
struct Parameter<'a> {
    mutable: bool,
    name: &'a Ident,
    scalar: Scalar,
}

fn tokens(function: &ItemFn, options: &Options) -> syn::Result<TokenStream> {
    let signature = &function.sig;
    let (parameters, output) = head(signature)?;
    let gpu = options.par_gpu()?;
    let mut lowerer = Lowerer::new(gpu.clone(), &signature.ident, &parameters);
    let body = lowerer.function_body(&function.block, output)?;
    let source = source(&gpu, signature, &parameters, output, &lowerer);

    let mut head = signature.clone();
    for input in &mut head.inputs {
        if let FnArg::Typed(typed) = input
            && let Pat::Ident(name) = &mut *typed.pat
        {
            name.ident = lower::flat(&name.ident);
        }
    }
    let (ident, vis) = (&signature.ident, &function.vis);
    let cfgs = cfgs(&function.attrs);
    let attributes = function.attrs.iter().filter(|a| !a.path().is_ident("inline"));
    let doc = format!("The kernel of the function [`{0}`]({0}()).", ident.unraw());
    // At the function's name, where the compiler then reports another type of that name.
    let definition = quote_spanned!(ident.span()=> struct #ident {});
    let types: Vec<_> = parameters.iter().map(|p| p.scalar.rust()).collect();
    let result = output.rust();
    let places = (0..parameters.len()).map(syn::Index::from);
    Ok(quote! {
        #(#attributes)*
        #[inline(always)]
        #[allow(unused_parens, unused_braces, clippy::all, clippy::pedantic)]
        #vis #head #body

        #(#cfgs)*
        #[allow(non_camel_case_types, dead_code, unreachable_pub, missing_debug_implementations, missing_copy_implementations)]
        #[doc = #doc]
        #vis #definition

        #(#cfgs)*
        #[allow(unused, deprecated, clippy::all, clippy::pedantic)]
        const _: () = {
            // SAFETY: both forms are written from the same operations, of parameters and results of the same types; the C form
            // has no pointer, no array and no name of the user's but with a prefix, so it touches nothing but its own values.
            unsafe impl #gpu::Kernel for #ident {
                type Args = (#(#types,)*);
                type Output = #result;
                #source

                #[inline(always)]
                fn call(args: (#(#types,)*)) -> #result {
                    #ident(#(args.#places),*)
                }
            }
        };
    })
}

/// The constant that holds the function in OpenCL C.
fn source(
    gpu: &TokenStream,
    signature: &Signature,
    parameters: &[Parameter<'_>],
    output: Scalar,
    lowerer: &Lowerer,
) -> TokenStream {
    let support = quote!(#gpu::macro_support);
    let pieces = lowerer.pieces().iter().map(|piece| match piece {
        Piece::Text(text) => quote!(#support::Piece::Text(#text)),
        Piece::Call(index) => quote!(#support::Piece::Call(#index)),
        Piece::Constant(path, scalar) => {
            let ty = scalar.rust();
            let make = scalar.name_ident(path.span());
            quote_spanned!(path.span()=> #support::Piece::Value({
                const __PAR_VALUE: #ty = #path;
                #support::Value::#make(__PAR_VALUE)
            }))
        }
    });
    let calls = lowerer.calls();
    let kinds = parameters.iter().map(|p| p.scalar.kind(&support));
    let (name, output) = (signature.ident.unraw().to_string(), output.kind(&support));
    quote! {
        const SOURCE: &'static #support::Source = &#support::Source {
            name: #name,
            params: &[#(#kinds),*],
            output: #output,
            body: &[#(#pieces),*],
            calls: &[#(<#calls as #gpu::Kernel>::SOURCE),*],
        };
    }
}

/// The parameters and the result.
fn head(signature: &Signature) -> syn::Result<(Vec<Parameter<'_>>, Scalar)> {
    plain(signature)?;
    let parameters = parameters(signature)?;
    match &signature.output {
        ReturnType::Type(_, ty) => Ok((parameters, Scalar::of_type(ty)?)),
        ReturnType::Default => Err(syn::Error::new_spanned(
            signature,
            "a kernel returns a value: write its type, `-> f32`",
        )),
    }
}

/// What a kernel's head must not have.
fn plain(signature: &Signature) -> syn::Result<()> {
    let refuse = |at: &dyn ToTokens, what: &str| Err(syn::Error::new_spanned(at.to_token_stream(), what));
    if !signature.generics.params.is_empty() {
        return refuse(
            &signature.generics.params,
            "a kernel cannot be generic: write one for each type",
        );
    }
    if let Some(clause) = &signature.generics.where_clause {
        return refuse(clause, "a kernel cannot be generic, so it has no `where`");
    }
    if let Some(token) = &signature.constness {
        return refuse(token, "a kernel cannot be `const`");
    }
    if let Some(token) = &signature.asyncness {
        return refuse(
            token,
            "a kernel cannot be `async`: there is nothing on a device to wait for",
        );
    }
    if !matches!(signature.safety, Safety::Default) {
        return refuse(&signature.safety, "a kernel must be safe to call");
    }
    if let Some(abi) = &signature.abi {
        return refuse(abi, "a kernel has Rust's own calling convention");
    }
    if let Some(variadic) = &signature.variadic {
        return refuse(variadic, "a kernel has a fixed number of parameters");
    }
    Ok(())
}

fn parameters(signature: &Signature) -> syn::Result<Vec<Parameter<'_>>> {
    let count = signature.inputs.len();
    if !(1..=MOST_PARAMETERS).contains(&count) {
        return Err(syn::Error::new_spanned(
            &signature.ident,
            format!("a kernel has 1 to {MOST_PARAMETERS} parameters, this one has {count}"),
        ));
    }
    let one = |input: &'_ FnArg| -> syn::Result<()> {
        match input {
            FnArg::Receiver(receiver) => Err(syn::Error::new_spanned(
                receiver,
                "a kernel is a free function: take the value as an ordinary parameter instead of `self`",
            )),
            FnArg::Typed(typed) if !typed.attrs.is_empty() => Err(syn::Error::new_spanned(
                &typed.attrs[0],
                "a parameter of a kernel has no attributes",
            )),
            FnArg::Typed(_) => Ok(()),
        }
    };
    signature.inputs.iter().try_for_each(one)?;
    let typed = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    typed
        .map(|typed| {
            let (mutable, name) = binding(&typed.pat)?;
            Ok(Parameter {
                mutable,
                name,
                scalar: Scalar::of_type(&typed.ty)?,
            })
        })
        .collect()
}

/// The one name that a pattern binds, and whether it may be assigned to.
fn binding(pattern: &Pat) -> syn::Result<(bool, &Ident)> {
    match pattern {
        Pat::Ident(ident) if ident.by_ref.is_none() && ident.subpat.is_none() => {
            Ok((ident.mutability.is_some(), &ident.ident))
        }
        Pat::Wild(wild) => Err(syn::Error::new_spanned(
            wild,
            "in a kernel a pattern is one name: write `_unused`",
        )),
        other => Err(syn::Error::new_spanned(
            other,
            "in a kernel a pattern is one name: `let x = ...`",
        )),
    }
}
