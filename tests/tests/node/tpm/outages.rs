//! A TPM that dies or stalls while a node works: what was measured goes on, nothing else begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Host, NONCE, digest};
use crate::node::{Node, call_path};
use crate::processes::{children, is_alive};
use crate::{HOST_ERROR, acts, bundle, http, text, wait_for};

/// Somebody who calls a deployment all the time; every call must be good.
struct Load {
    ends: Arc<AtomicBool>,
    calls: Arc<AtomicU32>,
    thread: thread::JoinHandle<()>,
}

impl Load {
    fn on(node: &Node, name: &str) -> Load {
        let (socket, path) = (node.socket(), call_path(name, "count"));
        let (ends, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (over, counted) = (Arc::clone(&ends), Arc::clone(&calls));
        let thread = thread::spawn(move || {
            while !over.load(Ordering::Acquire) {
                let answer = http::ask(&socket, "POST", &path, &[], b"[]").expect("is answered");
                assert_eq!(answer.good(), b"0");
                counted.fetch_add(1, Ordering::AcqRel);
            }
        });
        Load { ends, calls, thread }
    }

    /// Waits until so many calls more are over.
    fn goes_on(&self) {
        let before = self.calls.load(Ordering::Acquire);
        wait_for("calls go on", || self.calls.load(Ordering::Acquire) > before + 3);
    }

    fn end(self) {
        self.ends.store(true, Ordering::Release);
        self.thread.join().expect("every call was good");
    }
}

/// Waits until the node says this about its TPM, and gives its words.
fn wait_for_health(node: &Node, serves: bool) -> String {
    let mut words = String::new();
    wait_for("its health is told", || {
        let health = node.ask("GET", "/health", b"").json();
        let degraded = health["degraded"].as_array().expect("is a list").clone();
        assert_eq!(health["ready"], true, "{health}");
        let found = degraded.iter().find(|one| one["name"] == "tpm-not-serving");
        words = found
            .and_then(|one| one["message"].as_str())
            .unwrap_or_default()
            .to_owned();
        found.is_none() == serves
    });
    words
}

fn gauge(node: &Node) -> bool {
    let metrics = String::from_utf8(node.ask("GET", "/metrics", b"").good()).expect("is text");
    metrics.contains("referee_degraded{reason=\"tpm-not-serving\"} 1\n")
}

#[test]
fn a_tpm_that_dies_under_load_stops_what_is_new_and_nothing_else() {
    let mut host = Host::new();
    host.node.deploy(&acts(), "acts", &[]);
    let load = Load::on(&host.node, "acts");
    load.goes_on();
    host.chip.kill();
    let words = wait_for_health(&host.node, false);
    assert!(words.contains("tpm-unreachable"), "{words}");
    assert!(gauge(&host.node));
    // A bundle that is measured needs no TPM for another worker, or another deployment.
    load.goes_on();
    host.node.deploy(&acts(), "more", &[]);
    assert_eq!(host.node.call("more", "count", "[]").good(), b"0");
    let courier = bundle("reactor", "courier");
    let wires = [
        "--bind=ask=channel:a",
        "--bind=from=channel:b",
        "--bind=to=channel:c",
    ];
    let words = text(&courier);
    let mut deploy = vec!["deploy", words.as_str(), "--name", "new"];
    deploy.extend(wires);
    let ended = host.node.cli(&deploy);
    assert_eq!(ended.code, HOST_ERROR, "{}", ended.errors());
    assert!(ended.errors().contains("tpm-unreachable"), "{}", ended.errors());
    host.node
        .ask("GET", "/v1/deployments/new", b"")
        .is(404, "rejected", "no-deployment");
    let ended = host.attest(NONCE);
    assert_eq!(ended.code, HOST_ERROR, "{}", ended.errors());
    load.goes_on();
    // Its registers are zero now: they are told again what runs here before anything else is asked.
    host.chip.start();
    wait_for_health(&host.node, true);
    assert!(!gauge(&host.node));
    assert_eq!(host.bundles(), [digest(&acts())]);
    host.node.deploy(&courier, "new", &wires);
    assert_eq!(host.bundles(), [digest(&acts()), digest(&courier)]);
    load.end();
}

#[test]
fn a_tpm_that_stalls_holds_up_nobody_who_does_not_need_it() {
    let host = Host::new();
    host.node.deploy(&acts(), "acts", &[]);
    let load = Load::on(&host.node, "acts");
    load.goes_on();
    host.chip.stall();
    let wires = [
        "--bind=ask=channel:a",
        "--bind=from=channel:b",
        "--bind=to=channel:c",
    ];
    let words = text(&bundle("reactor", "courier"));
    let mut deploy = vec!["deploy", words.as_str(), "--name", "new"];
    deploy.extend(wires);
    let deploying = host.node.command(&deploy).spawn().expect("starts");
    let begun = Instant::now();
    for _ in 0..5 {
        for (method, path) in [
            ("GET", "/v1/deployments"),
            ("GET", "/health"),
            ("GET", "/metrics"),
        ] {
            host.node.ask(method, path, b"").good();
        }
    }
    host.node.deploy(&acts(), "more", &[]);
    assert_eq!(host.node.cli(&["pause", "more"]).code, Some(0));
    assert_eq!(host.node.cli(&["remove", "more"]).code, Some(0));
    load.goes_on();
    let took = begun.elapsed();
    let ended = referee_tests::Ended::of(deploying).expect("ends");
    assert_eq!(ended.code, HOST_ERROR, "{}", ended.errors());
    assert!(ended.errors().contains("tpm-stalled"), "{}", ended.errors());
    // None of it waited for the TPM to be given up, which takes two times its patience when one look is under way.
    assert!(took < Duration::from_secs(8), "{took:?}");
    let words = wait_for_health(&host.node, false);
    assert!(words.contains("tpm-stalled"), "{words}");
    host.chip.go_on();
    wait_for_health(&host.node, true);
    host.node.deploy(&bundle("reactor", "courier"), "new", &wires);
    load.end();
}

/// Processes that have the TPM, of this node.
fn askers(node: &Node) -> Vec<u32> {
    let mut all: Vec<u32> = children(node.pid()).into_iter().flat_map(children).collect();
    all.retain(|pid| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.trim_end() == "referee-tpm"
    });
    all
}

