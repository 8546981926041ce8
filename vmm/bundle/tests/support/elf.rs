//! A static-PIE ELF file of 624 bytes, and ways to spoil it.
//!
//! ```text
//!   0x000 ELF header, 0x040 program headers, 0x180 relocations      r--  0x0000
//!   0x200 code                                                      r-x  0x1200
//!   0x210 dynamic table, 0x250 data                                 rw-  0x2210
//! ```

/// Offsets of fields that tests change.
pub const PROGRAM_HEADERS: usize = 0x40;
pub const PROGRAM_HEADER_SIZE: usize = 56;
pub const RELOCATIONS: usize = 0x180;
pub const DYNAMIC: usize = 0x210;
pub const DATA: u64 = 0x2250;

/// Fields of a program header by their offset.
pub const P_TYPE: usize = 0;
pub const P_FLAGS: usize = 4;
pub const P_OFFSET: usize = 8;
pub const P_VADDR: usize = 16;
pub const P_FILESZ: usize = 32;
pub const P_MEMSZ: usize = 40;

/// The file.
pub fn small() -> Vec<u8> {
    let mut elf = Vec::new();
    elf.extend([0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    elf.extend([0; 8]);
    elf.extend(3u16.to_le_bytes()); // shared object
    elf.extend(62u16.to_le_bytes()); // x86-64
    elf.extend(1u32.to_le_bytes());
    elf.extend(0x1200u64.to_le_bytes()); // entry
    elf.extend(64u64.to_le_bytes()); // program headers
    elf.extend([0; 12]); // section headers and flags
    elf.extend(64u16.to_le_bytes());
    elf.extend(56u16.to_le_bytes());
    elf.extend(5u16.to_le_bytes());
    elf.extend([64, 0, 0, 0, 0, 0]);
    let mut program_header = |kind: u32, flags: u32, offset: u64, vaddr: u64, file: u64, memory: u64| {
        elf.extend(kind.to_le_bytes());
        elf.extend(flags.to_le_bytes());
        for word in [offset, vaddr, vaddr, file, memory, 0x1000] {
            elf.extend(word.to_le_bytes());
        }
    };
    program_header(1, 4, 0, 0, 0x200, 0x200);
    program_header(1, 5, 0x200, 0x1200, 0x10, 0x10);
    program_header(1, 6, 0x210, 0x2210, 0x60, 0x160);
    program_header(2, 6, 0x210, 0x2210, 0x40, 0x40);
    program_header(0x6474_e551, 6, 0, 0, 0, 0);
    elf.resize(RELOCATIONS, 0);
    for (vaddr, addend) in [(DATA, 0x1200i64), (DATA + 8, 0x3000)] {
        elf.extend(vaddr.to_le_bytes());
        elf.extend(8u64.to_le_bytes());
        elf.extend(addend.to_le_bytes());
    }
    elf.resize(0x200, 0);
    elf.extend([0xcc; 16]);
    for (tag, value) in [(7u64, RELOCATIONS as u64), (8, 48), (9, 24), (0, 0)] {
        elf.extend(tag.to_le_bytes());
        elf.extend(value.to_le_bytes());
    }
    elf.resize(0x270, 0);
    elf
}

/// The file with bytes at an offset replaced.
pub fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let mut elf = small();
    elf[offset..offset + bytes.len()].copy_from_slice(bytes);
    elf
}

/// The file with a field of a program header replaced.
pub fn with_field(index: usize, field: usize, bytes: &[u8]) -> Vec<u8> {
    with(PROGRAM_HEADERS + index * PROGRAM_HEADER_SIZE + field, bytes)
}
