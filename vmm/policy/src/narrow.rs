//! From a slot's request and the thing that the operator bound to a power; and what does not go together.

use muscle_abi::capability::CapabilityKind;
use referee_bundle::{CapabilityRequest, FilesAccess, Manifest, Slot};

use crate::binding::{Binding, Bound, is_channel_name};
use crate::grants::{Device, Power};
use crate::rejected::Rejected;

/// What a slot's request comes to with what the operator bound.
pub(crate) fn narrow(slot: &Slot, binding: Option<&Binding>) -> Result<Power, Rejected> {
    let capability = slot.request.kind();
    let Some(how) = how_to_bind(slot) else {
        return match binding {
            // A node joins by a name; a program joins what is not bound.
            Some(Binding {
                bound: Bound::Ring { name },
                ..
            }) if capability == CapabilityKind::Ring => ring_of(slot, name),
            Some(Binding { bound, .. }) if capability == CapabilityKind::Ring => Err(Rejected::WrongThing {
                slot: slot.name.clone(),
                capability,
                found: bound.kind(),
                how: format!("{}=ring:RING", slot.name),
            }),
            Some(_) => Err(Rejected::NotBindable {
                slot: slot.name.clone(),
                capability,
            }),
            None => unbound_power(&slot.request).ok_or_else(|| Rejected::SlotUnbound {
                slot: slot.name.clone(),
                capability,
                how: String::new(),
            }),
        };
    };
    let Some(Binding { bound, .. }) = binding else {
        return Err(Rejected::SlotUnbound {
            slot: slot.name.clone(),
            capability,
            how,
        });
    };
    if bound.plain_path().is_none() {
        return Err(Rejected::PathNotPlain {
            slot: slot.name.clone(),
            bound: bound.to_string(),
        });
    }
    match (&slot.request, bound) {
        (
            CapabilityRequest::Files {
                access: FilesAccess::ReadWrite,
                ..
            },
            Bound::Directory {
                access: FilesAccess::Read,
                ..
            },
        ) => Err(Rejected::BoundReadOnly {
            slot: slot.name.clone(),
        }),
        (
            CapabilityRequest::Files {
                access,
                max_bytes,
                max_files,
            },
            Bound::Directory { path, .. },
        ) => Ok(Power::Files {
            path: path.clone(),
            access: *access,
            within: None,
            max_bytes: *max_bytes,
            max_files: *max_files,
        }),
        (CapabilityRequest::VsockListen { port }, Bound::Socket { path }) => Ok(Power::VsockListen {
            port: *port,
            socket: path.clone(),
        }),
        (CapabilityRequest::VsockConnect { port }, Bound::Socket { path }) => Ok(Power::VsockConnect {
            port: *port,
            socket: path.clone(),
        }),
        (CapabilityRequest::Pio { first, last }, Bound::Serial { to }) => Ok(Power::Pio {
            first: *first,
            last: *last,
            device: Device::Serial { to: to.clone() },
        }),
        (CapabilityRequest::Channel { role, max_bytes }, Bound::Channel { name }) => Ok(Power::Channel {
            channel: name.clone(),
            role: role.clone(),
            max_bytes: *max_bytes,
        }),
        (_, bound) => Err(Rejected::WrongThing {
            slot: slot.name.clone(),
            capability,
            found: bound.kind(),
            how,
        }),
    }
}

/// An end of the ring of this name.
fn ring_of(slot: &Slot, name: &str) -> Result<Power, Rejected> {
    match (&slot.request, is_channel_name(name)) {
        (CapabilityRequest::Ring { role, bytes }, true) => Ok(Power::Ring {
            role: *role,
            bytes: *bytes,
            ring: Some(name.to_owned()),
        }),
        _ => Err(Rejected::PathNotPlain {
            slot: slot.name.clone(),
            bound: format!("ring:{name}"),
        }),
    }
}

