//! Grants that one muscle delegates to another: what the other may do by it, what it may not, and that whatever ends it has ended it when the command returns.
//! `lends` and `passes` make the calls of the host that they are told to.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use muscle_abi::frame::ErrorCode;
use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::node::{Node, call_path};
use crate::processes::{is_alive, stop};
use crate::{REJECTED, SOON, bundle, text, wait_for};

/// All of a grant, for the slot `to`.
pub fn whole(own: &str, to: &str) -> Value {
    json!([own, to, 0, "", u64::MAX, u32::MAX])
}

fn within(own: &str, to: &str, path: &str) -> Value {
    json!([own, to, 0, path, u64::MAX, u32::MAX])
}

/// A node with a directory that all share.
fn node() -> Node {
    let node = Node::with(&onward());
    folders(&node);
    node
}

/// Makes the directories, with what is in them.
pub fn folders(node: &Node) {
    fs::create_dir_all(node.path("dir/sub/deep")).expect("made");
    fs::create_dir_all(node.path("other")).expect("made");
    for file in ["dir/inside", "dir/sub/below", "dir/sub/deep/deepest"] {
        fs::write(node.path(file), "hello").expect("written");
    }
}

/// Policies of a node on which delegations may go on: those that are shipped, and one more.
pub fn onward() -> String {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/default.cedar");
    fs::copy(shipped, folder.join("default.cedar")).expect("copied");
    let more = "@id(\"onward\") permit (principal, action == Action::\"delegate\", resource);\n";
    fs::write(folder.join("more.cedar"), more).expect("written");
    format!("policies = ['{}']", text(&folder))
}

/// A deployment that sends on one channel and receives on another, with both directories the same unless another is named for the second.
fn deploy(node: &Node, guest: &str, name: &str, wires: (&str, &str), lent: &str) {
    deploy_with(node, guest, name, wires, lent, &[]);
}

fn deploy_with(
    node: &Node,
    guest: &str,
    name: &str,
    (to, from): (&str, &str),
    lent: &str,
    options_too: &[&str],
) {
    let real = |path: &str| text(&node.path(path).canonicalize().expect("real"));
    let options = [
        format!("--bind=books=dir:{}:rw", real("dir")),
        format!("--bind=lent=dir:{}:rw", real(lent)),
        format!("--bind=to=channel:{to}"),
        format!("--bind=from=channel:{from}"),
    ];
    let mut more: Vec<&str> = options.iter().map(String::as_str).collect();
    more.extend(["--cells", "2", "--keep-memory"]);
    more.extend(options_too);
    node.deploy(&bundle("reactor", guest), name, &more);
}

/// Deploys `desk` anew, with all that was taken from it.
pub fn restore_desk(node: &Node) {
    deploy_with(
        node,
        "lends",
        "desk",
        ("news", "desk.in"),
        "dir",
        &["--reset-grants"],
    );
}

/// One that delegates, `desk`, and one that is delegated to, `index`.
pub fn pair(node: &Node) {
    deploy(node, "lends", "desk", ("news", "desk.in"), "dir");
    deploy(node, "lends", "index", ("index.out", "news"), "dir");
}

/// What the host answered.
#[track_caller]
fn tell(node: &Node, name: &str, function: &str, arguments: &Value) -> Value {
    heard(node.call(name, function, &arguments.to_string()))
}

#[track_caller]
fn heard(answer: Answer) -> Value {
    serde_json::from_slice(&answer.good()).expect("is JSON")
}

/// The code with which the host refused; none if it did not.
fn code(heard: &Value) -> Option<ErrorCode> {
    heard.get(1).and_then(Value::as_str)?;
    ErrorCode::from_number(u32::try_from(heard[0].as_u64()?).ok()?)
}

#[track_caller]
pub fn delegates(node: &Node, name: &str, arguments: &Value) -> Option<ErrorCode> {
    code(&tell(node, name, "delegate", arguments))
}

#[track_caller]
pub fn stat(node: &Node, name: &str, path: &str) -> Option<ErrorCode> {
    code(&tell(node, name, "stat", &json!([path])))
}

