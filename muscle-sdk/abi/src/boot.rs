//! The boot block: what the VMM tells a muscle before its first instruction.
//!
//! `rdi` holds its address at entry. It lies in pages that the muscle may read but not write.
//!
//! ```text
//!   offset  size  field
//!        0     8  magic "REFBOOT\x01"
//!        8     4  abi version            12   4  size of this block
//!       16     4  style                  20   4  flags
//!       24     8  doorbell page (va)     32   8  vsock register page (va)
//!       40     8  window (va)            48   8  window (gpa)    56  8  window length
//!       64     8  heap (va)              72   8  heap (gpa)
//!       80     8  heap length now        88   8  heap length at most
//!       96     8  stack top (va)        104   8  stack length
//!      112     8  image base (va)       120   8  image length
//!      128     8  arguments (va)        136   8  arguments length
//!      144     8  grants (va)           152   8  number of grants
//!      160     8  own CID               168   8  TSC frequency in kHz, 0 without a fine clock
//!      176    32  random seed, zeros without a `random` grant
//! ```

/// First eight bytes of a boot block.
pub const MAGIC: [u8; 8] = *b"REFBOOT\x01";

/// Size of the boot block in bytes.
pub const BOOT_SIZE: usize = 208;
const BOOT_SIZE_FIELD: u32 = 208;
/// Where the seed is, which is last.
pub const SEED_OFFSET: usize = 176;

/// Set in [`BootInfo::flags`] when the VMM has already brought the vsock device to `DRIVER_OK`, with its
/// queues at the places given in [`crate::channel`]; the driver may then skip the virtio handshake.
pub const FLAG_DEVICE_READY: u32 = 1 << 0;

/// Set in [`BootInfo::flags`] when the VMM knows the doorbell [`crate::doorbell::READY`].
pub const FLAG_READY_BELL: u32 = 1 << 1;

/// How a muscle is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Style {
    /// Runs `main` once and exits with a code.
    Command = 0,
    /// Answers calls of its exported functions until it is dropped.
    Reactor = 1,
}

impl Style {
    /// The style with this number, if there is one.
    pub const fn from_number(number: u32) -> Option<Style> {
        match number {
            0 => Some(Style::Command),
            1 => Some(Style::Reactor),
            _ => None,
        }
    }
}

/// The boot block, decoded. Addresses ending in `va` are virtual, in `gpa` guest-physical; lengths are bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BootInfo {
    /// [`crate::ABI_VERSION`] of the VMM.
    pub abi_version: u32,
    /// A [`Style`] as its number.
    pub style: u32,
    /// Bits, see [`FLAG_DEVICE_READY`].
    pub flags: u32,
    /// Page of control doorbells, see [`crate::doorbell`].
    pub doorbell_va: u64,
    /// Page of virtio-mmio registers of the vsock device.
    pub vsock_va: u64,
    /// Window shared with the device: mailbox, queues and packet buffers, see [`crate::channel`].
    pub window_va: u64,
    /// Guest-physical address of the window, for descriptors.
    pub window_gpa: u64,
    /// Length of the window.
    pub window_len: u64,
    /// Start of the heap.
    pub heap_va: u64,
    /// Guest-physical address of the heap, contiguous for all of `heap_max`.
    pub heap_gpa: u64,
    /// Bytes of heap that have memory behind them at entry.
    pub heap_len: u64,
    /// Bytes of heap at most, reached by the `GROW` doorbell.
    pub heap_max: u64,
    /// One past the highest byte of the stack.
    pub stack_top: u64,
    /// Length of the stack.
    pub stack_len: u64,
    /// Address that was added to the image's own addresses.
    pub image_base: u64,
    /// Length of the image from its base.
    pub image_len: u64,
    /// Argument block, see [`Strings`].
    pub args_va: u64,
    /// Length of the argument block.
    pub args_len: u64,
    /// Table of grants, see [`crate::capability::GrantEntry`].
    pub grants_va: u64,
    /// Number of entries in the table of grants.
    pub grants_count: u64,
    /// This cell's context id.
    pub cid: u64,
    /// Ticks of the time-stamp counter in a millisecond, or 0 when no fine clock is granted.
    pub tsc_khz: u64,
    /// Random bytes, or zeros when no `random` capability is granted.
    pub seed: [u8; 32],
}

