//! Why a bundle, an image or a trust store is refused.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::digest::{Digest, KeyId};
use crate::keys::Algorithm;
use crate::unix_time::UnixTime;

/// Which bytes a refusal speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Document {
    /// The bundle file.
    Bundle,
    /// The CBOR manifest in a bundle.
    Manifest,
    /// A COSE_Sign block.
    Signatures,
    /// A trust store.
    TrustStore,
}

impl fmt::Display for Document {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Document::Bundle => "bundle",
            Document::Manifest => "manifest",
            Document::Signatures => "signatures",
            Document::TrustStore => "trust store",
        })
    }
}

/// Why something is refused: one variant for each rule, with the place and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "each variant's message explains it and all of its fields"
)]
pub enum Rejected {
    // The file as a whole.
    #[error("{} cannot be read: {kind}; check the path and its permissions", path.display())]
    Unreadable { path: PathBuf, kind: ErrorKind },
    #[error("{} is not a regular file; name the file itself", path.display())]
    NotAFile { path: PathBuf },
    #[error("the {document} has {size} bytes and the limit is {limit}; raise the limit or make it smaller")]
    TooLarge {
        document: Document,
        size: u64,
        limit: u64,
    },
    #[error("the bundle ends at offset {size} and should have {needed} bytes; fetch it again")]
    Truncated { size: u64, needed: u64 },
    #[error("{extra} bytes follow the bundle's end at offset {offset}; fetch it again or cut them off")]
    TrailingBytes { offset: u64, extra: u64 },
    #[error("offset 0: this is no bundle, it begins with {found:02x?}; make one with `cargo muscle build`")]
    WrongMagic { found: [u8; 8] },
    #[error(
        "offset 8: format version {found}, but this program reads version {supported}; use a matching program or build the bundle again"
    )]
    WrongFormatVersion { found: u32, supported: u32 },
    #[error(
        "offset {offset}: a reserved byte is not zero; fetch the bundle again or build it with a matching `cargo muscle`"
    )]
    ReservedNotZero { offset: usize },
    #[error(
        "header: {field} is {value} and may be at most {limit}; fetch the bundle again or build it again"
    )]
    SizeTooLarge {
        field: &'static str,
        value: u64,
        limit: u64,
    },
    #[error(
        "header: {field} is {value} and must be at least {least}; fetch the bundle again or build it again"
    )]
    SizeTooSmall {
        field: &'static str,
        value: u64,
        least: u64,
    },
    #[error("offset 16: the body begins at {offset}, which is no multiple of 4096; build the bundle again")]
    BodyUnaligned { offset: u64 },
    #[error("offset {offset}: a byte of padding is not zero; fetch the bundle again or build it again")]
    PaddingNotZero { offset: u64 },
    // CBOR documents.
    #[error(
        "{document}, offset {offset}: `{field}` is not the CBOR that it should be; build the document again"
    )]
    MalformedCbor {
        document: Document,
        field: &'static str,
        offset: usize,
    },
    #[error(
        "{document}, offset {offset}: not in deterministic CBOR (RFC 8949 §4.2.1); encode the document again"
    )]
    NonCanonical { document: Document, offset: usize },
    #[error(
        "{document}, offset {offset}: unknown key {key} in `{within}`; use a program that knows it or leave it out"
    )]
    UnknownField {
        document: Document,
        within: &'static str,
        key: u64,
        offset: usize,
    },
    #[error("{document}: `{field}` is missing; add it")]
    MissingField { document: Document, field: &'static str },
    #[error("{document}: `{field}` has {count} items and may have {limit}; use fewer")]
    TooMany {
        document: Document,
        field: &'static str,
        count: u64,
        limit: u64,
    },
    #[error("{document}, offset {offset}: bytes follow its end; build the document again")]
    TrailingInDocument { document: Document, offset: usize },
    #[error(
        "{document}: `{field}` has the unknown value {value}; use a program that knows it or another value"
    )]
    UnknownValue {
        document: Document,
        field: &'static str,
        value: u64,
    },
    #[error("`{field}` is {value} and must be from {least} to {most}; change it")]
    OutOfRange {
        field: &'static str,
        value: u64,
        least: u64,
        most: u64,
    },
    #[error("`{field}` is {value} and must be a power of two; change it")]
    NotAPowerOfTwo { field: &'static str, value: u64 },
    #[error(
        "`{field}`: item {index} is not above the one before it; sort the list and remove what is there twice"
    )]
    NotSorted { field: &'static str, index: usize },
    #[error("`{field}`, item {index}: not a valid name; see the rules for names in docs/bundle-format.md")]
    NameInvalid { field: &'static str, index: usize },
    #[error(
        "slot `{slot}` has a channel's messages taken by `{function}`, which is not among the exports; add it there"
    )]
    ReceiverNotExported { slot: String, function: String },
    #[error(
        "slot `{slot}` ({kind}) is to be delegated, which only clock, random and files can be; ask for it without `delegated`"
    )]
    NotDelegable { slot: String, kind: &'static str },
    #[error(
        "slot `{slot}` is to be delegated over `{from}`, which is no slot of this muscle for receiving on a channel; name one"
    )]
    DelegatedFromNowhere { slot: String, from: String },
    // Signatures.
    #[error("the bundle has no signature; sign it with `cargo muscle sign`")]
    Unsigned,
    #[error("signature {index}: its {field} is missing or has a wrong size; sign again")]
    SignatureMalformed { index: usize, field: &'static str },
    #[error("two signatures by key {key_id}; remove one")]
    SignatureDuplicate { key_id: KeyId },
    #[error(
        "the signature by key {key_id} does not fit the bytes: they were changed, or another key signed them; fetch the file again or sign it again"
    )]
    SignatureInvalid { key_id: KeyId },
    #[error(
        "signature algorithm {algorithm} cannot be checked by this program; use a newer one or sign with Ed25519 alone"
    )]
    AlgorithmUnsupported { algorithm: i64 },
    #[error(
        "a signature claims {claimed}, but the trust store lists key {key_id} for {listed}; sign again with the right algorithm"
    )]
    AlgorithmMismatch {
        key_id: KeyId,
        claimed: Algorithm,
        listed: Algorithm,
    },
    #[error("the trust store requires a signature by {algorithm} and there is none; add one")]
    AlgorithmMissing { algorithm: Algorithm },
    #[error(
        "the trust store does not list key {key_id}; add its publisher with `cargo muscle trust add-publisher` if you trust it"
    )]
    SignerUnknown { key_id: KeyId },
    #[error("key {key_id} is revoked; get the bundle from its publisher again, signed with a good key")]
    SignerRevoked { key_id: KeyId },
    #[error(
        "key {key_id} expired at {expired} and it is {now}; get the bundle signed with a current key, or check this machine's clock"
    )]
    SignerExpired {
        key_id: KeyId,
        expired: UnixTime,
        now: UnixTime,
    },
    #[error(
        "publisher `{publisher}` (key {key_id}) may not sign `{name}`; widen its scope in the trust store or rename the muscle"
    )]
    SignerOutOfScope {
        publisher: String,
        key_id: KeyId,
        name: String,
    },
    #[error("signed by `{first}` and by `{second}`; all signatures must be by one publisher")]
    SignersDiffer { first: String, second: String },
    #[error("the bundle {digest} is revoked; get a newer one from its publisher")]
    BundleRevoked { digest: Digest },
    // The manifest.
    #[error(
        "manifest: built for ABI {found}, but this program offers {supported}; build the muscle with a matching SDK"
    )]
    WrongAbi { found: u32, supported: u32 },
    #[error("manifest: built for another processor, not {supported}; build it for this one")]
    WrongArch { supported: &'static str },
    #[error("manifest: `{field}` is {bytes}, which is no multiple of 4096; round it up")]
    NotWholePages { field: &'static str, bytes: u64 },
    #[error("manifest: the first part is not the image; list the image first")]
    NoImage,
    #[error("part {index} ends after the file's {file_size} bytes; build the bundle again")]
    PartOutsideFile { index: usize, file_size: u64 },
    #[error("part {index} has SHA-256 {found} and the manifest says {expected}; fetch the bundle again")]
    PartDigestMismatch {
        index: usize,
        expected: Digest,
        found: Digest,
    },
    // The memory map, in the manifest or in the image.
    #[error("no segment to load; link the image as docs/bundle-format.md says")]
    NoSegments,
    #[error("segment {index} has no bytes in memory; remove it")]
    SegmentEmpty { index: usize },
    #[error("segment {index}: address or file offset plus size overflows; link the image again")]
    SegmentOverflow { index: usize },
    #[error(
        "segment {index} has {file_size} bytes in the image but only {mem_size} in memory; link the image again"
    )]
    SegmentFileLarger {
        index: usize,
        file_size: u64,
        mem_size: u64,
    },
    #[error(
        "segment {index} ends at offset {file_end} of an image of {image_size} bytes; build the bundle again"
    )]
    SegmentOutsideImage {
        index: usize,
        file_end: u64,
        image_size: u64,
    },
    #[error(
        "segment {index}: address {vaddr:#x} and file offset {file_offset:#x} differ within a page; link with `-z separate-code`"
    )]
    SegmentUnaligned {
        index: usize,
        vaddr: u64,
        file_offset: u64,
    },
    #[error(
        "segment {index} at {vaddr:#x} begins before the end of the last one's pages, {previous_end:#x}; link with `-z separate-code`"
    )]
    SegmentsOverlap {
        index: usize,
        vaddr: u64,
        previous_end: u64,
    },
    #[error("segment {index} has permissions {bits:#x}; only r--, r-x and rw- are known")]
    SegmentPermissions { index: usize, bits: u64 },
    #[error("segment {index} is writable and executable; link code and data apart")]
    SegmentWritableExecutable { index: usize },
    #[error(
        "segment {index} ends at {end:#x} and the limit is {limit:#x}; make the image smaller or raise the limit"
    )]
    SpanTooLarge { index: usize, end: u64, limit: u64 },
    #[error("the entry {entry:#x} is in no executable segment; link with an entry symbol in code")]
    EntryNotExecutable { entry: u64 },
    // The image.
    #[error(
        "image: the ELF header's {field} is not that of a 64-bit x86 static-PIE file; link with `-static-pie`"
    )]
    ElfHeader { field: &'static str },
    #[error("image: its {field} lies outside the file; link it again")]
    ElfTruncated { field: &'static str },
    #[error(
        "image: program header {index} asks for an interpreter; link with `-static-pie --no-dynamic-linker`"
    )]
    ElfInterpreter { index: usize },
    #[error("image: it needs a shared library (DT_NEEDED); link it statically")]
    ElfNeedsLibrary,
    #[error(
        "image: program header {index} has thread-local storage, which a muscle has not; use a static instead"
    )]
    ElfThreadLocal { index: usize },
    #[error("image: program header {index} asks for an executable stack; link with `-z noexecstack`")]
    ElfExecutableStack { index: usize },
    #[error("image: program header {index} has the unknown type {kind:#x}; link without it")]
    ElfProgramHeader { index: usize, kind: u32 },
    #[error(
        "image: dynamic entry {tag:#x} is given twice or not allowed; link with `-static-pie -z norelro` and without packed relocations"
    )]
    ElfDynamicTag { tag: i64 },
    #[error("image: the dynamic table is not within a segment as it is in the file; link it again")]
    ElfDynamicPlace,
    #[error("segment {index} is not the same in the manifest and in the image; build the bundle again")]
    SegmentMismatch { index: usize },
    #[error("the manifest lists {manifest} segments and the image has {image}; build the bundle again")]
    SegmentCountMismatch { manifest: usize, image: usize },
    #[error("the entry is {manifest:#x} in the manifest and {image:#x} in the image; build the bundle again")]
    EntryMismatch { manifest: u64, image: u64 },
    #[error("image: the relocation table's {field} is {value:#x}, which does not fit; link it again")]
    RelocationTable { field: &'static str, value: u64 },
    #[error("image: {count} relocations and the limit is {limit}; make the image smaller or raise the limit")]
    TooManyRelocations { count: u64, limit: u64 },
    #[error(
        "image: relocation {index} has type {kind}, only R_X86_64_RELATIVE (8) is allowed; link with `-static-pie`"
    )]
    RelocationKind { index: usize, kind: u32 },
    #[error(
        "image: relocation {index} changes {vaddr:#x}, which is not within one writable segment; link with `-z norelro` and without text relocations"
    )]
    RelocationTarget { index: usize, vaddr: u64 },
    #[error("image: relocation {index} points to {addend:#x}, outside of the image; link it again")]
    RelocationAddend { index: usize, addend: i64 },
    // Symbols.
    #[error("symbols, offset {offset}: `{field}` does not fit; build the bundle again")]
    SymbolsMalformed { field: &'static str, offset: usize },
    // Trust stores and keys.
    #[error("{size} bytes that are no sound public key for {algorithm}; make one with `cargo muscle keygen`")]
    KeyInvalid { algorithm: Algorithm, size: usize },
    #[error("trust store: key {key_id} is listed twice; list it once")]
    KeyDuplicate { key_id: KeyId },
    #[error("trust store: its block holds no document; make it with `cargo muscle trust init`")]
    StoreUnsigned,
    #[error(
        "trust store: expired at {expired} and it is {now}; get a newer one or check this machine's clock"
    )]
    StoreExpired { expired: UnixTime, now: UnixTime },
    #[error(
        "trust store: the threshold {threshold} must be from 1 to the number of root keys, {keys}; change it"
    )]
    RootThreshold { threshold: u64, keys: u64 },
    #[error("trust store: root key {key_id} is also revoked; take it out of the root keys")]
    RootKeyRevoked { key_id: KeyId },
    #[error(
        "trust store: {valid} valid signatures by its root keys and {threshold} are needed; sign it with `cargo muscle trust sign`"
    )]
    RootSignatures { valid: u64, threshold: u64 },
    #[error(
        "trust store: {valid} valid signatures by the pinned root keys and {threshold} are needed; this may be another's trust store"
    )]
    PinnedSignatures { valid: u64, threshold: u64 },
    #[error("trust store: version {found} where {expected} must follow; apply the versions in their order")]
    StoreOutOfSequence { found: u64, expected: u64 },
    #[error("trust store: {algorithm} is not among the required algorithms; add it")]
    AlgorithmNotRequired { algorithm: Algorithm },
    #[error(
        "trust store: scope {index} of publisher `{publisher}` is not a name, `prefix.*` or `*`; change it"
    )]
    ScopeInvalid { publisher: String, index: usize },
}

