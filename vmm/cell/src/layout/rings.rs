//! Where the ends of rings lie: two parts each, with a guard between them.
//!
//! ```text
//!  guest-physical                       virtual (ring 3)
//!  0x0100_0000  first ring's parts      a random gigabyte more in the rest's band: for each ring a random gap of 1 to 16 pages, then
//!               second ring's parts …     first part │ second part      which of them may be written: muscle_abi::ring
//!  0x3f00_0000  (doorbells)
//! ```
//! A cell without rings has none of this, and no slot for it.

use muscle_abi::PAGE_SIZE;
use muscle_abi::ring::{Place, RINGS_MAX, Role};
use referee_hv::HvError;
use referee_hv::x86_64::paging::Access;

use super::{BAND, CONTROL_GPA, Dice, Region, RegionKind};

/// Guest-physical start of the first ring.
pub const RINGS_GPA: u64 = 0x0100_0000;

/// An end of a ring that a cell is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingSpan {
    /// Which end.
    pub role: Role,
    /// Bytes of its data.
    pub data: u64,
}

/// Where a cell has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingPlace {
    /// What the muscle is told.
    pub place: Place,
    /// Guest-physical start of the part that it may read.
    pub readable_gpa: u64,
    /// Guest-physical start of the part that it may write.
    pub writable_gpa: u64,
}

/// Draws places for rings in the band that begins at `band`, in a gigabyte that neither is nor touches the one that the rest has there;
/// their regions are added to `regions`.
pub(super) fn place(
    rings: &[RingSpan],
    band: u64,
    taken: u64,
    dice: &mut Dice<'_>,
    regions: &mut Vec<Region>,
) -> Result<Vec<RingPlace>, HvError> {
    if rings.len() > RINGS_MAX {
        return Err(HvError::Layout("more rings than a cell may have"));
    }
    if rings.is_empty() {
        return Ok(Vec::new());
    }
    // All of them together may run a little into the next one, which is not the band's end.
    let gigabyte = match dice.below(BAND - 4) {
        below if below + 1 < taken => below,
        above => above + 3,
    };
    let mut va = band + (gigabyte << 30) + (dice.below(256) << 21) + (dice.below(512) << 12);
    let mut gpa = RINGS_GPA;
    let mut places = Vec::with_capacity(rings.len());
    for RingSpan { role, data } in rings.iter().copied() {
        va += (1 + dice.below(16)) * PAGE_SIZE;
        let base = va;
        let (read_at, read) = role.readable(data);
        let (write_at, write) = role.writable(data);
        for (kind, at, length, access) in [
            (RegionKind::RingReadable, read_at, read, Access::Read),
            (RegionKind::RingWritable, write_at, write, Access::ReadWrite),
        ] {
            regions.push(Region {
                kind,
                va: base + role.place_of(at),
                gpa: gpa + at,
                length,
                access,
            });
        }
        places.push(RingPlace {
            place: Place { base, role, data },
            readable_gpa: gpa + read_at,
            writable_gpa: gpa + write_at,
        });
        va = base + role.place_of(read_at.max(write_at)) + if read_at > write_at { read } else { write };
        gpa += read + write;
    }
    match gpa <= CONTROL_GPA {
        true => Ok(places),
        false => Err(HvError::Layout("rings larger than their place")),
    }
}
