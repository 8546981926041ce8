//! Shows what is in a bundle, for people and for programs. It proves nothing; `verify` does.

use std::fmt::Write as _;

use muscle_abi::boot::Style;
use referee_bundle::{
    CapabilityRequest, ChannelRole, ClockGrade, Delegated, Digest, FilesAccess, Manifest, PartKind,
    ReadLimits, SymbolTable, UnverifiedBundle,
};
use serde_json::{Value, json};

use crate::error::Error;

/// Describes a bundle for people.
///
/// # Errors
/// [`Error::Bundle`] for what is no well-formed bundle.
pub fn describe(bundle: &[u8]) -> Result<String, Error> {
    let parsed = UnverifiedBundle::parse(bundle, &ReadLimits::default()).map_err(Error::bundle)?;
    let manifest = parsed.manifest();
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(out, "{}", format!("{name:<12} {value}").trim_end());
    };
    line("name", manifest.name.clone());
    line(
        "version",
        format!("{}, security epoch {}", manifest.version, manifest.security_epoch),
    );
    if !manifest.description.is_empty() {
        line("description", manifest.description.clone());
    }
    line("style", style_name(manifest).to_owned());
    line("built for", format!("{}, ABI {}", manifest.arch, manifest.abi));
    line("digest", format!("{} (file)", parsed.digest()));
    line("", format!("{} (header and manifest)", parsed.content_digest()));
    let limits = &manifest.limits;
    line(
        "needs",
        format!(
            "{} memory, {} stack",
            size(limits.memory_bytes),
            size(limits.stack_bytes)
        ),
    );
    for (name, value) in [("CPU time", limits.cpu_ms), ("deadline", limits.deadline_ms)] {
        if let Some(ms) = value {
            line("", format!("{name} {ms} ms"));
        }
    }
    match manifest.slots.is_empty() {
        true => line("asks for", "nothing".to_owned()),
        false => line("asks for", String::new()),
    }
    for slot in &manifest.slots {
        let delegated = slot.delegated.as_ref().map(delegated_text).unwrap_or_default();
        let request = request_text(&slot.request);
        line("", format!("{:<16} {request}{delegated}", slot.name));
    }
    if !manifest.exports.is_empty() {
        line("exports", manifest.exports.join(", "));
    }
    line("image", format!("entry {:#x}", manifest.entry));
    for segment in &manifest.segments {
        let end = segment.end().unwrap_or(u64::MAX);
        let (permissions, size) = (segment.permissions, size(segment.mem_size));
        line(
            "",
            format!("{permissions}  {:#08x}..{end:#08x}  {size}", segment.vaddr),
        );
    }
    line("parts", String::new());
    for ((kind, range), part) in parsed.parts().iter().zip(&manifest.parts) {
        let place = format!("{:#08x}..{:#08x}", range.start, range.end);
        line("", format!("{:<10} {place}  sha256 {}", kind.name(), part.sha256));
    }
    if let Some(count) = symbol_count(&parsed) {
        line("symbols", format!("{count} functions"));
    }
    match parsed.signatures() {
        None => line("signatures", "none".to_owned()),
        Some(set) => {
            line("signatures", String::new());
            for signature in &set.signatures {
                line("", format!("{} by key {}", signature.algorithm, signature.key_id));
            }
        }
    }
    Ok(out)
}

/// Describes a bundle for programs.
///
/// # Errors
/// [`Error::Bundle`] for what is no well-formed bundle.
pub fn to_json(bundle: &[u8]) -> Result<Value, Error> {
    let parsed = UnverifiedBundle::parse(bundle, &ReadLimits::default()).map_err(Error::bundle)?;
    let manifest = parsed.manifest();
    let signatures = parsed
        .signatures()
        .map(|set| set.signatures.as_slice())
        .unwrap_or_default();
    Ok(json!({
        "name": manifest.name,
        "version": manifest.version,
        "security_epoch": manifest.security_epoch,
        "description": manifest.description,
        "style": style_name(manifest),
        "abi": manifest.abi,
        "arch": manifest.arch.name(),
        "digest": parsed.digest().to_string(),
        "content_digest": parsed.content_digest().to_string(),
        "limits": {
            "memory_bytes": manifest.limits.memory_bytes,
            "stack_bytes": manifest.limits.stack_bytes,
            "cpu_ms": manifest.limits.cpu_ms,
            "deadline_ms": manifest.limits.deadline_ms,
        },
        "slots": manifest.slots.iter().map(|slot| json!({
            "name": slot.name,
            "request": request_json(&slot.request),
            "delegated": slot.delegated.as_ref().map(|delegated| json!({
                "from": delegated.from,
                "onward": delegated.onward,
            })),
        })).collect::<Vec<_>>(),
        "exports": manifest.exports,
        "entry": manifest.entry,
        "segments": manifest.segments.iter().map(|segment| json!({
            "vaddr": segment.vaddr,
            "mem_size": segment.mem_size,
            "file_offset": segment.file_offset,
            "file_size": segment.file_size,
            "permissions": segment.permissions.to_string(),
        })).collect::<Vec<_>>(),
        "parts": parsed.parts().iter().zip(&manifest.parts).map(|((kind, range), part)| json!({
            "kind": kind.name(),
            "offset": range.start,
            "size": part.size,
            "sha256": part.sha256.to_string(),
        })).collect::<Vec<_>>(),
        "symbols": symbol_count(&parsed),
        "manifest": {
            "size": parsed.manifest_bytes().len(),
            "sha256": Digest::of(parsed.manifest_bytes()).to_string(),
        },
        "signatures": signatures.iter().map(|signature| json!({
            "algorithm": signature.algorithm.name(),
            "key_id": signature.key_id.to_string(),
        })).collect::<Vec<_>>(),
    }))
}

