//! One allowed call, while it is performed, and what is recorded of it.

use muscle_abi::frame::ErrorCode;
use referee_audit::{AuditSink, Event, Kind, Value};
use referee_policy::{ClockGrade, Grant};

use crate::clock::CellClock;
use crate::error::{CallError, HostError, Refusal, Stop};
use crate::op::Op;
use crate::payload::{self, Arguments};
use crate::random::{self, MAX_RANDOM};

/// One allowed call, while it is performed.
#[derive(Debug)]
pub(crate) struct Act<'a> {
    pub(super) audit: &'a AuditSink,
    pub grant: &'a Grant,
    pub(super) op: Op,
    pub reply: &'a mut Vec<u8>,
    pub(super) recorded: bool,
    pub max_chunk: u32,
    pub output_limit: u64,
    pub output_spent: &'a mut u64,
}

impl Act<'_> {
    /// Records the use. Call it before anything changes, and before an answer is given.
    pub fn record<'p>(&mut self, detail: &[(&'static str, Value<'_>)]) -> Result<(), Refusal<'p>> {
        self.audit
            .record(&event(Kind::Use, self.grant, self.op, detail))?;
        self.recorded = true;
        Ok(())
    }

    /// Says that the use was recorded when the muscle made this call first.
    pub fn was_recorded(&mut self) {
        self.recorded = true;
    }
}

fn event<'a>(kind: Kind, grant: &'a Grant, op: Op, detail: &'a [(&'static str, Value<'a>)]) -> Event<'a> {
    Event {
        kind,
        capability: Some(op.kind().name()),
        slot: Some(grant.slot()),
        op: Some(op.name()),
        detail,
    }
}

/// Whether the call was allowed and came to nothing, rather than refused.
pub(super) fn is_failure(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotFound | ErrorCode::Exists | ErrorCode::Io | ErrorCode::Invalid
    )
}

pub(super) fn record_failure(
    audit: &AuditSink,
    grant: &Grant,
    op: Op,
    error: &CallError<'_>,
    after_use: bool,
) -> Result<(), HostError> {
    let detail = [
        ("error", Value::Text(error.code.name())),
        ("why", Value::Text(error.message)),
        ("recorded", Value::Flag(after_use)),
        ("path", Value::Guest(error.path.unwrap_or("").as_bytes())),
    ];
    let shown = if error.path.is_some() { 4 } else { 3 };
    audit.record(&event(
        Kind::Use,
        grant,
        op,
        detail.get(..shown).unwrap_or(&detail),
    ))?;
    Ok(())
}

pub(super) fn tell_time<'p>(
    clock: &CellClock,
    grade: ClockGrade,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    Arguments::new(payload, 0)?.finish()?;
    act.record(&[])?;
    let (unix, monotonic) = clock.now(grade);
    payload::write(act.reply, |out| out.array(2)?.u64(unix)?.u64(monotonic)?.ok());
    Ok(())
}

pub(super) fn fill_random<'p>(payload: &'p [u8], act: &mut Act<'_>) -> Result<(), Refusal<'p>> {
    let mut arguments = Arguments::new(payload, 1)?;
    let length = arguments.u32()?;
    arguments.finish()?;
    if length > MAX_RANDOM.min(act.max_chunk) {
        return Err(CallError::new(ErrorCode::TooLarge, "more random bytes than one call gives").into());
    }
    act.record(&[("bytes", Value::Number(u64::from(length)))])?;
    let room = usize::try_from(length).unwrap_or(0);
    let filled = payload::byte_string(act.reply, room, |room| random::fill(room).map(|()| room.len()));
    filled
        .map(|_| ())
        .map_err(|error| Refusal::Stop(Stop::Host(error)))
}
