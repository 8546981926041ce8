//! Reads the big-endian structures of the TPM (TCG TPM 2.0 Library, Part 2), in bounds.

use crate::error::Malformed;

pub(crate) struct Reader<'b> {
    document: &'static str,
    whole: usize,
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    pub(crate) fn new(document: &'static str, bytes: &'b [u8]) -> Reader<'b> {
        Reader {
            document,
            whole: bytes.len(),
            rest: bytes,
        }
    }

    pub(crate) fn no(&self, what: impl std::fmt::Display) -> Malformed {
        Malformed::new(
            self.document,
            format!("offset {}: {what}", self.whole - self.rest.len()),
        )
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'b [u8], Malformed> {
        let (taken, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.no(format!("{count} bytes expected, {} are left", self.rest.len())))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// A TPM2B: length in two bytes, then so many bytes.
    pub(crate) fn sized(&mut self) -> Result<&'b [u8], Malformed> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// Exactly this value comes next.
    pub(crate) fn expect_u16(&mut self, field: &str, value: u16) -> Result<(), Malformed> {
        let found = self.u16()?;
        if found == value {
            return Ok(());
        }
        Err(self.no(format!("{field} is {found:#06x}, not {value:#06x}")))
    }

    pub(crate) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.no(format!("{} bytes after the end", self.rest.len())))
    }
}
