//! Where everything lies in a cell: guest-physical and virtual, with the guard pages between.
//!
//! ```text
//!  guest-physical                                virtual (ring 3, one random 512 GiB slot)
//!  0x0100_0000  rings, if any                    rings: layout/rings.rs
//!  0x3f00_0000  doorbells, no memory             control page, vsock page
//!               system: GDT IDT TSS, stubs,      high half, random: tables │ stubs │ trap stack
//!               trap stack, page tables          (page tables are mapped nowhere)
//!               image                            image: R-X, R--, RW-     random 2 MiB + group
//!               private: boot pages, stack,      one random 1 GiB: stack RW-, boot R--, window RW- │ bells
//!               resume page                      │ resume R-X
//!  0x7ff7_f000  window                           each with a random gap of 1 to 16 unmapped pages before it
//!  0x8000_0000  heap, grows  by slots            heap RW-, all of its reservation mapped from the start
//! ```
//! From the system's pages to the first of the heap all is one slot without gaps, which ends as high as its pieces are long: slots are dear. What a device
//! or the loader may touch are pieces of it (`referee_hv::Piece`); what ring 3 may, the page tables say.
//!
//! `│` is a guard: at least one page that is mapped nowhere. The boot pages, which cannot be written to, are the guard between stack and
//! window. Image, heap and the rest get different random gigabytes of the slot, in any order; whoever knows where one of them is
//! has 22 bits to guess for the image, 20 for the rest, and 16 for the heap; of a cell of which nothing is known, 8 more.
//!
//! **Groups.** Where KVM keeps shadow page tables, the first touch of a page is an exit, and brings along those of the eight pages of its
//! aligned group that are mapped without a gap from the group's first page on and have memory (KVM, `paging_tmpl.h`, `pte_prefetch`). So
//! the image begins with a group, and what every muscle touches before it does anything is one: the stack's last pages, the boot page,
//! the queues, the first buffers ([ADR 30](../../../docs/adr/0030-groups-of-pages.md)).

use muscle_abi::PAGE_SIZE;
use referee_hv::HvError;
use referee_hv::x86_64::paging::{Access, PageTables};
use referee_hv::x86_64::system::{
    STUBS_OFFSET, SYSTEM_PAGES_SIZE, SystemPages, TABLES_OFFSET, TRAP_STACK_OFFSET,
};
use serde::Serialize;

mod rings;
#[cfg(test)]
mod tests;

pub use rings::{RingPlace, RingSpan};

/// Guest-physical start of the window, which ends a page before the heap begins: what runs out of it is in neither.
pub const WINDOW_GPA: u64 = HEAP_GPA - PAGE_SIZE - WINDOW_SIZE;
/// Guest-physical address of the control doorbell page; the vsock page follows.
pub const CONTROL_GPA: u64 = 0x3f00_0000;
/// Guest-physical address of the vsock device's registers.
pub const VSOCK_GPA: u64 = CONTROL_GPA + PAGE_SIZE;
/// Guest-physical start of the heap.
pub const HEAP_GPA: u64 = 0x8000_0000;
/// Length of the window.
pub const WINDOW_SIZE: u64 = 512 << 10;
/// Largest image, stack and heap that fit between the addresses above.
pub const IMAGE_MAX: u64 = 0x1000_0000;
/// Largest stack.
pub const STACK_MAX: u64 = 64 << 20;
/// Largest heap.
pub const HEAP_MAX: u64 = 64 << 30;
/// Pages at the top of the stack that have memory from the start, and begin a group.
pub(crate) const WARM_STACK: u64 = 2 * PAGE_SIZE;
/// Pages that can come with one exit.
const GROUP: u64 = 8 * PAGE_SIZE;
/// Gigabytes in each of three bands of the slot: one for the image, one for the heap, one for the rest. Rings come above them.
const BAND: u64 = 149;
/// The bands that image, rest and heap have, in each order that there is.
const ORDERS: [[u64; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// What a range of a cell's addresses is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionKind {
    /// Executable segment of the image.
    Code,
    /// Read-only segment of the image.
    Constants,
    /// Writable segment of the image.
    Data,
    /// Boot block, arguments, table of grants.
    Boot,
    /// Mailbox, queues, packet buffers.
    Window,
    /// Control doorbells.
    ControlDoorbell,
    /// Registers of the vsock device.
    VsockDoorbell,
    /// The stack.
    Stack,
    /// Code by which a frozen muscle goes on.
    Resume,
    /// The heap's reservation.
    Heap,
    /// The part of a ring that this cell may only read.
    RingReadable,
    /// The part of a ring that this cell may write.
    RingWritable,
    /// Descriptor tables of ring 0.
    SystemTables,
    /// Trap stubs of ring 0.
    TrapStubs,
    /// Trap stack of ring 0.
    TrapStack,
}

/// A mapped range.
#[derive(Debug, Clone, Copy)]
pub struct Region {
    /// What it is for.
    pub kind: RegionKind,
    /// First virtual address.
    pub va: u64,
    /// First guest-physical address.
    pub gpa: u64,
    /// Length in bytes.
    pub length: u64,
    /// What is allowed there.
    pub access: Access,
}

impl Region {
    fn end(&self) -> u64 {
        self.va + self.length
    }
}

/// A segment of the image, rounded to pages, relative to the image's base.
#[derive(Debug, Clone, Copy)]
pub struct SegmentSpan {
    /// Offset from the image's base.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// What it is for: `Code`, `Constants` or `Data`.
    pub kind: RegionKind,
}

/// Sizes that a layout is made for, all in bytes and multiples of the page size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The image from its base to its end.
    pub image: u64,
    /// Boot block, arguments and grants.
    pub boot: u64,
    /// The stack.
    pub stack: u64,
    /// The heap at most.
    pub heap: u64,
    /// The resume page, in a cell that can be frozen.
    pub resume: u64,
}

