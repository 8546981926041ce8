//! A guest that writes anything anywhere into its queues: the device ends it with a fault or copes, and in either
//! case neither panics nor grows.

use proptest::prelude::*;
use vm_memory::GuestAddress;

use muscle_abi::channel::{QUEUE_AVAILABLE, QUEUE_SIZE};

use super::driver::{
    Driver, LIMITS, RX, TX, WINDOW, WINDOW_LEN, drain, packet, queue_page, start_without_buffers,
};
use crate::packet::Op;
use crate::{DeviceFault, Event};

#[derive(Debug, Clone)]
enum Step {
    Descriptor {
        queue: u16,
        index: u16,
        address: u64,
        length: u32,
        flags: u16,
        next: u16,
    },
    Offer {
        queue: u16,
        head: u16,
    },
    Index {
        queue: u16,
        index: u16,
    },
    Ring {
        queue: u16,
        at: u64,
        value: u16,
    },
    Header {
        at: u64,
        port: u32,
        op: u16,
        len: u32,
        buf_alloc: u32,
        fwd_cnt: u32,
    },
    Store {
        offset: u64,
        value: u32,
    },
    Accept,
    Write {
        count: usize,
    },
    Drain,
}

/// Addresses at and around the window, its packets, and the ends of the address space.
fn address() -> impl Strategy<Value = u64> {
    prop_oneof![
        6 => (0..8u64).prop_map(|slot| WINDOW + (7 << 20) + 64 * slot),
        1 => (0..64u64).prop_map(|back| WINDOW + WINDOW_LEN as u64 - back),
        1 => any::<u64>(),
        1 => (0..64u64).prop_map(|back| u64::MAX - back),
        1 => (0..4u16).prop_map(queue_page),
    ]
}

fn length() -> impl Strategy<Value = u32> {
    prop_oneof![4 => 0..200u32, 2 => Just(44), 1 => any::<u32>()]
}

fn step() -> impl Strategy<Value = Step> {
    let queue = 0..2u16;
    let index = prop_oneof![8 => 0..4u16, 1 => 60..70u16, 1 => any::<u16>()];
    prop_oneof![
        6 => (queue.clone(), index.clone(), address(), length(), prop_oneof![9 => 0..4u16, 1 => any::<u16>()], index.clone())
            .prop_map(|(queue, index, address, length, flags, next)| Step::Descriptor {
                queue, index: index % QUEUE_SIZE, address, length, flags, next
            }),
        6 => (queue.clone(), index.clone()).prop_map(|(queue, head)| Step::Offer { queue, head }),
        1 => (queue.clone(), index).prop_map(|(queue, index)| Step::Index { queue, index }),
        1 => (queue, 0..70u64, any::<u16>()).prop_map(|(queue, at, value)| Step::Ring { queue, at, value }),
        4 => ((0..8u64), 0..3u32, 0..9u16, length(), length(), length())
            .prop_map(|(slot, port, op, len, buf_alloc, fwd_cnt)| Step::Header {
                at: WINDOW + (7 << 20) + 64 * slot, port, op, len, buf_alloc, fwd_cnt
            }),
        1 => (0..0x48u64, any::<u32>()).prop_map(|(register, value)| Step::Store { offset: 4 * register, value }),
        2 => Just(Step::Accept),
        2 => (0..300usize).prop_map(|count| Step::Write { count }),
        6 => Just(Step::Drain),
    ]
}

proptest! {
    #[test]
    fn nothing_that_a_guest_writes_makes_the_device_panic_or_grow(steps in prop::collection::vec(step(), 1..200)) {
        let (mut vsock, mut driver) = start_without_buffers(LIMITS);
        let mut conns = Vec::new();
        let mut faults = Vec::new();
        for step in steps {
            match step {
                Step::Descriptor { queue, index, address, length, flags, next } => {
                    driver.describe(queue, index, address, length, flags, next);
                }
                Step::Offer { queue, head } => driver.offer(queue, head),
                Step::Index { queue, index } => driver.set_available_index(queue, index),
                Step::Ring { queue, at, value } => {
                    driver.put(queue_page(queue) + QUEUE_AVAILABLE + 2 * at, &value.to_le_bytes());
                }
                Step::Header { at, port, op, len, buf_alloc, fwd_cnt } => {
                    let header = crate::packet::Header { op, len, buf_alloc, fwd_cnt, ..packet(Op::Request, port, 1) };
                    driver.put(at, &header.to_bytes());
                }
                Step::Store { offset, value } => {
                    faults.extend(vsock.mmio_write(offset, &value.to_le_bytes(), &driver.mem).err());
                }
                Step::Accept => {
                    while let Some(event) = vsock.next_event() {
                        if let Event::Request { conn, .. } = event {
                            vsock.accept(conn);
                            conns.push(conn);
                        }
                    }
                }
                Step::Write { count } => {
                    for conn in &conns {
                        vsock.write(*conn, &vec![1; count]);
                    }
                }
                Step::Drain => faults.extend(drain(&mut vsock, &driver).err()),
            }
            prop_assert!(vsock.connections() <= LIMITS.max_connections);
            prop_assert!(vsock.resets.len() <= 64);
        }
        // Whatever it was, a reset makes the device as good as new.
        vsock.reset();
        let mut driver = Driver::new();
        driver.post_all();
        super::driver::establish(&mut vsock, &mut driver, 1, 1);
let unforeseen = |fault: &DeviceFault| matches!(fault, DeviceFault::BufferUnreachable { .. });
        prop_assert!(!faults.iter().any(unforeseen), "every buffer was checked before it was used");
    }
}

#[test]
fn heads_offered_twice_are_served_twice_and_nothing_breaks() {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    driver.put(WINDOW + (7 << 20), &packet(Op::CreditRequest, 1, 1).to_bytes());
    driver.describe(TX, 0, WINDOW + (7 << 20), 44, 0, 0);
    driver.describe(RX, 0, WINDOW + (6 << 20), 100, 2, 0);
    for _ in 0..10 {
        driver.offer(TX, 0);
        driver.offer(RX, 0);
    }
    let progress = drain(&mut vsock, &driver).expect("no fault");
    assert_eq!((progress.received, progress.delivered), (10, 10));
}

#[test]
fn a_packet_may_lie_over_the_rings_and_harms_only_its_guest() {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    driver.send(packet(Op::CreditRequest, 1, 1), &[]);
    driver.describe(RX, 0, queue_page(TX), 4096, 2, 0);
    driver.offer(RX, 0);
    let progress = drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(
        progress.delivered, 1,
        "written over the transmit queue's descriptors"
    );
    driver.offer(TX, 1);
    assert!(drain(&mut vsock, &driver).is_err(), "which now say nonsense");
    let mut bytes = [0; 4];
    vm_memory::Bytes::read_slice(&driver.mem, &mut bytes, GuestAddress(queue_page(TX)))
        .expect("in the window");
    assert_eq!(bytes, [2, 0, 0, 0], "the header's source: the host");
}
