//! A reader of postcard's format that believes no length before it has seen the bytes.
//!
//! The format is that of <https://postcard.jamesmunns.com/wire-format>; the tests compare with postcard itself.

use super::WireError;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};

/// How deep values may nest: a hostile list of lists must not overflow a worker's stack.
const MAX_DEPTH: usize = 256;

/// How many items without bytes, such as `()`, one decoding may produce in all.
const MAX_EMPTY_ITEMS: u64 = 1 << 24;

/// Reads values from the front of a slice.
pub(super) struct Decoder<'de> {
    bytes: &'de [u8],
    depth: usize,
    empty_items: u64,
}

/// A varint of at most `BITS` bits: seven a byte, lowest first, the top bit says that more follow.
macro_rules! varint {
    ($name:ident, $type:ty) => {
        #[inline]
        fn $name<const BITS: usize>(&mut self) -> Result<$type, Fault> {
            let longest = BITS.div_ceil(7);
            let mut value = 0;
            for (at, &byte) in self.bytes.iter().take(longest).enumerate() {
                value |= <$type>::from(byte & 0x7f) << (7 * at);
                if byte & 0x80 == 0 {
                    if at + 1 == longest && byte >> (BITS - 7 * at) != 0 {
                        return malformed("an integer has more bits than its type");
                    }
                    self.bytes = &self.bytes[at + 1..];
                    return Ok(value);
                }
            }
            if self.bytes.len() < longest {
                return Err(truncated(self.bytes.len() as u64 + 1, self.bytes.len()));
            }
            malformed("an integer has more bits than its type")
        }
    };
}

/// A [`WireError`] in a box: small results keep the way of good bytes fast.
#[derive(Debug)]
pub(super) struct Fault(Box<WireError>);

impl From<Fault> for WireError {
    fn from(fault: Fault) -> Self {
        *fault.0
    }
}

#[cold]
fn fault(error: WireError) -> Fault {
    Fault(Box::new(error))
}

#[cold]
fn truncated(needed: u64, left: usize) -> Fault {
    fault(WireError::Truncated {
        needed,
        left: left as u64,
    })
}

#[cold]
fn malformed<T>(what: &'static str) -> Result<T, Fault> {
    Err(fault(WireError::Malformed(what)))
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<M: std::fmt::Display>(message: M) -> Self {
        fault(WireError::Decode(message.to_string()))
    }
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Decoder {
            bytes,
            depth: 0,
            empty_items: 0,
        }
    }

    /// What has not been read.
    pub(super) fn rest(&self) -> &'de [u8] {
        self.bytes
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Fault> {
        let (&first, rest) = self.bytes.split_first().ok_or_else(|| truncated(1, 0))?;
        self.bytes = rest;
        Ok(first)
    }

    #[inline]
    fn take(&mut self, count: u64) -> Result<&'de [u8], Fault> {
        let left = self.bytes.len();
        let split = usize::try_from(count)
            .ok()
            .and_then(|count| self.bytes.split_at_checked(count));
        let (taken, rest) = split.ok_or_else(|| truncated(count, left))?;
        self.bytes = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let left = self.bytes.len();
        let split = self.bytes.split_first_chunk::<N>();
        let (taken, rest) = split.ok_or_else(|| truncated(N as u64, left))?;
        self.bytes = rest;
        Ok(*taken)
    }

    varint!(varint64, u64);
    varint!(varint128, u128);

    /// A length that must fit in what is left, for strings and bytes.
    #[inline]
    fn block(&mut self) -> Result<&'de [u8], Fault> {
        let length = self.varint64::<64>()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<&'de str, Fault> {
        std::str::from_utf8(self.block()?).or_else(|_| malformed("a text is not UTF-8"))
    }

    /// Runs `inner` one level deeper.
    #[inline]
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(fault(WireError::Depth { limit: MAX_DEPTH }));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// The fields of a tuple or a struct: their number comes from the type.
    #[inline]
    fn fields<V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Result<V::Value, Fault> {
        self.deeper(|decoder| visitor.visit_seq(Fields { decoder, count }))
    }
}

