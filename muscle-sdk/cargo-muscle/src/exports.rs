//! The names of a muscle's exported functions, as its program lists them.

use object::LittleEndian as LE;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};

/// The section where `#[muscle::export]` puts each name, followed by a zero byte.
const SECTION: &[u8] = b"muscle_exports";

/// Lists the exported functions of a linked program; none when it has no such section.
pub fn exports_of(elf: &[u8]) -> Vec<String> {
    let names = FileHeader64::<LE>::parse(elf).and_then(|header| {
        let sections = header.sections(LE, elf)?;
        match sections.section_by_name(LE, SECTION) {
            Some((_, section)) => section.data(LE, elf),
            None => Ok(&[]),
        }
    });
    names
        .unwrap_or_default()
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}
