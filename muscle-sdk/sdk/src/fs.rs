//! Files below a granted directory, with a `files` slot each.
//!
//! Paths are relative to the slot's directory; the host refuses those that lead out of it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use minicbor::Decoder;
use muscle_abi::capability::{CapabilityKind, call};

use crate::host::{self, Encoded, Encoding, nothing};
use crate::{Error, ErrorCode, Result, slot};

/// A granted directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dir {
    handle: u64,
    is_writable: bool,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// What is known of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes.
    pub size: u64,
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// The directory of a slot.
///
/// # Errors
/// [`ErrorCode::Denied`] when no slot of this name is granted, [`ErrorCode::Invalid`] when it is of another kind.
pub fn dir(name: &str) -> Result<Dir> {
    let grant = slot::named(name, CapabilityKind::Files)?;
    Ok(Dir {
        handle: grant.handle,
        is_writable: grant.detail == 1,
    })
}

/// How to open a file: for reading, and what else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions(u32);

impl OpenOptions {
    /// For reading only.
    pub const fn new() -> OpenOptions {
        OpenOptions(0)
    }

    /// For writing too.
    #[must_use]
    pub const fn write(self) -> OpenOptions {
        OpenOptions(self.0 | call::OPEN_WRITE)
    }

    /// Make it if it is not there.
    #[must_use]
    pub const fn create(self) -> OpenOptions {
        OpenOptions(self.0 | call::OPEN_WRITE | call::OPEN_CREATE)
    }

    /// Make it; it must not be there yet.
    #[must_use]
    pub const fn create_new(self) -> OpenOptions {
        OpenOptions(self.create().0 | call::OPEN_EXCLUSIVE)
    }

    /// Empty it.
    #[must_use]
    pub const fn truncate(self) -> OpenOptions {
        OpenOptions(self.0 | call::OPEN_WRITE | call::OPEN_TRUNCATE)
    }
}

impl Dir {
    /// Whether the grant lets the muscle write.
    pub fn is_writable(&self) -> bool {
        self.is_writable
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`ErrorCode::NotFound`], [`ErrorCode::Exists`], [`ErrorCode::Denied`] for a path that leads out of the directory
    /// or for writing without the right to, [`ErrorCode::Quota`].
    pub fn open(&self, path: &str, options: OpenOptions) -> Result<File> {
        let file = self.call(
            call::FILES_OPEN,
            path,
            |e| e.array(2)?.str(path)?.u32(options.0)?.ok(),
            |d| d.u32(),
        )?;
        Ok(File {
            handle: self.handle,
            file,
            at: 0,
        })
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.open(path, OpenOptions::new())?.read_to_end()
    }

    /// Reads a whole file as text.
    ///
    /// # Errors
    /// As [`Dir::open`]; [`ErrorCode::Invalid`] when it is not UTF-8.
    pub fn read_to_string(&self, path: &str) -> Result<String> {
        String::from_utf8(self.read(path)?).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::new(ErrorCode::Invalid, format!("{path} is not UTF-8 at byte {at}"))
        })
    }

    /// Makes or replaces a file.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let mut file = self.open(path, OpenOptions::new().create().truncate())?;
        file.write(bytes)
    }

    /// What a path is, and how large.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn metadata(&self, path: &str) -> Result<Metadata> {
        self.call(
            call::FILES_STAT,
            path,
            |e| e.array(1)?.str(path)?.ok(),
            |d| {
                d.array()?;
                Ok(Metadata {
                    kind: kind(d)?,
                    size: d.u64()?,
                })
            },
        )
    }

    /// Whether there is something at a path.
    ///
    /// # Errors
    /// As [`Dir::open`], without [`ErrorCode::NotFound`].
    pub fn exists(&self, path: &str) -> Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.code == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The entries of a directory below this one, sorted by name; `"."` is this one.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn list(&self, path: &str) -> Result<Vec<Entry>> {
        self.call(
            call::FILES_LIST,
            path,
            |e| e.array(1)?.str(path)?.ok(),
            |d| {
                let mut entries = Vec::new();
                let count = d.array()?.unwrap_or(0);
                for _ in 0..count {
                    d.array()?;
                    entries.push(Entry {
                        name: String::from(d.str()?),
                        kind: kind(d)?,
                    });
                }
                Ok(entries)
            },
        )
    }

    /// Removes a file or an empty directory.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn remove(&self, path: &str) -> Result<()> {
        self.call(call::FILES_REMOVE, path, |e| e.array(1)?.str(path)?.ok(), nothing)
    }

    /// Renames within the directory.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.call(
            call::FILES_RENAME,
            from,
            |e| e.array(2)?.str(from)?.str(to)?.ok(),
            nothing,
        )
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub fn create_dir(&self, path: &str) -> Result<()> {
        self.call(call::FILES_MKDIR, path, |e| e.array(1)?.str(path)?.ok(), nothing)
    }

    /// Calls the host; an error names the path.
    fn call<R>(
        &self,
        name: &str,
        path: &str,
        arguments: impl FnOnce(&mut Encoding) -> Encoded,
        result: impl FnOnce(&mut Decoder<'_>) -> core::result::Result<R, minicbor::decode::Error>,
    ) -> Result<R> {
        host::call(self.handle, name, arguments, result).map_err(|error| {
            if error.message.contains(path) {
                return error;
            }
            Error::new(error.code, format!("{path}: {}", error.message))
        })
    }
}

