//! Connections begin and end as virtio 1.2 §5.10.6 says, whoever does what.

use super::driver::{CID, Driver, LIMITS, data, drain, establish, packet, start};
use crate::packet::{Header, Op};
use crate::{CloseReason, Directions, Event, Vsock, VsockError};

const GUEST: u32 = 5000;
const HOST: u32 = 1;

/// All events there are.
fn events(vsock: &mut Vsock) -> Vec<Event> {
    std::iter::from_fn(|| vsock.next_event()).collect()
}

/// Drains and says which operations reached the guest.
fn heard(vsock: &mut Vsock, driver: &mut Driver) -> Vec<Op> {
    drain(vsock, driver).expect("no fault");
    std::iter::from_fn(|| driver.hear()).map(|(op, _)| op).collect()
}

#[test]
fn guest_connects_and_bytes_go_both_ways() {
    let (mut vsock, mut driver) = start(LIMITS);
    driver.tell(&mut vsock, packet(Op::Request, GUEST, HOST), &[]);
    let Some(Event::Request {
        conn,
        host_port,
        guest_port,
    }) = vsock.next_event()
    else {
        panic!("a request is an event")
    };
    assert_eq!((host_port, guest_port), (HOST, GUEST));
    assert_eq!(vsock.ports(conn), Some((GUEST, HOST)));
    assert_eq!(
        heard(&mut vsock, &mut driver),
        [],
        "no answer before the host decides"
    );
    vsock.accept(conn);
    drain(&mut vsock, &driver).expect("no fault");
    let (header, _) = driver.receive().expect("a response");
    assert_eq!(
        header,
        Header {
            src_cid: 2,
            dst_cid: CID,
            src_port: HOST,
            dst_port: GUEST,
            kind: 1,
            op: Op::Response.number(),
            buf_alloc: LIMITS.receive_buffer,
            ..Header::default()
        }
    );
    driver.tell(&mut vsock, data(GUEST, HOST, 5), b"hello");
    assert_eq!(events(&mut vsock), [Event::Readable { conn }]);
    assert_eq!(vsock.readable(conn), 5);
    assert_eq!(vsock.peek(conn), b"hello");
    assert_eq!(vsock.consume(conn, 2), 2);
    let mut out = [0; 8];
    assert_eq!(vsock.read(conn, &mut out), 3);
    assert_eq!(&out[..3], b"llo");
    assert_eq!(vsock.write(conn, b"back"), 4);
    drain(&mut vsock, &driver).expect("no fault");
    let (header, payload) = driver.receive().expect("bytes");
    assert_eq!(
        (header.op, payload.as_slice()),
        (Op::ReadWrite.number(), &b"back"[..])
    );
    assert_eq!(header.fwd_cnt, 5, "credit travels with the bytes");
    assert!(!vsock.has_pending());
}

#[test]
fn host_connects_and_the_guest_accepts() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = vsock.connect(GUEST).expect("room");
    let (_, host) = vsock.ports(conn).expect("live");
    assert_eq!(vsock.write(conn, b"early"), 0, "not connected yet");
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Request]);
    driver.tell(&mut vsock, packet(Op::Response, GUEST, host), &[]);
    assert_eq!(events(&mut vsock), [Event::Connected { conn }]);
    assert_eq!(vsock.write(conn, b"x"), 1);
    assert_eq!(heard(&mut vsock, &mut driver), [Op::ReadWrite]);
    let other = vsock.connect(GUEST).expect("room");
    assert_ne!(vsock.ports(other), vsock.ports(conn), "another source port");
}

#[test]
fn guest_refuses_what_the_host_asks_for() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = vsock.connect(GUEST).expect("room");
    let (_, host) = vsock.ports(conn).expect("live");
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Request]);
    driver.tell(&mut vsock, packet(Op::Reset, GUEST, host), &[]);
    let reason = CloseReason::Refused;
    assert_eq!(events(&mut vsock), [Event::Closed { conn, reason }]);
    assert_eq!(vsock.connections(), 0);
}

#[test]
fn host_refuses_with_a_reset() {
    let (mut vsock, mut driver) = start(LIMITS);
    driver.tell(&mut vsock, packet(Op::Request, GUEST, HOST), &[]);
    let Some(Event::Request { conn, .. }) = vsock.next_event() else {
        panic!("a request")
    };
    vsock.refuse(conn);
    vsock.accept(conn); // stale: does nothing
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
    assert_eq!(events(&mut vsock), []);
    assert_eq!(vsock.connections(), 0);
}