impl Rejected {
    /// The stable name of the rule, for JSON and audit records.
    pub const fn name(&self) -> &'static str {
        match self {
            Rejected::Unreadable { .. } => "unreadable",
            Rejected::NotAFile { .. } => "not-a-file",
            Rejected::TooLarge { .. } => "too-large",
            Rejected::Truncated { .. } => "truncated",
            Rejected::TrailingBytes { .. } => "trailing-bytes",
            Rejected::WrongMagic { .. } => "wrong-magic",
            Rejected::WrongFormatVersion { .. } => "wrong-format-version",
            Rejected::ReservedNotZero { .. } => "reserved-not-zero",
            Rejected::SizeTooLarge { .. } => "size-too-large",
            Rejected::SizeTooSmall { .. } => "size-too-small",
            Rejected::BodyUnaligned { .. } => "body-unaligned",
            Rejected::PaddingNotZero { .. } => "padding-not-zero",
            Rejected::MalformedCbor { .. } => "malformed-cbor",
            Rejected::NonCanonical { .. } => "non-canonical",
            Rejected::UnknownField { .. } => "unknown-field",
            Rejected::MissingField { .. } => "missing-field",
            Rejected::TooMany { .. } => "too-many",
            Rejected::TrailingInDocument { .. } => "trailing-in-document",
            Rejected::UnknownValue { .. } => "unknown-value",
            Rejected::OutOfRange { .. } => "out-of-range",
            Rejected::NotAPowerOfTwo { .. } => "not-a-power-of-two",
            Rejected::NotSorted { .. } => "not-sorted",
            Rejected::NameInvalid { .. } => "name-invalid",
            Rejected::ReceiverNotExported { .. } => "receiver-not-exported",
            Rejected::NotDelegable { .. } => "not-delegable",
            Rejected::DelegatedFromNowhere { .. } => "delegated-from-nowhere",
            Rejected::Unsigned => "unsigned",
            Rejected::SignatureMalformed { .. } => "signature-malformed",
            Rejected::SignatureDuplicate { .. } => "signature-duplicate",
            Rejected::SignatureInvalid { .. } => "signature-invalid",
            Rejected::AlgorithmUnsupported { .. } => "algorithm-unsupported",
            Rejected::AlgorithmMismatch { .. } => "algorithm-mismatch",
            Rejected::AlgorithmMissing { .. } => "algorithm-missing",
            Rejected::SignerUnknown { .. } => "signer-unknown",
            Rejected::SignerRevoked { .. } => "signer-revoked",
            Rejected::SignerExpired { .. } => "signer-expired",
            Rejected::SignerOutOfScope { .. } => "signer-out-of-scope",
            Rejected::SignersDiffer { .. } => "signers-differ",
            Rejected::BundleRevoked { .. } => "bundle-revoked",
            Rejected::WrongAbi { .. } => "wrong-abi",
            Rejected::WrongArch { .. } => "wrong-arch",
            Rejected::NotWholePages { .. } => "not-whole-pages",
            Rejected::NoImage => "no-image",
            Rejected::PartOutsideFile { .. } => "part-outside-file",
            Rejected::PartDigestMismatch { .. } => "part-digest-mismatch",
            Rejected::NoSegments => "no-segments",
            Rejected::SegmentEmpty { .. } => "segment-empty",
            Rejected::SegmentOverflow { .. } => "segment-overflow",
            Rejected::SegmentFileLarger { .. } => "segment-file-larger",
            Rejected::SegmentOutsideImage { .. } => "segment-outside-image",
            Rejected::SegmentUnaligned { .. } => "segment-unaligned",
            Rejected::SegmentsOverlap { .. } => "segments-overlap",
            Rejected::SegmentPermissions { .. } => "segment-permissions",
            Rejected::SegmentWritableExecutable { .. } => "segment-writable-executable",
            Rejected::SpanTooLarge { .. } => "span-too-large",
            Rejected::EntryNotExecutable { .. } => "entry-not-executable",
            Rejected::ElfHeader { .. } => "elf-header",
            Rejected::ElfTruncated { .. } => "elf-truncated",
            Rejected::ElfInterpreter { .. } => "elf-interpreter",
            Rejected::ElfNeedsLibrary => "elf-needs-library",
            Rejected::ElfThreadLocal { .. } => "elf-thread-local",
            Rejected::ElfExecutableStack { .. } => "elf-executable-stack",
            Rejected::ElfProgramHeader { .. } => "elf-program-header",
            Rejected::ElfDynamicTag { .. } => "elf-dynamic-tag",
            Rejected::ElfDynamicPlace => "elf-dynamic-place",
            Rejected::SegmentMismatch { .. } => "segment-mismatch",
            Rejected::SegmentCountMismatch { .. } => "segment-count-mismatch",
            Rejected::EntryMismatch { .. } => "entry-mismatch",
            Rejected::RelocationTable { .. } => "relocation-table",
            Rejected::TooManyRelocations { .. } => "too-many-relocations",
            Rejected::RelocationKind { .. } => "relocation-kind",
            Rejected::RelocationTarget { .. } => "relocation-target",
            Rejected::RelocationAddend { .. } => "relocation-addend",
            Rejected::SymbolsMalformed { .. } => "symbols-malformed",
            Rejected::KeyInvalid { .. } => "key-invalid",
            Rejected::KeyDuplicate { .. } => "key-duplicate",
            Rejected::StoreUnsigned => "store-unsigned",
            Rejected::StoreExpired { .. } => "store-expired",
            Rejected::RootThreshold { .. } => "root-threshold",
            Rejected::RootKeyRevoked { .. } => "root-key-revoked",
            Rejected::RootSignatures { .. } => "root-signatures",
            Rejected::PinnedSignatures { .. } => "pinned-signatures",
            Rejected::StoreOutOfSequence { .. } => "store-out-of-sequence",
            Rejected::AlgorithmNotRequired { .. } => "algorithm-not-required",
            Rejected::ScopeInvalid { .. } => "scope-invalid",
        }
    }
}
