//! The page about metrics says what a node under load shows: the same names, types, labels and words, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::acts;
use crate::health::{ask, watched};

/// A metric, as the page and the node describe it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Described {
    kind: String,
    labels: BTreeSet<String>,
    help: String,
}

/// The rows of the page's table.
fn documented() -> BTreeMap<String, Described> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("is there");
    let mut all = BTreeMap::new();
    for row in page.lines().filter(|line| line.starts_with("| `referee_")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, help] = cells.as_slice() else {
            panic!("{row}");
        };
        let labels = labels
            .split(',')
            .map(|label| label.trim().trim_matches('`').to_owned());
        let described = Described {
            kind: (*kind).to_owned(),
            labels: labels.filter(|label| !label.is_empty()).collect(),
            help: (*help).to_owned(),
        };
        let former = all.insert(name.trim_matches('`').to_owned(), described);
        assert_eq!(former, None, "{name} stands there twice");
    }
    all
}

/// What a scrape says, with the labels of its samples. Each sample must belong to a metric that was described before it.
fn scraped(text: &str) -> BTreeMap<String, Described> {
    let mut all: BTreeMap<String, Described> = BTreeMap::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("has words");
            let described = all.entry(name.to_owned()).or_default();
            // The exporter ends each with a full stop.
            described.help = help.trim_end_matches('.').to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("has one");
            all.get_mut(name).expect("was described").kind = kind.to_owned();
        } else {
            let name: String = line.chars().take_while(|c| !matches!(c, '{' | ' ')).collect();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| {
                    name.strip_suffix(suffix)
                        .filter(|family| all.contains_key(*family))
                })
                .unwrap_or(&name);
            let described = all
                .get_mut(family)
                .unwrap_or_else(|| panic!("nobody described {line}"));
            let labels = line
                .split_once('{')
                .map_or("", |(_, rest)| rest.split('}').next().unwrap_or_default());
            let keys = labels
                .split(',')
                .filter_map(|label| label.split_once('='))
                .map(|(key, _)| key.to_owned());
            described.labels.extend(keys.filter(|key| key != "le"));
            let value = line.rsplit(' ').next().unwrap_or_default();
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
        }
    }
    all
}

fn value(text: &str, series: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    let value = line.and_then(|rest| rest.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {series}: {text}"))
}

#[test]
fn the_page_has_just_what_a_node_under_load_shows() {
    let (node, address) = watched("");
    node.deploy(&acts(), "acts", &[]);
    let busy: Vec<_> = (0..3).map(|_| node.calling("acts", "wait", "[2]")).collect();
    for function in ["count", "fault", "quit", "refuse", "deny"] {
        node.call("acts", function, "[]");
    }
    for call in busy {
        call.join().expect("ends").expect("is answered").good();
    }
    let text = String::from_utf8(ask(address, "GET", "/metrics").good()).expect("is text");
    let (page, said) = (documented(), scraped(&text));
    let names = |all: &BTreeMap<String, Described>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&page), names(&said));
    for (name, described) in &page {
        assert_eq!(Some(described), said.get(name), "{name}");
    }
    let of = |what: &str| {
        value(
            &text,
            &format!("referee_deployment_{what}{{deployment=\"acts\"}}"),
        )
    };
    assert_eq!(of("calls_total"), 8.0);
    assert_eq!(of("returned_total"), 4.0);
    assert_eq!(of("faults_total"), 3.0);
    // Each refusal up to the limit is one.
    assert!(of("denials_total") >= 1000.0, "{text}");
    assert!(of("exits_total") >= 1000.0);
    for histogram in ["call", "wait"] {
        assert_eq!(of(&format!("{histogram}_seconds_count")), 8.0);
        let all = format!("referee_deployment_{histogram}_seconds_bucket{{deployment=\"acts\",le=\"+Inf\"}}");
        assert_eq!(value(&text, &all), 8.0);
    }
    // Three calls waited for 0.2 s each, and none of them for a second.
    assert!(of("call_seconds_sum") >= 0.6, "{text}");
    let quick = "referee_deployment_call_seconds_bucket{deployment=\"acts\",le=\"0.1\"}";
    assert!(value(&text, quick) <= 5.0, "{text}");
}

#[test]
fn top_prints_each_deployment_once_and_needs_a_terminal_to_go_on() {
    let node = crate::node::Node::start();
    node.deploy(&acts(), "acts", &[]);
    node.deploy(&acts(), "other", &[]);
    node.call("acts", "count", "[]").good();
    node.call("acts", "fault", "[]");
    let top = node.cli(&["top", "--once", "--interval-ms", "200"]);
    assert_eq!(top.code, Some(0), "{}", top.errors());
    let text = top.output();
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(text.starts_with(&node.socket().display().to_string()), "{text}");
    assert_eq!(
        lines[1],
        [
            "NAME", "STATE", "CALLS/S", "P50", "P99", "FAULTS", "SLOT%", "RUN+WAIT", "ALERTS"
        ]
    );
    // Nothing was called between the two looks.
    assert_eq!(lines[2], ["acts", "ready", "0.0", "-", "-", "1", "0.0", "0/4+0"]);
    assert_eq!(lines[3], ["other", "idle", "0.0", "-", "-", "0", "0.0", "0/4+0"]);
    assert_eq!(lines.len(), 4);
    let top = node.cli(&["top"]);
    assert_eq!(top.code, crate::REJECTED);
    assert!(top.errors().contains("top --once"), "{}", top.errors());
}

#[test]
fn the_api_shows_the_same_as_counts() {
    let node = crate::node::Node::start();
    node.deploy(&acts(), "acts", &[]);
    node.call("acts", "wait", "[2]").good();
    node.call("acts", "count", "[]").good();
    let shown = node.shown("acts");
    for what in ["called", "waited"] {
        let counts = shown[what]["counts"].as_array().expect("is a list");
        let sum: u64 = counts.iter().filter_map(serde_json::Value::as_u64).sum();
        assert_eq!((counts.len(), sum), (19, 2), "{what}: {shown}");
    }
    assert!(shown["called"]["sum_us"].as_u64() >= Some(200_000), "{shown}");
}
