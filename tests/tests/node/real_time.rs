//! What a node does for a deployment that was promised time.

use crate::node::Node;
use crate::{acts, bundle, wait_for};

/// A promise that this host can give.
const PRIORITY: &str = "--priority=real-time:20000/1000";
/// Slices so long that each holds many stretches.
const CONFIGURATION: &str =
    "tenants.suite.real_time_percent = 50\n[scheduling]\nslice_min_us = 50000\nslice_max_us = 50000";

/// How often a deployment's cells stop in each of some slices.
fn exits_a_slice(node: &Node, name: &str) -> u64 {
    let counted = || (node.counted(name, "slices"), node.counted(name, "exits"));
    // One slice may have begun under other conditions.
    let (begun, _) = counted();
    wait_for("a new slice", || counted().0 > begun + 1);
    let (slices, exits) = counted();
    wait_for("ten slices", || counted().0 >= slices + 10);
    let (more_slices, more_exits) = counted();
    (more_exits - exits) / (more_slices - slices)
}

#[test]
fn who_computes_lets_others_go_first_while_somebody_was_promised_time() {
    let node = Node::with(CONFIGURATION);
    let longer = ["--deadline-ms", "30000", "--cpu-ms", "30000"];
    node.deploy(&acts(), "spins", &longer);
    let spin = node.calling("spins", "spin", "[]");
    node.wait_until_running("spins", 1);
    let alone = exits_a_slice(&node, "spins");
    assert!(alone <= 2, "{alone}: it stops at the end of its slice");

    node.deploy(
        &bundle("reactor", "echoes"),
        "clockwork",
        &["--cells", "1", PRIORITY],
    );
    assert_eq!(node.call("clockwork", "echo", "[1]").good(), b"[1]");
    let beside = exits_a_slice(&node, "spins");
    assert!(beside >= 5, "{beside}: it lets others go first all the time");

    assert_eq!(node.cli(&["remove", "clockwork"]).code, Some(0));
    let after = exits_a_slice(&node, "spins");
    assert!(after <= 2, "{after}: nobody was promised anything any more");
    assert_eq!(node.cli(&["kill", "spins"]).code, Some(0));
    assert_eq!(spin.join().expect("ends").expect("is answered").status, 502);
}
