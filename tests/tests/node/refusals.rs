//! What is refused, by which name and status, in words that say what to do.

use std::path::Path;

use referee_bundle::Digest;
use serde_json::json;

use crate::http::{self, Answer};
use crate::node::{Node, call_path};
use crate::{HOST_ERROR, REJECTED, acts, bundle, setup, text};

/// Sends a bundle's bytes and gives their digest.
fn send(node: &Node, bytes: &[u8]) -> String {
    let digest = Digest::of(bytes).to_string();
    let sent = node.ask("PUT", &format!("/v1/bundles/{digest}"), bytes);
    assert_eq!(sent.status, 201, "{sent:?}");
    digest
}

fn read(bundle: &Path) -> Vec<u8> {
    std::fs::read(bundle).expect("is there")
}

fn deploy(node: &Node, name: &str, body: &serde_json::Value) -> Answer {
    node.ask(
        "PUT",
        &format!("/v1/deployments/{name}"),
        body.to_string().as_bytes(),
    )
}

#[test]
fn what_is_not_there_is_said_to_be_missing() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    for (method, path) in [
        ("GET", "/v1/deployments/none"),
        ("DELETE", "/v1/deployments/none"),
        ("GET", "/v1/deployments/none/logs"),
        ("POST", "/v1/deployments/none/pause"),
        ("POST", "/v1/deployments/none/resume"),
        ("POST", "/v1/deployments/none/kill"),
        ("POST", "/v1/deployments/none/call/count"),
        ("POST", "/v1/deployments/%2e%2e%2fetc/pause"),
    ] {
        node.ask(method, path, b"").is(404, "rejected", "no-deployment");
    }
    let answer = node.call("acts", "nothing", "[]");
    answer.is(404, "rejected", "no-function");
    assert_eq!(answer.message(), "the muscle exports no function `nothing`");
    for path in [
        "/",
        "/v1",
        "/v2/deployments",
        "/v1/deployments/acts/call",
        "/v1/deployments/acts/",
    ] {
        node.ask("GET", path, b"").is(404, "rejected", "no-path");
    }
    for (method, path) in [
        ("POST", "/v1/deployments"),
        ("POST", "/v1/deployments/acts"),
        ("GET", "/v1/deployments/acts/call/count"),
        ("GET", "/v1/reload"),
        ("DELETE", "/health/ready"),
        ("BREW", "/v1/stats"),
    ] {
        node.ask(method, path, b"").is(405, "rejected", "no-method");
    }
    // A path that is no text is explained as everything else is.
    for (method, path) in [
        ("GET", "/v1/deployments/%ff"),
        ("DELETE", "/v1/deployments/%ff"),
        ("PUT", "/v1/deployments/%ff"),
        ("POST", "/v1/deployments/%ff/pause"),
        ("POST", "/v1/deployments/%ff/call/f"),
        ("GET", "/v1/deployments/%ff/logs"),
        ("PUT", "/v1/bundles/%ff"),
    ] {
        node.ask(method, path, b"{}").is(400, "rejected", "path-invalid");
    }
}

#[test]
fn arguments_that_are_none_are_refused_before_a_cell_has_them() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    for body in ["[", "[1] 2", "\u{feff}[]", "{1: 2}", "text", "NaN"] {
        node.call("acts", "count", body)
            .is(400, "rejected", "arguments-invalid");
    }
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    node.call("acts", "count", &deep)
        .is(400, "rejected", "arguments-invalid");
    let cbor = |body: &[u8]| {
        let form = [("content-type", "application/cbor")];
        http::ask(&node.socket(), "POST", &call_path("acts", "count"), &form, body).expect("answers")
    };
    // A number, a text, null, a tag, nothing at all.
    for body in [b"\x01".as_slice(), b"\x61a", b"\xf6", b"\xc0\x80", b""] {
        cbor(body).is(400, "rejected", "arguments-invalid");
    }
    assert_eq!(node.shown("acts")["counted"]["calls"], json!(0));
    // In JSON, what is no array and no object is the only argument.
    assert_eq!(node.call("acts", "arguments", "7").good(), b"[7]");
    assert_eq!(node.call("acts", "arguments", "null").good(), b"[]");
    // What follows the first byte is for the muscle to read; this one does not.
    assert_eq!(cbor(b"\x9f\xff\xff").status, 200);
    node.ask("GET", "/v1/deployments/acts/logs?follow=maybe", b"")
        .is(400, "rejected", "query-invalid");
    node.ask("GET", "/v1/deployments/acts/logs?since=0", b"")
        .is(400, "rejected", "query-invalid");
}

