//! Requests in, replies out: one line of JSON each, in order, until the input ends.

use std::io::{Read, Write};
use std::path::Path;

use referee_attest::{Reply, Request};
use referee_evidence::from_hex;
use zeroize::Zeroizing;

use crate::error::TpmError;
use crate::session::Session;
use crate::software::SoftwareTpm;

/// Longest request: evidence of many muscles.
const LINE_MAX: usize = 16 << 20;

/// Serves until the input ends.
///
/// # Errors
/// When input or output fails; what a request asks for fails in its reply.
pub fn serve(input: impl Read, mut output: impl Write) -> std::io::Result<()> {
    let mut session = None;
    let mut lines = Lines::new(input);
    while let Some(line) = lines.next()? {
        let reply = Zeroizing::new(reply(&mut session, &line)?);
        drop(line);
        // Before the reply goes out: who has read it may rely on it.
        scrub_stack();
        output.write_all(&reply)?;
    }
    Ok(())
}

/// Lines of an input, of which nothing stays behind in a buffer: they may hold secrets.
struct Lines<R> {
    input: R,
    pending: Zeroizing<Vec<u8>>,
}

impl<R: Read> Lines<R> {
    fn new(input: R) -> Lines<R> {
        Lines {
            input,
            pending: Zeroizing::default(),
        }
    }

    /// The next line; `None` at the end of the input, and after a line that is too long.
    fn next(&mut self) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
        let mut searched = 0;
        loop {
            let unseen = self.pending.get(searched..).unwrap_or_default();
            if let Some(at) = unseen.iter().position(|byte| *byte == b'\n') {
                let rest = Zeroizing::new(self.pending.split_off(searched + at + 1));
                return Ok(Some(std::mem::replace(&mut self.pending, rest)));
            }
            searched = self.pending.len();
            let mut chunk = Zeroizing::new([0; 16 << 10]);
            let count = self.input.read(&mut *chunk)?;
            if count == 0 || searched + count > LINE_MAX {
                return Ok(None);
            }
            self.pending.extend(chunk.iter().take(count));
        }
    }
}

/// The line that a line is answered with. A function of its own, so that its frame is gone when [`scrub_stack`] comes; and it gives text,
/// because a larger value is copied with its unused bytes, in which anything may be.
#[inline(never)]
fn reply(session: &mut Option<Session>, line: &[u8]) -> std::io::Result<Vec<u8>> {
    let reply = serde_json::from_slice(line)
        .map_err(|error| TpmError::Request(error.to_string()))
        .and_then(|request| answer(session, request))
        .unwrap_or_else(|error| match error {
            TpmError::Rejected(below) => Reply::Rejected {
                rule: below.rule,
                message: below.message,
            },
            error => Reply::Failed {
                name: error.name().into(),
                message: error.to_string(),
            },
        });
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    Ok(text)
}

/// Overwrites what earlier calls left on the stack below this one: a value that is moved, or passed to the library, leaves copies there
/// that nobody owns.
#[inline(never)]
fn scrub_stack() {
    /// Deeper than anything here goes.
    const DEPTH: usize = 512 << 10;
    let mut below = [0u8; DEPTH];
    std::hint::black_box(&mut below);
}

fn answer(session: &mut Option<Session>, request: Request) -> Result<Reply, TpmError> {
    if let Request::Open(open) = request {
        // One after the other: the software TPM of the first must be asleep before the second is woken.
        *session = None;
        *session = Some(Session::open(*open)?);
        return Ok(Reply::Done);
    }
    if let Request::Restart { tpm } = &request {
        *session = None;
        let Some(directory) = tpm.strip_prefix("swtpm:") else {
            return Err(TpmError::Request(
                "only a software TPM (swtpm:DIR) can be restarted; restart the host".into(),
            ));
        };
        SoftwareTpm::forget_boot(Path::new(directory))?;
        return Ok(Reply::Done);
    }
    let Some(session) = session else {
        return Err(TpmError::Request("the first request must be `open`".into()));
    };
    session.answer(request)
}

/// Bytes of hexadecimal digits.
pub fn bytes(text: &str) -> Result<Vec<u8>, TpmError> {
    from_hex(text).ok_or_else(|| TpmError::Request("not hexadecimal digits".into()))
}
