//! The arguments of a call: an array by position, or a map by name.

use alloc::format;
use alloc::vec::Vec;

use minicbor::Decoder;
use minicbor::data::Type;
use serde::Deserialize;

use crate::{Error, ErrorCode, Result, cbor};

/// Where each argument lies in a call's payload.
#[derive(Debug)]
pub struct Arguments<'p> {
    names: &'static [&'static str],
    /// CBOR of each parameter's argument; `None` when it was left out.
    values: Vec<Option<&'p [u8]>>,
}

impl<'p> Arguments<'p> {
    /// Finds the arguments of a function with these parameters. An empty payload has none.
    ///
    /// # Errors
    /// [`ErrorCode::BadArguments`] for a payload that is neither array nor map, for more arguments than parameters, for a
    /// name that no parameter has or that comes twice, and for bytes after the end.
    pub fn read(payload: &'p [u8], names: &'static [&'static str]) -> Result<Arguments<'p>> {
        let mut arguments = Arguments {
            names,
            values: alloc::vec![None; names.len()],
        };
        if payload.is_empty() {
            return Ok(arguments);
        }
        let mut decoder = Decoder::new(payload);
        match decoder.datatype().map_err(malformed)? {
            Type::Array | Type::ArrayIndef => arguments.read_array(&mut decoder, payload)?,
            Type::Map | Type::MapIndef => arguments.read_map(&mut decoder, payload)?,
            Type::Null => decoder.skip().map_err(malformed)?,
            other => {
                return Err(bad(format!("arguments are an array or a map, not {other}")));
            }
        }
        if decoder.position() != payload.len() {
            return Err(bad(format!(
                "{} bytes follow the arguments",
                payload.len() - decoder.position()
            )));
        }
        Ok(arguments)
    }

    /// Decodes the argument of the parameter with this index.
    ///
    /// # Errors
    /// [`ErrorCode::BadArguments`] naming the parameter.
    pub fn take<T: Deserialize<'p>>(&self, index: usize) -> Result<T> {
        let name = self.names.get(index).copied().unwrap_or("?");
        match self.values.get(index).copied().flatten() {
            Some(value) => {
                cbor::from_slice(value).map_err(|error| bad(format!("argument `{name}`: {error}")))
            }
            None => cbor::from_slice(NULL).map_err(|_| bad(format!("argument `{name}` is missing"))),
        }
    }

    fn read_array(&mut self, decoder: &mut Decoder<'p>, payload: &'p [u8]) -> Result<()> {
        let count = decoder.array().map_err(malformed)?;
        let mut index = 0;
        while !is_end(decoder, count, index)? {
            let value = item(decoder, payload)?;
            let parameters = self.names.len();
            *self.values.get_mut(index).ok_or_else(|| {
                bad(match parameters {
                    0 => "this function takes no arguments".into(),
                    1 => "this function takes one argument".into(),
                    _ => format!("this function takes {parameters} arguments"),
                })
            })? = Some(value);
            index += 1;
        }
        Ok(())
    }

    fn read_map(&mut self, decoder: &mut Decoder<'p>, payload: &'p [u8]) -> Result<()> {
        let count = decoder.map().map_err(malformed)?;
        let mut seen = 0;
        while !is_end(decoder, count, seen)? {
            let name = decoder.str().map_err(malformed)?;
            let index = self
                .names
                .iter()
                .position(|own| *own == name)
                .ok_or_else(|| bad(format!("this function has no parameter `{name}`")))?;
            if self.values[index].is_some() {
                return Err(bad(format!("argument `{name}` comes twice")));
            }
            self.values[index] = Some(item(decoder, payload)?);
            seen += 1;
        }
        Ok(())
    }
}

/// Whether an array or a map has ended: by its count, or by a break.
fn is_end(decoder: &mut Decoder<'_>, count: Option<u64>, seen: usize) -> Result<bool> {
    match count {
        Some(count) => Ok(seen as u64 >= count),
        None if decoder.datatype().map_err(malformed)? == Type::Break => {
            decoder.skip().map_err(malformed)?;
            Ok(true)
        }
        None => Ok(false),
    }
}

/// The bytes of the next item.
fn item<'p>(decoder: &mut Decoder<'p>, payload: &'p [u8]) -> Result<&'p [u8]> {
    let start = decoder.position();
    decoder.skip().map_err(malformed)?;
    Ok(&payload[start..decoder.position()])
}

fn malformed(error: minicbor::decode::Error) -> Error {
    bad(format!("arguments are not CBOR: {error}"))
}

fn bad(message: alloc::string::String) -> Error {
    Error::new(ErrorCode::BadArguments, message)
}

/// CBOR of null, which stands for an argument that was left out.
const NULL: &[u8] = &[0xF6];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NAMES: &[&str] = &["symbol", "price", "note"];

    type Order = (alloc::string::String, f64, Option<alloc::string::String>);

    fn read(value: &Value) -> core::result::Result<Order, alloc::string::String> {
        let payload = cbor::to_vec(value).expect("encodes");
        let take = || -> Result<Order> {
            let arguments = Arguments::read(&payload, NAMES)?;
            Ok((arguments.take(0)?, arguments.take(1)?, arguments.take(2)?))
        };
        take().map_err(|error| {
            assert_eq!(error.code, ErrorCode::BadArguments);
            error.message.into_owned()
        })
    }

    #[test]
    fn arguments_come_by_position_or_by_name_and_options_may_be_left_out() {
        let expected = Ok(("ABC".into(), 3.0, None));
        assert_eq!(read(&json!(["ABC", 3])), expected);
        assert_eq!(read(&json!(["ABC", 3.0, null])), expected);
        assert_eq!(read(&json!({"price": 3, "symbol": "ABC"})), expected);
        assert_eq!(
            read(&json!(["ABC", -2, "hi"])),
            Ok(("ABC".into(), -2.0, Some("hi".into())))
        );
    }

    #[test]
    fn wrong_arguments_are_refused_by_name() {
        let text = |value| read(&value).expect_err("is refused");
        assert_eq!(text(json!(["ABC"])), "argument `price` is missing");
        assert!(text(json!(["ABC", "x"])).starts_with("argument `price`: invalid type: string \"x\""));
        assert_eq!(
            text(json!(["ABC", 1, null, 2])),
            "this function takes 3 arguments"
        );
        assert_eq!(text(json!({"cost": 1})), "this function has no parameter `cost`");
        assert!(text(json!(7)).starts_with("arguments are an array or a map"));
    }

    #[test]
    fn malformed_payloads_are_refused() {
        let refused = |payload: &[u8]| Arguments::read(payload, NAMES).expect_err("is refused").message;
        assert!(refused(&[0x82, 0x01]).starts_with("arguments are not CBOR"));
        assert_eq!(refused(&[0x80, 0x80]), "1 bytes follow the arguments");
        assert_eq!(
            refused(&[
                0xA2, 0x64, b'n', b'o', b't', b'e', 0xF6, 0x64, b'n', b'o', b't', b'e', 0xF6
            ]),
            "argument `note` comes twice"
        );
        assert!(
            refused(&[0x9F, 0x01]).starts_with("arguments are not CBOR"),
            "no break"
        );
        assert!(Arguments::read(&[], NAMES).is_ok());
    }
}
