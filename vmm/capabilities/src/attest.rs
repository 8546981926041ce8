//! Capability `attest`: evidence of the host's TPM that carries what a muscle says.

use muscle_abi::frame::ErrorCode;
use referee_audit::Value;

use crate::broker::Act;
use crate::error::{CallError, HostError, Refusal, Stop};
use crate::payload::{self, Arguments};
use crate::tpm_line::{Answer, Question, TpmLine};

/// Most bytes of what a muscle says.
pub const USER_DATA_MAX: usize = 512;
/// Bytes of a nonce.
pub const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Most bytes of a muscle's public key.
pub const PUBLIC_KEY_MAX: usize = 1024;

/// Asks, or goes on waiting where a signal interrupted.
pub(crate) fn act<'p>(line: &mut TpmLine, payload: &'p [u8], act: &mut Act<'_>) -> Result<(), Refusal<'p>> {
    let mut arguments = Arguments::new(payload, 3)?;
    let (user_data, nonce, public_key) = (arguments.bytes()?, arguments.bytes()?, arguments.bytes()?);
    arguments.finish()?;
    if user_data.len() > USER_DATA_MAX
        || public_key.len() > PUBLIC_KEY_MAX
        || !NONCE_BYTES.contains(&nonce.len())
    {
        let message = "user data of at most 512 bytes, a nonce of 16 to 64, a public key of at most 1024";
        return Err(CallError::new(ErrorCode::BadArguments, message).into());
    }
    let detail = [
        ("user_data", Value::Guest(user_data)),
        ("nonce", Value::Guest(nonce)),
    ];
    let (Answer::Given, evidence) = line.ask(Question::Evidence, payload, &detail, act)? else {
        // The reason is for the operator, who is told it; a muscle learns that there is none.
        return Err(CallError::new(ErrorCode::Io, "the host's TPM gives no evidence now").into());
    };
    if evidence.len() > act.max_chunk as usize {
        let message = "the evidence of this boot is longer than one answer";
        return Err(CallError::new(ErrorCode::TooLarge, message).into());
    }
    reply(act, &evidence)
}

/// Answers with these bytes.
pub(crate) fn reply<'p>(act: &mut Act<'_>, bytes: &[u8]) -> Result<(), Refusal<'p>> {
    payload::byte_string(act.reply, bytes.len(), |room| {
        room.copy_from_slice(bytes);
        Ok::<_, HostError>(bytes.len())
    })
    .map(|_| ())
    .map_err(|error| Refusal::Stop(Stop::Host(error)))
}
