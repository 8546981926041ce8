//! The OpenAPI document against the router and against the page for people: none of the three says anything that another does not.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::node::Node;

const PAGE: &str = include_str!("../../../docs/api.md");
const METHODS: [&str; 5] = ["GET", "PUT", "POST", "DELETE", "PATCH"];

/// Method and path, with the names of its parts in braces.
type Route = (String, String);

fn document(node: &Node) -> Value {
    let answer = node.ask("GET", "/v1/openapi.json", b"");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

fn routes(document: &Value) -> BTreeSet<Route> {
    let paths = document["paths"].as_object().expect("has paths");
    let routes = paths.iter().flat_map(|(path, operations)| {
        let operations = operations.as_object().expect("has operations");
        operations
            .keys()
            .map(|method| (method.to_uppercase(), path.clone()))
    });
    routes.collect()
}

/// The cells of the rows of a table whose heading has this first cell.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let lines = PAGE
        .lines()
        .skip_while(|line| !line.starts_with(&format!("| {heading} |")));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<&str>> = rows
        .map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(!rows.is_empty(), "no table {heading}");
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The routes of the page, where `POST /v1/x/pause`, `resume` is two of them.
fn routes_of_page() -> BTreeSet<Route> {
    let mut routes = BTreeSet::new();
    for row in rows("method and path") {
        let mut last: Option<Route> = None;
        for quoted in quoted(row.first().expect("has a cell")) {
            let (method, path) = match (quoted.split_once(' '), &last) {
                (Some((method, path)), _) => (method.to_owned(), path.to_owned()),
                (None, Some((method, _))) if quoted.starts_with('/') => (method.clone(), quoted.to_owned()),
                (None, Some((method, path))) => {
                    let (before, _) = path.rsplit_once('/').expect("has a slash");
                    (method.clone(), format!("{before}/{quoted}"))
                }
                (None, None) => panic!("no method: {quoted}"),
            };
            let path = path.split('?').next().unwrap_or_default();
            let path = path
                .replace("DIGEST", "{digest}")
                .replace("NAME", "{name}")
                .replace("FUNCTION", "{function}")
                .replace("SLOT", "{slot}")
                .replace("/ID", "/{snapshot}");
            last = Some((method, path));
            routes.extend(last.clone());
        }
    }
    routes
}

#[test]
fn the_document_names_exactly_the_routes_that_there_are() {
    let node = Node::start();
    let document = document(&node);
    assert_eq!(document["openapi"], "3.1.0");
    let described = routes(&document);
    assert_eq!(described, routes_of_page());
    let paths: BTreeSet<&String> = described.iter().map(|(_, path)| path).collect();
    for path in paths {
        let there = path
            .replace("{digest}", &"0".repeat(64))
            .replace("{snapshot}", &"0".repeat(64))
            .replace("{name}", "none")
            .replace("{function}", "none")
            .replace("{slot}", "none");
        for method in METHODS {
            let status = node.ask(method, &there, b"").status;
            let is_described = described.contains(&(method.to_owned(), path.clone()));
            assert_eq!(status != 405, is_described, "{method} {path}: {status}");
        }
    }
}

#[test]
fn the_document_names_exactly_the_errors_that_there_are() {
    let node = Node::start();
    let document = document(&node);
    // What each status of an error may be, by the page.
    let mut by_page: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows("status") {
        let [statuses, kinds, _] = row.as_slice() else {
            panic!("{row:?}");
        };
        for status in statuses.split(", ") {
            let kinds = quoted(kinds).map(str::to_owned);
            by_page.entry(status.to_owned()).or_default().extend(kinds);
        }
    }
    // The paths that the document names have their methods.
    by_page.remove("405").expect("is on the page");
    // 429 and 503 share a row.
    let by_page_kinds: BTreeSet<String> = by_page.values().flatten().cloned().collect();
    let kinds = document.pointer("/components/schemas/ErrorKind/enum");
    let kinds = kinds.or_else(|| document.pointer("/components/schemas/ErrorKind/oneOf"));
    let kinds: BTreeSet<String> = kinds
        .and_then(Value::as_array)
        .expect("has kinds")
        .iter()
        .map(|kind| {
            let kind = kind.pointer("/enum/0").unwrap_or(kind);
            kind.as_str().expect("is text").to_owned()
        })
        .collect();
    assert_eq!(kinds, by_page_kinds);
    let mut by_document: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for operation in document["paths"].as_object().expect("has paths").values() {
        for operation in operation.as_object().expect("has operations").values() {
            for (status, response) in operation["responses"].as_object().expect("has responses") {
                let schema = response.pointer("/content/application~1json/schema/$ref");
                // How a node is that ends is no error.
                let is_health = schema == Some(&"#/components/schemas/Health".into());
                if status.starts_with('2') || is_health {
                    continue;
                }
                let description = response["description"].as_str().expect("is described");
                let named = quoted(description).filter(|word| kinds.contains(*word));
                by_document
                    .entry(status.clone())
                    .or_default()
                    .extend(named.map(str::to_owned));
                assert_eq!(schema, Some(&"#/components/schemas/Explained".into()), "{status}");
            }
        }
    }
    assert_eq!(
        by_document.keys().collect::<Vec<_>>(),
        by_page.keys().collect::<Vec<_>>()
    );
    for (status, kinds) in &by_document {
        assert!(!kinds.is_empty(), "{status} has no kind");
        let on_page = by_page.get(status).expect("compared above");
        assert!(
            kinds.is_subset(on_page),
            "{status}: {kinds:?}, on the page {on_page:?}"
        );
    }
}

#[test]
fn the_command_line_prints_what_the_node_gives() {
    let node = Node::start();
    let printed = node.cli(&["config", "openapi"]);
    assert_eq!(printed.code, Some(0));
    let given = node.ask("GET", "/v1/openapi.json", b"");
    assert_eq!(printed.stdout, given.good());
}
