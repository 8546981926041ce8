//! What a muscle asks for: named slots, each with one request.

use muscle_abi::capability::{CapabilityKind, MESSAGE_MAX, MESSAGES_MAX};
use muscle_abi::ring::{DATA_MAX, DATA_MIN, Role, is_data_size};

use crate::cbor::{Reader, Writer};
use crate::names::{EXPORT_MAX, VARIABLE_MAX, is_identifier, is_slot_name};
use crate::rejected::{Document, Rejected};

/// Most functions of one `functions` request.
const FUNCTIONS_MAX: u64 = 64;
/// Most variables of one `env` request.
const VARIABLES_MAX: u64 = 64;

/// A named place that the operator binds to a real thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Slot {
    /// The name: lower-case letters, digits and hyphens, at most 32 bytes.
    pub name: String,
    /// What is asked for.
    pub request: CapabilityRequest,
    /// Whether it has nothing until another muscle delegates to it.
    pub delegated: Option<Delegated>,
}

/// How another muscle delegates to a slot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Delegated {
    /// The slot of the channel, with the role of receiving, over which it comes.
    pub from: String,
    /// Whether the muscle wants to delegate it further.
    pub onward: bool,
}

/// How fine a clock is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u64)]
pub enum ClockGrade {
    /// Milliseconds.
    Coarse = 1,
    /// Nanoseconds, with the processor's counter.
    Fine = 2,
}

/// What is asked to be done with a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u64)]
pub enum FilesAccess {
    /// Reading.
    Read = 0,
    /// Reading and writing.
    ReadWrite = 1,
}

/// What a muscle does with a channel.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ChannelRole {
    /// Sends messages to all who receive.
    Send {
        /// How many in one call at most.
        max_messages: u64,
    },
    /// Sends messages to the one who receives, and waits for the answer to each.
    Request {
        /// How many in one call at most.
        max_messages: u64,
    },
    /// Takes messages.
    Receive {
        /// The exported function that takes them, one at a time.
        function: String,
    },
}

impl ChannelRole {
    /// The role's name in policies and for people.
    pub const fn name(&self) -> &'static str {
        match self {
            ChannelRole::Send { .. } => "send",
            ChannelRole::Request { .. } => "request",
            ChannelRole::Receive { .. } => "receive",
        }
    }

    /// Messages in one call at most; none for one who takes them.
    pub const fn max_messages(&self) -> u64 {
        match self {
            ChannelRole::Send { max_messages } | ChannelRole::Request { max_messages } => *max_messages,
            ChannelRole::Receive { .. } => 0,
        }
    }
}

/// A capability with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CapabilityRequest {
    /// Standard output, error and log.
    Console {
        /// Standard input too.
        input: bool,
    },
    /// Command-line arguments.
    Args,
    /// Environment variables.
    Env {
        /// Their names, sorted.
        names: Vec<String>,
    },
    /// The time.
    Clock {
        /// How fine.
        grade: ClockGrade,
    },
    /// Random bytes.
    Random,
    /// Evidence of the host's TPM.
    Attest,
    /// Bytes that are kept from run to run.
    State {
        /// How many at most, up to [`muscle_abi::capability::STATE_MAX`].
        max_bytes: u64,
    },
    /// Functions of the embedding program.
    Functions {
        /// Their names, sorted.
        names: Vec<String>,
    },
    /// One end of a ring.
    Ring {
        /// Which.
        role: Role,
        /// Bytes of its data: a power of two, from [`muscle_abi::ring::DATA_MIN`] to [`muscle_abi::ring::DATA_MAX`].
        bytes: u64,
    },
    /// A directory.
    Files {
        /// What is done with it.
        access: FilesAccess,
        /// Bytes that its files may have together.
        max_bytes: u64,
        /// Files that may be in it.
        max_files: u32,
    },
    /// Listening for outside programs.
    VsockListen {
        /// The port, from 1024.
        port: u32,
    },
    /// Connecting to an outside program.
    VsockConnect {
        /// The port, from 1024.
        port: u32,
    },
    /// I/O ports.
    Pio {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// Messages to or from other deployments of a node.
    Channel {
        /// Which way they go.
        role: ChannelRole,
        /// Bytes of a message at most, up to [`MESSAGE_MAX`].
        max_bytes: u64,
    },
}