/// Random bytes of a layout: two for each of its throws.
pub type LayoutSeed = [u8; 56];

/// All regions of one cell.
#[derive(Debug, Clone)]
pub struct Layout {
    regions: Vec<Region>,
    system: SystemPages,
    image_base: u64,
    sizes: Sizes,
    seed: LayoutSeed,
    rings: Vec<RingPlace>,
    /// Guest-physical starts.
    system_gpa: u64,
    image_gpa: u64,
    private_gpa: u64,
}

impl Layout {
    /// Draws a layout from random bytes.
    ///
    /// # Errors
    /// [`HvError::Layout`] when a size is larger than the place for it.
    pub fn random(
        sizes: Sizes,
        segments: &[SegmentSpan],
        rings: &[RingSpan],
        random: &LayoutSeed,
    ) -> Result<Layout, HvError> {
        if sizes.image > IMAGE_MAX || sizes.stack > STACK_MAX || sizes.heap > HEAP_MAX {
            return Err(HvError::Layout("image, stack or heap larger than its place"));
        }
        let mut dice = Dice { bytes: random, at: 0 };
        let slot = (1 + dice.below(254)) << 39;
        // Three bands, so that no two areas can meet: the heap may need up to 64 gigabytes of its own, and those of a 2 MiB page more.
        let [image, small, heap] = ORDERS
            .get(usize::try_from(dice.below(6)).unwrap_or(0))
            .copied()
            .unwrap_or_default()
            .map(|band| slot + ((band * BAND) << 30));
        let image_base = image
            + (dice.below(BAND) << 30)
            + (dice.below(256) << 21)
            + dice.below((2 << 20) / GROUP) * GROUP;
        let small = small + (dice.below(BAND) << 30) + (dice.below(256) << 21);
        let heap = heap + (dice.below(BAND - 65) << 30) + (dice.below(512) << 21);
        let high = 0xffff_8000_0000_0000
            + (dice.below(255) << 39)
            + (dice.below(512) << 30)
            + (dice.below(256) << 12);
        let system = SystemPages {
            tables_va: high,
            stubs_va: high + 2 * PAGE_SIZE,
            trap_stack_va: high + 4 * PAGE_SIZE,
        };

        let private_gpa = WINDOW_GPA - (sizes.boot + sizes.stack + sizes.resume);
        let image_gpa = private_gpa - sizes.image;
        let mut regions: Vec<Region> = segments
            .iter()
            .map(|segment| Region {
                kind: segment.kind,
                va: image_base + segment.offset,
                gpa: image_gpa + segment.offset,
                length: segment.length,
                access: match segment.kind {
                    RegionKind::Code => Access::ReadExecute,
                    RegionKind::Data => Access::ReadWrite,
                    _ => Access::Read,
                },
            })
            .collect();
        let warm = WARM_STACK.min(sizes.stack);
        let lowest = small + sizes.stack - warm + PAGE_SIZE;
        let stack_end = lowest.next_multiple_of(GROUP) + dice.below(16) * GROUP + warm;
        let (boot, window) = (stack_end, stack_end + sizes.boot);
        for (kind, va, gpa, length, access) in [
            (
                RegionKind::Stack,
                stack_end - sizes.stack,
                private_gpa + sizes.boot,
                sizes.stack,
                Access::ReadWrite,
            ),
            (RegionKind::Boot, boot, private_gpa, sizes.boot, Access::Read),
            (
                RegionKind::Window,
                window,
                WINDOW_GPA,
                WINDOW_SIZE,
                Access::ReadWrite,
            ),
        ] {
            if length > 0 {
                regions.push(Region {
                    kind,
                    va,
                    gpa,
                    length,
                    access,
                });
            }
        }
        let mut next = window + WINDOW_SIZE;
        for (kind, gpa, length, access) in [
            (
                RegionKind::ControlDoorbell,
                CONTROL_GPA,
                PAGE_SIZE,
                Access::ReadWrite,
            ),
            (RegionKind::VsockDoorbell, VSOCK_GPA, PAGE_SIZE, Access::ReadWrite),
            (
                RegionKind::Resume,
                private_gpa + sizes.boot + sizes.stack,
                sizes.resume,
                Access::ReadExecute,
            ),
        ] {
            if length == 0 {
                continue;
            }
            next += (1 + dice.below(16)) * PAGE_SIZE;
            regions.push(Region {
                kind,
                va: next,
                gpa,
                length,
                access,
            });
            next += length;
        }
        if sizes.heap > 0 {
            regions.push(Region {
                kind: RegionKind::Heap,
                va: heap,
                gpa: HEAP_GPA,
                length: sizes.heap,
                access: Access::ReadWrite,
            });
        }
        let rings = rings::place(rings, slot, &mut dice, &mut regions)?;
        // Their number depends on no address of the system's own pages.
        let tables = page_tables(0, &regions_with_system(&regions, &system, 0))?.length();
        let system_gpa = image_gpa - SYSTEM_PAGES_SIZE - tables;
        let mut regions = regions_with_system(&regions, &system, system_gpa);
        regions.sort_by_key(|region| region.va);
        Ok(Layout {
            regions,
            system,
            image_base,
            sizes,
            seed: *random,
            rings,
            system_gpa,
            image_gpa,
            private_gpa,
        })
    }

