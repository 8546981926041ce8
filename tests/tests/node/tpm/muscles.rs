//! Muscles of a node that ask the TPM: evidence with their own words, and what they keep.

use std::path::PathBuf;

use referee_tests::Ended;
use serde_json::Value;

use super::{Host, NONCE, assert_ends, digest};
use crate::http::{self, Answer};
use crate::node::{Node, call_path};
use crate::{REJECTED, bundle, text};

fn vouched() -> PathBuf {
    bundle("reactor", "vouched")
}

const FORMS: [(&str, &str); 2] = [
    ("content-type", "application/cbor"),
    ("accept", "application/cbor"),
];

/// Calls with these byte strings as arguments.
fn call(node: &Node, name: &str, function: &str, arguments: &[&[u8]]) -> Answer {
    let mut out = minicbor::Encoder::new(Vec::new());
    out.array(arguments.len() as u64).expect("a vector");
    for bytes in arguments {
        out.bytes(bytes).expect("a vector");
    }
    let path = call_path(name, function);
    http::ask(&node.socket(), "POST", &path, &FORMS, &out.into_writer()).expect("is answered")
}

/// The byte string that the host gave the muscle; none for nothing.
#[track_caller]
fn given(answer: Answer) -> Option<Vec<u8>> {
    let body = answer.good();
    let mut decoder = minicbor::Decoder::new(&body);
    match decoder.datatype().expect("is CBOR") {
        minicbor::data::Type::Null => None,
        _ => Some(decoder.bytes().unwrap_or_else(|_| panic!("{body:?}")).to_vec()),
    }
}

/// The code with which the host refused the muscle.
#[track_caller]
fn code(answer: Answer) -> u32 {
    let body = answer.good();
    let mut decoder = minicbor::Decoder::new(&body);
    assert_eq!(decoder.array().expect("is an error"), Some(2), "{body:?}");
    decoder.u32().expect("has a code")
}

fn verify(host: &Host, evidence: &[u8], nonce: &str) -> Ended {
    std::fs::write(host.node.path("evidence"), evidence).expect("is written");
    host.reference();
    host.verify(nonce)
}

#[test]
fn a_muscle_s_words_are_in_evidence_under_its_own_name() {
    let host = Host::new();
    host.node.deploy(&vouched(), "vouched", &[]);
    let nonce = referee_evidence::from_hex(NONCE).expect("is hexadecimal");
    let answer = call(&host.node, "vouched", "evidence", &[b"words", &nonce, b"a key"]);
    let evidence = given(answer).expect("is given");
    let text = assert_ends(&verify(&host, &evidence, NONCE), 0);
    let value: Value = serde_json::from_str(&text).expect("is JSON");
    let spoke: Vec<&Value> = value["spoke"].as_object().expect("is there").values().collect();
    assert_eq!(spoke.len(), 1, "{value}");
    assert_eq!(spoke[0]["muscle"], "hostile.reactor.vouched 0.1.0", "{value}");
    assert_eq!(spoke[0]["bundle"], digest(&vouched()));
    assert_eq!(spoke[0]["user_data"], referee_evidence::to_hex(b"words"));
    // With another nonce it is another verifier's.
    assert_ends(&verify(&host, &evidence, super::OTHER_NONCE), 1);
    // What is too much is the muscle's error, and the TPM is not asked.
    let long = [0; 513];
    let refused = call(&host.node, "vouched", "evidence", &[&long, &nonce, b""]);
    assert_eq!(code(refused), muscle_abi::frame::ErrorCode::BadArguments as u32);
}

#[test]
fn what_a_muscle_saves_outlives_worker_and_node() {
    let mut host = Host::new();
    host.node.deploy(&vouched(), "vouched", &[]);
    assert_eq!(given(call(&host.node, "vouched", "load", &[])), None);
    assert_eq!(
        given(call(&host.node, "vouched", "keep", &[b"what was saved"])),
        None
    );
    assert_eq!(host.node.cli(&["kill", "vouched"]).code, Some(0));
    let saved = Some(b"what was saved".to_vec());
    assert_eq!(given(call(&host.node, "vouched", "load", &[])), saved);
    assert_eq!(host.node.stop().code(), Some(0));
    host.node.again();
    assert_eq!(given(call(&host.node, "vouched", "load", &[])), saved);
    // Longer than was granted.
    let long = call(&host.node, "vouched", "keep", &[&[0; 65]]);
    assert_eq!(code(long), muscle_abi::frame::ErrorCode::Quota as u32);
    // Neither the log nor the node's files have it.
    let log = std::fs::read(host.node.path("audit.jsonl")).expect("is there");
    assert!(!log.windows(14).any(|window| window == b"what was saved"));
}

#[test]
fn a_cell_that_saves_over_another_s_save_is_told_so() {
    let host = Host::new();
    for name in ["one", "two"] {
        host.node.deploy(&vouched(), name, &["--keep-memory"]);
        assert_eq!(given(call(&host.node, name, "load", &[])), None);
    }
    assert_eq!(given(call(&host.node, "one", "keep", &[b"1"])), None);
    let refused = call(&host.node, "two", "keep", &[b"2"]);
    assert_eq!(code(refused), muscle_abi::frame::ErrorCode::Exists as u32);
    assert_eq!(given(call(&host.node, "two", "load", &[])), Some(b"1".to_vec()));
    assert_eq!(given(call(&host.node, "two", "keep", &[b"2"])), None);
    assert_eq!(given(call(&host.node, "one", "load", &[])), Some(b"2".to_vec()));
}

#[test]
fn a_revoked_slot_and_a_tpm_that_is_gone_are_the_muscle_s_errors_and_no_hang() {
    let mut host = Host::new();
    host.node.deploy(&vouched(), "vouched", &[]);
    assert_eq!(given(call(&host.node, "vouched", "keep", &[b"x"])), None);
    host.chip.kill();
    let failed = call(&host.node, "vouched", "load", &[]);
    assert_eq!(code(failed), muscle_abi::frame::ErrorCode::Io as u32);
    assert!(host.node.records().iter().any(|record| {
        record["detail"]["tpm"]
            .as_str()
            .is_some_and(|why| why.contains("tpm-unreachable"))
    }));
    host.chip.start();
    assert_eq!(
        given(call(&host.node, "vouched", "load", &[])),
        Some(b"x".to_vec())
    );
    assert_eq!(
        host.node.cli(&["grants", "vouched", "--revoke", "notes"]).code,
        Some(0)
    );
    let refused = call(&host.node, "vouched", "load", &[]);
    assert_eq!(code(refused), muscle_abi::frame::ErrorCode::StaleHandle as u32);
}

#[test]
fn without_a_tpm_a_muscle_that_needs_one_is_not_deployed() {
    let node = Node::start();
    let words = text(&vouched());
    let ended = node.cli(&["deploy", &words, "--name", "vouched"]);
    assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    assert!(ended.errors().contains("[no-tpm]"), "{}", ended.errors());
}
