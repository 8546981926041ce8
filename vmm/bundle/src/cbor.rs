//! Deterministic CBOR (RFC 8949, §4.2.1) with a bound on every length.
//!
//! The reader names the field and the offset at which it stopped. It does not enforce the deterministic form
//! by itself: each document is decoded, encoded again and compared byte for byte with [`same_again`], which
//! leaves one encoding for each document, whatever the decoder is lenient about.

use minicbor::{Decoder, Encoder};

use crate::rejected::{Document, Rejected};

/// Reads one document.
pub(crate) struct Reader<'b> {
    decoder: Decoder<'b>,
    document: Document,
}

impl<'b> Reader<'b> {
    pub(crate) fn new(document: Document, bytes: &'b [u8]) -> Reader<'b> {
        Reader {
            decoder: Decoder::new(bytes),
            document,
        }
    }

    /// Reads the head of a map; every pair is then read by the caller.
    pub(crate) fn map(&mut self, field: &'static str) -> Result<u64, Rejected> {
        let offset = self.offset();
        // An indefinite length is `None` and never deterministic.
        let count = self.decoder.map().ok().flatten();
        let count = count.ok_or_else(|| self.malformed(field, offset))?;
        match count > MAP_MAX {
            true => Err(self.too_many(field, count, MAP_MAX)),
            false => Ok(count),
        }
    }

    /// Reads the head of an array of at most `max` items.
    pub(crate) fn array(&mut self, field: &'static str, max: u64) -> Result<u64, Rejected> {
        let offset = self.offset();
        let count = self.decoder.array().ok().flatten();
        let count = count.ok_or_else(|| self.malformed(field, offset))?;
        match count > max {
            true => Err(self.too_many(field, count, max)),
            false => Ok(count),
        }
    }

    /// Reads the head of an array of exactly `count` items.
    pub(crate) fn tuple(&mut self, field: &'static str, count: u64) -> Result<(), Rejected> {
        let offset = self.offset();
        match self.decoder.array() {
            Ok(Some(found)) if found == count => Ok(()),
            _ => Err(self.malformed(field, offset)),
        }
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, Rejected> {
        let offset = self.offset();
        self.decoder.u64().map_err(|_| self.malformed(field, offset))
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Rejected> {
        let offset = self.offset();
        self.decoder.u32().map_err(|_| self.malformed(field, offset))
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Rejected> {
        let offset = self.offset();
        self.decoder.u16().map_err(|_| self.malformed(field, offset))
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, Rejected> {
        let offset = self.offset();
        self.decoder.i64().map_err(|_| self.malformed(field, offset))
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, Rejected> {
        let offset = self.offset();
        self.decoder.bool().map_err(|_| self.malformed(field, offset))
    }

    pub(crate) fn text(&mut self, field: &'static str, max: usize) -> Result<&'b str, Rejected> {
        let offset = self.offset();
        let text = self.decoder.str().map_err(|_| self.malformed(field, offset))?;
        self.within(field, text.len(), max)?;
        Ok(text)
    }

    pub(crate) fn bytes(&mut self, field: &'static str, max: usize) -> Result<&'b [u8], Rejected> {
        let offset = self.offset();
        let bytes = self.decoder.bytes().map_err(|_| self.malformed(field, offset))?;
        self.within(field, bytes.len(), max)?;
        Ok(bytes)
    }

    /// Reads a byte string of exactly 32 bytes.
    pub(crate) fn hash(&mut self, field: &'static str) -> Result<[u8; 32], Rejected> {
        let offset = self.offset();
        self.bytes(field, 32)?
            .try_into()
            .map_err(|_| self.malformed(field, offset))
    }

    /// Refuses bytes after the document.
    pub(crate) fn finish(self) -> Result<(), Rejected> {
        match self.offset() == self.decoder.input().len() {
            true => Ok(()),
            false => Err(Rejected::TrailingInDocument {
                document: self.document,
                offset: self.offset(),
            }),
        }
    }

    pub(crate) fn offset(&self) -> usize {
        self.decoder.position()
    }

    pub(crate) fn malformed(&self, field: &'static str, offset: usize) -> Rejected {
        Rejected::MalformedCbor {
            document: self.document,
            field,
            offset,
        }
    }

    /// The refusal of a key that this version does not know.
    pub(crate) fn unknown(&self, within: &'static str, key: u64, offset: usize) -> Rejected {
        Rejected::UnknownField {
            document: self.document,
            within,
            key,
            offset,
        }
    }

    /// Takes the value of a field that must be there.
    pub(crate) fn required<T>(&self, field: &'static str, value: Option<T>) -> Result<T, Rejected> {
        value.ok_or(Rejected::MissingField {
            document: self.document,
            field,
        })
    }

    fn within(&self, field: &'static str, size: usize, max: usize) -> Result<(), Rejected> {
        match size > max {
            true => Err(self.too_many(field, size as u64, max as u64)),
            false => Ok(()),
        }
    }

    fn too_many(&self, field: &'static str, count: u64, limit: u64) -> Rejected {
        Rejected::TooMany {
            document: self.document,
            field,
            count,
            limit,
        }
    }
}

/// Refuses a document whose bytes are not what encoding it again gives.
pub(crate) fn same_again(document: Document, given: &[u8], again: &[u8]) -> Result<(), Rejected> {
    if given == again {
        return Ok(());
    }
    let same = given.iter().zip(again).take_while(|(left, right)| left == right);
    Err(Rejected::NonCanonical {
        document,
        offset: same.count(),
    })
}

/// Writes one document. Writing to memory cannot fail, so that its methods give nothing back.
pub(crate) struct Writer(Encoder<Vec<u8>>);

impl Writer {
    pub(crate) fn new() -> Writer {
        Writer(Encoder::new(Vec::new()))
    }

    pub(crate) fn map(&mut self, pairs: usize) {
        let _infallible = self.0.map(pairs as u64);
    }

    pub(crate) fn array(&mut self, items: usize) {
        let _infallible = self.0.array(items as u64);
    }

    pub(crate) fn u64(&mut self, value: u64) {
        let _infallible = self.0.u64(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        let _infallible = self.0.i64(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        let _infallible = self.0.bool(value);
    }

    pub(crate) fn text(&mut self, value: &str) {
        let _infallible = self.0.str(value);
    }

    pub(crate) fn bytes(&mut self, value: &[u8]) {
        let _infallible = self.0.bytes(value);
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_writer()
    }
}

/// Most pairs of any map; larger than every map here, so that an unknown key is met before the limit.
const MAP_MAX: u64 = 64;
