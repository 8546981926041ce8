//! The seeds of the fuzz targets are what the format gives today.
//!
//! After a change of the format: `REFEREE_WRITE_CORPUS=1 cargo test -p referee-bundle --test corpus`.

mod support;

use std::fs;
use std::path::Path;

use referee_bundle::{
    Algorithm, CapabilityRequest, ClockGrade, Digest, FilesAccess, KeyId, Manifest, PublicKey, PublisherKey,
    RootDocument, SignatureSet, Slot, Symbol, encode_symbols,
};
use support::{LATER, Pieces, block, document, elf, good, manifest, publisher, root, store_bytes};

#[test]
fn seeds_are_what_the_format_gives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fuzz/corpus");
    for (target, name, bytes) in seeds() {
        let path = folder.join(target).join(name);
        if std::env::var_os("REFEREE_WRITE_CORPUS").is_some() {
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, &bytes).expect("a seed");
        }
        let kept = fs::read(&path).unwrap_or_default();
        assert!(kept == bytes, "{} is stale", path.display());
    }
}

fn seeds() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let store = full_document().encode();
    let pieces = Pieces::of(&manifest());
    let signature = publisher().sign(&pieces.header(), &pieces.manifest);
    let symbols = ["first", "second"]
        .into_iter()
        .zip([0x1000, 0x2000])
        .map(|(name, vaddr)| Symbol {
            vaddr,
            size: 16,
            name: name.to_owned(),
        });
    vec![
        ("bundle", "signed", good()),
        ("bundle", "unsigned", pieces.bundle_with(&[])),
        ("image", "small", elf::small()),
        ("manifest", "small", manifest().encode()),
        ("manifest", "full", full_manifest().encode()),
        ("signatures", "one", block(None, vec![signature])),
        (
            "signatures",
            "none",
            SignatureSet::default().encode().expect("encodes"),
        ),
        ("symbols", "two", encode_symbols(symbols.collect()).expect("fits")),
        ("trust_store", "document", store.clone()),
        ("trust_store", "signed", store_bytes(&store, &[root()])),
    ]
}

/// A manifest with every kind of request.
fn full_manifest() -> Manifest {
    let requests = [
        CapabilityRequest::Console { input: true },
        CapabilityRequest::Args,
        CapabilityRequest::Env {
            names: vec!["HOME".to_owned()],
        },
        CapabilityRequest::Clock {
            grade: ClockGrade::Fine,
        },
        CapabilityRequest::Random,
        CapabilityRequest::Files {
            access: FilesAccess::ReadWrite,
            max_bytes: 1 << 20,
            max_files: 3,
        },
        CapabilityRequest::VsockListen { port: 1024 },
        CapabilityRequest::VsockConnect { port: 1025 },
        CapabilityRequest::Pio {
            first: 0x60,
            last: 0x64,
        },
    ];
    let mut full = manifest();
    full.slots = requests
        .into_iter()
        .zip('a'..)
        .map(|(request, name)| Slot {
            name: name.to_string(),
            request,
            delegated: None,
        })
        .collect();
    full.limits.cpu_ms = Some(1);
    full.limits.deadline_ms = Some(2);
    full.exports = vec!["call".to_owned()];
    full.description = "full".to_owned();
    full
}

/// A document with keys of both algorithms and something revoked.
fn full_document() -> RootDocument {
    let mut full = document();
    full.publishers[0].keys.push(PublisherKey {
        public_key: PublicKey::new(Algorithm::MlDsa65, &[7; 1952]).expect("of the right size"),
        expires: LATER,
    });
    full.revoked_keys = vec![KeyId([1; 32])];
    full.revoked_bundles = vec![Digest([2; 32])];
    full.required_algorithms.insert(0, Algorithm::MlDsa65);
    full
}
