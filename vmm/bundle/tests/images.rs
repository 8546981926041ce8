//! Every rule of an image, each broken alone in a bundle that is good in all else.

mod support;

use referee_bundle::{ElfImage, ImagePlan, ReadLimits, Rejected, Relocation};
use support::elf::{self, DATA, DYNAMIC, P_FILESZ, P_FLAGS, P_MEMSZ, P_OFFSET, P_TYPE, P_VADDR, RELOCATIONS};
use support::{Pieces, manifest, part};

/// Plans a bundle with this image and the good manifest.
fn plan(image: Vec<u8>) -> Result<ImagePlan, Rejected> {
    let mut manifest = manifest();
    manifest.parts[0] = part(manifest.parts[0].kind, &image);
    let mut pieces = Pieces::of(&manifest);
    pieces.body = image;
    ImagePlan::check(&pieces.verify().expect("a good bundle"))
}

fn refused(image: Vec<u8>) -> Rejected {
    plan(image).expect_err("a refusal")
}

fn word(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}

#[test]
fn plans_whole_pages_and_relocations() {
    let plan = plan(elf::small()).expect("a good image");
    let pages: Vec<_> = plan
        .segments()
        .iter()
        .map(|segment| segment.pages.clone())
        .collect();
    assert_eq!(pages, [0..0x1000, 0x1000..0x2000, 0x2000..0x3000]);
    let files: Vec<_> = plan
        .segments()
        .iter()
        .map(|segment| (segment.vaddr, segment.file.clone()))
        .collect();
    assert_eq!(
        files,
        [(0, 0..0x200), (0x1200, 0x200..0x210), (0x2210, 0x210..0x270)]
    );
    let relocations: Vec<_> = plan.relocations().collect();
    assert_eq!(
        relocations,
        [
            Relocation {
                vaddr: DATA,
                addend: 0x1200
            },
            Relocation {
                vaddr: DATA + 8,
                addend: 0x3000
            }
        ]
    );
}

#[test]
fn rejects_what_is_no_static_pie_for_this_processor() {
    for (offset, bytes, field) in [
        (0, &[0][..], "identification"),
        (4, &[1], "identification"),
        (5, &[2], "byte order"),
        (7, &[9], "operating system"),
        (16, &[2], "type"),
        (18, &[3], "machine"),
        (20, &[2], "version"),
        (52, &[63], "size"),
        (54, &[55], "program header size"),
        (56, &[0, 0], "program header count"),
        (56, &[0xff, 0xff], "program header count"),
    ] {
        assert_eq!(
            refused(elf::with(offset, bytes)),
            Rejected::ElfHeader { field },
            "byte {offset}"
        );
    }
    assert!(matches!(
        refused(elf::with(56, &[33, 0])),
        Rejected::TooMany {
            field: "program headers",
            count: 33,
            ..
        }
    ));
    for offset in [0x270, u64::MAX, u64::MAX - 279] {
        assert_eq!(
            refused(elf::with(32, &word(offset))),
            Rejected::ElfTruncated {
                field: "program headers"
            }
        );
    }
}

#[test]
fn rejects_program_headers_that_a_loader_would_act_on() {
    let of_type = |kind: u32| refused(elf::with_field(4, P_TYPE, &kind.to_le_bytes()));
    assert_eq!(of_type(3), Rejected::ElfInterpreter { index: 4 });
    assert_eq!(of_type(7), Rejected::ElfThreadLocal { index: 4 });
    assert_eq!(of_type(5), Rejected::ElfProgramHeader { index: 4, kind: 5 });
    assert_eq!(
        of_type(0x7000_0000),
        Rejected::ElfProgramHeader {
            index: 4,
            kind: 0x7000_0000
        }
    );
    assert_eq!(of_type(2), Rejected::ElfDynamicPlace);
    assert_eq!(
        refused(elf::with_field(4, P_FLAGS, &7u32.to_le_bytes())),
        Rejected::ElfExecutableStack { index: 4 }
    );
}

#[test]
fn rejects_segments_of_the_image_that_break_a_rule() {
    assert_eq!(
        refused(elf::with_field(1, P_FLAGS, &7u32.to_le_bytes())),
        Rejected::SegmentWritableExecutable { index: 1 }
    );
    assert_eq!(
        refused(elf::with_field(1, P_FLAGS, &1u32.to_le_bytes())),
        Rejected::SegmentPermissions { index: 1, bits: 1 }
    );
    assert_eq!(
        refused(elf::with_field(1, P_VADDR, &word(0x1300))),
        Rejected::SegmentUnaligned {
            index: 1,
            vaddr: 0x1300,
            file_offset: 0x200
        }
    );
    assert_eq!(
        refused(elf::with_field(1, P_VADDR, &word(0x200))),
        Rejected::SegmentsOverlap {
            index: 1,
            vaddr: 0x200,
            previous_end: 0x1000
        }
    );
    assert_eq!(
        refused(elf::with_field(1, P_MEMSZ, &word(u64::MAX))),
        Rejected::SegmentOverflow { index: 1 }
    );
    assert_eq!(
        refused(elf::with_field(1, P_VADDR, &word(u64::MAX - 0xdff))),
        Rejected::SegmentOverflow { index: 1 }
    );
    assert_eq!(
        refused(elf::with_field(1, P_OFFSET, &word(u64::MAX - 0xf))),
        Rejected::SegmentOverflow { index: 1 }
    );
    assert_eq!(
        refused(elf::with_field(2, P_FILESZ, &word(0x61))),
        Rejected::SegmentOutsideImage {
            index: 2,
            file_end: 0x271,
            image_size: 0x270
        }
    );
}

