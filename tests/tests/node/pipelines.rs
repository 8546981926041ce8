//! Pipelines, and the examples `feed` and `desk`, which speak over channels.

use std::fs;

use referee_tests::shop;
use serde_json::json;

use crate::node::Node;
use crate::{REJECTED, acts, text, wait_for};

fn call(node: &Node, name: &str, arguments: &str) -> crate::http::Answer {
    node.ask(
        "POST",
        &format!("/v1/pipelines/{name}/call"),
        arguments.as_bytes(),
    )
}

#[track_caller]
fn good(node: &Node, words: &[&str]) -> String {
    let ended = node.cli(words);
    assert_eq!(ended.code, Some(0), "{words:?}: {}", ended.errors());
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

#[test]
fn each_step_is_called_with_what_the_one_before_answered() {
    let node = Node::start();
    for name in ["first", "second", "third"] {
        node.deploy(&acts(), name, &[]);
    }
    good(
        &node,
        &[
            "pipeline",
            "define",
            "p",
            "first/arguments | second/arguments|third/arguments",
        ],
    );
    assert_eq!(call(&node, "p", r#"["a", 1]"#).good(), br#"[[["a",1]]]"#);
    assert_eq!(good(&node, &["pipeline", "call", "p", "[7]"]), "[[[7]]]\n");
    assert_eq!(
        good(&node, &["pipeline", "ls"]),
        "p = first/arguments | second/arguments | third/arguments\n"
    );
    // Each step is a call of its own deployment, with a life of its own in the log.
    for name in ["first", "second", "third"] {
        assert_eq!(node.counted(name, "returned"), 2);
    }
    let records = node.records();
    let starts = records.iter().filter(|record| record["kind"] == "start");
    assert_eq!(starts.count(), 3);
    // One step is enough, and one deployment may have several.
    good(
        &node,
        &["pipeline", "define", "p", "first/arguments | first/count"],
    );
    assert_eq!(call(&node, "p", "[]").good(), b"0");
    good(&node, &["pipeline", "remove", "p"]);
    call(&node, "p", "[]").is(404, "rejected", "no-pipeline");
    let ops: Vec<String> = node.managed().into_iter().map(|(op, _)| op).skip(3).collect();
    assert_eq!(ops, ["define-pipeline", "define-pipeline", "remove-pipeline"]);
}

#[test]
fn an_error_names_the_step_that_had_it() {
    let node = Node::start();
    for name in ["a", "b"] {
        node.deploy(&acts(), name, &[]);
    }
    let define = |steps: &str| good(&node, &["pipeline", "define", "p", steps]);
    for (steps, status, kind, name, place) in [
        (
            "a/count | b/fault",
            502,
            "fault",
            "invalid-opcode",
            "step 2 of 2, b/fault: ",
        ),
        (
            "a/fault | b/count",
            502,
            "fault",
            "invalid-opcode",
            "step 1 of 2, a/fault: ",
        ),
        (
            "a/count | b/refuse",
            422,
            "function",
            "application",
            "step 2 of 2, b/refuse: not me",
        ),
        (
            "a/count | b/quit | a/count",
            502,
            "fault",
            "exited",
            "step 2 of 3, b/quit: ",
        ),
    ] {
        define(steps);
        let answer = call(&node, "p", "[]");
        answer.is(status, kind, name);
        assert!(answer.message().starts_with(place), "{}", answer.message());
    }
    define("a/count | b/count");
    let calls = node.counted("a", "calls");
    good(&node, &["pause", "b"]);
    let answer = call(&node, "p", "[]");
    answer.is(409, "rejected", "paused");
    assert!(
        answer.message().starts_with("step 2 of 2, b/count: "),
        "{}",
        answer.message()
    );
    assert_eq!(
        node.counted("a", "calls"),
        calls + 1,
        "what came before had its effect"
    );
    good(&node, &["remove", "b"]);
    let answer = call(&node, "p", "[]");
    answer.is(404, "rejected", "no-deployment");
    assert!(
        answer.message().starts_with("step 2 of 2"),
        "{}",
        answer.message()
    );
    call(&node, "p", "[").is(400, "rejected", "arguments-invalid");
}

#[test]
fn a_pipeline_of_what_is_not_there_is_refused_and_a_good_one_survives_the_service() {
    let mut node = Node::start();
    node.deploy(&acts(), "a", &[]);
    let put = |name: &str, steps: serde_json::Value| {
        let body = json!({ "steps": steps }).to_string();
        node.ask("PUT", &format!("/v1/pipelines/{name}"), body.as_bytes())
    };
    let step = |deployment: &str, function: &str| json!({"deployment": deployment, "function": function});
    put("p", json!([step("a", "nothing")])).is(422, "rejected", "step-unknown");
    put("p", json!([step("a", "count"), step("b", "count")])).is(422, "rejected", "step-unknown");
    put("p", json!([])).is(422, "rejected", "steps-invalid");
    put("p", json!(vec![step("a", "count"); 17])).is(422, "rejected", "steps-invalid");
    put("P", json!([step("a", "count")])).is(422, "rejected", "name-invalid");
    put("p", json!([["a", "count"]])).is(400, "rejected", "body-invalid");
    assert_eq!(put("p", json!([step("a", "count")])).status, 204);
    let ended = node.cli(&["pipeline", "define", "p", "a"]);
    assert_eq!(ended.code, REJECTED);
    assert!(ended.errors().contains("[steps-invalid]"), "{}", ended.errors());
    assert_eq!(node.stop().code(), Some(0));
    node.again();
    assert_eq!(call(&node, "p", "[]").good(), b"0");
}

#[test]
fn whoever_calls_a_pipeline_must_be_permitted_to_call_each_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.cedar");
    fs::write(
        &path,
        "@id(\"all\") permit (principal, action, resource);\n\
         @id(\"not-b\") forbid (principal, action == Action::\"call\", resource == Deployment::\"b\");\n\
         @id(\"not-q\") forbid (principal, action in [Action::\"define\", Action::\"see\"], resource == Pipeline::\"q\");\n",
    )
    .expect("is written");
    let node = Node::with(&format!("api.policies = ['{}']", text(&path)));
    for name in ["a", "b"] {
        node.deploy(&acts(), name, &[]);
    }
    good(&node, &["pipeline", "define", "p", "a/count | b/count"]);
    let answer = call(&node, "p", "[]");
    answer.is(403, "rejected", "not-permitted");
    assert!(
        answer.message().starts_with("step 2 of 2, b/count: "),
        "{}",
        answer.message()
    );
    assert_eq!(node.counted("a", "calls"), 0, "nothing was called");
    let ended = node.cli(&["pipeline", "define", "q", "a/count"]);
    assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    call(&node, "q", "[]").is(403, "rejected", "not-permitted");
}

/// The shop's muscles on a node of the suite: its trust store takes the place of the suite's.
fn node_of_the_shop() -> Node {
    let shop = shop().expect("is furnished");
    let node = Node::start();
    fs::copy(shop.join("trust.store"), node.path("trust.store")).expect("is copied");
    good(&node, &["reload"]);
    for name in ["feed", "desk"] {
        let file = format!("{name}.muscle");
        fs::copy(shop.join(&file), node.path(&file)).expect("is copied");
    }
    node
}

#[test]
fn the_examples_publish_ask_and_are_a_pipeline() {
    let node = node_of_the_shop();
    fs::write(
        node.path("desk.toml"),
        "[deployments.feed]\n\
         bundle = 'feed.muscle'\n\
         settings = { bindings = ['ticks=channel:ticks', 'orders=channel:orders'] }\n\
         [deployments.desk]\n\
         bundle = 'desk.muscle'\n\
         settings = { cells = 1, fresh = false, bindings = ['ticks=channel:ticks', 'orders=channel:orders'] }\n\
         [pipelines]\n\
         lot = 'feed/parse | desk/value'\n",
    )
    .expect("is written");
    let file = text(&node.path("desk.toml"));
    let said = good(&node, &["deploy", "--file", &file]);
    for words in [
        "desk is deployed: desk 0.1.0",
        "feed is deployed",
        "lot is defined: feed/parse | desk/value",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let ask = |symbol: &str| {
        node.call(
            "feed",
            "ask",
            &json!([{"symbol": symbol, "quantity": 4}]).to_string(),
        )
    };
    let answer = ask("ACME");
    answer.is(422, "function", "application");
    assert!(
        answer.message().contains("ACME is not traded here"),
        "{}",
        answer.message()
    );
    assert_eq!(
        node.call("feed", "publish", r#"[["ACME 12.5", "BOLT 3"]]"#)
            .good(),
        b"1"
    );
    wait_for("both are taken", || node.counted("desk", "messages_taken") == 2);
    assert_eq!(ask("ACME").good(), b"50.0");
    assert_eq!(
        good(&node, &["pipeline", "call", "lot", "[\"ACME 2.5\"]"]),
        "250.0\n"
    );
    let answer = call(&node, "lot", "[\"ACME\"]");
    answer.is(422, "function", "application");
    assert!(
        answer.message().starts_with("step 1 of 2, feed/parse: "),
        "{}",
        answer.message()
    );
    // The file may be deployed again: it says what is to be.
    good(&node, &["deploy", "--file", &file]);
    assert_eq!(node.shown("desk")["generation"], json!(2));
    // One that is wrong changes nothing.
    fs::write(
        node.path("desk.toml"),
        "[deployments.new]\nbundle = 'nowhere.muscle'\n",
    )
    .expect("is written");
    let ended = node.cli(&["deploy", "--file", &file]);
    assert_ne!(ended.code, Some(0));
    assert!(ended.errors().contains("nowhere.muscle"), "{}", ended.errors());
    for words in [&["deploy"][..], &["deploy", "--file", &file, "--cells", "2"]] {
        assert_eq!(node.cli(words).code, Some(100), "{words:?}");
    }
}
