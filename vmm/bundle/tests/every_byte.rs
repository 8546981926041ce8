//! Every truncation and every flipped bit of a small bundle and of a small trust store.

mod support;

use std::ops::Range;

use referee_bundle::{Document, ImagePlan, Rejected, TrustStore, UnverifiedBundle};
use support::{NOW, check, document, good, publisher, root, store_bytes, store_of};

#[test]
fn the_untouched_bundle_is_good() {
    let bundle = check(good()).expect("a good bundle");
    assert_eq!(bundle.name(), "com.example.small");
    assert_eq!(bundle.signer().publisher, "example");
    assert_eq!(bundle.signer().key_id, publisher().id());
    assert_eq!(bundle.image(), support::elf::small());
    let plan = ImagePlan::check(&bundle).expect("a good image");
    assert_eq!((plan.entry(), plan.span()), (0x1200, 0x3000));
}

#[test]
fn rejects_every_truncation() {
    let bundle = good();
    for cut in 0..bundle.len() {
        let needed = if cut < 64 { 64 } else { bundle.len() as u64 };
        assert_eq!(
            check(bundle[..cut].to_vec()).err(),
            Some(Rejected::Truncated {
                size: cut as u64,
                needed
            }),
            "cut at {cut}"
        );
    }
}

#[test]
fn rejects_trailing_bytes() {
    let mut bundle = good();
    let offset = bundle.len() as u64;
    for extra in 1..=3 {
        bundle.push(0);
        assert_eq!(
            check(bundle.clone()).err(),
            Some(Rejected::TrailingBytes { offset, extra })
        );
    }
}

/// Where the pieces of the small bundle are.
struct Places {
    manifest: Range<usize>,
    signatures: Range<usize>,
    key_id: Range<usize>,
    signature: Range<usize>,
}

impl Places {
    fn of(bundle: &[u8]) -> Places {
        let parsed = UnverifiedBundle::parse(bundle, &Default::default()).expect("well-formed");
        let signature = &parsed.signatures().expect("signed").signatures[0];
        let find = |bytes: &[u8]| {
            let at = bundle
                .windows(bytes.len())
                .position(|window| window == bytes)
                .expect("is there");
            at..at + bytes.len()
        };
        let manifest = 64..64 + parsed.manifest_bytes().len();
        let block = parsed.signatures().expect("signed").encode().expect("encodes");
        Places {
            signatures: manifest.end + 4..manifest.end + 4 + block.len(),
            manifest,
            key_id: find(&signature.key_id.0),
            signature: find(&signature.bytes),
        }
    }

    /// Whether this is the refusal of a bundle in which a bit of the byte at `offset` is flipped.
    fn expects(&self, offset: usize, refusal: &Rejected) -> bool {
        let at = offset as u64;
        match offset {
            0..8 => matches!(refusal, Rejected::WrongMagic { .. }),
            8..12 => matches!(refusal, Rejected::WrongFormatVersion { .. }),
            // The signatures are then looked for elsewhere.
            12..16 => matches!(
                refusal,
                Rejected::SizeTooLarge { .. } | Rejected::SizeTooSmall { .. } | Rejected::Unsigned
            ),
            16..24 => matches!(
                refusal,
                Rejected::BodyUnaligned { .. }
                    | Rejected::SizeTooSmall { .. }
                    | Rejected::SizeTooLarge { .. }
            ),
            24..32 => matches!(
                refusal,
                Rejected::Truncated { .. } | Rejected::TrailingBytes { .. }
            ),
            32..64 => *refusal == Rejected::ReservedNotZero { offset },
            _ if self.manifest.contains(&offset) || self.signature.contains(&offset) => {
                *refusal
                    == Rejected::SignatureInvalid {
                        key_id: publisher().id(),
                    }
            }
            _ if offset < self.signatures.start => matches!(
                refusal,
                Rejected::SizeTooLarge { .. }
                    | Rejected::MalformedCbor { .. }
                    | Rejected::PaddingNotZero { .. }
            ),
            _ if self.key_id.contains(&offset) => matches!(refusal, Rejected::SignerUnknown { .. }),
            _ if self.signatures.contains(&offset) => matches!(
                refusal,
                Rejected::MalformedCbor {
                    document: Document::Signatures,
                    ..
                } | Rejected::NonCanonical {
                    document: Document::Signatures,
                    ..
                } | Rejected::AlgorithmUnsupported { .. }
                    | Rejected::SignatureMalformed { .. }
            ),
            64..4096 => *refusal == Rejected::PaddingNotZero { offset: at },
            _ => matches!(refusal, Rejected::PartDigestMismatch { index: 0, .. }),
        }
    }
}

#[test]
fn rejects_every_flipped_bit() {
    let bundle = good();
    let store = store_of(&document());
    let places = Places::of(&bundle);
    for offset in 0..bundle.len() {
        for bit in 0..8 {
            let mut flipped = bundle.clone();
            flipped[offset] ^= 1 << bit;
            let refusal = referee_bundle::verify(flipped, &store, &Default::default(), NOW)
                .err()
                .unwrap_or_else(|| panic!("accepted with bit {bit} of byte {offset:#x} flipped"));
            assert!(
                places.expects(offset, &refusal),
                "byte {offset:#x} bit {bit}: {refusal:?}"
            );
        }
    }
}

#[test]
fn rejects_every_truncation_and_every_flipped_bit_of_a_trust_store() {
    let store = store_bytes(&document().encode(), &[root()]);
    TrustStore::parse(&store, NOW).expect("a good trust store");
    for size in 0..store.len() {
        assert_eq!(
            TrustStore::parse(&store[..size], NOW).err(),
            Some(Rejected::MalformedCbor {
                document: Document::Signatures,
                field: "COSE_Sign",
                offset: 0
            }),
            "cut at {size}"
        );
    }
    for offset in 0..store.len() {
        for bit in 0..8 {
            let mut flipped = store.clone();
            flipped[offset] ^= 1 << bit;
            assert!(
                TrustStore::parse(&flipped, NOW).is_err(),
                "accepted with bit {bit} of byte {offset:#x} flipped"
            );
        }
    }
}