#[test]
fn rejects_an_image_that_is_not_what_the_manifest_says() {
    assert_eq!(
        refused(elf::with_field(2, P_MEMSZ, &word(0x161))),
        Rejected::SegmentMismatch { index: 2 }
    );
    assert_eq!(
        refused(elf::with_field(0, P_FLAGS, &6u32.to_le_bytes())),
        Rejected::SegmentMismatch { index: 0 }
    );
    assert_eq!(
        refused(elf::with_field(1, P_TYPE, &0u32.to_le_bytes())),
        Rejected::SegmentCountMismatch {
            manifest: 3,
            image: 2
        }
    );
    assert_eq!(
        refused(elf::with(24, &word(0x1201))),
        Rejected::EntryMismatch {
            manifest: 0x1200,
            image: 0x1201
        }
    );
}

#[test]
fn rejects_dynamic_entries_that_a_loader_would_act_on() {
    let with_tag = |tag: i64| refused(elf::with(DYNAMIC + 48, &tag.to_le_bytes()));
    assert_eq!(with_tag(1), Rejected::ElfNeedsLibrary);
    // REL, JMPREL, TEXTREL, INIT, PREINIT_ARRAY, RELR, and RELA a second time.
    for tag in [17, 23, 22, 12, 32, 36, 7] {
        assert_eq!(with_tag(tag), Rejected::ElfDynamicTag { tag }, "tag {tag}");
    }
}

#[test]
fn rejects_a_dynamic_table_that_is_elsewhere() {
    for image in [
        elf::with_field(3, P_VADDR, &word(0x1200)),
        elf::with_field(3, P_OFFSET, &word(0x200)),
        elf::with_field(3, P_VADDR, &word(u64::MAX)),
        elf::with_field(3, P_FILESZ, &word(u64::MAX)),
        elf::with_field(3, P_FILESZ, &word(0x61)),
        elf::with_field(3, P_OFFSET, &word(u64::MAX)),
    ] {
        assert_eq!(refused(image), Rejected::ElfDynamicPlace);
    }
}

#[test]
fn rejects_a_relocation_table_that_does_not_fit() {
    let entry = |index: usize, value: u64| refused(elf::with(DYNAMIC + index * 16 + 8, &word(value)));
    let unfit = |field, value| Rejected::RelocationTable { field, value };
    for vaddr in [0x1e0, 0x2250, 0x5000, u64::MAX - 47] {
        assert_eq!(entry(0, vaddr), unfit("address", vaddr));
    }
    assert_eq!(entry(1, 47), unfit("size", 47));
    assert_eq!(
        entry(1, u64::MAX / 24 * 24),
        Rejected::TooManyRelocations {
            count: u64::MAX / 24,
            limit: 1 << 20
        }
    );
    assert_eq!(entry(1, 24 << 20), unfit("address", RELOCATIONS as u64));
    assert_eq!(entry(2, 16), unfit("entry size", 16));
    assert_eq!(
        refused(elf::with(DYNAMIC + 32, &word(0))),
        unfit("description", RELOCATIONS as u64)
    );
}

#[test]
fn rejects_relocations_that_are_not_relative_or_leave_their_segment() {
    let second = RELOCATIONS + 24;
    for kind in [0u32, 1, 6, 7, 37] {
        assert_eq!(
            refused(elf::with(second + 8, &kind.to_le_bytes())),
            Rejected::RelocationKind { index: 1, kind }
        );
    }
    // RELATIVE, but with a symbol.
    assert_eq!(
        refused(elf::with(second + 12, &[1])),
        Rejected::RelocationKind { index: 1, kind: 8 }
    );
    // Headers, code, one byte before and after data, between segments, outside, at the end of all addresses.
    for vaddr in [0, 0x1200, 0x220f, 0x2369, 0x1800, 0x3000, u64::MAX, u64::MAX - 7] {
        assert_eq!(
            refused(elf::with(second, &word(vaddr))),
            Rejected::RelocationTarget { index: 1, vaddr }
        );
    }
    plan(elf::with(second, &word(0x2368))).expect("the last eight bytes of data");
    for addend in [-1i64, 0x3001, i64::MIN, i64::MAX] {
        assert_eq!(
            refused(elf::with(second + 16, &addend.to_le_bytes())),
            Rejected::RelocationAddend { index: 1, addend }
        );
    }
}

#[test]
fn a_program_without_relocations_is_good() {
    let image = elf::with_field(3, P_TYPE, &0u32.to_le_bytes());
    assert_eq!(plan(image).expect("a good image").relocations().len(), 0);
    let image = elf::with(DYNAMIC, &word(0));
    assert_eq!(plan(image).expect("a good image").relocations().len(), 0);
}

#[test]
fn no_truncation_or_flipped_bit_of_an_image_makes_the_reader_panic() {
    let image = elf::small();
    let limits = ReadLimits::default();
    for end in 0..image.len() {
        assert!(ElfImage::parse(&image[..end], &limits).is_err(), "cut at {end}");
    }
    for offset in 0..image.len() {
        for bit in 0..8 {
            let mut flipped = image.clone();
            flipped[offset] ^= 1 << bit;
            // Many bits, such as those of code, make no difference here; the signature covers them.
            if let Ok(image) = ElfImage::parse(&flipped, &limits) {
                assert!(image.span <= limits.image_span_bytes);
            }
        }
    }
}
