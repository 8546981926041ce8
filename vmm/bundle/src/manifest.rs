//! The manifest: what a bundle says about itself, in deterministic CBOR with integer keys.
//!
//! ```text
//!   { 1: name, 2: version, 3: security epoch, 4: abi, 5: arch, 6: style, 7: entry,
//!     8: [[vaddr, mem size, file offset, file size, permissions], …],
//!     9: [[kind, size, SHA-256], …],
//!    10: [[slot, [capability, arguments…]], …],
//!    11: {1: memory bytes, 2: stack bytes, ? 3: cpu ms, ? 4: deadline ms},
//!    12: [exported function, …], 13: description }
//! ```
//!
//! Every key but those marked `?` must be there. Slots, exports and parts are sorted, so that each manifest has
//! one encoding.

use std::fmt;

use muscle_abi::boot::Style;
use muscle_abi::ring::RINGS_MAX;

use crate::capability_request::{CapabilityRequest, ChannelRole, Slot, in_range};
use crate::cbor::{Reader, Writer, same_again};
use crate::digest::Digest;
use crate::limits::ReadLimits;
use crate::names::{EXPORT_MAX, NAME_MAX, VERSION_MAX, is_identifier, is_muscle_name, is_version};
use crate::rejected::{Document, Rejected};
use crate::segments::{Permissions, SEGMENTS_MAX, Segment, check_entry, check_segments};

/// What a bundle says about itself. Only inside a [`crate::VerifiedBundle`] is it more than a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The muscle's name, see [`crate::is_muscle_name`].
    pub name: String,
    /// The version that people read: 1 to 64 of `[0-9A-Za-z.+-]`.
    pub version: String,
    /// Raised when an older bundle must not run any more; apart from the version.
    pub security_epoch: u64,
    /// [`muscle_abi::ABI_VERSION`] that the image was built for.
    pub abi: u32,
    /// The processor that the image was built for.
    pub arch: Arch,
    /// Command or reactor.
    pub style: Style,
    /// Address of the first instruction, from the image's base.
    pub entry: u64,
    /// The image's memory map, in the order of addresses.
    pub segments: Vec<Segment>,
    /// What follows in the file, in the order of [`PartKind`].
    pub parts: Vec<Part>,
    /// What the muscle asks for, sorted by name.
    pub slots: Vec<Slot>,
    /// What the muscle needs.
    pub limits: Limits,
    /// Names of the functions that a reactor exports, sorted.
    pub exports: Vec<String>,
    /// A line for people, without control characters; at most 1024 bytes.
    pub description: String,
}

/// A processor architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
}

impl Arch {
    /// Its name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// What a part of the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u64)]
pub enum PartKind {
    /// The program, a static-PIE ELF file; every bundle has it.
    Image = 1,
    /// Names of functions by address, see [`crate::SymbolTable`].
    Symbols = 2,
    /// Bytes that the muscle brings along.
    Data = 3,
    /// How it was built.
    Provenance = 4,
}

impl PartKind {
    /// The kind with this number, if there is one.
    pub const fn from_number(number: u64) -> Option<PartKind> {
        match number {
            1 => Some(PartKind::Image),
            2 => Some(PartKind::Symbols),
            3 => Some(PartKind::Data),
            4 => Some(PartKind::Provenance),
            _ => None,
        }
    }

    /// Its name as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            PartKind::Image => "image",
            PartKind::Symbols => "symbols",
            PartKind::Data => "data",
            PartKind::Provenance => "provenance",
        }
    }
}

impl fmt::Display for PartKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// One part of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What it is.
    pub kind: PartKind,
    /// Its bytes.
    pub size: u64,
    /// Their hash.
    pub sha256: Digest,
}

/// What a muscle needs; policy may give less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Memory of the cell in bytes, a multiple of the page.
    pub memory_bytes: u64,
    /// Stack in bytes, a multiple of the page.
    pub stack_bytes: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: Option<u64>,
    /// Time from start to end in milliseconds.
    pub deadline_ms: Option<u64>,
}

