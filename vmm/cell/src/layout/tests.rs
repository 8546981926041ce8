//! What every layout keeps, whatever is drawn.

use muscle_abi::ring::{DATA_MAX, RINGS_MAX, Role};

use super::*;

const SIZES: Sizes = Sizes {
    image: 0x5000,
    boot: 0x1000,
    stack: 0x1_0000,
    heap: 0x41_3000,
    resume: 0x1000,
};
const SEGMENTS: [SegmentSpan; 3] = [
    SegmentSpan {
        offset: 0,
        length: 0x1000,
        kind: RegionKind::Constants,
    },
    SegmentSpan {
        offset: 0x1000,
        length: 0x2000,
        kind: RegionKind::Code,
    },
    SegmentSpan {
        offset: 0x3000,
        length: 0x2000,
        kind: RegionKind::Data,
    },
];

const RINGS: [RingSpan; 2] = [
    RingSpan {
        role: Role::Send,
        data: 0x1000,
    },
    RingSpan {
        role: Role::Receive,
        data: 0x40_0000,
    },
];

fn layout(seed: u8) -> Layout {
    let mut random: LayoutSeed = [0; size_of::<LayoutSeed>()];
    for (index, byte) in random.iter_mut().enumerate() {
        *byte = seed
            .wrapping_mul(31)
            .wrapping_add(u8::try_from(index).expect("small").wrapping_mul(seed | 1));
    }
    Layout::random(SIZES, &SEGMENTS, &RINGS, &random).expect("lays out")
}

#[test]
fn what_has_memory_from_the_start_is_adjacent() {
    for seed in 0..=255 {
        let layout = layout(seed);
        let (system, root) = layout.system_bytes().expect("is built");
        assert_eq!(root, layout.system_gpa() + SYSTEM_PAGES_SIZE);
        assert_eq!(layout.system_gpa() + system.len() as u64, layout.image_gpa());
        assert_eq!(layout.image_gpa() + SIZES.image, layout.private_gpa());
        assert_eq!(
            layout.private_gpa() + SIZES.boot + SIZES.stack + SIZES.resume,
            WINDOW_GPA
        );
        assert!(layout.system_gpa() > VSOCK_GPA + PAGE_SIZE);
    }
}

#[test]
fn the_unwritable_image_ends_where_data_begins() {
    assert_eq!(layout(1).unwritable_image(), 0x3000);
    let with = |segments: &[SegmentSpan]| {
        let layout = Layout::random(SIZES, segments, &[], &[7; size_of::<LayoutSeed>()]).expect("lays out");
        layout.unwritable_image()
    };
    let [constants, code, data] = SEGMENTS;
    let at = |segment, offset| SegmentSpan {
        offset,
        length: 0x1000,
        ..segment
    };
    assert_eq!(with(&[constants, code]), SIZES.image);
    assert_eq!(
        with(&[at(data, 0x3000), at(constants, 0x1000), at(code, 0)]),
        0x3000
    );
    assert_eq!(with(&[constants, at(data, 0x1000), at(code, 0x2000)]), 0);
    assert_eq!(with(&[at(data, 0), code]), 0);
}

#[test]
fn every_seed_gives_regions_with_guards_between() {
    for seed in 0..=255 {
        let layout = layout(seed);
        for pair in layout.regions.windows(2) {
            let image = |kind| matches!(kind, RegionKind::Code | RegionKind::Constants | RegionKind::Data);
            let gap = pair[1].va - pair[0].end();
            let is_boot = |region: &Region| region.kind == RegionKind::Boot;
            if is_boot(&pair[0]) || is_boot(&pair[1]) {
                assert_eq!(gap, 0, "{:?} and {:?}", pair[0], pair[1]);
            } else if !(image(pair[0].kind) && image(pair[1].kind)) {
                assert!(gap >= PAGE_SIZE, "{:?} touches {:?}", pair[0], pair[1]);
            }
        }
        layout.system_bytes().expect("maps without overlap");
    }
}

