//! A deployment's life as its operator leads it: deployed, called, watched, paused, replaced, removed.

use std::io::{BufRead as _, BufReader};

use referee_tests::Ended;
use serde_json::{Value, json};

use crate::node::{Node, call_path};
use crate::{REJECTED, acts, bundle, http, text, wait_for};

#[test]
fn a_deployment_lives_from_deploy_to_remove() {
    let node = Node::start();
    let deployed = node.cli(&["deploy", &text(&acts()), "--name", "acts"]);
    assert_eq!(
        (deployed.code, deployed.output().as_str()),
        (
            Some(0),
            "acts is deployed: hostile.reactor.acts 0.1.0 by suite, generation 1; functions: \
             arguments count deny fault log quit refuse spin wait yell\n"
        ),
        "{}",
        deployed.errors()
    );
    assert_eq!(node.shown("acts")["state"], "idle");
    let called = node.cli(&["call", "@acts", "arguments", "[1, \"two\", {\"three\": 3.5}]"]);
    assert_eq!(
        (called.code, called.output().as_str()),
        (Some(0), "[1,\"two\",{\"three\":3.5}]\n"),
        "{}",
        called.errors()
    );
    let all = node.cli(&["ps"]);
    let table: Vec<Vec<&str>> = std::str::from_utf8(&all.stdout)
        .expect("is text")
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(table.len(), 2, "{table:?}");
    assert_eq!(
        table[1][..10],
        [
            "acts",
            "ready",
            "hostile.reactor.acts",
            "0.1.0",
            "suite",
            "1",
            "0/4",
            "0",
            "1",
            "0"
        ]
    );
    let one = node.cli(&["ps", "acts"]);
    assert!(
        one.output().contains("policy, when it was deployed"),
        "{}",
        one.output()
    );

    assert_eq!(node.cli(&["pause", "acts"]).code, Some(0));
    assert_eq!(node.shown("acts")["state"], "paused");
    let paused = node.cli(&["call", "@acts", "count"]);
    assert_eq!(
        (paused.code, paused.errors().as_str()),
        (REJECTED, "rejected: the deployment `acts` is paused [paused]\n")
    );
    node.call("acts", "count", "[]").is(409, "rejected", "paused");
    assert_eq!(node.cli(&["resume", "acts"]).code, Some(0));
    assert_eq!(node.call("acts", "count", "").good(), b"0");

    let again = node.cli(&[
        "deploy",
        &text(&bundle("reactor", "echoes")),
        "--name",
        "acts",
        "--json",
    ]);
    let shown: Value = serde_json::from_slice(&again.stdout).expect("is JSON");
    assert_eq!(
        (&shown["generation"], &shown["counted"]["calls"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(node.call("acts", "echo", "[2]").good(), b"[2]");
    node.call("acts", "wait", "[1]")
        .is(404, "rejected", "no-function");

    assert_eq!(node.cli(&["remove", "acts"]).code, Some(0));
    let gone = node.cli(&["call", "@acts", "count"]);
    assert_eq!(
        (gone.code, gone.errors().as_str()),
        (
            REJECTED,
            "rejected: there is no deployment `acts` [no-deployment]\n"
        )
    );
    assert_eq!(node.ask("GET", "/v1/deployments", b"").json(), json!([]));
    wait_for("the removed deployment's worker ends", || {
        node.workers().is_empty()
    });
    let done: Vec<String> = node.managed().into_iter().map(|(op, _)| op).collect();
    assert_eq!(done, ["deploy", "pause", "resume", "deploy", "remove"]);
}

#[test]
fn arguments_and_results_are_json_or_cbor_as_the_client_says() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let call = |headers: &[(&str, &str)], body: &[u8]| {
        let answer = http::ask(
            &node.socket(),
            "POST",
            &call_path("acts", "arguments"),
            headers,
            body,
        )
        .expect("answers");
        let form = answer.header("content-type").map(str::to_owned);
        assert!(answer.header("referee-call").is_some() && answer.header("referee-used-us").is_some());
        (form.expect("has a form"), answer.good())
    };
    let (json, cbor) = ("application/json".to_owned(), "application/cbor".to_owned());
    // [1, "a", h'ff'] of RFC 8949.
    let encoded = b"\x82\x01\x61a";
    let takes_cbor = ("content-type", "application/cbor");
    assert_eq!(call(&[], b"[1, \"a\"]"), (json.clone(), b"[1,\"a\"]".to_vec()));
    assert_eq!(call(&[takes_cbor], encoded), (cbor.clone(), encoded.to_vec()));
    assert_eq!(
        call(&[takes_cbor, ("accept", "application/json")], encoded),
        (json.clone(), b"[1,\"a\"]".to_vec())
    );
    assert_eq!(
        call(&[("accept", "application/CBOR;q=1")], b"[1, \"a\"]"),
        (cbor, encoded.to_vec())
    );
    assert_eq!(call(&[], b""), (json.clone(), b"[]".to_vec()));
    assert_eq!(
        call(&[], b"{\"price\": -2.5}"),
        (json, b"{\"price\":-2.5}".to_vec())
    );
}

#[test]
fn what_a_muscle_writes_is_kept_by_call_and_cannot_command_a_terminal() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let answer = node.call("acts", "log", "[]");
    let call = answer
        .header("referee-call")
        .map(str::to_owned)
        .expect("has a number");
    answer.good();
    let logs = node.cli(&["logs", "acts"]);
    assert_eq!(
        (logs.code, logs.output()),
        (Some(0), format!("{call:>6} out a \u{fffd}[31m line\n"))
    );
    let lines = node.ask("GET", "/v1/deployments/acts/logs", b"").good();
    let line: Value = serde_json::from_slice(&lines).expect("is one line of JSON");
    assert_eq!(
        (&line["stream"], &line["text"]),
        (&json!("out"), &json!("a \u{fffd}[31m line\n"))
    );
}

#[test]
fn a_follower_has_every_line_until_the_deployment_is_gone() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    node.call("acts", "log", "[]").good();
    let mut follower = node.command(&["logs", "-f", "acts"]).spawn().expect("starts");
    let mut lines = BufReader::new(follower.stdout.take().expect("is a pipe")).lines();
    let mut next = || lines.next().map(|line| line.expect("is text"));
    assert!(next().is_some_and(|line| line.ends_with(" line")));
    for _ in 0..3 {
        node.call("acts", "log", "[]").good();
        assert!(next().is_some_and(|line| line.ends_with(" line")));
    }
    assert_eq!(node.cli(&["remove", "acts"]).code, Some(0));
    assert_eq!(next(), None);
    let ended = Ended::of(follower).expect("ends");
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
}

