//! Every rule of a trust store.

mod support;

use referee_bundle::{
    Algorithm, Digest, Document, KeyId, NameScope, PublicKey, Publisher, PublisherKey, Rejected,
    RootDocument, RootPins, TrustStore,
};
use support::{EARLIER, Keys, LATER, NOW, block, document, publisher, root, store_bytes, store_of};

/// Parses a document that was changed before its root key signed it.
fn changed(change: impl FnOnce(&mut RootDocument)) -> Rejected {
    let mut document = document();
    change(&mut document);
    TrustStore::parse(&store_bytes(&document.encode(), &[root()]), NOW).expect_err("a refusal")
}

/// Parses a document's bytes that were changed before its root key signed them.
fn raw(change: impl FnOnce(&mut Vec<u8>)) -> Rejected {
    let mut bytes = document().encode();
    change(&mut bytes);
    TrustStore::parse(&store_bytes(&bytes, &[root()]), NOW).expect_err("a refusal")
}

#[test]
fn a_good_store_says_what_was_signed() {
    let store = store_of(&document());
    assert_eq!(store.document(), &document());
    assert_eq!(
        store.digest(),
        Digest::of(&store_bytes(&document().encode(), &[root()]))
    );
    assert_eq!(
        store.pins(),
        RootPins {
            key_ids: vec![root().id()],
            threshold: 1
        }
    );
}

#[test]
fn rejects_too_few_signatures_by_root_keys() {
    let missing = |keys: &[Keys], document: &RootDocument| {
        TrustStore::parse(&store_bytes(&document.encode(), keys), NOW)
    };
    let refused = |valid, threshold| Some(Rejected::RootSignatures { valid, threshold });
    assert_eq!(missing(&[], &document()).err(), refused(0, 1));
    // A publisher's key and a stranger's are no root keys.
    assert_eq!(
        missing(&[publisher(), Keys::of(9)], &document()).err(),
        refused(0, 1)
    );
    let mut two = document();
    two.root_keys.push(Keys::of(3).public());
    two.root_threshold = 2;
    assert_eq!(missing(&[root()], &two).err(), refused(1, 2));
    missing(&[root(), Keys::of(3)], &two).expect("two of two");
}

#[test]
fn rejects_a_wrong_signature_by_a_root_key() {
    let bytes = document().encode();
    let wrong = block(Some(bytes.clone()), vec![root().sign(b"", &bytes)]);
    assert_eq!(
        TrustStore::parse(&wrong, NOW).err(),
        Some(Rejected::SignatureInvalid { key_id: root().id() })
    );
    let absent = block(None, vec![root().sign(referee_bundle::TRUST_STORE_AAD, b"")]);
    assert_eq!(
        TrustStore::parse(&absent, NOW).err(),
        Some(Rejected::StoreUnsigned)
    );
}

#[test]
fn rejects_an_expired_store_from_the_second_on() {
    for expired in [EARLIER, NOW] {
        assert_eq!(
            changed(|document| document.expires = expired),
            Rejected::StoreExpired { expired, now: NOW }
        );
    }
}

#[test]
fn rejects_thresholds_that_no_signatures_can_reach() {
    for threshold in [0, 2, u64::MAX] {
        assert_eq!(
            changed(|document| document.root_threshold = threshold),
            Rejected::RootThreshold { threshold, keys: 1 }
        );
    }
}

#[test]
fn a_key_has_one_place() {
    let key_id = publisher().id();
    assert_eq!(
        changed(|document| {
            let key = document.publishers[0].keys[0].clone();
            document.publishers[0].keys.push(key);
        }),
        Rejected::KeyDuplicate { key_id }
    );
    assert_eq!(
        changed(|document| document.root_keys.push(publisher().public())),
        Rejected::KeyDuplicate { key_id }
    );
    // One key twice would be counted as two.
    assert_eq!(
        changed(|document| document.root_keys.push(root().public())),
        Rejected::KeyDuplicate { key_id: root().id() }
    );
    assert_eq!(
        changed(|document| document.revoked_keys.push(root().id())),
        Rejected::RootKeyRevoked { key_id: root().id() }
    );
}

#[test]
fn rejects_lists_that_are_not_sorted() {
    let unsorted = |field| Rejected::NotSorted { field, index: 1 };
    assert_eq!(
        changed(|document| document.revoked_keys = vec![KeyId([2; 32]), KeyId([1; 32])]),
        unsorted("revoked keys")
    );
    assert_eq!(
        changed(|document| document.revoked_bundles = vec![Digest([2; 32]); 2]),
        unsorted("revoked bundles")
    );
    assert_eq!(
        changed(|document| document.required_algorithms = vec![Algorithm::Ed25519, Algorithm::MlDsa65]),
        unsorted("required algorithms")
    );
    assert_eq!(
        changed(|document| document.publishers[0].scopes.push(NameScope::All)),
        unsorted("scopes")
    );
    assert_eq!(
        changed(|document| document.publishers.push(Publisher {
            name: "aaa".to_owned(),
            keys: Vec::new(),
            scopes: Vec::new(),
        })),
        unsorted("publishers")
    );
}

