//! Many callers at once: each is answered, and the sums are exact.

use std::thread;

use serde_json::json;

use crate::acts;
use crate::node::Node;

const CALLERS: usize = 50;
const CALLS: usize = 20;

#[test]
fn every_call_of_a_crowd_is_answered_and_counted() {
    let node = Node::start();
    node.deploy(&acts(), "one", &["--cells", "2"]);
    node.deploy(&acts(), "two", &["--cells", "8", "--keep-memory"]);
    node.deploy(&acts(), "three", &["--ahead", "2"]);
    let names = ["one", "two", "three"];
    // What call number `number` asks for, and what must come of it.
    let plan = |number: usize| match number % 10 {
        7 => ("refuse", 422),
        9 => ("fault", 502),
        number if number % 2 == 0 => ("arguments", 200),
        _ => ("count", 200),
    };
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (node, plan) = (&node, &plan);
            scope.spawn(move || {
                for call in 0..CALLS {
                    let number = caller * CALLS + call;
                    let (function, status) = plan(number);
                    let name = names[number % names.len()];
                    let answer = node.call(name, function, &format!("[{number}]"));
                    assert_eq!(answer.status, status, "{name} {function}: {answer:?}");
                    if function == "arguments" {
                        assert_eq!(answer.json(), json!([number]), "an answer is its own call's");
                    }
                }
            });
        }
    });
    let mut expected = [[0_u64; 4]; 3];
    for number in 0..CALLERS * CALLS {
        let part = match plan(number) {
            ("refuse", _) => 2,
            ("fault", _) => 3,
            _ => 1,
        };
        expected[number % names.len()][0] += 1;
        expected[number % names.len()][part] += 1;
    }
    for (name, expected) in names.into_iter().zip(expected) {
        let shown = node.shown(name);
        let counted = &shown["counted"];
        let parts = ["calls", "returned", "function_errors", "faults"];
        let found: Vec<u64> = parts.iter().filter_map(|part| counted[*part].as_u64()).collect();
        assert_eq!(found, expected, "{name}: {counted}");
        for none in ["cancelled", "host_errors", "refused"] {
            assert_eq!(counted[none], json!(0), "{name}: {counted}");
        }
        assert_eq!((&shown["running"], &shown["waiting"]), (&json!(0), &json!(0)));
        assert_eq!(counted["workers_started"], json!(1), "{name}");
    }
    let stats = node.ask("GET", "/v1/stats", b"").json();
    assert_eq!(stats["free_slots"], stats["slots"]);
}
