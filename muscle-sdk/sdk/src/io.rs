//! Standard output, error and input.
//!
//! Output costs no exit: it is handed over at the next one, at the latest when the muscle ends, also by a fault.
//! Standard output waits for the end of its line. The macros ignore what the host says to output; [`Out::flush`]
//! tells it.

use alloc::string::String;
use alloc::vec::Vec;

use guest_runtime::console::{self, Stream};

use crate::{Error, ErrorCode, Result};

/// A stream of output.
#[derive(Debug)]
pub struct Out {
    stream: Stream,
    error: Option<Error>,
}

/// Standard output.
pub fn stdout() -> Out {
    Out {
        stream: Stream::Out,
        error: None,
    }
}

/// Standard error.
pub fn stderr() -> Out {
    Out {
        stream: Stream::Err,
        error: None,
    }
}

impl Out {
    /// Writes bytes.
    ///
    /// # Errors
    /// What the host said to earlier output: [`ErrorCode::Denied`] without a console, [`ErrorCode::Quota`] when too
    /// much was written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        console::write(self.stream, bytes)
    }

    /// Hands an unfinished line over too.
    ///
    /// # Errors
    /// As [`Out::write`], also for what was written with `write!`.
    pub fn flush(&mut self) -> Result<()> {
        console::flush();
        self.error.take().map_or(Ok(()), Err)
    }
}

impl core::fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.write(text.as_bytes()).map_err(|error| {
            self.error = Some(error);
            core::fmt::Error
        })
    }
}

/// Standard input.
#[derive(Debug, Default)]
pub struct Stdin {
    kept: Vec<u8>,
    taken: usize,
    ended: bool,
}

/// Standard input. Each value has a buffer of its own, so keep one.
pub fn stdin() -> Stdin {
    Stdin::default()
}

impl Stdin {
    /// Reads at most `to.len()` bytes; 0 at the end.
    ///
    /// # Errors
    /// [`ErrorCode::Denied`] without a console that has input.
    pub fn read(&mut self, to: &mut [u8]) -> Result<usize> {
        if self.taken == self.kept.len() {
            self.fill()?;
        }
        let count = to.len().min(self.kept.len() - self.taken);
        to[..count].copy_from_slice(&self.kept[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }

    /// Reads all that is left.
    ///
    /// # Errors
    /// As [`Stdin::read`].
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut all = self.kept.split_off(self.taken);
        self.taken = self.kept.len();
        while !self.ended {
            self.fill()?;
            all.append(&mut self.kept);
            self.taken = 0;
        }
        Ok(all)
    }

    /// Reads all that is left as text.
    ///
    /// # Errors
    /// As [`Stdin::read`]; [`ErrorCode::Invalid`] when it is not UTF-8.
    pub fn read_to_string(&mut self) -> Result<String> {
        text(self.read_to_end()?)
    }

    /// Reads one line without its end; `None` when there is none left.
    ///
    /// # Errors
    /// As [`Stdin::read_to_string`].
    pub fn read_line(&mut self) -> Result<Option<String>> {
        let mut searched = 0;
        loop {
            let waiting = &self.kept[self.taken..];
            if let Some(at) = waiting[searched..].iter().position(|byte| *byte == b'\n') {
                let end = searched + at;
                let line = waiting[..end]
                    .strip_suffix(b"\r")
                    .unwrap_or(&waiting[..end])
                    .to_vec();
                self.taken += end + 1;
                return text(line).map(Some);
            }
            searched = waiting.len();
            if self.ended {
                let rest = waiting.to_vec();
                self.taken = self.kept.len();
                return if rest.is_empty() {
                    Ok(None)
                } else {
                    text(rest).map(Some)
                };
            }
            self.fill()?;
        }
    }

    /// The lines that are left.
    pub fn lines(self) -> Lines {
        Lines(self)
    }

    fn fill(&mut self) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        let mut more = console::read(CHUNK)?;
        self.ended = more.is_empty();
        self.kept.drain(..self.taken);
        self.taken = 0;
        self.kept.append(&mut more);
        Ok(())
    }
}

/// Iterates over the lines of standard input.
#[derive(Debug)]
pub struct Lines(Stdin);

impl Iterator for Lines {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        self.0.read_line().transpose()
    }
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(
            ErrorCode::Invalid,
            alloc::format!("standard input is not UTF-8 at byte {at}"),
        )
    })
}

/// Bytes that are asked of the host at a time.
const CHUNK: u32 = 64 << 10;

/// Prints to standard output. What the host says to it is ignored; see [`Out::flush`].
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::io::__print(::core::format_args!($($argument)*)) };
}

/// Prints a line to standard output.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::io::__print_line(::core::format_args!($($argument)*)) };
}

/// Prints to standard error.
#[macro_export]
macro_rules! eprint {
    ($($argument:tt)*) => { $crate::io::__print_error(::core::format_args!($($argument)*), "") };
}

/// Prints a line to standard error.
#[macro_export]
macro_rules! eprintln {
    () => { $crate::eprint!("\n") };
    ($($argument:tt)*) => { $crate::io::__print_error(::core::format_args!($($argument)*), "\n") };
}

#[doc(hidden)]
pub fn __print(text: core::fmt::Arguments<'_>) {
    let _ = core::fmt::Write::write_fmt(&mut stdout(), text);
}

#[doc(hidden)]
pub fn __print_line(text: core::fmt::Arguments<'_>) {
    let mut out = stdout();
    let _ = core::fmt::Write::write_fmt(&mut out, text);
    let _ = out.write(b"\n");
}

/// Standard error has no buffer, so the text is put together before it is sent.
#[doc(hidden)]
pub fn __print_error(text: core::fmt::Arguments<'_>, end: &str) {
    let _ = stderr().write(alloc::format!("{text}{end}").as_bytes());
}
