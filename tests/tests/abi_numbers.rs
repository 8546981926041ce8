//! The numbers in `guests/*.inc` are those of `muscle-abi`: guests are written against the ABI, not a copy of it.

use std::collections::HashMap;
use std::path::Path;

use muscle_abi::boot::BootInfo;
use muscle_abi::frame::FrameKind;
use muscle_abi::ring::Role;
use muscle_abi::{capability, channel, doorbell, ring};

fn numbers() -> HashMap<String, u64> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guests");
    let mut numbers = HashMap::new();
    for file in ["muscle.inc", "channel.inc"] {
        let text = std::fs::read_to_string(folder.join(file)).expect("is there");
        for line in text.lines().filter_map(|line| line.strip_prefix(".equ ")) {
            let (name, value) = line.split_once(", ").expect("a name and a value");
            let number = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16).ok(),
                None => value.parse().ok(),
            };
            numbers.extend(number.map(|number| (name.to_owned(), number)));
        }
    }
    numbers
}

#[test]
fn boot_block_offsets_are_the_abis() {
    type Set = fn(&mut BootInfo);
    const MARK: u64 = 0x1122_3344_5566_7788;
    let fields: [(&str, Set); 18] = [
        ("BOOT_DOORBELL", |boot| boot.doorbell_va = MARK),
        ("BOOT_VSOCK", |boot| boot.vsock_va = MARK),
        ("BOOT_WINDOW", |boot| boot.window_va = MARK),
        ("BOOT_WINDOW_GPA", |boot| boot.window_gpa = MARK),
        ("BOOT_WINDOW_LEN", |boot| boot.window_len = MARK),
        ("BOOT_HEAP", |boot| boot.heap_va = MARK),
        ("BOOT_HEAP_GPA", |boot| boot.heap_gpa = MARK),
        ("BOOT_HEAP_LEN", |boot| boot.heap_len = MARK),
        ("BOOT_HEAP_MAX", |boot| boot.heap_max = MARK),
        ("BOOT_STACK_TOP", |boot| boot.stack_top = MARK),
        ("BOOT_STACK_LEN", |boot| boot.stack_len = MARK),
        ("BOOT_IMAGE", |boot| boot.image_base = MARK),
        ("BOOT_IMAGE_LEN", |boot| boot.image_len = MARK),
        ("BOOT_ARGS", |boot| boot.args_va = MARK),
        ("BOOT_ARGS_LEN", |boot| boot.args_len = MARK),
        ("BOOT_GRANTS", |boot| boot.grants_va = MARK),
        ("BOOT_GRANTS_COUNT", |boot| boot.grants_count = MARK),
        ("BOOT_CID", |boot| boot.cid = MARK),
    ];
    let numbers = numbers();
    for (name, set) in fields {
        let mut boot = BootInfo::default();
        set(&mut boot);
        let bytes = boot.to_bytes();
        let found = bytes.windows(8).position(|window| window == MARK.to_le_bytes());
        assert_eq!(numbers.get(name).copied(), found.map(|at| at as u64), "{name}");
    }
    let seeded = BootInfo {
        seed: [0x77; 32],
        ..BootInfo::default()
    }
    .to_bytes();
    let at = seeded.iter().position(|byte| *byte == 0x77);
    assert_eq!(numbers.get("BOOT_SEED").copied(), at.map(|at| at as u64));
}

#[test]
fn doorbells_channel_and_frames_are_the_abis() {
    let expected = [
        ("PARK", doorbell::PARK),
        ("EXIT", doorbell::EXIT),
        ("ABORT", doorbell::ABORT),
        ("GROW", doorbell::GROW),
        ("YIELD", doorbell::YIELD),
        ("READY", doorbell::READY),
        ("RING_WAIT", doorbell::RING_WAIT),
        ("RING_WAKE", doorbell::RING_WAKE),
        ("MAILBOX_TEXT", channel::MAILBOX_TEXT_OFFSET),
        ("RX", channel::QUEUES_OFFSET),
        ("TX", channel::QUEUES_OFFSET + channel::QUEUE_STRIDE),
        ("POLL_WORD", channel::POLL_OFFSET),
        ("CALL_LANE", channel::CALL_LANE_OFFSET),
        ("ANSWER_LANE", channel::ANSWER_LANE_OFFSET),
        ("LANE_READ", channel::LANE_READ),
        ("LANE_FRAME", channel::LANE_FRAME),
        ("AVAILABLE", channel::QUEUE_AVAILABLE),
        ("USED", channel::QUEUE_USED),
        ("QUEUE_SIZE", channel::QUEUE_SIZE.into()),
        ("OUT", channel::BUFFERS_OFFSET),
        ("HOST_CID", channel::HOST_CID),
        ("RPC_PORT", channel::RPC_PORT.into()),
        ("GRANT_ENTRY_SIZE", capability::GRANT_ENTRY_SIZE as u64),
        ("KIND_CALL", FrameKind::Call as u64),
        ("KIND_RETURN", FrameKind::Return as u64),
        ("KIND_ERROR", FrameKind::Error as u64),
    ];
    let numbers = numbers();
    let rings = [
        ("RECEIVER_PAGE", Role::Send.place_of(ring::RECEIVER_PAGE)),
        ("SENDER_HOST_PAGE", Role::Send.place_of(ring::HOST_PAGE)),
        ("RECEIVER_HOST_PAGE", Role::Receive.place_of(ring::HOST_PAGE)),
        ("SENDER_PAGE", Role::Send.place_of(ring::SENDER_PAGE)),
        ("SENDER_PAGE", Role::Receive.place_of(ring::SENDER_PAGE)),
        ("RING_DATA", Role::Send.place_of(ring::DATA)),
        ("RING_DATA", Role::Receive.place_of(ring::DATA)),
    ];
    for (name, value) in expected.into_iter().chain(rings) {
        assert_eq!(numbers.get(name).copied(), Some(value), "{name}");
    }
}
