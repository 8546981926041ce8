//! Ends, resets, and cells that follow each other.

use std::sync::mpsc;
use std::thread;

use referee::{Inputs, Permit, Progress};

use crate::{Host, digest, enter, feed, finish, start, words};

#[test]
fn the_end_of_one_side_is_seen_by_the_other_after_what_it_sent() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let thread = enter();
    feed(&mut feeder, &thread, 5, 5).expect("answers");
    drop(feeder);
    let length: u64 = digester.call(&thread, "next", &()).expect("answers");
    assert_eq!(length, 5);
    assert!(words(digester.call::<_, u64>(&thread, "next", &())).contains("has ended"));

    let (mut feeder, digester) = host.pair();
    digester.end().expect("is recorded");
    assert!(words(feed(&mut feeder, &thread, 5, 5)).contains("has ended"));
}

#[test]
fn an_end_wakes_who_waits_for_it() {
    let host = Host::of_examples();
    let (feeder, mut digester) = host.pair();
    let (begun, has_begun) = mpsc::channel();
    let receiving = thread::spawn(move || {
        begun.send(()).expect("is heard");
        words(digest(&mut digester, &enter()))
    });
    has_begun.recv().expect("begins");
    // Whether it waits already or not, it comes to its end.
    drop(feeder);
    assert!(receiving.join().expect("ends").contains("has ended"));
}

#[test]
fn a_reset_of_the_sender_empties_the_ring_and_the_receiver_hears_of_it() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let thread = enter();
    digester.begin("digest", &[0x80]).expect("begins");
    feed(&mut feeder, &thread, 100, 10).expect("answers");
    let progress = digester.advance(&thread, None).expect("goes on");
    assert!(matches!(progress, Progress::Waiting { .. }), "{progress:?}");
    feeder.reset(Inputs::default()).expect("is reset");
    let told = digester.advance(&thread, None);
    assert!(words(told).contains("emptied"));
    // And both go on.
    feed(&mut feeder, &thread, 20, 20).expect("answers");
    let length: u64 = digester.call(&thread, "next", &()).expect("answers");
    assert_eq!(length, 20);
}

#[test]
fn a_reset_of_the_receiver_leaves_nothing_of_what_was_sent_before() {
    let host = Host::of_guests();
    let (mut sends, mut peeks) = (host.guest("sends"), host.guest("peeks"));
    sends.join_ring("ring", &mut peeks, "ring").expect("are joined");
    let thread = enter();
    let main = |permit: &Permit| permit.start_main(Inputs::default()).expect("starts");
    assert_eq!(main(&sends).run(&thread).expect("exits"), 0);
    // The length of the message that was sent before it began.
    let mut receiver = main(&peeks);
    assert_eq!(receiver.run(&thread).expect("exits"), 2);
    receiver.reset(Inputs::default()).expect("is replaced");
    assert_eq!(main(&sends).run(&thread).expect("exits"), 0);
    receiver.reset(Inputs::default()).expect("is reset");
    assert_eq!(receiver.run(&thread).expect("exits"), 0);
}

#[test]
fn pairs_of_cells_follow_each_other_without_hearing_of_the_pair_before() {
    let host = Host::of_examples();
    let (feeder, digester) = host.permits();
    let thread = enter();
    for round in 0..5u64 {
        let (mut one, mut other) = (start(&feeder), start(&digester));
        let sent = feed(&mut one, &thread, 1000 + round, 100).expect("answers");
        finish(&mut one, &thread);
        let received = digest(&mut other, &thread).expect("answers");
        assert_eq!(received, (1000 + round, sent));
    }
    // The same cells, reset each time.
    let (mut one, mut other) = (start(&feeder), start(&digester));
    for round in 0..5u64 {
        let sent = feed(&mut one, &thread, 1000 + round, 100).expect("answers");
        finish(&mut one, &thread);
        let received = digest(&mut other, &thread).expect("answers");
        assert_eq!(received, (1000 + round, sent));
        one.reset(Inputs::default()).expect("is reset");
        other.reset(Inputs::default()).expect("is reset");
        assert!(
            !one.is_templated() && !other.is_templated(),
            "what a ring holds is not frozen"
        );
    }
}
