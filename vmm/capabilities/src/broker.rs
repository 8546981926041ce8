//! The one door between a muscle's calls and the host.

use std::collections::BTreeMap;

use muscle_abi::capability::{CapabilityKind, GrantEntry, SLOT_NAME_MAX, SLOTS_MAX};
use muscle_abi::frame::{ErrorCode, FrameKind};
use referee_audit::{AuditSink, Event, Kind, Value};
use referee_policy::{ClockGrade, Grant, Grants, Power};

use crate::attest;
use crate::channel::{self, ChannelLine};
use crate::clock::CellClock;
use crate::console::Console;
use crate::error::{CallError, Fault, HostError, Refusal, Stop};
use crate::files::Files;
use crate::functions::{self, HostFunctions};
use crate::handles::{GrantTable, StaleHandle};
use crate::op::Op;
use crate::payload::{self, Arguments};
use crate::pio::PioDevice;
use crate::ports::PortUse;
use crate::random::{self, MAX_RANDOM};
use crate::resources::Resources;
use crate::state;
use crate::tpm_line::TpmLine;

/// Limits that hold for every cell, whatever it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrokerLimits {
    /// Bytes of output, error, log and serial port together; one more is a fault.
    pub output_bytes: u64,
    /// Refused calls; one more is a fault.
    pub denials: u32,
    /// Files that a slot may have open.
    pub open_files: usize,
    /// Most bytes of one answer; a call that asks for more gets less.
    pub max_chunk: u32,
}

impl Default for BrokerLimits {
    fn default() -> BrokerLimits {
        BrokerLimits {
            output_bytes: 64 << 20,
            denials: 1000,
            open_files: 64,
            max_chunk: 256 << 10,
        }
    }
}

/// A cell's grants with what was opened for them.
#[derive(Debug)]
pub struct Broker {
    table: GrantTable<Slot>,
    console: Console,
    clock: CellClock,
    tpm: Option<TpmLine>,
    functions: HostFunctions,
    channels: Option<ChannelLine>,
    audit: AuditSink,
    limits: BrokerLimits,
    output_spent: u64,
    denials: u32,
}

#[derive(Debug)]
struct Slot {
    grant: Grant,
    held: Held,
}

/// What a power needs besides its grant.
#[derive(Debug)]
enum Held {
    Nothing,
    Files(Files),
    Pio(PioDevice),
}

impl Broker {
    /// Hands grants and what was opened for them to a new cell, with handles that nobody can guess.
    ///
    /// # Errors
    /// [`HostError`]: too many slots, a slot whose thing was not opened, no random bytes.
    pub fn new(
        grants: &Grants,
        resources: Resources,
        audit: AuditSink,
        clock: CellClock,
        limits: BrokerLimits,
    ) -> Result<Broker, HostError> {
        let slots = grants.slots().len();
        if slots > SLOTS_MAX {
            return Err(HostError::TooManySlots { slots });
        }
        let Resources {
            console,
            mut directories,
            mut serial,
            tpm,
            functions,
            channels,
        } = resources;
        let tpm = tpm.map(TpmLine::new);
        let mut table = Vec::with_capacity(slots);
        for grant in grants.slots() {
            let slot = grant.slot();
            if slot.len() > SLOT_NAME_MAX {
                return Err(HostError::SlotName {
                    slot: slot.to_owned(),
                });
            }
            let held = match grant.power() {
                Power::Files {
                    access,
                    max_bytes,
                    max_files,
                    ..
                } => {
                    let folder = take(&mut directories, slot)?;
                    Held::Files(Files::new(
                        folder,
                        *access,
                        *max_bytes,
                        *max_files,
                        limits.open_files,
                    ))
                }
                Power::Pio { first, last, .. } => {
                    Held::Pio(PioDevice::new(*first, *last, take(&mut serial, slot)?))
                }
                Power::Attest | Power::State { .. } if tpm.is_none() => {
                    return Err(HostError::NotAcquired {
                        slot: slot.to_owned(),
                    });
                }
                Power::Channel { .. } if channels.is_none() => {
                    return Err(HostError::NotAcquired {
                        slot: slot.to_owned(),
                    });
                }
                Power::Console { .. }
                | Power::Args
                | Power::Env { .. }
                | Power::Clock { .. }
                | Power::Random
                | Power::Attest
                | Power::State { .. }
                | Power::Functions { .. }
                | Power::Channel { .. }
                | Power::VsockListen { .. }
                | Power::VsockConnect { .. } => Held::Nothing,
            };
            table.push((
                random::u32()?,
                Slot {
                    grant: grant.clone(),
                    held,
                },
            ));
        }
        Ok(Broker {
            table: GrantTable::new(table),
            console: Console::new(console),
            clock,
            tpm,
            functions,
            channels,
            audit,
            limits,
            output_spent: 0,
            denials: 0,
        })
    }

