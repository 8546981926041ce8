//! Requests in, replies out: one line of JSON each, in order, until the input ends.

use std::io::{BufRead, Write};
use std::path::Path;

use referee_attest::{Reply, Request};
use referee_evidence::from_hex;

use crate::error::TpmError;
use crate::session::Session;
use crate::software::SoftwareTpm;

/// Longest request: evidence of many muscles.
const LINE_MAX: u64 = 16 << 20;

/// Serves until the input ends.
///
/// # Errors
/// When input or output fails; what a request asks for fails in its reply.
pub fn serve(mut input: impl BufRead, mut output: impl Write) -> std::io::Result<()> {
    let mut session = None;
    loop {
        let mut line = String::new();
        if std::io::Read::take(&mut input, LINE_MAX).read_line(&mut line)? == 0 {
            return Ok(());
        }
        let reply = reply(&mut session, &line)?;
        // Before the reply goes out: who has read it may rely on it.
        scrub_stack();
        output.write_all(&reply)?;
        output.flush()?;
    }
}

/// The line that a line is answered with. A function of its own, so that its frame is gone when [`scrub_stack`] comes; and it gives text,
/// because a larger value is copied with its unused bytes, in which anything may be.
#[inline(never)]
fn reply(session: &mut Option<Session>, line: &str) -> std::io::Result<Vec<u8>> {
    let reply = serde_json::from_str(line)
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