#[test]
fn bodies_beyond_their_bounds_are_refused() {
    let node = Node::with("api.call_bytes = 100\ncells.bundle_bytes = 200000");
    node.deploy(&acts(), "acts", &[]);
    let fits = format!("[\"{}\"]", "x".repeat(96));
    assert_eq!(node.call("acts", "arguments", &fits).good(), fits.as_bytes());
    let answer = node.call("acts", "arguments", &format!("[\"{}\"]", "x".repeat(97)));
    answer.is(413, "rejected", "body-too-large");
    node.ask("PUT", "/v1/deployments/new", &vec![b' '; (64 << 10) + 1])
        .is(413, "rejected", "body-too-large");
    let large = vec![7; 200_001];
    let path = format!("/v1/bundles/{}", Digest::of(&large));
    node.ask("PUT", &path, &large)
        .is(413, "rejected", "body-too-large");
    // In pieces nobody says beforehand how long it is.
    let mut stream = http::connect(&node.socket()).expect("connects");
    let head = "POST /v1/deployments/acts/call/arguments HTTP/1.1\r\nhost: n\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunks = format!("64\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(100));
    std::io::Write::write_all(&mut stream, format!("{head}{chunks}").as_bytes()).expect("is sent");
    http::answer(stream)
        .expect("answers")
        .is(413, "rejected", "body-too-large");
}

