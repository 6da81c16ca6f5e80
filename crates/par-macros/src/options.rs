//! The options in the brackets of an attribute.

use proc_macro2::{Ident, TokenStream};
use quote::{ToTokens, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream, Parser};
use syn::{Expr, LitStr, Path, Token};

/// The options of the macros; each allows some of them.
#[derive(Default)]
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    pub(crate) idempotent: bool,
    pub(crate) identity: Option<Expr>,
    krate: Option<Path>,
}

impl Options {
    /// Reads options of which only those in `allowed` may occur, each once.
    pub(crate) fn parse(tokens: TokenStream, allowed: &[&str]) -> syn::Result<Self> {
        let read = |input: ParseStream<'_>| {
            let mut options = Options::default();
            let mut seen: Vec<Ident> = Vec::new();
            while !input.is_empty() {
                // `crate` is a keyword.
                let key = input.call(Ident::parse_any)?;
                if !allowed.iter().any(|name| key == name) {
                    let known = allowed.join("`, `");
                    return Err(syn::Error::new(
                        key.span(),
                        format!("unknown option `{key}`; there are `{known}`"),
                    ));
                }
                if seen.contains(&key) {
                    return Err(syn::Error::new(key.span(), format!("`{key}` is given twice")));
                }
                options.read(&key, input)?;
                seen.push(key);
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(options)
        };
        read.parse2(tokens)
    }

    fn read(&mut self, key: &Ident, input: ParseStream<'_>) -> syn::Result<()> {
        fn value<T: Parse>(input: ParseStream<'_>) -> syn::Result<T> {
            input.parse::<Token![=]>()?;
            input.parse()
        }
        if key == "idempotent" {
            self.idempotent = true;
        } else if key == "crate" {
            self.krate = Some(value(input)?);
        } else if key == "identity" {
            self.identity = Some(value(input)?);
        } else {
            let name: LitStr = value(input)?;
            if name.value().trim().is_empty() {
                return Err(syn::Error::new(
                    name.span(),
                    "a task needs a name that is not blank",
                ));
            }
            self.name = Some(name);
        }
        Ok(())
    }

    /// The path of par-gpu: as given, else as found.
    pub(crate) fn par_gpu(&self) -> syn::Result<TokenStream> {
        match &self.krate {
            Some(path) => Ok(path.to_token_stream()),
            None => crate::krate::par_gpu(),
        }
    }

    /// The path of par-core: as given, else as found.
    pub(crate) fn par_core(&self) -> syn::Result<TokenStream> {
        match &self.krate {
            Some(path) => Ok(path.to_token_stream()),
            None => crate::krate::par_core().map(|path| quote!(#path)),
        }
    }
}
