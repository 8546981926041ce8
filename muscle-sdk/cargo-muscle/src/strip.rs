//! Takes from an ELF file what is not loaded: symbols, debug information, comments.
//!
//! What is loaded keeps its place and every byte, but for the ELF header's fields that say where section headers
//! are. Headers of the loaded sections stay, so that `objdump` and `gdb` still find code and data.
//!
//! ```text
//!   0 … end of the last loaded byte │ section names │ section headers
//! ```

use std::collections::HashMap;

use object::elf::{
    FileHeader64, SHF_ALLOC, SHF_INFO_LINK, SHT_RELA, SHT_STRTAB, SectionHeader64, SymbolSection,
};
use object::pod::{bytes_of, from_bytes};
use object::read::elf::{FileHeader as _, ProgramHeader as _, SectionHeader as _};
use object::{LittleEndian as LE, U16, U32, U64};

/// Strips an ELF file, or gives `None` when its headers cannot be followed.
pub fn strip(elf: &[u8]) -> Option<Vec<u8>> {
    let header = FileHeader64::<LE>::parse(elf).ok()?;
    let program_headers = header.program_headers(LE, elf).ok()?;
    let sections = header.sections(LE, elf).ok()?;
    let table_end = header
        .e_phoff(LE)
        .checked_add(u64::try_from(size_of_val(program_headers)).ok()?)?;
    let mut end = table_end.max(size_of::<FileHeader64<LE>>() as u64);
    for program_header in program_headers {
        end = end.max(
            program_header
                .p_offset(LE)
                .checked_add(program_header.p_filesz(LE))?,
        );
    }
    let mut out = elf.get(..usize::try_from(end).ok()?)?.to_vec();

    let kept: Vec<_> = sections
        .enumerate()
        .filter(|(_, section)| section.sh_flags(LE).contains(SHF_ALLOC))
        .collect();
    let new_index: HashMap<u32, u32> = kept
        .iter()
        .zip(1u32..)
        .filter_map(|((old, _), new)| Some((u32::try_from(old.0).ok()?, new)))
        .collect();
    let moved = |old: u32| new_index.get(&old).copied().unwrap_or(0);
    let mut names = vec![0u8];
    let mut headers = vec![empty_section()?];
    for (_, section) in &kept {
        let mut copy = **section;
        copy.sh_name = U32::new(LE, u32::try_from(names.len()).ok()?);
        names.extend(sections.section_name(LE, section).ok()?);
        names.push(0);
        copy.sh_link = U32::new(LE, moved(section.sh_link(LE)));
        if section.sh_flags(LE).contains(SHF_INFO_LINK) || section.sh_type(LE) == SHT_RELA {
            copy.sh_info = U32::new(LE, moved(section.sh_info(LE)));
        }
        headers.push(copy);
    }
    let own_name = u32::try_from(names.len()).ok()?;
    names.extend(b".shstrtab\0");
    let names_offset = u64::try_from(out.len()).ok()?;
    let mut own = empty_section()?;
    own.sh_name = U32::new(LE, own_name);
    own.sh_type = U32::new(LE, SHT_STRTAB);
    own.sh_offset = U64::new(LE, names_offset);
    own.sh_size = U64::new(LE, u64::try_from(names.len()).ok()?);
    own.sh_addralign = U64::new(LE, 1);
    headers.push(own);

    out.extend(names);
    out.resize(out.len().checked_next_multiple_of(8)?, 0);
    let mut header = *header;
    header.e_shoff = U64::new(LE, u64::try_from(out.len()).ok()?);
    header.e_shnum = U16::new(LE, u16::try_from(headers.len()).ok()?);
    header.e_shstrndx = U16::new(LE, SymbolSection(u16::try_from(headers.len() - 1).ok()?));
    headers.iter().for_each(|section| out.extend(bytes_of(section)));
    out.get_mut(..size_of::<FileHeader64<LE>>())?
        .copy_from_slice(bytes_of(&header));
    Some(out)
}

/// A section header of zeros.
fn empty_section() -> Option<SectionHeader64<LE>> {
    let (section, _) = from_bytes(&[0u8; size_of::<SectionHeader64<LE>>()]).ok()?;
    Some(*section)
}
