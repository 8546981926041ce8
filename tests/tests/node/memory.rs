//! Memory that is given out, cells that nobody calls, and a kernel that has none left.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::node::Node;
use crate::processes::is_alive;
use crate::{HOST_ERROR, acts, bundle, text, wait_for};

/// What a worker of `acts` takes without cells that calls have, and each such cell: 1 MiB and as much beside it.
const MIB: u64 = 1 << 20;

/// A node on which so many MiB are given out, none twice, and on which two calls run at once.
fn node(mebibytes: u64, more: &str) -> Node {
    Node::with(&format!(
        "cells.slots = 2\nmemory.budget_bytes = {}\nmemory.overcommit_percent = 100\n{more}",
        mebibytes * MIB
    ))
}

fn memory(node: &Node) -> Value {
    node.ask("GET", "/health", b"").json()["memory"].clone()
}

#[test]
fn what_deployments_may_take_together_is_bounded_and_the_refusal_has_the_figures() {
    // Four cells, two that are being reset, one on its way to swap, at 2 MiB each, and 8 MiB of the worker's own.
    let node = node(45, "");
    node.deploy(&acts(), "one", &[]);
    node.deploy(&acts(), "two", &[]);
    let bundle = text(&acts());
    let refused = node.cli(&["deploy", &bundle, "--name", "three"]);
    assert_eq!(refused.code, HOST_ERROR);
    for part in [
        "busy: ",
        "deployment `three`",
        &(22 * MIB).to_string(),
        &MIB.to_string(),
        &(45 * MIB).to_string(),
        "memory.budget_bytes",
        "[memory]",
    ] {
        assert!(refused.errors().contains(part), "{part}: {}", refused.errors());
    }
    assert_eq!(memory(&node)["promised_bytes"], json!(44 * MIB));
    assert!(node.managed().contains(&("refuse".into(), "three".into())));
    // In the place of its own, and after one is gone, there is room.
    node.deploy(&acts(), "two", &["--cells", "2"]);
    assert_eq!(node.cli(&["remove", "one"]).code, Some(0));
    node.deploy(&acts(), "three", &[]);
    let mut node = node;
    let promised = memory(&node)["promised_bytes"].clone();
    assert_eq!(node.stop().code(), Some(0));
    node.again();
    assert_eq!(memory(&node)["promised_bytes"], promised);
}

#[test]
fn a_publisher_has_no_more_than_its_limit() {
    let mut node = node(1000, "");
    node.deploy(&acts(), "acts", &["--cells", "1"]);
    let publisher = node.shown("acts")["publisher"]
        .as_str()
        .expect("has one")
        .to_owned();
    assert_eq!(node.stop().code(), Some(0));
    let limited = format!(
        "cells.slots = 2\nmemory.budget_bytes = {}\ntenants.{publisher}.memory_bytes = {}",
        1000 * MIB,
        16 * MIB
    );
    crate::node::configure(node.folder(), &limited);
    node.again();
    // The worker with two cells in hands is 12 MiB, and one for a call 14.
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    node.deploy(&acts(), "other", &["--cells", "1"]);
    let busy = node.calling("acts", "wait", "[40]");
    node.wait_until_running("acts", 1);
    let refused = node.call("other", "count", "[]");
    refused.is(429, "busy", "memory");
    let limit = format!("tenants.{publisher}.memory_bytes");
    assert!(refused.message().contains(&limit), "{}", refused.message());
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(busy.join().expect("ends").expect("is answered").good(), b"null");
    // Nothing is under way on that any more, so it makes room.
    assert_eq!(node.call("other", "count", "[]").good(), b"0");
    assert_eq!(node.shown("acts")["state"], "idle");
    assert_eq!(node.shown("acts")["worker_failures"], json!(0));
}

