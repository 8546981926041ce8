//! JSON of a person or a program to CBOR of a call, and back.
//!
//! A byte string becomes an array of numbers, a map key that is no text becomes its JSON text; a tag is passed over.

use std::convert::Infallible;

use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::encode::{self, Encoder};
use serde_json::{Map, Number, Value};

/// Why a value has no other form.
#[derive(Debug, thiserror::Error)]
pub enum NotConverted {
    /// The text is not JSON.
    #[error("the arguments are not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The value cannot be written as CBOR.
    #[error("the arguments cannot be written as CBOR: {0}")]
    Encode(#[from] encode::Error<Infallible>),
    /// The bytes are not CBOR.
    #[error("{0}")]
    Decode(#[from] minicbor::decode::Error),
    /// Something follows the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
    /// The value is nested too deeply.
    #[error("nested deeper than {0}")]
    Depth(usize),
    /// A kind of value that JSON does not have.
    #[error("CBOR {0} has no form in JSON")]
    Kind(Type),
}

/// The payload of a call: arguments by name when it is an object, by position when it is an array, else the only one.
///
/// # Errors
/// [`NotConverted::Json`], [`NotConverted::Encode`].
pub fn arguments(json: &[u8]) -> Result<Vec<u8>, NotConverted> {
    let value = match serde_json::from_slice(json)? {
        value @ (Value::Array(_) | Value::Object(_)) => value,
        Value::Null => Value::Array(Vec::new()),
        single => Value::Array(vec![single]),
    };
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder, &value)?;
    Ok(encoder.into_writer())
}

/// One CBOR value as JSON.
///
/// # Errors
/// [`NotConverted`] but for the first two.
pub fn from_cbor(payload: &[u8]) -> Result<Value, NotConverted> {
    let mut decoder = Decoder::new(payload);
    let value = read(&mut decoder, 0)?;
    match payload.len() - decoder.position() {
        0 => Ok(value),
        rest => Err(NotConverted::Trailing(rest)),
    }
}

const DEPTH_MAX: usize = 64;

/// Writes one JSON value; its depth was bounded by the JSON parser.
fn write(encoder: &mut Encoder<Vec<u8>>, value: &Value) -> Result<(), encode::Error<Infallible>> {
    match value {
        Value::Null => encoder.null()?,
        Value::Bool(flag) => encoder.bool(*flag)?,
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => encoder.u64(number)?,
            (_, Some(number), _) => encoder.i64(number)?,
            (_, _, number) => encoder.f64(number.unwrap_or(f64::NAN))?,
        },
        Value::String(text) => encoder.str(text)?,
        Value::Array(items) => {
            encoder.array(items.len() as u64)?;
            return items.iter().try_for_each(|item| write(encoder, item));
        }
        Value::Object(members) => {
            encoder.map(members.len() as u64)?;
            return members.iter().try_for_each(|(key, member)| {
                encoder.str(key)?;
                write(encoder, member)
            });
        }
    };
    Ok(())
}

fn read(decoder: &mut Decoder<'_>, depth: usize) -> Result<Value, NotConverted> {
    if depth > DEPTH_MAX {
        return Err(NotConverted::Depth(DEPTH_MAX));
    }
    Ok(match decoder.datatype()? {
        Type::Bool => Value::Bool(decoder.bool()?),
        Type::Null | Type::Undefined => {
            decoder.skip()?;
            Value::Null
        }
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => decoder.u64()?.into(),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => decoder.i64()?.into(),
        Type::Int => Value::String(decoder.int()?.to_string()),
        Type::F16 => number(f64::from(decoder.f16()?)),
        Type::F32 => number(f64::from(decoder.f32()?)),
        Type::F64 => number(decoder.f64()?),
        Type::String => Value::String(decoder.str()?.to_owned()),
        Type::StringIndef => Value::String(decoder.str_iter()?.collect::<Result<String, _>>()?),
        Type::Bytes => decoder.bytes()?.iter().map(|byte| Value::from(*byte)).collect(),
        Type::Array | Type::ArrayIndef => {
            let mut items = Vec::new();
            let mut left = decoder.array()?;
            while more(decoder, &mut left)? {
                items.push(read(decoder, depth + 1)?);
            }
            Value::Array(items)
        }
        Type::Map | Type::MapIndef => {
            let mut object = Map::new();
            let mut left = decoder.map()?;
            while more(decoder, &mut left)? {
                let key = match read(decoder, depth + 1)? {
                    Value::String(text) => text,
                    other => other.to_string(),
                };
                object.insert(key, read(decoder, depth + 1)?);
            }
            Value::Object(object)
        }
        Type::Tag => {
            decoder.tag()?;
            read(decoder, depth + 1)?
        }
        other => return Err(NotConverted::Kind(other)),
    })
}

fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, NotConverted> {
    match left {
        Some(0) => Ok(false),
        Some(count) => {
            *count -= 1;
            Ok(true)
        }
        None if decoder.datatype()? == Type::Break => {
            decoder.skip()?;
            Ok(false)
        }
        None => Ok(true),
    }
}

fn number(value: f64) -> Value {
    Number::from_f64(value).map_or(Value::Null, Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_survives_the_way_there_and_back() {
        for json in [
            "[]",
            r#"[1,-2,2.5,"x",null,true,[{"a":[]}]]"#,
            r#"{"order":{"price":12.25,"qty":100}}"#,
        ] {
            let payload = arguments(json.as_bytes()).expect("is JSON");
            assert_eq!(from_cbor(&payload).expect("is CBOR").to_string(), json);
        }
    }

    #[test]
    fn a_single_value_is_the_first_argument() {
        let payload = arguments(b"5").expect("is JSON");
        assert_eq!(from_cbor(&payload).expect("is CBOR").to_string(), "[5]");
    }

    #[test]
    fn hostile_cbor_is_an_error() {
        for bad in [
            &[0x81u8][..],
            &[0x01, 0x01],
            &[0x9f],
            &[0xbf, 0x01],
            &[0x7b, 0xff],
            &[0xff],
            &[0x81; 200],
        ] {
            assert!(from_cbor(bad).is_err(), "{bad:x?}");
        }
    }
}
