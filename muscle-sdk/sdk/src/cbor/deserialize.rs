//! Reading: minicbor's decoder under serde's data model.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::Decoder;
use minicbor::data::Type;
use serde::de::value::SeqDeserializer;
use serde::de::{
    self, DeserializeSeed, EnumAccess, Error as _, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::Error;

/// Reads values one after the other.
pub(super) struct Deserializer<'de> {
    decoder: Decoder<'de>,
    /// Arrays and maps that may still be entered.
    depth: u8,
}

impl<'de> Deserializer<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Deserializer<'de> {
        Deserializer {
            decoder: Decoder::new(bytes),
            depth: DEPTH_MAX,
        }
    }

    /// Checks that nothing follows.
    pub(super) fn finish(&self) -> Result<(), Error> {
        match self.decoder.input().len() - self.decoder.position() {
            0 => Ok(()),
            left => Err(Error(alloc::format!("{left} bytes follow the value"))),
        }
    }

    /// The type of the next value, after its tags.
    fn next_type(&mut self) -> Result<Type, Error> {
        loop {
            match self.decoder.datatype()? {
                Type::Tag => self.decoder.tag()?,
                other => return Ok(other),
            };
        }
    }

    /// Runs `f` one level deeper.
    fn nested<R>(&mut self, f: impl FnOnce(&mut Self) -> Result<R, Error>) -> Result<R, Error> {
        self.depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| Error(alloc::format!("more than {DEPTH_MAX} levels of arrays and maps")))?;
        let result = f(self);
        self.depth += 1;
        result
    }

    fn array<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.nested(|this| {
            let left = this.decoder.array()?;
            let mut items = Items { from: this, left };
            let value = visitor.visit_seq(&mut items)?;
            items.end("array")?;
            Ok(value)
        })
    }

    fn map<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        self.nested(|this| {
            let left = this.decoder.map()?;
            let mut items = Items { from: this, left };
            let value = visitor.visit_map(&mut items)?;
            items.end("map")?;
            Ok(value)
        })
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        for part in self.decoder.bytes_iter()? {
            all.extend_from_slice(part?);
        }
        Ok(all)
    }
}

impl Deserializer<'_> {
    /// A float of two bytes (RFC 8949, appendix D), in which many encoders write what fits. The decoder's own way to read one would bring
    /// a macro library into every muscle's build.
    fn half(&mut self) -> Result<f64, Error> {
        let at = self.decoder.position();
        let bytes = self.decoder.input().get(at + 1..at + 3);
        let Some(&[high, low]) = bytes else {
            return Err(minicbor::decode::Error::end_of_input().into());
        };
        self.decoder.set_position(at + 3);
        let bits = u16::from_be_bytes([high, low]);
        let mantissa = f64::from(bits & 0x3ff);
        let magnitude = match i32::from(bits >> 10 & 0x1f) {
            0 => mantissa * power_of_two(-24),
            31 if mantissa == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            exponent => (mantissa + 1024.0) * power_of_two(exponent - 25),
        };
        Ok(if bits >> 15 == 1 { -magnitude } else { magnitude })
    }
}

/// For exponents of normal numbers.
fn power_of_two(exponent: i32) -> f64 {
    f64::from_bits(u64::from((exponent + 1023).unsigned_abs()) << 52)
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.next_type()? {
            Type::Bool => visitor.visit_bool(self.decoder.bool()?),
            Type::Null | Type::Undefined => {
                self.decoder.skip()?;
                visitor.visit_unit()
            }
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => visitor.visit_u64(self.decoder.u64()?),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => visitor.visit_i64(self.decoder.i64()?),
            Type::F16 => visitor.visit_f64(self.half()?),
            Type::F32 => visitor.visit_f32(self.decoder.f32()?),
            Type::F64 => visitor.visit_f64(self.decoder.f64()?),
            Type::String => visitor.visit_borrowed_str(self.decoder.str()?),
            Type::StringIndef => {
                let mut all = String::new();
                for part in self.decoder.str_iter()? {
                    all.push_str(part?);
                }
                visitor.visit_string(all)
            }
            Type::Bytes => visitor.visit_borrowed_bytes(self.decoder.bytes()?),
            Type::BytesIndef => visitor.visit_byte_buf(self.bytes()?),
            Type::Array | Type::ArrayIndef => self.array(visitor),
            Type::Map | Type::MapIndef => self.map(visitor),
            other => Err(Error(alloc::format!("a value of type {other} is not taken"))),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.next_type()? {
            Type::Null | Type::Undefined => {
                self.decoder.skip()?;
                visitor.visit_none()
            }
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// Takes a byte string too, as a sequence of its bytes, so that `Vec<u8>` can be read from one.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.next_type()? {
            Type::Bytes | Type::BytesIndef => {
                visitor.visit_seq(SeqDeserializer::new(self.bytes()?.into_iter()))
            }
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.next_type()? {
            Type::String | Type::StringIndef => {
                let name = self.decoder.str_iter()?.collect::<Result<String, _>>()?;
                visitor.visit_enum(name.into_deserializer())
            }
            Type::Map | Type::MapIndef => self.nested(|this| {
                let left = this.decoder.map()?;
                let mut items = Items { from: this, left };
                if !items.advance()? {
                    return Err(Error::custom("an empty map names no variant"));
                }
                let value = visitor.visit_enum(Variant(items.from))?;
                items.end("variant")?;
                Ok(value)
            }),
            other => Err(Error(alloc::format!(
                "a variant is a string or a map, not {other}"
            ))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.decoder.skip()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct map struct identifier
    }
}

/// The items of an array, or the keys and values of a map; `left` is `None` until a break.
struct Items<'a, 'de> {
    from: &'a mut Deserializer<'de>,
    left: Option<u64>,
}

impl Items<'_, '_> {
    /// Whether another item follows; counts it.
    fn advance(&mut self) -> Result<bool, Error> {
        match &mut self.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None if self.from.decoder.datatype()? == Type::Break => {
                self.from.decoder.skip()?;
                self.left = Some(0);
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Checks that the visitor has taken every item.
    fn end(&mut self, what: &str) -> Result<(), Error> {
        if self.advance()? {
            return Err(Error(alloc::format!(
                "the {what} has more items than were asked for"
            )));
        }
        Ok(())
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(&mut *self.from).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.left.map(|left| usize::try_from(left).unwrap_or(usize::MAX))
    }
}

impl<'de> MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.advance()? {
            return Ok(None);
        }
        seed.deserialize(Key(self.from)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.from)
    }

    fn size_hint(&self) -> Option<usize> {
        self.left.map(|left| usize::try_from(left).unwrap_or(usize::MAX))
    }
}

/// A key of a map. JSON has text keys only, so text is taken where a number or a truth value is asked for.
struct Key<'a, 'de>(&'a mut Deserializer<'de>);

macro_rules! parsed {
    ($($function:ident $visit:ident $type:ty;)*) => {$(
        fn $function<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            if self.0.next_type()? == Type::String {
                let text = self.0.decoder.str()?;
                return match text.parse::<$type>() {
                    Ok(value) => visitor.$visit(value),
                    Err(_) => visitor.visit_str(text),
                };
            }
            de::Deserializer::$function(self.0, visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Key<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_any(visitor)
    }

    parsed! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// The one pair of a map that stands for a variant with content.
struct Variant<'a, 'de>(&'a mut Deserializer<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(&mut *self.0)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }
}

/// A muscle's stack is small, so nesting ends here, as in serde_json.
const DEPTH_MAX: u8 = 128;
