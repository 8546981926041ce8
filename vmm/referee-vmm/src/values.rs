//! Arguments of the command line, and a function's answer on it.

use anyhow::{Context, bail};
use minicbor::Decoder;
use muscle_abi::frame::{ErrorCode, FrameKind};
use referee::{Answer, json};

use crate::ending::{self, rejected};
use crate::inspect::write_out;

/// The payload of a call from JSON, which is on standard input when the text is `-`.
///
/// # Errors
/// [`referee::StartError::Rejected`] when it is not JSON.
pub fn read_arguments(text: &str) -> anyhow::Result<Vec<u8>> {
    let payload = match text {
        "-" => {
            let read = std::io::read_to_string(std::io::stdin()).context("standard input")?;
            json::arguments(read.as_bytes())
        }
        text => json::arguments(text.as_bytes()),
    };
    payload.map_err(|error| rejected("arguments-invalid", error.to_string()).into())
}

/// Prints a function's answer and gives the exit code: a result as JSON on standard output, an error on standard error.
pub fn print_answer(answer: &Answer, as_json: bool) -> u8 {
    let shown = match answer.kind {
        FrameKind::Return => json::from_cbor(&answer.payload)
            .map(|value| (value.to_string(), 0))
            .map_err(anyhow::Error::from),
        _ => read_error(&answer.payload).map(|(name, message)| {
            let text = if as_json {
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
