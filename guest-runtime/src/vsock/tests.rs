use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::mock::{CID, HOST, Host, pair};
use super::packet::{Header, Operation, TYPE_STREAM};
use super::{ConnectionId, VsockError};

const WINDOW: usize = 512 << 10;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

fn key(id: ConnectionId) -> (u32, u32) {
    (id.local_port, id.peer_port)
}

#[test]
fn connecting_costs_one_exit_and_so_does_an_answer() {
    let (mut driver, host) = pair(WINDOW);
    let id = driver.connect(1).expect("the host accepts");
    assert_eq!(host.borrow().parks, 1);
    driver.write(id, &[b"ping"]).expect("is sent");
    assert_eq!(
        (host.borrow().parks, host.borrow().yields),
        (1, 0),
        "sending is no exit"
    );
    host.borrow_mut()
        .peers
        .get_mut(&key(id))
        .expect("connected")
        .outbox = b"pong".to_vec();
    let mut answer = [0; 16];
    assert_eq!(driver.read(id, &mut answer), Ok(4));
    assert_eq!(&answer[..4], b"pong");
    assert_eq!(host.borrow().parks, 2);
    assert_eq!(host.borrow().peers[&key(id)].inbox, b"ping");
}

#[test]
fn port_that_nobody_listens_on_refuses() {
    let (mut driver, _) = pair(WINDOW);
    assert_eq!(driver.connect(99), Err(VsockError::Refused));
    assert!(driver.connect(1).is_ok(), "the driver goes on");
}

#[test]
fn megabytes_flow_both_ways_in_few_exits() {
    let (mut driver, host) = pair(WINDOW);
    host.borrow_mut().buf_alloc = 256 << 10;
    let id = driver.connect(1).expect("the host accepts");
    let sent = pattern(1 << 20);
    driver
        .write(id, &[&sent[..1000], &sent[1000..]])
        .expect("is sent");
    driver.park();
    assert!(host.borrow().peers[&key(id)].inbox == sent, "other bytes arrived");
    let exits = host.borrow().parks + host.borrow().yields;
    assert!(exits < 24, "{exits} exits for a mebibyte sent");

    host.borrow_mut()
        .peers
        .get_mut(&key(id))
        .expect("connected")
        .outbox = sent.clone();
    let (mut received, mut chunk) = (Vec::new(), vec![0; 10_000]);
    while received.len() < sent.len() {
        let count = driver.read(id, &mut chunk).expect("more comes");
        received.extend_from_slice(&chunk[..count]);
    }
    assert!(received == sent, "other bytes arrived");
    let exits = host.borrow().parks + host.borrow().yields - exits;
    assert!(exits < 24, "{exits} exits for a mebibyte received");
}

#[test]
fn little_traffic_stays_in_small_buffers() {
    let (mut driver, host) = pair(WINDOW);
    let id = driver.connect(1).expect("the host accepts");
    for _ in 0..100 {
        driver.write(id, &[b"question"]).expect("is sent");
        host.borrow_mut()
            .peers
            .get_mut(&key(id))
            .expect("connected")
            .outbox = b"answer".to_vec();
        assert_eq!(driver.read(id, &mut [0; 100]), Ok(6));
    }
    assert!(host.borrow().posted.iter().all(|len| *len == 512));
}

#[test]
fn small_window_works_too() {
    for len in [0x5000, 0x6000, 0x7000, 0x10000] {
        let (mut driver, host) = pair(len);
        let id = driver.connect(1).expect("the host accepts");
        let sent = pattern(100_000);
        driver.write(id, &[&sent]).expect("is sent");
        driver.park();
        assert!(host.borrow().peers[&key(id)].inbox == sent, "window of {len:#x}");
    }
}