#[test]
fn what_is_touched_first_is_in_as_few_groups_as_it_can_be() {
    for seed in 0..=255 {
        let layout = layout(seed);
        assert!(layout.image_base().is_multiple_of(GROUP));
        let (stack, boot, window) = (
            layout.region(RegionKind::Stack).expect("a stack").end(),
            layout.va(RegionKind::Boot),
            layout.va(RegionKind::Window),
        );
        assert!((stack - WARM_STACK).is_multiple_of(GROUP));
        assert_eq!((stack, boot + SIZES.boot), (boot, window));
        let layout = Layout::random(
            Sizes {
                stack: PAGE_SIZE,
                ..SIZES
            },
            &SEGMENTS,
            &RINGS,
            &[seed; size_of::<LayoutSeed>()],
        )
        .expect("lays out a stack of a page");
        assert!(layout.va(RegionKind::Stack).is_multiple_of(GROUP));
    }
}

#[test]
fn the_most_and_largest_rings_have_room_beside_the_largest_heap() {
    let sizes = Sizes {
        heap: HEAP_MAX,
        stack: STACK_MAX,
        ..SIZES
    };
    let largest = [Role::Send, Role::Receive].map(|role| RingSpan { role, data: DATA_MAX });
    let rings: Vec<RingSpan> = largest.into_iter().cycle().take(RINGS_MAX).collect();
    for byte in [0, 0x55, 0xaa, 0xff] {
        let seed = [byte; size_of::<LayoutSeed>()];
        let layout = Layout::random(sizes, &SEGMENTS, &rings, &seed).expect("lays out");
        layout.system_bytes().expect("maps without overlap");
        let mut ranges: Vec<(u64, u64)> = layout
            .regions()
            .map(|region| (region.gpa, region.length))
            .collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
        }
        assert_eq!(layout.rings().len(), RINGS_MAX);
        let one_more = [&rings[..], &rings[..1]].concat();
        assert!(Layout::random(SIZES, &SEGMENTS, &one_more, &seed).is_err());
    }
}

#[test]
fn a_ring_is_mapped_as_its_role_says_and_never_to_be_executed() {
    let layout = layout(5);
    for (ring, span) in layout.rings().iter().zip(RINGS) {
        assert_eq!((ring.place.role, ring.place.data), (span.role, span.data));
        let at = |gpa| {
            layout
                .regions()
                .find(|region| region.gpa == gpa)
                .expect("is mapped")
        };
        let (readable, writable) = (at(ring.readable_gpa), at(ring.writable_gpa));
        assert_eq!(
            (readable.access, writable.access),
            (Access::Read, Access::ReadWrite)
        );
        let place = |(offset, length)| (ring.place.base + span.role.place_of(offset), length);
        assert_eq!(
            (readable.va, readable.length),
            place(span.role.readable(span.data))
        );
        assert_eq!(
            (writable.va, writable.length),
            place(span.role.writable(span.data))
        );
    }
}

#[test]
fn seeds_move_every_region() {
    let (one, other) = (layout(1), layout(2));
    for kind in [
        RegionKind::Code,
        RegionKind::Stack,
        RegionKind::Resume,
        RegionKind::Heap,
        RegionKind::Window,
        RegionKind::TrapStubs,
        RegionKind::RingReadable,
    ] {
        assert_ne!(one.va(kind), other.va(kind), "{kind:?}");
    }
}

#[test]
fn locate_names_region_side_and_distance() {
    let layout = layout(3);
    let stack = *layout.region(RegionKind::Stack).expect("has a stack");
    let at = |va| layout.locate(va);
    assert_eq!(
        at(stack.va - 8),
        Location {
            region: Some(RegionKind::Stack),
            side: Side::Below,
            distance: 8
        }
    );
    let window = layout.region(RegionKind::Window).expect("has a window").end();
    assert_eq!(
        at(window),
        Location {
            region: Some(RegionKind::Window),
            side: Side::Above,
            distance: 1
        }
    );
    assert_eq!(
        at(stack.va + 15),
        Location {
            region: Some(RegionKind::Stack),
            side: Side::Inside,
            distance: 16
        }
    );
}

#[test]
fn system_pages_and_doorbells_do_not_translate() {
    let layout = layout(4);
    assert!(layout.translate(layout.va(RegionKind::TrapStack), 8).is_none());
    assert!(
        layout
            .translate(layout.va(RegionKind::ControlDoorbell), 8)
            .is_none()
    );
    let heap = layout.va(RegionKind::Heap);
    assert_eq!(layout.translate(heap + 5, 8), Some(HEAP_GPA + 5));
    assert_eq!(layout.translate(heap + SIZES.heap - 4, 8), None);
}