#[test]
fn guest_resets_and_what_it_sent_can_still_be_read() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    driver.send(data(GUEST, HOST, 4), b"last");
    driver.tell(&mut vsock, packet(Op::Reset, GUEST, HOST), &[]);
    let reason = CloseReason::PeerReset;
    assert_eq!(
        events(&mut vsock),
        [Event::Readable { conn }, Event::Closed { conn, reason }]
    );
    assert_eq!(vsock.write(conn, b"x"), 0);
    let mut out = [0; 8];
    assert_eq!(vsock.read(conn, &mut out), 4);
    assert_eq!(vsock.connections(), 0, "nothing is left of it");
    assert_eq!(vsock.read(conn, &mut out), 0, "stale");
    assert_eq!(heard(&mut vsock, &mut driver), [], "a reset is not answered");
}

#[test]
fn guest_closes_in_good_order() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    driver.send(data(GUEST, HOST, 4), b"last");
    let shutdown = Header {
        flags: 3,
        ..packet(Op::Shutdown, GUEST, HOST)
    };
    driver.tell(&mut vsock, shutdown, &[]);
    let reason = CloseReason::Orderly;
    assert_eq!(
        events(&mut vsock),
        [Event::Readable { conn }, Event::Closed { conn, reason }]
    );
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
    assert_eq!(vsock.peek(conn), b"last");
    // The ports are free for another connection though the old one has not been read.
    let next = establish(&mut vsock, &mut driver, GUEST, HOST);
    driver.tell(&mut vsock, data(GUEST, HOST, 3), b"new");
    assert_eq!((vsock.peek(conn), vsock.peek(next)), (&b"last"[..], &b"new"[..]));
    vsock.close(conn);
    assert_eq!(vsock.connections(), 1);
}

#[test]
fn guest_shuts_one_direction_at_a_time() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    let shutdown = |flags| Header {
        flags,
        ..packet(Op::Shutdown, GUEST, HOST)
    };
    driver.tell(&mut vsock, shutdown(2), &[]);
    let shut = Directions::SEND;
    assert_eq!(events(&mut vsock), [Event::PeerShutdown { conn, shut }]);
    assert_eq!(vsock.write(conn, b"still"), 5, "the guest still receives");
    assert_eq!(heard(&mut vsock, &mut driver), [Op::ReadWrite]);
    driver.tell(&mut vsock, shutdown(2), &[]);
    assert_eq!(events(&mut vsock), [], "nothing new");
    driver.tell(&mut vsock, shutdown(1), &[]);
    let reason = CloseReason::Orderly;
    assert_eq!(events(&mut vsock), [Event::Closed { conn, reason }]);
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
}

#[test]
fn guest_that_receives_no_more_gets_nothing() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    assert_eq!(vsock.write(conn, b"too late"), 8);
    let shutdown = Header {
        flags: 1,
        ..packet(Op::Shutdown, GUEST, HOST)
    };
    driver.tell(&mut vsock, shutdown, &[]);
    assert_eq!((vsock.write(conn, b"x"), vsock.writable(conn)), (0, 0));
    assert_eq!(heard(&mut vsock, &mut driver), []);
    driver.tell(&mut vsock, data(GUEST, HOST, 2), b"ok");
    assert_eq!(vsock.readable(conn), 2, "it may still send");
}

#[test]
fn bytes_after_the_end_of_sending_reset_the_connection() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    driver.send(
        Header {
            flags: 2,
            ..packet(Op::Shutdown, GUEST, HOST)
        },
        &[],
    );
    driver.tell(&mut vsock, data(GUEST, HOST, 1), b"x");
    let reason = CloseReason::ProtocolError;
    assert!(events(&mut vsock).contains(&Event::Closed { conn, reason }));
    assert_eq!(vsock.counters().protocol_errors, 1);
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
}

#[test]
fn host_shuts_each_direction_and_the_guest_hears_it_after_the_bytes() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    assert_eq!(vsock.write(conn, b"bytes"), 5);
    vsock.shutdown(conn, Directions::SEND);
    assert_eq!(vsock.write(conn, b"x"), 0, "shut");
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 5)));
    assert_eq!(driver.hear(), Some((Op::Shutdown, 2)));
    driver.tell(&mut vsock, data(GUEST, HOST, 3), b"yes");
    assert_eq!(vsock.readable(conn), 3);
    vsock.shutdown(conn, Directions::RECEIVE);
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::Shutdown, 3)));
    driver.tell(&mut vsock, data(GUEST, HOST, 2), b"no");
    assert_eq!(vsock.readable(conn), 3, "what comes after is dropped");
    driver.tell(&mut vsock, packet(Op::CreditRequest, GUEST, HOST), &[]);
    let (header, _) = driver.receive().expect("an answer");
    assert_eq!(header.fwd_cnt, 2, "and gives its credit back");
    driver.tell(&mut vsock, packet(Op::Reset, GUEST, HOST), &[]);
    let reason = CloseReason::Orderly;
    assert!(events(&mut vsock).contains(&Event::Closed { conn, reason }));
}

