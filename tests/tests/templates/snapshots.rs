//! Muscles that are kept between two calls: that lives begin there, again and again and elsewhere, and which muscles are not kept.

use std::collections::BTreeMap;
use std::time::Duration;

use referee::{CallError, Cell, Inputs, NoSnapshot, Permit, Snapshot, StartError};
use referee_tests::shop;

use super::{Host, memory, start, start_templated, thread};

fn count(cell: &mut Cell) -> u32 {
    cell.call(&thread(), "count", &()).expect("answers")
}

/// It after it was bytes.
fn as_bytes(snapshot: &Snapshot) -> Snapshot {
    let bytes = snapshot.to_bytes();
    let read = Snapshot::from_bytes(&bytes).expect("is one");
    assert_eq!(read.to_bytes(), bytes);
    assert_eq!(read.id(), snapshot.id());
    read
}

fn rejected<T: std::fmt::Debug>(result: Result<T, StartError>) -> &'static str {
    match result {
        Err(StartError::Rejected { name, .. }) => name,
        other => panic!("{other:?}"),
    }
}

/// One of `echoes` that has answered so many calls.
fn counted(host: &Host, calls: u32) -> Snapshot {
    let mut cell = start(&host.permit("echoes"));
    for expected in 0..calls {
        assert_eq!(count(&mut cell), expected);
    }
    cell.snapshot(&thread()).expect("is kept")
}

#[test]
fn cells_count_on_from_where_one_was_kept_each_for_itself() {
    let host = Host::new();
    let permit = host.permit("echoes");
    let mut first = start(&permit);
    for expected in 0..3 {
        assert_eq!(count(&mut first), expected);
    }
    let snapshot = first.snapshot(&thread()).expect("is kept");
    // The one that was kept goes on, and can be kept again.
    assert_eq!(count(&mut first), 3);
    let later = first.snapshot(&thread()).expect("is kept");
    assert_eq!(count(&mut first), 4);
    // Elsewhere: another library, with the bytes alone.
    let other = Host::new();
    let there = other
        .permit("echoes")
        .begin_from(&as_bytes(&snapshot))
        .expect("fits");
    let mut cells = [start(&there), start(&there)];
    for (cell, more) in cells.iter_mut().zip([2, 5]) {
        assert!(cell.is_templated());
        for expected in 3..3 + more {
            assert_eq!(count(cell), expected);
        }
        cell.reset(Inputs::default()).expect("is reset");
        assert_eq!(count(cell), 3, "a new life begins there again");
    }
    // From the cell of another life, too.
    let [cell, _] = &mut cells;
    let again = cell.snapshot(&thread()).expect("is kept");
    assert_eq!(count(&mut start(&there.begin_from(&again).expect("fits"))), 4);
    assert_eq!(count(&mut start(&permit.begin_from(&later).expect("fits"))), 4);
    assert_eq!(count(&mut start(&permit)), 0, "the permit itself is as it was");
    let id = snapshot.id().to_string();
    drop(cells);
    let named = other.log().matches(&format!("\"snapshot\":\"{id}\"")).count();
    assert_eq!(named, 2, "once for each cell that began there");
}

#[test]
fn a_cell_that_begins_at_a_snapshot_is_as_that_which_was_kept() {
    let host = Host::new();
    let thread = thread();
    let permit = host.permit("freezes");
    // It waits for its first call, with registers, vector registers and memory in a state of its own.
    let mut kept = start(&permit);
    let snapshot = as_bytes(&kept.snapshot(&thread).expect("is kept"));
    let begun = permit.begin_from(&snapshot).expect("fits");
    let mut cell = start(&begun);
    let (was, is) = (memory(&kept), memory(&cell));
    assert_eq!(was.len(), is.len());
    for ((start, was), (other, is)) in was.iter().zip(&is) {
        assert_eq!((start, was.len()), (other, is.len()));
        let pages = was.chunks(4096).zip(is.chunks(4096)).enumerate();
        let others: Vec<usize> = pages
            .filter(|(_, (was, is))| was != is)
            .map(|(page, _)| page)
            .collect();
        // What goes on by itself has its registers in the resume page, the last of the private ones.
        let may_differ = was.len() / 4096 - 1;
        assert!(
            others
                .iter()
                .all(|page| *start == was_private(&memory(&kept)) && *page == may_differ),
            "pages {others:?} from {start:#x}"
        );
    }
    // The guest exits with a code of its own if anything is not as it left it.
    for _ in 0..3 {
        let before = memory(&cell);
        cell.call::<_, ()>(&thread, "f", &()).expect("answers");
        assert_eq!(cell.usage().exits, 1, "none for a start-up");
        cell.reset(Inputs::default()).expect("is reset");
        assert!(before == memory(&cell), "something is left of a life");
    }
    kept.call::<_, ()>(&thread, "f", &()).expect("answers");
}