fn symbol_count(parsed: &UnverifiedBundle<'_>) -> Option<usize> {
    let table = SymbolTable::parse(parsed.part(PartKind::Symbols)?).ok()?;
    Some(table.len())
}

fn style_name(manifest: &Manifest) -> &'static str {
    match manifest.style {
        Style::Command => "command",
        Style::Reactor => "reactor",
    }
}

fn delegated_text(delegated: &Delegated) -> String {
    let onward = if delegated.onward { ", and on" } else { "" };
    format!(", delegated over {}{onward}", delegated.from)
}

fn request_text(request: &CapabilityRequest) -> String {
    let kind = request.kind().name();
    match request {
        CapabilityRequest::Console { input: true } => format!("{kind}: output and input"),
        CapabilityRequest::Console { input: false } => format!("{kind}: output"),
        CapabilityRequest::Args | CapabilityRequest::Random | CapabilityRequest::Attest => kind.to_owned(),
        CapabilityRequest::State { max_bytes } => format!("{kind}: up to {}", size(*max_bytes)),
        CapabilityRequest::Ring { role, bytes } => format!("{kind}: {} {}", role.name(), size(*bytes)),
        CapabilityRequest::Channel { role, max_bytes } => {
            let more = match role {
                ChannelRole::Receive { function } => format!("taken by {function}"),
                role => format!("{} in a call", role.max_messages()),
            };
            format!(
                "{kind}: {}, messages up to {}, {more}",
                role.name(),
                size(*max_bytes)
            )
        }
        CapabilityRequest::Env { names } | CapabilityRequest::Functions { names } => {
            format!("{kind}: {}", names.join(", "))
        }
        CapabilityRequest::Clock { grade } => format!("{kind}: {}", grade_name(*grade)),
        CapabilityRequest::Files {
            access,
            max_bytes,
            max_files,
        } => {
            let access = access_name(*access);
            format!(
                "{kind}: {access}, up to {} in {max_files} files",
                size(*max_bytes)
            )
        }
        CapabilityRequest::VsockListen { port } | CapabilityRequest::VsockConnect { port } => {
            format!("{kind}: port {port}")
        }
        CapabilityRequest::Pio { first, last } => format!("{kind}: ports {first:#x} to {last:#x}"),
    }
}

fn request_json(request: &CapabilityRequest) -> Value {
    let kind = request.kind().name();
    match request {
        CapabilityRequest::Console { input } => json!({ "kind": kind, "input": input }),
        CapabilityRequest::Args | CapabilityRequest::Random | CapabilityRequest::Attest => {
            json!({ "kind": kind })
        }
        CapabilityRequest::State { max_bytes } => json!({ "kind": kind, "max_bytes": max_bytes }),
        CapabilityRequest::Ring { role, bytes } => {
            json!({ "kind": kind, "role": role.name(), "bytes": bytes })
        }
        CapabilityRequest::Channel { role, max_bytes } => {
            let mut channel = json!({ "kind": kind, "role": role.name(), "max_bytes": max_bytes });
            match role {
                ChannelRole::Receive { function } => channel["function"] = json!(function),
                role => channel["max_messages"] = json!(role.max_messages()),
            }
            channel
        }
        CapabilityRequest::Functions { names } => json!({ "kind": kind, "functions": names }),
        CapabilityRequest::Env { names } => json!({ "kind": kind, "variables": names }),
        CapabilityRequest::Clock { grade } => json!({ "kind": kind, "grade": grade_name(*grade) }),
        CapabilityRequest::Files {
            access,
            max_bytes,
            max_files,
        } => json!({
            "kind": kind,
            "access": access_name(*access),
            "max_bytes": max_bytes,
            "max_files": max_files,
        }),
        CapabilityRequest::VsockListen { port } | CapabilityRequest::VsockConnect { port } => {
            json!({ "kind": kind, "port": port })
        }
        CapabilityRequest::Pio { first, last } => json!({ "kind": kind, "first": first, "last": last }),
    }
}

fn grade_name(grade: ClockGrade) -> &'static str {
    match grade {
        ClockGrade::Coarse => "coarse",
        ClockGrade::Fine => "fine",
    }
}

fn access_name(access: FilesAccess) -> &'static str {
    match access {
        FilesAccess::Read => "read",
        FilesAccess::ReadWrite => "read-write",
    }
}

/// A number of bytes in the largest unit that divides it.
fn size(bytes: u64) -> String {
    let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units
        .into_iter()
        .find(|(factor, _)| bytes >= *factor && bytes.is_multiple_of(*factor))
    {
        Some((factor, unit)) => format!("{} {unit}", bytes / factor),
        None => format!("{bytes} bytes"),
    }
}