#[test]
fn host_closes_in_good_order() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    assert_eq!(vsock.write(conn, b"bye"), 3);
    driver.tell(&mut vsock, data(GUEST, HOST, 6), b"unread");
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 3)));
    vsock.write(conn, b"again");
    vsock.close(conn);
    assert_eq!(
        (vsock.readable(conn), vsock.write(conn, b"x")),
        (0, 0),
        "stale at once"
    );
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 5)));
    assert_eq!(driver.hear(), Some((Op::Shutdown, 3)));
    driver.tell(&mut vsock, data(GUEST, HOST, 6), b"flight");
    assert_eq!(vsock.connections(), 1, "until the guest confirms");
    driver.tell(&mut vsock, packet(Op::Reset, GUEST, HOST), &[]);
    assert_eq!((vsock.connections(), events(&mut vsock)), (0, vec![]));
    assert_eq!(heard(&mut vsock, &mut driver), []);
}

#[test]
fn host_aborts_at_once() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    vsock.write(conn, b"never sent");
    vsock.abort(conn);
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
    assert_eq!(vsock.connections(), 0);
}

#[test]
fn a_connect_that_the_guest_never_heard_of_vanishes() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = vsock.connect(GUEST).expect("room");
    vsock.close(conn);
    assert_eq!(vsock.connections(), 0);
    assert_eq!(heard(&mut vsock, &mut driver), []);
}

#[test]
fn packets_for_nobody_are_answered_with_a_reset_and_resets_are_not() {
    let (mut vsock, mut driver) = start(LIMITS);
    for op in [
        Op::Response,
        Op::Shutdown,
        Op::ReadWrite,
        Op::CreditUpdate,
        Op::CreditRequest,
    ] {
        driver.tell(&mut vsock, packet(op, GUEST, HOST), &[]);
        let (header, _) = driver.receive().expect("an answer");
        assert_eq!(
            (header.op, header.src_port, header.dst_port),
            (Op::Reset.number(), HOST, GUEST)
        );
    }
    driver.tell(&mut vsock, packet(Op::Reset, GUEST, HOST), &[]);
    assert_eq!(heard(&mut vsock, &mut driver), []);
    assert_eq!(vsock.counters().unknown_destinations, 5);
}

#[test]
fn unknown_operations_and_types_are_answered_with_a_reset() {
    let (mut vsock, mut driver) = start(LIMITS);
    for op in [0, 8, u16::MAX] {
        driver.tell(
            &mut vsock,
            Header {
                op,
                ..packet(Op::Request, GUEST, HOST)
            },
            &[],
        );
        assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
    }
    for kind in [0, 2, u16::MAX] {
        driver.tell(
            &mut vsock,
            Header {
                kind,
                ..packet(Op::Request, GUEST, HOST)
            },
            &[],
        );
        let (header, _) = driver.receive().expect("an answer");
        assert_eq!(
            (header.op, header.kind),
            (Op::Reset.number(), kind),
            "of the same type"
        );
        driver.tell(
            &mut vsock,
            Header {
                kind,
                ..packet(Op::Reset, GUEST, HOST)
            },
            &[],
        );
        assert_eq!(heard(&mut vsock, &mut driver), []);
    }
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    driver.tell(
        &mut vsock,
        Header {
            op: 9,
            ..packet(Op::Request, GUEST, HOST)
        },
        &[],
    );
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
    let reason = CloseReason::ProtocolError;
    assert_eq!(events(&mut vsock), [Event::Closed { conn, reason }]);
}

#[test]
fn a_foreign_source_is_dropped_and_a_foreign_destination_is_reset() {
    let (mut vsock, mut driver) = start(LIMITS);
    for src_cid in [0, 2, CID + 1, CID | 1 << 32] {
        driver.tell(
            &mut vsock,
            Header {
                src_cid,
                ..packet(Op::Request, GUEST, HOST)
            },
            &[],
        );
        assert_eq!(heard(&mut vsock, &mut driver), []);
    }
    assert_eq!(vsock.counters().foreign_sources, 4);
    let dst_cid = 77;
    assert!(driver.send(
        Header {
            dst_cid,
            ..packet(Op::Request, GUEST, HOST)
        },
        &[]
    ));
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(vsock.counters().unknown_destinations, 1);
    assert_eq!(vsock.counters().packets_delivered, 1);
    assert_eq!(events(&mut vsock), []);
}