    /// The table of grants that the muscle finds in its memory.
    pub fn entries(&self) -> Vec<GrantEntry> {
        self.table
            .iter()
            .map(|(handle, slot)| slot.entry(handle))
            .collect()
    }

    /// Name of the slot behind a handle.
    pub fn slot_name(&self, handle: u64) -> Option<&str> {
        self.table.lookup(handle).ok().map(|slot| slot.grant.slot())
    }

    /// The cell's clock.
    pub fn clock(&self) -> CellClock {
        self.clock
    }

    /// The finest clock that is granted and was not taken back.
    pub fn clock_grade(&self) -> Option<ClockGrade> {
        let grade = |slot: &Slot| match slot.grant.power() {
            Power::Clock { grade } => Some(*grade),
            _ => None,
        };
        self.table.iter().filter_map(|(_, slot)| grade(slot)).max()
    }

    /// Performs a call, if the grant behind `handle` allows it. `reply` then holds the payload of the frame to send;
    /// what was in it is dropped.
    ///
    /// # Errors
    /// [`Stop`]; after [`Stop::Interrupted`] the same call may be made again and goes on.
    pub fn call(
        &mut self,
        handle: u64,
        name: &str,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<FrameKind, Stop> {
        reply.clear();
        let op = Op::from_name(name);
        let Ok(slot) = self.table.lookup_mut(handle) else {
            let error = CallError::new(ErrorCode::StaleHandle, "no grant has this handle");
            return self.refuse(
                &Refused {
                    handle,
                    slot: None,
                    op,
                    name,
                    error,
                },
                reply,
            );
        };
        let refused = |error| (slot.grant.clone(), error);
        let (grant, error) = match op {
            None => refused(CallError::new(
                ErrorCode::UnknownFunction,
                "the host has no such function",
            )),
            Some(op) if op.kind() != slot.grant.power().kind() => {
                refused(CallError::new(ErrorCode::Denied, "the grant is of another kind"))
            }
            Some(op) => {
                let mut act = Act {
                    audit: &self.audit,
                    grant: &slot.grant,
                    op,
                    reply,
                    recorded: false,
                    max_chunk: self.limits.max_chunk,
                    output_limit: self.limits.output_bytes,
                    output_spent: &mut self.output_spent,
                };
                let outcome = match (slot.grant.power(), &mut slot.held, &mut self.tpm) {
                    (Power::Console { input }, ..) => self.console.act(*input, op, payload, &mut act),
                    (Power::Clock { grade }, ..) => tell_time(&self.clock, *grade, payload, &mut act),
                    (Power::Random, ..) => fill_random(payload, &mut act),
                    (Power::Attest, _, Some(line)) => attest::act(line, payload, &mut act),
                    (Power::State { max_bytes }, _, Some(line)) => {
                        state::act(op, *max_bytes, line, payload, &mut act)
                    }
                    (Power::Functions { names }, ..) => {
                        functions::act(names, &self.functions, payload, &mut act)
                    }
                    (
                        Power::Channel {
                            channel,
                            role,
                            max_bytes,
                        },
                        ..,
                    ) => match &self.channels {
                        Some(line) => {
                            let may = channel::May {
                                channel,
                                role,
                                max_bytes: *max_bytes,
                            };
                            channel::act(op, &may, line, payload, &mut act)
                        }
                        None => Err(CallError::new(ErrorCode::Denied, "nobody carries messages").into()),
                    },
                    (Power::Files { .. }, Held::Files(files), _) => files.act(op, payload, &mut act),
                    _ => Err(CallError::new(ErrorCode::Denied, "the grant allows no calls").into()),
                };
                let recorded = act.recorded;
                match outcome {
                    Ok(()) => return Ok(FrameKind::Return),
                    Err(Refusal::Stop(stop)) => return Err(stop),
                    // What was recorded as a use and went wrong then is no refusal.
                    Err(Refusal::Reply(error)) if recorded || is_failure(error.code) => {
                        record_failure(&self.audit, &slot.grant, op, &error, recorded)?;
                        reply.clear();
                        payload::error(reply, error.code, error.message);
                        return Ok(FrameKind::Error);
                    }
                    Err(Refusal::Reply(error)) => refused(error),
                }
            }
        };
        self.refuse(
            &Refused {
                handle,
                slot: Some(&grant),
                op,
                name,
                error,
            },
            reply,
        )
    }

    /// Takes a grant back: its handle, and every copy of it, is stale from now on; its open files are closed.
    ///
    /// # Errors
    /// [`HostError::Audit`]; nothing was taken back then. `Ok(false)` when no grant has this handle.
    pub fn revoke(&mut self, handle: u64) -> Result<bool, HostError> {
        let Ok(slot) = self.table.lookup(handle) else {
            return Ok(false);
        };
        self.audit.record(&Event {
            kind: Kind::Revoke,
            capability: Some(slot.grant.power().kind().name()),
            slot: Some(slot.grant.slot()),
            op: None,
            detail: &[("handle", Value::Bits(handle))],
        })?;
        Ok(self.table.revoke(handle).is_ok())
    }

    /// Whether a grant allows this use of a vsock port; either answer is recorded.
    ///
    /// # Errors
    /// [`HostError::Audit`]; the connection must then be refused.
    pub fn use_port(&mut self, how: PortUse, port: u32) -> Result<bool, HostError> {
        let granted = self
            .table
            .iter()
            .find(|(_, slot)| match (how, slot.grant.power()) {
                (PortUse::Accept, Power::VsockListen { port: granted, .. })
                | (PortUse::Connect, Power::VsockConnect { port: granted, .. }) => *granted == port,
                _ => false,
            });
        let capability = match how {
            PortUse::Accept => CapabilityKind::VsockListen,
            PortUse::Connect => CapabilityKind::VsockConnect,
        };
        self.audit.record(&Event {
            kind: if granted.is_some() { Kind::Use } else { Kind::Deny },
            capability: Some(capability.name()),
            slot: granted.map(|(_, slot)| slot.grant.slot()),
            op: Some(how.name()),
            detail: &[("port", Value::Number(u64::from(port)))],
        })?;
        Ok(granted.is_some())
    }

    /// Reads `width` bytes from I/O ports, least significant first; `None` when no grant covers all of them. Either
    /// is recorded.
    ///
    /// # Errors
    /// [`HostError::Audit`].
    pub fn port_read(&mut self, port: u16, width: u8) -> Result<Option<u32>, Stop> {
        match find_device(&mut self.table, &self.audit, "pio.in", port, width)? {
            Some(device) => Ok(Some(device.read(port, width))),
            None => Ok(None),
        }
    }

    /// Writes `width` bytes to I/O ports, least significant first; `false` when no grant covers all of them. Either
    /// is recorded.
    ///
    /// # Errors
    /// [`Fault::OutputLimit`], [`HostError::Audit`].
    pub fn port_write(&mut self, port: u16, width: u8, value: u32) -> Result<bool, Stop> {
        let limit = self.limits.output_bytes;
        let Some(device) = find_device(&mut self.table, &self.audit, "pio.out", port, width)? else {
            return Ok(false);
        };
        let spent = self.output_spent.saturating_add(u64::from(width));
        if spent > limit {
            return Err(Stop::Fault(Fault::OutputLimit { limit }));
        }
        self.output_spent = spent;
        device.write(port, width, value);
        Ok(true)
    }

    fn refuse(&mut self, refused: &Refused<'_>, reply: &mut Vec<u8>) -> Result<FrameKind, Stop> {
        let Refused {
            handle,
            slot,
            op,
            name,
            error,
        } = refused;
        let path = error.path.map(str::as_bytes);
        let detail = [
            ("error", Value::Text(error.code.name())),
            ("why", Value::Text(error.message)),
            ("handle", Value::Bits(*handle)),
            match (op, path) {
                (None, _) => ("name", Value::Guest(name.as_bytes())),
                (Some(_), Some(path)) => ("path", Value::Guest(path)),
                (Some(_), None) => ("known", Value::Flag(true)),
            },
        ];
        let detail_len = if matches!((op, path), (Some(_), None)) {
            3
        } else {
            4
        };
        self.audit
            .record(&Event {
                kind: Kind::Deny,
                capability: slot.map(|grant| grant.power().kind().name()),
                slot: slot.map(Grant::slot),
                op: op.map(Op::name),
                detail: detail.get(..detail_len).unwrap_or(&detail),
            })
            .map_err(HostError::Audit)?;
        self.denials = self.denials.saturating_add(1);
        if self.denials > self.limits.denials {
            return Err(Stop::Fault(Fault::DenialLimit {
                limit: self.limits.denials,
            }));
        }
        reply.clear();
        payload::error(reply, error.code, error.message);
        Ok(FrameKind::Error)
    }
}

struct Refused<'a> {
    handle: u64,
    slot: Option<&'a Grant>,
    op: Option<Op>,
    name: &'a str,
    error: CallError<'a>,
}