#[test]
fn writer_waits_for_credit_and_keeps_to_it() {
    let (mut driver, host) = pair(WINDOW);
    host.borrow_mut().buf_alloc = 1000;
    let id = driver.connect(1).expect("the host accepts");
    host.borrow_mut()
        .peers
        .get_mut(&key(id))
        .expect("connected")
        .reads = false;
    assert_eq!(driver.try_write(id, &[&pattern(5000)], 0), Ok(1000));
    assert_eq!(driver.try_write(id, &[&pattern(5000)], 1000), Ok(0));
    driver.park();
    assert_eq!(
        driver.try_write(id, &[&pattern(5000)], 1000),
        Ok(0),
        "nobody has read yet"
    );
    assert_eq!(host.borrow_mut().take(key(id)), pattern(5000)[..1000]);
    driver.park();
    driver.poll();
    assert_eq!(driver.try_write(id, &[&pattern(5000)], 1000), Ok(1000));
    driver.park();
    assert_eq!(host.borrow_mut().take(key(id)), pattern(5000)[1000..2000]);
}

#[test]
fn host_that_sends_beyond_its_credit_is_reset() {
    let (mut driver, host) = pair(WINDOW);
    let id = driver.connect(1).expect("the host accepts");
    for _ in 0..600 {
        host.borrow_mut()
            .send(id.local_port, 1, Operation::ReadWrite, 0, &[1; 450]);
    }
    for _ in 0..200 {
        driver.park();
        driver.poll();
    }
    assert!(host.borrow().peers[&key(id)].was_reset);
    let mut total = 0;
    let end = loop {
        match driver.try_read(id, &mut [0; 4096]) {
            Ok(Some(count)) => total += count,
            other => break other,
        }
    };
    assert_eq!(end, Err(VsockError::Reset));
    assert!(total <= 256 << 10, "{total} bytes were kept");
}

#[test]
fn host_connects_where_the_muscle_listens_and_nowhere_else() {
    let (mut driver, host) = pair(WINDOW);
    assert_eq!(driver.listen(1023), Err(VsockError::PortReserved(1023)));
    driver.listen(5000).expect("is free");
    assert_eq!(driver.listen(5000), Err(VsockError::PortInUse(5000)));
    assert_eq!(driver.try_accept(6000), Err(VsockError::NotListening(6000)));
    host.borrow_mut().connect(5000, 70);
    host.borrow_mut().connect(5001, 71);
    let id = driver.accept(5000).expect("comes");
    assert_eq!(id.peer_port, 70);
    driver.park();
    assert!(host.borrow().peers[&(5000, 70)].is_open);
    assert!(host.borrow().peers[&(5001, 71)].was_reset);
    assert_eq!(driver.try_accept(5000), Ok(None));
}

#[test]
fn many_connections_keep_their_bytes_apart() {
    let (mut driver, host) = pair(WINDOW);
    driver.listen(5000).expect("is free");
    for port in 0..100 {
        host.borrow_mut().connect(5000, 10_000 + port);
    }
    let mut ids = Vec::new();
    while ids.len() < 100 {
        ids.push(driver.accept(5000).expect("comes"));
    }
    for id in &ids {
        driver
            .write(*id, &[&id.peer_port.to_le_bytes()])
            .expect("is sent");
    }
    driver.park();
    for id in &ids {
        assert_eq!(host.borrow().peers[&key(*id)].inbox, id.peer_port.to_le_bytes());
    }
}

#[test]
fn backlog_is_bounded() {
    let (mut driver, host) = pair(WINDOW);
    driver.listen(5000).expect("is free");
    for port in 0..300 {
        host.borrow_mut().connect(5000, 10_000 + port);
    }
    for _ in 0..300 {
        driver.park();
        driver.poll();
    }
    driver.park();
    let reset = host.borrow().peers.values().filter(|peer| peer.was_reset).count();
    assert_eq!(reset, 300 - 128);
}

#[test]
fn end_of_the_hosts_side_is_read_after_its_bytes() {
    let (mut driver, host) = pair(WINDOW);
    let id = driver.connect(1).expect("the host accepts");
    host.borrow_mut()
        .send(id.local_port, 1, Operation::ReadWrite, 0, b"last");
    host.borrow_mut()
        .send(id.local_port, 1, Operation::Shutdown, 2, &[]);
    let mut bytes = [0; 16];
    assert_eq!(driver.read(id, &mut bytes), Ok(4));
    assert_eq!(driver.read(id, &mut bytes), Ok(0));
    driver
        .write(id, &[b"still heard"])
        .expect("the other direction is open");
    host.borrow_mut()
        .send(id.local_port, 1, Operation::Shutdown, 3, &[]);
    driver.park();
    driver.poll();
    driver.park();
    assert_eq!(driver.write(id, &[b"x"]), Err(VsockError::Reset));
    let host = host.borrow();
    assert_eq!(host.peers[&key(id)].inbox, b"still heard");
    assert!(
        host.peers[&key(id)].was_reset,
        "virtio 1.2 §5.10.6.6: the reset acknowledges"
    );
}

