//! Muscles that begin after their start-up: which do, that nothing tells their lives from others, and what they do not share.

#[path = "templates/snapshots.rs"]
mod snapshots;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use referee::{CallError, Cell, CellThread, Config, Inputs, Permit, Referee};
use referee_tests::Workshop;

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"))
}

/// A library with a pool and a log of its own.
struct Host {
    folder: tempfile::TempDir,
    referee: Referee,
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config {
            pool: 1,
            ..Config::new(workshop().trust_store(), folder.path().join("audit.jsonl"))
        };
        let referee = Referee::open(&config).expect("opens");
        Host { folder, referee }
    }

    fn permit(&self, name: &str) -> Permit {
        let guest = workshop().guest("reactor", name).expect("is there");
        let bundle = workshop().bundle(&guest).expect("is built");
        let muscle = self.referee.admit_file(&bundle).expect("is admitted");
        muscle.permit(&[]).expect("is permitted")
    }

    fn log(&self) -> String {
        let path = self.folder.path().join("audit.jsonl");
        referee_audit::verify(&path).expect("verifies");
        std::fs::read_to_string(path).expect("is there")
    }
}

fn thread() -> CellThread {
    CellThread::enter().expect("timers")
}

fn start(permit: &Permit) -> Cell {
    permit.start(Inputs::default()).expect("starts")
}

