//! Tests of the texts of many types.

use super::*;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

fn text<T: Data>() -> String {
    trace::trace::<T>().text()
}

#[derive(Serialize, Deserialize)]
struct Area {
    width: u32,
    height: u32,
}

mod other {
    #[derive(serde::Serialize, serde::Deserialize)]
    pub(super) struct Area {
        height: u32,
        width: u32,
    }
}

#[derive(Serialize, Deserialize)]
struct Meters(f64);

#[derive(Serialize, Deserialize)]
struct Point(f32, f32);

#[derive(Serialize, Deserialize)]
struct Marker;

#[derive(Serialize, Deserialize)]
struct Wrapper<T> {
    inner: T,
}

#[derive(Serialize, Deserialize)]
struct Node {
    value: u8,
    children: Vec<Node>,
    next: Option<Box<Node>>,
    by_name: HashMap<String, Node>,
    last: bool,
}

#[derive(Serialize, Deserialize)]
enum Color {
    Red,
    Rgb(u8, u8, u8),
    Named(String),
    Mixed { with: Box<Color>, share: f32 },
}

#[derive(Serialize, Deserialize)]
enum Expr {
    Add(Box<Expr>, Box<Expr>),
    Negate(Box<Expr>),
    Literal(i64),
    Tagged(Tag, Tag),
}

#[derive(Serialize, Deserialize)]
enum Tag {
    A,
    B(Option<u8>),
}

#[derive(Serialize, Deserialize)]
#[serde(try_from = "u8")]
struct Even(u8);

