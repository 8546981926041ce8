//! Every rule of header, manifest and parts, each broken alone in a bundle that is signed all the same.

mod support;

use muscle_abi::ABI_VERSION;
use muscle_abi::ring::{DATA_MAX, DATA_MIN, RINGS_MAX, Role};
use referee_bundle::{
    CapabilityRequest, ChannelRole, Delegated, Digest, Document, Manifest, PartKind, Permissions, ReadLimits,
    Rejected, Slot, verify,
};
use support::{NOW, Pieces, changed, check, document, elf, good, manifest, part, publisher, store_of};

fn pieces(change: impl FnOnce(&mut Pieces)) -> Rejected {
    let mut pieces = Pieces::of(&manifest());
    change(&mut pieces);
    pieces.verify().expect_err("a refusal")
}

/// Refuses the good manifest's bytes after a change, signed.
fn raw(change: impl FnOnce(&mut Vec<u8>)) -> Rejected {
    pieces(|pieces| change(&mut pieces.manifest))
}

#[test]
fn rejects_wrong_magic_version_and_reserved_bytes() {
    assert_eq!(
        pieces(|pieces| pieces.magic = *b"\x7fELF\x02\x01\x01\x00"),
        Rejected::WrongMagic {
            found: *b"\x7fELF\x02\x01\x01\x00"
        }
    );
    assert_eq!(
        pieces(|pieces| pieces.format = 2),
        Rejected::WrongFormatVersion {
            found: 2,
            supported: 1
        }
    );
    assert_eq!(
        pieces(|pieces| pieces.reserved[31] = 1),
        Rejected::ReservedNotZero { offset: 63 }
    );
}

#[test]
fn rejects_sizes_that_do_not_fit_or_overflow() {
    for value in [u32::MAX, 65537] {
        assert_eq!(
            pieces(|pieces| pieces.manifest_size = Some(value)),
            Rejected::SizeTooLarge {
                field: "manifest size",
                value: value.into(),
                limit: 65536
            }
        );
    }
    assert!(matches!(
        pieces(|pieces| pieces.manifest_size = Some(4096)),
        Rejected::SizeTooSmall {
            field: "body offset",
            value: 4096,
            least: 4164
        }
    ));
    let size = good().len() as u64;
    for (value, expected) in [
        (
            u64::MAX,
            Rejected::Truncated {
                size,
                needed: u64::MAX,
            },
        ),
        (
            size + 1,
            Rejected::Truncated {
                size,
                needed: size + 1,
            },
        ),
        (
            0,
            Rejected::TrailingBytes {
                offset: 0,
                extra: size,
            },
        ),
    ] {
        assert_eq!(pieces(|pieces| pieces.file_size = Some(value)), expected);
    }
    for (value, expected) in [
        (
            0,
            Rejected::SizeTooSmall {
                field: "body offset",
                value: 0,
                least: 64 + manifest().encode().len() as u64 + 4,
            },
        ),
        (
            u64::MAX,
            Rejected::SizeTooLarge {
                field: "body offset",
                value: u64::MAX,
                limit: size,
            },
        ),
        (4097, Rejected::BodyUnaligned { offset: 4097 }),
    ] {
        let refusal = pieces(|pieces| {
            pieces.body_offset = value;
            pieces.file_size = Some(size);
        });
        assert_eq!(refusal, expected);
    }
    let mut bundle = good();
    let at = 64 + manifest().encode().len();
    bundle[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        check(bundle).err(),
        Some(Rejected::SizeTooLarge {
            field: "signatures size",
            value: u32::MAX.into(),
            limit: 4096 - at as u64 - 4
        })
    );
}

#[test]
fn rejects_a_bundle_over_the_limit() {
    let limits = ReadLimits {
        bundle_bytes: 4096,
        ..ReadLimits::default()
    };
    let size = good().len() as u64;
    assert_eq!(
        verify(good(), &store_of(&document()), &limits, NOW).err(),
        Some(Rejected::TooLarge {
            document: Document::Bundle,
            size,
            limit: 4096
        })
    );
}

