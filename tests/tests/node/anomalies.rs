//! A deployment that turns bad after good calls is said to have; one that stays as it was is not.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::acts;
use crate::node::Node;

/// Far beyond what a slow host takes for the calls that are needed.
const ENOUGH: Duration = Duration::from_secs(180);

/// Calls again and again, until the condition holds.
fn call_until(node: &Node, functions: &[&str], mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + ENOUGH;
    while !holds() {
        assert!(
            Instant::now() < give_up,
            "calls make no difference: {:?}",
            alerts(node)
        );
        for function in functions {
            node.call("acts", function, "[]");
        }
    }
}

fn alerts(node: &Node) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("is text").to_owned();
    let shown = node.shown("acts");
    let anomalies = shown["anomalies"].as_array().expect("is a list").clone();
    let pair = |one: &Value| (text(&one["signal"]), text(&one["reason"]));
    anomalies.iter().map(pair).collect()
}

#[test]
fn a_muscle_that_turns_bad_after_good_calls_is_found_and_one_that_does_not_is_not() {
    // A comparison every 50 ms; a sample per call is made of 20 calls at least, and 30 samples are learnt from.
    let node = Node::with("anomalies.window_ms = 50");
    node.deploy(&acts(), "acts", &[]);
    node.deploy(&acts(), "other", &[]);
    let (begun, mut good) = (Instant::now(), 0);
    call_until(&node, &["count", "count", "count", "log"], || {
        good += 4;
        node.call("other", "count", "[]");
        // Enough for 30 samples, on a fast host, where each window makes one, and on a slow one, where 20 calls do.
        good >= 1500 && begun.elapsed() > Duration::from_secs(4)
    });
    let faults = |node: &Node| alerts(node).iter().any(|(signal, _)| signal == "faults");
    assert!(!faults(&node), "{:?}", alerts(&node));
    call_until(&node, &["fault", "count"], || faults(&node));
    let found = alerts(&node);
    let (_, reason) = found
        .iter()
        .find(|(signal, _)| signal == "faults")
        .expect("is there");
    assert!(
        reason.starts_with("faults a call: ") && reason.ends_with("usual are 0.000 ± 0.000"),
        "{reason}"
    );
    // Everywhere that somebody may look.
    let ps = node.cli(&["ps", "acts"]);
    assert!(
        ps.output().contains(&format!("alert: {reason}\n")),
        "{}",
        ps.output()
    );
    let metrics = String::from_utf8(node.ask("GET", "/metrics", b"").good()).expect("is text");
    for (deployment, value) in [("acts", 1), ("other", 0)] {
        let line = format!(
            "referee_deployment_anomalous{{deployment=\"{deployment}\",signal=\"faults\"}} {value}\n"
        );
        assert!(metrics.contains(&line), "{metrics}");
    }
    assert!(
        node.words()
            .contains(&format!("acts behaves otherwise than it used to: {reason}")),
        "{}",
        node.words()
    );
    let records = node.records();
    let recorded = |op: &str| {
        let alerts = records.iter().filter(|record| record["op"] == json!(op));
        alerts
            .filter(|record| record.pointer("/detail/signal") == Some(&json!("faults")))
            .map(|record| record["detail"].clone())
            .collect::<Vec<_>>()
    };
    let [alert]: [Value; 1] = recorded("alert").try_into().expect("is said once");
    assert_eq!(
        (&alert["by"], &alert["deployment"], &alert["reason"]),
        (&json!("node"), &json!("acts"), &json!(reason))
    );
    // Well again, and said to be.
    call_until(&node, &["count"], || !faults(&node));
    assert!(node.managed().contains(&("alert-over".into(), "acts".into())));
}

#[test]
fn nothing_is_compared_where_the_configuration_says_so() {
    let node = Node::with("anomalies.window_ms = 0");
    node.deploy(&acts(), "acts", &[]);
    for function in ["count", "fault"] {
        for _ in 0..50 {
            node.call("acts", function, "[]");
        }
    }
    assert_eq!(alerts(&node), []);
}
