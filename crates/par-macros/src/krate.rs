//! Where the user's crate can name par-core, or par-gpu.

use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Ident, Span, TokenStream};
use quote::quote;

/// The crates that hand on par-core as `par_core`.
const WINGS: [&str; 6] = [
    "par-sync",
    "par-process",
    "par-dist",
    "par-async",
    "par-mpi",
    "par-gpu",
];

/// The path of par-core: its own where the user depends on it, under whatever name, else through a wing.
pub(crate) fn par_core() -> syn::Result<TokenStream> {
    if let Some(core) = named("par-core") {
        return Ok(quote!(::#core));
    }
    if let Some(wing) = WINGS.into_iter().find_map(named) {
        return Ok(quote!(::#wing::par_core));
    }
    Err(syn::Error::new(
        Span::call_site(),
        format!(
            "Cargo.toml names neither par-core nor a crate that hands it on ({}): add one, or say where par-core is \
             with `crate = path`",
            WINGS.join(", ")
        ),
    ))
}

/// The path of par-gpu, under whatever name the user depends on it.
pub(crate) fn par_gpu() -> syn::Result<TokenStream> {
    named("par-gpu").map(|gpu| quote!(::#gpu)).ok_or_else(|| {
        syn::Error::new(
            Span::call_site(),
            "Cargo.toml does not name par-gpu: add it, or say where it is with `crate = path`",
        )
    })
}

fn named(package: &str) -> Option<Ident> {
    let name = match crate_name(package).ok()? {
        // The crate itself, its tests and its examples: par-core names itself `par_core` too.
        FoundCrate::Itself => package.replace('-', "_"),
        FoundCrate::Name(name) => name,
    };
    Some(Ident::new(&name, Span::call_site()))
}