#[test]
fn whoever_nobody_calls_makes_room_and_whoever_is_called_does_not() {
    // Each worker with one call's cell takes 16 MiB.
    let node = Node::with(&format!(
        "cells.slots = 2\nmemory.budget_bytes = {}\nmemory.overcommit_percent = 1000\nmemory.idle_seconds = 0\nmemory.near_percent = 100",
        36 * MIB
    ));
    for name in ["one", "two", "three"] {
        node.deploy(&acts(), name, &["--cells", "2"]);
    }
    assert_eq!(node.call("one", "count", "[]").good(), b"0");
    assert_eq!(node.call("two", "count", "[]").good(), b"0");
    assert_eq!(memory(&node)["taken_bytes"], json!(32 * MIB));
    assert_eq!(node.call("three", "count", "[]").good(), b"0");
    assert_eq!(
        node.shown("one")["state"],
        "idle",
        "nobody has called it for longest"
    );
    assert_eq!(node.shown("two")["state"], "ready");
    // With calls under way on both, nobody can make room.
    let busy = ["two", "three"].map(|name| {
        let call = node.calling(name, "wait", "[40]");
        wait_for("it runs", || node.shown(name)["running"] == json!(1));
        call
    });
    node.call("one", "count", "[]").is(429, "busy", "memory");
    let taken = memory(&node)["taken_bytes"].as_u64().expect("is told");
    assert!(taken <= 36 * MIB, "{taken}");
    for call in busy {
        assert_eq!(call.join().expect("ends").expect("is answered").good(), b"null");
    }
    assert_eq!(node.call("one", "count", "[]").good(), b"0");
}

#[test]
fn a_cell_that_nobody_calls_rests_and_the_next_call_is_well() {
    let node = Node::with("memory.idle_seconds = 1");
    node.deploy(&acts(), "fresh", &["--cells", "1"]);
    node.deploy(&acts(), "keeps", &["--cells", "1", "--keep-memory"]);
    let swaps = memory(&node)["idle_cells"] == "swap";
    let counter = if swaps { "cells_paged_out" } else { "cells_dropped" };
    for round in 0..2_u64 {
        assert_eq!(node.call("fresh", "count", "[]").good(), b"0");
        // Time alone takes from no cell what it keeps.
        assert_eq!(
            node.call("keeps", "count", "[]").good(),
            round.to_string().as_bytes()
        );
        wait_for("it rests", || node.counted("fresh", counter) > round);
    }
    assert_eq!(node.counted("keeps", "cells_dropped"), 0);
    assert_eq!(node.counted("fresh", "workers_started"), 1);
}

#[test]
fn near_the_end_of_the_budget_cells_rest_at_once_and_health_says_so() {
    // Two cells awake are 18 MiB of 18, one of the two 16.
    let node = Node::with(&format!(
        "cells.slots = 2\nmemory.budget_bytes = {}\nmemory.idle_seconds = 0\nmemory.overcommit_percent = 1000",
        18 * MIB
    ));
    node.deploy(&acts(), "acts", &["--cells", "2", "--keep-memory"]);
    let busy = ["[15]", "[15]"].map(|tenths| node.calling("acts", "wait", tenths));
    node.wait_until_running("acts", 2);
    let health = node.ask("GET", "/health", b"").json();
    let degraded = health["degraded"][0].clone();
    assert_eq!(degraded["name"], "memory-nearly-out", "{health}");
    let message = degraded["message"].as_str().expect("has one");
    assert!(message.contains(&(18 * MIB).to_string()), "{message}");
    for call in busy {
        assert_eq!(call.join().expect("ends").expect("is answered").good(), b"null");
    }
    wait_for("both rest", || {
        node.counted("acts", "cells_dropped") + node.counted("acts", "cells_paged_out") == 2
    });
    wait_for("that is over", || {
        node.ask("GET", "/health", b"").json()["degraded"] == json!([])
    });
    node.call("acts", "count", "[]").good();
}

