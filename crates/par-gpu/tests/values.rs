//! Arbitrary values, lengths and loops against plain Rust; use from several threads; backends that break their rules.
//!
//! With feature `opencl` on every device; few cases there, as each element costs more.

use par_gpu::backend::{Chunks, HostBackend};
use par_gpu::par_core::fold::{self, LEAF};
use par_gpu::{Device, DeviceInfo, Error, Max, ScanKind, Sum, kernel, map, map_reduce};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[kernel]
fn mixed(x: f32, y: f32, n: i32) -> f32 {
    let mut sum = x;
    for i in 0..n {
        let step = if (i ^ n) % 3 == 0 {
            y
        } else {
            x.mul_add(y, -(i as f32))
        };
        sum = sum * 0.5 + step.min(sum.max(-1e30));
    }
    sum / (y * y + 1.0)
}

#[kernel]
fn packed(x: u64, y: i64) -> i64 {
    let low = x as i32;
    let shifted = (y >> (low as u32)) ^ ((x << 7) as i64);
    if shifted as f64 > 1e15 {
        shifted.wrapping_neg()
    } else {
        shifted + low as i64
    }
}

#[kernel]
fn times(x: f64, y: f64) -> f64 {
    x * y
}

/// The parameter's name comes from the caller of the macro, that of the variable from the macro.
macro_rules! hides {
    ($x:ident, $value:expr) => {
        #[kernel]
        fn hidden($x: f32) -> f32 {
            let x: f32 = 5.0;
            $value + x
        }
    };
}
hides!(x, x);

#[test]
fn names_mean_the_same_in_rust_and_in_c() {
    for device in Device::list() {
        let array = device.array(&[1.0f32]).expect("an array");
        let found = array.map::<hidden>().expect("a map").to_vec().expect("a copy");
        assert_eq!(found, [hidden(1.0)], "{device:?}");
    }
}

/// Names that the expansion must not trip over.
mod shadowed {
    #![allow(dead_code, non_camel_case_types, reason = "they only stand in the way")]

    struct Result;
    struct Option;
    struct Vec;
    struct Some;
    mod core {}
    mod std {}

    #[par_gpu::kernel]
    pub(super) fn quarter(value: f64) -> f64 {
        let result: f64 = half(value);
        let __value: f64 = half(result);
        __value
    }

    #[par_gpu::kernel]
    fn half(x: f64) -> f64 {
        x * HALF
    }

    const HALF: f64 = 0.5;
}

#[test]
fn shadowed_names_do_not_disturb() {
    let array = Device::cpu().array(&[8.0]).expect("an array");
    let found = array.map::<shadowed::quarter>().expect("a map");
    assert_eq!(found.to_vec().expect("a copy"), [2.0]);
}

fn same_f32(found: &[f32], expected: &[f32]) -> bool {
    let same = |(x, y): (&f32, &f32)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan());
    found.len() == expected.len() && found.iter().zip(expected).all(same)
}

