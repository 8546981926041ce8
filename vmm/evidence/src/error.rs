//! Why bytes are not what they say they are.

use thiserror::Error;

/// A document of evidence that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{document}: {what}")]
pub struct Malformed {
    /// Which document.
    pub document: &'static str,
    /// What is wrong, and where.
    pub what: String,
}

impl Malformed {
    /// Of this document.
    pub fn new(document: &'static str, what: impl Into<String>) -> Malformed {
        Malformed {
            document,
            what: what.into(),
        }
    }
}

/// Decodes a CBOR document and refuses every encoding of it but the deterministic one (RFC 8949 §4.2.1).
pub(crate) fn decode<'b, T>(document: &'static str, bytes: &'b [u8]) -> Result<T, Malformed>
where
    T: minicbor::Decode<'b, ()> + minicbor::Encode<()>,
{
    let mut decoder = minicbor::Decoder::new(bytes);
    let value: T = decoder
        .decode()
        .map_err(|error| Malformed::new(document, format!("offset {}: {error}", decoder.position())))?;
    if encode(&value) != bytes {
        return Err(Malformed::new(
            document,
            "not in its deterministic form, or bytes after its end",
        ));
    }
    Ok(value)
}

/// Encodes a CBOR document of ours; none of them can fail in memory.
pub(crate) fn encode<T: minicbor::Encode<()>>(value: &T) -> Vec<u8> {
    minicbor::to_vec(value).unwrap_or_default()
}
