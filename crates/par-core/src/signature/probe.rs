//! For types that decode something else than what they show: whether they are being described, and as what.

use serde::de::{Deserialize, Deserializer, Visitor};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

thread_local! {
    static PROBING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is describing a type, so that its `Deserialize` sees made-up values.
pub(crate) fn probing() -> bool {
    PROBING.get()
}

/// Says so while it lives.
pub(super) struct Probing {
    before: bool,
}

impl Probing {
    pub(super) fn begin() -> Self {
        Probing {
            before: PROBING.replace(true),
        }
    }
}

impl Drop for Probing {
    fn drop(&mut self) {
        PROBING.set(self.before);
    }
}

/// A made-up `T`, described as the only field of a struct of that name.
///
/// # Errors
/// When `T` refuses the value.
pub(crate) fn probe_named<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    name: &'static str,
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer
        .deserialize_newtype_struct(name, Named(PhantomData))
        .map(|Field(value)| value)
}

/// A type of its own, for a `T` within a `T` would look like a recursion.
struct Field<T>(T);

struct Named<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Named<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value to describe")
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field<T>, D::Error> {
        T::deserialize(deserializer).map(Field)
    }
}
