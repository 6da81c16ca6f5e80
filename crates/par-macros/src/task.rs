//! The expansion of `#[task]`.

use crate::options::Options;
use crate::owned;
use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Attribute, ItemFn, Pat, PatType, ReturnType, Type, TypeTuple};

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let function = owned::function(item, "task")?;
    // What is wrong must not hide the function itself, or every call of it would be an error too.
    let made = Options::parse(options, &["name", "idempotent", "crate"])
        .and_then(|options| Expansion::new(&function, &options));
    let made = made.map_or_else(syn::Error::into_compile_error, |expansion| expansion.tokens());
    // Clippy's advice to borrow an argument is what a task cannot follow.
    Ok(quote! { #[allow(clippy::needless_pass_by_value)] #function #made })
}

/// What the expansion of one task is made of.
struct Expansion<'a> {
    function: &'a ItemFn,
    /// The path of par-core.
    core: TokenStream,
    name: TokenStream,
    idempotent: bool,
    parameters: Vec<&'a PatType>,
}

impl<'a> Expansion<'a> {
    fn new(function: &'a ItemFn, options: &Options) -> syn::Result<Self> {
        let parameters = owned::check(function, "task")?;
        let name = match &options.name {
            Some(name) => quote!(#name),
            None => {
                let name = function.sig.ident.unraw().to_string();
                quote!(::core::concat!(::core::module_path!(), "::", #name))
            }
        };
        Ok(Expansion {
            function,
            core: options.par_core()?,
            name,
            idempotent: options.idempotent,
            parameters,
        })
    }

    fn tokens(&self) -> TokenStream {
        let Expansion { function, core, .. } = self;
        let (ident, vis) = (&function.sig.ident, &function.vis);
        let cfgs = cfgs(&function.attrs);
        let doc = format!("The task of the function [`{0}`]({0}()).", ident.unraw());
        // At the function's name, where the compiler then reports another type of that name.
        let definition = quote_spanned!(ident.span()=> struct #ident {});
        let task = self.task();
        let assertions = self.assertions();
        quote! {
            #(#cfgs)*
            #[allow(non_camel_case_types, dead_code, unreachable_pub, missing_debug_implementations, missing_copy_implementations)]
            #[doc = #doc]
            #vis #definition

            #(#cfgs)*
            #[allow(unused, deprecated, clippy::all, clippy::pedantic)]
            const _: () = {
                #assertions
                #task

                #[cfg(not(miri))]
                #[#core::macro_support::linkme::distributed_slice(#core::macro_support::TASKS)]
                #[linkme(crate = #core::macro_support::linkme)]
                static ENTRY: #core::macro_support::TaskEntry =
                    #core::macro_support::TaskEntry::of::<#ident>(::core::module_path!());
            };
        }
    }

    /// The `impl Task`.
    fn task(&self) -> TokenStream {
        let Expansion {
            core,
            name,
            idempotent,
            ..
        } = self;
        let signature = &self.function.sig;
        let ident = &signature.ident;
        let names = self
            .parameters
            .iter()
            .enumerate()
            .map(|(index, parameter)| parameter_name(index, &parameter.pat));
        let variables: Vec<_> = (0..self.parameters.len())
            .map(|index| format_ident!("argument{index}"))
            .collect();
        // One argument is itself, not a tuple of one, so that `map(0..10)` works.
        let pattern = match &variables[..] {
            [one] => quote!(#one),
            several => quote!((#(#several),*)),
        };
        let input = match &self.parameters[..] {
            [one] => one.ty.to_token_stream(),
            several => {
                // In the user's own brackets, so that errors point at the parameters.
                let types = several.iter().map(|parameter| (*parameter.ty).clone()).collect();
                let mut tuple: TypeTuple = syn::parse_quote!(());
                tuple.paren_token = signature.paren_token;
                tuple.elems = types;
                tuple.to_token_stream()
            }
        };
        let returned = self.returned();
        let (output, wrap) = if is_result(&signature.output) {
            (
                quote_spanned!(returned.span()=> <#returned as #core::macro_support::Fallible>::Output),
                quote_spanned!(returned.span()=> <#returned as #core::macro_support::Fallible>::flatten),
            )
        } else {
            (quote!(#returned), quote!(::core::result::Result::Ok))
        };
        let result = quote!(::core::result::Result<<Self as #core::Task>::Output, #core::TaskError>);
        let is_async = signature.asyncness.is_some();
        let (value, call_async) = if is_async {
            let future = quote! {
                fn call_async(
                    #pattern: <Self as #core::Task>::Input,
                ) -> impl ::core::future::Future<Output = #result> + ::core::marker::Send + 'static {
                    async move { #wrap(#ident(#(#variables),*).await) }
                }
            };
            (
                quote!(#core::macro_support::block_on(#ident(#(#variables),*))),
                future,
            )
        } else {
            (quote!(#ident(#(#variables),*)), TokenStream::new())
        };
        quote! {
            impl #core::Task for #ident {
                const NAME: &'static ::core::primitive::str = #name;
                const PARAMS: &'static [&'static ::core::primitive::str] = &[#(#names),*];
                const IDEMPOTENT: ::core::primitive::bool = #idempotent;
                const ASYNC: ::core::primitive::bool = #is_async;
                type Input = #input;
                type Output = #output;

                #[inline]
                fn call(#pattern: <Self as #core::Task>::Input) -> #result {
                    #wrap(#value)
                }

                #call_async
            }
        }
    }

    /// Makes the compiler check each parameter at its own place, where the user wrote its type.
    fn assertions(&self) -> TokenStream {
        // One parameter is the input itself, which is checked there; more would only be reported twice.
        if self.parameters.len() < 2 {
            return TokenStream::new();
        }
        let core = &self.core;
        let checks = self.parameters.iter().map(|parameter| {
            let ty = &parameter.ty;
            quote_spanned!(ty.span()=> crosses::<#ty>();)
        });
        quote! {
            fn check() {
                fn crosses<T: #core::Data>() {}
                #(#checks)*
            }
        }
    }

    fn returned(&self) -> Type {
        match &self.function.sig.output {
            ReturnType::Default => syn::parse_quote!(()),
            ReturnType::Type(_, ty) => (**ty).clone(),
        }
    }
}

/// The conditions under which the function is there at all.
pub(crate) fn cfgs(attributes: &[Attribute]) -> Vec<&Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("cfg"))
        .collect()
}

fn parameter_name(index: usize, pattern: &Pat) -> String {
    match pattern {
        Pat::Ident(named) => named.ident.unraw().to_string(),
        _ => format!("arg{index}"),
    }
}

/// Whether the type is called `Result`, under whatever path.
fn is_result(output: &ReturnType) -> bool {
    let ReturnType::Type(_, ty) = output else {
        return false;
    };
    let mut ty = &**ty;
    loop {
        match ty {
            // A macro that passes a type on wraps it in a group that nobody sees.
            Type::Group(group) => ty = &group.elem,
            Type::Paren(paren) => ty = &paren.elem,
            Type::Path(path) => {
                return path
                    .path
                    .segments
                    .last()
                    .is_some_and(|last| last.ident == "Result");
            }
            _ => return false,
        }
    }
}