    /// The system's bytes: descriptor tables, stubs, trap stack, page tables; and where the root of the latter is.
    ///
    /// # Errors
    /// [`HvError::Layout`] when regions overlap.
    pub fn system_bytes(&self) -> Result<(Vec<u8>, u64), HvError> {
        let tables = page_tables(self.system_gpa + SYSTEM_PAGES_SIZE, &self.regions)?;
        let mut bytes = self.system.to_bytes()?;
        bytes.extend(tables.to_bytes());
        Ok((bytes, tables.root()))
    }

    /// Guest-physical start of the system's pages; they end where the image begins.
    pub fn system_gpa(&self) -> u64 {
        self.system_gpa
    }

    /// Guest-physical start of the image; it ends where the private pages begin.
    pub fn image_gpa(&self) -> u64 {
        self.image_gpa
    }

    /// Guest-physical start of boot pages, stack and resume page; they end where the window begins.
    pub fn private_gpa(&self) -> u64 {
        self.private_gpa
    }

    /// Where the processor finds its tables.
    pub fn system(&self) -> SystemPages {
        self.system
    }

    /// What was added to the image's own addresses.
    pub fn image_base(&self) -> u64 {
        self.image_base
    }

    /// The sizes the layout was made for.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// The random bytes that it was drawn from: with the same sizes, segments and rings they give the same again.
    pub fn seed(&self) -> &LayoutSeed {
        &self.seed
    }

    /// Where the ends of rings are, in the order in which they were asked for.
    pub fn rings(&self) -> &[RingPlace] {
        &self.rings
    }

    /// Bytes of the image, from its base on, that ring 3 cannot write; 0 when a data segment lies before one of another kind.
    pub fn unwritable_image(&self) -> u64 {
        let image = self.image_gpa..self.private_gpa;
        let of_image = self.regions.iter().filter(|region| image.contains(&region.gpa));
        let (data, others): (Vec<&Region>, Vec<&Region>) =
            of_image.partition(|region| region.kind == RegionKind::Data);
        let begin = data.iter().map(|region| region.gpa).min().unwrap_or(image.end);
        let is_before = |region: &&Region| region.gpa + region.length <= begin;
        if others.iter().all(is_before) {
            begin - image.start
        } else {
            0
        }
    }