#[test]
fn nothing_of_a_node_that_has_ended_waits_for_its_tpm() {
    // Long enough that nobody gives the TPM up before the node ends.
    let mut host = Host::patient("", 600);
    host.node.deploy(&acts(), "acts", &[]);
    host.chip.stall();
    let mut asking = Vec::new();
    wait_for("it looks at the TPM", || {
        asking = askers(&host.node);
        !asking.is_empty()
    });
    assert_eq!(host.node.stop().code(), Some(0), "{}", host.node.words());
    wait_for("whoever asked the TPM is gone", || {
        !asking.iter().any(|pid| is_alive(*pid))
    });
}

#[test]
fn after_a_restart_nothing_runs_until_it_is_measured_again() {
    let mut host = Host::new();
    host.node.deploy(&acts(), "acts", &[]);
    assert_eq!(host.node.stop().code(), Some(0));
    host.node.again();
    host.chip.kill();
    let answers: Vec<(u16, Value)> = (0..3)
        .map(|_| host.node.calling("acts", "count", "[]"))
        .map(|call| call.join().expect("ends").expect("is answered"))
        .map(|answer| (answer.status, answer.json()))
        .collect();
    for (status, answer) in answers {
        assert_eq!(status, 500, "{answer}");
        assert_eq!(answer["error"]["kind"], "host-error", "{answer}");
        assert!(answer.to_string().contains("tpm-unreachable"), "{answer}");
    }
    assert!(host.node.workers().is_empty());
    host.chip.start();
    wait_for_health(&host.node, true);
    assert_eq!(host.node.call("acts", "count", "[]").good(), b"0");
    assert_eq!(host.bundles(), [digest(&acts())]);
}
