//! Numbers of the boot block and the ABI as sizes in memory.

/// A 64-bit number as a size: the same on every processor that a cell has.
#[allow(clippy::cast_possible_truncation)]
pub(crate) const fn size(value: u64) -> usize {
    value as usize
}

const _: () = assert!(usize::BITS == 64, "a muscle is a 64-bit program");
