//! One of the two does not keep the rules.

use std::thread;

use muscle_abi::ring::Role;
use referee::{CallError, Cell, CellThread, Inputs, Permit};
use referee_tests::{Expectation, Flavour, Guest, check_report};
use serde_json::Value;

use crate::{Host, digest, enter, start, words, workshop};

#[test]
fn whatever_a_sender_writes_the_receiver_gets_an_error_and_goes_on() {
    for name in [
        "claims-too-much",
        "length-beyond-sent",
        "length-beyond-ring",
        "length-largest",
    ] {
        let (hostile, mut digester) = against_digester(name);
        let thread = enter();
        let mut sender = hostile.start_main(Inputs::default()).expect("starts");
        assert_eq!(sender.run(&thread).expect("exits"), 0, "{name}");
        for _ in 0..3 {
            let told = words(digest(&mut digester, &thread));
            assert!(told.contains("broke its rules"), "{name}: {told}");
        }
        assert!(!digester.is_over());
    }
}

/// A permit of a guest, joined to a cell of the example `digester`.
fn against_digester(guest: &str) -> (Permit, Cell) {
    let (guests, examples) = (Host::of_guests(), Host::of_examples());
    let mut hostile = guests.guest(guest);
    let mut digester = examples.example("digester").permit(&[]).expect("is permitted");
    hostile
        .join_ring("ring", &mut digester, "in")
        .expect("are joined");
    (hostile, start(&digester))
}

#[test]
fn a_sender_that_scribbles_all_over_the_ring_harms_its_own_messages_alone() {
    let (hostile, mut digester) = against_digester("scribbles");
    let mut sender = hostile.start_main(Inputs::default()).expect("starts");
    let canceller = sender.canceller();
    let scribbling = thread::spawn(move || sender.run(&enter()).map(drop));
    let thread = enter();
    let (mut messages, mut errors) = (0, 0);
    for _ in 0..500 {
        match digester.call::<_, u64>(&thread, "next", &()) {
            Ok(length) => {
                assert!(length <= 256 << 10);
                messages += 1;
            }
            Err(CallError::Function { .. }) => errors += 1,
            other => panic!("{other:?}"),
        }
    }
    canceller.cancel();
    scribbling
        .join()
        .expect("ends")
        .expect_err("is cancelled, or its time is over");
    println!("{messages} messages, {errors} errors");
    assert!(errors > 0);
}

/// Runs a guest joined to one that keeps the rules, and compares its end with what its file says.
fn judge(host: &Host, guest: &Guest, thread: &CellThread, flavour: Flavour) -> anyhow::Result<()> {
    let Some((slot, role, bytes)) = guest.header.ring() else {
        anyhow::bail!("it has no ring");
    };
    let mut permit = host.permit(guest);
    let joined = match role {
        Role::Send if bytes > 4096 => {
            let examples = Host::of_examples();
            let mut digester = examples.example("digester").permit(&[])?;
            permit.join_ring(slot, &mut digester, "in")
        }
        Role::Send => permit.join_ring(slot, &mut host.guest("peeks"), "ring"),
        Role::Receive => host.guest("sends").join_ring("ring", &mut permit, slot),
    };
    joined?;
    let ended = match &guest.header.call {
        None => permit.start_main(Inputs::default())?.run(thread),
        Some((function, _)) => match start(&permit).call::<_, Value>(thread, function, &()) {
            Err(CallError::Exited(code)) => Ok(code),
            other => other.map(|_| 100),
        },
    };
    let mut found = Err(anyhow::anyhow!("nothing was expected"));
    for expected in guest.header.expected(flavour) {
        found = match (expected, &ended) {
            (Expectation::Exit(codes), Ok(code)) if codes.contains(code) => Ok(()),
            (Expectation::Fault(fault), Err(CallError::Fault(report))) => {
                let mut report = report.to_json();
                report["outcome"] = "fault".into();
                check_report(fault, &report)
            }
            _ => Err(anyhow::anyhow!("{ended:?}, and {expected:?} was expected")),
        };
        if found.is_ok() {
            break;
        }
    }
    found
}

#[test]
fn every_guest_with_a_ring_ends_as_its_file_says() {
    let (host, thread) = (Host::of_guests(), enter());
    let flavour = Flavour::probe().expect("probes");
    let guests = workshop().guests().expect("are there");
    let mut wrong = Vec::new();
    let mut count = 0;
    let here = |guest: &&Guest| guest.header.ring().is_some() && !guest.header.on_node;
    for guest in guests.iter().filter(here) {
        count += 1;
        if let Err(error) = judge(&host, guest, &thread, flavour) {
            wrong.push(format!("{}: {error:#}", guest.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 25, "{count} guests have a ring");
}
