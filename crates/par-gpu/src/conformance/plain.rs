//! Laws of copies, shapes, values, no elements, and errors.

use super::Subject;
use super::data::{bits, done, same, singles};
use super::kernels::{axpby, bump, collatz, horner, numbered};
use crate::arguments::Index;
use crate::device::Device;
use crate::element::Element;
use crate::error::Error;
use par_core::{Max, ScanKind, Sum};

/// What goes to a device comes back with its bits.
pub(super) fn copies<S: Subject>(subject: &S) {
    for len in subject.lengths() {
        let patterns: Vec<u64> = (0..len).map(bits).collect();
        let what = format!("a copy of {len} elements");
        round_trip(subject, &what, &patterns);
        let singles: Vec<f32> = patterns.iter().map(|&bits| f32::from_bits(bits as u32)).collect();
        round_trip(subject, &what, &singles);
        let small: Vec<i32> = patterns.iter().map(|&bits| bits as i32).collect();
        round_trip(subject, &what, &small);
    }
    let nans = [0x7fc0_1234_u32, 0xffc0_0000, 0x7f80_0001, 0x8000_0000].map(f32::from_bits);
    round_trip(subject, "NaNs and -0.0", &nans);
}

#[track_caller]
fn round_trip<S: Subject, T: Element>(subject: &S, what: &str, values: &[T]) {
    let mut array = done(what, subject.array(values));
    let pattern = |values: &[T]| values.iter().map(|value| value.bits()).collect::<Vec<_>>();
    let back = done(what, subject.to_vec(&array));
    assert!(pattern(&back) == pattern(values), "{what} of {} changed", T::KIND);
    let reversed: Vec<T> = values.iter().rev().copied().collect();
    done(what, array.copy_from(&reversed));
    let mut back = vec![T::default(); values.len()];
    done(what, array.copy_to(&mut back));
    assert!(
        pattern(&back) == pattern(&reversed),
        "{what} of {} changed when written again",
        T::KIND
    );
    let zeros = done(what, subject.device().zeros::<T>(values.len()));
    let back = done(what, subject.to_vec(&zeros));
    assert!(
        back.iter().all(|zero| zero.bits() == 0),
        "{what}: zeros of {} are not",
        T::KIND
    );
}

/// A result has the shape of its first array.
pub(super) fn shapes<S: Subject>(subject: &S) {
    let values: Vec<u32> = (0..24).collect();
    let array = done("an array", subject.array(&values));
    assert_eq!((array.len(), array.shape()), (24, &[24][..]));
    let cube = done("a shape", array.reshape(&[2, 3, 4]));
    let bumped = done("a map", subject.map::<bump>((&cube,)));
    assert_eq!(
        (bumped.len(), bumped.shape()),
        (24, &[2, 3, 4][..]),
        "the shape of a map"
    );
    let sums = done("a scan", cube.scan(Sum, ScanKind::Inclusive));
    assert_eq!(sums.shape(), [2, 3, 4], "the shape of a scan");
    assert_eq!(bumped.device(), subject.device(), "the device of a result");
    let error = cube.reshape(&[5, 5]).expect_err("25 is not 24");
    assert_eq!(error.to_string(), "24 elements do not fill the shape [5, 5]");
}

/// A kernel computes at every index what the function computes.
pub(super) fn values<S: Subject>(subject: &S) {
    for len in subject.lengths() {
        let what = |name: &str| format!("{name} of {len} elements");
        let (x, mut y) = (singles(len), singles(len));
        y.reverse();
        let (on_x, on_y) = (done("x", subject.array(&x)), done("y", subject.array(&y)));
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| axpby(2.0, *x, 5.0, *y)).collect();
        let result = done(&what("2x + 5y"), subject.map::<axpby>((2.0, &on_x, 5.0, &on_y)));
        same(&what("2x + 5y"), &done("z", subject.to_vec(&result)), &expected);
        // Into an array that is there, whose old values must not be seen.
        let mut into = done("z", subject.array(&vec![f32::NAN; len]));
        done(
            &what("into"),
            subject.map_into::<axpby>((2.0, &on_x, 5.0, &on_y), &mut into),
        );
        same(
            &what("2x + 5y into"),
            &done("z", subject.to_vec(&into)),
            &expected,
        );

        // In place.
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| axpby(*x, 2.0, 5.0, *y)).collect();
        let mut changed = done("x", subject.array(&x));
        done(
            &what("update"),
            subject.update::<axpby>(&mut changed, (2.0, 5.0, &on_y)),
        );
        same(&what("update"), &done("x", subject.to_vec(&changed)), &expected);
        let expected: Vec<f32> = expected.iter().map(|x| horner(*x)).collect();
        done(&what("update"), subject.update::<horner>(&mut changed, ()));
        same(&what("update"), &done("x", subject.to_vec(&changed)), &expected);

        let expected: Vec<f32> = x.iter().map(|x| horner(*x)).collect();
        let result = done(&what("a polynomial"), subject.map::<horner>((&on_x,)));
        same(
            &what("a polynomial"),
            &done("z", subject.to_vec(&result)),
            &expected,
        );

        let seeds: Vec<u32> = (0..len.min(5000)).map(|index| bits(index) as u32).collect();
        let expected: Vec<u32> = seeds.iter().map(|x| collatz(*x)).collect();
        let on_device = done("seeds", subject.array(&seeds));
        let places = (0..)
            .zip(&seeds)
            .map(|(i, x)| numbered(*x, i, 3))
            .collect::<Vec<u64>>();
        let result = done(&what("indexes"), subject.map::<numbered>((&on_device, Index, 3)));
        same(&what("indexes"), &done("z", subject.to_vec(&result)), &places);
        let result = done(&what("a loop"), subject.map::<collatz>((&on_device,)));
        same(&what("a loop"), &done("z", subject.to_vec(&result)), &expected);
    }
}

