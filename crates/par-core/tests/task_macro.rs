//! What `#[task]` and `#[reduction]` accept, and what they make of it.

#![forbid(unsafe_code)]
#![deny(
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    clippy::pedantic
)]
#![allow(clippy::unnecessary_wraps)]

use par_core::{Reduction, Task, TaskError, fold, signature_of};

/// With names that hide everything an expansion could be tempted to use.
#[allow(unused, non_camel_case_types, clippy::pedantic)]
mod shadowed {
    pub(crate) struct Result;
    pub(crate) struct Option;
    pub(crate) struct Vec;
    pub(crate) struct Box;
    pub(crate) struct String;
    pub(crate) struct Some;
    pub(crate) struct None;
    pub(crate) struct Ok;
    pub(crate) struct Err;
    pub(crate) trait Send {}
    pub(crate) trait Clone {}
    pub(crate) trait Default {}
    pub(crate) struct str;
    pub(crate) struct bool;
    pub(crate) struct TaskError;
    pub(crate) struct Task;
    pub(crate) mod core {}
    pub(crate) mod std {}
    pub(crate) mod par_core {}
    macro_rules! concat {
        () => {};
    }
    pub(crate) use concat;

    type Number = u64;

    #[::par_core::task]
    pub(crate) fn double(x: Number) -> Number {
        x * 2
    }

    #[::par_core::task]
    pub(crate) async fn fails(_: (), _: ()) -> ::core::result::Result<(), ::std::string::String> {
        ::core::result::Result::Err(::std::string::String::from("no"))
    }

    #[::par_core::reduction(identity = 0)]
    pub(crate) fn larger(a: Number, b: Number) -> Number {
        if a > b { a } else { b }
    }
}

#[par_core::task]
fn area(width: u32, height: u32) -> u64 {
    u64::from(width) * u64::from(height)
}

#[par_core::task(name = "greeting", idempotent)]
fn greet(mut name: String) -> String {
    name.insert_str(0, "hello ");
    name
}

#[par_core::task]
fn nothing() {}

#[par_core::task]
fn patterns((a, b): (u8, u8), _: bool, [c, ..]: [u8; 3]) -> u8 {
    a + b + c
}

#[par_core::task]
fn read(path: std::path::PathBuf) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

#[par_core::task]
fn parse(text: String) -> Result<i32, std::num::ParseIntError> {
    text.parse()
}

type Outcome<T> = Result<T, String>;

#[par_core::task]
fn under_another_name(x: u8) -> Outcome<u8> {
    Ok(x)
}

/// A documented task,
/// in two lines.
#[par_core::task]
#[inline]
#[must_use]
pub async fn later(x: u8) -> u8 {
    std::future::ready(x + 1).await
}

#[par_core::task]
#[cfg(any())]
fn not_here(x: MissingType) {}

#[par_core::task]
#[deprecated]
fn old() {}

#[par_core::task]
fn r#match(r#type: u8) -> u8 {
    r#type
}

/// The greatest common divisor.
#[par_core::reduction(identity = 0)]
#[must_use]
pub fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

macro_rules! task_in_macro {
    ($name:ident, $ty:ty, $result:ty) => {
        #[par_core::task]
        fn $name(x: $ty) -> $result {
            Ok(x)
        }
    };
}
task_in_macro!(from_macro, u8, Result<u8, String>);

#[test]
fn a_task_is_a_function_and_a_type() {
    assert_eq!(area(3, 4), 12);
    assert_eq!(area::call((3, 4)), Ok(12));
    assert_eq!(area::NAME, "task_macro::area");
    assert_eq!(area::PARAMS, ["width", "height"]);
    assert!(!std::hint::black_box(area::IDEMPOTENT));
    assert_eq!(signature_of::<area>().text(), "(width: u32, height: u32) -> u64");
}

#[test]
fn options_name_and_mark_it() {
    assert_eq!(greet::NAME, "greeting");
    assert!(std::hint::black_box(greet::IDEMPOTENT));
    assert_eq!(greet::call("you".to_owned()), Ok("hello you".to_owned()));
}

#[test]
fn parameters_may_be_none_or_patterns() {
    assert_eq!(nothing::call(()), Ok(()));
    assert_eq!(patterns::call(((1, 2), true, [3, 0, 0])), Ok(6));
    assert_eq!(patterns::PARAMS, ["arg0", "arg1", "arg2"]);
    assert_eq!(r#match::NAME, "task_macro::match");
    assert_eq!(r#match::PARAMS, ["type"]);
}

#[test]
fn a_result_under_any_path_may_fail() {
    let error = read::call("/no/such/file".into()).unwrap_err();
    let TaskError::Failed(failure) = error else {
        panic!("{error}")
    };
    assert_eq!(failure.type_name, "std::io::error::Error");
    assert_eq!(parse::call("12".to_owned()), Ok(12));
    let error = parse::call("x".to_owned()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "task failed: invalid digit found in string [core::num::error::ParseIntError]"
    );
    assert_eq!(from_macro::call(1), Ok(1));
    // Not called `Result`, so that the whole of it is the value.
    assert_eq!(under_another_name::call(1), Ok(Ok(1)));
}

#[test]
fn async_tasks_run_both_ways() {
    assert_eq!(later::call(1), Ok(2));
    assert_eq!(par_core::block_on(later::call_async(1)), Ok(2));
    assert_eq!(par_core::block_on(area::call_async((2, 2))), Ok(4));
    assert!(std::hint::black_box(later::ASYNC && !area::ASYNC));
}

#[test]
fn expansions_survive_a_module_that_hides_the_prelude() {
    assert_eq!(shadowed::double::call(4), Ok(8));
    let error = shadowed::fails::call(((), ())).unwrap_err();
    assert_eq!(error.to_string(), "task failed: no [alloc::string::String]");
    assert_eq!(fold::reduce(&shadowed::larger {}, [3, 9, 4]), 9);
}

#[test]
fn tasks_are_found_by_name() {
    for name in [
        "task_macro::area",
        "greeting",
        "task_macro::shadowed::double",
        "task_macro::old",
    ] {
        assert_eq!(
            par_core::registry::find(name).map(par_core::registry::TaskEntry::name),
            Ok(name)
        );
    }
    assert!(par_core::registry::find("task_macro::not_here").is_err());
}

#[test]
fn a_task_may_be_local() {
    #[par_core::task]
    fn local(x: u8) -> u8 {
        x
    }
    assert_eq!(local::NAME, "task_macro::local");
    assert_eq!(local::call(7), Ok(7));
}

#[test]
fn a_function_becomes_a_reduction() {
    assert_eq!(gcd(12, 18), 6);
    assert_eq!(fold::reduce(&gcd {}, [12, 18, 27]), 3);
    assert_eq!(fold::reduce(&gcd {}, []), 0);
    let bytes = par_core::wire::to_bytes(&gcd {}).unwrap();
    let back: gcd = par_core::wire::from_bytes(&bytes).unwrap();
    assert_eq!(Reduction::combine(&back, 4, 6), 2);
    assert_eq!(format!("{back:?}"), "gcd");
}