impl Manifest {
    /// Decodes a manifest, refuses every other encoding of the same, and checks it.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule.
    pub fn decode(bytes: &[u8], limits: &ReadLimits) -> Result<Manifest, Rejected> {
        let mut reader = Reader::new(Document::Manifest, bytes);
        let manifest = Manifest::read(&mut reader)?;
        reader.finish()?;
        same_again(Document::Manifest, bytes, &manifest.encode())?;
        manifest.check(limits)?;
        Ok(manifest)
    }

    /// Encodes the manifest as it stands, unchecked.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.map(13);
        writer.u64(1);
        writer.text(&self.name);
        writer.u64(2);
        writer.text(&self.version);
        writer.u64(3);
        writer.u64(self.security_epoch);
        writer.u64(4);
        writer.u64(self.abi.into());
        writer.u64(5);
        writer.text(self.arch.name());
        writer.u64(6);
        writer.u64(self.style as u64);
        writer.u64(7);
        writer.u64(self.entry);
        writer.u64(8);
        writer.array(self.segments.len());
        self.segments
            .iter()
            .for_each(|segment| write_segment(segment, &mut writer));
        writer.u64(9);
        writer.array(self.parts.len());
        for part in &self.parts {
            writer.array(3);
            writer.u64(part.kind as u64);
            writer.u64(part.size);
            writer.bytes(&part.sha256.0);
        }
        writer.u64(10);
        writer.array(self.slots.len());
        self.slots.iter().for_each(|slot| slot.write(&mut writer));
        writer.u64(11);
        self.limits.write(&mut writer);
        writer.u64(12);
        writer.array(self.exports.len());
        self.exports.iter().for_each(|export| writer.text(export));
        writer.u64(13);
        writer.text(&self.description);
        writer.into_bytes()
    }

    /// Checks everything that can be checked without the image.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule.
    pub fn check(&self, limits: &ReadLimits) -> Result<(), Rejected> {
        if self.abi != muscle_abi::ABI_VERSION {
            return Err(Rejected::WrongAbi {
                found: self.abi,
                supported: muscle_abi::ABI_VERSION,
            });
        }
        let invalid = |field| Err(Rejected::NameInvalid { field, index: 0 });
        if !is_muscle_name(&self.name) {
            return invalid("name");
        }
        if !is_version(&self.version) {
            return invalid("version");
        }
        if self.description.chars().any(char::is_control) {
            return invalid("description");
        }
        self.check_parts()?;
        let image_size = self.parts.first().map_or(0, |part| part.size);
        check_segments(&self.segments, image_size, limits.image_span_bytes)?;
        check_entry(self.entry, &self.segments)?;
        for (index, slot) in self.slots.iter().enumerate() {
            slot.check(index)?;
        }
        check_sorted("slots", self.slots.iter().map(|slot| &slot.name))?;
        for slot in &self.slots {
            slot.check_delegated(&self.slots)?;
        }
        let rings = self
            .slots
            .iter()
            .filter(|slot| matches!(slot.request, CapabilityRequest::Ring { .. }));
        in_range("ring slots", rings.count() as u64, 0, RINGS_MAX as u64)?;
        for (index, export) in self.exports.iter().enumerate() {
            if !is_identifier(export, EXPORT_MAX) {
                return Err(Rejected::NameInvalid {
                    field: "exports",
                    index,
                });
            }
        }
        check_sorted("exports", &self.exports)?;
        self.check_receivers()?;
        self.limits.check()
    }

    /// What takes a channel's messages must be there to be called.
    fn check_receivers(&self) -> Result<(), Rejected> {
        let missing = self.slots.iter().find_map(|slot| match &slot.request {
            CapabilityRequest::Channel {
                role: ChannelRole::Receive { function },
                ..
            } if !self.exports.contains(function) => Some((slot, function)),
            _ => None,
        });
        match missing {
            None => Ok(()),
            Some((slot, function)) => Err(Rejected::ReceiverNotExported {
                slot: slot.name.clone(),
                function: function.clone(),
            }),
        }
    }

    fn check_parts(&self) -> Result<(), Rejected> {
        if self.parts.first().map(|part| part.kind) != Some(PartKind::Image) {
            return Err(Rejected::NoImage);
        }
        check_sorted("parts", self.parts.iter().map(|part| part.kind))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Manifest, Rejected> {
        let mut name = None;
        let mut version = None;
        let mut security_epoch = None;
        let mut abi = None;
        let mut arch = None;
        let mut style = None;
        let mut entry = None;
        let mut segments = None;
        let mut parts = None;
        let mut slots = None;
        let mut limits = None;
        let mut exports = None;
        let mut description = None;
        for _ in 0..reader.map("manifest")? {
            let offset = reader.offset();
            match reader.u64("key")? {
                1 => name = Some(reader.text("name", NAME_MAX)?.to_owned()),
                2 => version = Some(reader.text("version", VERSION_MAX)?.to_owned()),
                3 => security_epoch = Some(reader.u64("security epoch")?),
                4 => abi = Some(reader.u32("abi")?),
                5 => arch = Some(read_arch(reader)?),
                6 => style = Some(read_style(reader)?),
                7 => entry = Some(reader.u64("entry")?),
                8 => segments = Some(read_list(reader, "segments", SEGMENTS_MAX, read_segment)?),
                9 => parts = Some(read_list(reader, "parts", PARTS_MAX, read_part)?),
                10 => {
                    slots = Some(read_list(reader, "slots", SLOTS_MAX, |reader, _| {
                        Slot::read(reader)
                    })?)
                }
                11 => limits = Some(Limits::read(reader)?),
                12 => {
                    exports = Some(read_list(reader, "exports", EXPORTS_MAX, |reader, _| {
                        reader.text("exports", EXPORT_MAX).map(str::to_owned)
                    })?)
                }
                13 => description = Some(reader.text("description", DESCRIPTION_MAX)?.to_owned()),
                key => return Err(reader.unknown("manifest", key, offset)),
            }
        }
        Ok(Manifest {
            name: reader.required("name", name)?,
            version: reader.required("version", version)?,
            security_epoch: reader.required("security epoch", security_epoch)?,
            abi: reader.required("abi", abi)?,
            arch: reader.required("arch", arch)?,
            style: reader.required("style", style)?,
            entry: reader.required("entry", entry)?,
            segments: reader.required("segments", segments)?,
            parts: reader.required("parts", parts)?,
            slots: reader.required("slots", slots)?,
            limits: reader.required("limits", limits)?,
            exports: reader.required("exports", exports)?,
            description: reader.required("description", description)?,
        })
    }
}

