//! The registers: their values, who may write them when, and the whole handshake by an honest driver.

use vm_memory::GuestAddress;

use muscle_abi::channel::{QUEUE_AVAILABLE, QUEUE_SIZE, QUEUE_USED};

use super::driver::{CID, Driver, LIMITS, WINDOW, drain, establish, packet, queue_page, start};
use crate::packet::Op;
use crate::{Cid, CloseReason, DeviceFault, Event, Notify, QueuePart, Vsock, VsockError};

fn device() -> (Vsock, Driver) {
    (
        Vsock::new(Cid::new(CID).expect("not reserved"), LIMITS),
        Driver::new(),
    )
}

fn read(vsock: &mut Vsock, offset: u64) -> Result<u32, DeviceFault> {
    let mut bytes = [0; 4];
    vsock.mmio_read(offset, &mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn write(vsock: &mut Vsock, driver: &Driver, offset: u64, value: u32) -> Result<Notify, DeviceFault> {
    vsock.mmio_write(offset, &value.to_le_bytes(), &driver.mem)
}

/// Writes registers one after the other; none may fault.
fn write_all(vsock: &mut Vsock, driver: &Driver, stores: &[(u64, u32)]) {
    for &(offset, value) in stores {
        assert_eq!(
            write(vsock, driver, offset, value),
            Ok(Notify::None),
            "{offset:#x} = {value:#x}"
        );
    }
}

const TO_FEATURES_OK: [(u64, u32); 7] = [
    (0x70, 1),
    (0x70, 3),
    (0x24, 0),
    (0x20, 1),
    (0x24, 1),
    (0x20, 1),
    (0x70, 11),
];

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).expect("masked")
}

/// Stores that configure one queue where the prepared layout has it.
fn queue_stores(queue: u16) -> Vec<(u64, u32)> {
    let page = queue_page(queue);
    vec![
        (0x30, u32::from(queue)),
        (0x38, u32::from(QUEUE_SIZE)),
        (0x80, low(page)),
        (0x84, low(page >> 32)),
        (0x90, low(page + QUEUE_AVAILABLE)),
        (0x94, 0),
        (0xa0, low(page + QUEUE_USED)),
        (0xa4, 0),
        (0x44, 1),
    ]
}

/// A device up to `FEATURES_OK`.
fn negotiated() -> (Vsock, Driver) {
    let (mut vsock, driver) = device();
    write_all(&mut vsock, &driver, &TO_FEATURES_OK);
    assert_eq!(read(&mut vsock, 0x70), Ok(11));
    (vsock, driver)
}

#[test]
fn identity_registers_say_what_the_device_is() {
    let (mut vsock, driver) = device();
    let expected = [
        (0x00, 0x7472_6976),
        (0x04, 2),
        (0x08, 19),
        (0x34, 256),
        (0x44, 0),
        (0x60, 0),
        (0x70, 0),
        (0xb0, u32::MAX),
        (0xbc, u32::MAX),
        (0xfc, 0),
        (0x100, 42),
        (0x104, 0),
    ];
    for (offset, value) in expected {
        assert_eq!(read(&mut vsock, offset), Ok(value), "{offset:#x}");
    }
    for (select, features) in [(0, 1), (1, 1), (2, 0), (u32::MAX, 0)] {
        write_all(&mut vsock, &driver, &[(0x14, select)]);
        assert_eq!(read(&mut vsock, 0x10), Ok(features), "VERSION_1 and STREAM");
    }
    write_all(&mut vsock, &driver, &[(0x30, 3)]);
    assert_eq!(read(&mut vsock, 0x34), Ok(0), "there is no fourth queue");
    assert_eq!(read(&mut vsock, 0x44), Ok(0));
}

