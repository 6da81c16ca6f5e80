//! What `#[kernel]` refuses, and the words in which it does.

#[test]
fn errors_point_at_the_code_and_say_what_to_do() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
