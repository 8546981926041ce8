//! Capability `channel`: lending a grant to whoever receives on a channel, and taking it back.
//!
//! What can be known here is checked here: whether the muscle has what it lends, and no less. Who receives, and what of it that one may have, whoever
//! carries it on knows ([`crate::ChannelLine`]).

use muscle_abi::capability::{SLOT_NAME_MAX, delegate};
use muscle_abi::frame::ErrorCode;
use referee_audit::Value;
use referee_policy::{Delegated, Grant, Narrowing, NotNarrower};

use crate::broker::Act;
use crate::channel::{ChannelLine, Delegation, May};
use crate::error::{CallError, Refusal};
use crate::op::Op;
use crate::payload::Arguments;

/// Reads what is to be lent or taken back; `grants` are those that the cell has.
pub(crate) fn read<'p>(
    op: Op,
    may: &May<'_>,
    grants: &[Grant],
    line: &ChannelLine,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<Delegation, Refusal<'p>> {
    let lends = op == Op::ChannelDelegate;
    let mut arguments = Arguments::new(payload, if lends { 6 } else { 2 })?;
    let (slot, to) = (arguments.text()?, arguments.text()?);
    let narrowing = match lends {
        true => Some(narrowing(&mut arguments)?),
        false => None,
    };
    arguments.finish()?;
    // Also of one that was taken back meanwhile, what was lent of it may be taken back.
    let grant = grants.iter().find(|grant| grant.slot() == slot);
    if let Some(narrowing) = &narrowing {
        may_lend(grant, slot, narrowing)?;
    }
    if !(1..=SLOT_NAME_MAX).contains(&to.len()) || slot.len() > SLOT_NAME_MAX {
        return Err(CallError::new(ErrorCode::Invalid, "no slot has such a name").into());
    }
    if !line.may_delegate() {
        let message = "more delegations in one call than a call may make";
        return Err(CallError::new(ErrorCode::Quota, message).into());
    }
    let said = narrowing.as_ref().map(ToString::to_string).unwrap_or_default();
    act.record(&[
        ("channel", Value::Text(may.channel)),
        ("of", Value::Guest(slot.as_bytes())),
        ("to", Value::Guest(to.as_bytes())),
        ("narrowed", Value::Guest(said.as_bytes())),
    ])?;
    Ok(Delegation {
        by: act.grant.slot().to_owned(),
        slot: slot.to_owned(),
        to: to.to_owned(),
        narrowing,
    })
}

fn narrowing<'p>(arguments: &mut Arguments<'p>) -> Result<Narrowing, CallError<'p>> {
    let (flags, within) = (arguments.u32()?, arguments.text()?);
    let (max_bytes, max_files) = (arguments.u64()?, arguments.u32()?);
    if flags & !(delegate::READ_ONLY | delegate::COARSE) != 0 {
        return Err(CallError::new(ErrorCode::Invalid, "a flag that there is not"));
    }
    Ok(Narrowing {
        read_only: flags & delegate::READ_ONLY != 0,
        coarse: flags & delegate::COARSE != 0,
        within: (within != delegate::EVERYWHERE).then(|| within.to_owned()),
        max_bytes: (max_bytes != delegate::ALL_BYTES).then_some(max_bytes),
        max_files: (max_files != delegate::ALL_FILES).then_some(max_files),
        ..Narrowing::default()
    })
}

fn may_lend<'p>(grant: Option<&Grant>, slot: &'p str, narrowing: &Narrowing) -> Result<(), CallError<'p>> {
    let denied = |why| Err(CallError::new(ErrorCode::Denied, why).at(slot));
    let Some(grant) = grant else {
        return denied("there is no grant in this slot to be delegated");
    };
    if !grant.power().may_be_delegated() {
        return denied("a grant of this kind is not delegated");
    }
    if let Some(Delegated { onward: false, .. }) = grant.delegated() {
        return denied("what was delegated to this slot is not delegated on");
    }
    if grant.waits().is_some() {
        let message = "nothing is delegated to the slot that could be delegated on";
        return Err(CallError::new(ErrorCode::NotDelegated, message).at(slot));
    }
    match narrowing.of(slot, grant.power()) {
        Ok(_) | Err(NotNarrower::Nothing { .. }) => Ok(()),
        Err(NotNarrower::Wider { .. }) => denied("more would be delegated than the slot has"),
        Err(NotNarrower::Path { .. }) => Err(CallError::new(
            ErrorCode::Invalid,
            "no path below the granted directory, without . and ..",
        )
        .at(slot)),
        Err(_) => Err(CallError::new(
            ErrorCode::Invalid,
            "the slot has nothing of the kind that is to be less",
        )
        .at(slot)),
    }
}
