//! Four-level page tables, built once on the host before the first instruction and never edited after.
//!
//! The tables lie in the system slot, after the supervisor's three pages, and are mapped nowhere in the cell.
//! Accessed and dirty bits are set in advance. (AMD64 Architecture Programmer's Manual, volume 2, §5.3.)

use crate::error::HvError;

/// What a mapping allows. Nothing can be both writable and executable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Ring 3 may read.
    Read,
    /// Ring 3 may read and write.
    ReadWrite,
    /// Ring 3 may read and execute.
    ReadExecute,
    /// Ring 0 may read.
    SystemRead,
    /// Ring 0 may read and write.
    SystemReadWrite,
    /// Ring 0 may read and execute.
    SystemExecute,
}

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;

/// Page tables under construction, as 512-entry tables; table 0 is the root.
#[derive(Debug)]
pub struct PageTables {
    base: u64,
    tables: Vec<[u64; 512]>,
}

impl PageTables {
    /// Starts with an empty root that will lie at guest-physical `base`.
    pub fn new(base: u64) -> PageTables {
        PageTables {
            base,
            tables: vec![[0; 512]],
        }
    }

    /// Guest-physical address of the root.
    pub fn root(&self) -> u64 {
        self.base
    }

    /// Maps `length` bytes at virtual `va` to guest-physical `gpa`; all three are multiples of the page size. Where both
    /// addresses and the length allow it, 2 MiB pages are used.
    ///
    /// # Errors
    /// [`HvError::Layout`] for an unaligned, non-canonical or already mapped address.
    pub fn map(&mut self, va: u64, gpa: u64, length: u64, access: Access) -> Result<(), HvError> {
        if !(va | gpa | length).is_multiple_of(PAGE) {
            return Err(HvError::Layout("unaligned mapping"));
        }
        let end = va
            .checked_add(length)
            .ok_or(HvError::Layout("mapping wraps around"))?;
        gpa.checked_add(length)
            .ok_or(HvError::Layout("mapping wraps around"))?;
        let mut at = va;
        while at < end {
            let target = gpa + (at - va);
            let large = (at | target).is_multiple_of(LARGE_PAGE) && end - at >= LARGE_PAGE;
            self.map_one(at, target, large, access)?;
            at += if large { LARGE_PAGE } else { PAGE };
        }
        Ok(())
    }

    /// How many bytes they have.
    pub fn length(&self) -> u64 {
        self.tables.len() as u64 * PAGE
    }

    /// The tables' bytes, to be written at the base.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.tables
            .iter()
            .flatten()
            .flat_map(|entry| entry.to_le_bytes())
            .collect()
    }

    fn map_one(&mut self, va: u64, gpa: u64, large: bool, access: Access) -> Result<(), HvError> {
        let sign = va >> 47;
        if sign != 0 && sign != 0x1_ffff {
            return Err(HvError::Layout("non-canonical address"));
        }
        let index = |level: u32| usize::try_from((va >> (12 + 9 * level)) & 0x1ff).unwrap_or(0);
        let last = u32::from(large);
        let mut table = 0;
        for level in ((last + 1)..4).rev() {
            table = self.child(table, index(level))?;
        }
        let leaf = PRESENT
            | ACCESSED
            | DIRTY
            | if large { LARGE } else { 0 }
            | match access {
                Access::Read => USER | NO_EXECUTE,
                Access::ReadWrite => USER | WRITABLE | NO_EXECUTE,
                Access::ReadExecute => USER,
                Access::SystemRead => NO_EXECUTE,
                Access::SystemReadWrite => WRITABLE | NO_EXECUTE,
                Access::SystemExecute => 0,
            };
        let entry = self.entry(table, index(last))?;
        if *entry != 0 {
            return Err(HvError::Layout("address mapped twice"));
        }
        *entry = gpa | leaf;
        Ok(())
    }

    /// The table below an entry, made when there is none. Rights are kept at the leaves alone.
    fn child(&mut self, table: usize, index: usize) -> Result<usize, HvError> {
        let present = *self.entry(table, index)?;
        if present & LARGE != 0 {
            return Err(HvError::Layout("address mapped twice"));
        }
        if present != 0 {
            let offset = ((present & ADDRESS) - self.base) / PAGE;
            return usize::try_from(offset).map_err(|_| HvError::Layout("table out of range"));
        }
        let child = self.tables.len();
        self.tables.push([0; 512]);
        let address = self.base + child as u64 * PAGE;
        *self.entry(table, index)? = address | PRESENT | WRITABLE | USER | ACCESSED;
        Ok(child)
    }

    fn entry(&mut self, table: usize, index: usize) -> Result<&mut u64, HvError> {
        self.tables
            .get_mut(table)
            .and_then(|table| table.get_mut(index))
            .ok_or(HvError::Layout("table out of range"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks the tables as the processor does: the leaf for `va`, or None.
    fn walk(tables: &PageTables, va: u64) -> Option<(u64, u64)> {
        let mut table = 0usize;
        for level in (0..4u32).rev() {
            let entry =
                tables.tables[table][usize::try_from((va >> (12 + 9 * level)) & 0x1ff).expect("small")];
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 0 || entry & LARGE != 0 {
                let mask = (1u64 << (12 + 9 * level)) - 1;
                return Some(((entry & ADDRESS & !mask) | (va & mask), entry));
            }
            table = usize::try_from(((entry & ADDRESS) - tables.base) / PAGE).expect("small");
        }
        None
    }

    #[test]
    fn maps_small_and_large_pages_to_the_right_place() {
        let mut tables = PageTables::new(0x10_0000);
        let (va, gpa) = (0x7f00_001f_f000, 0x1_001f_f000);
        tables
            .map(va, gpa, (4 << 20) + 2 * PAGE, Access::ReadWrite)
            .expect("maps");
        for offset in [0, PAGE, PAGE + (2 << 20), (4 << 20) + 4095] {
            let (found, entry) = walk(&tables, va + offset).expect("is mapped");
            assert_eq!(found, gpa + offset);
            assert_eq!(
                entry & (WRITABLE | USER | NO_EXECUTE),
                WRITABLE | USER | NO_EXECUTE
            );
        }
        assert!(walk(&tables, va - 1).is_none());
        assert!(walk(&tables, va + (4 << 20) + 2 * PAGE).is_none());
    }

    #[test]
    fn refuses_to_map_an_address_twice() {
        let mut tables = PageTables::new(0x10_0000);
        tables
            .map(0x20_0000, 0x40_0000, 2 << 20, Access::Read)
            .expect("maps");
        assert!(matches!(
            tables.map(0x20_1000, 0, PAGE, Access::Read),
            Err(HvError::Layout(_))
        ));
    }

    #[test]
    fn no_access_is_writable_and_executable() {
        for access in [
            Access::Read,
            Access::ReadWrite,
            Access::ReadExecute,
            Access::SystemRead,
            Access::SystemReadWrite,
            Access::SystemExecute,
        ] {
            let mut tables = PageTables::new(0);
            tables.map(PAGE, PAGE, PAGE, access).expect("maps");
            let (_, entry) = walk(&tables, PAGE).expect("is mapped");
            assert!(entry & WRITABLE == 0 || entry & NO_EXECUTE != 0, "{access:?}");
        }
    }
}
