//! The part `symbols`: names of functions by address, for backtraces.
//!
//! ```text
//!   0   8  magic "MSYMBOL1"
//!   8   4  number of entries      12  4  bytes of all names together
//!  16  24  entry: vaddr 8, size 8, offset of its name 4, bytes of its name 4; sorted, without overlap
//!   …      names, UTF-8
//! ```
//!
//! The table is only opened for a fault report; [`SymbolTable::parse`] checks all of it, so that looking up
//! cannot fail.

use crate::rejected::Rejected;

const MAGIC: [u8; 8] = *b"MSYMBOL1";
const HEADER_SIZE: usize = 16;
const ENTRY_SIZE: usize = 24;
/// Most bytes of one name; longer ones are cut when a table is made.
const NAME_MAX: usize = 1024;

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Symbol {
    /// Its address from the image's base.
    pub vaddr: u64,
    /// Its bytes.
    pub size: u64,
    /// Its name as people read it.
    pub name: String,
}

/// A checked table of symbols.
#[derive(Debug, Clone, Copy)]
pub struct SymbolTable<'a> {
    entries: &'a [[u8; ENTRY_SIZE]],
    names: &'a str,
}

struct Entry {
    vaddr: u64,
    size: u64,
    name_offset: u32,
    name_size: u32,
}

impl<'a> SymbolTable<'a> {
    /// Checks a table.
    ///
    /// # Errors
    /// [`Rejected::SymbolsMalformed`] with the field and its offset.
    pub fn parse(bytes: &'a [u8]) -> Result<SymbolTable<'a>, Rejected> {
        let malformed = |field, offset| Rejected::SymbolsMalformed { field, offset };
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_SIZE>()
            .ok_or_else(|| malformed("header", bytes.len()))?;
        let [m0, m1, m2, m3, m4, m5, m6, m7, c0, c1, c2, c3, n0, n1, n2, n3] = *header;
        if [m0, m1, m2, m3, m4, m5, m6, m7] != MAGIC {
            return Err(malformed("magic", 0));
        }
        let entries_size = usize::try_from(u32::from_le_bytes([c0, c1, c2, c3]))
            .ok()
            .and_then(|count| count.checked_mul(ENTRY_SIZE))
            .ok_or_else(|| malformed("number of entries", 8))?;
        let (entries, names) = rest
            .split_at_checked(entries_size)
            .ok_or_else(|| malformed("number of entries", 8))?;
        if usize::try_from(u32::from_le_bytes([n0, n1, n2, n3])) != Ok(names.len()) {
            return Err(malformed("bytes of names", 12));
        }
        let names_offset = bytes.len() - names.len();
        let names = std::str::from_utf8(names)
            .map_err(|error| malformed("names", names_offset.saturating_add(error.valid_up_to())))?;
        // The size is a multiple of an entry's, so that nothing is left over.
        let (entries, _) = entries.as_chunks::<ENTRY_SIZE>();
        let table = SymbolTable { entries, names };
        let mut end = 0;
        for (index, entry) in entries.iter().enumerate() {
            let offset = HEADER_SIZE.saturating_add(index.saturating_mul(ENTRY_SIZE));
            let entry = Entry::read(entry);
            let past = entry.vaddr.checked_add(entry.size).filter(|_| entry.size > 0);
            let past = past.ok_or_else(|| malformed("size", offset))?;
            if entry.vaddr < end {
                return Err(malformed("vaddr", offset));
            }
            let name = table.name(&entry).ok_or_else(|| malformed("name", offset))?;
            if name.len() > NAME_MAX || name.chars().any(char::is_control) {
                return Err(malformed("name", offset));
            }
            end = past;
        }
        Ok(table)
    }

    /// Finds the function that holds an address, and how far into it the address is.
    pub fn lookup(&self, vaddr: u64) -> Option<(&'a str, u64)> {
        let after = self
            .entries
            .partition_point(|entry| Entry::read(entry).vaddr <= vaddr);
        let entry = Entry::read(self.entries.get(after.checked_sub(1)?)?);
        let offset = vaddr.checked_sub(entry.vaddr)?;
        match offset < entry.size {
            true => Some((self.name(&entry)?, offset)),
            false => None,
        }
    }

    /// How many functions it names.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it names none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn name(&self, entry: &Entry) -> Option<&'a str> {
        let start = usize::try_from(entry.name_offset).ok()?;
        let end = start.checked_add(usize::try_from(entry.name_size).ok()?)?;
        self.names.get(start..end)
    }
}

impl Entry {
    fn read(bytes: &[u8; ENTRY_SIZE]) -> Entry {
        let [v0, v1, v2, v3, v4, v5, v6, v7, rest @ ..] = *bytes;
        let [s0, s1, s2, s3, s4, s5, s6, s7, rest @ ..] = rest;
        let [o0, o1, o2, o3, n0, n1, n2, n3] = rest;
        Entry {
            vaddr: u64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7]),
            size: u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
            name_offset: u32::from_le_bytes([o0, o1, o2, o3]),
            name_size: u32::from_le_bytes([n0, n1, n2, n3]),
        }
    }
}

