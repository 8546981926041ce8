//! Capability `console`: standard output, error and input, and the log.
//!
//! What goes to a terminal has its control characters escaped, so that a muscle cannot move the cursor, change
//! the title or answer in the person's name; what goes to a file or pipe stays as it is. Log lines are always
//! escaped. Output, error and log share one limit of bytes for the whole cell.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use muscle_abi::frame::ErrorCode;
use referee_audit::Value;

use crate::broker::Act;
use crate::error::{CallError, Fault, HostError, Refusal, Stop};
use crate::op::Op;
use crate::payload::{self, Arguments};

/// Where a cell's console leads.
#[derive(Debug)]
pub struct ConsoleStreams {
    /// Standard output.
    pub out: Output,
    /// Standard error, and the log.
    pub err: Output,
    /// Standard input.
    pub input: Input,
}

/// Output that the embedding program reads while or after the cell runs.
pub type SharedBytes = Arc<Mutex<Vec<u8>>>;

/// Where output goes.
#[derive(Debug)]
pub enum Output {
    /// To an open file. With `terminal`, control characters are escaped.
    File {
        /// The file.
        file: File,
        /// Whether a person's terminal shows it.
        terminal: bool,
    },
    /// Into memory that the embedding program shares.
    Memory(SharedBytes),
    /// To whatever the embedding program does with it.
    Writer(OutputWriter),
    /// Nowhere.
    Nowhere,
}

/// Where the embedding program takes output. What it does not take with an error of the kind `Interrupted` is given to it again when the cell next
/// runs; any other error is the muscle's `io` error.
pub struct OutputWriter(pub Box<dyn Write + Send + Sync>);

impl fmt::Debug for OutputWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputWriter")
    }
}

/// Where the embedding program has input from. After an error of the kind `Interrupted` the muscle's call is made again when the cell next runs;
/// any other error is the muscle's `io` error.
pub struct InputReader(pub Box<dyn Read + Send + Sync>);

impl fmt::Debug for InputReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InputReader")
    }
}

/// Where input comes from.
#[derive(Debug)]
pub enum Input {
    /// From an open file.
    File(File),
    /// From memory.
    Memory(io::Cursor<Vec<u8>>),
    /// From wherever the embedding program has it.
    Reader(InputReader),
    /// There is none: at its end from the start.
    Empty,
}

impl ConsoleStreams {
    /// This process's own streams, duplicated.
    ///
    /// # Errors
    /// [`HostError::Streams`].
    pub fn stdio() -> Result<ConsoleStreams, HostError> {
        let take = |stream: &dyn AsFd| {
            stream
                .as_fd()
                .try_clone_to_owned()
                .map(File::from)
                .map_err(HostError::Streams)
        };
        Ok(ConsoleStreams {
            out: Output::File {
                file: take(&io::stdout())?,
                terminal: io::stdout().is_terminal(),
            },
            err: Output::File {
                file: take(&io::stderr())?,
                terminal: io::stderr().is_terminal(),
            },
            input: Input::File(take(&io::stdin())?),
        })
    }

    /// Output and error into memory, given back too; input from `input`.
    pub fn memory(input: Vec<u8>) -> (ConsoleStreams, SharedBytes, SharedBytes) {
        let (out, err) = (Arc::default(), Arc::default());
        let streams = ConsoleStreams {
            out: Output::Memory(Arc::clone(&out)),
            err: Output::Memory(Arc::clone(&err)),
            input: Input::Memory(io::Cursor::new(input)),
        };
        (streams, out, err)
    }
}

impl Input {
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Input::File(file) => Some(file.as_fd()),
            Input::Memory(_) | Input::Reader(_) | Input::Empty => None,
        }
    }
}

impl Output {
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Output::File { file, .. } => Some(file.as_fd()),
            Output::Memory(_) | Output::Writer(_) | Output::Nowhere => None,
        }
    }

    /// Another way to the same place; none to a writer, which is one cell's.
    pub(crate) fn try_clone(&self) -> io::Result<Output> {
        Ok(match self {
            Output::File { file, terminal } => Output::File {
                file: file.try_clone()?,
                terminal: *terminal,
            },
            Output::Memory(memory) => Output::Memory(Arc::clone(memory)),
            Output::Writer(_) | Output::Nowhere => Output::Nowhere,
        })
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Output::File { terminal: true, .. })
    }
}