impl Limits {
    fn check(&self) -> Result<(), Rejected> {
        for (field, bytes, most) in [
            ("memory bytes", self.memory_bytes, MEMORY_MAX),
            ("stack bytes", self.stack_bytes, self.memory_bytes),
        ] {
            in_range(field, bytes, muscle_abi::PAGE_SIZE, most)?;
            if !bytes.is_multiple_of(muscle_abi::PAGE_SIZE) {
                return Err(Rejected::NotWholePages { field, bytes });
            }
        }
        in_range("cpu ms", self.cpu_ms.unwrap_or(1), 1, MILLISECONDS_MAX)?;
        in_range("deadline ms", self.deadline_ms.unwrap_or(1), 1, MILLISECONDS_MAX)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Limits, Rejected> {
        let mut memory_bytes = None;
        let mut stack_bytes = None;
        let mut cpu_ms = None;
        let mut deadline_ms = None;
        for _ in 0..reader.map("limits")? {
            let offset = reader.offset();
            match reader.u64("key")? {
                1 => memory_bytes = Some(reader.u64("memory bytes")?),
                2 => stack_bytes = Some(reader.u64("stack bytes")?),
                3 => cpu_ms = Some(reader.u64("cpu ms")?),
                4 => deadline_ms = Some(reader.u64("deadline ms")?),
                key => return Err(reader.unknown("limits", key, offset)),
            }
        }
        Ok(Limits {
            memory_bytes: reader.required("memory bytes", memory_bytes)?,
            stack_bytes: reader.required("stack bytes", stack_bytes)?,
            cpu_ms,
            deadline_ms,
        })
    }

    fn write(&self, writer: &mut Writer) {
        let pairs = [
            (1, Some(self.memory_bytes)),
            (2, Some(self.stack_bytes)),
            (3, self.cpu_ms),
            (4, self.deadline_ms),
        ];
        writer.map(pairs.iter().filter(|(_, value)| value.is_some()).count());
        for (key, value) in pairs {
            if let Some(value) = value {
                writer.u64(key);
                writer.u64(value);
            }
        }
    }
}

/// Refuses a list that is not strictly ascending, which also means that nothing is in it twice.
pub(crate) fn check_sorted<T: PartialOrd>(
    field: &'static str,
    list: impl IntoIterator<Item = T>,
) -> Result<(), Rejected> {
    let mut previous = None;
    for (index, item) in list.into_iter().enumerate() {
        if previous.is_some_and(|previous| previous >= item) {
            return Err(Rejected::NotSorted { field, index });
        }
        previous = Some(item);
    }
    Ok(())
}

fn read_list<'b, T>(
    reader: &mut Reader<'b>,
    field: &'static str,
    max: u64,
    mut read: impl FnMut(&mut Reader<'b>, usize) -> Result<T, Rejected>,
) -> Result<Vec<T>, Rejected> {
    let count = reader.array(field, max)?;
    (0..usize::try_from(count).unwrap_or(0))
        .map(|index| read(reader, index))
        .collect()
}

fn read_arch(reader: &mut Reader<'_>) -> Result<Arch, Rejected> {
    match reader.text("arch", ARCH_MAX)? {
        "x86_64" => Ok(Arch::X86_64),
        _ => Err(Rejected::WrongArch {
            supported: Arch::X86_64.name(),
        }),
    }
}

fn read_style(reader: &mut Reader<'_>) -> Result<Style, Rejected> {
    let number = reader.u32("style")?;
    Style::from_number(number).ok_or(Rejected::UnknownValue {
        document: Document::Manifest,
        field: "style",
        value: number.into(),
    })
}

fn read_segment(reader: &mut Reader<'_>, index: usize) -> Result<Segment, Rejected> {
    reader.tuple("segment", 5)?;
    Ok(Segment {
        vaddr: reader.u64("segment vaddr")?,
        mem_size: reader.u64("segment mem size")?,
        file_offset: reader.u64("segment file offset")?,
        file_size: reader.u64("segment file size")?,
        permissions: Permissions::from_bits(index, reader.u64("segment permissions")?)?,
    })
}

fn write_segment(segment: &Segment, writer: &mut Writer) {
    writer.array(5);
    writer.u64(segment.vaddr);
    writer.u64(segment.mem_size);
    writer.u64(segment.file_offset);
    writer.u64(segment.file_size);
    writer.u64(segment.permissions.bits());
}

fn read_part(reader: &mut Reader<'_>, _index: usize) -> Result<Part, Rejected> {
    reader.tuple("part", 3)?;
    let number = reader.u64("part kind")?;
    Ok(Part {
        kind: PartKind::from_number(number).ok_or(Rejected::UnknownValue {
            document: Document::Manifest,
            field: "part kind",
            value: number,
        })?,
        size: reader.u64("part size")?,
        sha256: Digest(reader.hash("part sha256")?),
    })
}

const PARTS_MAX: u64 = 4;
const SLOTS_MAX: u64 = muscle_abi::capability::SLOTS_MAX as u64;
const EXPORTS_MAX: u64 = 256;
const DESCRIPTION_MAX: usize = 1024;
const ARCH_MAX: usize = 16;
/// Far above any machine, far below where addresses wrap.
const MEMORY_MAX: u64 = 1 << 40;
/// About 31 years, so that no later sum of times can wrap.
const MILLISECONDS_MAX: u64 = 1_000_000_000_000;
