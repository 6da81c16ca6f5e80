//! The expansion of `#[reduction]`.

use crate::options::Options;
use crate::owned;
use crate::task::cfgs;
use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{ItemFn, ReturnType, Type};

pub(crate) fn expand(options: TokenStream, item: TokenStream) -> syn::Result<TokenStream> {
    let function = owned::function(item, "reduction")?;
    let made =
        Options::parse(options, &["identity", "crate"]).and_then(|options| tokens(&function, &options));
    let made = made.unwrap_or_else(syn::Error::into_compile_error);
    // Clippy's advice to borrow an argument is what a reduction cannot follow.
    Ok(quote! { #[allow(clippy::needless_pass_by_value)] #function #made })
}

fn tokens(function: &ItemFn, options: &Options) -> syn::Result<TokenStream> {
    let ty = item_type(function)?;
    let identity = options.identity.as_ref().ok_or_else(|| {
        syn::Error::new(
            Span::call_site(),
            "a reduction needs the value that changes nothing: #[reduction(identity = 0)]",
        )
    })?;
    let core = options.par_core()?;
    let (ident, vis) = (&function.sig.ident, &function.vis);
    let cfgs = cfgs(&function.attrs);
    let name = ident.unraw().to_string();
    let doc = format!("The reduction of the function [`{name}`]({name}()).");
    // At the function's name, where the compiler then reports another type of that name.
    let definition = quote_spanned!(ident.span()=> struct #ident {});
    let identity = quote_spanned!(identity.span()=> #identity);
    Ok(quote! {
        #(#cfgs)*
        #[allow(non_camel_case_types, dead_code, unreachable_pub)]
        #[doc = #doc]
        #vis #definition

        #(#cfgs)*
        #[allow(unused, deprecated, clippy::all, clippy::pedantic)]
        const _: () = {
            impl #core::Reduction<#ty> for #ident {
                type Acc = #ty;
                type Output = #ty;

                #[inline]
                fn identity(&self) -> #ty {
                    #identity
                }

                #[inline]
                fn fold(&self, acc: #ty, item: #ty, _: ::core::primitive::u64) -> #ty {
                    #ident(acc, item)
                }

                #[inline]
                fn combine(&self, left: #ty, right: #ty) -> #ty {
                    #ident(left, right)
                }

                #[inline]
                fn finish(&self, acc: #ty) -> #ty {
                    acc
                }
            }

            impl ::core::marker::Copy for #ident {}

            impl ::core::clone::Clone for #ident {
                fn clone(&self) -> Self {
                    *self
                }
            }

            impl ::core::default::Default for #ident {
                fn default() -> Self {
                    #ident {}
                }
            }

            impl ::core::fmt::Debug for #ident {
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                    f.write_str(#name)
                }
            }

            impl #core::macro_support::serde::Serialize for #ident {
                fn serialize<S: #core::macro_support::serde::Serializer>(
                    &self,
                    serializer: S,
                ) -> ::core::result::Result<S::Ok, S::Error> {
                    serializer.serialize_unit_struct(#name)
                }
            }

            impl<'de> #core::macro_support::serde::Deserialize<'de> for #ident {
                fn deserialize<D: #core::macro_support::serde::Deserializer<'de>>(
                    deserializer: D,
                ) -> ::core::result::Result<Self, D::Error> {
                    <() as #core::macro_support::serde::Deserialize>::deserialize(deserializer).map(|()| #ident {})
                }
            }
        };
    })
}

/// The one type of both parameters and of the result.
fn item_type(function: &ItemFn) -> syn::Result<&Type> {
    let parameters = owned::check(function, "reduction")?;
    let signature = &function.sig;
    if let Some(token) = &signature.asyncness {
        return Err(syn::Error::new_spanned(
            token,
            "a reduction cannot be `async`: it runs between two items",
        ));
    }
    let [left, right] = parameters[..] else {
        return Err(syn::Error::new_spanned(
            signature,
            "a reduction has two parameters of one type and returns that type: `fn name(left: T, right: T) -> T`",
        ));
    };
    let same = |other: &Type| other.to_token_stream().to_string() == left.ty.to_token_stream().to_string();
    if !same(&right.ty) {
        return Err(syn::Error::new_spanned(
            &right.ty,
            "both parameters of a reduction have the same type",
        ));
    }
    match &signature.output {
        ReturnType::Type(_, ty) if same(ty) => Ok(&left.ty),
        ReturnType::Type(_, ty) => Err(syn::Error::new_spanned(
            ty,
            "a reduction returns the type of its parameters",
        )),
        ReturnType::Default => Err(syn::Error::new_spanned(
            signature,
            "a reduction returns the type of its parameters",
        )),
    }
}