impl CapabilityRequest {
    /// The kind of capability.
    pub const fn kind(&self) -> CapabilityKind {
        match self {
            CapabilityRequest::Console { .. } => CapabilityKind::Console,
            CapabilityRequest::Args => CapabilityKind::Args,
            CapabilityRequest::Env { .. } => CapabilityKind::Env,
            CapabilityRequest::Clock { .. } => CapabilityKind::Clock,
            CapabilityRequest::Random => CapabilityKind::Random,
            CapabilityRequest::Attest => CapabilityKind::Attest,
            CapabilityRequest::State { .. } => CapabilityKind::State,
            CapabilityRequest::Functions { .. } => CapabilityKind::Functions,
            CapabilityRequest::Ring { .. } => CapabilityKind::Ring,
            CapabilityRequest::Files { .. } => CapabilityKind::Files,
            CapabilityRequest::VsockListen { .. } => CapabilityKind::VsockListen,
            CapabilityRequest::VsockConnect { .. } => CapabilityKind::VsockConnect,
            CapabilityRequest::Pio { .. } => CapabilityKind::Pio,
            CapabilityRequest::Channel { .. } => CapabilityKind::Channel,
        }
    }

    fn check(&self) -> Result<(), Rejected> {
        match self {
            CapabilityRequest::Env { names } => check_names("env names", names),
            CapabilityRequest::Functions { names } => check_names("function names", names),
            CapabilityRequest::VsockListen { port } | CapabilityRequest::VsockConnect { port } => {
                let (first, last) = (muscle_abi::channel::FIRST_MUSCLE_PORT, u32::MAX - 1);
                in_range("port", (*port).into(), first.into(), last.into())
            }
            CapabilityRequest::Pio { first, last } => {
                in_range("pio last", (*last).into(), (*first).into(), u16::MAX.into())
            }
            CapabilityRequest::Ring { bytes, .. } => match is_data_size(*bytes) {
                true => Ok(()),
                false => {
                    in_range("ring bytes", *bytes, DATA_MIN, DATA_MAX)?;
                    Err(Rejected::NotAPowerOfTwo {
                        field: "ring bytes",
                        value: *bytes,
                    })
                }
            },
            CapabilityRequest::State { max_bytes } => in_range(
                "state max bytes",
                *max_bytes,
                1,
                muscle_abi::capability::STATE_MAX,
            ),
            CapabilityRequest::Channel { role, max_bytes } => {
                in_range("channel max bytes", *max_bytes, 1, MESSAGE_MAX)?;
                match role {
                    ChannelRole::Send { max_messages } | ChannelRole::Request { max_messages } => {
                        in_range("channel max messages", *max_messages, 1, MESSAGES_MAX)
                    }
                    ChannelRole::Receive { function } => match is_identifier(function, EXPORT_MAX) {
                        true => Ok(()),
                        false => Err(Rejected::NameInvalid {
                            field: "channel function",
                            index: 0,
                        }),
                    },
                }
            }
            CapabilityRequest::Console { .. }
            | CapabilityRequest::Args
            | CapabilityRequest::Clock { .. }
            | CapabilityRequest::Random
            | CapabilityRequest::Attest
            | CapabilityRequest::Files { .. } => Ok(()),
        }
    }

