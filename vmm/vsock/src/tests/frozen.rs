//! A device that goes back to an earlier moment.

use vm_memory::GuestAddress;

use super::driver::{CID, Driver, LIMITS, WINDOW, data, drain, establish, start};
use crate::packet::Op;
use crate::{AtRest, Cid, NotAtRest, Vsock};

#[test]
fn connections_are_those_of_the_moment_and_no_others() {
    let (mut vsock, mut driver) = start(LIMITS);
    let kept = establish(&mut vsock, &mut driver, 5000, 1);
    let frozen = vsock.clone();
    let later = establish(&mut vsock, &mut driver, 5001, 1);
    driver.tell(&mut vsock, data(5000, 1, 3), &[1, 2, 3]);
    assert_eq!(vsock.readable(kept), 3);
    vsock.write(kept, &[4, 5]);
    vsock.go_back_to(&frozen);
    assert_eq!(vsock.connections(), 1);
    assert_eq!(vsock.ports(kept), Some((5000, 1)));
    assert_eq!(vsock.ports(later), None);
    assert_eq!(vsock.readable(kept), 0, "bytes of another life");
    assert!(!vsock.has_pending());
    assert_eq!(vsock.counters(), frozen.counters());
    assert!(vsock.next_event().is_none());
}

#[test]
fn an_ended_connection_is_there_again() {
    let (mut vsock, mut driver) = start(LIMITS);
    let kept = establish(&mut vsock, &mut driver, 5000, 1);
    let frozen = vsock.clone();
    vsock.abort(kept);
    assert_eq!(vsock.ports(kept), None);
    vsock.go_back_to(&frozen);
    assert_eq!(vsock.ports(kept), Some((5000, 1)));
}

#[test]
fn a_device_that_is_made_of_numbers_goes_on_where_the_other_stood() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, 5000, 1);
    driver.tell(&mut vsock, data(5000, 1, 3), &[1, 2, 3]);
    assert_eq!(
        vsock.at_rest(),
        Err(NotAtRest::OnItsWay),
        "bytes that nobody has read"
    );
    let mut bytes = [0; 3];
    assert_eq!(vsock.read(conn, &mut bytes), 3);
    while vsock.next_event().is_some() {}
    assert_eq!(vsock.write(conn, &[4, 5]), 2);
    assert_eq!(
        vsock.at_rest(),
        Err(NotAtRest::OnItsWay),
        "bytes that are not sent"
    );
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 2)));
    let rest = vsock.at_rest().expect("is at rest");
    let cid = Cid::new(CID).expect("not reserved");
    let (mut other, conn) = Vsock::of_rest(cid, LIMITS, GuestAddress(WINDOW), &rest).expect("is made");
    assert_eq!(other.at_rest(), Ok(rest));
    assert_eq!(other.ports(conn), Some((5000, 1)));
    // The same driver, whose rings are where they were.
    driver.tell(&mut other, data(5000, 1, 2), &[6, 7]);
    let mut bytes = [0; 2];
    assert_eq!(other.read(conn, &mut bytes), 2);
    assert_eq!(bytes, [6, 7]);
    other.write(conn, &[8]);
    drain(&mut other, &driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 1)));
}

#[test]
fn a_device_with_more_to_it_than_numbers_is_not_at_rest() {
    let (mut vsock, mut driver) = start(LIMITS);
    assert_eq!(vsock.at_rest(), Err(NotAtRest::Connections));
    establish(&mut vsock, &mut driver, 5000, 1);
    assert!(vsock.at_rest().is_ok());
    let second = establish(&mut vsock, &mut driver, 5001, 1);
    assert_eq!(vsock.at_rest(), Err(NotAtRest::Connections));
    vsock.abort(second);
    drain(&mut vsock, &driver).expect("no fault");
    while vsock.next_event().is_some() {}
    assert!(vsock.at_rest().is_ok(), "the first is left");
    // A driver that selects a queue may go on by it.
    vsock
        .mmio_write(0x30, &1u32.to_le_bytes(), &driver.mem)
        .expect("a register");
    assert_eq!(vsock.at_rest(), Err(NotAtRest::Device));
}

#[test]
fn any_numbers_give_a_device_that_only_faults() {
    let cid = Cid::new(CID).expect("not reserved");
    for number in [0, 1, 0x7fff, u16::MAX] {
        let counter = u32::from(number).wrapping_mul(0x1_0001);
        let rest = AtRest {
            receive: (number, !number),
            transmit: (!number, number),
            used_buffers: true,
            ports: (counter, 1),
            credit: [counter, !counter, counter, !counter, counter],
            asked_credit: true,
        };
        let (mut device, conn) = Vsock::of_rest(cid, LIMITS, GuestAddress(WINDOW), &rest).expect("is made");
        let mut driver = Driver::new();
        driver.post_all();
        device.write(conn, &[1; 100]);
        // It is a fault or none, and nothing beyond the limits.
        let _ = device.drain(&driver.mem);
        assert!(device.readable(conn) <= usize::try_from(LIMITS.receive_buffer).expect("small"));
    }
}
