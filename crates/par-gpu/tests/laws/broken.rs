//! Devices that are broken in one way each, and the law that finds it.

use par_gpu::conformance::{LAWS, Subject, laws};
use par_gpu::{Arguments, Array, Device, DeviceReduction, Element, Error, Kernel, ScanKind};
use std::any::Any;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// NaNs lose their payload on the way back.
    PlainNans,
    /// Results have one extent.
    Flat,
    /// The last element is not computed where a work-group is not full.
    LastLeftOut,
    /// Subnormal numbers become 0.
    Flushes,
    /// The least integer becomes the greatest.
    Saturates,
    /// Folds from the left, without leaves.
    OneChain,
    /// A scan by the other kind.
    OtherKind,
    /// An array of nothing has one element.
    NeverEmpty,
    /// All errors are one.
    OneError,
}

/// Which law finds which fault.
const FOUND_BY: [(&str, Fault); 9] = [
    ("copies", Fault::PlainNans),
    ("shapes", Fault::Flat),
    ("values", Fault::LastLeftOut),
    ("exact", Fault::Flushes),
    ("wrap", Fault::Saturates),
    ("reduce", Fault::OneChain),
    ("scan", Fault::OtherKind),
    ("empty", Fault::NeverEmpty),
    ("errors", Fault::OneError),
];

struct Broken {
    device: Device,
    fault: Fault,
}

impl Broken {
    /// The array with its elements changed.
    fn change<T: Element>(
        &self,
        array: &Array<T>,
        change: impl Fn(usize, T) -> T,
    ) -> Result<Array<T>, Error> {
        let values = array
            .to_vec()?
            .into_iter()
            .enumerate()
            .map(|(index, value)| change(index, value));
        self.device.collect(values)?.reshape(array.shape())
    }
}

/// A number changed, where it is of that type.
fn changed<T: Element, U: Element>(mut value: T, change: impl Fn(U) -> U) -> T {
    if let Some(value) = (&mut value as &mut dyn Any).downcast_mut::<U>() {
        *value = change(*value);
    }
    value
}

impl Subject for Broken {
    fn device(&self) -> &Device {
        &self.device
    }

    fn array<T: Element>(&self, values: &[T]) -> Result<Array<T>, Error> {
        if self.fault == Fault::NeverEmpty && values.is_empty() {
            return self.device.zeros(1);
        }
        self.device.array(values)
    }

    fn to_vec<T: Element>(&self, array: &Array<T>) -> Result<Vec<T>, Error> {
        let mut values = array.to_vec()?;
        if self.fault == Fault::PlainNans {
            let plain = |x: f32| if x.is_nan() { f32::NAN } else { x };
            values
                .iter_mut()
                .for_each(|value| *value = changed(*value, plain));
        }
        Ok(values)
    }

    fn map<K: Kernel<Output: Element>>(
        &self,
        args: impl Arguments<K::Args>,
    ) -> Result<Array<K::Output>, Error> {
        let array = match par_gpu::map::<K>(args) {
            Err(_) if self.fault == Fault::OneError => return Err(Error::NoArray),
            other => other?,
        };
        match self.fault {
            Fault::Flat => {
                let len = array.len();
                array.reshape(&[len])
            }
            Fault::LastLeftOut => {
                let last = (array.len() % 1024 == 1).then(|| array.len() - 1);
                self.change(&array, |index, value| {
                    if Some(index) == last {
                        K::Output::default()
                    } else {
                        value
                    }
                })
            }
            Fault::Flushes => self.change(&array, |_, value| {
                changed(value, |x: f32| if x.is_subnormal() { 0.0 } else { x })
            }),
            Fault::Saturates => self.change(&array, |_, value| {
                changed(value, |x: i32| if x == i32::MIN { i32::MAX } else { x })
            }),
            _ => Ok(array),
        }
    }

    fn map_reduce<K: Kernel<Output: Element>, R: DeviceReduction<K::Output>>(
        &self,
        args: impl Arguments<K::Args>,
        reduction: R,
    ) -> Result<R::Output, Error> {
        if self.fault != Fault::OneChain {
            return par_gpu::map_reduce::<K, R>(args, reduction);
        }
        let items = par_gpu::map::<K>(args)?.to_vec()?;
        let folded = items.into_iter().fold(reduction.start(), |acc, item| {
            Some(acc.map_or(item, |acc| R::Op::call((acc, item))))
        });
        Ok(reduction.finish(reduction.acc(folded)))
    }

    fn map_scan<K: Kernel<Output: Element>, R: DeviceReduction<K::Output>>(
        &self,
        args: impl Arguments<K::Args>,
        reduction: R,
        kind: ScanKind,
    ) -> Result<Array<K::Output>, Error> {
        let kind = match kind {
            ScanKind::Inclusive if self.fault == Fault::OtherKind && reduction.start().is_some() => {
                ScanKind::Exclusive
            }
            kind => kind,
        };
        par_gpu::map_scan::<K, R>(args, reduction, kind)
    }
}

#[test]
fn each_law_finds_what_is_broken() {
    assert_eq!(FOUND_BY.map(|(law, _)| law), LAWS, "a fault for each law");
    for ((law, fault), check) in FOUND_BY.into_iter().zip(laws::<Broken>()) {
        let device = Device::cpu();
        let result = par_gpu::par_core::catch(|| check(&Broken { device, fault }));
        match result {
            Ok(()) => panic!("the law `{law}` does not find {fault:?}"),
            Err(error) => println!("{law} finds {fault:?}: {error}"),
        }
    }
}
