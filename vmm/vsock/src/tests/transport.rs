//! Rules of the queues: a hostile driver for each, and the fault that names it.

use vm_memory::{GuestAddress, GuestMemoryMmap};

use super::driver::{
    CID, Driver, LIMITS, NEXT, RX, TX, WINDOW, WINDOW_LEN, WRITE, data, drain, establish, packet, queue_page,
    rx_buffer, start, start_without_buffers,
};
use crate::packet::{HEADER_SIZE, Op};
use crate::{Cid, DeviceFault, QueuePart, Vsock};

/// Where the tests put packets of their own making.
const SCRATCH: u64 = WINDOW + (7 << 20);
const END: u64 = WINDOW + WINDOW_LEN as u64;

/// The fault that a prepared device ends with after `hostile` has been at the queues.
fn fault_of(hostile: impl FnOnce(&mut Driver)) -> DeviceFault {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    hostile(&mut driver);
    drain(&mut vsock, &driver).expect_err("a fault")
}

/// The fault of a receive queue with something to deliver.
fn receive_fault_of(hostile: impl FnOnce(&mut Driver)) -> DeviceFault {
    fault_of(|driver| {
        driver.send(packet(Op::CreditRequest, 5000, 1), &[]);
        hostile(driver);
    })
}

fn put_request(driver: &Driver) {
    driver.put(SCRATCH, &packet(Op::Request, 5000, 1).to_bytes());
}

#[test]
fn available_index_jumps_by_more_than_the_queue() {
    let jump = |queue, to| DeviceFault::AvailableJump {
        queue,
        from: 0,
        to,
        size: 64,
    };
    assert_eq!(
        fault_of(|driver| driver.set_available_index(TX, 65)),
        jump(TX, 65)
    );
    assert_eq!(
        fault_of(|driver| driver.set_available_index(TX, u16::MAX)),
        jump(TX, u16::MAX)
    );
    assert_eq!(
        receive_fault_of(|driver| driver.set_available_index(RX, 65)),
        jump(RX, 65)
    );
}

#[test]
fn descriptor_index_is_beyond_the_queue() {
    let index = |queue, index| DeviceFault::DescriptorIndex {
        queue,
        index,
        size: 64,
    };
    assert_eq!(fault_of(|driver| driver.offer(TX, 64)), index(TX, 64));
    assert_eq!(
        receive_fault_of(|driver| driver.offer(RX, u16::MAX)),
        index(RX, u16::MAX)
    );
    let next = fault_of(|driver| {
        driver.describe(TX, 0, SCRATCH, 20, NEXT, 64);
        driver.offer(TX, 0);
    });
    assert_eq!(next, index(TX, 64));
}

#[test]
fn chain_runs_in_a_circle() {
    for length in [0, 8] {
        let fault = fault_of(|driver| {
            driver.describe(TX, 3, SCRATCH, length, NEXT, 4);
            driver.describe(TX, 4, SCRATCH, length, NEXT, 3);
            driver.offer(TX, 3);
        });
        assert_eq!(
            fault,
            DeviceFault::DescriptorLoop {
                queue: TX,
                head: 3,
                size: 64
            }
        );
    }
}

#[test]
fn a_chain_may_use_the_whole_queue() {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    put_request(&driver);
    for index in 0..64 {
        let flags = if index < 63 { NEXT } else { 0 };
        driver.describe(TX, index, SCRATCH + u64::from(index), 1, flags, index + 1);
    }
    driver.offer(TX, 0);
    assert_eq!(
        drain(&mut vsock, &driver).map(|progress| progress.received),
        Ok(1)
    );
    assert_eq!(
        vsock.connections(),
        1,
        "the header was put together from 44 descriptors"
    );
}

#[test]
fn buffers_have_the_wrong_direction() {
    let fault = fault_of(|driver| {
        put_request(driver);
        driver.describe(TX, 0, SCRATCH, 40, NEXT, 1);
        driver.describe(TX, 1, SCRATCH + 40, 4, WRITE, 0);
        driver.offer(TX, 0);
    });
    assert_eq!(fault, DeviceFault::DescriptorWriteOnly { queue: TX, index: 1 });
    let fault = receive_fault_of(|driver| {
        driver.describe(RX, 9, SCRATCH, 4096, 0, 0);
        driver.offer(RX, 9);
    });
    assert_eq!(fault, DeviceFault::DescriptorReadOnly { queue: RX, index: 9 });
}

#[test]
fn descriptor_has_flags_that_were_not_negotiated() {
    for flags in [4, 8, 0x8000, 7] {
        let fault = fault_of(|driver| {
            driver.describe(TX, 0, SCRATCH, 64, flags, 0);
            driver.offer(TX, 0);
        });
        assert_eq!(
            fault,
            DeviceFault::DescriptorFlags {
                queue: TX,
                index: 0,
                flags
            }
        );
    }
}

#[test]
fn buffer_lies_outside_the_memory() {
    for (address, length) in [
        (0, 44),
        (WINDOW - 1, 44),
        (END - 43, 44),
        (u64::MAX, 44),
        (u64::MAX - 43, 44),
        (SCRATCH, u32::MAX),
    ] {
        let fault = fault_of(|driver| {
            driver.describe(TX, 0, address, length, 0, 0);
            driver.offer(TX, 0);
        });
        assert_eq!(
            fault,
            DeviceFault::DescriptorOutsideMemory {
                queue: TX,
                index: 0,
                address,
                length
            }
        );
        let fault = receive_fault_of(|driver| {
            driver.describe(RX, 0, address, length, WRITE, 0);
            driver.offer(RX, 0);
        });
        assert_eq!(
            fault,
            DeviceFault::DescriptorOutsideMemory {
                queue: RX,
                index: 0,
                address,
                length
            }
        );
    }
}

