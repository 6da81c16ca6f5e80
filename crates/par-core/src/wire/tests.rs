//! Tests of the encoding: round trips, agreement with postcard, and bytes from an enemy.

use super::*;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    New(i64),
    Pair(u8, String),
    Named { width: u32, height: Option<f32> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Everything {
    ints: (u8, u16, u32, u64, u128),
    signed: (i8, i16, i32, i64, i128),
    flag: bool,
    letter: char,
    text: String,
    list: Vec<Option<u32>>,
    map: BTreeMap<String, Vec<u8>>,
    kinds: Vec<Kind>,
    unit: (),
    array: [u16; 3],
    boxed: Box<(u8,)>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Unit),
        any::<i64>().prop_map(Kind::New),
        (any::<u8>(), any::<String>()).prop_map(|(a, b)| Kind::Pair(a, b)),
        (any::<u32>(), proptest::option::of(-1e3f32..1e3))
            .prop_map(|(width, height)| Kind::Named { width, height }),
    ]
}

prop_compose! {
    fn everything()(
        ints in any::<(u8, u16, u32, u64, u128)>(),
        signed in any::<(i8, i16, i32, i64, i128)>(),
        flag in any::<bool>(),
        letter in any::<char>(),
        text in any::<String>(),
        list in vec(any::<Option<u32>>(), 0..20),
        map in btree_map(any::<String>(), vec(any::<u8>(), 0..9), 0..5),
        kinds in vec(kind(), 0..6),
        array in any::<[u16; 3]>(),
        byte in any::<u8>(),
    ) -> Everything {
        Everything { ints, signed, flag, letter, text, list, map, kinds, unit: (), array, boxed: Box::new((byte,)) }
    }
}

proptest! {
    #[test]
    fn values_round_trip_and_agree_with_postcard(value in everything()) {
        let bytes = to_bytes(&value).unwrap();
        prop_assert_eq!(&bytes, &postcard::to_allocvec(&value).unwrap());
        prop_assert_eq!(from_bytes::<Everything>(&bytes).unwrap(), value);
        // Every shorter input is an error, and leaves the slice where it was.
        for end in 0..bytes.len() {
            let mut slice = &bytes[..end];
            prop_assert!(decode::<Everything>(&mut slice).is_err());
            prop_assert_eq!(slice.len(), end);
        }
    }

    #[test]
    fn floats_keep_every_bit(double in any::<u64>(), single in any::<u32>(), payload in 0u64..1 << 51) {
        for bits in [double, f64::NAN.to_bits() | payload, (-0.0f64).to_bits(), 1] {
            let bytes = to_bytes(&f64::from_bits(bits)).unwrap();
            prop_assert_eq!(from_bytes::<f64>(&bytes).unwrap().to_bits(), bits);
        }
        let bytes = to_bytes(&f32::from_bits(single)).unwrap();
        prop_assert_eq!(from_bytes::<f32>(&bytes).unwrap().to_bits(), single);
    }

    #[test]
    fn any_bytes_decode_as_postcard_decodes_them_or_fail(bytes in vec(any::<u8>(), 0..200)) {
        macro_rules! same {
            ($($type:ty),*) => {$(
                let ours = decode::<$type>(&mut &bytes[..]);
                if let Ok(theirs) = postcard::from_bytes::<$type>(&bytes) {
                    // A char is stricter here, lengths of nothing are bounded; nothing else differs.
                    match ours {
                        Ok(ours) => prop_assert_eq!(to_bytes(&ours).unwrap(), to_bytes(&theirs).unwrap()),
                        Err(error) => prop_assert!(matches!(error, WireError::Malformed("a char is not one character"))),
                    }
                } else {
                    prop_assert!(ours.is_err());
                }
            )*};
        }
        same!(bool, u8, i16, u32, u64, u128, i128, f64, char, String, Vec<u32>, Vec<String>, Option<Vec<(u8, f32)>>);
        same!(BTreeMap<u8, String>, Kind, Vec<Kind>, Everything, Chain);
        let _ = decode::<Vec<Vec<()>>>(&mut &bytes[..]);
        let _ = decode::<HashMap<(), ()>>(&mut &bytes[..]);
        let _ = decode::<std::net::IpAddr>(&mut &bytes[..]);
        let _ = decode::<std::time::Duration>(&mut &bytes[..]);
    }

    #[test]
    fn frames_survive_any_cutting(
        frames in vec((any::<u8>(), vec(any::<u8>(), 0..300)), 0..8),
        cuts in vec(1usize..97, 1..50),
        straight in any::<bool>(),
    ) {
        let mut stream = Vec::new();
        for (kind, payload) in &frames {
            write_frame(&mut stream, *kind, payload).unwrap();
        }
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        let (mut rest, mut seen) = (&stream[..], Vec::new());
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (mut piece, later) = rest.split_at((*cut).min(rest.len()));
            rest = later;
            if straight {
                while decoder.read_from(&mut piece).unwrap() > 0 {}
            } else {
                decoder.feed(piece);
            }
            while let Some((kind, payload)) = decoder.next_frame().unwrap() {
                seen.push((kind, payload.to_vec()));
            }
        }
        decoder.finish().unwrap();
        prop_assert_eq!(&seen, &frames);

        let (mut reader, mut payload) = (&stream[..], Vec::new());
        for (kind, expected) in &frames {
            prop_assert_eq!(read_frame(&mut reader, MAX_FRAME, &mut payload).unwrap(), Some(*kind));
            prop_assert_eq!(&payload, expected);
        }
        prop_assert!(read_frame(&mut reader, MAX_FRAME, &mut payload).unwrap().is_none());
    }

    #[test]
    fn any_bytes_are_frames_or_an_error(bytes in vec(any::<u8>(), 0..64), head in any::<bool>()) {
        let mut stream = if head { b"PA\x01".to_vec() } else { Vec::new() };
        stream.extend(bytes);
        let mut payload = Vec::new();
        let _ = read_frame(&mut &stream[..], MAX_FRAME, &mut payload);
        prop_assert!(payload.capacity() <= 2 << 20);
        let mut decoder = FrameDecoder::new(MAX_FRAME);
        decoder.feed(&stream);
        while let Ok(Some(_)) = decoder.next_frame() {}
        let _ = decoder.finish();
    }
}

