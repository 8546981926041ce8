//! Who may sign what: unknown, revoked, expired and out-of-scope signers, and signatures that do not belong.

mod support;

use referee_bundle::{
    Algorithm, Digest, Document, KeyId, NameScope, PublicKey, Publisher, PublisherKey, Rejected,
    RootDocument, Signature,
};
use support::{
    EARLIER, Keys, LATER, NOW, Pieces, block, check, check_with, document, good, manifest, publisher,
};

fn with_document(change: impl FnOnce(&mut RootDocument)) -> Rejected {
    let mut document = document();
    change(&mut document);
    check_with(good(), &document).expect_err("a refusal")
}

#[test]
fn rejects_an_unsigned_bundle() {
    let pieces = Pieces::of(&manifest());
    assert_eq!(check(pieces.bundle_with(&[])).err(), Some(Rejected::Unsigned));
    assert_eq!(check(pieces.bundle(&[])).err(), Some(Rejected::Unsigned));
}

#[test]
fn rejects_an_unknown_signer() {
    let stranger = Keys::of(9);
    assert_eq!(
        check(Pieces::of(&manifest()).bundle(&[stranger])).err(),
        Some(Rejected::SignerUnknown {
            key_id: Keys::of(9).id()
        })
    );
}

#[test]
fn rejects_a_signature_by_an_unknown_key_beside_a_good_one() {
    let bundle = Pieces::of(&manifest()).bundle(&[publisher(), Keys::of(9)]);
    assert_eq!(
        check(bundle).err(),
        Some(Rejected::SignerUnknown {
            key_id: Keys::of(9).id()
        })
    );
}

#[test]
fn rejects_a_signature_over_other_bytes() {
    let pieces = Pieces::of(&manifest());
    let key_id = publisher().id();
    // By the right key, without the header: a signature for nothing.
    let signature = publisher().sign(b"", &pieces.manifest);
    assert_eq!(
        check(pieces.bundle_with(&block(None, vec![signature]))).err(),
        Some(Rejected::SignatureInvalid { key_id })
    );
    // By another key, under the right key's id.
    let mut signature = Keys::of(9).sign(&pieces.header(), &pieces.manifest);
    signature.key_id = key_id;
    assert_eq!(
        check(pieces.bundle_with(&block(None, vec![signature]))).err(),
        Some(Rejected::SignatureInvalid { key_id })
    );
}

#[test]
fn rejects_a_revoked_signer_listed_or_not() {
    let key_id = publisher().id();
    assert_eq!(
        with_document(|document| document.revoked_keys.push(key_id)),
        Rejected::SignerRevoked { key_id }
    );
    assert_eq!(
        with_document(|document| {
            document.revoked_keys.push(key_id);
            document.publishers.clear();
        }),
        Rejected::SignerRevoked { key_id }
    );
}

#[test]
fn rejects_an_expired_signer_from_the_second_on() {
    let expired = |expires| with_document(|document| document.publishers[0].keys[0].expires = expires);
    for expires in [EARLIER, NOW] {
        assert_eq!(
            expired(expires),
            Rejected::SignerExpired {
                key_id: publisher().id(),
                expired: expires,
                now: NOW
            }
        );
    }
}

#[test]
fn rejects_a_signer_outside_its_scope() {
    assert_eq!(
        with_document(|document| {
            document.publishers[0].scopes = vec![NameScope::Exactly("com.example.other".to_owned())];
        }),
        Rejected::SignerOutOfScope {
            publisher: "example".to_owned(),
            key_id: publisher().id(),
            name: "com.example.small".to_owned()
        }
    );
}

#[test]
fn rejects_a_revoked_bundle_by_the_digest_of_its_file_or_of_its_content() {
    let file = Digest::of(&good());
    let bundle = check(good()).expect("a good bundle");
    assert_eq!(bundle.digest(), file);
    for digest in [file, bundle.content_digest()] {
        assert_eq!(
            with_document(|document| document.revoked_bundles.push(digest)),
            Rejected::BundleRevoked { digest }
        );
    }
}

#[test]
fn another_signature_does_not_bring_a_revoked_bundle_back() {
    let second = Keys::of(3);
    let mut document = document();
    document.publishers[0].keys.push(PublisherKey {
        public_key: second.public(),
        expires: LATER,
    });
    let digest = check(good()).expect("a good bundle").content_digest();
    document.revoked_bundles.push(digest);
    let again = Pieces::of(&manifest()).bundle(&[second]);
    assert_ne!(Digest::of(&again), Digest::of(&good()));
    assert_eq!(
        check_with(again, &document).err(),
        Some(Rejected::BundleRevoked { digest })
    );
}