#[test]
fn own_shutdown_is_told_and_kept() {
    let (mut driver, host) = pair(WINDOW);
    let id = driver.connect(1).expect("the host accepts");
    driver.shutdown(id, false, true).expect("is open");
    assert_eq!(driver.write(id, &[b"x"]), Err(VsockError::ShutDown));
    host.borrow_mut()
        .peers
        .get_mut(&key(id))
        .expect("connected")
        .outbox = b"yes".to_vec();
    assert_eq!(driver.read(id, &mut [0; 8]), Ok(3));
    assert_eq!(host.borrow().peers[&key(id)].shutdown, 2);
    driver.close(id);
    driver.park();
    assert_eq!(host.borrow().peers[&key(id)].shutdown, 3);
    assert_eq!(driver.read(id, &mut [0; 8]), Err(VsockError::NotConnected));
    driver.poll();
    assert_eq!(
        driver.try_read(id, &mut [0; 8]),
        Err(VsockError::NotConnected),
        "forgotten"
    );
}

#[test]
fn reset_without_an_end_is_an_error() {
    let (mut driver, host) = pair(WINDOW);
    let id = driver.connect(1).expect("the host accepts");
    host.borrow_mut()
        .send(id.local_port, 1, Operation::ReadWrite, 0, b"half");
    host.borrow_mut().send(id.local_port, 1, Operation::Reset, 0, &[]);
    let mut bytes = [0; 16];
    assert_eq!(driver.read(id, &mut bytes), Ok(4));
    assert_eq!(driver.read(id, &mut bytes), Err(VsockError::Reset));
    assert_eq!(driver.write(id, &[b"x"]), Err(VsockError::Reset));
}

#[test]
fn packets_that_fit_nothing_are_reset_or_dropped() {
    let (mut driver, host) = pair(WINDOW);
    let id = driver.connect(1).expect("the host accepts");
    let good = Header {
        source_cid: HOST,
        destination_cid: CID,
        source_port: 1,
        destination_port: 4242,
        kind: TYPE_STREAM,
        operation: Operation::ReadWrite as u16,
        ..Header::default()
    };
    let resets = |header: Header, bytes: &[u8]| {
        let before = host.borrow().packets.len();
        host.borrow_mut().send_raw(header, bytes);
        host.borrow_mut().exit();
        driver.poll();
        host.borrow_mut().exit();
        let packets = &host.borrow().packets[before..];
        packets
            .iter()
            .filter(|packet| packet.operation == Operation::Reset as u16)
            .count()
    };
    let mut resets = resets;
    assert_eq!(resets(good, &[]), 1, "no such connection");
    assert_eq!(
        resets(
            Header {
                operation: 99,
                ..good
            },
            &[]
        ),
        1,
        "no such operation"
    );
    assert_eq!(resets(Header { kind: 2, ..good }, &[]), 1, "no such type");
    let reset = Operation::Reset as u16;
    assert_eq!(
        resets(
            Header {
                operation: reset,
                ..good
            },
            &[]
        ),
        0,
        "a reset is not answered"
    );
    assert_eq!(
        resets(
            Header {
                destination_cid: 9,
                ..good
            },
            &[]
        ),
        0,
        "another's packet"
    );
    assert_eq!(
        resets(Header { length: 100, ..good }, &[0; 10]),
        0,
        "shorter than it says"
    );
    let response = Header {
        operation: Operation::Response as u16,
        destination_port: id.local_port,
        ..good
    };
    assert_eq!(resets(response, &[]), 1, "an answer to nothing");
    assert_eq!(driver.try_read(id, &mut [0; 4]), Err(VsockError::Reset));
}

