//! The attribute macros of the par toolkit. Use them through par-core (`#[par_core::task]`) or through the crate
//! of a paradigm that hands them on (`#[par_sync::task]`); their expansions name par-core's items.
#![forbid(unsafe_code)]

mod kernel;
mod krate;
mod options;
mod owned;
mod reduction;
mod task;

use proc_macro::TokenStream;

/// Makes a function a task, which any engine can run.
///
/// The function stays as it is. Beside it comes a type of the same name, `struct name {}`, which implements `Task`
/// and is entered in the program's registry of tasks; so both `name(1)` and `pool.map::<name>(0..10)` work.
///
/// - Arguments are owned values that serde can read and write; several become a tuple. The names of the parameters
///   are part of the task's signature.
/// - A function whose return type is called `Result` (or `io::Result`, or any alias whose last part is `Result`)
///   fails with the error's text, chain and type name.
/// - An `async fn` is awaited where the engine is asynchronous, and driven to its end elsewhere.
///
/// Options:
/// - `name = "..."`: the stable name; by default the module path and the function's name.
/// - `idempotent`: running it again is harmless, so it is run again when a worker is lost in the middle.
/// - `crate = path`: where par-core is, when it cannot be found in `Cargo.toml`.
#[proc_macro_attribute]
pub fn task(options: TokenStream, item: TokenStream) -> TokenStream {
    task::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes an associative function of two values a reduction.
///
/// The function stays as it is. Beside it comes a type of the same name, `struct name {}`, which implements
/// `Reduction` with the function as its combine; `name {}` is the value to hand to a pool.
///
/// Options:
/// - `identity = EXPRESSION` (needed): the value that changes nothing, as 0 does in a sum.
/// - `crate = path`: where par-core is, when it cannot be found in `Cargo.toml`.
#[proc_macro_attribute]
pub fn reduction(options: TokenStream, item: TokenStream) -> TokenStream {
    reduction::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}

/// Makes a function of numbers a kernel, which every device of par-gpu can run on whole arrays.
///
/// The function stays callable. Beside it comes a type of the same name, `struct name {}`, which implements `Kernel`: it has
/// the function in Rust, which the compiler builds into the loops of the cpu device, and the same function in OpenCL C.
///
/// A kernel is made of:
/// - values of the types f32, f64, i32, u32, i64, u64 and bool, of which each must have its type where it stands, as nothing is
///   inferred from later lines: `let half = 0.5_f32`, `let y: f32 = other(x, 2_i32)`;
/// - literals, constants by their paths, `let`, `let mut` and assignments;
/// - arithmetic, comparisons, bit operations, `&&`, `||`, `!`, and `as`, which saturates as Rust's does;
/// - `if` and `else`, `while`, `for i in a..b` over integers of one type, as `for i in 0_i32..8`;
/// - calls of other kernels, and those methods of numbers that have the same bits on every device.
///
/// | numbers | methods |
/// |---|---|
/// | floats | `abs`, `sqrt`, `floor`, `ceil`, `trunc`, `round`, `round_ties_even`, `recip`, `mul_add`, `copysign`, `min`, `max`, `powi`, `is_nan`, `is_finite`, `is_infinite`, `to_bits`; `f32::from_bits(x)` |
/// | integers | `min`, `max`, `wrapping_add`, `wrapping_sub`, `wrapping_mul`, `wrapping_neg`, `saturating_add`, `saturating_sub`, `rotate_left`, `count_ones`, `leading_zeros`; of signed ones also `abs`, `wrapping_abs` |
///
/// Integers wrap around, in every build. They are divided by literals only, as dividing by 0 panics in Rust and cannot on a
/// device; shifts use the low bits of their amount. `min` and `max` of floats give the other value where one is a NaN, and
/// the first of two zeros. `powi` multiplies in a stated order (squares, from the lowest bit of the exponent).
///
/// Anything else is an error that names it: there are no references, arrays, `match`, `loop`, `break`, closures or macros, and no
/// integers of other sizes.
///
/// Options:
/// - `crate = path`: where par-gpu is, when it cannot be found in `Cargo.toml`.
#[proc_macro_attribute]
pub fn kernel(options: TokenStream, item: TokenStream) -> TokenStream {
    kernel::expand(options.into(), item.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