/// The power of a request that needs no binding.
fn unbound_power(request: &CapabilityRequest) -> Option<Power> {
    match request {
        CapabilityRequest::Console { input } => Some(Power::Console { input: *input }),
        CapabilityRequest::Args => Some(Power::Args),
        CapabilityRequest::Env { names } => Some(Power::Env { names: names.clone() }),
        CapabilityRequest::Clock { grade } => Some(Power::Clock { grade: *grade }),
        CapabilityRequest::Random => Some(Power::Random),
        CapabilityRequest::Attest => Some(Power::Attest),
        CapabilityRequest::Functions { names } => Some(Power::Functions { names: names.clone() }),
        CapabilityRequest::Ring { role, bytes } => Some(Power::Ring {
            role: *role,
            bytes: *bytes,
            ring: None,
        }),
        CapabilityRequest::State { max_bytes } => Some(Power::State {
            max_bytes: *max_bytes,
        }),
        CapabilityRequest::Files { .. }
        | CapabilityRequest::VsockListen { .. }
        | CapabilityRequest::VsockConnect { .. }
        | CapabilityRequest::Pio { .. }
        | CapabilityRequest::Channel { .. } => None,
    }
}

/// A binding that would do for this slot; `None` when it takes none.
fn how_to_bind(slot: &Slot) -> Option<String> {
    let name = &slot.name;
    match &slot.request {
        CapabilityRequest::Files {
            access: FilesAccess::Read,
            ..
        } => Some(format!("{name}=dir:PATH:ro")),
        CapabilityRequest::Files {
            access: FilesAccess::ReadWrite,
            ..
        } => Some(format!("{name}=dir:PATH:rw")),
        CapabilityRequest::VsockListen { .. } | CapabilityRequest::VsockConnect { .. } => {
            Some(format!("{name}=unix:PATH"))
        }
        CapabilityRequest::Pio { .. } => Some(format!("{name}=serial:stdout")),
        CapabilityRequest::Channel { .. } => Some(format!("{name}=channel:CHANNEL")),
        CapabilityRequest::Console { .. }
        | CapabilityRequest::Args
        | CapabilityRequest::Env { .. }
        | CapabilityRequest::Clock { .. }
        | CapabilityRequest::Random
        | CapabilityRequest::Attest
        | CapabilityRequest::State { .. }
        | CapabilityRequest::Functions { .. }
        | CapabilityRequest::Ring { .. } => None,
    }
}

/// Bindings of slots that there are not, or that are bound twice.
pub(crate) fn stray_bindings(manifest: &Manifest, bindings: &[Binding]) -> Vec<Rejected> {
    let mut found = Vec::new();
    for (index, binding) in bindings.iter().enumerate() {
        if !manifest.slots.iter().any(|slot| slot.name == binding.slot) {
            let is_ring = |slot: &Slot| slot.request.kind() == CapabilityKind::Ring;
            let bindable = manifest
                .slots
                .iter()
                .filter(|slot| how_to_bind(slot).is_some() || is_ring(slot));
            found.push(Rejected::NoSuchSlot {
                slot: binding.slot.clone(),
                declared: bindable.map(|slot| slot.name.clone()).collect(),
            });
        }
        if bindings
            .iter()
            .take(index)
            .any(|earlier| earlier.slot == binding.slot)
        {
            found.push(Rejected::BoundTwice {
                slot: binding.slot.clone(),
            });
        }
    }
    found
}

/// Two slots must not answer for one port: which of their grants would hold?
pub(crate) fn same_ports(manifest: &Manifest) -> Vec<Rejected> {
    let range = |slot: &Slot| match slot.request {
        CapabilityRequest::Pio { first, last } => {
            Some((CapabilityKind::Pio, u32::from(first), u32::from(last)))
        }
        CapabilityRequest::VsockListen { port } => Some((CapabilityKind::VsockListen, port, port)),
        CapabilityRequest::VsockConnect { port } => Some((CapabilityKind::VsockConnect, port, port)),
        _ => None,
    };
    let ranges: Vec<_> = manifest
        .slots
        .iter()
        .filter_map(|slot| range(slot).map(|range| (slot, range)))
        .collect();
    let mut found = Vec::new();
    for (index, (slot, (kind, first, last))) in ranges.iter().enumerate() {
        for (other, (other_kind, other_first, other_last)) in ranges.iter().take(index) {
            if kind == other_kind && first <= other_last && other_first <= last {
                found.push(Rejected::SamePorts {
                    first: other.name.clone(),
                    second: slot.name.clone(),
                });
            }
        }
    }
    found
}