impl Write for Output {
    /// One `write`; may take less than all.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Output::File { file, .. } => file.write(bytes),
            Output::Memory(memory) => {
                memory
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Output::Writer(writer) => writer.0.write(bytes),
            Output::Nowhere => Ok(bytes.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Bytes that wait to be written, because a signal came in between.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    bytes: Vec<u8>,
    /// How many of them are written: whoever takes a little at a time has nothing moved for it.
    written: usize,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes `bytes`, or keeps what is left of them when a signal comes.
    pub fn write(&mut self, output: &mut impl Write, bytes: &[u8]) -> Result<(), WriteStop> {
        let (written, outcome) = write_all(output, bytes);
        if outcome == Err(WriteStop::Interrupted) {
            self.push(bytes.get(written..).unwrap_or(&[]));
        }
        outcome
    }

    /// Keeps more, behind what is kept.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.written);
        self.written = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// Goes on with what was kept.
    pub fn resume(&mut self, output: &mut impl Write) -> Result<(), WriteStop> {
        let rest = self.bytes.get(self.written..).unwrap_or(&[]);
        let (written, outcome) = write_all(output, rest);
        match outcome {
            Err(WriteStop::Interrupted) => self.written += written,
            Ok(()) | Err(WriteStop::Failed) => *self = Pending::default(),
        }
        outcome
    }
}

/// Writes until all is written or it goes no further, and says how much was.
fn write_all(output: &mut impl Write, bytes: &[u8]) -> (usize, Result<(), WriteStop>) {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match output.write(rest) {
            Ok(0) => return (written, Err(WriteStop::Failed)),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                return (written, Err(WriteStop::Interrupted));
            }
            Err(_) => return (written, Err(WriteStop::Failed)),
        }
    }
    (written, Ok(()))
}

/// Why output is not all written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteStop {
    Interrupted,
    Failed,
}

impl From<WriteStop> for Refusal<'_> {
    fn from(stop: WriteStop) -> Self {
        match stop {
            WriteStop::Interrupted => Refusal::Stop(Stop::Interrupted),
            WriteStop::Failed => CallError::new(ErrorCode::Io, "the output cannot be written").into(),
        }
    }
}

/// A cell's console.
#[derive(Debug)]
pub(crate) struct Console {
    streams: ConsoleStreams,
    pending: Pending,
    out_tail: Vec<u8>,
    err_tail: Vec<u8>,
}

impl Console {
    pub fn new(streams: ConsoleStreams) -> Console {
        Console {
            streams,
            pending: Pending::default(),
            out_tail: Vec::new(),
            err_tail: Vec::new(),
        }
    }

    /// Drops what a signal kept from being written.
    pub fn abandon(&mut self) {
        self.pending = Pending::default();
    }

    /// Acts for a grant that allows input or not.
    pub fn act<'p>(
        &mut self,
        input: bool,
        op: Op,
        payload: &'p [u8],
        act: &mut Act<'_>,
    ) -> Result<(), Refusal<'p>> {
        let streams = &mut self.streams;
        match op {
            Op::ConsoleIn => read(&mut streams.input, input, payload, act),
            Op::ConsoleOut => put(
                &mut streams.out,
                &mut self.pending,
                &mut self.out_tail,
                one_bytes(payload)?,
                act,
            ),
            Op::ConsoleErr => put(
                &mut streams.err,
                &mut self.pending,
                &mut self.err_tail,
                one_bytes(payload)?,
                act,
            ),
            _ => log(&mut streams.err, &mut self.pending, payload, act),
        }
    }
}

fn one_bytes(payload: &[u8]) -> Result<&[u8], CallError<'_>> {
    let mut arguments = Arguments::new(payload, 1)?;
    let bytes = arguments.bytes()?;
    arguments.finish().map(|()| bytes)
}

fn read<'p>(
    input: &mut Input,
    granted: bool,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    if !granted {
        return Err(CallError::new(ErrorCode::Denied, "the console is granted without input").into());
    }
    let mut arguments = Arguments::new(payload, 1)?;
    let max = arguments.u32()?.min(act.max_chunk);
    arguments.finish()?;
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let taken = payload::byte_string(act.reply, max, |room| match input {
        Input::File(file) => file.read(room),
        Input::Memory(memory) => memory.read(room),
        Input::Reader(reader) => reader.0.read(room),
        Input::Empty => Ok(0),
    });
    match taken {
        Ok(taken) => act.record(&[("bytes", Value::Number(taken as u64))]),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Refusal::Stop(Stop::Interrupted)),
        Err(_) => Err(CallError::new(ErrorCode::Io, "the input cannot be read").into()),
    }
}

fn put<'p>(
    output: &mut Output,
    pending: &mut Pending,
    tail: &mut Vec<u8>,
    bytes: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    if pending.is_empty() {
        act.spend_output(bytes.len() as u64)?;
        act.record(&[("bytes", Value::Number(bytes.len() as u64))])?;
        if output.is_terminal() {
            pending.write(output, escaped_for_terminal(tail, bytes).as_bytes())?;
        } else {
            pending.write(output, bytes)?;
        }
    } else {
        pending.resume(output)?;
    }
    payload::null(act.reply);
    Ok(())
}