#[test]
fn calls_under_way_end_in_the_old_generation() {
    let node = Node::start();
    node.deploy(&acts(), "one", &[]);
    node.deploy(&acts(), "two", &[]);
    let calls = [
        node.calling("one", "wait", "[22]"),
        node.calling("two", "wait", "[22]"),
    ];
    node.wait_until_running("one", 1);
    node.wait_until_running("two", 1);
    node.deploy(&bundle("reactor", "echoes"), "one", &[]);
    assert_eq!(node.cli(&["remove", "two"]).code, Some(0));
    // The new generation does not wait for the old.
    assert_eq!(node.call("one", "echo", "[5]").good(), b"[5]");
    assert!(
        !calls.iter().any(|call| call.is_finished()),
        "they were to be under way"
    );
    for call in calls {
        assert_eq!(call.join().expect("ends").expect("is answered").good(), b"null");
    }
    wait_for("old workers end", || node.workers().len() == 1);
}

#[test]
fn a_pause_lets_calls_under_way_end() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--cells", "1"]);
    let first = node.calling("acts", "wait", "[20]");
    node.wait_until_running("acts", 1);
    let second = node.calling("acts", "count", "[]");
    wait_for("the second call waits", || {
        node.shown("acts")["waiting"] == json!(1)
    });
    assert_eq!(node.cli(&["pause", "acts"]).code, Some(0));
    assert_eq!(first.join().expect("ends").expect("is answered").good(), b"null");
    second
        .join()
        .expect("ends")
        .expect("is answered")
        .is(409, "rejected", "paused");
}

#[test]
fn what_is_paused_stays_paused_with_another_bundle_and_over_a_restart() {
    let mut node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.cli(&["pause", "acts"]).code, Some(0));
    let ended = node.cli(&["deploy", &text(&bundle("reactor", "echoes")), "--name", "acts"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    assert!(ended.output().contains("it is paused"), "{}", ended.output());
    assert_eq!(node.shown("acts")["generation"], json!(2));
    node.call("acts", "echo", "[5]").is(409, "rejected", "paused");
    assert_eq!(node.stop().code(), Some(0));
    node.again();
    node.call("acts", "echo", "[5]").is(409, "rejected", "paused");
    assert_eq!(node.cli(&["resume", "acts"]).code, Some(0));
    assert_eq!(node.call("acts", "echo", "[5]").good(), b"[5]");
    // One that was removed has left no pause behind.
    assert_eq!(node.cli(&["pause", "acts"]).code, Some(0));
    assert_eq!(node.cli(&["remove", "acts"]).code, Some(0));
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}

#[test]
fn no_worker_outlives_its_deployment_however_early_it_is_replaced() {
    let node = Node::start();
    for round in 0..6 {
        node.deploy(&acts(), "acts", &[]);
        let call = node.calling("acts", "count", "[]");
        wait_for("the call is there", || {
            // From the moment it asks for a worker to the moment it has long been done.
            node.counted("acts", "workers_started") == 1
        });
        if round % 2 == 0 {
            assert_eq!(node.cli(&["remove", "acts"]).code, Some(0));
        } else {
            node.deploy(&acts(), "acts", &[]);
        }
        assert_eq!(call.join().expect("ends").expect("is answered").good(), b"0");
    }
    assert_eq!(node.cli(&["remove", "acts"]).code, Some(0));
    wait_for("no worker is left", || node.workers().is_empty());
}

#[test]
fn a_worker_without_calls_ends_and_the_next_call_has_a_new_one() {
    let node = Node::with("cells.idle_seconds = 1");
    node.deploy(&acts(), "acts", &["--keep-memory", "--ahead", "2"]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    let stats = node.ask("GET", "/v1/stats", b"").json();
    assert_eq!((&stats["deployments"], &stats["workers"]), (&json!(1), &json!(1)));
    wait_for("the worker ends", || node.workers().is_empty());
    wait_for("it is seen to be gone", || node.shown("acts")["state"] == "idle");
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    assert_eq!(node.counted("acts", "workers_started"), 2);
}

#[test]
fn kill_ends_calls_under_way_and_the_deployment_goes_on() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let call = node.calling("acts", "spin", "[]");
    node.wait_until_running("acts", 1);
    assert_eq!(node.cli(&["kill", "acts"]).code, Some(0));
    call.join()
        .expect("ends")
        .expect("is answered")
        .is(502, "host-error", "worker-gone");
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}
