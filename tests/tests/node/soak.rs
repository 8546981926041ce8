//! A node under load for a while, with workers that die and deployments that change: nothing grows that should not.
//!
//! Twenty seconds with all other tests; `scripts/soak.sh MINUTES` for as long as somebody has.

mod together;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::acts;
use crate::chaos::{Heard, Holds, NAMES, Until, assert_nothing_leaks, call_until, calm, deploy_all};
use crate::node::Node;
use crate::processes::send;

/// How long.
fn length() -> Duration {
    let said = std::env::var("REFEREE_SOAK_SECONDS").ok();
    Duration::from_secs(said.and_then(|text| text.parse().ok()).unwrap_or(20))
}

/// How much more memory the supervisor may have at the end: heaps keep what was needed once, and histograms and logs fill.
const GROWTH_MAX: u64 = 48 << 20;

#[test]
fn a_node_that_is_called_for_long_is_as_it_was() {
    let node = Node::with("cells.slots = 2\nmemory.idle_seconds = 1");
    deploy_all(&node);
    // What the first calls make once is there before anything is counted.
    for _ in 0..50 {
        for name in NAMES {
            node.call(name, "count", "[]").good();
        }
    }
    calm(&node);
    let before = Holds::of(&node);
    let (over, heard) = (AtomicBool::new(false), Heard::default());
    let socket = node.socket();
    let end = Instant::now() + length();
    let mut killed = 0_u64;
    thread::scope(|scope| {
        let done = Until(&over);
        for number in 0..4 {
            let (over, heard, socket) = (&over, &heard, socket.as_path());
            scope.spawn(move || call_until(over, socket, number, heard));
        }
        while Instant::now() < end {
            thread::sleep(Duration::from_millis(500));
            node.deploy(&acts(), "fresh", &["--cells", "3"]);
            if let Some(worker) = node.workers().first() {
                send(*worker, Signal::KILL);
                killed += 1;
            }
            assert_eq!(node.ask("GET", "/metrics", b"").status, 200);
        }
        drop(done);
    });
    calm(&node);
    assert_nothing_leaks(&node, &before);
    let after = Holds::of(&node);
    assert!(
        after.resident <= before.resident + GROWTH_MAX,
        "{before:?} {after:?}"
    );
    let well = heard.as_expected.load(Ordering::Relaxed);
    assert!(well * 2 > heard.all(), "most calls are well: {heard:?}");
    assert_eq!(
        heard.cut_off.load(Ordering::Relaxed),
        0,
        "the supervisor was there all the time"
    );
    println!(
        "{heard:?}, {killed} workers killed, {} to {} bytes",
        before.resident, after.resident
    );
}