/// An open file with a place in it, closed when dropped.
#[derive(Debug)]
pub struct File {
    handle: u64,
    file: u32,
    at: u64,
}

impl File {
    /// Reads at most `max` bytes from the present place; empty at the end.
    ///
    /// # Errors
    /// [`ErrorCode::Io`].
    pub fn read(&mut self, max: u32) -> Result<Vec<u8>> {
        let bytes = self.read_at(self.at, max)?;
        self.at += bytes.len() as u64;
        Ok(bytes)
    }

    /// Reads from the present place to the end.
    ///
    /// # Errors
    /// [`ErrorCode::Io`].
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut all = self.read(CHUNK)?;
        if all.is_empty() {
            return Ok(all);
        }
        loop {
            let mut more = self.read(CHUNK)?;
            if more.is_empty() {
                return Ok(all);
            }
            all.append(&mut more);
        }
    }

    /// Reads at most `max` bytes from an offset; empty at the end.
    ///
    /// # Errors
    /// [`ErrorCode::Io`].
    pub fn read_at(&self, offset: u64, max: u32) -> Result<Vec<u8>> {
        host::call(
            self.handle,
            call::FILES_READ,
            |e| e.array(3)?.u32(self.file)?.u64(offset)?.u32(max.min(CHUNK))?.ok(),
            |d| d.bytes().map(Vec::from),
        )
    }

    /// Writes all bytes at the present place.
    ///
    /// # Errors
    /// [`ErrorCode::Quota`], [`ErrorCode::Denied`], [`ErrorCode::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// As [`File::write`].
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut at = offset;
        for chunk in bytes.chunks(CHUNK as usize) {
            host::call(
                self.handle,
                call::FILES_WRITE,
                |e| e.array(3)?.u32(self.file)?.u64(at)?.bytes(chunk)?.ok(),
                nothing,
            )?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// As [`File::write`].
    pub fn truncate(&self, length: u64) -> Result<()> {
        host::call(
            self.handle,
            call::FILES_TRUNCATE,
            |e| e.array(2)?.u32(self.file)?.u64(length)?.ok(),
            nothing,
        )
    }

    /// Moves the present place.
    pub fn seek(&mut self, offset: u64) {
        self.at = offset;
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // The host closes what a cell leaves open, so nobody has to wait for the answer.
        let _ = host::post(self.handle, call::FILES_CLOSE, |e| {
            e.array(1)?.u32(self.file)?.ok()
        });
    }
}

fn kind(decoder: &mut Decoder<'_>) -> core::result::Result<Kind, minicbor::decode::Error> {
    Ok(match decoder.u32()? {
        0 => Kind::File,
        1 => Kind::Directory,
        _ => Kind::Other,
    })
}

/// Bytes of a file that one call carries at most.
///
/// With its frame it fits in the receive buffers that the driver posts, so that reading it is one exit.
const CHUNK: u32 = 192 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_cell_no_slot_is_granted() {
        let error = dir("input").expect_err("is refused");
        assert_eq!(error.code, ErrorCode::Denied);
        assert_eq!(error.message, "no slot `input` is granted");
    }

    #[test]
    fn options_imply_the_right_to_write() {
        assert_eq!(OpenOptions::new().0, 0);
        assert_eq!(OpenOptions::new().create().truncate().0, 1 | 2 | 8);
        assert_eq!(OpenOptions::new().create_new().0, 1 | 2 | 4);
    }
}