/// A varint that claims 2^60 items.
fn huge() -> Vec<u8> {
    to_bytes(&(1u64 << 60)).unwrap()
}

#[test]
fn a_claimed_length_is_an_error_before_it_is_memory() {
    let mut bytes = huge();
    bytes.extend([1; 40]);
    let error = |result: Result<(), WireError>| result.unwrap_err().to_string();
    let left = "cannot decode: a length of 1152921504606846976 is claimed, with 40 byte(s) left";
    assert_eq!(error(from_bytes::<Vec<()>>(&bytes).map(drop)), left);
    assert_eq!(error(from_bytes::<Vec<u8>>(&bytes).map(drop)), left);
    assert_eq!(error(from_bytes::<Vec<[u64; 4]>>(&bytes).map(drop)), left);
    assert_eq!(error(from_bytes::<HashMap<u8, u8>>(&bytes).map(drop)), left);
    assert_eq!(error(from_bytes::<HashMap<(), ()>>(&bytes).map(drop)), left);
    assert_eq!(error(from_bytes::<HashMap<(), u8>>(&bytes).map(drop)), left);
    let text = "cannot decode: 1152921504606846976 more byte(s) needed, 40 left";
    assert_eq!(error(from_bytes::<String>(&bytes).map(drop)), text);
}

#[test]
fn a_million_units_pass_and_lists_of_lists_of_nothing_do_not() {
    let units = vec![(); 1_000_000];
    assert_eq!(
        from_bytes::<Vec<()>>(&to_bytes(&units).unwrap()).unwrap().len(),
        units.len()
    );
    let many = vec![vec![(); 1 << 20]; 1000];
    assert!(matches!(
        from_bytes::<Vec<Vec<()>>>(&to_bytes(&many).unwrap()),
        Err(WireError::Length { .. })
    ));
}

#[test]
fn deep_nesting_is_an_error_and_not_an_overflow() {
    let error = from_bytes::<Chain>(&[1; 1 << 20]).unwrap_err();
    assert_eq!(error.to_string(), "cannot decode: nested deeper than 256 levels");
    let mut bytes = [1; 101];
    bytes[100] = 0;
    assert!(from_bytes::<Chain>(&bytes).is_ok());
}

#[test]
fn left_over_bytes_are_an_error() {
    assert_eq!(
        from_bytes::<u8>(&[1, 2, 3]).unwrap_err().to_string(),
        "cannot decode: 2 byte(s) left over after the value"
    );
}

#[test]
fn a_refusal_to_encode_leaves_the_buffer_alone() {
    struct Unsized;
    impl Serialize for Unsized {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq(std::iter::repeat_n(1u8, 3).filter(|_| true))
        }
    }
    let mut out = b"kept".to_vec();
    let error = encode(&("before", Unsized), &mut out).unwrap_err();
    assert!(error.to_string().starts_with("cannot encode: "), "{error}");
    assert_eq!(out, b"kept");
}

#[test]
fn a_lying_header_names_both_sizes_and_both_versions() {
    let mut payload = Vec::new();
    let mut huge = FrameHeader {
        kind: 1,
        length: 1 << 60,
    }
    .to_bytes();
    let error = read_frame(&mut &huge[..], MAX_FRAME, &mut payload).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a frame of 1152921504606846976 bytes is claimed, 268435456 are allowed"
    );
    assert_eq!(payload.capacity(), 0);
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    decoder.feed(&huge);
    assert_eq!(decoder.next_frame().unwrap_err().to_string(), error.to_string());
    huge[2] = 9;
    let error = read_frame(&mut &huge[..], MAX_FRAME, &mut payload).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the frame is of protocol version 9, this program speaks version 1"
    );
    let error = read_frame(&mut &b"GET / HTTP/1.1"[..], MAX_FRAME, &mut payload).unwrap_err();
    assert_eq!(error.to_string(), "not a frame: it begins with [47, 45]");
}

#[test]
fn an_allowed_but_false_length_costs_one_step_of_memory() {
    let mut payload = Vec::new();
    let mut stream = FrameHeader {
        kind: 1,
        length: 200 << 20,
    }
    .to_bytes()
    .to_vec();
    stream.push(5);
    let error = read_frame(&mut &stream[..], MAX_FRAME, &mut payload).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the stream ended within a frame: 209715199 byte(s) missing"
    );
    assert!(payload.capacity() <= 2 << 20);
    let mut decoder = FrameDecoder::new(MAX_FRAME);
    decoder.feed(&stream);
    assert!(decoder.next_frame().unwrap().is_none());
    assert_eq!(decoder.finish().unwrap_err().to_string(), error.to_string());
}
