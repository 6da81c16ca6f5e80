//! The parts of a traced type: elements, entries and the contents of variants.

use super::{Context, Refused, Tracer, slots};
use crate::signature::shape::{Shape, Slot};
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

/// Makes a part, and answers its refusal.
fn make<'de, S: DeserializeSeed<'de>>(
    seed: S,
    slot: &mut Slot,
    context: &Context,
    within: bool,
) -> Result<S::Value, Refused> {
    let result = seed.deserialize(Tracer {
        slot: &mut *slot,
        context,
        within,
    });
    if result.is_err() && !within {
        context.blame(slot);
    }
    result
}

/// The elements of a tuple or a list, or the entry of a map.
pub(super) struct Parts<'a> {
    pub(super) slots: &'a mut [Slot],
    pub(super) next: usize,
    pub(super) count: usize,
    pub(super) context: &'a Context,
    pub(super) within: bool,
}

impl Parts<'_> {
    fn next<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        if self.next == self.count {
            return Ok(None);
        }
        let at = self.next.min(self.slots.len() - 1);
        self.next += 1;
        make(seed, &mut self.slots[at], self.context, self.within).map(Some)
    }
}

impl<'de> de::SeqAccess<'de> for Parts<'_> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        self.next(seed)
    }
}

/// At most one entry of a map.
pub(super) struct Entry<'a> {
    pub(super) pair: &'a mut (Slot, Slot),
    pub(super) wanted: bool,
    pub(super) context: &'a Context,
    pub(super) within: bool,
}

impl<'de> de::MapAccess<'de> for Entry<'_> {
    type Error = Refused;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Refused> {
        if !std::mem::take(&mut self.wanted) {
            return Ok(None);
        }
        make(seed, &mut self.pair.0, self.context, self.within).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        make(seed, &mut self.pair.1, self.context, self.within)
    }
}

/// The chosen variant of an enum; the tracer is at its content.
pub(super) struct Choice<'a> {
    pub(super) index: u32,
    pub(super) content: Tracer<'a>,
}

impl<'de, 'a> de::EnumAccess<'de> for Choice<'a> {
    type Error = Refused;
    type Variant = Tracer<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Tracer<'a>), Refused> {
        let chosen = seed.deserialize(IntoDeserializer::<Refused>::into_deserializer(self.index))?;
        Ok((chosen, self.content))
    }
}

impl<'de> de::VariantAccess<'de> for Tracer<'_> {
    type Error = Refused;

    fn unit_variant(mut self) -> Result<(), Refused> {
        self.record(|| Shape::Unit)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, Refused> {
        self.record(|| Shape::Tuple {
            slots: slots(1),
            length: 1,
        })?;
        let Shape::Tuple { slots, .. } = &mut self.slot.shape else {
            return Err(Refused);
        };
        make(seed, slots.first_mut().ok_or(Refused)?, self.context, self.within)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Refused> {
        self.tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.fields(names, visitor)
    }
}
