//! No secret is left in the memory of the process that had it, nor in any file.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use referee_attest::{Attester, Reply, Request, StateOwner};
use sha2::Sha256;

use crate::host::{Host, bundle, measure, programs};

/// Finds the master key, or the seed of the instance key, that belongs to this public key: whatever 32 bytes in a row could be one are tried.
struct Hunt {
    public: [u8; 32],
    tried: HashSet<[u8; 32]>,
}

impl Hunt {
    fn new(public: &str) -> Hunt {
        let bytes = referee_evidence::from_hex(public).expect("is hexadecimal");
        Hunt {
            public: bytes.try_into().expect("is a key"),
            tried: HashSet::new(),
        }
    }

    /// Offset of the first secret.
    fn find(&mut self, memory: &[u8]) -> Option<(usize, &'static str)> {
        for at in (0..memory.len().saturating_sub(31)).step_by(4) {
            let window: [u8; 32] = memory[at..at + 32].try_into().expect("has that length");
            // 32 random bytes have about 30 different ones; code, text and pointers far fewer.
            let mut seen = [0u64; 4];
            for byte in window {
                seen[usize::from(byte / 64)] |= 1 << (byte % 64);
            }
            let different: u32 = seen.iter().map(|word| word.count_ones()).sum();
            if different < 24 || !self.tried.insert(window) {
                continue;
            }
            if SigningKey::from_bytes(&window).verifying_key().to_bytes() == self.public {
                return Some((at, "the instance key's seed"));
            }
            let mut seed = [0; 32];
            Hkdf::<Sha256>::new(None, &window)
                .expand(b"referee instance key 1", &mut seed)
                .expect("is short");
            if SigningKey::from_bytes(&seed).verifying_key().to_bytes() == self.public {
                return Some((at, "the master key"));
            }
        }
        None
    }
}

/// Everything that a process can write to.
fn memory_of(process: u32) -> Vec<(String, Vec<u8>)> {
    let maps = std::fs::read_to_string(format!("/proc/{process}/maps")).expect("is ours to read");
    let memory = File::open(format!("/proc/{process}/mem")).expect("is ours to read");
    let writable = maps
        .lines()
        .filter(|line| line.split(' ').nth(1).is_some_and(|mode| mode.starts_with("rw")));
    let region = |line: &str| {
        let (from, to) = line.split(' ').next()?.split_once('-')?;
        let (from, to) = (
            u64::from_str_radix(from, 16).ok()?,
            u64::from_str_radix(to, 16).ok()?,
        );
        let mut bytes = vec![0; usize::try_from(to - from).ok()?];
        memory.read_exact_at(&mut bytes, from).ok()?;
        Some((line.to_owned(), bytes))
    };
    writable.filter_map(region).collect()
}

#[test]
fn the_hunt_finds_what_is_there() {
    let master = sha2::Digest::finalize(<Sha256 as sha2::Digest>::new_with_prefix(b"a key"));
    let mut seed = [0; 32];
    Hkdf::<Sha256>::new(None, &master)
        .expand(b"referee instance key 1", &mut seed)
        .expect("is short");
    let public = referee_evidence::to_hex(&SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    let place = |secret: &[u8]| [&[7; 52][..], secret, &[9; 40]].concat();
    assert_eq!(
        Hunt::new(&public).find(&place(&seed)),
        Some((52, "the instance key's seed"))
    );
    assert_eq!(
        Hunt::new(&public).find(&place(&master)),
        Some((52, "the master key"))
    );
    assert_eq!(Hunt::new(&public).find(&[5; 400]), None);
}

#[test]
fn a_key_that_was_used_is_left_nowhere_in_memory_or_files() {
    let host = Host::ready();
    let mut session =
        Attester::start(programs().tpm.path(), host.open.clone(), Duration::from_secs(60)).expect("opens");
    let key = |session: &mut Attester, request: &Request| match session.ask(request).expect("is answered") {
        Reply::Status { instance_key, .. } | Reply::Keys { instance_key, .. } => instance_key,
        other => panic!("{other:?}"),
    };
    let mut keys = vec![key(&mut session, &Request::Status)];
    session.ask(&measure(bundle("second", 8))).expect("is measured");
    keys.push(key(&mut session, &Request::Rotate { older_than: None }));
    // It waits for the next request, and has nothing to do with keys.
    let regions = memory_of(session.process_id());
    assert!(
        regions.iter().any(|(line, _)| line.contains("[heap]"))
            && regions.iter().any(|(line, _)| line.contains("[stack]"))
    );
    for public in &keys {
        for (line, bytes) in &regions {
            assert_eq!(Hunt::new(public).find(bytes), None, "in {line}");
        }
    }
    // Neither core dumps nor other processes of this user get at it while it does.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", session.process_id())).expect("is there");
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .expect("is there");
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    drop(session);
    for public in &keys {
        for folder in [host.path("state"), host.tpm_directory()] {
            hunt_in_files(public, &folder);
        }
    }
}

#[test]
fn neither_a_state_nor_the_offline_key_is_left_in_memory() {
    let host = Host::ready();
    let (private, public) = crate::keys::offline_key();
    let mut session = host.session();
    let owner = StateOwner {
        publisher: "acme".into(),
        muscle: "memo".into(),
        slot: "notes".into(),
    };
    // 48 bytes that nothing else has.
    let saved: Vec<u8> = (0..48u8).map(|index| index.wrapping_mul(167) ^ 0x5A).collect();
    let save = Request::SaveState {
        owner: owner.clone(),
        bundle: bundle("memo", 5),
        after: None,
        bytes: referee_evidence::to_hex(&saved),
    };
    session.ask(&save).expect("is saved");
    session
        .ask(&Request::LoadState { owner, epoch: 1 })
        .expect("is loaded");
    let set = Request::SetRecovery { public: Some(public) };
    session.ask(&set).expect("is set");
    let recover = Request::Recover {
        private: private.clone(),
    };
    session.ask(&recover).expect("is recovered");
    let key = referee_evidence::from_hex(&private).expect("is hexadecimal");
    let text = referee_evidence::to_hex(&saved);
    for (what, secret) in [
        ("the state", &saved[8..40]),
        ("the state in digits", &text.as_bytes()[16..80]),
        ("the offline key", &key[..]),
        ("the offline key in digits", private.as_bytes()),
    ] {
        for (line, bytes) in memory_of(session.process_id()) {
            let found = bytes.windows(secret.len()).position(|window| window == secret);
            assert_eq!(found, None, "{what}, in {line}");
        }
    }
}

fn hunt_in_files(public: &str, folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("is there") {
        let path = entry.expect("is there").path();
        if path.is_file() {
            let bytes = std::fs::read(&path).expect("is ours to read");
            for shift in 0..4.min(bytes.len()) {
                assert_eq!(
                    Hunt::new(public).find(&bytes[shift..]),
                    None,
                    "{}",
                    path.display()
                );
            }
        }
    }
}
