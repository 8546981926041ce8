//! What a cell is made for: style, arguments, limits, grants as the muscle will see them.

use std::time::Duration;

use muscle_abi::PAGE_SIZE;
use muscle_abi::boot::Style;
use muscle_abi::capability::GrantEntry;
use referee_vsock::{Cid, VsockLimits};

use crate::ring::RingEnd;

/// Everything a cell gets besides its image.
#[derive(Debug, Clone)]
pub struct CellSpec {
    /// How the muscle is entered.
    pub style: Style,
    /// Arguments and environment as bytes, see [`muscle_abi::boot::Strings`].
    pub argument_block: Vec<u8>,
    /// Limits on memory and time.
    pub limits: CellLimits,
    /// The cell's address on its channel.
    pub cid: Cid,
    /// Bounds on its connections.
    pub vsock: VsockLimits,
    /// The table of grants.
    pub grants: Vec<GrantEntry>,
    /// Random bytes for the muscle, with a `random` grant.
    pub seed: Option<[u8; 32]>,
    /// What of the time the muscle may know.
    pub clock: ClockAccess,
    /// Ends of rings: one for each grant of one, in the grants' order.
    pub rings: Vec<RingEnd>,
    /// Whether the cell will have further lives, see [`crate::LoadedCell::reset`].
    pub resettable: bool,
}

impl CellSpec {
    /// Whether what a muscle is told at its start has nothing that only one life has: no grants, whose handles are random, and no seed.
    pub(crate) fn is_the_same_in_every_life(&self) -> bool {
        self.grants.is_empty() && self.seed.is_none()
    }

    /// Whether a muscle is told the same at its start, in the same layout.
    pub(crate) fn tells_the_same(&self, other: &CellSpec) -> bool {
        self.style == other.style
            && self.argument_block == other.argument_block
            && self.cid == other.cid
            && self.grants == other.grants
            && self.seed == other.seed
            && self.clock == other.clock
    }
}

/// What of the time a muscle may know without asking the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockAccess {
    /// Nothing, and it may not park until a time.
    None,
    /// It may park until a time.
    Coarse,
    /// It may read the time-stamp counter too.
    Fine,
}

/// Limits on memory and time; all exact.
#[derive(Debug, Clone, Copy)]
pub struct CellLimits {
    /// All memory the muscle can reach, in bytes: image, stack, boot pages, window and heap,
    /// and those parts of rings that it can write.
    pub memory_bytes: u64,
    /// The stack's part of it.
    pub stack_bytes: u64,
    /// Wall-clock time from its first instruction.
    pub deadline: Option<Duration>,
    /// CPU time, the host's work for it included.
    pub cpu: Option<Duration>,
    /// Largest RPC frame in either direction, name and payload, in bytes.
    pub frame_bytes: u32,
}

/// Rounds up to whole pages.
pub(crate) fn pages(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE_SIZE).saturating_mul(PAGE_SIZE)
}
