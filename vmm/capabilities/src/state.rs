//! Capability `state`: a few bytes that outlive the cell, kept by the host under muscle, publisher and slot.

use muscle_abi::frame::ErrorCode;
use referee_audit::Value;

use crate::attest::reply;
use crate::broker::Act;
use crate::error::{CallError, Refusal};
use crate::op::Op;
use crate::payload::{self, Arguments};
use crate::tpm_line::{Answer, Question, TpmLine};

/// Performs an operation, or goes on waiting where a signal interrupted.
pub(crate) fn act<'p>(
    op: Op,
    max_bytes: u64,
    line: &mut TpmLine,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    match op {
        Op::StateSave => save(max_bytes, line, payload, act),
        _ => load(max_bytes, line, payload, act),
    }
}

fn load<'p>(
    max_bytes: u64,
    line: &mut TpmLine,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    Arguments::new(payload, 0)?.finish()?;
    let mut question = Vec::new();
    let slot = act.grant.slot();
    payload::write(&mut question, |out| out.array(1)?.str(slot)?.ok());
    match line.ask(Question::Load, &question, &[], act)? {
        (Answer::Given, bytes) if bytes.len() as u64 > max_bytes => {
            let message = "what was saved is longer than this manifest asks for";
            Err(CallError::new(ErrorCode::TooLarge, message).into())
        }
        (Answer::Given, bytes) => reply(act, &bytes),
        (Answer::Nothing, _) => {
            payload::null(act.reply);
            Ok(())
        }
        (Answer::Failed | Answer::Conflict, _) => {
            Err(CallError::new(ErrorCode::Io, "the host cannot open what was saved").into())
        }
    }
}

fn save<'p>(
    max_bytes: u64,
    line: &mut TpmLine,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    let mut arguments = Arguments::new(payload, 1)?;
    let bytes = arguments.bytes()?;
    arguments.finish()?;
    if bytes.len() as u64 > max_bytes {
        return Err(CallError::new(ErrorCode::Quota, "longer than the manifest asks for").into());
    }
    let mut question = Vec::new();
    let slot = act.grant.slot();
    payload::write(&mut question, |out| out.array(2)?.str(slot)?.bytes(bytes)?.ok());
    // What it says stays the muscle's own: the log has how much it was.
    let detail = [("bytes", Value::Number(bytes.len() as u64))];
    match line.ask(Question::Save, &question, &detail, act)? {
        (Answer::Given, _) => {
            payload::null(act.reply);
            Ok(())
        }
        (Answer::Conflict, _) => {
            let message = "another cell of this muscle saved since this one loaded";
            Err(CallError::new(ErrorCode::Exists, message).into())
        }
        (Answer::Failed | Answer::Nothing, _) => {
            Err(CallError::new(ErrorCode::Io, "the host cannot save now").into())
        }
    }
}