#[test]
fn an_operation_out_of_place_resets_the_connection_once() {
    for op in [Op::Request, Op::Response] {
        let (mut vsock, mut driver) = start(LIMITS);
        let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
        driver.send(packet(op, GUEST, HOST), &[]);
        driver.tell(&mut vsock, packet(op, GUEST, HOST), &[]);
        let reason = CloseReason::ProtocolError;
        assert_eq!(events(&mut vsock), [Event::Closed { conn, reason }]);
        assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
        assert_eq!((vsock.connections(), vsock.counters().protocol_errors), (0, 1));
    }
}

#[test]
fn bytes_before_the_answer_reset_the_connection() {
    let (mut vsock, mut driver) = start(LIMITS);
    driver.tell(&mut vsock, packet(Op::Request, GUEST, HOST), &[]);
    let Some(Event::Request { conn, .. }) = vsock.next_event() else {
        panic!("a request")
    };
    driver.tell(&mut vsock, data(GUEST, HOST, 1), b"x");
    let reason = CloseReason::ProtocolError;
    assert_eq!(events(&mut vsock), [Event::Closed { conn, reason }]);
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
}

#[test]
fn a_request_that_ends_before_the_host_looked_is_no_event() {
    let (mut vsock, mut driver) = start(LIMITS);
    driver.send(packet(Op::Request, GUEST, HOST), &[]);
    driver.tell(&mut vsock, packet(Op::Reset, GUEST, HOST), &[]);
    assert_eq!((events(&mut vsock), vsock.connections()), (vec![], 0));
}

#[test]
fn one_end_is_told_once_though_the_guest_resets_too() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    while driver.receive().is_some() {}
    // No buffer is free for the reset, so the connection is still there when the guest's own comes.
    let (mut vsock2, mut driver2) = super::driver::start_without_buffers(LIMITS);
    driver2.send(packet(Op::Request, GUEST, HOST), &[]);
    drain(&mut vsock2, &driver2).expect("no fault");
    let Some(Event::Request { conn: other, .. }) = vsock2.next_event() else {
        panic!("a request")
    };
    driver2.tell(&mut vsock2, packet(Op::Response, GUEST, HOST), &[]);
    let reason = CloseReason::ProtocolError;
    assert_eq!(events(&mut vsock2), [Event::Closed { conn: other, reason }]);
    driver2.tell(&mut vsock2, packet(Op::Reset, GUEST, HOST), &[]);
    assert_eq!((events(&mut vsock2), vsock2.connections()), (vec![], 0));
    vsock.abort(conn);
}

#[test]
fn stale_ids_do_nothing_to_the_next_connection_in_the_slot() {
    let (mut vsock, mut driver) = start(LIMITS);
    let old = establish(&mut vsock, &mut driver, GUEST, HOST);
    vsock.abort(old);
    assert_eq!(heard(&mut vsock, &mut driver), [Op::Reset]);
    let new = establish(&mut vsock, &mut driver, GUEST, HOST);
    assert_ne!(old, new);
    driver.tell(&mut vsock, data(GUEST, HOST, 1), b"x");
    assert_eq!(
        (vsock.readable(old), vsock.consume(old, 1), vsock.write(old, b"y")),
        (0, 0, 0)
    );
    vsock.abort(old);
    vsock.close(old);
    vsock.shutdown(old, Directions::BOTH);
    assert_eq!(vsock.ports(old), None);
    assert_eq!(vsock.readable(new), 1);
    assert_eq!(heard(&mut vsock, &mut driver), []);
}

#[test]
fn driver_reset_closes_connections_and_host_reset_forgets_them() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    driver.tell(&mut vsock, data(GUEST, HOST, 1), b"x");
    assert_eq!(
        vsock.mmio_write(0x70, &[0; 4], &driver.mem),
        Ok(crate::Notify::Reset)
    );
    let reason = CloseReason::DeviceReset;
    assert_eq!(
        events(&mut vsock),
        [Event::Readable { conn }, Event::Closed { conn, reason }]
    );
    assert_eq!(vsock.readable(conn), 1);
    assert_eq!(vsock.connect(GUEST), Err(VsockError::NotRunning { status: 0 }));

    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    vsock.write(conn, b"x");
    vsock.reset();
    assert_eq!(
        (vsock.connections(), vsock.readable(conn), vsock.has_pending()),
        (0, 0, false)
    );
    assert_eq!(events(&mut vsock), []);
    // The rings in the window are zero again, as the owner of the cell makes them.
    let mut driver = Driver::new();
    driver.post_all();
    establish(&mut vsock, &mut driver, GUEST, HOST);
}