#[track_caller]
fn slot(node: &Node, name: &str, slot: &str) -> Value {
    let all = node
        .ask("GET", &format!("/v1/deployments/{name}/grants"), b"")
        .json();
    let found = all
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["slot"] == slot);
    found.expect("has the slot").clone()
}

pub fn revoke(node: &Node, name: &str, slot: &str) {
    node.ask("DELETE", &format!("/v1/deployments/{name}/grants/{slot}"), b"")
        .good();
}

pub fn narrow(node: &Node, name: &str, slot: &str, body: &Value) {
    let path = format!("/v1/deployments/{name}/grants/{slot}");
    node.ask("PATCH", &path, body.to_string().as_bytes()).good();
}

/// Delegations in the log: what was done, from whom, to whom, by whom.
fn recorded(node: &Node) -> Vec<[String; 4]> {
    let records = node.records();
    let word = |record: &Value, at: &str| record["detail"][at].as_str().unwrap_or_default().to_owned();
    let done = records.iter().filter(|record| {
        record["kind"] == "manage" && matches!(record["op"].as_str(), Some("delegate" | "undelegate"))
    });
    done.map(|record| {
        [
            record["op"].as_str().unwrap_or_default().to_owned(),
            format!("{}/{}", word(record, "deployment"), word(record, "slot")),
            format!("{}/{}", word(record, "to_deployment"), word(record, "to_slot")),
            word(record, "by"),
        ]
    })
    .collect()
}

fn record(op: &str, from: &str, to: &str, by: &str) -> [String; 4] {
    [op, from, to, by].map(str::to_owned)
}

const NOT_DELEGATED: Option<ErrorCode> = Some(ErrorCode::NotDelegated);
const DENIED: Option<ErrorCode> = Some(ErrorCode::Denied);
const INVALID: Option<ErrorCode> = Some(ErrorCode::Invalid);
const NOT_FOUND: Option<ErrorCode> = Some(ErrorCode::NotFound);

#[test]
fn a_slot_has_nothing_until_it_is_delegated_to_and_nothing_after() {
    let mut node = node();
    pair(&node);
    for (function, arguments) in [
        ("stat", json!(["inside"])),
        ("hour", json!([])),
        ("gamble", json!([8])),
    ] {
        let heard = tell(&node, "index", function, &arguments);
        assert_eq!(
            (code(&heard), &heard[1]),
            (NOT_DELEGATED, &json!("not delegated yet")),
            "{function}"
        );
    }
    assert_eq!(slot(&node, "index", "lent")["state"], "dormant");
    assert_eq!(slot(&node, "index", "lent")["left"], Value::Null);
    for (own, to) in [("books", "lent"), ("watch", "time"), ("dice", "noise")] {
        assert_eq!(tell(&node, "desk", "delegate", &whole(own, to)), Value::Null);
    }
    // In force in the worker that was there, when that was answered.
    assert_eq!(stat(&node, "index", "inside"), None);
    assert_eq!(tell(&node, "index", "new", &json!(["made"])), Value::Null);
    assert!(node.path("dir/made").is_dir());
    assert_eq!(code(&tell(&node, "index", "hour", &json!([]))), None);
    assert_eq!(
        tell(&node, "index", "gamble", &json!([8]))
            .as_array()
            .map(Vec::len),
        Some(8)
    );
    let shown = slot(&node, "index", "lent");
    assert_eq!(
        (&shown["state"], &shown["from"]),
        (
            &json!("whole"),
            &json!({"deployment": "desk", "slot": "books", "channel": "news"})
        )
    );
    assert_eq!(
        slot(&node, "desk", "books")["to"],
        json!([{"deployment": "index", "slot": "lent", "channel": "news"}])
    );
    let table = node.cli(&["grants", "index"]).output();
    assert!(table.contains("; from desk/books"), "{table}");
    let table = node.cli(&["grants", "desk"]).output();
    assert!(table.contains("; to index/lent"), "{table}");

    assert_eq!(
        tell(&node, "desk", "undelegate", &json!(["books", "lent"])),
        Value::Null
    );
    let heard = tell(&node, "index", "stat", &json!(["inside"]));
    assert_eq!(
        (code(&heard), &heard[1]),
        (NOT_DELEGATED, &json!("what was delegated was taken back"))
    );
    assert_eq!(
        code(&tell(&node, "index", "hour", &json!([]))),
        None,
        "the others stay"
    );
    assert_eq!(
        stat(&node, "desk", "inside"),
        NOT_DELEGATED,
        "its own slot that waits"
    );
    assert_eq!(
        code(&tell(&node, "desk", "books", &json!(["inside"]))),
        None,
        "it keeps what it lends"
    );
    let begun = recorded(&node);
    let by = "muscle:desk";
    assert_eq!(
        begun,
        [
            record("delegate", "desk/books", "index/lent", by),
            record("delegate", "desk/watch", "index/time", by),
            record("delegate", "desk/dice", "index/noise", by),
            record("undelegate", "desk/books", "index/lent", by),
        ]
    );
    // Over a restart, however it came.
    node.crash();
    node.again();
    assert_eq!(code(&tell(&node, "index", "hour", &json!([]))), None);
    assert_eq!(stat(&node, "index", "inside"), NOT_DELEGATED);
    assert_eq!(
        tell(&node, "desk", "undelegate", &json!(["watch", "time"])),
        Value::Null
    );
    assert_eq!(code(&tell(&node, "index", "hour", &json!([]))), NOT_DELEGATED);
}

