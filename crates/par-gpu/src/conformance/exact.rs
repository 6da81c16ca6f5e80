//! Laws of numbers: floats to the last bit, integers that wrap, casts that saturate.

use super::Subject;
use super::data::{EDGES, INTEGERS, bits, done, floats, pairs, same};
use super::kernels::*;
use crate::element::Element;
use crate::kernel::Kernel;

/// A kernel of two arrays against the function.
#[track_caller]
fn two<S, K, A, B>(subject: &S, name: &str, x: &[A], y: &[B])
where
    S: Subject,
    K: Kernel<Args = (A, B), Output: Element>,
    A: Element,
    B: Element,
{
    let expected: Vec<_> = x.iter().zip(y).map(|(x, y)| K::call((*x, *y))).collect();
    let (on_x, on_y) = (done(name, subject.array(x)), done(name, subject.array(y)));
    let result = done(name, subject.map::<K>((&on_x, &on_y)));
    same(name, &done(name, subject.to_vec(&result)), &expected);
}

/// A kernel of one array against the function.
#[track_caller]
fn one<S, K, A>(subject: &S, name: &str, x: &[A])
where
    S: Subject,
    K: Kernel<Args = (A,), Output: Element>,
    A: Element,
{
    let expected: Vec<_> = x.iter().map(|x| K::call((*x,))).collect();
    let on_x = done(name, subject.array(x));
    let result = done(name, subject.map::<K>((&on_x,)));
    same(name, &done(name, subject.to_vec(&result)), &expected);
}

macro_rules! float_law {
    ($law:ident $ty:ident $int:ident $combined:ident $quotient:ident $rounded:ident $chosen:ident $power:ident $fused:ident) => {
        fn $law<S: Subject>(subject: &S) {
            let edges = EDGES.map(|edge| edge as $ty);
            let (x, y) = pairs(&edges);
            two::<_, $combined, _, _>(subject, stringify!($combined), &x, &y);
            two::<_, $quotient, _, _>(subject, stringify!($quotient), &x, &y);
            two::<_, $fused, _, _>(subject, stringify!($fused), &x, &y);
            let kinds: Vec<$int> = (0..x.len()).map(|index| (index % 6) as $int).collect();
            let repeated: Vec<$ty> = edges.iter().flat_map(|edge| [*edge; 6]).collect();
            two::<_, $rounded, _, _>(
                subject,
                stringify!($rounded),
                &repeated,
                &kinds[..repeated.len()],
            );
            let powers: Vec<i32> = (0..x.len()).map(|index| index as i32 % 23 - 11).collect();
            two::<_, $power, _, _>(subject, stringify!($power), &x, &powers);
            for which in 0..3 {
                let name = format!("{} {which}", stringify!($chosen));
                let expected: Vec<$ty> = x
                    .iter()
                    .zip(&y)
                    .map(|(x, y)| $chosen(*x, *y, which))
                    .collect();
                let (on_x, on_y) = (
                    done(&name, subject.array(&x)),
                    done(&name, subject.array(&y)),
                );
                let result = done(&name, subject.map::<$chosen>((&on_x, &on_y, which)));
                same(&name, &done(&name, subject.to_vec(&result)), &expected);
            }
            let many: Vec<$ty> = floats(4097).into_iter().map(|x| x as $ty).collect();
            let mut turned = many.clone();
            turned.rotate_left(7);
            two::<_, $combined, _, _>(subject, stringify!($combined), &many, &turned);
            two::<_, $quotient, _, _>(subject, stringify!($quotient), &many, &turned);
            two::<_, $fused, _, _>(subject, stringify!($fused), &many, &turned);
        }
    };
}
float_law!(exact_f32 f32 i32 combined_f32 quotient_f32 rounded_f32 chosen_f32 power_f32 fused_f32);
float_law!(exact_f64 f64 i64 combined_f64 quotient_f64 rounded_f64 chosen_f64 power_f64 fused_f64);

/// Floats to the last bit.
pub(super) fn exact<S: Subject>(subject: &S) {
    exact_f32(subject);
    if subject.device().info().fp64 {
        exact_f64(subject);
    }
}

/// Arbitrary numbers after those at the edges.
const MANY: usize = 3000;

macro_rules! int_laws {
    ($subject:ident: $($ty:ident $arith:ident $bitwise:ident $counted:ident;)*) => {$(
        let (mut x, mut y) = pairs(&INTEGERS.map(|edge| edge as $ty));
        x.extend((0..MANY).map(|index| bits(index) as $ty));
        y.extend((0..MANY).map(|index| bits(MANY + index) as $ty));
        two::<_, $arith, _, _>($subject, stringify!($arith), &x, &y);
        two::<_, $bitwise, _, _>($subject, stringify!($bitwise), &x, &y);
        two::<_, $counted, _, _>($subject, stringify!($counted), &x, &y);
    )*};
}

/// Casts of integers.
macro_rules! int_casts {
    ($subject:ident: $($name:ident $from:ident;)*) => {$({
        let arbitrary = (0..MANY).map(|index| bits(index) >> (index % 64));
        let values: Vec<$from> = INTEGERS.into_iter().chain(arbitrary).map(|bits| bits as $from).collect();
        one::<_, $name, _>($subject, stringify!($name), &values);
    })*};
}

/// Casts of floats.
macro_rules! float_casts {
    ($subject:ident: $($name:ident $from:ident;)*) => {$({
        let scaled = floats(MANY).into_iter().enumerate().map(|(index, x)| x * f64::powi(2.0, index as i32 % 70));
        let values: Vec<$from> = EDGES.into_iter().chain(scaled).map(|x| x as $from).collect();
        one::<_, $name, _>($subject, stringify!($name), &values);
    })*};
}

/// Integers wrap, shifts mask, casts saturate.
pub(super) fn wrap<S: Subject>(subject: &S) {
    int_laws! { subject:
        i32 arith_i32 bitwise_i32 counted_i32;
        u32 arith_u32 bitwise_u32 counted_u32;
        i64 arith_i64 bitwise_i64 counted_i64;
        u64 arith_u64 bitwise_u64 counted_u64;
    }
    one::<_, magnitude, _>(subject, "magnitude", &INTEGERS.map(|edge| edge as i32));
    one::<_, ordered, _>(subject, "ordered", &INTEGERS.map(|edge| edge as i32));
    float_casts! { subject: f32_i32 f32; f32_u32 f32; f32_i64 f32; f32_u64 f32; }
    int_casts! { subject:
        i32_f32 i32; u32_f32 u32; i64_f32 i64; u64_f32 u64;
        i32_i64 i32; u32_i64 u32; i64_i32 i64; u64_u32 u64; i32_u64 i32; u32_i32 u32;
    }
    if subject.device().info().fp64 {
        float_casts! { subject: f64_i32 f64; f64_u32 f64; f64_i64 f64; f64_u64 f64; f64_f32 f64; f32_f64 f32; }
        int_casts! { subject: i64_f64 i64; u64_f64 u64; }
    }
}
