//! Laws of reductions and scans: the bits of par-core's fold.

use super::Subject;
use super::data::{EDGES, bits, done, floats, same, singles};
use super::kernels::{bump, follow, product_f32};
use crate::element::Element;
use crate::reduction::{By, DeviceReduction};
use par_core::fold::{self, LEAF};
use par_core::{BitAnd, BitOr, BitXor, Max, Min, Product, ScanKind, Sum};
use std::num::Wrapping;

/// A reduction of an array whose output is one element.
#[track_caller]
fn reduced<S, R, T>(subject: &S, what: &str, values: &[T], reduction: R) -> T
where
    S: Subject,
    T: Element,
    R: DeviceReduction<T, Output = T>,
{
    let array = done(what, subject.array(values));
    done(what, subject.map_reduce::<T::Same, R>((&array,), reduction))
}

/// The bits of `par_core::fold::reduce`.
pub(super) fn reduce<S: Subject>(subject: &S) {
    for len in subject.lengths() {
        let what = format!("a reduction of {len} elements");
        let (singles, words) = (singles(len), (0..len).map(bits).collect::<Vec<_>>());
        let sum = reduced(subject, &what, &singles, Sum);
        same(&what, &[sum], &[fold::reduce(&Sum, singles.iter().copied())]);
        let product: Vec<f32> = singles.iter().map(|x| 1.0 + x * 1e-7).collect();
        let found = reduced(subject, &what, &product, Product);
        same(&what, &[found], &[fold::reduce(&Product, product)]);
        if subject.device().info().fp64 {
            let doubles = floats(len);
            let sum = reduced(subject, &what, &doubles, Sum);
            same(&what, &[sum], &[fold::reduce(&Sum, doubles)]);
        }

        let small: Vec<i32> = words.iter().map(|&word| word as i32).collect();
        let sum = reduced(subject, &what, &small, Sum);
        let wrapping = small.iter().map(|x| Wrapping(*x));
        assert_eq!(sum, fold::reduce(&Sum, wrapping).0, "{what}: sum of i32");
        let product = reduced(subject, &what, &words, Product);
        assert_eq!(
            product,
            fold::reduce(&Product, words.iter().map(|x| Wrapping(*x))).0,
            "{what}: product of u64"
        );
        assert_eq!(
            reduced(subject, &what, &words, BitAnd),
            fold::reduce(&BitAnd, words.clone()),
            "{what}: and"
        );
        assert_eq!(
            reduced(subject, &what, &words, BitOr),
            fold::reduce(&BitOr, words.clone()),
            "{what}: or"
        );
        assert_eq!(
            reduced(subject, &what, &words, BitXor),
            fold::reduce(&BitXor, words.clone()),
            "{what}: xor"
        );

        let by = By::<follow, u64>::new(1 << 32);
        let found = reduced(subject, &what, &words, by.clone());
        assert_eq!(
            found,
            fold::reduce(&by, words.clone()),
            "{what}: linear functions, which do not commute"
        );
        extremes(subject, &what, &singles, &small);

        // A kernel first, in the same pass.
        let array = done(&what, subject.array(&singles));
        let found = done(&what, subject.map_reduce::<product_f32, _>((&array, &array), Sum));
        same(
            &what,
            &[found],
            &[fold::reduce(&Sum, singles.iter().map(|x| x * x))],
        );
    }
    let edges = EDGES.map(|edge| edge as f32);
    extremes(subject, "edges", &edges, &[]);
    let mut edges = edges.to_vec();
    edges.reverse();
    edges.retain(|edge| !edge.is_nan());
    extremes(subject, "edges without NaN", &edges, &[]);
    let zeros = [-0.0f32; 3];
    same(
        "a sum of -0.0",
        &[reduced(subject, "a sum", &zeros, Sum)],
        &[-0.0],
    );
}

/// Least and greatest by total order.
fn extremes<S: Subject>(subject: &S, what: &str, singles: &[f32], small: &[i32]) {
    let array = done(what, subject.array(singles));
    let least = done(
        what,
        subject.map_reduce::<<f32 as Element>::Same, _>((&array,), Min),
    );
    let greatest = done(
        what,
        subject.map_reduce::<<f32 as Element>::Same, _>((&array,), Max),
    );
    let bits = |x: Option<f32>| x.map(f32::to_bits);
    assert_eq!(
        bits(least),
        bits(fold::reduce(&Min, singles.iter().copied())),
        "{what}: least {least:?}"
    );
    assert_eq!(
        bits(greatest),
        bits(fold::reduce(&Max, singles.iter().copied())),
        "{what}: greatest {greatest:?}"
    );
    let array = done(what, subject.array(small));
    let least = done(
        what,
        subject.map_reduce::<<i32 as Element>::Same, _>((&array,), Min),
    );
    assert_eq!(least, small.iter().copied().min(), "{what}: least integer");
}

/// The bits of `par_core::fold::scan`.
pub(super) fn scan<S: Subject>(subject: &S) {
    for len in subject.lengths() {
        for kind in [ScanKind::Inclusive, ScanKind::Exclusive] {
            let what = format!("{kind:?} scan of {len} elements");
            let singles = singles(len);
            let array = done(&what, subject.array(&singles));
            let found = done(
                &what,
                subject.map_scan::<<f32 as Element>::Same, _>((&array,), Sum, kind),
            );
            same(
                &what,
                &done(&what, subject.to_vec(&found)),
                &fold::scan(&Sum, kind, LEAF, &singles),
            );
            let squares: Vec<f32> = singles.iter().map(|x| x * x).collect();
            let found = done(
                &what,
                subject.map_scan::<product_f32, _>((&array, &array), Sum, kind),
            );
            same(
                &what,
                &done(&what, subject.to_vec(&found)),
                &fold::scan(&Sum, kind, LEAF, &squares),
            );

            let words: Vec<u64> = (0..len).map(bits).collect();
            let array = done(&what, subject.array(&words));
            let by = By::<follow, u64>::new(1 << 32);
            let found = done(
                &what,
                subject.map_scan::<<u64 as Element>::Same, _>((&array,), by.clone(), kind),
            );
            same(
                &what,
                &done(&what, subject.to_vec(&found)),
                &fold::scan(&by, kind, LEAF, &words),
            );
        }
        let what = format!("running maximum of {len} elements");
        let small: Vec<u32> = (0..len).map(|index| bits(index) as u32).collect();
        let array = done(&what, subject.array(&small));
        let found = done(
            &what,
            subject.map_scan::<bump, _>((&array,), Max, ScanKind::Inclusive),
        );
        let bumped: Vec<u32> = small.iter().map(|x| bump(*x)).collect();
        let expected: Vec<u32> = fold::scan(&Max, ScanKind::Inclusive, LEAF, &bumped)
            .into_iter()
            .flatten()
            .collect();
        same(&what, &done(&what, subject.to_vec(&found)), &expected);
    }
}