#[test]
fn a_muscle_delegates_no_more_than_it_has_and_to_nobody_else() {
    let node = node();
    pair(&node);
    deploy(&node, "lends", "other", ("other.out", "other.in"), "other");
    let no = |arguments: &Value| delegates(&node, "desk", arguments);
    // A slot that it has not, one that has nothing, and kinds that nobody delegates.
    assert_eq!(no(&whole("none", "lent")), DENIED);
    assert_eq!(no(&whole("lent", "lent")), DENIED, "it is not to be delegated on");
    for kind in ["to", "from"] {
        assert_eq!(no(&whole(kind, "lent")), DENIED, "{kind}");
    }
    // Wider, by each part and every spelling.
    let books =
        |flags: u32, path: &str, bytes: u64, files: u32| json!(["books", "lent", flags, path, bytes, files]);
    assert_eq!(no(&books(0, "", 65537, u32::MAX)), DENIED);
    assert_eq!(no(&books(0, "", u64::MAX, 9)), DENIED);
    for path in [
        "..",
        "../other",
        "/",
        "/etc",
        "sub/../..",
        "./sub",
        "sub//deep",
        "sub/",
    ] {
        assert_eq!(no(&within("books", "lent", path)), INVALID, "{path}");
    }
    assert_eq!(no(&books(4, "", u64::MAX, u32::MAX)), INVALID, "no such flag");
    assert_eq!(
        no(&books(2, "", u64::MAX, u32::MAX)),
        INVALID,
        "a directory has no grade"
    );
    assert_eq!(no(&json!(["books", "lent"])), Some(ErrorCode::BadArguments));
    // To slots of another kind, that wait for nobody, that there are not.
    assert_eq!(no(&whole("watch", "lent")), INVALID);
    assert_eq!(no(&whole("books", "time")), INVALID);
    for to in ["books", "watch", "from", "none"] {
        assert_eq!(no(&whole("books", to)), NOT_FOUND, "{to}");
    }
    assert_eq!(no(&whole("books", &"x".repeat(33))), INVALID);
    // By a slot that receives; where nobody does; where several do.
    assert_eq!(
        code(&tell(&node, "desk", "wrong", &whole("books", "lent"))),
        DENIED
    );
    assert_eq!(delegates(&node, "other", &whole("books", "lent")), NOT_FOUND);
    assert_eq!(
        code(&tell(&node, "desk", "undelegate", &json!(["books", "lent"]))),
        NOT_FOUND
    );
    // What is bound to another directory has nothing in common.
    deploy(&node, "lends", "index", ("index.out", "news"), "other");
    assert_eq!(no(&whole("books", "lent")), INVALID);
    deploy(&node, "lends", "more", ("more.out", "news"), "dir");
    assert_eq!(no(&whole("books", "lent")), INVALID, "several receive");
    assert_eq!(stat(&node, "more", "inside"), NOT_DELEGATED);
    assert!(recorded(&node).is_empty(), "what is refused is not done");
    // Again and again, until the call may not any more; and no worker was ended for any of this.
    assert_eq!(node.cli(&["remove", "index"]).code, Some(0));
    assert_eq!(
        code(&tell(&node, "desk", "many", &whole("books", "lent"))),
        Some(ErrorCode::Quota)
    );
    assert_eq!(recorded(&node).len(), 1, "it was so already");
    for name in ["desk", "more", "other"] {
        assert_eq!(node.counted(name, "workers_started"), 1, "{name}");
    }
}