#[test]
fn rejects_other_encodings_of_the_same_manifest() {
    let encoded = manifest().encode();
    let not_canonical = |offset| Rejected::NonCanonical {
        document: Document::Manifest,
        offset,
    };
    // The head of the map in two bytes, and without a length.
    assert_eq!(
        raw(|bytes| drop(bytes.splice(0..1, [0xb8, 13]))),
        not_canonical(0)
    );
    let indefinite = raw(|bytes| {
        bytes[0] = 0xbf;
        bytes.push(0xff);
    });
    assert_eq!(
        indefinite,
        Rejected::MalformedCbor {
            document: Document::Manifest,
            field: "manifest",
            offset: 0
        }
    );
    // The security epoch, 1, in two bytes.
    let at = encoded.windows(2).position(|pair| pair == [3, 1]).expect("key 3") + 1;
    assert_eq!(
        raw(|bytes| drop(bytes.splice(at..=at, [0x18, 1]))),
        not_canonical(at)
    );
    // Two keys in the wrong order: 3 and 4 both have the value 1.
    let swapped = raw(|bytes| {
        bytes[at - 1] = 4;
        bytes[at + 1] = 3;
    });
    assert_eq!(swapped, not_canonical(at - 1));
    // A key twice.
    let twice = raw(|bytes| {
        bytes[0] += 1;
        bytes.extend([13, 0x60]);
    });
    assert_eq!(twice, not_canonical(0));
}

#[test]
fn rejects_unknown_missing_and_trailing_fields() {
    let size = manifest().encode().len();
    assert_eq!(
        raw(|bytes| {
            bytes[0] += 1;
            bytes.extend([14, 0]);
        }),
        Rejected::UnknownField {
            document: Document::Manifest,
            within: "manifest",
            key: 14,
            offset: size
        }
    );
    assert_eq!(
        raw(|bytes| {
            bytes[0] -= 1;
            bytes.truncate(size - 2);
        }),
        Rejected::MissingField {
            document: Document::Manifest,
            field: "description"
        }
    );
    assert_eq!(
        raw(|bytes| bytes.push(0)),
        Rejected::TrailingInDocument {
            document: Document::Manifest,
            offset: size
        }
    );
    // In the map of limits: {1: …, 2: …} becomes {1: …, 5: …}.
    let at = manifest()
        .encode()
        .windows(4)
        .position(|bytes| bytes == [2, 0x19, 0x10, 0]);
    let at = at.expect("the stack's size");
    assert_eq!(
        raw(|bytes| bytes[at] = 5),
        Rejected::UnknownField {
            document: Document::Manifest,
            within: "limits",
            key: 5,
            offset: at
        }
    );
}

#[test]
fn rejects_lengths_that_lie() {
    // A text of 2^64 - 1 bytes, a list of 2^64 - 1 items, a map of as many pairs.
    let huge = |head: u8| [&[head][..], &[0xff; 8]].concat();
    let encoded = manifest().encode();
    let malformed = |field, offset| Rejected::MalformedCbor {
        document: Document::Manifest,
        field,
        offset,
    };
    assert_eq!(
        raw(|bytes| drop(bytes.splice(2..3, huge(0x7b)))),
        malformed("name", 2)
    );
    let at = encoded
        .windows(2)
        .position(|pair| pair == [8, 0x83])
        .expect("the segments")
        + 1;
    assert_eq!(
        raw(|bytes| drop(bytes.splice(at..=at, huge(0x9b)))),
        Rejected::TooMany {
            document: Document::Manifest,
            field: "segments",
            count: u64::MAX,
            limit: 16
        }
    );
    assert_eq!(
        raw(|bytes| drop(bytes.splice(0..1, huge(0xbb)))),
        Rejected::TooMany {
            document: Document::Manifest,
            field: "manifest",
            count: u64::MAX,
            limit: 64
        }
    );
    let long = "a".repeat(65);
    assert_eq!(
        changed(|manifest| manifest.name = long),
        Rejected::TooMany {
            document: Document::Manifest,
            field: "name",
            count: 65,
            limit: 64
        }
    );
}

#[test]
fn rejects_a_manifest_for_another_abi_or_processor() {
    assert_eq!(
        changed(|manifest| manifest.abi = ABI_VERSION + 1),
        Rejected::WrongAbi {
            found: ABI_VERSION + 1,
            supported: ABI_VERSION
        }
    );
    let at = manifest()
        .encode()
        .windows(6)
        .position(|bytes| bytes == b"x86_64")
        .expect("the processor");
    assert_eq!(
        raw(|bytes| bytes[at..at + 6].copy_from_slice(b"x86_65")),
        Rejected::WrongArch { supported: "x86_64" }
    );
    let at = manifest()
        .encode()
        .windows(3)
        .position(|bytes| bytes == [6, 0, 7])
        .expect("the style");
    assert_eq!(
        raw(|bytes| bytes[at + 1] = 2),
        Rejected::UnknownValue {
            document: Document::Manifest,
            field: "style",
            value: 2
        }
    );
}

