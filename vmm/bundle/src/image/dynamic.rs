//! The dynamic table and the relocations that it points to.
//!
//! Only one table of `R_X86_64_RELATIVE` entries is allowed: no symbols to look up, no packed form, no
//! procedure linkage. Entries of the dynamic table that a loader would act on and that we do not are refused.

use object::LittleEndian as LE;
use object::elf::{
    DT_ANDROID_REL, DT_ANDROID_RELA, DT_ANDROID_RELR, DT_INIT, DT_JMPREL, DT_NEEDED, DT_NULL,
    DT_PREINIT_ARRAY, DT_REL, DT_RELA, DT_RELAENT, DT_RELASZ, DT_RELR, DT_TEXTREL, Dyn64, DynamicTag,
    ProgramHeader64, R_X86_64_RELATIVE, Rela64,
};
use object::read::elf::{Dyn as _, ProgramHeader as _, Rela as _};

use super::Relocation;
use crate::layout::slice;
use crate::limits::ReadLimits;
use crate::rejected::Rejected;
use crate::segments::{Permissions, Segment};

/// Bytes of one relocation, and of what it changes.
const ENTRY_SIZE: u64 = size_of::<Rela64<LE>>() as u64;
const TARGET_SIZE: u64 = 8;

/// Reads and checks the relocations that the dynamic table `program_header` points to.
pub(super) fn read_relocations(
    image: &[u8],
    program_header: &ProgramHeader64<LE>,
    segments: &[Segment],
    span: u64,
    limits: &ReadLimits,
) -> Result<Vec<Relocation>, Rejected> {
    let place = (program_header.p_vaddr(LE), program_header.p_filesz(LE));
    let (offset, size) = program_header.file_range(LE);
    // The table's place in the file must be where its address is, so that both say the same.
    let entries = in_file(image, segments, place.0, size).filter(|_| {
        segments
            .iter()
            .any(|segment| segment.holds(place.0, size) && offset_of(segment, place.0) == Some(offset))
    });
    let entries = entries.ok_or(Rejected::ElfDynamicPlace)?;
    let table = Table::read(entries)?;
    let Some(table) = table else {
        return Ok(Vec::new());
    };
    let entry_size = table.entry_size;
    if entry_size != ENTRY_SIZE {
        return Err(unfit("entry size", entry_size));
    }
    if !table.size.is_multiple_of(ENTRY_SIZE) {
        return Err(unfit("size", table.size));
    }
    let count = table.size / ENTRY_SIZE;
    if count > limits.relocations {
        return Err(Rejected::TooManyRelocations {
            count,
            limit: limits.relocations,
        });
    }
    let bytes =
        in_file(image, segments, table.vaddr, table.size).ok_or_else(|| unfit("address", table.vaddr))?;
    let entries =
        object::pod::slice_from_all_bytes::<Rela64<LE>>(bytes).map_err(|()| unfit("size", table.size))?;
    entries
        .iter()
        .enumerate()
        .map(|(index, entry)| check_relocation(index, entry, segments, span))
        .collect()
}

/// Where the dynamic table says that the relocations are.
#[derive(Default)]
struct Table {
    vaddr: u64,
    size: u64,
    entry_size: u64,
}

impl Table {
    fn read(bytes: &[u8]) -> Result<Option<Table>, Rejected> {
        let entries =
            object::pod::slice_from_all_bytes::<Dyn64<LE>>(bytes).map_err(|()| Rejected::ElfDynamicPlace)?;
        let mut vaddr = None;
        let mut size = None;
        let mut entry_size = None;
        for entry in entries.iter().take_while(|entry| entry.d_tag(LE) != DT_NULL) {
            let tag = entry.d_tag(LE);
            let known = match tag {
                DT_RELA => &mut vaddr,
                DT_RELASZ => &mut size,
                DT_RELAENT => &mut entry_size,
                DT_NEEDED => return Err(Rejected::ElfNeedsLibrary),
                tag if REFUSED.contains(&tag) => return Err(Rejected::ElfDynamicTag { tag: tag.0 }),
                _ => continue,
            };
            if known.replace(entry.d_val(LE)).is_some() {
                return Err(Rejected::ElfDynamicTag { tag: tag.0 });
            }
        }
        match (vaddr, size, entry_size) {
            (None, None, None) => Ok(None),
            (Some(vaddr), Some(size), Some(entry_size)) => Ok(Some(Table {
                vaddr,
                size,
                entry_size,
            })),
            (vaddr, size, entry_size) => {
                let present = vaddr.or(size).or(entry_size).unwrap_or_default();
                Err(unfit("description", present))
            }
        }
    }
}

fn check_relocation(
    index: usize,
    entry: &Rela64<LE>,
    segments: &[Segment],
    span: u64,
) -> Result<Relocation, Rejected> {
    let kind = entry.r_type(LE, false);
    if kind != R_X86_64_RELATIVE || entry.r_sym(LE, false) != 0 {
        return Err(Rejected::RelocationKind { index, kind: kind.0 });
    }
    let vaddr = entry.r_offset(LE);
    let writable =
        |segment: &Segment| segment.permissions == Permissions::RW && segment.holds(vaddr, TARGET_SIZE);
    if !segments.iter().any(writable) {
        return Err(Rejected::RelocationTarget { index, vaddr });
    }
    // The end itself is allowed: it is what a pointer past the last object has.
    let addend = entry.r_addend(LE);
    let inside = u64::try_from(addend).ok().filter(|addend| *addend <= span);
    inside
        .map(|addend| Relocation { vaddr, addend })
        .ok_or(Rejected::RelocationAddend { index, addend })
}

/// The bytes that the file has for `size` bytes from `vaddr`, if one segment has all of them.
fn in_file<'a>(image: &'a [u8], segments: &[Segment], vaddr: u64, size: u64) -> Option<&'a [u8]> {
    let segment = segments.iter().find(|segment| segment.holds(vaddr, size))?;
    let start = offset_of(segment, vaddr)?;
    let end = start.checked_add(size)?;
    let file_end = segment.file_offset.checked_add(segment.file_size)?;
    match end <= file_end {
        true => slice(image, start..end),
        false => None,
    }
}

/// The offset in the file of an address of a segment.
fn offset_of(segment: &Segment, vaddr: u64) -> Option<u64> {
    vaddr.checked_sub(segment.vaddr)?.checked_add(segment.file_offset)
}

fn unfit(field: &'static str, value: u64) -> Rejected {
    Rejected::RelocationTable { field, value }
}

/// What a loader would have to act on and ours does not.
const REFUSED: [DynamicTag; 9] = [
    DT_REL,
    DT_RELR,
    DT_JMPREL,
    DT_TEXTREL,
    DT_INIT,
    DT_PREINIT_ARRAY,
    DT_ANDROID_REL,
    DT_ANDROID_RELA,
    DT_ANDROID_RELR,
];