#[test]
fn rejects_signatures_of_two_publishers() {
    let mut document = document();
    document.publishers.push(Publisher {
        name: "other".to_owned(),
        keys: vec![PublisherKey {
            public_key: Keys::of(3).public(),
            expires: LATER,
        }],
        scopes: vec![NameScope::All],
    });
    let refusal = check_with(
        Pieces::of(&manifest()).bundle(&[publisher(), Keys::of(3)]),
        &document,
    );
    assert!(
        matches!(refusal, Err(Rejected::SignersDiffer { .. })),
        "{refusal:?}"
    );
}

#[test]
fn takes_two_signatures_of_one_publisher() {
    let mut document = document();
    document.publishers[0].keys.push(PublisherKey {
        public_key: Keys::of(3).public(),
        expires: LATER,
    });
    check_with(
        Pieces::of(&manifest()).bundle(&[publisher(), Keys::of(3)]),
        &document,
    )
    .expect("a good bundle");
}

#[test]
fn rejects_a_bundle_without_a_required_algorithm() {
    assert_eq!(
        with_document(|document| document.required_algorithms.insert(0, Algorithm::MlDsa65)),
        Rejected::AlgorithmMissing {
            algorithm: Algorithm::MlDsa65
        }
    );
}

#[test]
fn rejects_a_false_signature_of_a_second_algorithm_beside_a_good_one() {
    let key = PublicKey::new(Algorithm::MlDsa65, &[7; 1952]).expect("of the right size");
    let mut document = document();
    document.publishers[0].keys.push(PublisherKey {
        public_key: key.clone(),
        expires: LATER,
    });
    document.required_algorithms.insert(0, Algorithm::MlDsa65);
    let pieces = Pieces::of(&manifest());
    let signatures = vec![
        publisher().sign(&pieces.header(), &pieces.manifest),
        Signature {
            algorithm: Algorithm::MlDsa65,
            key_id: key.key_id(),
            bytes: vec![7; 3309],
        },
    ];
    assert_eq!(
        check_with(pieces.bundle_with(&block(None, signatures)), &document).err(),
        Some(Rejected::SignatureInvalid { key_id: key.key_id() })
    );
}

#[test]
fn rejects_an_algorithm_other_than_the_key_has() {
    let pieces = Pieces::of(&manifest());
    let key_id = publisher().id();
    let signature = Signature {
        algorithm: Algorithm::MlDsa65,
        key_id,
        bytes: vec![7; 3309],
    };
    assert_eq!(
        check(pieces.bundle_with(&block(None, vec![signature]))).err(),
        Some(Rejected::AlgorithmMismatch {
            key_id,
            claimed: Algorithm::MlDsa65,
            listed: Algorithm::Ed25519
        })
    );
}

#[test]
fn rejects_a_payload_in_the_signatures() {
    let pieces = Pieces::of(&manifest());
    let signature = publisher().sign(&pieces.header(), &pieces.manifest);
    let bundle = pieces.bundle_with(&block(Some(pieces.manifest.clone()), vec![signature]));
    assert_eq!(
        check(bundle).err(),
        Some(Rejected::SignatureMalformed {
            index: 0,
            field: "absent payload"
        })
    );
}

#[test]
fn rejects_bytes_after_the_signatures_and_signatures_twice() {
    let pieces = Pieces::of(&manifest());
    let signature = publisher().sign(&pieces.header(), &pieces.manifest);
    let mut longer = block(None, vec![signature.clone()]);
    longer.push(0);
    assert_eq!(
        check(pieces.bundle_with(&longer)).err(),
        Some(Rejected::MalformedCbor {
            document: Document::Signatures,
            field: "COSE_Sign",
            offset: 0
        })
    );
    let twice = block(None, vec![signature.clone(), signature]);
    assert_eq!(
        check(pieces.bundle_with(&twice)).err(),
        Some(Rejected::SignatureDuplicate {
            key_id: publisher().id()
        })
    );
}

#[test]
fn a_trust_store_signature_is_none_for_a_bundle() {
    // The same key signs the manifest's bytes as if they were a trust store.
    let pieces = Pieces::of(&manifest());
    let signature = publisher().sign(referee_bundle::TRUST_STORE_AAD, &pieces.manifest);
    let refusal = check(pieces.bundle_with(&block(None, vec![signature])));
    let key_id: KeyId = publisher().id();
    assert_eq!(refusal.err(), Some(Rejected::SignatureInvalid { key_id }));
}