#[test]
fn rejects_names_that_are_paths_and_other_bad_texts() {
    let invalid = |field, index| Rejected::NameInvalid { field, index };
    for name in ["../evil", "/etc/passwd", "a/b", "..", "a..b", "A", ""] {
        assert_eq!(
            changed(|manifest| manifest.name = name.to_owned()),
            invalid("name", 0),
            "{name}"
        );
    }
    assert_eq!(
        changed(|manifest| manifest.version = "1/2".to_owned()),
        invalid("version", 0)
    );
    assert_eq!(
        changed(|manifest| manifest.description = "\x1b[2J".to_owned()),
        invalid("description", 0)
    );
    assert_eq!(
        changed(|manifest| manifest.exports = vec!["good".to_owned(), "not good".to_owned()]),
        invalid("exports", 1)
    );
    assert_eq!(
        changed(|manifest| manifest.slots.push(slot("in/put", CapabilityRequest::Args))),
        invalid("slot name", 0)
    );
    let names = vec!["HOME".to_owned(), "PA=TH".to_owned()];
    assert_eq!(
        changed(|manifest| manifest.slots.push(slot("env", CapabilityRequest::Env { names }))),
        invalid("env names", 1)
    );
}

#[test]
fn rejects_lists_that_are_not_sorted() {
    let unsorted = |field| Rejected::NotSorted { field, index: 1 };
    let two = |left: &str, right: &str| vec![left.to_owned(), right.to_owned()];
    assert_eq!(
        changed(|manifest| manifest.exports = two("b", "a")),
        unsorted("exports")
    );
    assert_eq!(
        changed(|manifest| manifest.exports = two("a", "a")),
        unsorted("exports")
    );
    assert_eq!(
        changed(|manifest| manifest.slots = vec![
            slot("b", CapabilityRequest::Args),
            slot("a", CapabilityRequest::Args)
        ]),
        unsorted("slots")
    );
    assert_eq!(
        changed(|manifest| {
            let names = two("B", "A");
            manifest.slots = vec![slot("env", CapabilityRequest::Env { names })];
        }),
        unsorted("env names")
    );
    assert_eq!(
        changed(|manifest| {
            manifest.parts.push(part(PartKind::Data, b""));
            manifest.parts.push(part(PartKind::Symbols, b""));
        }),
        Rejected::NotSorted {
            field: "parts",
            index: 2
        }
    );
}

#[test]
fn rejects_requests_and_limits_out_of_range() {
    let request = |request| changed(|manifest| manifest.slots = vec![slot("a", request)]);
    for port in [0, 1, 1023, u32::MAX] {
        for refusal in [
            request(CapabilityRequest::VsockListen { port }),
            request(CapabilityRequest::VsockConnect { port }),
        ] {
            assert_eq!(
                refusal,
                Rejected::OutOfRange {
                    field: "port",
                    value: port.into(),
                    least: 1024,
                    most: u64::from(u32::MAX) - 1
                }
            );
        }
    }
    assert_eq!(
        request(CapabilityRequest::Pio { first: 2, last: 1 }),
        Rejected::OutOfRange {
            field: "pio last",
            value: 1,
            least: 2,
            most: 65535
        }
    );
    assert!(matches!(
        changed(|manifest| manifest.limits.memory_bytes = u64::MAX),
        Rejected::OutOfRange {
            field: "memory bytes",
            value: u64::MAX,
            ..
        }
    ));
    assert_eq!(
        changed(|manifest| manifest.limits.memory_bytes += 1),
        Rejected::NotWholePages {
            field: "memory bytes",
            bytes: (1 << 20) + 1
        }
    );
    assert_eq!(
        changed(|manifest| manifest.limits.stack_bytes = 2 << 20),
        Rejected::OutOfRange {
            field: "stack bytes",
            value: 2 << 20,
            least: 4096,
            most: 1 << 20
        }
    );
    for (field, refusal) in [
        ("cpu ms", changed(|manifest| manifest.limits.cpu_ms = Some(0))),
        (
            "deadline ms",
            changed(|manifest| manifest.limits.deadline_ms = Some(0)),
        ),
    ] {
        assert_eq!(
            refusal,
            Rejected::OutOfRange {
                field,
                value: 0,
                least: 1,
                most: 1_000_000_000_000
            }
        );
    }
}