fn log<'p>(
    err: &mut Output,
    pending: &mut Pending,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    let mut arguments = Arguments::new(payload, 3)?;
    let (level, target, message) = (arguments.u32()?, arguments.text()?, arguments.text()?);
    arguments.finish()?;
    let level = match level {
        1 => "ERROR",
        2 => "WARN",
        3 => "INFO",
        4 => "DEBUG",
        5 => "TRACE",
        _ => return Err(CallError::new(ErrorCode::Invalid, "there is no such level").into()),
    };
    if pending.is_empty() {
        let mut line = format!("[{level} ");
        escape_into(&mut line, target, |_| false);
        line.push_str("] ");
        escape_into(&mut line, message, |_| false);
        line.push('\n');
        act.spend_output(line.len() as u64)?;
        act.record(&[
            ("level", Value::Text(level)),
            ("bytes", Value::Number(line.len() as u64)),
        ])?;
        pending.write(err, line.as_bytes())?;
    } else {
        pending.resume(err)?;
    }
    payload::null(act.reply);
    Ok(())
}

/// The bytes as text without control characters but for newline, return and tab. A character that the muscle cut in
/// two waits in `tail` for its other part.
fn escaped_for_terminal(tail: &mut Vec<u8>, bytes: &[u8]) -> String {
    tail.extend_from_slice(bytes);
    let all = std::mem::take(tail);
    let mut text = String::with_capacity(all.len());
    let mut rest = all.as_slice();
    while !rest.is_empty() {
        let (valid, after) = match std::str::from_utf8(rest) {
            Ok(valid) => (valid, &[][..]),
            Err(error) => {
                let (valid, broken) = rest.split_at_checked(error.valid_up_to()).unwrap_or((rest, &[]));
                let valid = std::str::from_utf8(valid).unwrap_or("");
                match error.error_len() {
                    None => {
                        *tail = broken.to_vec();
                        (valid, &[][..])
                    }
                    Some(length) => (valid, broken.get(length..).unwrap_or(&[])),
                }
            }
        };
        escape_into(&mut text, valid, |letter| matches!(letter, '\n' | '\r' | '\t'));
        if !after.is_empty() || (valid.len() < rest.len() && tail.is_empty()) {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        rest = after;
    }
    text
}

fn escape_into(out: &mut String, text: &str, keep: impl Fn(char) -> bool) {
    for letter in text.chars() {
        match letter.is_control() && !keep(letter) || is_direction(letter) {
            true => out.extend(letter.escape_default()),
            false => out.push(letter),
        }
    }
}

/// Characters that make following text run in another direction, so that it reads as something else.
fn is_direction(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl Act<'_> {
    /// Counts output against the cell's limit, before any of it is written.
    pub fn spend_output(&mut self, bytes: u64) -> Result<(), Fault> {
        let spent = self.output_spent.saturating_add(bytes);
        if spent > self.output_limit {
            return Err(Fault::OutputLimit {
                limit: self.output_limit,
            });
        }
        *self.output_spent = spent;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes, then a signal comes, and so on.
    #[derive(Default)]
    struct Signalled {
        taken: Vec<u8>,
        signal: bool,
    }

    impl Write for Signalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.signal = !self.signal;
            if !self.signal {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let front = bytes.get(..3).unwrap_or(bytes);
            self.taken.extend_from_slice(front);
            Ok(front.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_signal_surfaces_and_the_call_goes_on_where_it_stopped() {
        let (mut output, mut pending) = (Signalled::default(), Pending::default());
        let mut outcome = pending.write(&mut output, b"12345678");
        let mut signals = 0;
        while outcome == Err(WriteStop::Interrupted) {
            assert!(!pending.is_empty());
            signals += 1;
            outcome = pending.resume(&mut output);
        }
        assert_eq!((outcome, signals), (Ok(()), 2));
        assert!(pending.is_empty());
        assert_eq!(output.taken, b"12345678");
    }

    #[test]
    fn a_terminal_gets_no_control_characters_and_whole_letters() {
        let mut tail = Vec::new();
        let mut put = |bytes: &[u8]| escaped_for_terminal(&mut tail, bytes);
        assert_eq!(put(b"a\x1b[2Jb\n\t\r"), "a\\u{1b}[2Jb\n\t\r");
        assert_eq!(put("é\u{9b}é".as_bytes()), "é\\u{9b}é");
        assert_eq!(put(b"x\xc3"), "x");
        assert_eq!(put(b"\xa9y"), "éy");
        assert_eq!(put(b"\xff\xfez"), "\u{fffd}\u{fffd}z");
        assert_eq!(put(b"end\xff"), "end\u{fffd}");
        assert_eq!(put("\u{202e}abc".as_bytes()), "\\u{202e}abc");
    }
}