impl Slot {
    fn entry(&self, handle: u64) -> GrantEntry {
        let mut name = [0u8; SLOT_NAME_MAX];
        let slot = self.grant.slot();
        for (to, from) in name.iter_mut().zip(slot.bytes()) {
            *to = from;
        }
        let name_len = u32::try_from(slot.len().min(SLOT_NAME_MAX)).unwrap_or(0);
        let power = self.grant.power();
        GrantEntry {
            handle,
            kind: power.kind() as u32,
            name_len,
            detail: power.detail(),
            name,
        }
    }
}

/// One allowed call, while it is performed.
#[derive(Debug)]
pub(crate) struct Act<'a> {
    audit: &'a AuditSink,
    pub grant: &'a Grant,
    op: Op,
    pub reply: &'a mut Vec<u8>,
    recorded: bool,
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
fn is_failure(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotFound | ErrorCode::Exists | ErrorCode::Io | ErrorCode::Invalid
    )
}

fn record_failure(
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

fn take<T>(opened: &mut BTreeMap<String, T>, slot: &str) -> Result<T, HostError> {
    opened.remove(slot).ok_or_else(|| HostError::NotAcquired {
        slot: slot.to_owned(),
    })
}

fn tell_time<'p>(
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

fn fill_random<'p>(payload: &'p [u8], act: &mut Act<'_>) -> Result<(), Refusal<'p>> {
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

/// The device behind ports, or `None`; records which.
fn find_device<'t>(
    table: &'t mut GrantTable<Slot>,
    audit: &AuditSink,
    op: &'static str,
    port: u16,
    width: u8,
) -> Result<Option<&'t mut PioDevice>, HostError> {
    let found = table.iter_mut().find_map(|slot| match &mut slot.held {
        Held::Pio(device) if device.covers(port, width) => Some((slot.grant.slot(), device)),
        _ => None,
    });
    audit.record(&Event {
        kind: if found.is_some() { Kind::Use } else { Kind::Deny },
        capability: Some(CapabilityKind::Pio.name()),
        slot: found.as_ref().map(|(slot, _)| *slot),
        op: Some(op),
        detail: &[
            ("port", Value::Bits(u64::from(port))),
            ("width", Value::Number(u64::from(width))),
        ],
    })?;
    Ok(found.map(|(_, device)| device))
}

impl From<StaleHandle> for CallError<'_> {
    fn from(_: StaleHandle) -> Self {
        CallError::new(ErrorCode::StaleHandle, "no grant has this handle")
    }
}