#[test]
fn rejects_a_state_of_no_bytes_or_of_too_many() {
    let most = muscle_abi::capability::STATE_MAX;
    for value in [0, most + 1, u64::MAX] {
        assert_eq!(
            changed(|manifest| manifest.slots =
                vec![slot("notes", CapabilityRequest::State { max_bytes: value })]),
            Rejected::OutOfRange {
                field: "state max bytes",
                value,
                least: 1,
                most,
            }
        );
    }
}

#[test]
fn rejects_a_channel_of_no_sense() {
    let with = |role: ChannelRole, max_bytes| {
        changed(|manifest| {
            manifest.slots = vec![slot("c", CapabilityRequest::Channel { role, max_bytes })];
        })
    };
    let send = |max_messages| ChannelRole::Send { max_messages };
    let receive = |function: &str| ChannelRole::Receive {
        function: function.to_owned(),
    };
    let (bytes, messages) = (
        muscle_abi::capability::MESSAGE_MAX,
        muscle_abi::capability::MESSAGES_MAX,
    );
    for value in [0, bytes + 1, u64::MAX] {
        assert_eq!(
            with(send(1), value),
            Rejected::OutOfRange {
                field: "channel max bytes",
                value,
                least: 1,
                most: bytes
            }
        );
    }
    for (role, value) in [
        (send(0), 0),
        (send(messages + 1), messages + 1),
        (ChannelRole::Request { max_messages: 0 }, 0),
    ] {
        assert_eq!(
            with(role, 1),
            Rejected::OutOfRange {
                field: "channel max messages",
                value,
                least: 1,
                most: messages
            }
        );
    }
    for name in ["", "1st", "a b", "../f"] {
        assert!(
            matches!(
                with(receive(name), 1),
                Rejected::NameInvalid {
                    field: "channel function",
                    ..
                }
            ),
            "{name}"
        );
    }
    assert_eq!(
        with(receive("take"), 1),
        Rejected::ReceiverNotExported {
            slot: "c".to_owned(),
            function: "take".to_owned()
        }
    );
}

#[test]
fn rejects_requests_of_another_shape() {
    // [name, [2]] is `args`; with one argument more it is nothing.
    let mut good = manifest();
    good.slots = vec![slot("args", CapabilityRequest::Args)];
    let encoded = good.encode();
    let at = encoded
        .windows(2)
        .position(|bytes| bytes == [0x81, 2])
        .expect("the request");
    let refused = |change: &[u8]| {
        let mut bytes = encoded.clone();
        bytes.splice(at..at + 2, change.iter().copied());
        Pieces::with_bytes(bytes).verify().expect_err("a refusal")
    };
    assert!(matches!(
        refused(&[0x82, 2, 0]),
        Rejected::MalformedCbor { field: "request", .. }
    ));
    assert!(matches!(
        refused(&[0x81, 0x60]),
        Rejected::MalformedCbor {
            field: "request kind",
            ..
        }
    ));
    for (kind, value) in [(&[0x81, 0][..], 0), (&[0x81, 20], 20)] {
        assert_eq!(
            refused(kind),
            Rejected::UnknownValue {
                document: Document::Manifest,
                field: "request kind",
                value
            }
        );
    }
    assert!(matches!(
        refused(&[0x83, 13, 2, 0x19, 0x10, 0]),
        Rejected::UnknownValue {
            field: "ring role",
            value: 2,
            ..
        }
    ));
    assert!(matches!(
        refused(&[0x82, 4, 3]),
        Rejected::UnknownValue {
            field: "clock grade",
            value: 3,
            ..
        }
    ));
}

