//! How much a reader takes before it says no.

/// Largest sizes and counts that a reader accepts. Each is checked before memory is allocated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of a bundle file.
    pub bundle_bytes: u64,
    /// Bytes of a trust store file.
    pub trust_store_bytes: u64,
    /// Bytes of a manifest.
    pub manifest_bytes: u32,
    /// Bytes from the image's address 0 to the end of its last page.
    pub image_span_bytes: u64,
    /// Relocations of an image.
    pub relocations: u64,
}

impl Default for ReadLimits {
    /// 64 MiB a bundle, 1 MiB a trust store, 64 KiB a manifest, 256 MiB an image, a million relocations.
    fn default() -> ReadLimits {
        ReadLimits {
            bundle_bytes: 64 << 20,
            trust_store_bytes: 1 << 20,
            manifest_bytes: 64 << 10,
            image_span_bytes: 256 << 20,
            relocations: 1 << 20,
        }
    }
}