/// Zigzag: the lowest bit is the sign.
#[inline]
fn unzigzag64(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The items of a list, or the entries of a map, whose length is known.
struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    count: u64,
}

impl<'de> Items<'_, 'de> {
    /// Reads one item, or one entry, and refuses a count that the rest of the bytes cannot hold.
    #[inline]
    fn one<T>(
        &mut self,
        read: impl FnOnce(&mut Decoder<'de>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        if self.count == 0 {
            return Ok(None);
        }
        let before = self.decoder.bytes.len();
        let value = read(self.decoder)?;
        let too_many = if self.decoder.bytes.len() == before {
            self.decoder.empty_items += 1;
            self.decoder.empty_items > MAX_EMPTY_ITEMS || self.count > MAX_EMPTY_ITEMS
        } else {
            // Where one item takes a byte, so does every other.
            self.count > before as u64
        };
        if too_many {
            return Err(fault(WireError::Length {
                claimed: self.count,
                left: before as u64,
            }));
        }
        self.count -= 1;
        Ok(Some(value))
    }

    fn hint(&self) -> usize {
        usize::try_from(self.count)
            .unwrap_or(usize::MAX)
            .min(self.decoder.bytes.len())
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        self.one(|decoder| seed.deserialize(decoder))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

impl<'de> de::MapAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        self.one(|decoder| seed.deserialize(decoder))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.hint())
    }
}

/// A sequence whose length the type itself states.
struct Fields<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    count: usize,
}

impl<'de> de::SeqAccess<'de> for Fields<'_, 'de> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        if self.count == 0 {
            return Ok(None);
        }
        self.count -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Decoder<'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        // No truncation: the varint has at most 32 bits.
        let index = self.varint64::<32>()? as u32;
        let value = seed.deserialize(IntoDeserializer::<Fault>::into_deserializer(index))?;
        Ok((value, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Decoder<'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.fields(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.fields(fields.len(), visitor)
    }
}

/// The methods for integers that are one varint; the narrowing is checked by the varint's bits.
macro_rules! integers {
    ($($method:ident $visit:ident $bits:literal $type:ty, $from:expr;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            let from: fn(u64) -> $type = $from;
            visitor.$visit(from(self.varint64::<$bits>()?))
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Fault;

    integers! {
        deserialize_u16 visit_u16 16 u16, |v| v as u16;
        deserialize_u32 visit_u32 32 u32, |v| v as u32;
        deserialize_u64 visit_u64 64 u64, |v| v;
        deserialize_i16 visit_i16 16 i16, |v| unzigzag64(v) as i16;
        deserialize_i32 visit_i32 32 i32, |v| unzigzag64(v) as i32;
        deserialize_i64 visit_i64 64 i64, unzigzag64;
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        malformed("the type asks what comes next, which only a self-describing format can say")
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.byte()? {
            0 => visitor.visit_bool(false),
            1 => visitor.visit_bool(true),
            _ => malformed("a bool is neither 0 nor 1"),
        }
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u8(self.byte()?)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_i8(self.byte()?.cast_signed())
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u128(self.varint128::<128>()?)
    }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let value = self.varint128::<128>()?;
        visitor.visit_i128((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    #[inline]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f32(f32::from_le_bytes(self.array()?))
    }

    #[inline]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_f64(f64::from_le_bytes(self.array()?))
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let mut chars = self.text()?.chars();
        match (chars.next(), chars.next()) {
            (Some(one), None) => visitor.visit_char(one),
            _ => malformed("a char is not one character"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_bytes(self.block()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.byte()? {
            0 => visitor.visit_none(),
            1 => self.deeper(|decoder| visitor.visit_some(decoder)),
            _ => malformed("an option is neither 0 nor 1"),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deeper(|decoder| visitor.visit_newtype_struct(decoder))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let count = self.varint64::<64>()?;
        self.deeper(|decoder| visitor.visit_seq(Items { decoder, count }))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.fields(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let count = self.varint64::<64>()?;
        self.deeper(|decoder| visitor.visit_map(Items { decoder, count }))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deeper(|decoder| visitor.visit_enum(decoder))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        malformed("the type asks for a field name, which this format does not write")
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        malformed("the type skips what comes next, which only a self-describing format can do")
    }
}