#[test]
fn rejects_a_bad_memory_map() {
    let segment = |index: usize, change: fn(&mut referee_bundle::Segment)| {
        changed(|manifest| change(&mut manifest.segments[index]))
    };
    assert_eq!(
        segment(1, |segment| segment.vaddr = 0x1300),
        Rejected::SegmentUnaligned {
            index: 1,
            vaddr: 0x1300,
            file_offset: 0x200
        }
    );
    assert_eq!(
        segment(1, |segment| segment.vaddr = 0x200),
        Rejected::SegmentsOverlap {
            index: 1,
            vaddr: 0x200,
            previous_end: 0x1000
        }
    );
    assert_eq!(
        segment(1, |segment| segment.mem_size = 0x1000),
        Rejected::SegmentsOverlap {
            index: 2,
            vaddr: 0x2210,
            previous_end: 0x3000
        }
    );
    // The last address is none; its page ends at none.
    assert_eq!(
        segment(1, |segment| segment.mem_size = u64::MAX),
        Rejected::SegmentOverflow { index: 1 }
    );
    assert_eq!(
        segment(1, |segment| segment.vaddr = u64::MAX - 0xdff),
        Rejected::SegmentOverflow { index: 1 }
    );
    assert_eq!(
        segment(1, |segment| {
            segment.file_offset = u64::MAX - 0xf;
            segment.file_size = 0x10;
        }),
        Rejected::SegmentOverflow { index: 1 }
    );
    assert_eq!(
        segment(0, |segment| segment.mem_size = 0),
        Rejected::SegmentEmpty { index: 0 }
    );
    assert_eq!(
        segment(1, |segment| segment.file_size = 0x11),
        Rejected::SegmentFileLarger {
            index: 1,
            file_size: 0x11,
            mem_size: 0x10
        }
    );
    assert_eq!(
        segment(2, |segment| segment.file_size = 0x61),
        Rejected::SegmentOutsideImage {
            index: 2,
            file_end: 0x271,
            image_size: 0x270
        }
    );
    assert_eq!(
        segment(2, |segment| segment.vaddr = (1 << 40) + 0x210),
        Rejected::SpanTooLarge {
            index: 2,
            end: (1 << 40) + 0x1000,
            limit: 256 << 20
        }
    );
    assert_eq!(
        changed(|manifest| manifest.segments.clear()),
        Rejected::NoSegments
    );
    let many = vec![manifest().segments[0]; 17];
    assert!(matches!(
        changed(|manifest| manifest.segments = many),
        Rejected::TooMany {
            field: "segments",
            count: 17,
            ..
        }
    ));
}

#[test]
fn rejects_permissions_that_are_writable_and_executable_or_unknown() {
    // The last byte of the second segment's five numbers.
    let encoded = manifest().encode();
    let at = encoded
        .windows(5)
        .position(|bytes| bytes == [0x19, 2, 0, 0x10, 5])
        .expect("a segment")
        + 4;
    for bits in [3, 7] {
        assert_eq!(
            raw(|bytes| bytes[at] = bits),
            Rejected::SegmentWritableExecutable { index: 1 }
        );
    }
    for bits in [0, 1, 2, 8] {
        assert_eq!(
            raw(|bytes| bytes[at] = bits),
            Rejected::SegmentPermissions {
                index: 1,
                bits: bits.into()
            }
        );
    }
}

#[test]
fn rejects_an_entry_outside_of_code() {
    for entry in [0, 0x11ff, 0x1210, 0x2210, 0x5000, u64::MAX] {
        assert_eq!(
            changed(|manifest| manifest.entry = entry),
            Rejected::EntryNotExecutable { entry }
        );
    }
    assert_eq!(
        changed(|manifest| manifest.segments[1].permissions = Permissions::R),
        Rejected::EntryNotExecutable { entry: 0x1200 }
    );
}

#[test]
fn rejects_parts_that_are_not_what_the_manifest_lists() {
    let with_parts = |change: fn(&mut Manifest), body: Vec<u8>| {
        let mut manifest = manifest();
        change(&mut manifest);
        let mut pieces = Pieces::of(&manifest);
        pieces.body = body;
        pieces.verify()
    };
    let symbols = |manifest: &mut Manifest| manifest.parts.push(part(PartKind::Symbols, b"symbols"));
    let body = |between: u8| {
        let mut body = elf::small();
        body.resize(4096, 0);
        body[4095] = between;
        body.extend(b"symbols");
        body
    };
    let bundle = with_parts(symbols, body(0)).expect("a good bundle");
    assert_eq!(bundle.part(PartKind::Symbols), Some(&b"symbols"[..]));
    assert_eq!(bundle.part(PartKind::Data), None);
    assert_eq!(
        with_parts(symbols, body(1)).err(),
        Some(Rejected::PaddingNotZero { offset: 8191 })
    );
    let file_size = 4096 + elf::small().len() as u64;
    assert_eq!(
        with_parts(symbols, elf::small()).err(),
        Some(Rejected::PartOutsideFile { index: 1, file_size })
    );
    assert_eq!(
        with_parts(|_| (), body(0)).err(),
        Some(Rejected::TrailingBytes {
            offset: file_size,
            extra: 8192 + 7 - file_size
        })
    );
    assert_eq!(changed(|manifest| manifest.parts.clear()), Rejected::NoImage);
    assert_eq!(
        changed(|manifest| manifest.parts[0].kind = PartKind::Data),
        Rejected::NoImage
    );
    for size in [u64::MAX, u64::MAX - 4096, 0x271] {
        assert_eq!(
            changed(|manifest| manifest.parts[0].size = size),
            Rejected::PartOutsideFile { index: 0, file_size },
            "{size:#x}"
        );
    }
    assert_eq!(
        changed(|manifest| manifest.parts[0].sha256 = Digest([0; 32])),
        Rejected::PartDigestMismatch {
            index: 0,
            expected: Digest([0; 32]),
            found: Digest::of(&elf::small())
        }
    );
}

