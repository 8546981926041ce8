//! An ELF image: no input panics, and every relocation of an accepted one stays where it may write.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_bundle::{ElfImage, Permissions, ReadLimits};

fuzz_target!(|bytes: &[u8]| {
    let limits = ReadLimits::default();
    let Ok(image) = ElfImage::parse(bytes, &limits) else {
        return;
    };
    assert!(image.span <= limits.image_span_bytes);
    for relocation in &image.relocations {
        let writable = image
            .segments
            .iter()
            .find(|segment| segment.holds(relocation.vaddr, 8));
        assert_eq!(writable.map(|segment| segment.permissions), Some(Permissions::RW));
        assert!(relocation.addend <= image.span);
    }
    for pair in image.segments.windows(2) {
        assert!(pair[0].end().expect("checked") <= pair[1].vaddr);
    }
});