/// What a test does next.
#[derive(Debug, Clone)]
enum Step {
    Write(usize, usize),
    Read(usize, usize),
    HostSends(usize, usize),
    HostTakes(usize),
    Exit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..3usize, 1..5000usize).prop_map(|(at, len)| Step::Write(at, len)),
        (0..3usize, 1..5000usize).prop_map(|(at, len)| Step::Read(at, len)),
        (0..3usize, 1..40_000usize).prop_map(|(at, len)| Step::HostSends(at, len)),
        (0..3usize).prop_map(Step::HostTakes),
        Just(Step::Exit),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    /// Three streams against a model of six byte sequences: nothing is lost, doubled, mixed up, or sent without credit
    /// (the mock device asserts that).
    #[test]
    fn streams_carry_just_what_was_written(steps in steps()) {
        let (mut driver, host) = pair(128 << 10);
        host.borrow_mut().buf_alloc = 3000;
        let ids: Vec<_> = (0..3).map(|_| driver.connect(1).expect("the host accepts")).collect();
        for id in &ids {
            host.borrow_mut().peers.get_mut(&key(*id)).expect("connected").reads = false;
        }
        let mut written = [0_usize; 3];
        let mut taken = [0_usize; 3];
        let mut sent = [0_usize; 3];
        let mut read = [0_usize; 3];
        let bytes = |from: usize, len: usize| -> Vec<u8> { (from..from + len).map(|at| (at % 241) as u8).collect() };
        let take = |host: &mut Host, at: usize, taken: &mut [usize; 3]| {
            let got = host.take(key(ids[at]));
            let expected = bytes(taken[at], got.len());
            taken[at] += got.len();
            got == expected
        };
        for step in steps {
            match step {
                Step::Write(at, len) => {
                    written[at] += driver.try_write(ids[at], &[&bytes(written[at], len)], 0).expect("is open");
                }
                Step::Read(at, len) => {
                    let mut to = vec![0; len];
                    if let Some(count) = driver.try_read(ids[at], &mut to).expect("is open") {
                        prop_assert_eq!(&to[..count], &bytes(read[at], count)[..]);
                        read[at] += count;
                    }
                }
                Step::HostSends(at, len) => {
                    let new = bytes(sent[at], len);
                    sent[at] += len;
                    let mut host = host.borrow_mut();
                    host.peers.get_mut(&key(ids[at])).expect("connected").outbox.extend(new);
                }
                Step::HostTakes(at) => prop_assert!(take(&mut host.borrow_mut(), at, &mut taken)),
                Step::Exit => host.borrow_mut().exit(),
            }
        }
        for round in 0..2000 {
            host.borrow_mut().exit();
            for at in 0..3 {
                let mut to = vec![0; 50_000];
                if let Some(count) = driver.try_read(ids[at], &mut to).expect("is open") {
                    prop_assert_eq!(&to[..count], &bytes(read[at], count)[..]);
                    read[at] += count;
                }
                prop_assert!(take(&mut host.borrow_mut(), at, &mut taken));
            }
            if read == sent && taken == written {
                break;
            }
            prop_assert!(round < 1999, "bytes are missing: {:?} of {:?}, {:?} of {:?}", read, sent, taken, written);
        }
    }
}

#[test]
fn driver_polls_while_the_host_wants_it_and_parks_when_it_does_not() {
    let (mut driver, host) = pair(512 << 10);
    let id = driver.connect(1).expect("is open");
    let parks = host.borrow().parks;
    host.borrow_mut().set_poll_word(1);
    // Something has come already: no exit.
    let peer = host.borrow().peers.keys().next().copied().expect("is there");
    host.borrow_mut()
        .send(peer.0, peer.1, Operation::ReadWrite, 0, b"here");
    host.borrow_mut().exit();
    driver.park();
    let mut bytes = [0; 8];
    assert_eq!(driver.try_read(id, &mut bytes), Ok(Some(4)));
    assert_eq!(host.borrow().parks, parks);
    // Nothing comes, and the host does not want it any more.
    host.borrow_mut().set_poll_word(0);
    driver.park();
    assert_eq!(host.borrow().parks, parks + 1);
}