    /// Every region, by virtual address.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter()
    }

    /// The first region of a kind.
    pub fn region(&self, kind: RegionKind) -> Option<&Region> {
        self.regions.iter().find(|region| region.kind == kind)
    }

    /// First virtual address of the first region of a kind, 0 when there is none.
    pub fn va(&self, kind: RegionKind) -> u64 {
        self.region(kind).map_or(0, |region| region.va)
    }

    /// Guest-physical address of `length` bytes at `va`, when one region that ring 3 may read holds them all.
    pub fn translate(&self, va: u64, length: u64) -> Option<u64> {
        let end = va.checked_add(length)?;
        let region = self
            .regions
            .iter()
            .find(|region| region.va <= va && end <= region.end())?;
        let bell = matches!(
            region.kind,
            RegionKind::ControlDoorbell | RegionKind::VsockDoorbell
        );
        let system = matches!(
            region.access,
            Access::SystemRead | Access::SystemReadWrite | Access::SystemExecute
        );
        (!bell && !system).then_some(region.gpa + (va - region.va))
    }

    /// Names a virtual address: the region it lies in, or the nearest one and how far it is off.
    pub fn locate(&self, va: u64) -> Location {
        let mut best: Option<Location> = None;
        for region in &self.regions {
            let (side, distance) = if va < region.va {
                (Side::Below, region.va - va)
            } else if va >= region.end() {
                (Side::Above, va - region.end() + 1)
            } else {
                let to_guard = (va - region.va + 1).min(region.end() - va);
                return Location {
                    region: Some(region.kind),
                    side: Side::Inside,
                    distance: to_guard,
                };
            };
            if best.is_none_or(|best| distance < best.distance) {
                best = Some(Location {
                    region: Some(region.kind),
                    side,
                    distance,
                });
            }
        }
        best.unwrap_or(Location {
            region: None,
            side: Side::Below,
            distance: va,
        })
    }

    /// Virtual address of a guest-physical one, where ring 3 has it mapped.
    pub fn virtual_of(&self, gpa: u64) -> Option<u64> {
        let region = self
            .regions
            .iter()
            .find(|region| (region.gpa..region.gpa + region.length).contains(&gpa))?;
        Some(region.va + (gpa - region.gpa))
    }
}

fn page_tables(base: u64, regions: &[Region]) -> Result<PageTables, HvError> {
    let mut tables = PageTables::new(base);
    for region in regions {
        tables.map(region.va, region.gpa, region.length, region.access)?;
    }
    Ok(tables)
}

/// Ring 3's regions and ring 0's, whose pages begin at `gpa`.
fn regions_with_system(regions: &[Region], system: &SystemPages, gpa: u64) -> Vec<Region> {
    let of_system = [
        (
            RegionKind::SystemTables,
            system.tables_va,
            TABLES_OFFSET,
            Access::SystemRead,
        ),
        (
            RegionKind::TrapStubs,
            system.stubs_va,
            STUBS_OFFSET,
            Access::SystemExecute,
        ),
        (
            RegionKind::TrapStack,
            system.trap_stack_va,
            TRAP_STACK_OFFSET,
            Access::SystemReadWrite,
        ),
    ];
    let of_system = of_system.map(|(kind, va, offset, access)| Region {
        kind,
        va,
        gpa: gpa + offset,
        length: PAGE_SIZE,
        access,
    });
    regions.iter().copied().chain(of_system).collect()
}

/// On which side of a region an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// Within it; the distance is to its nearer guard page.
    Inside,
    /// Below its first byte; the distance is to that byte.
    Below,
    /// Above its last byte; the distance is to that byte.
    Above,
}

/// Where an address lies among a cell's regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The region, or the nearest one.
    pub region: Option<RegionKind>,
    /// Inside it, or on which side.
    pub side: Side,
    /// Distance in bytes, see [`Side`].
    pub distance: u64,
}

/// Random numbers out of a fixed seed; two bytes a throw are enough for every use here.
struct Dice<'a> {
    bytes: &'a LayoutSeed,
    at: usize,
}

impl Dice<'_> {
    fn below(&mut self, limit: u64) -> u64 {
        let low = self.bytes.get(self.at).copied().unwrap_or(0);
        let high = self.bytes.get(self.at + 1).copied().unwrap_or(0);
        self.at += 2;
        u64::from(u16::from_le_bytes([low, high])) % limit
    }
}