/// Where boot pages, stack and resume page begin.
fn was_private(memory: &[(u64, Vec<u8>)]) -> u64 {
    memory[2].0
}

#[test]
fn a_cell_that_was_kept_in_a_later_life_still_goes_back_to_its_first() {
    let host = Host::new();
    let mut cell = start(&host.permit("echoes"));
    for life in 0..4 {
        assert_eq!(count(&mut cell), 0, "life {life}");
        let snapshot = cell.snapshot(&thread()).expect("is kept");
        assert_eq!(count(&mut cell), 1);
        drop(snapshot);
        cell.reset(Inputs::default()).expect("is reset");
    }
    assert!(cell.is_templated());
}

#[test]
fn cells_are_kept_loaded_from_a_snapshot_and_begin_there_after_a_fault_too() {
    let host = Host::new();
    let permit = host
        .permit("echoes")
        .begin_from(&counted(&host, 2))
        .expect("fits");
    let loaded = permit.keep_loaded(2).expect("are loaded");
    for _ in 0..4 {
        let mut cell = start_templated(&permit);
        assert_eq!(count(&mut cell), 2);
        cell.reset(Inputs::default()).expect("is reset");
        assert_eq!(count(&mut cell), 2);
        cell.canceller().cancel();
        let cancelled = cell.call::<_, u32>(&thread(), "count", &());
        assert!(matches!(cancelled, Err(CallError::Cancelled)), "{cancelled:?}");
        cell.reset(Inputs::default()).expect("is replaced");
        assert_eq!(count(&mut cell), 2, "another machine, and the same beginning");
    }
    drop(loaded);
    assert_eq!(count(&mut start(&permit)), 2);
    assert_eq!(host.log().matches("\"how\":\"frozen\"").count(), 0);
}

#[test]
fn a_heap_that_has_grown_is_kept() {
    let host = Host::new();
    let thread = thread();
    // It takes more heap and fills it, and then waits for its call.
    let permit = host.permit("grows");
    let mut cell = start(&permit);
    let snapshot = as_bytes(&cell.snapshot(&thread).expect("is kept"));
    let begun = permit.begin_from(&snapshot).expect("fits");
    let mut other = start(&begun);
    assert_eq!(other.usage().heap_bytes, cell.usage().heap_bytes);
    assert!(memory(&other)[4] == memory(&cell)[4], "the heap is another");
    other.call::<_, ()>(&thread, "f", &()).expect("answers");
    other.reset(Inputs::default()).expect("is reset");
    assert!(memory(&other)[4] == memory(&cell)[4], "the heap is another");
}

#[test]
fn a_muscle_that_reads_its_boot_block_anew_has_other_handles_and_its_clock_goes_on() {
    let host = Host::new();
    let thread = thread();
    let permit = host.permit("remembers");
    let mut cell = start(&permit);
    let time = |cell: &mut Cell| -> u64 { cell.call(&thread, "time", &()).expect("answers") };
    assert_eq!(count(&mut cell), 0);
    std::thread::sleep(Duration::from_millis(300));
    let before = time(&mut cell);
    assert!(before >= 300_000_000, "{before}");
    let snapshot = as_bytes(&cell.snapshot(&thread).expect("said READY"));
    let other = Host::new();
    let mut begun = start(&other.permit("remembers").begin_from(&snapshot).expect("fits"));
    assert_eq!(count(&mut begun), 2);
    let after = time(&mut begun);
    assert!(
        after >= before && after < before + 60_000_000_000,
        "{before} {after}"
    );
    begun.reset(Inputs::default()).expect("is reset");
    assert_eq!(count(&mut begun), 2);
    let again = time(&mut begun);
    assert!(again >= before, "{before} {again}");
    // It said READY in the life that it has this memory from.
    let next = begun.snapshot(&thread).expect("said READY");
    let mut last = start(&permit.begin_from(&next).expect("fits"));
    assert_eq!(count(&mut last), 4);
}

#[test]
fn a_muscle_of_the_sdk_keeps_what_it_was_told() {
    type Limits = BTreeMap<String, serde_json::Value>;
    let folder = tempfile::tempdir().expect("a folder");
    let shop = shop().expect("builds");
    let log = folder.path().join("audit.jsonl");
    let referee =
        referee::Referee::open(&referee::Config::new(shop.join("trust.store"), &log)).expect("opens");
    let muscle = referee
        .admit_file(&shop.join("order-risk.muscle"))
        .expect("is admitted");
    let permit = muscle.permit(&[]).expect("is permitted");
    let thread = thread();
    let mut cell = start(&permit);
    let set: Limits = cell
        .call(&thread, "set_limit", &("order_quantity", 77.0))
        .expect("answers");
    let snapshot = as_bytes(&cell.snapshot(&thread).expect("the SDK reads anew"));
    let begun = permit.begin_from(&snapshot).expect("fits");
    let mut other = start(&begun);
    for value in [78.0, 79.0] {
        let limits: Limits = other.call(&thread, "limits", &()).expect("answers");
        assert_eq!(limits, set);
        let changed: Limits = other
            .call(&thread, "set_limit", &("order_quantity", value))
            .expect("answers");
        assert_eq!(changed["order_quantity"].as_f64(), Some(value));
        other.reset(Inputs::default()).expect("is reset");
    }
    let fresh: Limits = start(&permit).call(&thread, "limits", &()).expect("answers");
    assert_ne!(fresh, set);
}

