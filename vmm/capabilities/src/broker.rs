//! The one door between a muscle's calls and the host.

mod act;
mod ports;
mod standing;

use std::collections::BTreeMap;

use muscle_abi::capability::{GrantEntry, SLOT_NAME_MAX, SLOTS_MAX};
use muscle_abi::frame::{ErrorCode, FrameKind};
use referee_audit::{AuditSink, Event, Kind, Value};
use referee_policy::{ClockGrade, Grant, Grants, Lent, Power};

use act::{fill_random, is_failure, record_failure, tell_time};

use crate::attest;
use crate::channel::{self, ChannelLine};
use crate::clock::CellClock;
use crate::console::Console;
use crate::error::{CallError, Fault, HostError, Refusal, Stop};
use crate::files::Files;
use crate::functions::{self, HostFunctions};
use crate::handles::{GrantTable, StaleHandle};
use crate::op::Op;
use crate::payload;
use crate::pio::PioDevice;
use crate::ports::PortUse;
use crate::random;
use crate::resources::Resources;
use crate::state;
use crate::tpm_line::TpmLine;

pub(crate) use act::Act;

/// What a muscle that uses a grant which was taken back is told, and the log.
const REVOKED: &str = "the grant was revoked";

/// What a muscle that uses a grant which waits is told.
const fn waiting(lent: Lent) -> &'static str {
    match lent {
        Lent::NotYet | Lent::Now => "not delegated yet",
        Lent::Over => "what was delegated was taken back",
    }
}

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
    /// Grants that were taken back, by the handle that they had.
    taken: BTreeMap<u64, Grant>,
    /// Ports of those, whose connections are there until somebody has asked.
    severed: Vec<(PortUse, u32)>,
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

/// What policy gave to a cell, and what is left of it when its life begins.
#[derive(Debug, Clone, Copy)]
pub struct Slots<'a> {
    /// Every slot of it is in the table that the muscle finds.
    pub granted: &'a Grants,
    /// Slots that are not in here were revoked.
    pub left: &'a Grants,
}

impl<'a> From<&'a Grants> for Slots<'a> {
    fn from(granted: &'a Grants) -> Slots<'a> {
        Slots {
            granted,
            left: granted,
        }
    }
}

/// What a power needs besides its grant.
#[derive(Debug)]
enum Held {
    Nothing,
    Files(Files),
    Pio(PioDevice),
}

impl Broker {
    /// Hands grants and what was opened for them to a new cell, with handles that nobody can guess. What was opened is for what is left of the
    /// grants.
    ///
    /// # Errors
    /// [`HostError`]: too many slots, a slot whose thing was not opened, no random bytes.
    pub fn new<'a>(
        slots: impl Into<Slots<'a>>,
        resources: Resources,
        audit: AuditSink,
        clock: CellClock,
        limits: BrokerLimits,
    ) -> Result<Broker, HostError> {
        let Slots { granted, left } = slots.into();
        let slots = granted.slots().len();
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
        let mut table = Vec::with_capacity(slots);
        for given in granted.slots() {
            let grant = left.slot(given.slot());
            let is_taken = grant.is_none();
            let grant = grant.unwrap_or(given);
            let slot = grant.slot();
            if slot.len() > SLOT_NAME_MAX {
                return Err(HostError::SlotName {
                    slot: slot.to_owned(),
                });
            }
            let held = match grant.power() {
                _ if is_taken => Held::Nothing,
                power @ Power::Files { .. } => {
                    let folder = take(&mut directories, slot)?;
                    Held::Files(Files::new(folder, power, limits.open_files))
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
                | Power::Ring { .. }
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
        let mut broker = Broker {
            table: GrantTable::new(table),
            taken: BTreeMap::new(),
            severed: Vec::new(),
            console: Console::new(console),
            clock,
            tpm,
            functions,
            channels,
            audit,
            limits,
            output_spent: 0,
            denials: 0,
        };
        for given in granted.slots() {
            broker.leave(given.slot(), left.slot(given.slot()));
        }
        Ok(broker)
    }

    /// The table of grants that the muscle finds in its memory. One that was revoked has its place there, with a handle that is stale.
    pub fn entries(&self) -> Vec<GrantEntry> {
        let held = self.table.iter().map(|(handle, slot)| (handle, &slot.grant));
        let taken = self.taken.iter().map(|(handle, grant)| (*handle, grant));
        let mut all: Vec<(u64, &Grant)> = held.chain(taken).collect();
        // The low half is the slot's number.
        all.sort_unstable_by_key(|(handle, _)| handle & u64::from(u32::MAX));
        all.into_iter()
            .map(|(handle, grant)| entry(handle, grant))
            .collect()
    }

    /// Name of the slot behind a handle, whether or not its grant was taken back.
    pub fn slot_name(&self, handle: u64) -> Option<&str> {
        let held = self.table.lookup(handle).ok().map(|slot| &slot.grant);
        held.or_else(|| self.taken.get(&handle)).map(Grant::slot)
    }

    /// The cell's clock.
    pub fn clock(&self) -> CellClock {
        self.clock
    }

    /// The finest clock that is granted and was not taken back.
    pub fn clock_grade(&self) -> Option<ClockGrade> {
        let grade = |slot: &Slot| match slot.grant.power() {
            Power::Clock { grade } if slot.grant.waits().is_none() => Some(*grade),
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
        let delegates = matches!(op, Some(Op::ChannelDelegate | Op::ChannelUndelegate));
        let grants: Vec<Grant> = match delegates {
            true => self.table.iter().map(|(_, slot)| slot.grant.clone()).collect(),
            false => Vec::new(),
        };
        let Ok(slot) = self.table.lookup_mut(handle) else {
            let taken = self.taken.get(&handle).cloned();
            let why = match taken {
                Some(_) => REVOKED,
                None => "no grant has this handle",
            };
            let error = CallError::new(ErrorCode::StaleHandle, why);
            return self.refuse(
                &Refused {
                    handle,
                    slot: taken.as_ref(),
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
            Some(_) if slot.grant.waits().is_some() => {
                let why = slot.grant.waits().map_or("", waiting);
                refused(CallError::new(ErrorCode::NotDelegated, why))
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
                            channel::act(op, &may, &grants, line, payload, &mut act)
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

fn entry(handle: u64, grant: &Grant) -> GrantEntry {
    let mut name = [0u8; SLOT_NAME_MAX];
    let slot = grant.slot();
    for (to, from) in name.iter_mut().zip(slot.bytes()) {
        *to = from;
    }
    let name_len = u32::try_from(slot.len().min(SLOT_NAME_MAX)).unwrap_or(0);
    let power = grant.power();
    GrantEntry {
        handle,
        kind: power.kind() as u32,
        name_len,
        detail: power.detail(),
        name,
    }
}

fn take<T>(opened: &mut BTreeMap<String, T>, slot: &str) -> Result<T, HostError> {
    opened.remove(slot).ok_or_else(|| HostError::NotAcquired {
        slot: slot.to_owned(),
    })
}

impl From<StaleHandle> for CallError<'_> {
    fn from(_: StaleHandle) -> Self {
        CallError::new(ErrorCode::StaleHandle, "no grant has this handle")
    }
}
