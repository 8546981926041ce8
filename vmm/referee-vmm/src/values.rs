//! JSON of the command line to CBOR of the call, and back.
//!
//! A byte string becomes an array of numbers, a map key that is no text becomes its JSON text; a tag is passed over.

use std::convert::Infallible;

use anyhow::{Context, bail};
use minicbor::Decoder;
use minicbor::data::Type;
use minicbor::encode::{self, Encoder};
use muscle_abi::frame::{ErrorCode, FrameKind};
use referee_cell::Answer;
use serde_json::{Map, Number, Value};

use crate::ending::{self, Rejection};
use crate::inspect::write_out;

/// The payload of a call: arguments by name or by position.
pub fn arguments(json: &str) -> anyhow::Result<Vec<u8>> {
    let value: Value = serde_json::from_str(json).context("the arguments are not JSON")?;
    let value = match value {
        Value::Array(_) | Value::Object(_) => value,
        Value::Null => Value::Array(Vec::new()),
        single => Value::Array(vec![single]),
    };
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder, &value).context("the arguments cannot be written as CBOR")?;
    Ok(encoder.into_writer())
}

/// As [`arguments`], from standard input when the text is `-`.
pub fn read_arguments(text: &str) -> anyhow::Result<Vec<u8>> {
    let usage = |error: anyhow::Error| Rejection {
        name: "arguments-invalid",
        message: format!("{error:#}"),
    };
    if text == "-" {
        let json = std::io::read_to_string(std::io::stdin()).context("standard input")?;
        return arguments(&json).map_err(|error| usage(error).into());
    }
    arguments(text).map_err(|error| usage(error).into())
}

/// Prints a function's answer and gives the exit code: a result as JSON on standard output, an error on standard error.
pub fn print_answer(answer: &Answer, json: bool) -> u8 {
    let shown = match answer.kind {
        FrameKind::Return => to_json(&answer.payload).map(|value| (value.to_string(), 0)),
        _ => read_error(&answer.payload).map(|(name, message)| {
            let text = if json {
                serde_json::json!({ "outcome": "error", "name": name, "message": message }).to_string()
            } else {
                format!("error: {message} [{name}]")
            };
            (text, CALL_FAILED)
        }),
    };
    match shown {
        Ok((text, 0)) => write_out(format!("{text}\n").as_bytes()).unwrap_or(ending::HOST_ERROR),
        Ok((text, code)) => {
            eprintln!("{text}");
            code
        }
        Err(error) => {
            eprintln!("fault: the answer is not CBOR: {error} [answer-malformed]");
            ending::FAULT
        }
    }
}

/// Exit code of a call that the function answered with an error of its own.
const CALL_FAILED: u8 = 1;

fn read_error(payload: &[u8]) -> anyhow::Result<(&'static str, String)> {
    let mut decoder = Decoder::new(payload);
    if decoder.array()? != Some(2) {
        bail!("an error is an array of two");
    }
    let code = ErrorCode::from_number(decoder.u32()?).context("unknown error code")?;
    let message = decoder
        .str()?
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    Ok((code.name(), message))
}

/// One CBOR value as JSON.
pub fn to_json(payload: &[u8]) -> anyhow::Result<Value> {
    let mut decoder = Decoder::new(payload);
    let value = read(&mut decoder, 0)?;
    if decoder.position() != payload.len() {
        bail!("{} bytes follow the value", payload.len() - decoder.position());
    }
    Ok(value)
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

fn read(decoder: &mut Decoder<'_>, depth: usize) -> anyhow::Result<Value> {
    if depth > DEPTH_MAX {
        bail!("nested deeper than {DEPTH_MAX}");
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
        other => bail!("CBOR {other} has no form in JSON"),
    })
}

fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> anyhow::Result<bool> {
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
            let payload = arguments(json).expect("is JSON");
            assert_eq!(to_json(&payload).expect("is CBOR").to_string(), json);
        }
    }

    #[test]
    fn a_single_value_is_the_first_argument() {
        assert_eq!(
            to_json(&arguments("5").expect("is JSON"))
                .expect("is CBOR")
                .to_string(),
            "[5]"
        );
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
            assert!(to_json(bad).is_err(), "{bad:x?}");
        }
    }
}