#[test]
fn what_cannot_be_kept_whole_is_refused_by_name_and_goes_on() {
    let host = Host::new();
    let thread = thread();
    let kept = |permit: &Permit, function: &str| {
        let mut cell = start(permit);
        let before = cell.snapshot(&thread).map(drop);
        cell.call::<_, serde_json::Value>(&thread, function, &())
            .expect("answers");
        let after = cell.snapshot(&thread).map(drop);
        cell.call::<_, serde_json::Value>(&thread, function, &())
            .expect("goes on");
        [before, after].map(|kept| match kept {
            Err(NoSnapshot::Unsound(why)) => why.to_string(),
            other => panic!("{other:?}"),
        })
    };
    // A segment, without which it would go on all the same and be another.
    for why in kept(&host.permit("segments"), "count") {
        assert!(why.contains("segments"), "{why}");
    }
    // A handle, which it may have kept.
    for why in kept(&host.permit("acts"), "count") {
        assert!(why.contains("READY"), "{why}");
    }
}

#[test]
fn a_snapshot_is_only_for_what_it_was_made_of() {
    let host = Host::new();
    let snapshot = counted(&host, 1);
    let other = host.permit("freezes").begin_from(&snapshot);
    assert_eq!(rejected(other), "snapshot-of-another-bundle");
    let begun = host.permit("echoes").begin_from(&snapshot).expect("fits");
    assert_eq!(rejected(begun.start_main(Inputs::default())), "wrong-style");
    let bytes = snapshot.to_bytes();
    let changed = |at: usize, with: &[u8]| {
        let mut changed = bytes.clone();
        changed[at..at + with.len()].copy_from_slice(with);
        Snapshot::from_bytes(&changed).and_then(|read| host.permit("echoes").begin_from(&read))
    };
    // As the form has it: name, version, bundle, layout's seed; then sizes.
    let sizes = 16 + 4 + 32 + 56;
    assert_eq!(rejected(changed(0, b"x")), "snapshot-damaged");
    assert_eq!(rejected(changed(16, &[2])), "snapshot-damaged");
    assert_eq!(rejected(changed(20, &[!bytes[20]])), "snapshot-of-another-bundle");
    for size in 0..5 {
        let at = sizes + size * 8;
        assert_eq!(
            rejected(changed(at + 1, &[!bytes[at + 1]])),
            "snapshot-unfit",
            "size {size}"
        );
    }
    let heap = sizes + 5 * 8;
    for bytes in [0, 1, 0x1000, u64::MAX, u64::MAX - 0xfff] {
        assert_eq!(rejected(changed(heap, &bytes.to_le_bytes())), "snapshot-damaged");
    }
    for text in [&b""[..], b"referee snapshot", &bytes[..bytes.len() - 1]] {
        assert_eq!(rejected(Snapshot::from_bytes(text)), "snapshot-damaged");
    }
    assert!(host.log().contains("snapshot-unfit"), "a refusal is recorded");
}

#[test]
fn a_changed_byte_is_refused_or_harms_nobody_but_the_muscle() {
    let host = Host::new();
    let thread = thread();
    let mut permit = host.permit("echoes");
    permit.narrow_deadline(40);
    let bytes = counted(&host, 1).to_bytes();
    // All that is not memory but the middle of the vector state; then some of the pages' addresses.
    let to_vectors = 16 + 4 + 32 + 56 + 48 + 4 + 1 + 8 + 8 + 1 + 4 + 8 + 1 + 8 + 20 + 1 + 144;
    let pages = to_vectors + 0xe00;
    let places = (20..to_vectors + 32)
        .chain(to_vectors + 512..to_vectors + 530)
        .chain(pages..pages + 16);
    let mut began = 0;
    for at in places {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        let begun = Snapshot::from_bytes(&changed).and_then(|read| permit.begin_from(&read));
        let begun = match begun {
            Ok(begun) => begun,
            Err(StartError::Rejected { .. }) => continue,
            Err(error) => panic!("{at}: {error:?}"),
        };
        began += 1;
        let mut cell = start(&begun);
        match cell.call::<_, u32>(&thread, "count", &()) {
            Err(CallError::Host(error)) => panic!("{at}: {error}"),
            Err(CallError::Audit(error)) => panic!("{at}: {error}"),
            _ => {}
        }
        // And once more by a reset, or in another machine.
        cell.reset(Inputs::default()).expect("begins again");
    }
    assert!(began > 100, "{began} were not even refused");
}