/// No elements are no special case.
pub(super) fn empty<S: Subject>(subject: &S) {
    let array = done("an empty array", subject.array::<u32>(&[]));
    assert!(
        array.is_empty() && array.shape() == [0],
        "an empty array has a shape: {:?}",
        array.shape()
    );
    assert_eq!(done("a copy", subject.to_vec(&array)), []);
    assert_eq!(done("a map", subject.map::<bump>((&array,))).len(), 0);
    let mut out = done("another", subject.array::<u32>(&[]));
    done("a map into", subject.map_into::<bump>((&array,), &mut out));
    assert_eq!(done("a sum", subject.map_reduce::<bump, _>((&array,), Sum)), 0);
    assert_eq!(
        done("a maximum", subject.map_reduce::<bump, _>((&array,), Max)),
        None
    );
    for kind in [ScanKind::Inclusive, ScanKind::Exclusive] {
        assert_eq!(
            done("a scan", subject.map_scan::<bump, _>((&array,), Max, kind)).len(),
            0
        );
    }
    let flat = done("a shape", array.reshape(&[3, 0]));
    assert_eq!(done("a map", subject.map::<bump>((&flat,))).shape(), [3, 0]);
    done("a wait", subject.device().synchronize());
}

/// What cannot be is refused, and the error says what it was.
pub(super) fn errors<S: Subject>(subject: &S) {
    let device = subject.device();
    let (two, three) = (
        done("two", subject.array(&[1.0f32, 2.0])),
        done("three", subject.array(&[1.0f32; 3])),
    );
    let text = |error: Error| error.to_string();
    let error = subject
        .map::<axpby>((1.0, &two, 1.0, &three))
        .expect_err("shapes differ");
    assert_eq!(text(error), "argument 4 has the shape [3], where [2] is expected");
    let mut out = done("out", subject.array(&[0.0f32; 3]));
    let error = subject
        .map_into::<axpby>((1.0, &two, 1.0, &two), &mut out)
        .expect_err("out is longer");
    assert_eq!(text(error), "the output has the shape [3], where [2] is expected");
    let error = subject.map::<axpby>((1.0, 2.0, 3.0, 4.0)).expect_err("no array");
    assert_eq!(error, Error::NoArray);
    let error = subject
        .update::<axpby>(&mut out, (1.0, &two, 1.0))
        .expect_err("out is longer");
    assert_eq!(text(error), "argument 2 has the shape [2], where [3] is expected");
    let error = out.copy_from(&[1.0]).expect_err("a shorter slice");
    assert_eq!(text(error), "a slice of 1 elements, where the array has 3");
    let error = out.copy_to(&mut [1.0; 4]).expect_err("a longer slice");
    assert_eq!(text(error), "a slice of 4 elements, where the array has 3");

    let other = other_device(device);
    let elsewhere = done("elsewhere", other.array(&[1.0f32, 2.0]));
    let error = subject
        .map::<axpby>((1.0, &two, 1.0, &elsewhere))
        .expect_err("two devices");
    let (here, there) = (device.name(), other.name());
    assert_eq!(
        text(error),
        format!("argument 4 lives on {there:?}, and the call runs on {here:?}: copy it there first")
    );
    let error = subject
        .map_reduce::<axpby, _>((1.0, &two, 1.0, &elsewhere), Sum)
        .expect_err("two devices");
    assert!(matches!(error, Error::Devices { .. }), "{error}");
    assert_eq!(
        done("a copy", done("a copy", elsewhere.to_device(device)).to_vec()),
        [1.0, 2.0]
    );

    let most = device.info().max_allocation;
    for len in [usize::try_from(most / 4 + 1).expect("fits"), usize::MAX] {
        let error = device.zeros::<f32>(len).expect_err("too large");
        let bytes = len as u128 * 4;
        assert_eq!(
            text(error),
            format!("{bytes} bytes are more than {here:?} gives to one array ({most})")
        );
    }
    let error = subject
        .map_scan::<axpby, _>((1.0, &two, 1.0, &two), Max, ScanKind::Exclusive)
        .expect_err("a maximum of nothing");
    assert_eq!(
        text(error),
        "the value of no f32 elements is needed for the first of an exclusive scan, and Max has none"
    );
}

/// Another device than that: the cpu device, or a second one of its kind.
fn other_device(device: &Device) -> Device {
    if *device == Device::cpu() {
        Device::of_host(std::sync::Arc::new(crate::cpu::Cpu::new()))
    } else {
        Device::cpu()
    }
}
