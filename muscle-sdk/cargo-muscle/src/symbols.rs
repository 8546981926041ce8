//! The names of an ELF file's functions, as people read them.

use object::LittleEndian as LE;
use object::elf::{FileHeader64, SHN_ABS, SHT_SYMTAB, STT_FUNC, STT_NOTYPE};
use object::read::elf::{FileHeader as _, Sym as _};
use referee_bundle::{ElfImage, Permissions, Symbol};

/// Lists the functions in the executable segments of an ELF file; none when it has no symbol table.
///
/// Labels of assembly code count as functions; of two names at one address the table keeps one.
pub fn symbols_of(elf: &[u8], image: &ElfImage) -> Vec<Symbol> {
    let symbols = FileHeader64::<LE>::parse(elf)
        .and_then(|header| header.sections(LE, elf))
        .and_then(|sections| sections.symbols(LE, elf, SHT_SYMTAB));
    let Ok(symbols) = symbols else {
        return Vec::new();
    };
    let code = image
        .segments
        .iter()
        .filter(|segment| segment.permissions == Permissions::RX);
    let code: Vec<_> = code.collect();
    let mut functions = Vec::new();
    for symbol in symbols.iter() {
        let (vaddr, size) = (symbol.st_value(LE), symbol.st_size(LE));
        let named = symbol
            .name(LE, symbols.strings())
            .ok()
            .filter(|name| !name.is_empty());
        let Some(name) = named.and_then(|name| std::str::from_utf8(name).ok()) else {
            continue;
        };
        let is_code = matches!(symbol.st_type(), STT_FUNC | STT_NOTYPE)
            && code.iter().any(|segment| segment.holds(vaddr, size.max(1)));
        // A number that has a name is no place in the code, whatever it is.
        let is_place = !symbol.is_undefined(LE) && symbol.st_shndx(LE) != SHN_ABS;
        if is_code && is_place {
            functions.push(Symbol {
                vaddr,
                size,
                name: format!("{:#}", rustc_demangle::demangle(name)),
            });
        }
    }
    functions
}