#[test]
fn json_in_pieces_takes_no_more_room_than_json_may_have() {
    // Room for one call's arguments in JSON of the largest size with what they become, and not for much more.
    let node =
        Node::with("api.call_bytes = 8388608\ncells.bundle_bytes = 1000000\napi.bodies_bytes = 17000000");
    node.deploy(&acts(), "acts", &[]);
    let call = |length: usize| {
        let mut stream = http::connect(&node.socket()).expect("connects");
        let head = "POST /v1/deployments/acts/call/arguments HTTP/1.1\r\nhost: n\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let text = format!("[\"{}\"]", "x".repeat(length - 4));
        let chunks = format!("{head}{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
        // Who refuses it need not read it.
        let _ = std::io::Write::write_all(&mut stream, chunks.as_bytes());
        http::answer(stream).expect("answers")
    };
    assert_eq!(call(100).good().len(), 100);
    let answer = call((1 << 20) + 1);
    answer.is(413, "rejected", "body-too-large");
    assert!(answer.message().contains("CBOR"), "{}", answer.message());
}

#[test]
fn a_deployment_is_asked_for_in_the_right_form_or_not_at_all() {
    let node = Node::start();
    let digest = send(&node, &read(&acts()));
    for body in [
        json!({}),
        json!([digest]),
        json!({"bundle": digest, "more": 1}),
        json!({"bundle": 7}),
        json!({"bundle": digest, "settings": {"cell": 1}}),
        json!({"bundle": digest, "settings": {"cells": -1}}),
        json!({"bundle": digest, "settings": {"fresh": "yes"}}),
        // An array would be the fields in their order.
        json!({"bundle": digest, "settings": []}),
        json!({"bundle": digest, "settings": [[], 4, 0, true, null, null, {"class": "background"}]}),
        json!({"bundle": digest, "settings": {"priority": ["fair", 5]}}),
        json!({"bundle": digest, "settings": {"priority": ["background"]}}),
        json!({"bundle": digest, "settings": {"priority": {"class": "background", "shares": 5}}}),
        json!({"bundle": digest, "settings": {"cells": 1.5}}),
    ] {
        deploy(&node, "new", &body).is(400, "rejected", "body-invalid");
    }
    let answer = deploy(&node, "new", &json!({"bundle": digest, "settings": {"cell": 1}}));
    assert!(
        answer.message().contains("unknown field `cell`"),
        "{}",
        answer.message()
    );
    node.ask("PUT", "/v1/deployments/new", b"{\"bundle\": ")
        .is(400, "rejected", "body-invalid");
    let refused = |name: &str, body: serde_json::Value, why: &str| {
        let answer = deploy(&node, name, &body);
        answer.is(422, "rejected", why);
        answer.message()
    };
    for settings in [
        json!({"cells": 0}),
        json!({"cells": 129}),
        json!({"cells": 2, "ahead": 3}),
    ] {
        refused(
            "new",
            json!({"bundle": digest, "settings": settings}),
            "settings-invalid",
        );
    }
    for name in ["-a", ".a", "A", "a%20b", "a%2fb", "%C3%A4", &"a".repeat(65)] {
        refused(name, json!({"bundle": digest}), "name-invalid");
    }
    for wrong in ["", "abc", &"g".repeat(64), &format!("{digest}0")] {
        refused("new", json!({"bundle": wrong}), "digest-invalid");
    }
    let unknown = Digest::of(b"nobody sent this").to_string();
    let message = refused("new", json!({"bundle": unknown}), "bundle-unknown");
    assert!(
        message.contains(&unknown) && message.contains("send it first"),
        "{message}"
    );
    assert_eq!(node.ask("GET", "/v1/deployments", b"").json(), json!([]));
    // Nothing of this was worth a record: no bundle was asked about.
    assert_eq!(node.managed(), []);
}

#[test]
fn a_bundle_is_kept_under_its_own_digest_only() {
    let node = Node::start();
    let bytes = read(&acts());
    for digest in [
        "abc".to_owned(),
        "0".repeat(64),
        Digest::of(&bytes).to_string().to_uppercase(),
    ] {
        let answer = node.ask("PUT", &format!("/v1/bundles/{digest}"), &bytes);
        answer.is(422, "rejected", "digest-mismatch");
        assert!(
            answer.message().contains(&Digest::of(&bytes).to_string()),
            "{}",
            answer.message()
        );
    }
    node.ask("PUT", "/v1/bundles/..%2f..%2fnode.redb", &bytes)
        .is(422, "rejected", "digest-mismatch");
    let kept = std::fs::read_dir(node.path("state/bundles")).expect("is there");
    assert_eq!(kept.count(), 0);
}

#[test]
fn what_bundle_trust_or_policy_refuse_is_not_deployed() {
    let node = Node::start();
    let good = read(&acts());
    let mut flipped = good.clone();
    *flipped.last_mut().expect("has bytes") ^= 1;
    let guest = setup().workshop.guest("reactor", "acts").expect("is there");
    let image = setup().workshop.image(&guest).expect("is built");
    let manifest = guest.header.manifest(&guest.muscle_name());
    let unsigned = cargo_muscle::assemble(manifest, &image).expect("is whole");
    let strange = cargo_muscle::sign(&unsigned, &setup().workshop.stranger()).expect("signs");
    let clerk = read(&bundle("reactor", "clerk"));
    let etc = json!({"bindings": ["dir=dir:/etc:rw"]});
    for (bytes, settings, name, words) in [
        (&flipped, json!({}), "part-digest-mismatch", ""),
        (&b"no bundle".to_vec(), json!({}), "truncated", ""),
        (&strange, json!({}), "signer-unknown", ""),
        (&clerk, json!({}), "slot-unbound", "`dir`"),
        (&clerk, etc, "forbidden", "files-system"),
        (&clerk, json!({"bindings": ["dir"]}), "binding-invalid", "dir"),
        (
            &clerk,
            json!({"bindings": ["dir=dir:/nowhere:rw"]}),
            "binding-invalid",
            "/nowhere",
        ),
        (
            &good,
            json!({"bindings": ["dir=dir:/tmp:rw"]}),
            "no-such-slot",
            "`dir`",
        ),
        (
            &read(&bundle("baseline", "exit-seven")),
            json!({}),
            "wrong-style",
            "referee-vmm run",
        ),
        (
            &read(&bundle("ring", "reacts")),
            json!({}),
            "ring-not-joined",
            "`ring`",
        ),
    ] {
        let digest = send(&node, bytes);
        let answer = deploy(&node, "new", &json!({"bundle": digest, "settings": settings}));
        answer.is(422, "rejected", name);
        assert!(answer.message().contains(words), "{}", answer.message());
    }
    assert_eq!(node.ask("GET", "/v1/deployments", b"").json(), json!([]));
    assert!(node.workers().is_empty());
    let refused = node.managed();
    assert_eq!(refused.len(), 10);
    assert!(
        refused.iter().all(|(op, name)| op == "refuse" && name == "new"),
        "{refused:?}"
    );
}

#[test]
fn the_command_line_says_what_the_node_said() {
    let node = Node::start();
    let file = node.path("Not A Name.muscle");
    std::fs::copy(acts(), &file).expect("is copied");
    let ended = node.cli(&["deploy", &text(&file)]);
    assert_eq!(ended.code, REJECTED);
    assert!(
        ended
            .errors()
            .starts_with("rejected: a deployment's name has 1 to 64 of")
            && ended.errors().ends_with("[name-invalid]\n"),
        "{}",
        ended.errors()
    );
    let ended = node.cli(&["deploy", "/nowhere.muscle"]);
    assert_eq!(ended.code, REJECTED);
    assert!(ended.errors().contains("/nowhere.muscle"), "{}", ended.errors());
    let mut alone = setup().program.command(["ps", "--host", "/nowhere.sock"]);
    let ended = referee_tests::Ended::of(alone.spawn().expect("starts")).expect("ends");
    assert_eq!(ended.code, HOST_ERROR);
    assert!(ended.errors().contains("referee-vmm serve"), "{}", ended.errors());
}
