//! Bytes of snapshots: what was written comes back, and what was changed is refused or is another snapshot that says so.

use super::*;
use crate::reset::Page;

/// A small one that no cell gave.
fn snapshot() -> Snapshot {
    let page = |byte: u8| Some(Box::new(Page([byte; 4096])));
    Snapshot {
        bundle: Digest([7; 32]),
        seed: std::array::from_fn(|at| u8::try_from(at).unwrap_or(0)),
        sizes: Sizes {
            image: 0x5000,
            boot: 0x1000,
            stack: 0x10000,
            heap: 0x100_0000,
            resume: 0x1000,
        },
        heap_bytes: 0x2_0000,
        style: Style::Reactor,
        clock: ClockAccess::Coarse,
        cid: 3,
        told: Told::TheSame(b"arguments".to_vec()),
        monotonic: Duration::from_nanos(123_456_789),
        vsock: AtRest {
            receive: (3, 4),
            transmit: (5, 6),
            used_buffers: true,
            ports: (5000, RPC_PORT),
            credit: [1, 2, 3, 4, 5],
            asked_credit: false,
        },
        registers: std::array::from_fn(|at| at as u64),
        vectors: Box::new([9; Frozen::VECTORS]),
        pages: Arc::new(vec![
            (WINDOW_GPA, page(1)),
            (WINDOW_GPA + 0x1000, None),
            (HEAP_GPA, page(2)),
        ]),
    }
}

#[test]
fn what_was_written_comes_back() {
    for told in [
        Told::ReadsAnew,
        Told::TheSame(Vec::new()),
        Told::TheSame(vec![0; 5000]),
    ] {
        let snapshot = Snapshot { told, ..snapshot() };
        let bytes = snapshot.to_bytes();
        let read = Snapshot::from_bytes(&bytes).expect("is one");
        assert_eq!(format!("{read:?}"), format!("{snapshot:?}"));
        assert_eq!(read.to_bytes(), bytes);
    }
}

#[test]
fn none_is_larger_than_is_said() {
    let snapshot = Snapshot {
        told: Told::ReadsAnew,
        ..snapshot()
    };
    let most = Snapshot::OVERHEAD + 3 * Snapshot::PAGE;
    assert!(snapshot.to_bytes().len() as u64 <= most);
    let pages = Arc::new(Vec::new());
    let empty = Snapshot { pages, ..snapshot };
    assert!(empty.to_bytes().len() as u64 <= Snapshot::OVERHEAD);
}

#[test]
fn every_cut_is_refused() {
    let bytes = snapshot().to_bytes();
    for length in 0..bytes.len() {
        let cut = bytes.get(..length).expect("within");
        assert!(Snapshot::from_bytes(cut).is_err(), "{length}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(Snapshot::from_bytes(&longer).err(), Some(Damaged::TooLong(1)));
}

#[test]
fn every_changed_byte_is_refused_or_says_something_else() {
    let bytes = snapshot().to_bytes();
    for at in 0..bytes.len() {
        for change in [1, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] ^= change;
            // Nothing is read as what it is not.
            if let Ok(read) = Snapshot::from_bytes(&changed) {
                assert!(read.to_bytes() == changed, "{at}");
            }
        }
    }
}

#[test]
fn counts_take_no_memory_that_the_bytes_do_not_have() {
    let mut bytes = Snapshot {
        pages: Arc::default(),
        ..snapshot()
    }
    .to_bytes();
    let count = bytes.len() - 4;
    bytes[count..].fill(0xff);
    assert_eq!(Snapshot::from_bytes(&bytes).err(), Some(Damaged::CutOff("pages")));
}

#[test]
fn pages_are_only_where_the_muscle_may_write() {
    let segments = [
        (0, RegionKind::Code),
        (0x1000, RegionKind::Data),
        (0x3000, RegionKind::Constants),
    ];
    let spans = segments.map(|(offset, kind)| crate::layout::SegmentSpan {
        offset,
        length: 0x1000,
        kind,
    });
    let snapshot = snapshot();
    let layout = Layout::random(snapshot.sizes, &spans, &[], &snapshot.seed).expect("lays out");
    let with = |gpas: &[u64]| {
        let pages = Arc::new(gpas.iter().map(|gpa| (*gpa, None)).collect());
        Snapshot {
            pages,
            ..snapshot.clone()
        }
        .pages_are_the_muscles(&layout)
    };
    let (image, private) = (layout.image_gpa(), layout.private_gpa());
    let stack = private + snapshot.sizes.boot;
    for good in [
        image + 0x1000,
        stack,
        stack + snapshot.sizes.stack - 0x1000,
        WINDOW_GPA,
        HEAP_GPA + snapshot.heap_bytes - 0x1000,
    ] {
        assert!(with(&[good]), "{good:#x}");
        assert!(!with(&[good + 8]), "{good:#x} and a little");
        assert!(!with(&[good, good]), "{good:#x} twice");
    }
    assert!(!with(&[HEAP_GPA, WINDOW_GPA]), "out of order");
    for bad in [
        0,
        layout.system_gpa(),
        layout.system_gpa() + TRAP_STACK_OFFSET,
        image,
        image + 0x2000,
        image + 0x3000,
        private,
        stack + snapshot.sizes.stack,
        crate::layout::CONTROL_GPA,
        HEAP_GPA - 0x1000,
        HEAP_GPA + snapshot.heap_bytes,
        u64::MAX - 0xfff,
    ] {
        assert!(!with(&[bad]), "{bad:#x}");
    }
}
