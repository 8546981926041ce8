//! What policy is asked about a power, and how a request reads to people.

use referee_bundle::{CapabilityRequest, ChannelRole, ClockGrade, Delegated, FilesAccess, Slot};

use crate::binding::SerialTo;
use crate::grants::{Device, Power};
use crate::model::{Argument, Question};
use crate::rejected::Rejected;

/// What policy is asked about a power.
pub(crate) fn questions_of(slot: &str, power: &Power) -> Result<Vec<Question>, Rejected> {
    let text = |text: &str| Argument::Text(text.to_owned());
    let path = |path: &std::path::Path| Argument::Text(path.display().to_string());
    let named = |mut arguments: Vec<(&'static str, Argument)>| {
        arguments.insert(0, ("slot", text(slot)));
        Question {
            action: power.kind().name(),
            arguments,
        }
    };
    let one = |arguments| Ok(vec![named(arguments)]);
    match power {
        Power::Console { input } => one(vec![("input", Argument::Flag(*input))]),
        Power::Args | Power::Random | Power::Attest => one(Vec::new()),
        Power::State { max_bytes } => one(vec![("bytes", number(slot, *max_bytes)?)]),
        Power::Env { names } | Power::Functions { names } => Ok(names
            .iter()
            .map(|name| named(vec![("name", text(name))]))
            .collect()),
        Power::Ring { role, bytes, ring } => one(vec![
            ("role", text(role.name())),
            ("bytes", number(slot, *bytes)?),
            ("ring", text(ring.as_deref().unwrap_or_default())),
        ]),
        Power::Clock { grade } => {
            let grade = match grade {
                ClockGrade::Coarse => "coarse",
                ClockGrade::Fine => "fine",
            };
            one(vec![("grade", text(grade))])
        }
        Power::Files {
            path: place,
            access,
            max_bytes,
            max_files,
            // Policy is asked about the whole directory.
            within: _,
        } => {
            let access = match access {
                FilesAccess::Read => "read",
                FilesAccess::ReadWrite => "read-write",
            };
            one(vec![
                ("path", path(place)),
                ("access", text(access)),
                ("bytes", number(slot, *max_bytes)?),
                ("files", Argument::Number(i64::from(*max_files))),
            ])
        }
        Power::VsockListen { port, socket } | Power::VsockConnect { port, socket } => one(vec![
            ("path", path(socket)),
            ("port", Argument::Number(i64::from(*port))),
        ]),
        Power::Pio {
            first,
            last,
            device: Device::Serial { to },
        } => one(vec![
            ("device", text("serial")),
            (
                "path",
                match to {
                    SerialTo::Stdout => text("stdout"),
                    SerialTo::File(place) => path(place),
                },
            ),
            ("first", Argument::Number(i64::from(*first))),
            ("last", Argument::Number(i64::from(*last))),
        ]),
        Power::Channel {
            channel,
            role,
            max_bytes,
        } => one(vec![
            ("channel", text(channel)),
            ("role", text(role.name())),
            ("bytes", number(slot, *max_bytes)?),
            ("messages", number(slot, role.max_messages())?),
        ]),
    }
}

/// What policy is asked besides about a slot that is to be delegated further.
pub(crate) fn onward(slot: &Slot) -> Option<Question> {
    let delegated = slot.delegated.as_ref().filter(|delegated| delegated.onward)?;
    let text = |text: &str| Argument::Text(text.to_owned());
    Some(Question {
        action: "delegate",
        arguments: vec![
            ("slot", text(&slot.name)),
            ("capability", text(slot.request.kind().name())),
            ("from", text(&delegated.from)),
        ],
    })
}

/// What a slot asks for, in a few words.
pub(crate) fn asked(slot: &Slot) -> String {
    let request = describe(&slot.request);
    match &slot.delegated {
        None => request,
        Some(Delegated { from, onward: false }) => format!("{request}, when delegated over {from}"),
        Some(Delegated { from, onward: true }) => {
            format!("{request}, when delegated over {from}, and to delegate it on")
        }
    }
}

pub(crate) fn number(what: &str, value: u64) -> Result<Argument, Rejected> {
    i64::try_from(value)
        .map(Argument::Number)
        .map_err(|_| Rejected::NumberTooLarge {
            what: what.to_owned(),
            value,
        })
}

/// A request in a few words.
fn describe(request: &CapabilityRequest) -> String {
    match request {
        CapabilityRequest::Console { input: true } => "output and input".to_owned(),
        CapabilityRequest::Console { input: false } => "output".to_owned(),
        CapabilityRequest::Args => "command-line arguments".to_owned(),
        CapabilityRequest::Env { names } | CapabilityRequest::Functions { names } => names.join(" "),
        CapabilityRequest::Clock {
            grade: ClockGrade::Coarse,
        } => "milliseconds".to_owned(),
        CapabilityRequest::Clock {
            grade: ClockGrade::Fine,
        } => "nanoseconds".to_owned(),
        CapabilityRequest::Ring { role, bytes: size } => {
            format!("{} by a ring of {}", role.name(), bytes(*size))
        }
        CapabilityRequest::Random => "random bytes".to_owned(),
        CapabilityRequest::Attest => "evidence of the host's TPM".to_owned(),
        CapabilityRequest::State { max_bytes } => format!("keep {} from run to run", bytes(*max_bytes)),
        CapabilityRequest::Files {
            access: FilesAccess::Read,
            ..
        } => "read".to_owned(),
        CapabilityRequest::Files {
            access: FilesAccess::ReadWrite,
            max_bytes,
            max_files,
        } => {
            format!(
                "read and write, {} and {max_files} files more at most",
                bytes(*max_bytes)
            )
        }
        CapabilityRequest::VsockListen { port } => format!("be reached on port {port}"),
        CapabilityRequest::VsockConnect { port } => format!("reach port {port}"),
        CapabilityRequest::Pio { first, last } => format!("I/O ports {first:#x} to {last:#x}"),
        CapabilityRequest::Channel { role, max_bytes } => {
            let size = bytes(*max_bytes);
            match role {
                ChannelRole::Send { max_messages } => {
                    format!("send {max_messages} messages of {size} in a call at most")
                }
                ChannelRole::Request { max_messages } => {
                    format!("ask by {max_messages} messages of {size} in a call at most")
                }
                ChannelRole::Receive { function } => {
                    format!("take messages of {size} at most by {function}")
                }
            }
        }
    }
}

/// A size as people read it; exact.
pub(crate) fn bytes(count: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if count != 0 && count.trailing_zeros() >= shift {
            return format!("{} {unit}", count >> shift);
        }
    }
    format!("{count} bytes")
}
