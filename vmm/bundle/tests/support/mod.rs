//! Makes keys, trust stores, images and bundles, good and bad, with code of its own: what the verifier accepts is
//! compared with the format as it is described, not with the author's tool.
#![allow(dead_code, reason = "each test program uses another part of this module")]

pub mod elf;

use ed25519_dalek::{Signer as _, SigningKey};
use muscle_abi::boot::Style;
use referee_bundle::{
    Algorithm, Arch, Digest, KeyId, Limits, Manifest, NameScope, Part, PartKind, Permissions, PublicKey,
    Publisher, PublisherKey, ReadLimits, Rejected, RootDocument, Segment, Signature, SignatureSet,
    TRUST_STORE_AAD, TrustStore, UnixTime, VerifiedBundle, to_be_signed, verify,
};

pub const NOW: UnixTime = UnixTime(1_800_000_000);
pub const LATER: UnixTime = UnixTime(1_900_000_000);
pub const EARLIER: UnixTime = UnixTime(1_700_000_000);

/// A pair of keys; the same seed gives the same pair.
pub struct Keys(SigningKey);

impl Keys {
    pub fn of(seed: u8) -> Keys {
        Keys(SigningKey::from_bytes(&[seed; 32]))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::new(Algorithm::Ed25519, self.0.verifying_key().as_bytes()).expect("a sound key")
    }

    pub fn id(&self) -> KeyId {
        self.public().key_id()
    }

    pub fn sign(&self, external_aad: &[u8], payload: &[u8]) -> Signature {
        let message = to_be_signed(Algorithm::Ed25519, self.id(), external_aad, payload);
        Signature {
            algorithm: Algorithm::Ed25519,
            key_id: self.id(),
            bytes: self.0.sign(&message).to_bytes().to_vec(),
        }
    }
}

pub fn root() -> Keys {
    Keys::of(1)
}

pub fn publisher() -> Keys {
    Keys::of(2)
}

/// A document with one root key and one publisher, `example`, for `com.example.*`.
pub fn document() -> RootDocument {
    RootDocument {
        version: 1,
        expires: LATER,
        root_threshold: 1,
        root_keys: vec![root().public()],
        publishers: vec![Publisher {
            name: "example".to_owned(),
            keys: vec![PublisherKey {
                public_key: publisher().public(),
                expires: LATER,
            }],
            scopes: vec![NameScope::parse("com.example.*").expect("a scope")],
        }],
        revoked_keys: Vec::new(),
        revoked_bundles: Vec::new(),
        required_algorithms: vec![Algorithm::Ed25519],
    }
}

/// Signs a document's bytes with root keys.
pub fn store_bytes(document: &[u8], keys: &[Keys]) -> Vec<u8> {
    block(
        Some(document.to_vec()),
        keys.iter()
            .map(|key| key.sign(TRUST_STORE_AAD, document))
            .collect(),
    )
}

pub fn store_of(document: &RootDocument) -> TrustStore {
    TrustStore::parse(&store_bytes(&document.encode(), &[root()]), NOW).expect("a good trust store")
}

pub fn block(payload: Option<Vec<u8>>, mut signatures: Vec<Signature>) -> Vec<u8> {
    signatures.sort_by_key(|signature| signature.key_id);
    SignatureSet { payload, signatures }.encode().expect("encodes")
}

/// The manifest of the small image in [`elf::small`].
pub fn manifest() -> Manifest {
    let image = elf::small();
    Manifest {
        name: "com.example.small".to_owned(),
        version: "1.0".to_owned(),
        security_epoch: 1,
        abi: muscle_abi::ABI_VERSION,
        arch: Arch::X86_64,
        style: Style::Command,
        entry: 0x1200,
        segments: vec![
            Segment {
                vaddr: 0,
                mem_size: 0x200,
                file_offset: 0,
                file_size: 0x200,
                permissions: Permissions::R,
            },
            Segment {
                vaddr: 0x1200,
                mem_size: 0x10,
                file_offset: 0x200,
                file_size: 0x10,
                permissions: Permissions::RX,
            },
            Segment {
                vaddr: 0x2210,
                mem_size: 0x160,
                file_offset: 0x210,
                file_size: 0x60,
                permissions: Permissions::RW,
            },
        ],
        parts: vec![part(PartKind::Image, &image)],
        slots: Vec::new(),
        limits: Limits {
            memory_bytes: 1 << 20,
            stack_bytes: 4096,
            cpu_ms: None,
            deadline_ms: None,
        },
        exports: Vec::new(),
        description: String::new(),
    }
}

