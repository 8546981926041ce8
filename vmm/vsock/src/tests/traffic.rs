//! Bytes in bulk: credit in both directions, counters that wrap, transfers much larger than any buffer.

use super::driver::{Driver, LIMITS, data, drain, establish, packet, start};
use crate::packet::{Header, Op};
use crate::{ConnId, Event, Vsock, VsockLimits};

const GUEST: u32 = 5000;
const HOST: u32 = 1;

/// The byte at a place in an endless stream; its period fits no power of two.
fn byte_at(place: usize) -> u8 {
    u8::try_from(place % 251).expect("below 251")
}

fn bytes_at(place: usize, count: usize) -> Vec<u8> {
    (place..place + count).map(byte_at).collect()
}

/// The guest's end of a connection, counting as §5.10.6.3 asks.
struct Peer {
    /// Bytes that the guest buffers.
    capacity: u32,
    sent: u32,
    taken: u32,
    host_capacity: u32,
    host_forwarded: u32,
}

impl Peer {
    fn header(&self, op: Op, len: u32) -> Header {
        Header {
            len,
            buf_alloc: self.capacity,
            fwd_cnt: self.taken,
            ..packet(op, GUEST, HOST)
        }
    }

    fn credit(&self) -> u32 {
        self.host_capacity - self.sent.wrapping_sub(self.host_forwarded)
    }

    fn hear(&mut self, header: &Header) {
        self.host_capacity = header.buf_alloc;
        self.host_forwarded = header.fwd_cnt;
    }
}

/// A connection whose counters on both sides begin at `start_at`.
fn pair(capacity: u32, start_at: u32, limits: VsockLimits) -> (Vsock, Driver, ConnId, Peer) {
    let (mut vsock, mut driver) = start(limits);
    let conn = establish(&mut vsock, &mut driver, GUEST, HOST);
    let number = vsock.table.resolve(conn).expect("live");
    vsock
        .table
        .get_mut(number)
        .expect("live")
        .credit
        .start_at(start_at);
    let peer = Peer {
        capacity,
        sent: start_at,
        taken: start_at,
        host_capacity: limits.receive_buffer,
        host_forwarded: start_at,
    };
    driver.tell(&mut vsock, peer.header(Op::CreditUpdate, 0), &[]);
    (vsock, driver, conn, peer)
}

#[test]
fn megabytes_from_the_guest_arrive_in_order_past_the_wrap() {
    let (mut vsock, mut driver, conn, mut peer) = pair(4096, u32::MAX - 10_000, LIMITS);
    let (mut sent, mut read, total) = (0, 0, 2 << 20);
    let mut updates = 0;
    while read < total {
        let count = (total - sent)
            .min(1500)
            .min(usize::try_from(peer.credit()).expect("small"));
        if count > 0 {
            let len = u32::try_from(count).expect("small");
            let header = peer.header(Op::ReadWrite, len);
            assert!(driver.send(header, &bytes_at(sent, count)));
            sent += count;
            peer.sent = peer.sent.wrapping_add(len);
        }
        drain(&mut vsock, &driver).expect("no fault");
        let front = vsock.peek(conn).len().min(700);
        assert_eq!(vsock.peek(conn)[..front], bytes_at(read, front));
        read += vsock.consume(conn, front);
        drain(&mut vsock, &driver).expect("no fault");
        while let Some((header, _)) = driver.receive() {
            assert_eq!(header.op, Op::CreditUpdate.number());
            peer.hear(&header);
            updates += 1;
        }
        driver.post_all();
    }
    assert_eq!(vsock.counters().credit_overruns, 0);
    assert!(updates <= 2 * total / 4096 + 1, "{updates} updates");
}

#[test]
fn megabytes_to_the_guest_arrive_in_order_and_within_its_credit() {
    let (mut vsock, mut driver, conn, mut peer) = pair(3000, u32::MAX - 10_000, LIMITS);
    let (mut written, mut got, total) = (0, 0, 2 << 20);
    let mut held = 0;
    while got < total {
        let count = vsock.writable(conn).min(total - written);
        assert_eq!(vsock.write(conn, &bytes_at(written, count)), count);
        written += count;
        drain(&mut vsock, &driver).expect("no fault");
        while let Some((header, payload)) = driver.receive() {
            if header.op == Op::CreditRequest.number() {
                assert_eq!(held, 3000, "asked for only when there is none");
                continue;
            }
            assert_eq!(payload, bytes_at(got, payload.len()));
            got += payload.len();
            held += u32::try_from(payload.len()).expect("small");
            assert!(held <= 3000, "the device sent {held} of 3000");
        }
        driver.post_all();
        peer.taken = peer.taken.wrapping_add(held);
        held = 0;
        driver.tell(&mut vsock, peer.header(Op::CreditUpdate, 0), &[]);
    }
    assert_eq!(written, total);
}