#[test]
fn what_is_below_and_beside_is_seen_by_where_it_is() {
    let node = node();
    deploy(&node, "lends", "desk", ("news", "desk.in"), "dir");
    // Its own directory is a part of the one that is lent: it has that part, and names it as its own.
    deploy(&node, "lends", "index", ("index.out", "news"), "dir/sub");
    assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
    assert_eq!(stat(&node, "index", "below"), None);
    assert_eq!(stat(&node, "index", "inside"), NOT_FOUND);
    assert_eq!(
        delegates(&node, "desk", &within("books", "lent", "sub/deep")),
        None
    );
    assert_eq!(
        (
            stat(&node, "index", "below"),
            stat(&node, "index", "deep/deepest")
        ),
        (DENIED, None)
    );
    assert_eq!(slot(&node, "index", "lent")["left"]["within"], "deep");
    assert_eq!(
        delegates(&node, "desk", &within("books", "lent", "made")),
        INVALID,
        "beside it"
    );
    assert_eq!(
        stat(&node, "index", "deep/deepest"),
        None,
        "what is refused changes nothing"
    );
    // For reading, with what is open for writing; and more again.
    assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
    let file = tell(&node, "index", "open", &json!(["below", 1]));
    assert!(file.is_u64(), "{file}");
    assert_eq!(tell(&node, "index", "cut", &json!([file, 3])), Value::Null);
    assert_eq!(
        delegates(
            &node,
            "desk",
            &json!(["books", "lent", 1, "", u64::MAX, u32::MAX])
        ),
        None
    );
    assert_eq!(code(&tell(&node, "index", "cut", &json!([file, 2]))), DENIED);
    assert_eq!(code(&tell(&node, "index", "open", &json!(["below", 1]))), DENIED);
    assert_eq!(code(&tell(&node, "index", "read", &json!([file, 0, 1]))), None);
    assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
    assert_eq!(tell(&node, "index", "new", &json!(["again"])), Value::Null);
    // What was open when it was taken back is not when it is lent anew.
    assert_eq!(
        tell(&node, "desk", "undelegate", &json!(["books", "lent"])),
        Value::Null
    );
    assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
    let read = code(&tell(&node, "index", "read", &json!([file, 0, 1])));
    assert_eq!(read, Some(ErrorCode::StaleHandle));
}

/// `desk` ── `mid` ── `end`, each with a slot that it passes on.
fn chain(node: &Node) {
    deploy(node, "passes", "desk", ("one", "desk.in"), "dir");
    deploy(node, "passes", "mid", ("two", "one"), "dir");
    deploy(node, "passes", "end", ("end.out", "two"), "dir");
    assert_eq!(delegates(node, "mid", &whole("lent", "lent")), NOT_DELEGATED);
    assert_eq!(delegates(node, "desk", &whole("books", "lent")), None);
    assert_eq!(delegates(node, "mid", &within("lent", "lent", "sub")), None);
    assert_eq!(
        (stat(node, "mid", "inside"), stat(node, "end", "sub/below")),
        (None, None)
    );
    assert_eq!(stat(node, "end", "inside"), DENIED);
}