#[test]
fn full_handshake_brings_the_device_up() {
    let (mut vsock, mut driver) = negotiated();
    for queue in 0..3 {
        write_all(&mut vsock, &driver, &queue_stores(queue));
        assert_eq!(read(&mut vsock, 0x44), Ok(1));
    }
    assert_eq!(
        drain(&mut vsock, &driver).map(|progress| progress.any()),
        Ok(false)
    );
    write_all(&mut vsock, &driver, &[(0x70, 15)]);
    driver.post_all();
    assert_eq!(write(&mut vsock, &driver, 0x50, 1), Ok(Notify::Queue(1)));
    establish(&mut vsock, &mut driver, 5000, 1);
    vsock.reset();
    assert_eq!(read(&mut vsock, 0x70), Ok(0), "not prepared, so after power-on");
}

#[test]
fn prepared_device_needs_no_handshake_and_can_still_be_reset_into_one() {
    let (mut vsock, mut driver) = start(LIMITS);
    assert_eq!(read(&mut vsock, 0x70), Ok(15));
    let conn = establish(&mut vsock, &mut driver, 5000, 1);
    assert_eq!(write(&mut vsock, &driver, 0x70, 0), Ok(Notify::Reset));
    let reason = CloseReason::DeviceReset;
    assert_eq!(vsock.next_event(), Some(Event::Closed { conn, reason }));
    let mut driver = Driver::new();
    write_all(&mut vsock, &driver, &TO_FEATURES_OK);
    for queue in 0..3 {
        write_all(&mut vsock, &driver, &queue_stores(queue));
    }
    write_all(&mut vsock, &driver, &[(0x70, 15)]);
    driver.post_all();
    establish(&mut vsock, &mut driver, 5000, 1);
    vsock.reset();
    assert_eq!(read(&mut vsock, 0x70), Ok(15), "prepared again");
    let mut driver = Driver::new();
    driver.post_all();
    establish(&mut vsock, &mut driver, 5000, 1);
}

#[test]
fn features_are_refused_without_version_1_or_with_unknown_ones() {
    for (select, value) in [(0, 1), (1, 1 << 5 | 1), (2, 1)] {
        let (mut vsock, driver) = device();
        write_all(
            &mut vsock,
            &driver,
            &[(0x70, 1), (0x70, 3), (0x24, 1), (0x20, u32::from(select != 0))],
        );
        write_all(&mut vsock, &driver, &[(0x24, select), (0x20, value), (0x70, 11)]);
        assert_eq!(read(&mut vsock, 0x70), Ok(3), "FEATURES_OK does not stick");
        let fault = DeviceFault::StatusOrder { from: 3, to: 15 };
        assert_eq!(write(&mut vsock, &driver, 0x70, 15), Err(fault));
    }
}

#[test]
fn status_goes_only_forward() {
    let (mut vsock, driver) = device();
    let fault = DeviceFault::StatusOrder { from: 0, to: 2 };
    assert_eq!(write(&mut vsock, &driver, 0x70, 2), Err(fault));
    assert_eq!(
        write(&mut vsock, &driver, 0x70, 0x41),
        Err(DeviceFault::StatusBits { written: 0x41 })
    );
    write_all(&mut vsock, &driver, &[(0x70, 3)]);
    assert_eq!(
        write(&mut vsock, &driver, 0x70, 1),
        Err(DeviceFault::StatusCleared { from: 3, to: 1 })
    );
    assert_eq!(
        write(&mut vsock, &driver, 0x70, 7),
        Err(DeviceFault::StatusOrder { from: 3, to: 7 })
    );
}

#[test]
fn a_failed_device_does_nothing() {
    let (mut vsock, mut driver) = start(LIMITS);
    write_all(&mut vsock, &driver, &[(0x70, 0x8f)]);
    assert!(driver.send(packet(Op::Request, 5000, 1), &[]));
    assert_eq!(
        drain(&mut vsock, &driver).map(|progress| progress.any()),
        Ok(false)
    );
    let fault = DeviceFault::RegisterPhase {
        offset: 0x50,
        status: 0x8f,
    };
    assert_eq!(write(&mut vsock, &driver, 0x50, 1), Err(fault));
    assert_eq!(vsock.connect(1), Err(VsockError::NotRunning { status: 0x8f }));
}

