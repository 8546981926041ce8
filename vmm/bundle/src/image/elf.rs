//! The ELF header and the program headers.

use object::LittleEndian as LE;
use object::elf::{
    self, ELFOSABI_GNU, ELFOSABI_SYSV, EM_X86_64, ET_DYN, FileHeader64, PF_X, PT_DYNAMIC, PT_GNU_EH_FRAME,
    PT_GNU_PROPERTY, PT_GNU_RELRO, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_NOTE, PT_NULL, PT_PHDR, PT_TLS,
    ProgramHeader64,
};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

use super::Relocation;
use super::dynamic::read_relocations;
use crate::limits::ReadLimits;
use crate::rejected::{Document, Rejected};
use crate::segments::{Permissions, SEGMENTS_MAX, Segment, check_segments};

/// Most program headers of all types.
const PROGRAM_HEADERS_MAX: usize = 32;

/// What an ELF file says about how it wants to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElfImage {
    /// Its `PT_LOAD` segments, in the order of addresses.
    pub segments: Vec<Segment>,
    /// Its relocations, all `R_X86_64_RELATIVE`.
    pub relocations: Vec<Relocation>,
    /// Address of its first instruction; not checked here.
    pub entry: u64,
    /// Bytes from address 0 to the end of its last page.
    pub span: u64,
}

impl ElfImage {
    /// Reads an ELF file and checks everything but its entry.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule.
    pub fn parse(image: &[u8], limits: &ReadLimits) -> Result<ElfImage, Rejected> {
        let header = read_header(image)?;
        if usize::from(header.e_phnum.get(LE)) > PROGRAM_HEADERS_MAX {
            return Err(Rejected::TooMany {
                document: Document::Bundle,
                field: "program headers",
                count: header.e_phnum.get(LE).into(),
                limit: PROGRAM_HEADERS_MAX as u64,
            });
        }
        let truncated = |_| Rejected::ElfTruncated {
            field: "program headers",
        };
        let program_headers = header.program_headers(LE, image).map_err(truncated)?;
        let mut segments = Vec::new();
        let mut dynamic = None;
        for (index, program_header) in program_headers.iter().enumerate() {
            match program_header.p_type(LE) {
                PT_LOAD => segments.push(read_segment(segments.len(), program_header)?),
                PT_DYNAMIC if dynamic.is_some() => return Err(Rejected::ElfDynamicPlace),
                PT_DYNAMIC => dynamic = Some(program_header),
                PT_INTERP => return Err(Rejected::ElfInterpreter { index }),
                PT_TLS => return Err(Rejected::ElfThreadLocal { index }),
                PT_GNU_STACK if program_header.p_flags(LE).contains(PF_X) => {
                    return Err(Rejected::ElfExecutableStack { index });
                }
                PT_NULL | PT_PHDR | PT_NOTE | PT_GNU_STACK | PT_GNU_EH_FRAME | PT_GNU_PROPERTY
                // Read-only after relocation, for a loader that wants to; ours keeps such pages writable.
                | PT_GNU_RELRO => {}
                kind => return Err(Rejected::ElfProgramHeader { index, kind: kind.0 }),
            }
        }
        if segments.len() as u64 > SEGMENTS_MAX {
            return Err(Rejected::TooMany {
                document: Document::Bundle,
                field: "segments",
                count: segments.len() as u64,
                limit: SEGMENTS_MAX,
            });
        }
        let span = check_segments(&segments, image.len() as u64, limits.image_span_bytes)?;
        let relocations = match dynamic {
            Some(dynamic) => read_relocations(image, dynamic, &segments, span, limits)?,
            None => Vec::new(),
        };
        Ok(ElfImage {
            segments,
            relocations,
            entry: header.e_entry(LE),
            span,
        })
    }
}

fn read_header(image: &[u8]) -> Result<&FileHeader64<LE>, Rejected> {
    let header = FileHeader64::<LE>::parse(image).map_err(|_| Rejected::ElfHeader {
        field: "identification",
    })?;
    let abi = header.e_ident().os_abi;
    let rules = [
        ("byte order", header.e_ident().data == elf::ELFDATA2LSB),
        ("operating system", abi == ELFOSABI_SYSV || abi == ELFOSABI_GNU),
        ("type", header.e_type(LE) == ET_DYN),
        ("machine", header.e_machine(LE) == EM_X86_64),
        ("version", header.e_version(LE) == u32::from(elf::EV_CURRENT.0)),
        (
            "size",
            usize::from(header.e_ehsize(LE)) == size_of::<FileHeader64<LE>>(),
        ),
        // A count of 0xffff would mean that the real one is in a section header.
        ("program header count", (1..0xffff).contains(&header.e_phnum(LE))),
        (
            "program header size",
            usize::from(header.e_phentsize(LE)) == size_of::<ProgramHeader64<LE>>(),
        ),
    ];
    match rules.into_iter().find(|(_, kept)| !kept) {
        Some((field, _)) => Err(Rejected::ElfHeader { field }),
        None => Ok(header),
    }
}

fn read_segment(index: usize, program_header: &ProgramHeader64<LE>) -> Result<Segment, Rejected> {
    Ok(Segment {
        vaddr: program_header.p_vaddr(LE),
        mem_size: program_header.p_memsz(LE),
        file_offset: program_header.p_offset(LE),
        file_size: program_header.p_filesz(LE),
        permissions: Permissions::from_bits(index, program_header.p_flags(LE).0.into())?,
    })
}