#[test]
fn stalled_bytes_ask_for_credit_once_and_go_when_it_comes() {
    let (mut vsock, mut driver, conn, mut peer) = pair(4, 0, LIMITS);
    vsock.write(conn, b"sixteen letters!");
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 4)));
    assert_eq!(driver.hear(), Some((Op::CreditRequest, 0)));
    for _ in 0..3 {
        driver.tell(&mut vsock, peer.header(Op::CreditUpdate, 0), &[]);
        assert_eq!(driver.hear(), None, "still none");
        assert!(!vsock.has_pending());
    }
    peer.taken = 4;
    driver.tell(&mut vsock, peer.header(Op::CreditUpdate, 0), &[]);
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 4)));
    assert_eq!(driver.hear(), Some((Op::CreditRequest, 0)));
    peer.capacity = 1 << 20;
    driver.tell(&mut vsock, peer.header(Op::CreditUpdate, 0), &[]);
    assert_eq!(driver.hear(), Some((Op::ReadWrite, 8)));
    assert_eq!(driver.hear(), None);
}

#[test]
fn a_credit_request_is_answered() {
    let (mut vsock, mut driver, conn, peer) = pair(4096, 0, LIMITS);
    driver.tell(&mut vsock, data(GUEST, HOST, 10), &[1; 10]);
    vsock.consume(conn, 7);
    driver.tell(&mut vsock, peer.header(Op::CreditRequest, 0), &[]);
    let (header, _) = driver.receive().expect("an answer");
    assert_eq!(
        (header.op, header.buf_alloc, header.fwd_cnt),
        (Op::CreditUpdate.number(), 4096, 7)
    );
    assert!(driver.receive().is_none());
}

#[test]
fn writable_comes_after_a_short_write_and_only_then() {
    let (mut vsock, mut driver, conn, mut peer) = pair(2048, 0, LIMITS);
    assert_eq!(vsock.write(conn, &[0; 4096]), 4096);
    drain(&mut vsock, &driver).expect("no fault");
    assert_eq!(vsock.next_event(), None, "nothing was cut short");
    assert_eq!(vsock.write(conn, &[0; 4096]), 2048);
    while driver.hear().is_some() {}
    assert_eq!(vsock.next_event(), None);
    peer.taken = 2048;
    driver.tell(&mut vsock, peer.header(Op::CreditUpdate, 0), &[]);
    assert_eq!(vsock.next_event(), Some(Event::Writable { conn }));
    assert_eq!(vsock.next_event(), None);
    assert_eq!(vsock.writable(conn), 2048);
}

#[test]
fn connections_take_turns() {
    let (mut vsock, mut driver) = start(LIMITS);
    driver.rx_size = 44 + 100;
    let first = establish(&mut vsock, &mut driver, 1, HOST);
    let second = establish(&mut vsock, &mut driver, 2, HOST);
    // Buffers of the old size are still posted, so use them up.
    for _ in 0..64 {
        vsock.write(first, b"x");
        drain(&mut vsock, &driver).expect("no fault");
        driver.hear();
    }
    vsock.write(first, &[1; 1000]);
    vsock.write(second, &[2; 1000]);
    drain(&mut vsock, &driver).expect("no fault");
    let ports: Vec<u32> = std::iter::from_fn(|| driver.receive())
        .map(|(header, _)| header.dst_port)
        .collect();
    assert_eq!(ports, [1, 2].repeat(10));
}

#[test]
fn a_large_transfer_takes_time_in_proportion_to_its_size() {
    let limits = VsockLimits {
        receive_buffer: 1 << 20,
        send_buffer: 1 << 20,
        total_buffered: 1 << 30,
        ..LIMITS
    };
    let (mut vsock, mut driver, conn, mut peer) = pair(1 << 20, 0, limits);
    let chunk = vec![5; 1 << 16];
    let mut scratch = vec![0; 1 << 20];
    let begin = std::time::Instant::now();
    let mut moved = 0;
    while moved < 256 << 20 {
        for _ in 0..16 {
            assert!(driver.send(peer.header(Op::ReadWrite, 1 << 16), &chunk));
        }
        drain(&mut vsock, &driver).expect("no fault");
        moved += vsock.read(conn, &mut scratch);
        drain(&mut vsock, &driver).expect("no fault");
        while let Some((header, _)) = driver.receive() {
            peer.hear(&header);
        }
        driver.post_all();
    }
    assert_eq!(vsock.counters().credit_overruns, 0);
    // A quadratic step would take minutes; the bound is far above what a slow machine needs.
    assert!(
        begin.elapsed().as_secs() < 20,
        "{:?} for 256 MiB",
        begin.elapsed()
    );
}