/// Makes a table of symbols in any order.
///
/// Of symbols at one address the first in the order of names stays; one that reaches into the next is cut;
/// one without a size reaches to the next. Gives `None` when there are more than 2^32 bytes of names.
pub fn encode_symbols(mut symbols: Vec<Symbol>) -> Option<Vec<u8>> {
    symbols.sort_by(|left, right| (left.vaddr, &left.name).cmp(&(right.vaddr, &right.name)));
    symbols.dedup_by_key(|symbol| symbol.vaddr);
    let mut entries = Vec::new();
    let mut names = String::new();
    let mut count = 0u32;
    let next = symbols
        .iter()
        .skip(1)
        .map(|symbol| symbol.vaddr)
        .chain([u64::MAX]);
    for (symbol, next) in symbols.iter().zip(next) {
        let room = next - symbol.vaddr;
        let size = match symbol.size {
            // A last symbol without a size is its one address.
            0 if next == u64::MAX => 1,
            0 => room,
            size => size.min(room),
        };
        if size == 0 {
            continue;
        }
        let offset = u32::try_from(names.len()).ok()?;
        names.extend(printable(&symbol.name));
        let name_size = u32::try_from(names.len()).ok()?.checked_sub(offset)?;
        entries.extend(symbol.vaddr.to_le_bytes());
        entries.extend(size.to_le_bytes());
        entries.extend(offset.to_le_bytes());
        entries.extend(name_size.to_le_bytes());
        count = count.checked_add(1)?;
    }
    let mut table = MAGIC.to_vec();
    table.extend(count.to_le_bytes());
    table.extend(u32::try_from(names.len()).ok()?.to_le_bytes());
    table.extend(entries);
    table.extend(names.bytes());
    Some(table)
}

/// The characters of a name that may stand in a report, up to the longest name.
fn printable(name: &str) -> impl Iterator<Item = char> {
    let mut room = NAME_MAX;
    name.chars()
        .filter(|sign| !sign.is_control())
        .take_while(move |sign| {
            let left = room.checked_sub(sign.len_utf8());
            room = left.unwrap_or(0);
            left.is_some()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(vaddr: u64, size: u64, name: &str) -> Symbol {
        Symbol {
            vaddr,
            size,
            name: name.to_owned(),
        }
    }

    fn example() -> Vec<u8> {
        encode_symbols(vec![
            symbol(0x2000, 0, "last"),
            symbol(0x1000, 0x10, "first"),
            symbol(0x1000, 0x10, "other"),
            symbol(0x1800, 0x9000, "long\n"),
            symbol(0x1100, 0, "unsized"),
        ])
        .expect("fits")
    }

    #[test]
    fn finds_a_function_by_any_of_its_addresses() {
        let bytes = example();
        let table = SymbolTable::parse(&bytes).expect("a table");
        assert_eq!(table.len(), 4);
        assert_eq!(table.lookup(0xfff), None);
        assert_eq!(table.lookup(0x1000), Some(("first", 0)));
        assert_eq!(table.lookup(0x100f), Some(("first", 15)));
        assert_eq!(table.lookup(0x1010), None);
        assert_eq!(table.lookup(0x17ff), Some(("unsized", 0x6ff)));
        assert_eq!(table.lookup(0x1fff), Some(("long", 0x7ff)));
        assert_eq!(table.lookup(0x2000), Some(("last", 0)));
        assert_eq!(table.lookup(0x2001), None);
        assert_eq!(table.lookup(u64::MAX), None);
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let bytes = encode_symbols(Vec::new()).expect("fits");
        assert!(SymbolTable::parse(&bytes).expect("a table").is_empty());
    }

    #[test]
    fn refuses_every_truncation_and_a_byte_more() {
        let bytes = example();
        for end in 0..bytes.len() {
            assert!(SymbolTable::parse(&bytes[..end]).is_err(), "cut at {end}");
        }
        let longer = [&bytes[..], b"x"].concat();
        assert_eq!(
            SymbolTable::parse(&longer).err(),
            Some(Rejected::SymbolsMalformed {
                field: "bytes of names",
                offset: 12
            })
        );
    }

    #[test]
    fn each_rule_has_its_own_refusal() {
        let broken = |at: usize, value: u8| {
            let mut bytes = example();
            bytes[at] = value;
            match SymbolTable::parse(&bytes) {
                Err(Rejected::SymbolsMalformed { field, offset }) => (field, offset),
                other => panic!("not refused: {other:?}"),
            }
        };
        assert_eq!(broken(0, b'X'), ("magic", 0));
        assert_eq!(broken(8, 99), ("number of entries", 8));
        assert_eq!(broken(12, 99), ("bytes of names", 12));
        assert_eq!(broken(HEADER_SIZE + 8, 0), ("size", HEADER_SIZE));
        assert_eq!(broken(HEADER_SIZE + 9, 0xff), ("vaddr", HEADER_SIZE + ENTRY_SIZE));
        assert_eq!(broken(HEADER_SIZE + 20, 0xff), ("name", HEADER_SIZE));
        let names = HEADER_SIZE + 4 * ENTRY_SIZE;
        assert_eq!(broken(names + 1, 0xff), ("names", names + 1));
        assert_eq!(broken(names, b'\n'), ("name", HEADER_SIZE));
    }
}
