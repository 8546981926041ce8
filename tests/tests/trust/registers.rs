//! The event log and the registers, kept in step; and who tries to bring them out of it.

use referee_attest::{Component, Reply, Request};
use referee_evidence::{Bank, Content, EventLog};

use crate::host::{Host, NONCE, bundle, checked, measure};

#[test]
fn a_bundle_is_measured_once_for_each_boot() {
    let host = Host::new();
    let first = |host: &Host| match host.ask(&measure(bundle("a", 1))).expect("is measured") {
        Reply::Measured { first } => first,
        other => panic!("{other:?}"),
    };
    assert!(first(&host));
    assert!(!first(&host));
    host.ask(&Request::Restart {
        tpm: host.open.tpm.clone(),
    })
    .expect("restarts");
    assert!(first(&host), "a new boot begins anew");
    assert!(!first(&host));
}

#[test]
fn another_identity_in_the_same_boot_is_refused_by_component() {
    let mut host = Host::ready();
    host.open.components[1].digest = [66; 32];
    let refused = host.ask(&measure(bundle("a", 1))).expect_err("is refused");
    let text = refused.to_string();
    assert!(text.contains("another policy;"), "{text}");
    assert_eq!(host.refused(&Request::Status), "identity-differs");
    host.open.components[1].digest = [2; 32];
    host.open.components.push(Component {
        name: "more".into(),
        digest: [4; 32],
    });
    // A longer identity would be another register's value, and so no longer this one.
    assert_eq!(
        host.refused(&Request::Rotate { older_than: None }),
        "identity-differs"
    );
    // After a reset it is measured, and does not get the other's keys.
    host.ask(&Request::Restart {
        tpm: host.open.tpm.clone(),
    })
    .expect("restarts");
    assert_eq!(host.refused(&Request::Status), "key-closed");
}

#[test]
fn what_somebody_else_measures_stops_everything() {
    let host = Host::ready();
    let tools = host.tools();
    tools.run(
        "tpm2_pcrextend",
        &["13:sha256=1111111111111111111111111111111111111111111111111111111111111111"],
    );
    drop(tools);
    for request in [
        measure(bundle("a", 1)),
        Request::Status,
        Request::Rotate { older_than: None },
    ] {
        assert_eq!(host.refused(&request), "event-log-mismatch");
    }
}

#[test]
fn a_changed_log_stops_everything() {
    let host = Host::ready();
    let path = host.path("state").join("boot.cel");
    let bytes = std::fs::read(&path).expect("is there");
    let (log, _) = EventLog::parse(&bytes).expect("is a log");
    let mut fewer = log.clone();
    fewer.pop();
    std::fs::write(&path, fewer.to_bytes()).expect("is written");
    assert_eq!(host.refused(&Request::Status), "event-log-mismatch");
    let content = Content {
        name: "never ran".into(),
        ..log.events()[1].content().expect("has content")
    };
    let mut more = log.clone();
    more.push(more.next(13, &content, &Bank::ALL));
    more.push(more.next(13, &content, &Bank::ALL));
    std::fs::write(&path, more.to_bytes()).expect("is written");
    assert_eq!(host.refused(&Request::Status), "event-log-mismatch");
    let mut broken = bytes.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 1;
    std::fs::write(&path, &broken).expect("is written");
    let name = host.refused(&Request::Status);
    assert!(
        ["event-log-broken", "event-log-mismatch"].contains(&name.as_str()),
        "{name}"
    );
    std::fs::write(&path, &bytes).expect("is written");
    host.ask(&Request::Status).expect("is as it was");
}

#[test]
fn a_crash_between_flush_and_extend_is_made_good() {
    let host = Host::ready();
    let path = host.path("state").join("boot.cel");
    let (mut log, _) = EventLog::parse(&std::fs::read(&path).expect("is there")).expect("is a log");
    let content = Content {
        name: "was about to run".into(),
        ..log
            .events()
            .last()
            .and_then(|last| last.content().ok())
            .expect("has one")
    };
    let event = log.next(13, &content, &Bank::ALL);
    // The record is on the disk, the register has not seen it.
    log.push(event.clone());
    std::fs::write(&path, log.to_bytes()).expect("is written");
    let (evidence, reference) = (host.evidence(&NONCE), host.reference());
    let report = checked(&evidence, &reference);
    assert!(report.holds(), "\n{report}");
    assert_eq!(evidence.event_log().expect("is a log"), log);
    // A record that was being written was never extended, and goes.
    for cut in 1..event.to_bytes().len() {
        let torn = [log.to_bytes(), event.to_bytes()[..cut].to_vec()].concat();
        std::fs::write(&path, torn).expect("is written");
        if cut % 40 == 1 {
            host.ask(&Request::Status).expect("recovers");
            assert_eq!(std::fs::read(&path).expect("is there"), log.to_bytes());
        }
    }
}

#[test]
fn registers_that_were_in_use_before_are_a_base() {
    let host = Host::new();
    // Made, and put to sleep, by a request that fails for want of a key.
    assert_eq!(host.refused(&Request::Status), "tpm-not-initialised");
    std::fs::remove_dir_all(host.path("state")).expect("is removed");
    let tools = host.tools();
    let ones = "11".repeat(32);
    tools.run("tpm2_pcrextend", &[&format!("14:sha256={ones}")]);
    drop(tools);
    host.ask(&Request::Init { replace: false })
        .expect("is initialised");
    let (evidence, mut reference) = (host.evidence(&NONCE), host.reference());
    assert!(reference.base.contains_key("14"));
    let report = checked(&evidence, &reference);
    assert!(report.holds(), "\n{report}");
    // The verifier decides what may have been there, not the host.
    reference.base.clear();
    assert_eq!(checked(&evidence, &reference).failures(), ["log"]);
}