/// A cell from those that are kept loaded, as soon as there is one.
fn start_templated(permit: &Permit) -> Cell {
    let begun = Instant::now();
    loop {
        let cell = start(permit);
        if cell.is_templated() {
            return cell;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "none is ready");
        drop(cell);
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn memory(cell: &Cell) -> Vec<(u64, Vec<u8>)> {
    cell.memory().expect("is readable")
}

#[test]
fn a_muscle_without_grants_is_frozen_when_it_has_been_reset() {
    let host = Host::new();
    let thread = thread();
    let mut cell = start(&host.permit("echoes"));
    for life in 0..4 {
        for expected in 0..3u32 {
            let count: u32 = cell.call(&thread, "count", &()).expect("answers");
            assert_eq!(count, expected);
        }
        assert_eq!(cell.is_templated(), life > 0, "life {life}");
        if life > 1 {
            assert_eq!(cell.usage().exits, 3, "one for each call, none for the start-up");
        }
        cell.reset(Inputs::default()).expect("is reset");
    }
}

#[test]
fn a_life_from_a_template_finds_all_as_it_was_frozen() {
    let host = Host::new();
    let thread = thread();
    // The guest exits with a code of its own if a register or a byte of memory is not as it left it.
    let mut cell = start(&host.permit("freezes"));
    for _ in 0..2 {
        cell.call::<_, ()>(&thread, "f", &()).expect("answers");
        cell.reset(Inputs::default()).expect("is reset");
    }
    assert!(cell.is_templated());
    // The host's view, byte for byte, of pages that start-up touched and of those that it did not.
    let frozen = memory(&cell);
    for _ in 0..5 {
        cell.call::<_, ()>(&thread, "f", &()).expect("answers");
        assert_eq!(cell.usage().exits, 1);
        assert!(frozen != memory(&cell), "it made nothing dirty");
        cell.reset(Inputs::default()).expect("is reset");
        assert!(frozen == memory(&cell), "something is left of a life");
    }
}

#[test]
fn cells_beyond_those_that_are_kept_loaded_begin_from_the_same_template() {
    let host = Host::new();
    let thread = thread();
    let permit = host.permit("freezes");
    let loaded = permit.keep_loaded(1).expect("are loaded");
    let frozen = memory(&start_templated(&permit));
    // Fewer than those that `cells_from_one_template_have_in_common_what_they_cannot_write` looks for in this process.
    let mut cells: Vec<Cell> = (0..3).map(|_| start(&permit)).collect();
    for cell in &cells {
        assert!(cell.is_templated());
        assert!(frozen == memory(cell), "it is not as the template");
    }
    for cell in &mut cells {
        cell.call::<_, ()>(&thread, "f", &()).expect("answers");
        assert_eq!(cell.usage().exits, 1);
    }
    drop(loaded);
    assert!(!start(&permit).is_templated(), "no cells are kept any more");
}

#[test]
fn cells_that_are_kept_loaded_begin_from_one_template() {
    let host = Host::new();
    let thread = thread();
    let permit = host.permit("freezes");
    let loaded = permit.keep_loaded(2).expect("are loaded");
    let first = start_templated(&permit);
    let frozen = memory(&first);
    for _ in 0..5 {
        let mut cell = start_templated(&permit);
        assert!(frozen == memory(&cell), "it is not as the template");
        for _ in 0..3 {
            cell.call::<_, ()>(&thread, "f", &()).expect("answers");
            assert_eq!(cell.usage().exits, 1);
            cell.reset(Inputs::default()).expect("is reset");
            assert!(frozen == memory(&cell), "something is left of a life");
        }
    }
    assert!(frozen == memory(&first), "a neighbour wrote to it");
    drop((first, loaded, permit));
    let log = host.log();
    assert_eq!(
        log.matches("\"how\":\"frozen\"").count(),
        1,
        "the start-up ran once"
    );
}

/// How often this process has each file of common pages mapped, by inode.
fn common_mappings() -> BTreeMap<String, usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("is there");
    let mut found = BTreeMap::new();
    for line in maps.lines().filter(|line| line.contains("/memfd:common")) {
        let inode = line.split_ascii_whitespace().nth(4).expect("an inode");
        *found.entry(inode.to_owned()).or_default() += 1;
    }
    found
}

#[test]
fn cells_from_one_template_have_in_common_what_they_cannot_write() {
    let host = Host::new();
    let permit = host.permit("echoes");
    let loaded = permit.keep_loaded(4).expect("are loaded");
    let thread = thread();
    let mut cells: Vec<Cell> = (0..8).map(|_| start_templated(&permit)).collect();
    for cell in &mut cells {
        let count: u32 = cell.call(&thread, "count", &()).expect("answers");
        assert_eq!(count, 0);
    }
    // All but the one that was frozen itself: once the system slot, once the image up to its data.
    let most = common_mappings()
        .into_values()
        .filter(|count| *count >= 7)
        .count();
    assert_eq!(most, 2, "{:?}", common_mappings());
    drop((cells, loaded));
}

#[test]
fn what_is_asked_for_in_a_start_up_is_asked_for_in_each_life() {
    let host = Host::new();
    let thread = thread();
    let permit = host.permit("asks");
    let _loaded = permit.keep_loaded(1).expect("are loaded");
    std::thread::sleep(Duration::from_millis(50));
    let mut cell = start(&permit);
    for _ in 0..4 {
        cell.call::<_, ()>(&thread, "f", &()).expect("answers");
        assert!(!cell.is_templated());
        cell.reset(Inputs::default()).expect("is reset");
    }
    drop(cell);
    let log = host.log();
    assert_eq!(log.matches("\"kind\":\"deny\"").count(), 4, "{log}");
    assert_eq!(log.matches("\"how\":\"frozen\"").count(), 0);
    assert_eq!(log.matches("\"kind\":\"fault\"").count(), 0, "nobody is to blame");
}

#[test]
fn after_a_fault_cells_are_laid_out_anew() {
    let host = Host::new();
    let thread = thread();
    let permit = host.permit("wrong-id");
    let _loaded = permit.keep_loaded(1).expect("are loaded");
    let boot = |cell: &Cell| memory(cell)[2].1[..muscle_abi::boot::BOOT_SIZE].to_vec();
    let mut first = start_templated(&permit);
    let second = start_templated(&permit);
    assert!(boot(&first) == boot(&second), "both are from one template");
    let fault = first.call::<_, ()>(&thread, "f", &());
    assert!(matches!(fault, Err(CallError::Fault(_))), "{fault:?}");
    let third = start_templated(&permit);
    assert!(boot(&second) != boot(&third), "the layout is the same");
}
