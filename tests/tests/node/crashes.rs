//! SIGKILL to the supervisor at any moment of any change, over and over: what was acknowledged is there, and nothing is half there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use referee_bundle::Digest;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::node::Node;
use crate::processes::send;
use crate::{acts, bundle, http};

/// How often; fifty by default.
fn rounds() -> u64 {
    std::env::var("REFEREE_CRASHES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(50)
}

/// A deployment as its operator knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    bundle: String,
    generation: u64,
    paused: bool,
}

/// What was acknowledged, by name.
type Kept = BTreeMap<&'static str, Known>;

const NAMES: [&str; 3] = ["a", "b", "c"];

/// An operator that makes one change after the other.
struct Operator {
    socket: PathBuf,
    bundles: [(String, Vec<u8>); 2],
    /// Numbers in an order that is the same in each run.
    next: u64,
}

/// What the operator was about to do when nobody answered any more, and what would have come of it.
type Unanswered = (&'static str, Option<Known>);

impl Operator {
    fn choose(&mut self, among: u64) -> u64 {
        // Knuth's MMIX numbers; the upper bits are the good ones.
        self.next = self
            .next
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.next >> 33) % among
    }

    /// Makes changes until the node does not answer, or so many.
    fn work(&mut self, kept: &mut Kept, changes: usize) -> Option<Unanswered> {
        for _ in 0..changes {
            let name = NAMES[usize::try_from(self.choose(3)).expect("is small")];
            let old = kept.get(name).cloned();
            let (done, new) = match (self.choose(4), old) {
                (0, Some(_)) => (self.ask("DELETE", &format!("/v1/deployments/{name}"), b""), None),
                (1, Some(old)) => {
                    let verb = if old.paused { "resume" } else { "pause" };
                    let paused = !old.paused;
                    let done = self.ask("POST", &format!("/v1/deployments/{name}/{verb}"), b"");
                    (done, Some(Known { paused, ..old }))
                }
                (which, old) => {
                    let (digest, bytes) = self.bundles[usize::from(which % 2 == 0)].clone();
                    let body = json!({"bundle": digest}).to_string();
                    let done = self.ask("PUT", &format!("/v1/bundles/{digest}"), &bytes)
                        && self.ask("PUT", &format!("/v1/deployments/{name}"), body.as_bytes());
                    let new = Known {
                        bundle: digest,
                        generation: old.as_ref().map_or(1, |old| old.generation + 1),
                        paused: old.is_some_and(|old| old.paused),
                    };
                    (done, Some(new))
                }
            };
            if !done {
                return Some((name, new));
            }
            match new {
                Some(new) => kept.insert(name, new),
                None => kept.remove(name),
            };
        }
        None
    }

    /// Whether it was done. Anything but yes or silence is wrong.
    fn ask(&self, method: &str, path: &str, body: &[u8]) -> bool {
        match http::ask(&self.socket, method, path, &[], body) {
            Ok(answer) => {
                assert!((200..300).contains(&answer.status), "{method} {path}: {answer:?}");
                true
            }
            Err(_) => false,
        }
    }
}

/// What the node has.
fn found(node: &Node) -> Kept {
    let all = node.ask("GET", "/v1/deployments", b"").json();
    let all = all.as_array().cloned().unwrap_or_default();
    let known = |shown: &Value| {
        let name = shown["name"].as_str().expect("has a name");
        let name = NAMES
            .into_iter()
            .find(|one| *one == name)
            .expect("is one of ours");
        let known = Known {
            bundle: shown["bundle"].as_str().expect("has one").to_owned(),
            generation: shown["generation"].as_u64().expect("has one"),
            paused: shown["state"] == "paused",
        };
        (name, known)
    };
    all.iter().map(known).collect()
}

#[test]
fn a_supervisor_killed_anywhere_keeps_what_it_acknowledged() {
    let mut node = Node::start();
    let read = |path: &Path| {
        let bytes = fs::read(path).expect("is there");
        (Digest::of(&bytes).to_string(), bytes)
    };
    let mut operator = Operator {
        socket: node.socket(),
        bundles: [read(&acts()), read(&bundle("reactor", "echoes"))],
        next: 1,
    };
    let mut kept = Kept::new();
    let begun = Instant::now();
    assert!(operator.work(&mut kept, 20).is_none());
    let usual = begun.elapsed() / 20;
    let mut half_way = 0;
    for round in 0..rounds() {
        // Spread over the time of four changes, in an order that does not depend on the round before.
        let delay = usual * 4 * u32::try_from(round * 389 % 1000).expect("is small") / 1000;
        let unanswered = thread::scope(|scope| {
            let works = scope.spawn(|| operator.work(&mut kept, 1000));
            thread::sleep(delay);
            send(node.pid(), Signal::KILL);
            works.join().expect("is well").expect("was cut short")
        });
        node.crash();
        node.again();
        let found = found(&node);
        let (name, new) = &unanswered;
        let mut done = kept.clone();
        match new {
            Some(new) => done.insert(name, new.clone()),
            None => done.remove(name),
        };
        assert!(
            found == kept || found == done,
            "round {round}: {found:#?} is neither {kept:#?} nor {done:#?}"
        );
        half_way += u32::from(found == done && kept != done);
        kept = found;
        // Whatever is there can be called.
        let answer = node.call(name, "count", "[]");
        match kept.get(name) {
            None => answer.is(404, "rejected", "no-deployment"),
            Some(Known { paused: true, .. }) => answer.is(409, "rejected", "paused"),
            Some(_) => assert_eq!(answer.good(), b"0", "round {round}"),
        }
        let mut needed: Vec<&String> = kept.values().map(|known| &known.bundle).collect();
        needed.sort();
        needed.dedup();
        let bundles = fs::read_dir(node.path("state/bundles"))
            .expect("is there")
            .count();
        assert_eq!(bundles, needed.len(), "round {round}: bundles that nobody needs");
    }
    println!(
        "{} rounds, {half_way} changes done and not acknowledged, {:?} each change",
        rounds(),
        usual
    );
    referee_audit::verify(&node.path("audit.jsonl")).expect("verifies");
}