#[test]
fn rejects_bad_names_scopes_keys_and_algorithms() {
    assert_eq!(
        changed(|document| document.publishers[0].name = "no/path".to_owned()),
        Rejected::NameInvalid {
            field: "publisher",
            index: 0
        }
    );
    let bytes = document().encode();
    let at = bytes
        .windows(13)
        .position(|text| text == b"com.example.*")
        .expect("the scope");
    assert_eq!(
        raw(|bytes| bytes[at + 12] = b'!'),
        Rejected::ScopeInvalid {
            publisher: "example".to_owned(),
            index: 0
        }
    );
    let at = bytes
        .windows(32)
        .position(|key| key == publisher().public().bytes())
        .expect("the key");
    // The identity of the curve's group: every message has the same signature.
    assert_eq!(
        raw(|bytes| {
            bytes[at..at + 32].fill(0);
            bytes[at] = 1;
        }),
        Rejected::KeyInvalid {
            algorithm: Algorithm::Ed25519,
            size: 32
        }
    );
    assert_eq!(
        raw(|bytes| bytes[at - 3] = 0x27),
        Rejected::AlgorithmUnsupported { algorithm: -8 }
    );
    assert_eq!(
        changed(|document| document.required_algorithms = vec![Algorithm::MlDsa65]),
        Rejected::AlgorithmNotRequired {
            algorithm: Algorithm::Ed25519
        }
    );
    assert_eq!(
        changed(|document| document.version = 0),
        Rejected::OutOfRange {
            field: "version",
            value: 0,
            least: 1,
            most: u64::MAX
        }
    );
}

#[test]
fn rejects_unknown_missing_trailing_and_otherwise_encoded_fields() {
    let size = document().encode().len();
    assert_eq!(
        raw(|bytes| {
            bytes[0] += 1;
            bytes.extend([9, 0]);
        }),
        Rejected::UnknownField {
            document: Document::TrustStore,
            within: "trust store",
            key: 9,
            offset: size
        }
    );
    assert_eq!(
        raw(|bytes| {
            bytes[0] -= 1;
            bytes.truncate(size - 3);
        }),
        Rejected::MissingField {
            document: Document::TrustStore,
            field: "required algorithms"
        }
    );
    assert_eq!(
        raw(|bytes| bytes.push(0)),
        Rejected::TrailingInDocument {
            document: Document::TrustStore,
            offset: size
        }
    );
    assert_eq!(
        raw(|bytes| drop(bytes.splice(0..1, [0xb8, 8]))),
        Rejected::NonCanonical {
            document: Document::TrustStore,
            offset: 0
        }
    );
    assert_eq!(
        raw(|bytes| bytes[2] = 2),
        Rejected::UnknownValue {
            document: Document::TrustStore,
            field: "format",
            value: 2
        }
    );
}

#[test]
fn keys_of_the_second_algorithm_may_be_listed_and_required() {
    let mut document = document();
    document.publishers[0].keys.push(PublisherKey {
        public_key: PublicKey::new(Algorithm::MlDsa65, &[7; 1952]).expect("of the right size"),
        expires: LATER,
    });
    document.required_algorithms.insert(0, Algorithm::MlDsa65);
    assert_eq!(
        store_of(&document).required_algorithms(),
        [Algorithm::MlDsa65, Algorithm::Ed25519]
    );
}

#[test]
fn a_pinned_root_key_must_have_signed() {
    let bytes = store_bytes(&document().encode(), &[root()]);
    let pins = |key_ids, threshold| RootPins { key_ids, threshold };
    TrustStore::parse_pinned(&bytes, &pins(vec![root().id()], 1), NOW).expect("signed by the pinned key");
    // A threshold of none would accept anybody's store.
    for threshold in [0, 1] {
        assert_eq!(
            TrustStore::parse_pinned(&bytes, &pins(vec![Keys::of(9).id()], threshold), NOW).err(),
            Some(Rejected::PinnedSignatures {
                valid: 0,
                threshold: 1
            })
        );
    }
    // The store's own threshold cannot lower the pinned one.
    assert_eq!(
        TrustStore::parse_pinned(&bytes, &pins(vec![root().id(), Keys::of(9).id()], 2), NOW).err(),
        Some(Rejected::PinnedSignatures {
            valid: 1,
            threshold: 2
        })
    );
    // Listing the pinned key is not enough: it must sign.
    let mut listed = document();
    listed.root_keys = vec![root().public(), Keys::of(9).public()];
    assert_eq!(
        TrustStore::parse_pinned(
            &store_bytes(&listed.encode(), &[Keys::of(9)]),
            &pins(vec![root().id()], 1),
            NOW
        )
        .err(),
        Some(Rejected::PinnedSignatures {
            valid: 0,
            threshold: 1
        })
    );
}

#[test]
fn the_next_version_is_signed_by_the_root_keys_of_both() {
    let first = store_of(&document());
    let mut second = document();
    second.version = 2;
    second.root_keys = vec![Keys::of(3).public()];
    let bytes = second.encode();
    first
        .followed_by(&store_bytes(&bytes, &[root(), Keys::of(3)]), NOW)
        .expect("signed by both");
    assert_eq!(
        first.followed_by(&store_bytes(&bytes, &[Keys::of(3)]), NOW).err(),
        Some(Rejected::PinnedSignatures {
            valid: 0,
            threshold: 1
        })
    );
    assert_eq!(
        first.followed_by(&store_bytes(&bytes, &[root()]), NOW).err(),
        Some(Rejected::RootSignatures {
            valid: 0,
            threshold: 1
        })
    );
    for found in [1, 3] {
        second.version = found;
        assert_eq!(
            first
                .followed_by(&store_bytes(&second.encode(), &[root(), Keys::of(3)]), NOW)
                .err(),
            Some(Rejected::StoreOutOfSequence { found, expected: 2 })
        );
    }
}