#[test]
fn registers_take_one_aligned_word() {
    let (mut vsock, driver) = device();
    for (offset, width) in [
        (0x0, 1),
        (0x0, 2),
        (0x0, 8),
        (0x2, 4),
        (0x101, 1),
        (0x100, 8),
        (0x0, 0),
    ] {
        let fault = DeviceFault::RegisterAccess { offset, width };
        let mut bytes = [0; 8];
        assert_eq!(vsock.mmio_read(offset, &mut bytes[..width]), Err(fault));
        assert_eq!(vsock.mmio_write(offset, &bytes[..width], &driver.mem), Err(fault));
    }
    for offset in [0x0c0, 0x108, 0x01c, 0xffc, u64::MAX - 3] {
        let fault = DeviceFault::UnknownRegister { offset };
        assert_eq!(read(&mut vsock, offset), Err(fault));
        assert_eq!(write(&mut vsock, &driver, offset, 0), Err(fault));
    }
}

#[test]
fn every_register_has_its_direction() {
    let (mut vsock, driver) = device();
    for offset in [
        0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0x60, 0xb0, 0xb4, 0xb8, 0xbc, 0xfc, 0x100, 0x104,
    ] {
        assert!(read(&mut vsock, offset).is_ok());
        let fault = DeviceFault::RegisterReadOnly { offset, value: 7 };
        assert_eq!(write(&mut vsock, &driver, offset, 7), Err(fault));
    }
    for offset in [
        0x14, 0x20, 0x24, 0x30, 0x38, 0x50, 0x64, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xac,
    ] {
        assert_eq!(
            read(&mut vsock, offset),
            Err(DeviceFault::RegisterWriteOnly { offset })
        );
    }
}

#[test]
fn each_step_has_its_time() {
    let (mut vsock, driver) = device();
    for (offset, status) in [(0x20, 0), (0x38, 0), (0x44, 0), (0x80, 0), (0x50, 0)] {
        let fault = DeviceFault::RegisterPhase { offset, status };
        assert_eq!(write(&mut vsock, &driver, offset, 1), Err(fault));
    }
    write_all(&mut vsock, &driver, &TO_FEATURES_OK);
    let fault = DeviceFault::RegisterPhase {
        offset: 0x20,
        status: 11,
    };
    assert_eq!(write(&mut vsock, &driver, 0x20, 1), Err(fault));
    write_all(&mut vsock, &driver, &[(0x70, 15)]);
    let fault = DeviceFault::RegisterPhase {
        offset: 0x44,
        status: 15,
    };
    assert_eq!(write(&mut vsock, &driver, 0x44, 1), Err(fault));
    assert_eq!(
        write(&mut vsock, &driver, 0x50, 2),
        Err(DeviceFault::NotifiedBeforeReady { queue: 2 })
    );
    assert_eq!(
        write(&mut vsock, &driver, 0x50, 3),
        Err(DeviceFault::UnknownQueue { queue: 3 })
    );
    let fault = DeviceFault::UnknownQueue { queue: 0x1_0001 };
    assert_eq!(write(&mut vsock, &driver, 0x50, 0x1_0001), Err(fault));
}

#[test]
fn queue_size_is_a_power_of_two_that_the_device_takes() {
    let (mut vsock, driver) = negotiated();
    for size in [0, 3, 63, 512, 0x1_0000, 0x1_0040, u32::MAX] {
        let fault = DeviceFault::QueueSize {
            queue: 0,
            size,
            most: 256,
        };
        assert_eq!(write(&mut vsock, &driver, 0x38, size), Err(fault));
    }
    write_all(&mut vsock, &driver, &[(0x38, 1), (0x38, 256)]);
    write_all(&mut vsock, &driver, &[(0x30, 7)]);
    assert_eq!(
        write(&mut vsock, &driver, 0x38, 64),
        Err(DeviceFault::UnknownQueue { queue: 7 })
    );
}