pub fn part(kind: PartKind, bytes: &[u8]) -> Part {
    Part {
        kind,
        size: bytes.len() as u64,
        sha256: Digest::of(bytes),
    }
}

/// A bundle by its pieces; [`Pieces::bundle`] writes them down as the format has it, right or wrong.
#[derive(Clone)]
pub struct Pieces {
    pub magic: [u8; 8],
    pub format: u32,
    pub manifest: Vec<u8>,
    pub body_offset: u64,
    pub reserved: [u8; 32],
    pub body: Vec<u8>,
    /// Instead of the true sizes.
    pub manifest_size: Option<u32>,
    pub file_size: Option<u64>,
}

impl Pieces {
    pub fn of(manifest: &Manifest) -> Pieces {
        Pieces::with_bytes(manifest.encode())
    }

    pub fn with_bytes(manifest: Vec<u8>) -> Pieces {
        Pieces {
            magic: *b"\x89MUSCLE\n",
            format: 1,
            manifest,
            body_offset: 4096,
            reserved: [0; 32],
            body: elf::small(),
            manifest_size: None,
            file_size: None,
        }
    }

    pub fn header(&self) -> Vec<u8> {
        let manifest_size = self.manifest_size.unwrap_or_else(|| size32(&self.manifest));
        let file_size = self.body_offset.wrapping_add(self.body.len() as u64);
        let mut header = self.magic.to_vec();
        header.extend(self.format.to_le_bytes());
        header.extend(manifest_size.to_le_bytes());
        header.extend(self.body_offset.to_le_bytes());
        header.extend(self.file_size.unwrap_or(file_size).to_le_bytes());
        header.extend(self.reserved);
        header
    }

    /// Signs with these keys and writes everything down; the body goes to 4096 or as far as its field says.
    pub fn bundle(&self, keys: &[Keys]) -> Vec<u8> {
        let header = self.header();
        let signatures = keys.iter().map(|key| key.sign(&header, &self.manifest)).collect();
        self.bundle_with(&block(None, signatures))
    }

    pub fn bundle_with(&self, signatures: &[u8]) -> Vec<u8> {
        let mut bundle = self.header();
        bundle.extend(&self.manifest);
        bundle.extend(size32(signatures).to_le_bytes());
        bundle.extend(signatures);
        assert!(bundle.len() <= 4096, "the front fits a page");
        bundle.resize(4096, 0);
        bundle.extend(&self.body);
        bundle
    }

    /// Signed by the good publisher and checked against the good trust store.
    pub fn verify(&self) -> Result<VerifiedBundle, Rejected> {
        check(self.bundle(&[publisher()]))
    }
}

pub fn good() -> Vec<u8> {
    Pieces::of(&manifest()).bundle(&[publisher()])
}

pub fn check(bundle: Vec<u8>) -> Result<VerifiedBundle, Rejected> {
    check_with(bundle, &document())
}

pub fn check_with(bundle: Vec<u8>, document: &RootDocument) -> Result<VerifiedBundle, Rejected> {
    verify(bundle, &store_of(document), &ReadLimits::default(), NOW)
}

/// Verifies a manifest that was changed before it was signed.
pub fn changed(change: impl FnOnce(&mut Manifest)) -> Rejected {
    let mut manifest = manifest();
    change(&mut manifest);
    Pieces::of(&manifest).verify().expect_err("a refusal")
}

fn size32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("test data is small")
}