impl BootInfo {
    /// Writes the block as bytes.
    pub fn to_bytes(&self) -> [u8; BOOT_SIZE] {
        let mut out = [0u8; BOOT_SIZE];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&self.abi_version.to_le_bytes());
        out[12..16].copy_from_slice(&BOOT_SIZE_FIELD.to_le_bytes());
        out[16..20].copy_from_slice(&self.style.to_le_bytes());
        out[20..24].copy_from_slice(&self.flags.to_le_bytes());
        for (index, word) in self.words().iter().enumerate() {
            let at = 24 + index * 8;
            out[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        out[SEED_OFFSET..].copy_from_slice(&self.seed);
        out
    }

    /// Reads a block, or `None` when the magic or the size is not this version's.
    pub fn from_bytes(bytes: &[u8; BOOT_SIZE]) -> Option<BootInfo> {
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let word = |index: usize| {
            let at = 24 + index * 8;
            u64::from(half(at)) | (u64::from(half(at + 4)) << 32)
        };
        if bytes[0..8] != MAGIC || half(12) != BOOT_SIZE_FIELD {
            return None;
        }
        let mut seed = [0u8; 32];
        seed.copy_from_slice(&bytes[SEED_OFFSET..]);
        Some(BootInfo {
            abi_version: half(8),
            style: half(16),
            flags: half(20),
            doorbell_va: word(0),
            vsock_va: word(1),
            window_va: word(2),
            window_gpa: word(3),
            window_len: word(4),
            heap_va: word(5),
            heap_gpa: word(6),
            heap_len: word(7),
            heap_max: word(8),
            stack_top: word(9),
            stack_len: word(10),
            image_base: word(11),
            image_len: word(12),
            args_va: word(13),
            args_len: word(14),
            grants_va: word(15),
            grants_count: word(16),
            cid: word(17),
            tsc_khz: word(18),
            seed,
        })
    }

    fn words(&self) -> [u64; 19] {
        [
            self.doorbell_va,
            self.vsock_va,
            self.window_va,
            self.window_gpa,
            self.window_len,
            self.heap_va,
            self.heap_gpa,
            self.heap_len,
            self.heap_max,
            self.stack_top,
            self.stack_len,
            self.image_base,
            self.image_len,
            self.args_va,
            self.args_len,
            self.grants_va,
            self.grants_count,
            self.cid,
            self.tsc_khz,
        ]
    }
}

/// The argument block: `count: u32`, then for each string `length: u32` and its bytes; the arguments
/// first, then, in a second run of the same form, the environment as `KEY=value`.
#[derive(Debug, Clone, Copy)]
pub struct Strings<'a> {
    left: u32,
    rest: &'a [u8],
}

impl<'a> Strings<'a> {
    /// Starts reading a run of strings at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Option<Strings<'a>> {
        let (count, rest) = bytes.split_first_chunk::<4>()?;
        Some(Strings {
            left: u32::from_le_bytes(*count),
            rest,
        })
    }

    /// Skips what is left of this run and starts the next.
    pub fn next_run(mut self) -> Option<Strings<'a>> {
        while self.left > 0 {
            self.next()?;
        }
        Strings::new(self.rest)
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (string, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_block_survives_a_round_trip() {
        let info = BootInfo {
            abi_version: 1,
            style: 1,
            heap_max: 77,
            tsc_khz: 3,
            seed: [9; 32],
            ..BootInfo::default()
        };
        assert_eq!(BootInfo::from_bytes(&info.to_bytes()), Some(info));
    }

    #[test]
    fn boot_block_with_another_magic_is_refused() {
        let mut bytes = BootInfo::default().to_bytes();
        bytes[7] = 2;
        assert_eq!(BootInfo::from_bytes(&bytes), None);
    }

    #[test]
    fn strings_read_two_runs_and_stop_at_a_lie() {
        let block = [
            2, 0, 0, 0, 1, 0, 0, 0, b'a', 2, 0, 0, 0, b'b', b'c', 1, 0, 0, 0, 9, 0, 0, 0, b'x',
        ];
        let mut args = Strings::new(&block).expect("has a count");
        assert_eq!(args.next(), Some(&b"a"[..]));
        assert_eq!(args.next(), Some(&b"bc"[..]));
        assert_eq!(args.next(), None);
        let mut env = Strings::new(&block)
            .and_then(Strings::next_run)
            .expect("has a second run");
        assert_eq!(env.next(), None, "a length past the end ends the run");
    }
}