impl TryFrom<u8> for Even {
    type Error = String;
    fn try_from(value: u8) -> Result<Self, String> {
        if value.is_multiple_of(2) {
            Ok(Even(value))
        } else {
            Err("odd".to_owned())
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(try_from = "u8")]
struct Never(u8);

impl TryFrom<u8> for Never {
    type Error = String;
    fn try_from(_: u8) -> Result<Self, String> {
        Err("never".to_owned())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)]
enum Untagged {
    Number(u8),
    Text(String),
}

#[derive(Serialize, Deserialize)]
#[serde(from = "u8")]
struct Panics;

impl From<u8> for Panics {
    fn from(_: u8) -> Self {
        panic!("made-up values are not for me")
    }
}

#[test]
fn primitives_have_their_names() {
    assert_eq!(
        text::<(u8, i128, f64, bool, char)>(),
        "(u8, i128, f64, bool, char)"
    );
    assert_eq!(text::<String>(), "string");
    assert_eq!(text::<usize>(), "u64");
    assert_eq!(text::<()>(), "()");
}

#[test]
fn containers_show_their_contents() {
    assert_eq!(text::<Vec<Option<u8>>>(), "[Option<u8>]");
    assert_eq!(
        text::<BTreeMap<String, HashSet<(u8, char)>>>(),
        "{string: [(u8, char)]}"
    );
    assert_eq!(text::<[u16; 3]>(), "(u16, u16, u16)");
    assert_eq!(text::<[u16; 32]>(), "[u16; 32]");
    assert_eq!(text::<Result<u8, String>>(), "enum Result {Ok(u8), Err(string)}");
}

#[test]
fn structs_show_names_and_order() {
    assert_eq!(text::<Area>(), "Area {width: u32, height: u32}");
    assert_eq!(text::<other::Area>(), "Area {height: u32, width: u32}");
    assert_eq!(
        text::<(Meters, Point, Marker)>(),
        "(Meters(f64), Point(f32, f32), Marker)"
    );
}

#[test]
fn generic_structs_of_one_name_are_told_apart() {
    let nested = "Wrapper {inner: Wrapper {inner: u8}}";
    assert_eq!(text::<Wrapper<Wrapper<u8>>>(), nested);
    assert_eq!(
        text::<(Wrapper<u8>, Wrapper<bool>)>(),
        "(Wrapper {inner: u8}, Wrapper {inner: bool})"
    );
}

#[test]
fn a_type_within_itself_is_cut_and_what_follows_is_still_seen() {
    assert_eq!(
        text::<Node>(),
        "Node {value: u8, children: [^Node], next: Option<^Node>, by_name: {string: ^Node}, last: bool}"
    );
    assert_eq!(
        text::<Wrapper<Node>>(),
        "Wrapper {inner: Node {value: u8, children: [^Node], next: Option<^Node>, by_name: {string: ^Node}, last: bool}}"
    );
}

#[test]
fn enums_show_all_their_variants() {
    assert_eq!(
        text::<Color>(),
        "enum Color {Red, Rgb(u8, u8, u8), Named(string), Mixed {with: ^Color, share: f32}}"
    );
    let tag = "enum Tag {A, B(Option<u8>)}";
    assert_eq!(
        text::<(Expr, u8)>(),
        format!("(enum Expr {{Add(^Expr, ^Expr), Negate(^Expr), Literal(i64), Tagged({tag}, {tag})}}, u8)")
    );
}

#[test]
fn types_of_the_standard_library_have_texts() {
    assert_eq!(text::<Duration>(), "Duration {secs: u64, nanos: u32}");
    assert_eq!(
        text::<SystemTime>(),
        "SystemTime {secs_since_epoch: u64, nanos_since_epoch: u32}"
    );
    assert_eq!(text::<(NonZeroU32, PathBuf)>(), "(u32, string)");
    assert_eq!(
        text::<IpAddr>(),
        "enum IpAddr {V4((u8, u8, u8, u8)), V6([u8; 16])}"
    );
    assert!(text::<SocketAddr>().starts_with("enum SocketAddr {V4(("));
    assert_eq!(text::<std::ops::Range<u8>>(), "Range {start: u8, end: u8}");
    assert_eq!(text::<std::marker::PhantomData<u8>>(), "PhantomData");
    assert_eq!(text::<std::cmp::Reverse<u8>>(), "u8");
}

#[test]
fn types_that_refuse_values_still_have_texts() {
    assert_eq!(text::<(Even, u16)>(), "(u8, u16)");
    // What no value satisfies is left out where the type allows it, and hides what follows where not.
    assert_eq!(
        text::<(Option<Never>, Vec<Never>, u16)>(),
        "(Option<u8>, [u8], u16)"
    );
    assert_eq!(text::<(Never, u16)>(), "(u8, ?)");
    assert_eq!(text::<(u8, Untagged)>(), "(u8, any)");
    assert_eq!(text::<(u8, Panics, u8)>(), "(u8, u8, ?)");
}

#[test]
fn a_shared_value_shows_what_is_shared() {
    type Table = crate::Shared<Vec<Area>>;
    let signature = describe_task::<(Table, u32), u8>(&["table", "row"]);
    assert_eq!(
        signature.text(),
        "(table: Shared([Area {width: u32, height: u32}]), row: u32) -> u8"
    );
    assert!(!probing());
}

#[test]
fn a_task_shows_its_parameters_and_its_value() {
    let signature = describe_task::<(u32, u32), u64>(&["width", "height"]);
    assert_eq!(signature.text(), "(width: u32, height: u32) -> u64");
    let swapped = describe_task::<(u32, u32), u64>(&["height", "width"]);
    assert_ne!(signature.hash(), swapped.hash());
    assert_ne!(
        describe_task::<Area, ()>(&["a"]).hash(),
        describe_task::<other::Area, ()>(&["a"]).hash()
    );
    assert_eq!(describe_task::<(), ()>(&[]).text(), "() -> ()");
    assert_eq!(
        describe_task::<(u8, u8), ()>(&["pair"]).text(),
        "(pair: (u8, u8)) -> ()"
    );
    assert_eq!(
        describe_task::<Area, ()>(&["a", "b"]).text(),
        "(a, b: Area {width: u32, height: u32}) -> ()"
    );
}

#[test]
fn the_hash_is_fnv_1a() {
    // From the test vectors of its authors.
    assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
    assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
    assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
}