    /// Reads `[kind, arguments…]`.
    fn read(reader: &mut Reader<'_>) -> Result<CapabilityRequest, Rejected> {
        let items = reader.array("request", 4)?;
        let number = reader.u32("request kind")?;
        let kind = CapabilityKind::from_number(number).ok_or(Rejected::UnknownValue {
            document: Document::Manifest,
            field: "request kind",
            value: number.into(),
        })?;
        let request = match kind {
            CapabilityKind::Console => CapabilityRequest::Console {
                input: reader.bool("console input")?,
            },
            CapabilityKind::Args => CapabilityRequest::Args,
            CapabilityKind::Env => CapabilityRequest::Env {
                names: read_names(reader, "env names", VARIABLES_MAX)?,
            },
            CapabilityKind::Functions => CapabilityRequest::Functions {
                names: read_names(reader, "function names", FUNCTIONS_MAX)?,
            },
            CapabilityKind::Ring => CapabilityRequest::Ring {
                role: {
                    let number = reader.u64("ring role")?;
                    Role::from_number(number).ok_or_else(|| unknown("ring role", number))?
                },
                bytes: reader.u64("ring bytes")?,
            },
            CapabilityKind::Clock => CapabilityRequest::Clock {
                grade: match reader.u64("clock grade")? {
                    1 => ClockGrade::Coarse,
                    2 => ClockGrade::Fine,
                    value => return Err(unknown("clock grade", value)),
                },
            },
            CapabilityKind::Random => CapabilityRequest::Random,
            CapabilityKind::Attest => CapabilityRequest::Attest,
            CapabilityKind::State => CapabilityRequest::State {
                max_bytes: reader.u64("state max bytes")?,
            },
            CapabilityKind::Files => CapabilityRequest::Files {
                access: match reader.u64("files access")? {
                    0 => FilesAccess::Read,
                    1 => FilesAccess::ReadWrite,
                    value => return Err(unknown("files access", value)),
                },
                max_bytes: reader.u64("files max bytes")?,
                max_files: reader.u32("files max files")?,
            },
            CapabilityKind::VsockListen => CapabilityRequest::VsockListen {
                port: reader.u32("port")?,
            },
            CapabilityKind::VsockConnect => CapabilityRequest::VsockConnect {
                port: reader.u32("port")?,
            },
            CapabilityKind::Pio => CapabilityRequest::Pio {
                first: reader.u16("pio first")?,
                last: reader.u16("pio last")?,
            },
            CapabilityKind::Channel => {
                let role = reader.u64("channel role")?;
                let max_bytes = reader.u64("channel max bytes")?;
                let role = match role {
                    0 => ChannelRole::Send {
                        max_messages: reader.u64("channel max messages")?,
                    },
                    1 => ChannelRole::Request {
                        max_messages: reader.u64("channel max messages")?,
                    },
                    2 => ChannelRole::Receive {
                        function: reader.text("channel function", EXPORT_MAX)?.to_owned(),
                    },
                    value => return Err(unknown("channel role", value)),
                };
                CapabilityRequest::Channel { role, max_bytes }
            }
        };
        match items == request.items() as u64 {
            true => Ok(request),
            false => Err(reader.malformed("request", reader.offset())),
        }
    }

    fn write(&self, writer: &mut Writer) {
        writer.array(self.items());
        writer.u64(self.kind() as u64);
        match self {
            CapabilityRequest::Console { input } => writer.bool(*input),
            CapabilityRequest::Args | CapabilityRequest::Random | CapabilityRequest::Attest => {}
            CapabilityRequest::Env { names } | CapabilityRequest::Functions { names } => {
                writer.array(names.len());
                names.iter().for_each(|name| writer.text(name));
            }
            CapabilityRequest::Clock { grade } => writer.u64(*grade as u64),
            CapabilityRequest::Ring { role, bytes } => {
                writer.u64(*role as u64);
                writer.u64(*bytes);
            }
            CapabilityRequest::State { max_bytes } => writer.u64(*max_bytes),
            CapabilityRequest::Files {
                access,
                max_bytes,
                max_files,
            } => {
                writer.u64(*access as u64);
                writer.u64(*max_bytes);
                writer.u64((*max_files).into());
            }
            CapabilityRequest::VsockListen { port } | CapabilityRequest::VsockConnect { port } => {
                writer.u64((*port).into());
            }
            CapabilityRequest::Pio { first, last } => {
                writer.u64((*first).into());
                writer.u64((*last).into());
            }
            CapabilityRequest::Channel { role, max_bytes } => {
                let (number, max_messages) = match role {
                    ChannelRole::Send { max_messages } => (0, Ok(*max_messages)),
                    ChannelRole::Request { max_messages } => (1, Ok(*max_messages)),
                    ChannelRole::Receive { function } => (2, Err(function)),
                };
                writer.u64(number);
                writer.u64(*max_bytes);
                match max_messages {
                    Ok(max_messages) => writer.u64(max_messages),
                    Err(function) => writer.text(function),
                }
            }
        }
    }