#[test]
fn whoever_takes_from_a_grant_takes_from_all_that_have_something_of_it() {
    let mut node = node();
    chain(&node);
    narrow(&node, "desk", "books", &json!({"read_only": true}));
    for name in ["mid", "end"] {
        assert_eq!(
            code(&tell(&node, name, "new", &json!(["sub/new"]))),
            DENIED,
            "{name}"
        );
        assert_eq!(slot(&node, name, "lent")["left"]["read_only"], true);
    }
    narrow(&node, "desk", "books", &json!({"within": "sub/deep"}));
    assert_eq!(
        (stat(&node, "mid", "inside"), stat(&node, "end", "sub/below")),
        (DENIED, DENIED)
    );
    assert_eq!(stat(&node, "end", "sub/deep/deepest"), None);
    // Its own slot may be made less as any other; more than is lent, too, if it is less than policy gave.
    narrow(&node, "end", "lent", &json!({"max_bytes": 1000}));
    assert_eq!(stat(&node, "end", "sub/deep/deepest"), None);
    node.crash();
    node.again();
    assert_eq!(
        (
            stat(&node, "end", "sub/below"),
            stat(&node, "end", "sub/deep/deepest")
        ),
        (DENIED, None)
    );
    // While it is used.
    let using = node.calling("end", "ever", r#"["sub/deep/deepest"]"#);
    wait_for("it uses it", || {
        node.records_so_far()
            .iter()
            .filter(|record| record["op"] == "files.stat")
            .count()
            > 50
    });
    revoke(&node, "desk", "books");
    let before = Instant::now();
    let heard = heard(using.join().expect("ends").expect("is answered"));
    assert_eq!(code(&heard), NOT_DELEGATED);
    assert!(before.elapsed() < SOON);
    for name in ["mid", "end"] {
        assert_eq!(stat(&node, name, "sub/deep/deepest"), NOT_DELEGATED, "{name}");
        assert_eq!(slot(&node, name, "lent")["state"], "dormant");
    }
    let mut ended: Vec<_> = recorded(&node)
        .into_iter()
        .filter(|[op, ..]| op == "undelegate")
        .map(|[_, from, to, _]| [from, to])
        .collect();
    ended.sort();
    assert_eq!(
        ended,
        [["desk/books", "mid/lent"], ["mid/lent", "end/lent"]].map(|pair| pair.map(str::to_owned))
    );
    assert_eq!(
        delegates(&node, "desk", &whole("books", "lent")),
        DENIED,
        "it has nothing any more"
    );
}

#[test]
fn no_use_begins_after_the_command_that_takes_it_back_has_returned() {
    let node = node();
    chain(&node);
    for round in 0..5 {
        let using = node.calling("end", "ever", r#"["sub/below"]"#);
        let uses = || {
            node.records_so_far()
                .iter()
                .filter(|record| record["op"] == "files.stat" && record["kind"] == "use")
                .count()
        };
        let before = uses();
        wait_for("it uses it", || uses() > before + 20);
        assert_eq!(
            tell(&node, "desk", "undelegate", &json!(["books", "lent"])),
            Value::Null
        );
        let when_it_returned = uses();
        assert_eq!(
            code(&heard(using.join().expect("ends").expect("is answered"))),
            NOT_DELEGATED,
            "{round}"
        );
        assert_eq!(uses(), when_it_returned, "no use after it returned");
        assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
        assert_eq!(
            stat(&node, "end", "sub/below"),
            NOT_DELEGATED,
            "who is below is not delegated to by that"
        );
        assert_eq!(delegates(&node, "mid", &within("lent", "lent", "sub")), None);
    }
}

#[test]
fn each_end_that_goes_ends_it() {
    let node = node();
    type Act = fn(&Node);
    let ways: [(&str, Act); 8] = [
        ("the delegator is removed", |node| {
            assert_eq!(node.cli(&["remove", "desk"]).code, Some(0))
        }),
        ("the delegator is replaced", |node| {
            deploy(node, "passes", "desk", ("one", "desk.in"), "dir")
        }),
        ("the delegator's channel is revoked", |node| {
            revoke(node, "desk", "to")
        }),
        ("the receiver's channel is revoked", |node| {
            revoke(node, "mid", "from")
        }),
        ("the one between is replaced", |node| {
            deploy(node, "passes", "mid", ("two", "one"), "dir")
        }),
        ("the one between has nothing of it", |node| {
            revoke(node, "mid", "lent")
        }),
        ("the channel below is revoked", |node| revoke(node, "mid", "to")),
        ("the last is replaced", |node| {
            deploy(node, "passes", "end", ("end.out", "two"), "dir")
        }),
    ];
    for (what, act) in ways {
        chain(&node);
        act(&node);
        let refused = stat(&node, "end", "sub/below");
        assert_eq!(refused, NOT_DELEGATED, "{what}");
        assert_eq!(slot(&node, "end", "lent").get("from"), None, "{what}");
        for name in ["desk", "mid", "end"] {
            // Some was removed.
            let _ = node.cli(&["remove", name]);
        }
    }
}

#[test]
fn calls_in_a_version_that_was_replaced_lose_what_was_lent() {
    let node = node();
    pair(&node);
    for (round, replaced) in ["index", "desk"].into_iter().enumerate() {
        assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
        let using = node.calling("index", "ever", r#"["inside"]"#);
        let uses = |record: &&Value| record["op"] == "files.stat" && record["kind"] == "use";
        let before = node.records_so_far().iter().filter(uses).count();
        wait_for("it uses it", || {
            node.records_so_far().iter().filter(uses).count() > before + 20
        });
        match replaced {
            "index" => deploy(&node, "lends", "index", ("index.out", "news"), "dir"),
            _ => deploy(&node, "lends", "desk", ("news", "desk.in"), "dir"),
        }
        let heard = heard(using.join().expect("ends").expect("is answered"));
        assert_eq!(code(&heard), NOT_DELEGATED, "{round}");
        assert_eq!(stat(&node, "index", "inside"), NOT_DELEGATED);
    }
}

#[test]
fn nothing_goes_in_a_circle_and_one_slot_has_one_delegator() {
    let node = node();
    deploy(&node, "passes", "a", ("ab", "ba"), "dir");
    deploy(&node, "passes", "b", ("ba", "ab"), "dir");
    deploy(&node, "passes", "other", ("ab", "other.in"), "dir");
    assert_eq!(delegates(&node, "a", &whole("books", "lent")), None);
    assert_eq!(
        delegates(&node, "other", &whole("books", "lent")),
        Some(ErrorCode::Exists)
    );
    // Back to another slot of where it is from, and from there to where it came: that is the circle.
    assert_eq!(delegates(&node, "b", &whole("lent", "lent")), None);
    assert_eq!(delegates(&node, "a", &whole("lent", "lent")), INVALID);
    assert_eq!(stat(&node, "a", "inside"), None);
    revoke(&node, "a", "books");
    for name in ["a", "b"] {
        assert_eq!(stat(&node, name, "inside"), NOT_DELEGATED, "{name}");
    }
    assert_eq!(
        delegates(&node, "other", &whole("books", "lent")),
        None,
        "now it is free"
    );
    // To itself.
    deploy(&node, "passes", "self", ("self", "self"), "dir");
    assert_eq!(delegates(&node, "self", &whole("books", "lent")), INVALID);
}

#[test]
fn policy_is_asked_whether_it_may_be_delegated_on() {
    let node = Node::start();
    fs::create_dir_all(node.path("dir")).expect("made");
    let real = text(&node.path("dir").canonicalize().expect("real"));
    let guest = text(&bundle("reactor", "passes"));
    let (books, lent) = (
        format!("--bind=books=dir:{real}:rw"),
        format!("--bind=lent=dir:{real}:rw"),
    );
    let refused = node.cli(&[
        "deploy",
        &guest,
        "--name",
        "x",
        &books,
        &lent,
        "--bind=to=channel:a",
        "--bind=from=channel:b",
    ]);
    assert_eq!(refused.code, REJECTED);
    assert!(
        refused.errors().contains("Action::\\\"delegate\\\"") || refused.errors().contains("delegate"),
        "{}",
        refused.errors()
    );
}

#[test]
fn authority_that_is_read_again_ends_what_it_does_not_grant() {
    let folder = tempfile::tempdir().expect("a folder");
    let shipped = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/default.cedar"))
        .expect("is there");
    let policies = folder.path().join("muscles.cedar");
    fs::write(&policies, &shipped).expect("written");
    let node = Node::with(&format!("policies = ['{}']", text(&policies)));
    fs::create_dir_all(node.path("dir")).expect("made");
    fs::write(node.path("dir/inside"), "hello").expect("written");
    pair(&node);
    assert_eq!(delegates(&node, "desk", &whole("watch", "time")), None);
    assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    assert_eq!(stat(&node, "index", "inside"), None, "nothing has changed");
    // What is refused is the delegator as a whole: its slot for sending, which the receiver has too.
    let forbidden = format!(
        "{shipped}\n@id(\"no\") forbid (principal, action == Action::\"channel\", resource) when {{ context.channel == \"desk.in\" }};\n"
    );
    fs::write(&policies, forbidden).expect("written");
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    assert_eq!(stat(&node, "index", "inside"), NOT_DELEGATED);
    assert_eq!(code(&tell(&node, "index", "hour", &json!([]))), NOT_DELEGATED);
}

#[test]
fn a_receiver_that_does_not_answer_is_ended_and_has_what_was_left() {
    let node = node();
    pair(&node);
    assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
    assert_eq!(stat(&node, "index", "inside"), None);
    let desk_then_index = node.workers();
    for worker in &desk_then_index {
        stop(*worker);
    }
    let began = Instant::now();
    revoke(&node, "desk", "books");
    assert!(began.elapsed() < Duration::from_secs(20));
    for worker in desk_then_index {
        assert!(!is_alive(worker), "both are ended");
    }
    assert_eq!(stat(&node, "index", "inside"), NOT_DELEGATED);
}

/// SIGKILL at any moment: before the record, between record and disk, before it was in force, after the answer.
#[test]
fn what_was_answered_holds_after_any_crash_and_what_was_not_is_whole() {
    let mut node = node();
    pair(&node);
    let mut is_lent = false;
    for round in 0..12_u32 {
        let socket = node.socket();
        let lender = thread::spawn(move || {
            let mut answered = is_lent;
            loop {
                let (function, arguments) = match answered {
                    true => ("undelegate", json!(["books", "lent"])),
                    false => ("delegate", whole("books", "lent")),
                };
                let path = call_path("desk", function);
                let answer = http::ask(&socket, "POST", &path, &[], arguments.to_string().as_bytes());
                // Whoever gives up because the node is gone knows nothing of the last one.
                match answer {
                    Ok(answer) if answer.status == 200 => answered = !answered,
                    _ => return answered,
                }
            }
        });
        // From before the first to after some; each takes some milliseconds.
        thread::sleep(Duration::from_micros(u64::from(round) * 7_300));
        node.crash();
        let answered = lender.join().expect("ends");
        node.again();
        let state = slot(&node, "index", "lent")["state"].clone();
        is_lent = state == "whole";
        assert!(is_lent || state == "dormant", "{state}");
        // It has what it is said to have, in a worker that was made since.
        let expected = if is_lent { None } else { NOT_DELEGATED };
        assert_eq!(stat(&node, "index", "inside"), expected, "{round}");
        // What was recorded last is what was answered, or what nobody answered any more; what is kept was recorded.
        let last = recorded(&node)
            .pop()
            .map(|[op, ..]| op == "delegate")
            .unwrap_or_default();
        assert!(
            is_lent == answered || last == is_lent,
            "{round}: {answered} {last} {is_lent}"
        );
    }
}