/// A figure of `/proc/PID/status`, in bytes.
fn resident(pid: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[test]
fn heap_that_a_life_took_is_the_host_s_again_when_it_is_over() {
    let node = Node::start();
    // It writes to 90 MiB of heap in each call.
    node.deploy(&bundle("reactor", "hoards"), "hoards", &["--cells", "1"]);
    for _ in 0..3 {
        node.call("hoards", "f", "[]").good();
    }
    let workers = node.workers();
    let worker = *workers.first().expect("is there");
    wait_for("memory is given back", || resident(worker, "RssShmem:") < 4 * MIB);
    assert_eq!(node.counted("hoards", "workers_started"), 1);
}

#[test]
fn a_cell_that_rests_in_swap_takes_no_memory_of_the_host() {
    let node = Node::with("memory.idle_seconds = 1");
    if memory(&node)["idle_cells"] != "swap" {
        eprintln!("not tested: this host has no swap");
        return;
    }
    node.deploy(
        &bundle("reactor", "hoards"),
        "hoards",
        &["--cells", "1", "--keep-memory"],
    );
    node.call("hoards", "f", "[]").good();
    let workers = node.workers();
    let worker = *workers.first().expect("is there");
    wait_for("its memory goes", || resident(worker, "RssShmem:") < 16 * MIB);
    wait_for("that is counted", || {
        node.counted("hoards", "cells_paged_out") == 1
    });
    assert_eq!(node.counted("hoards", "workers_started"), 1);
}

fn oom_score(pid: u32) -> i32 {
    let text = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("is there");
    text.trim().parse().expect("is a number")
}

#[test]
fn workers_go_first_when_the_kernel_has_no_memory_left() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    node.call("acts", "count", "[]").good();
    let own = oom_score(std::process::id());
    assert_eq!(oom_score(node.pid()), own);
    assert_eq!(oom_score(node.nursery()), own);
    let workers = node.workers();
    assert_eq!(
        workers.iter().map(|pid| oom_score(*pid)).collect::<Vec<_>>(),
        [1000]
    );
}

/// A control group that goes with the value.
struct Group(PathBuf);

impl Group {
    /// One for memory, where this user may make any.
    fn make() -> Option<Group> {
        let folder = Path::new("/sys/fs/cgroup/memory").join(format!("referee-test-{}", std::process::id()));
        fs::create_dir(&folder).ok()?;
        let group = Group(folder);
        fs::write(group.0.join("memory.limit_in_bytes"), (1_u64 << 40).to_string()).ok()?;
        Some(group)
    }

    /// Limits memory, and with swap to no more: none of it is to go there.
    fn limit(&self, bytes: u64) {
        let set = |file: &str| fs::write(self.0.join(file), bytes.to_string());
        // The one may not be larger than the other, so lowering and raising have each their order. Not every kernel counts swap.
        let _ = set("memory.limit_in_bytes");
        let _ = set("memory.memsw.limit_in_bytes");
        set("memory.limit_in_bytes").expect("is set");
    }

    fn used(&self) -> u64 {
        let used = fs::read_to_string(self.0.join("memory.usage_in_bytes")).expect("is there");
        used.trim().parse().expect("is a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Who is in it goes back to where all are.
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for pid in members.lines() {
            let _ = fs::write("/sys/fs/cgroup/memory/cgroup.procs", pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn a_worker_that_the_kernel_ends_for_its_memory_takes_nobody_with_it() {
    let Some(group) = Group::make() else {
        eprintln!("not tested: this user may make no control group for memory (version 1)");
        return;
    };
    let node = Node::start();
    node.deploy(&bundle("reactor", "hoards"), "hoards", &["--cells", "1"]);
    node.deploy(&acts(), "acts", &[]);
    for pid in [node.pid(), node.nursery()] {
        fs::write(group.0.join("cgroup.procs"), pid.to_string()).expect("is moved");
    }
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    // Less than it is about to write, and more than all others need.
    group.limit(group.used() + 48 * MIB);
    let supervisor = node.pid();
    let answer = node.call("hoards", "f", "[]");
    answer.is(502, "host-error", "worker-gone");
    assert!(answer.message().contains("signal 9"), "{}", answer.message());
    assert!(
        is_alive(supervisor) && is_alive(node.nursery()),
        "{}",
        node.words()
    );
    let killed = fs::read_to_string(group.0.join("memory.oom_control")).expect("is there");
    assert!(killed.contains("oom_kill 1"), "it was the kernel: {killed}");
    group.limit(1 << 40);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}

#[test]
fn the_node_may_open_as_many_files_as_it_may_be_let() {
    let node = Node::through(&["sh", "-c", "ulimit -Sn 256; exec \"$@\"", "sh"], "");
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.pid())).expect("is there");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .expect("is told");
    let figures: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(figures.first(), figures.last(), "{line}");
    assert_ne!(figures.first(), Some(&"256"));
}

#[test]
fn the_configuration_is_printed_with_the_budget_of_this_host() {
    let node = Node::start();
    let config = text(&node.path("node.toml"));
    let printed = node.cli(&["config", "print", "--config", &config]);
    let budget = memory(&node)["budget_bytes"].as_u64().expect("is told");
    assert!(budget > 0);
    let line = format!("budget_bytes = {budget}\n");
    assert!(printed.output().contains(&line), "{line}: {}", printed.output());
}
