use std::fs;

use referee_audit::{AuditLog, Event, Kind, Options, Value};
use tempfile::TempDir;

use super::*;
use crate::proof::InclusionProof;
use crate::tree::{TreeHead, consistency, verify_consistency};

struct Rig {
    folder: TempDir,
    log: AuditLog,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().expect("is made");
        let log = AuditLog::open(&folder.path().join("audit.jsonl"), Options::default()).expect("opens");
        Rig { folder, log }
    }

    fn grow_to(&mut self, records: u64) {
        while self.log.head().records < records {
            let detail = [("number", Value::Number(self.log.head().records))];
            self.log
                .append("cell", "muscle", &Event::of_cell(Kind::Use, &detail))
                .expect("is written");
        }
    }

    fn publish(&self) -> Result<TreeHead, TlogError> {
        let records = self.log.head().records;
        let leaves = publish(&self.path("audit.jsonl"), records, &self.path("tiles"))?;
        let head = leaves.head()?;
        let mut note = Note::unsigned(Checkpoint::new("log", head)?.to_string());
        note.signatures = Note::parse("x\n\n— n AAAAAAAA\n".as_bytes())?.signatures;
        save_checkpoint(&self.path("tiles"), &note)?;
        Ok(head)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("tiles")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("is there") {
                let path = entry.expect("is there").path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => found.push(
                        path.strip_prefix(self.folder.path())
                            .expect("is below")
                            .display()
                            .to_string(),
                    ),
                }
            }
        }
        found.sort();
        found
    }
}

#[test]
fn a_growing_log_keeps_its_tiles_and_every_proof_comes_from_them() {
    let mut rig = Rig::new();
    let mut before = TreeHead::empty();
    for size in [1, 2, 255, 256, 257, 511, 512, 700] {
        rig.grow_to(size);
        let head = rig.publish().expect("is published");
        assert_eq!(head.size, size);
        let tiles = TileDirectory::new(&rig.path("tiles"), size);
        assert_eq!(
            root_from_tiles(&rig.path("tiles"), size).expect("is there"),
            head.root
        );
        let grown = consistency(&tiles, before.size, size).expect("is there");
        verify_consistency(&before, &head, &grown).expect("holds");
        before = head;
    }
    let text = fs::read_to_string(rig.path("audit.jsonl")).expect("is there");
    let checkpoint =
        Note::parse(&fs::read(rig.path("tiles/checkpoint")).expect("is there")).expect("is a note");
    let tiles = TileDirectory::new(&rig.path("tiles"), 700);
    for (index, line) in (0..).zip(text.lines()) {
        let proof = InclusionProof::make(&tiles, index, checkpoint.clone()).expect("is there");
        let proof = InclusionProof::parse(proof.to_string().as_bytes()).expect("is a proof");
        assert_eq!(proof.verify(line.as_bytes()).expect("holds").head, before);
        assert!(proof.verify(b"another record").is_err());
    }
    // What full tiles replace is gone, everything else is named as C2SP names it.
    assert_eq!(
        rig.files(),
        [
            "tiles/checkpoint",
            "tiles/tile/0/000",
            "tiles/tile/0/001",
            "tiles/tile/0/002.p/188",
            "tiles/tile/1/000.p/1",
            "tiles/tile/1/000.p/2",
            "tiles/tile/entries/000",
            "tiles/tile/entries/001",
            "tiles/tile/entries/002.p/188",
        ]
    );
}

#[test]
fn names_of_tiles_are_those_of_the_specification() {
    let tiles = TileDirectory::new(Path::new(""), 0);
    let shown = |kind, index, width| tiles.path(kind, index, width).display().to_string();
    assert_eq!(shown(TileKind::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
    assert_eq!(shown(TileKind::Hashes(1), 273, 112), "tile/1/273.p/112");
    assert_eq!(shown(TileKind::Entries, 5, 256), "tile/entries/005");
    // The example of the specification: 70,000 records.
    let tiles = TileDirectory::new(Path::new(""), 70_000);
    assert_eq!(
        [tiles.extent(0), tiles.extent(1), tiles.extent(2), tiles.extent(3)],
        [(273, 112), (1, 17), (0, 1), (0, 0)]
    );
}

#[test]
fn a_log_that_lost_its_end_or_was_written_anew_is_not_published() {
    let mut rig = Rig::new();
    rig.grow_to(300);
    rig.publish().expect("is published");
    let whole = fs::read_to_string(rig.path("audit.jsonl")).expect("is there");
    let cut: String = whole.lines().take(299).map(|line| format!("{line}\n")).collect();
    fs::write(rig.path("audit.jsonl"), cut).expect("is written");
    let records = u64::MAX;
    let again = |rig: &Rig| publish(&rig.path("audit.jsonl"), records, &rig.path("tiles"));
    assert!(matches!(
        again(&rig),
        Err(TlogError::Cut {
            found: 299,
            published: 300
        })
    ));
    // A sound chain with other records in it.
    fs::remove_file(rig.path("audit.jsonl")).expect("is there");
    rig.log = AuditLog::open(&rig.path("audit.jsonl"), Options::default()).expect("opens");
    rig.grow_to(400);
    assert!(matches!(again(&rig), Err(TlogError::Rewritten { record: 0 })));
    fs::write(rig.path("audit.jsonl"), whole).expect("is written");
    again(&rig).expect("is the log again");
}

/// A log that was never signed has left tiles here: they do not stay.
#[test]
fn tiles_of_a_log_that_was_never_signed_are_replaced() {
    let mut rig = Rig::new();
    rig.grow_to(300);
    publish(&rig.path("audit.jsonl"), 300, &rig.path("tiles")).expect("is published");
    std::fs::remove_file(rig.path("audit.jsonl")).expect("is there");
    rig.log = AuditLog::open(&rig.path("audit.jsonl"), Options::default()).expect("opens");
    rig.grow_to(300);
    let head = rig.publish().expect("is published");
    assert_eq!(
        root_from_tiles(&rig.path("tiles"), 300).expect("is there"),
        head.root
    );
}

/// Killed between any two writes: what is there is whole, and the next run makes the same tree.
#[test]
fn tiles_that_a_crash_left_unfinished_are_finished() {
    let mut rig = Rig::new();
    rig.grow_to(600);
    let head = rig.publish().expect("is published");
    let files = rig.files();
    for lost in &files {
        let path = rig.folder.path().join(lost);
        let kept = fs::read(&path).expect("is there");
        fs::remove_file(&path).expect("is there");
        fs::write(path.with_extension("new"), &kept[..kept.len() / 2]).expect("is written");
        assert_eq!(rig.publish().expect("is published"), head);
        assert_eq!(fs::read(&path).expect("is there"), kept, "{lost}");
        let _ = fs::remove_file(path.with_extension("new"));
    }
}
