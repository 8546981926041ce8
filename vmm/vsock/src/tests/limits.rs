//! A greedy or idle guest costs the host no more than was agreed.

use super::driver::{Driver, LIMITS, data, drain, establish, packet, start, start_without_buffers};
use crate::packet::{Header, Op};
use crate::{CloseReason, Event, Vsock, VsockError, VsockLimits};

#[test]
fn ten_thousand_requests_leave_a_bounded_number_of_connections() {
    let (mut vsock, mut driver) = start(LIMITS);
    let mut refused = 0;
    for port in 0..10_000 {
        while !driver.send(packet(Op::Request, port, 1), &[]) {
            drain(&mut vsock, &driver).expect("no fault");
            while let Some((op, _)) = driver.hear() {
                assert_eq!(op, Op::Reset);
                refused += 1;
            }
        }
    }
    while drain(&mut vsock, &driver).expect("no fault").any() {
        while driver.hear().is_some() {
            refused += 1;
        }
    }
    assert_eq!((vsock.connections(), refused), (8, 10_000 - 8));
    assert_eq!(vsock.counters().refused_by_limit, 10_000 - 8);
    assert_eq!(std::iter::from_fn(|| vsock.next_event()).count(), 8);
    assert_eq!(
        vsock.connect(1),
        Err(VsockError::TooManyConnections { connections: 8 })
    );
}

#[test]
fn resets_that_the_guest_does_not_take_stop_the_device_from_taking_more() {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    let mut sent = 0;
    for port in 0..1000 {
        if driver.send(packet(Op::CreditRequest, port, 1), &[]) {
            sent += 1;
        }
        drain(&mut vsock, &driver).expect("no fault");
    }
    assert_eq!(
        sent, 128,
        "a queue of resets, and a queue of packets that were not taken"
    );
    assert_eq!(vsock.resets.len(), 64);
    assert!(vsock.has_pending());
    assert!(drain(&mut vsock, &driver).expect("no fault").blocked);
    driver.post_all();
    assert_eq!(drain(&mut vsock, &driver).expect("no fault").delivered, 64);
    let resets = std::iter::from_fn(|| driver.hear()).count();
    drain(&mut vsock, &driver).expect("no fault");
    let more = std::iter::from_fn(|| driver.hear()).count();
    assert_eq!(resets + more, 128, "none is lost");
    assert!(!vsock.has_pending());
}

#[test]
fn reserved_bytes_limit_connections_too() {
    let limits = VsockLimits {
        total_buffered: 3 * 8192 - 1,
        ..LIMITS
    };
    let (mut vsock, mut driver) = start(limits);
    let conn = establish(&mut vsock, &mut driver, 1, 1);
    establish(&mut vsock, &mut driver, 2, 1);
    driver.tell(&mut vsock, packet(Op::Request, 3, 1), &[]);
    assert_eq!(driver.hear(), Some((Op::Reset, 0)));
    let refused = VsockError::BufferedBytes {
        needed: 8192,
        reserved: 16384,
        most: 3 * 8192 - 1,
    };
    assert_eq!(vsock.connect(9), Err(refused));
    vsock.abort(conn);
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::Reset, 0)));
    establish(&mut vsock, &mut driver, 3, 1);
}

#[test]
fn a_guest_that_posts_no_buffers_makes_nothing_grow() {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    for port in 0..100 {
        driver.send(packet(Op::Request, port, 1), &[]);
        drain(&mut vsock, &driver).expect("no fault");
        while let Some(event) = vsock.next_event() {
            if let Event::Request { conn, .. } = event {
                vsock.accept(conn);
                while vsock.write(conn, &[1; 1000]) > 0 {}
                assert_eq!(vsock.writable(conn), 0);
            }
        }
    }
    assert_eq!(vsock.connections(), 8);
    assert_eq!((vsock.to_send.len(), vsock.to_tell.len()), (8, 0));
    assert!(vsock.resets.len() <= 64);
}

fn overrun(send: impl FnOnce(&mut Vsock, &mut Driver)) -> (Vsock, Driver) {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, 5000, 1);
    send(&mut vsock, &mut driver);
    drain(&mut vsock, &driver).expect("no fault of the transport");
    let closed = std::iter::from_fn(|| vsock.next_event()).last();
    assert_eq!(
        closed,
        Some(Event::Closed {
            conn,
            reason: CloseReason::CreditOverrun
        })
    );
    assert_eq!(vsock.counters().credit_overruns, 1);
    assert_eq!(driver.hear(), Some((Op::Reset, 0)));
    (vsock, driver)
}

#[test]
fn credit_overrun_resets_the_connection_and_no_other() {
    overrun(|_, driver| {
        assert!(driver.send(data(5000, 1, 4097), &[7; 4097]));
    });
    let (mut vsock, mut driver) = overrun(|_, driver| {
        assert!(driver.send(data(5000, 1, 4096), &[7; 4096]));
        assert!(driver.send(data(5000, 1, 1), &[7; 1]));
    });
    let other = establish(&mut vsock, &mut driver, 5001, 1);
    driver.tell(&mut vsock, data(5001, 1, 4096), &[7; 4096]);
    assert_eq!(vsock.readable(other), 4096);
}

#[test]
fn reading_gives_credit_only_once_the_guest_was_told() {
    let (mut vsock, mut driver) = start_without_buffers(LIMITS);
    driver.post_one();
    driver.tell(&mut vsock, packet(Op::Request, 5000, 1), &[]);
    let Some(Event::Request { conn, .. }) = vsock.next_event() else {
        panic!("a request")
    };
    vsock.accept(conn);
    drain(&mut vsock, &driver).expect("no fault");
    assert!(driver.receive().is_some());
    driver.tell(&mut vsock, data(5000, 1, 4096), &[7; 4096]);
    assert_eq!(vsock.consume(conn, 4096), 4096);
    driver.tell(&mut vsock, data(5000, 1, 1), &[7; 1]);
    assert_eq!(vsock.counters().credit_overruns, 1, "no update reached the guest");
}

#[test]
fn a_false_count_of_taken_bytes_resets_the_connection() {
    let (mut vsock, mut driver) = start(LIMITS);
    let conn = establish(&mut vsock, &mut driver, 5000, 1);
    vsock.write(conn, b"four");
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 4)));
    let update = |fwd_cnt| Header {
        fwd_cnt,
        ..packet(Op::CreditUpdate, 5000, 1)
    };
    driver.tell(&mut vsock, update(4), &[]);
    assert_eq!(vsock.counters().protocol_errors, 0);
    driver.tell(&mut vsock, update(5), &[]);
    assert_eq!(vsock.counters().protocol_errors, 1);
    assert_eq!(driver.hear(), Some((Op::Reset, 0)));
}

#[test]
fn a_drain_takes_at_most_a_queue_of_packets() {
    let (mut vsock, mut driver) = start(LIMITS);
    for port in 0..64 {
        assert!(driver.send(packet(Op::CreditRequest, port, 1), &[]));
    }
    let progress = drain(&mut vsock, &driver).expect("no fault");
    assert_eq!((progress.received, progress.delivered), (64, 64));
}
