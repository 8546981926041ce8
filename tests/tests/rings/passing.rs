//! What passes through a ring, and how whoever has nothing to do waits.

use std::sync::{Arc, mpsc};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use referee::{CallError, HotThread, MuscleFault, Progress};
use referee_tests::shop;

use crate::{Host, SPIN, digest, enter, feed, finish, start};

#[test]
fn sixty_four_mebibytes_pass_between_two_threads_as_they_are() {
    const TOTAL: u64 = 64 << 20;
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let receiving = thread::spawn(move || digest(&mut digester, &enter()).expect("answers"));
    let thread = enter();
    // Sizes that wrap around in the middle of words, messages and pages.
    let sent = feed(&mut feeder, &thread, TOTAL, 60_001).expect("answers");
    finish(&mut feeder, &thread);
    let (total, received) = receiving.join().expect("ends");
    assert_eq!(total, TOTAL);
    assert_eq!(sent, received);
}

#[test]
fn small_messages_wake_whoever_waits() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let receiving = thread::spawn(move || digest(&mut digester, &enter()).expect("answers"));
    let thread = enter();
    for _ in 0..200 {
        feed(&mut feeder, &thread, 3, 1).expect("answers");
    }
    finish(&mut feeder, &thread);
    assert_eq!(receiving.join().expect("ends").0, 600);
}

#[test]
fn a_hot_cell_waits_for_a_ring_as_any_other() {
    let host = Host::under(&shop().expect("a shop").join("trust.store"), Some(SPIN));
    let (feeder, mut digester) = host.permits();
    host.referee
        .permit_spin(&mut digester, Duration::from_millis(50))
        .expect("may spin");
    let (mut feeder, mut digester) = (start(&feeder), start(&digester));
    digester
        .keep_hot(&Arc::new(HotThread::start().expect("a thread")))
        .expect("may be hot");
    let (count, rounds) = mpsc::channel();
    let receiving = thread::spawn(move || {
        let thread = enter();
        for round in 1..=1000u64 {
            let length: u64 = digester.call(&thread, "next", &()).expect("answers");
            assert_eq!(length, round);
            count.send(round).expect("is heard");
        }
    });
    let thread = enter();
    for round in 1..=1000u32 {
        feed(&mut feeder, &thread, round.into(), round).expect("answers");
        // Now it is there before the receiver looks, now after.
        if round % 2 == 0 {
            while rounds.recv().expect("is received") < u64::from(round) {}
        }
    }
    receiving.join().expect("ends");
}

#[test]
fn two_cells_take_turns_on_one_thread() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let thread = enter();
    // More than the ring holds: {"total": 1 MiB, "each": 1000}, then nothing.
    let arguments = [0x82, 0x1a, 0, 0x10, 0, 0, 0x19, 0x03, 0xe8];
    feeder.begin("feed", &arguments).expect("begins");
    digester.begin("digest", &[0x80]).expect("begins");
    let (mut has_fed, mut waits) = (false, [0, 0]);
    let digested = loop {
        if !has_fed {
            match feeder.advance(&thread, None).expect("goes on") {
                Progress::Waiting { slot, until } => {
                    assert_eq!(slot, "out");
                    assert!(until.is_some_and(|until| until > Instant::now()));
                    waits[0] += 1;
                }
                Progress::Returned(_) => {
                    has_fed = true;
                    finish(&mut feeder, &thread);
                }
                other => panic!("{other:?}"),
            }
        }
        match digester.advance(&thread, None).expect("goes on") {
            Progress::Waiting { slot, .. } => {
                assert_eq!(slot, "in");
                waits[1] += 1;
            }
            Progress::Returned(result) => break result,
            other => panic!("{other:?}"),
        }
    };
    assert!(waits[0] >= 3 && waits[1] >= 3, "{waits:?}");
    // [1048576, "…"]
    assert_eq!(digested[..6], [0x82, 0x1a, 0, 0x10, 0, 0]);
}

/// Says by a channel that it was woken.
struct Says(mpsc::Sender<()>);

impl Wake for Says {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

#[test]
fn the_host_is_told_when_to_advance_a_cell_that_waits() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let thread = enter();
    let (sender, woken) = mpsc::channel();
    digester.wake_by(Some(Waker::from(Arc::new(Says(sender)))));
    digester.begin("next", &[0x80]).expect("begins");
    let progress = digester.advance(&thread, None).expect("goes on");
    assert!(matches!(progress, Progress::Waiting { .. }), "{progress:?}");
    assert!(woken.try_recv().is_err(), "nobody has sent");
    // Advanced for nothing it waits on.
    let progress = digester.advance(&thread, None).expect("goes on");
    assert!(matches!(progress, Progress::Waiting { .. }), "{progress:?}");
    feed(&mut feeder, &thread, 7, 7).expect("answers");
    woken.try_recv().expect("was woken");
    match digester.advance(&thread, None).expect("goes on") {
        Progress::Returned(length) => assert_eq!(length, [7]),
        other => panic!("{other:?}"),
    }
    assert!(woken.try_recv().is_err(), "once for each wait");
}

#[test]
fn whoever_waits_is_ended_by_its_deadline_or_cancelled() {
    let host = Host::of_examples();
    let (feeder, mut digester) = host.permits();
    let thread = enter();
    // A sender that waits for room; whether it does so already when it is cancelled makes no difference.
    let mut cell = start(&feeder);
    let canceller = cell.canceller();
    let cancelling = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        canceller.cancel();
    });
    let fed = feed(&mut cell, &thread, 1 << 30, 4096);
    assert!(matches!(fed, Err(CallError::Cancelled)), "{fed:?}");
    cancelling.join().expect("ends");
    digester.narrow_deadline(50);
    let _feeder = start(&feeder);
    let mut cell = start(&digester);
    match digest(&mut cell, &thread) {
        Err(CallError::Fault(report)) => assert_eq!(report.fault, MuscleFault::Deadline(50)),
        other => panic!("{other:?}"),
    }
}