#[test]
fn rings_are_aligned_and_inside_the_memory() {
    let page = queue_page(0);
    for (register, address, part, alignment) in [
        (0x80, page + 8, QueuePart::Descriptors, 16),
        (0x90, page + 1, QueuePart::Available, 2),
        (0xa0, page + 2, QueuePart::Used, 4),
    ] {
        let (mut vsock, driver) = negotiated();
        let mut stores = queue_stores(0);
        stores.pop();
        write_all(&mut vsock, &driver, &stores);
        write_all(&mut vsock, &driver, &[(register, low(address))]);
        let fault = DeviceFault::QueueUnaligned {
            queue: 0,
            part,
            address,
            alignment,
        };
        assert_eq!(write(&mut vsock, &driver, 0x44, 1), Err(fault));
    }
    for (register, high, part, length) in [
        (0x80, false, QueuePart::Descriptors, 16 * 64),
        (0x90, false, QueuePart::Available, 6 + 2 * 64),
        (0xa0, true, QueuePart::Used, 6 + 8 * 64),
    ] {
        let (mut vsock, driver) = negotiated();
        let mut stores = queue_stores(0);
        stores.pop();
        write_all(&mut vsock, &driver, &stores);
        let address = if high { 0xffff_ffff_ffff_fff0 } else { WINDOW - 16 };
        write_all(
            &mut vsock,
            &driver,
            &[(register, low(address)), (register + 4, low(address >> 32))],
        );
        let fault = DeviceFault::QueueOutsideMemory {
            queue: 0,
            part,
            address,
            length,
        };
        assert_eq!(write(&mut vsock, &driver, 0x44, 1), Err(fault));
    }
}

#[test]
fn a_ready_queue_does_not_move() {
    let (mut vsock, driver) = negotiated();
    write_all(&mut vsock, &driver, &queue_stores(1));
    for offset in [0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4] {
        let fault = DeviceFault::QueueChangedWhileReady { queue: 1, offset };
        assert_eq!(write(&mut vsock, &driver, offset, 64), Err(fault));
    }
    let fault = DeviceFault::QueueReadyValue { queue: 1, value: 2 };
    assert_eq!(write(&mut vsock, &driver, 0x44, 2), Err(fault));
    write_all(
        &mut vsock,
        &driver,
        &[(0x44, 1), (0x44, 0), (0x38, 32), (0x44, 1), (0x70, 15)],
    );
    let fault = DeviceFault::QueueChangedWhileReady {
        queue: 1,
        offset: 0x80,
    };
    assert_eq!(write(&mut vsock, &driver, 0x80, 0), Err(fault));
}

#[test]
fn a_driver_that_polls_for_interrupts_sees_used_buffers_and_one_that_does_not_is_left_alone() {
    let (mut vsock, mut driver) = start(LIMITS);
    driver.set_available_flags(0, 1);
    driver.set_available_flags(1, 1);
    driver.tell(&mut vsock, packet(Op::CreditUpdate, 5000, 1), &[]);
    assert_eq!(read(&mut vsock, 0x60), Ok(0), "NO_INTERRUPT");
    driver.set_available_flags(1, 0);
    driver.tell(&mut vsock, packet(Op::Reset, 5000, 1), &[]);
    assert_eq!(read(&mut vsock, 0x60), Ok(1));
    assert_eq!(
        write(&mut vsock, &driver, 0x64, 4),
        Err(DeviceFault::InterruptBits { value: 4 })
    );
    write_all(&mut vsock, &driver, &[(0x64, 1)]);
    assert_eq!(read(&mut vsock, 0x60), Ok(0));
}

#[test]
fn windows_and_context_ids_are_checked() {
    let (mut vsock, _) = device();
    for address in [1, 0x1008, u64::MAX - 0xfff] {
        let refused = VsockError::WindowAddress { address };
        assert_eq!(vsock.prepare(GuestAddress(address)), Err(refused));
    }
    for cid in [0, 1, 2, 0xffff_ffff, 0x1_0000_0003, u64::MAX] {
        assert_eq!(Cid::new(cid), Err(VsockError::ReservedCid { cid }));
    }
    assert_eq!(Cid::new(3).map(Cid::number), Ok(3));
}