    /// Items of the array that it is written as.
    const fn items(&self) -> usize {
        match self {
            CapabilityRequest::Args | CapabilityRequest::Random | CapabilityRequest::Attest => 1,
            CapabilityRequest::Console { .. }
            | CapabilityRequest::Env { .. }
            | CapabilityRequest::Functions { .. }
            | CapabilityRequest::Clock { .. }
            | CapabilityRequest::State { .. }
            | CapabilityRequest::VsockListen { .. }
            | CapabilityRequest::VsockConnect { .. } => 2,
            CapabilityRequest::Pio { .. } | CapabilityRequest::Ring { .. } => 3,
            CapabilityRequest::Files { .. } | CapabilityRequest::Channel { .. } => 4,
        }
    }
}

impl Slot {
    /// Checks the slot's name and the request's arguments; `index` is its place among the slots.
    pub(crate) fn check(&self, index: usize) -> Result<(), Rejected> {
        match is_slot_name(&self.name) {
            true => self.request.check(),
            false => Err(Rejected::NameInvalid {
                field: "slot name",
                index,
            }),
        }
    }

    /// Refuses a slot that is delegated and cannot be; `slots` are all of the manifest.
    pub(crate) fn check_delegated(&self, slots: &[Slot]) -> Result<(), Rejected> {
        let Some(Delegated { from, .. }) = &self.delegated else {
            return Ok(());
        };
        let kind = self.request.kind();
        if !kind.may_be_delegated() {
            return Err(Rejected::NotDelegable {
                slot: self.name.clone(),
                kind: kind.name(),
            });
        }
        let receives = |slot: &Slot| {
            slot.name == *from
                && matches!(
                    slot.request,
                    CapabilityRequest::Channel {
                        role: ChannelRole::Receive { .. },
                        ..
                    }
                )
        };
        match slots.iter().any(receives) {
            true => Ok(()),
            false => Err(Rejected::DelegatedFromNowhere {
                slot: self.name.clone(),
                from: from.clone(),
            }),
        }
    }

    /// Reads `[name, request]`, or `[name, request, from, onward]` of one that is delegated.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Slot, Rejected> {
        let items = reader.array("slot", 4)?;
        if !matches!(items, 2 | 4) {
            return Err(reader.malformed("slot", reader.offset()));
        }
        let name = reader.text("slot name", muscle_abi::capability::SLOT_NAME_MAX)?;
        Ok(Slot {
            name: name.to_owned(),
            request: CapabilityRequest::read(reader)?,
            delegated: match items {
                4 => Some(Delegated {
                    from: reader
                        .text("delegated from", muscle_abi::capability::SLOT_NAME_MAX)?
                        .to_owned(),
                    onward: reader.bool("delegated onward")?,
                }),
                _ => None,
            },
        })
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.array(if self.delegated.is_some() { 4 } else { 2 });
        writer.text(&self.name);
        self.request.write(writer);
        if let Some(Delegated { from, onward }) = &self.delegated {
            writer.text(from);
            writer.bool(*onward);
        }
    }
}

fn check_names(field: &'static str, names: &[String]) -> Result<(), Rejected> {
    match names.iter().position(|name| !is_identifier(name, VARIABLE_MAX)) {
        Some(index) => Err(Rejected::NameInvalid { field, index }),
        None => crate::manifest::check_sorted(field, names),
    }
}

fn read_names(reader: &mut Reader<'_>, field: &'static str, most: u64) -> Result<Vec<String>, Rejected> {
    (0..reader.array(field, most)?)
        .map(|_| reader.text(field, VARIABLE_MAX).map(str::to_owned))
        .collect()
}

/// Refuses a value outside of `least..=most`.
pub(crate) fn in_range(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), Rejected> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(Rejected::OutOfRange {
            field,
            value,
            least,
            most,
        }),
    }
}

fn unknown(field: &'static str, value: u64) -> Rejected {
    Rejected::UnknownValue {
        document: Document::Manifest,
        field,
        value,
    }
}