#[test]
fn chain_is_too_short() {
    for length in [0, 43] {
        let fault = fault_of(|driver| {
            driver.describe(TX, 0, SCRATCH, length, 0, 0);
            driver.offer(TX, 0);
        });
        let length = u64::from(length);
        assert_eq!(
            fault,
            DeviceFault::ChainTooShort {
                queue: TX,
                head: 0,
                length,
                needed: 44
            }
        );
    }
    let fault = receive_fault_of(|driver| {
        driver.describe(RX, 5, SCRATCH, 44, WRITE, 0);
        driver.offer(RX, 5);
    });
    assert_eq!(
        fault,
        DeviceFault::ChainTooShort {
            queue: RX,
            head: 5,
            length: 44,
            needed: 45
        }
    );
}

#[test]
fn packet_claims_more_than_its_chain_carries() {
    for (claimed, carried) in [(11, 10), (u32::MAX, 10), (1, 0)] {
        let fault = fault_of(|driver| {
            let mut header = data(5000, 1, 0);
            header.len = claimed;
            driver.put(SCRATCH, &header.to_bytes());
            driver.describe(TX, 7, SCRATCH, 44 + u32::try_from(carried).expect("small"), 0, 0);
            driver.offer(TX, 7);
        });
        assert_eq!(
            fault,
            DeviceFault::PayloadBeyondChain {
                head: 7,
                claimed,
                carried
            }
        );
    }
}

#[test]
fn prepared_queues_must_lie_in_the_memory_of_the_first_drain() {
    let mut vsock = Vsock::new(Cid::new(CID).expect("not reserved"), LIMITS);
    vsock.prepare(GuestAddress(WINDOW)).expect("aligned");
    let mem: GuestMemoryMmap =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(WINDOW), 0x1000)]).expect("memory");
    let fault = DeviceFault::QueueOutsideMemory {
        queue: TX,
        part: QueuePart::Descriptors,
        address: queue_page(TX),
        length: 16 * 64,
    };
    assert_eq!(vsock.drain(&mem), Err(fault));
}

#[test]
fn packets_may_be_cut_into_descriptors_anywhere() {
    for cut in [1, 20, 43, 44, 45, 50] {
        let (mut vsock, mut driver) = start(LIMITS);
        let conn = establish(&mut vsock, &mut driver, 5000, 1);
        let mut bytes = data(5000, 1, 10).to_bytes().to_vec();
        bytes.extend_from_slice(b"0123456789");
        let (front, back) = bytes.split_at(cut);
        // Far from each other and in the wrong order, with an empty descriptor between them.
        driver.put(SCRATCH + 0x1000, front);
        driver.put(SCRATCH, back);
        driver.describe(
            TX,
            40,
            SCRATCH + 0x1000,
            u32::try_from(front.len()).expect("small"),
            NEXT,
            20,
        );
        driver.describe(TX, 20, SCRATCH, 0, NEXT, 30);
        driver.describe(TX, 30, SCRATCH, u32::try_from(back.len()).expect("small"), 0, 0);
        driver.offer(TX, 40);
        drain(&mut vsock, &driver).expect("no fault");
        assert_eq!(vsock.peek(conn), b"0123456789");
    }
}

#[test]
fn packets_to_the_guest_fill_chains_anywhere() {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    driver.post_one();
    let conn = establish_sparingly(&mut vsock, &mut driver);
    assert_eq!(vsock.write(conn, b"0123456789"), 10);
    driver.describe(RX, 10, SCRATCH, 43, WRITE | NEXT, 11);
    driver.describe(RX, 11, SCRATCH + 0x100, 4, WRITE | NEXT, 12);
    driver.describe(RX, 12, SCRATCH + 0x200, 5, WRITE, 0);
    driver.offer(RX, 10);
    let progress = drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(
        (progress.delivered, progress.blocked),
        (1, true),
        "eight of ten fit"
    );
    assert_eq!(driver.take_used(RX), Some((10, 52)));
    let mut bytes = [0; 9];
    let read = |at: u64, out: &mut [u8]| {
        vm_memory::Bytes::read_slice(&driver.mem, out, GuestAddress(at)).expect("in the window");
    };
    read(SCRATCH + 0x101, &mut bytes[..3]);
    read(SCRATCH + 0x200, &mut bytes[3..8]);
    assert_eq!(&bytes[..8], b"01234567");
    assert!(vsock.has_pending());
}

/// Establishes a connection with the single receive buffer that is posted.
fn establish_sparingly(vsock: &mut Vsock, driver: &mut Driver) -> crate::ConnId {
    driver.tell(vsock, packet(Op::Request, 5000, 1), &[]);
    let Some(crate::Event::Request { conn, .. }) = vsock.next_event() else {
        panic!("a request")
    };
    vsock.accept(conn);
    drain(vsock, driver).expect("no fault");
    assert!(driver.receive().is_some());
    conn
}

#[test]
fn the_device_writes_only_into_the_buffer_it_was_given() {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    driver.put(rx_buffer(0), &[0xaa; 128]);
    driver.send(packet(Op::CreditRequest, 5000, 1), &[]);
    driver.describe(RX, 0, rx_buffer(0) + 8, 64, WRITE, 0);
    driver.offer(RX, 0);
    drain(&mut vsock, &driver).expect("no fault");
    let mut bytes = [0; 128];
    vm_memory::Bytes::read_slice(&driver.mem, &mut bytes, GuestAddress(rx_buffer(0))).expect("in the window");
    assert_eq!(bytes[..8], [0xaa; 8]);
    assert_eq!(bytes[8 + HEADER_SIZE..], [0xaa; 128 - 8 - HEADER_SIZE]);
}