/// Devices that compute with everything.
fn devices() -> Vec<Device> {
    Device::list()
        .into_iter()
        .filter(|device| device.info().fp64)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn maps_compute_what_functions_do(
        pairs in prop::collection::vec((any::<f32>(), any::<f32>()), 0..3000),
        n in 0..9i32,
        words in prop::collection::vec((any::<u64>(), any::<i64>()), 0..300),
    ) {
        let (x, y): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
        let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| mixed(*x, *y, n)).collect();
        let (a, b): (Vec<u64>, Vec<i64>) = words.into_iter().unzip();
        let packs: Vec<i64> = a.iter().zip(&b).map(|(x, y)| packed(*x, *y)).collect();
        for device in devices() {
            let (on_x, on_y) = (device.array(&x)?, device.array(&y)?);
            let found = map::<mixed>((&on_x, &on_y, n))?.to_vec()?;
            prop_assert!(same_f32(&found, &expected), "{device:?}: {found:?} for {expected:?}");
            let (on_a, on_b) = (device.array(&a)?, device.array(&b)?);
            prop_assert_eq!(map::<packed>((&on_a, &on_b))?.to_vec()?, packs.clone());
        }
    }

    #[test]
    fn folds_have_the_bits_of_par_core(values in prop::collection::vec(-1e6..1e6f64, 0..5000)) {
        let squares: Vec<f64> = values.iter().map(|x| x * x).collect();
        for device in devices() {
            let array = device.array(&values)?;
            let sum = array.reduce(Sum)?;
            prop_assert_eq!(sum.to_bits(), fold::reduce(&Sum, values.iter().copied()).to_bits());
            prop_assert_eq!(array.reduce(Max)?, fold::reduce(&Max, values.iter().copied()));
            let dot = map_reduce::<times, _>((&array, &array), Sum)?;
            prop_assert_eq!(dot.to_bits(), fold::reduce(&Sum, squares.iter().copied()).to_bits());
            for kind in [ScanKind::Inclusive, ScanKind::Exclusive] {
                let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect::<Vec<_>>();
                let found = array.scan(Sum, kind)?.to_vec()?;
                prop_assert_eq!(bits(found), bits(fold::scan(&Sum, kind, LEAF, &values)));
            }
        }
    }
}

#[test]
fn threads_share_a_device() {
    for device in devices() {
        let run = |seed: u32| {
            let values: Vec<f32> = (0..2500).map(|i| (i * seed % 1013) as f32).collect();
            let array = device.array(&values).expect("an array");
            for n in 0..20 {
                let found = map::<mixed>((&array, seed as f32, n))
                    .expect("a map")
                    .to_vec()
                    .expect("a copy");
                let expected: Vec<f32> = values.iter().map(|x| mixed(*x, seed as f32, n)).collect();
                assert!(same_f32(&found, &expected), "{device:?}, seed {seed}, n {n}");
            }
        };
        let run = &run;
        std::thread::scope(|scope| {
            (1..5).for_each(|seed| {
                scope.spawn(move || run(seed));
            });
        });
    }
}

/// A backend that leaves out the last chunk, or runs all of them three times.
struct Careless {
    info: DeviceInfo,
    leaves_out: bool,
    calls: AtomicUsize,
}

impl Careless {
    fn device(leaves_out: bool) -> (Device, Arc<Careless>) {
        let mut info = Device::cpu().info().clone();
        info.name = "careless".to_owned();
        let backend = Arc::new(Careless {
            info,
            leaves_out,
            calls: AtomicUsize::new(0),
        });
        (
            Device::of_host(Arc::clone(&backend) as Arc<dyn HostBackend>),
            backend,
        )
    }
}

impl HostBackend for Careless {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn run(&self, chunks: &Chunks<'_>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let count = chunks.count() - usize::from(self.leaves_out);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                // One past the end, too.
                scope.spawn(|| {
                    (0..=count)
                        .filter(|index| *index != count || !self.leaves_out)
                        .for_each(|i| chunks.run(i))
                });
            }
        });
    }
}

#[test]
fn a_backend_that_leaves_out_a_part_is_an_error_and_one_that_repeats_is_harmless() {
    let (device, _) = Careless::device(true);
    let error = device.array(&[1.0f32; 100_000]).expect_err("a part is missing");
    assert_eq!(error.to_string(), "the backend of \"careless\" ran 3 of 4 chunks");
    assert!(matches!(error, Error::Backend { .. }));

    let (device, backend) = Careless::device(false);
    let values: Vec<f64> = (0..100_000).map(f64::from).collect();
    let array = device.array(&values).expect("an array");
    assert_eq!(
        array.reduce(Sum).expect("a sum"),
        fold::reduce(&Sum, values.iter().copied())
    );
    assert_eq!(
        map::<times>((&array, 2.0))
            .expect("a map")
            .to_vec()
            .expect("a copy")[99_999],
        199_998.0
    );
    assert!(backend.calls.load(Ordering::Relaxed) >= 3);
}
