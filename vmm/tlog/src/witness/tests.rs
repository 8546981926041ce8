use tempfile::TempDir;

use super::*;
use crate::note::{Algorithm, Verification};
use crate::tree::{Leaves, TreeHead, root};
use ed25519_dalek::{Signer as _, SigningKey};

const ORIGIN: &str = "example.com/log";

struct Rig {
    folder: TempDir,
    log: SigningKey,
    tree: Leaves,
}

impl Rig {
    fn new(records: u64) -> Rig {
        let mut tree = Leaves::default();
        (0..records).for_each(|record| tree.push(record.to_string().as_bytes()));
        Rig {
            folder: tempfile::tempdir().expect("is made"),
            log: SigningKey::from_bytes(&[7; 32]),
            tree,
        }
    }

    fn key(&self) -> VerifierKey {
        VerifierKey::new(ORIGIN, Algorithm::Ed25519, &self.log.verifying_key().to_bytes()).expect("is a key")
    }

    fn witness(&self) -> Witness {
        let keys = CosignerKeys::from_seeds("witness", &[1; 32], &[2; 32]).expect("is a name");
        Witness::new(self.folder.path(), keys, vec![(ORIGIN.into(), self.key())])
    }

    fn signed(&self, origin: &str, head: TreeHead) -> Note {
        let mut note = Note::unsigned(Checkpoint::new(origin, head).expect("is a name").to_string());
        let signature = self.log.sign(note.text.as_bytes()).to_bytes().to_vec();
        note.signatures.push(self.key().line(signature));
        note
    }

    fn head(&self, size: u64) -> TreeHead {
        let root = root(&self.tree, size).expect("is there");
        TreeHead { size, root }
    }

    fn request(&self, old: u64, size: u64) -> Request {
        Request::make(&self.tree, old, self.signed(ORIGIN, self.head(size))).expect("is there")
    }

    fn ask(&self, request: &Request) -> Answer {
        self.witness()
            .answer(request.to_string().as_bytes(), 1000)
            .expect("has its memory")
    }
}

#[test]
fn growth_is_cosigned_and_remembered_by_another_process_too() {
    let rig = Rig::new(40);
    for (old, size) in [(0, 3), (3, 3), (3, 17), (17, 40)] {
        let request = rig.request(old, size);
        let Answer::Cosigned(lines) = rig.ask(&request) else {
            panic!("{old} to {size}");
        };
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut note = request.checkpoint.clone();
        note.signatures
            .extend(Answer::parse_cosigned(text.as_bytes()).expect("are lines"));
        for key in CosignerKeys::from_seeds("witness", &[1; 32], &[2; 32])
            .expect("is a name")
            .public()
            .expect("is a name")
        {
            assert_eq!(key.verify(&note).expect("holds"), Verification::SignedAt(1000));
        }
    }
}

#[test]
fn a_log_cannot_go_back_nor_be_two() {
    let rig = Rig::new(40);
    assert_eq!(rig.ask(&rig.request(0, 20)).status(), 200);
    // Its end cut off: whatever it says of the past.
    assert_eq!(rig.ask(&rig.request(0, 10)), Answer::Conflict { size: 20 });
    let mut back = rig.request(10, 10);
    back.old = 20;
    assert_eq!(rig.ask(&back).status(), 400);
    // Written anew, and grown.
    let mut other = Rig::new(0);
    (0..30).for_each(|record| other.tree.push(format!("other {record}").as_bytes()));
    let anew = other.request(20, 30);
    assert!(matches!(rig.ask(&anew), Answer::NotConsistent(_)));
    // Another log of the same size under the same name.
    assert_eq!(
        rig.ask(&other.request(20, 20)),
        Answer::Split { seen: rig.head(20) }
    );
    // None of that changed its memory.
    assert_eq!(rig.ask(&rig.request(20, 40)).status(), 200);
}

#[test]
fn what_is_not_the_logs_word_is_not_cosigned() {
    let rig = Rig::new(9);
    let unknown =
        Request::make(&rig.tree, 0, rig.signed("example.com/other", rig.head(9))).expect("is there");
    assert_eq!(rig.ask(&unknown), Answer::UnknownLog);
    let mut unsigned = rig.request(0, 9);
    unsigned.checkpoint.signatures[0].bytes[0] ^= 1;
    assert_eq!(rig.ask(&unsigned), Answer::NotSigned);
    unsigned.checkpoint.signatures[0].name = "somebody".into();
    assert_eq!(rig.ask(&unsigned), Answer::NotSigned);
    let mut proof = rig.request(0, 9);
    proof.proof.push(rig.head(9).root);
    assert!(matches!(rig.ask(&proof), Answer::NotConsistent(_)));
    assert_eq!(
        rig.witness()
            .answer(b"old x", 0)
            .expect("has its memory")
            .status(),
        400
    );
    assert_eq!(rig.ask(&rig.request(0, 9)).status(), 200);
}
