//! Who may be joined to whom, at what price, and what is recorded of it.

use referee::{ControlError, Inputs, NotNarrower, StartError};
use referee_tests::{Guest, shop};
use serde_json::Value;

use crate::{Host, digest, enter, feed, finish, rejected, start};

#[test]
fn policy_decides_about_the_role_and_size_of_a_ring() {
    let store = shop().expect("a shop").join("trust.store");
    let limits = r#"@id("limits") permit (principal, action in [Action::"memory", Action::"cpu", Action::"deadline"], resource);"#;
    let receive = r#"@id("in") permit (principal, action == Action::"ring", resource)
        when { context.role == "receive" && context.bytes <= 262144 };"#;
    for (policy, may) in [
        (limits.to_owned(), [false, false]),
        (format!("{limits}{receive}"), [false, true]),
    ] {
        let host = Host::under(&store, Some(&policy));
        for (name, may) in ["feeder", "digester"].into_iter().zip(may) {
            let permit = host.example(name).permit(&[]);
            match may {
                true => drop(permit.expect("is permitted")),
                false => assert_eq!(rejected(permit), "not-permitted"),
            }
        }
    }
}

#[test]
fn a_ring_is_joined_as_both_were_granted_it_or_not_at_all() {
    let host = Host::of_examples();
    let permit = |name| host.example(name).permit(&[]).expect("is permitted");
    let (mut feeder, mut digester) = (permit("feeder"), permit("digester"));
    for (one, other) in [("in", "in"), ("out", "out"), ("", "in")] {
        assert_eq!(
            rejected(feeder.join_ring(one, &mut digester, other)),
            "no-such-ring"
        );
    }
    assert_eq!(
        rejected(digester.join_ring("in", &mut feeder, "out")),
        "no-such-ring"
    );
    assert_eq!(rejected(feeder.start(Inputs::default())), "ring-not-joined");
    assert_eq!(rejected(digester.start(Inputs::default())), "ring-not-joined");
    feeder.join_ring("out", &mut digester, "in").expect("are joined");
    let mut second = permit("digester");
    assert_eq!(
        rejected(feeder.join_ring("out", &mut second, "in")),
        "ring-joined-already"
    );
    assert_eq!(rejected(second.start(Inputs::default())), "ring-not-joined");
    assert_eq!(rejected(feeder.keep_loaded(1).map(drop)), "ring-not-kept");
    let cell = start(&feeder);
    assert_eq!(rejected(feeder.clone().start(Inputs::default())), "ring-in-use");
    drop(cell);
    drop(start(&feeder));
    let refusals = host.records();
    let refusals = refusals.iter().filter(|record| record["kind"] == "reject");
    assert_eq!(refusals.count(), 10);
}

#[test]
fn a_ring_is_not_taken_back_while_there_may_be_cells_that_have_it() {
    let host = Host::of_examples();
    let permit = |name| host.example(name).permit(&[]).expect("is permitted");
    let (mut feeder, mut digester) = (permit("feeder"), permit("digester"));
    feeder.join_ring("out", &mut digester, "in").expect("are joined");
    let (mut sends, mut receives) = (start(&feeder), start(&digester));
    for control in [feeder.control(), sends.control()] {
        let refused = control.revoke("out");
        assert!(
            matches!(&refused, Err(ControlError::Rejected(NotNarrower::Mapped { slot })) if slot == "out"),
            "{refused:?}"
        );
    }
    // Nothing has changed.
    let feeding = std::thread::spawn(move || {
        let thread = enter();
        feed(&mut sends, &thread, 4096, 512).expect("feeds");
        finish(&mut sends, &thread);
    });
    let (taken, _) = digest(&mut receives, &enter()).expect("digests");
    assert_eq!(taken, 4096);
    feeding.join().expect("nobody panicked");
    assert!(host.records().iter().all(|record| record["kind"] != "revoke"));
}

#[test]
fn rings_of_two_sizes_are_not_joined() {
    let guests = Host::of_guests();
    let mut sends = guests.guest("sends");
    let mut digester = Host::of_examples()
        .example("digester")
        .permit(&[])
        .expect("is permitted");
    assert_eq!(
        rejected(sends.join_ring("ring", &mut digester, "in")),
        "ring-sizes-differ"
    );
}

#[test]
fn both_sides_records_name_the_ring_and_the_other_muscle() {
    let host = Host::of_examples();
    drop(host.pair());
    let records = host.records();
    let joins: Vec<&Value> = records
        .iter()
        .filter(|record| record["op"] == "ring.join")
        .collect();
    let [sender, receiver] = joins[..] else {
        panic!("two were expected: {joins:?}")
    };
    assert_eq!(sender["detail"]["ring"], receiver["detail"]["ring"]);
    assert_eq!(
        (&sender["slot"], &receiver["slot"]),
        (&"out".into(), &"in".into())
    );
    assert_eq!(sender["detail"]["peer"], "digester 0.1.0");
    assert_eq!(receiver["detail"]["peer"], "feeder 0.1.0");
}

#[test]
fn the_data_counts_as_memory_of_the_sender() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, role: &str, bytes: u64| {
        let group = folder.path().join("ring-sizes");
        std::fs::create_dir_all(&group).expect("is made");
        let path = group.join(format!("{name}.s"));
        let source = format!(
            "# expect: exit 0\n# limits: memory=1048576\n# slots: ring=ring:{role}:{bytes}\n.include \"muscle.inc\"\nbegin\n    exit 0\n"
        );
        std::fs::write(&path, source).expect("is written");
        Guest::read(&path).expect("is a guest")
    };
    let host = Host::of_guests();
    for (bytes, fits) in [(256 << 10, true), (1 << 20, false)] {
        let mut sender = host.permit(&write(&format!("sends-{bytes}"), "send", bytes));
        let mut receiver = host.permit(&write(&format!("receives-{bytes}"), "receive", bytes));
        sender
            .join_ring("ring", &mut receiver, "ring")
            .expect("are joined");
        let started = sender.start_main(Inputs::default());
        assert_eq!(started.is_ok(), fits, "{bytes}: {started:?}");
        if let Err(StartError::Host { source, .. }) = started {
            assert!(source.to_string().contains("rings"), "{source}");
        }
        let mut receiver = receiver.start_main(Inputs::default()).expect("has memory enough");
        assert_eq!(receiver.run(&enter()).expect("exits"), 0);
    }
}
