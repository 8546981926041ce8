//! Writing: serde's data model over minicbor's encoder.

use alloc::vec::Vec;

use minicbor::Encoder;
use serde::Serialize;
use serde::ser;

use super::Error;

/// Writes values one after the other.
pub(super) struct Serializer(Encoder<Vec<u8>>);

impl Serializer {
    pub(super) fn new() -> Serializer {
        Serializer(Encoder::new(Vec::new()))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_writer()
    }

    /// Begins the map of one that stands for a variant with content.
    fn variant(&mut self, name: &str) -> Result<(), Error> {
        self.0.map(1)?.str(name)?;
        Ok(())
    }
}

/// An array or a map that is being written, with a break at its end if its length was not known.
pub(super) struct Compound<'a> {
    to: &'a mut Serializer,
    has_break: bool,
}

impl<'a> Compound<'a> {
    fn array(to: &'a mut Serializer, len: Option<usize>) -> Result<Compound<'a>, Error> {
        match len {
            Some(len) => to.0.array(len as u64)?,
            None => to.0.begin_array()?,
        };
        Ok(Compound {
            to,
            has_break: len.is_none(),
        })
    }

    fn map(to: &'a mut Serializer, len: Option<usize>) -> Result<Compound<'a>, Error> {
        match len {
            Some(len) => to.0.map(len as u64)?,
            None => to.0.begin_map()?,
        };
        Ok(Compound {
            to,
            has_break: len.is_none(),
        })
    }

    fn finish(self) -> Result<(), Error> {
        if self.has_break {
            self.to.0.end()?;
        }
        Ok(())
    }
}

macro_rules! scalar {
    ($($function:ident $type:ty, $encode:ident;)*) => {$(
        fn $function(self, value: $type) -> Result<(), Error> {
            self.0.$encode(value.into())?;
            Ok(())
        }
    )*};
}

impl<'a> ser::Serializer for &'a mut Serializer {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'a>;
    type SerializeTuple = Compound<'a>;
    type SerializeTupleStruct = Compound<'a>;
    type SerializeTupleVariant = Compound<'a>;
    type SerializeMap = Compound<'a>;
    type SerializeStruct = Compound<'a>;
    type SerializeStructVariant = Compound<'a>;

    scalar! {
        serialize_bool bool, bool;
        serialize_i8 i8, i64;
        serialize_i16 i16, i64;
        serialize_i32 i32, i64;
        serialize_i64 i64, i64;
        serialize_u8 u8, u64;
        serialize_u16 u16, u64;
        serialize_u32 u32, u64;
        serialize_u64 u64, u64;
        serialize_f32 f32, f32;
        serialize_f64 f64, f64;
        serialize_str &str, str;
        serialize_bytes &[u8], bytes;
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.0.null()?;
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(variant)?;
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Compound<'a>, Error> {
        Compound::array(self, len)
    }

    fn serialize_tuple(self, len: usize) -> Result<Compound<'a>, Error> {
        Compound::array(self, Some(len))
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<Compound<'a>, Error> {
        Compound::array(self, Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Compound<'a>, Error> {
        self.variant(variant)?;
        Compound::array(self, Some(len))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Compound<'a>, Error> {
        Compound::map(self, len)
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Compound<'a>, Error> {
        Compound::map(self, Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Compound<'a>, Error> {
        self.variant(variant)?;
        Compound::map(self, Some(len))
    }
}

impl ser::SerializeSeq for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTuple for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTupleStruct for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeTupleVariant for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeMap for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(&mut *self.to)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeStruct for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.to.0.str(name)?;
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

impl ser::SerializeStructVariant for Compound<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        self.to.0.str(name)?;
        value.serialize(&mut *self.to)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}
