//! What a traced type may ask for, and the made-up values that it gets.

use super::access::{Choice, Entry, Parts};
use super::{Refused, Tracer, slots};
use crate::signature::shape::{PROBES, Shape, Slot, Variant};
use serde::de::{self, Visitor};
use std::any::type_name;

/// Methods for leaves: what serde calls them, the values to try, and the name in the text.
macro_rules! leaves {
    ($($method:ident $visit:ident $name:literal [$($value:expr),*];)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.leaf($name, |probe| visitor.$visit([$($value),*][probe]))
        }
    )*};
}

const TEXTS: [&str; PROBES as usize] = [
    "a",
    "",
    "1",
    "0",
    "00000000-0000-0000-0000-000000000000",
    "2000-01-01T00:00:00Z",
];
const BYTES: [&[u8]; PROBES as usize] = [b"a", b"", b"1", &[0; 4], &[0; 16], &[0; 32]];

impl<'de> de::Deserializer<'de> for Tracer<'_> {
    type Error = Refused;

    leaves! {
        deserialize_bool visit_bool "bool" [true, false, true, false, true, false];
        deserialize_u8 visit_u8 "u8" [1, 0, 2, 3, 10, 100];
        deserialize_u16 visit_u16 "u16" [1, 0, 2, 3, 10, 100];
        deserialize_u32 visit_u32 "u32" [1, 0, 2, 3, 10, 100];
        deserialize_u64 visit_u64 "u64" [1, 0, 2, 3, 10, 100];
        deserialize_u128 visit_u128 "u128" [1, 0, 2, 3, 10, 100];
        deserialize_i8 visit_i8 "i8" [1, 0, -1, 2, 10, 100];
        deserialize_i16 visit_i16 "i16" [1, 0, -1, 2, 10, 100];
        deserialize_i32 visit_i32 "i32" [1, 0, -1, 2, 10, 100];
        deserialize_i64 visit_i64 "i64" [1, 0, -1, 2, 10, 100];
        deserialize_i128 visit_i128 "i128" [1, 0, -1, 2, 10, 100];
        deserialize_f32 visit_f32 "f32" [1.0, 0.0, 0.5, -1.0, 10.0, 100.0];
        deserialize_f64 visit_f64 "f64" [1.0, 0.0, 0.5, -1.0, 10.0, 100.0];
        deserialize_char visit_char "char" ['a', 'A', '0', '1', '-', ' '];
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf("string", |probe| visitor.visit_borrowed_str(TEXTS[probe]))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.leaf("bytes", |probe| visitor.visit_borrowed_bytes(BYTES[probe]))
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Refused> {
        self.leaf("any", |_| Err(Refused))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.record(|| Shape::Option(Box::default()))?;
        let Tracer {
            slot,
            context,
            within,
        } = self;
        let Shape::Option(inner) = &mut slot.shape else {
            return Err(Refused);
        };
        if within || inner.failed {
            return visitor.visit_none();
        }
        let result = visitor.visit_some(Tracer {
            slot: inner,
            context,
            within,
        });
        if result.is_err() {
            context.blame(inner);
        }
        result
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.structure::<V>(name, |body| body.unit(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.structure::<V>(name, |mut body| {
            body.record(|| Shape::Tuple {
                slots: slots(1),
                length: 1,
            })?;
            let Tracer {
                slot,
                context,
                within,
            } = body;
            let Shape::Tuple { slots, .. } = &mut slot.shape else {
                return Err(Refused);
            };
            let inner = slots.first_mut().ok_or(Refused)?;
            visitor.visit_newtype_struct(Tracer {
                slot: inner,
                context,
                within,
            })
        })
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.record(|| Shape::List(Box::default()))?;
        let Tracer {
            slot,
            context,
            within,
        } = self;
        let Shape::List(inner) = &mut slot.shape else {
            return Err(Refused);
        };
        let count = usize::from(!within && !inner.failed);
        visitor.visit_seq(Parts {
            slots: std::slice::from_mut(inner),
            next: 0,
            count,
            context,
            within,
        })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        self.tuple(length, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.structure::<V>(name, |body| body.tuple(length, visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Refused> {
        self.record(|| Shape::Map(Box::default()))?;
        let Tracer {
            slot,
            context,
            within,
        } = self;
        let Shape::Map(pair) = &mut slot.shape else {
            return Err(Refused);
        };
        let wanted = !within && !pair.0.failed && !pair.1.failed;
        visitor.visit_map(Entry {
            pair,
            wanted,
            context,
            within,
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.structure::<V>(name, |body| body.fields(names, visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let identity = type_name::<V::Value>();
        self.named::<V>(name, |mut tracer| {
            let variant = |name: &&'static str| Variant {
                name,
                content: Slot::default(),
                good: false,
            };
            tracer.record(|| Shape::Enum {
                name,
                variants: names.iter().map(variant).collect(),
            })?;
            let index = tracer.choose_variant(identity)?;
            let Tracer {
                slot,
                context,
                within,
            } = tracer;
            let Shape::Enum { variants, .. } = &mut slot.shape else {
                return Err(Refused);
            };
            let variant = variants.get_mut(index).ok_or(Refused)?;
            let content = Tracer {
                slot: &mut variant.content,
                context,
                within,
            };
            // No truncation: serde itself counts variants in 32 bits.
            let result = visitor.visit_enum(Choice {
                index: index as u32,
                content,
            });
            match (&result, within) {
                // The first to succeed holds no other: an inner one would have been before it.
                (Ok(_), true) => {
                    context.ends.borrow_mut().entry(identity).or_insert(index);
                }
                (Ok(_), false) if !variant.good => {
                    variant.good = true;
                    context.news.set(true);
                }
                (Err(Refused), false) => context.blame(&mut variant.content),
                _ => {}
            }
            result
        })
    }
}