#[test]
fn rejects_a_byte_of_padding_before_the_body() {
    let mut bundle = good();
    bundle[4095] = 1;
    assert_eq!(
        check(bundle).err(),
        Some(Rejected::PaddingNotZero { offset: 4095 })
    );
    // A signed bundle with a good publisher stays good when nothing is changed.
    assert!(check(Pieces::of(&manifest()).bundle(&[publisher()])).is_ok());
}

fn slot(name: &str, request: CapabilityRequest) -> Slot {
    Slot {
        name: name.to_owned(),
        request,
        delegated: None,
    }
}

#[test]
fn rejects_rings_of_a_size_that_cannot_wrap_and_more_of_them_than_a_cell_has_room_for() {
    let ring = |bytes| CapabilityRequest::Ring {
        role: Role::Send,
        bytes,
    };
    let refused = |slots: Vec<Slot>| {
        let mut bad = manifest();
        bad.slots = slots;
        Pieces::with_bytes(bad.encode()).verify().err()
    };
    for bytes in [0, 2048, DATA_MAX * 2, u64::MAX] {
        assert!(
            matches!(
                refused(vec![slot("out", ring(bytes))]),
                Some(Rejected::OutOfRange {
                    field: "ring bytes",
                    ..
                })
            ),
            "{bytes}"
        );
    }
    for bytes in [DATA_MIN + 8, 3 * DATA_MIN, DATA_MAX - 4096] {
        assert_eq!(
            refused(vec![slot("out", ring(bytes))]),
            Some(Rejected::NotAPowerOfTwo {
                field: "ring bytes",
                value: bytes
            })
        );
    }
    let many = |count| {
        (0..count)
            .map(|at| slot(&format!("ring-{at}"), ring(DATA_MIN)))
            .collect()
    };
    assert_eq!(refused(many(RINGS_MAX)), None);
    assert!(matches!(
        refused(many(RINGS_MAX + 1)),
        Some(Rejected::OutOfRange {
            field: "ring slots",
            value: 9,
            ..
        })
    ));
}

#[test]
fn rejects_a_slot_that_cannot_be_delegated_to() {
    let receive = CapabilityRequest::Channel {
        role: ChannelRole::Receive {
            function: "take".to_owned(),
        },
        max_bytes: 1,
    };
    let send = CapabilityRequest::Channel {
        role: ChannelRole::Send { max_messages: 1 },
        max_bytes: 1,
    };
    let with = |request: CapabilityRequest, from: &str| {
        let lent = Slot {
            delegated: Some(Delegated {
                from: from.to_owned(),
                onward: true,
            }),
            ..slot("lent", request)
        };
        let manifest = Manifest {
            style: muscle_abi::boot::Style::Reactor,
            exports: vec!["take".to_owned()],
            slots: vec![slot("in", receive.clone()), lent, slot("out", send.clone())],
            ..manifest()
        };
        check(Pieces::of(&manifest).bundle(&[publisher()]))
    };
    assert!(with(CapabilityRequest::Random, "in").is_ok());
    for from in ["out", "lent", "none", ""] {
        assert_eq!(
            with(CapabilityRequest::Random, from).err(),
            Some(Rejected::DelegatedFromNowhere {
                slot: "lent".to_owned(),
                from: from.to_owned()
            })
        );
    }
    for request in [
        CapabilityRequest::Args,
        CapabilityRequest::Attest,
        CapabilityRequest::Console { input: false },
        CapabilityRequest::State { max_bytes: 1 },
        CapabilityRequest::VsockConnect { port: 2000 },
        receive.clone(),
    ] {
        let kind = request.kind().name();
        assert_eq!(
            with(request, "in").err(),
            Some(Rejected::NotDelegable {
                slot: "lent".to_owned(),
                kind
            })
        );
    }
}
