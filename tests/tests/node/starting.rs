//! What a node starts on, and what it refuses to.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use referee_tests::Ended;

use crate::node::{Node, configure};
use crate::{HOST_ERROR, REJECTED, acts, http, setup, text, wait_for};

/// A folder with everything that a node needs.
fn desk(more: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::copy(setup().workshop.trust_store(), folder.path().join("trust.store")).expect("is copied");
    configure(folder.path(), more);
    folder
}

/// Starts a node that must end by itself.
fn refused(folder: &Path) -> Ended {
    let config = text(&folder.join("node.toml"));
    let mut command = setup().program.command(["serve", "--config", &config]);
    Ended::of(command.spawn().expect("starts")).expect("ends")
}

#[track_caller]
fn says(ended: &Ended, code: Option<i32>, words: &[&str]) {
    assert_eq!(ended.code, code, "{}", ended.errors());
    for word in words {
        assert!(ended.errors().contains(word), "{word}: {}", ended.errors());
    }
}

#[test]
fn a_configuration_that_is_wrong_names_file_key_and_reason() {
    for (more, words) in [
        ("cells.slot = 3", "`slot`"),
        ("stat = '/x'", "`stat`"),
        ("scheduling.slice_min_us = 0", "scheduling"),
        ("cells.queue = 'many'", "queue"),
        ("api.mode = '999'", "api.mode"),
        ("api.call_bytes = 20000000", "api.call_bytes"),
        ("[", "line 5"),
    ] {
        let desk = desk(more);
        says(
            &refused(desk.path()),
            REJECTED,
            &["node.toml", words, "config-invalid"],
        );
        assert!(!desk.path().join("state").exists(), "{more}");
    }
    let none = setup()
        .program
        .run(["serve", "--config", "/nowhere.toml"])
        .expect("ends");
    says(&none, REJECTED, &["/nowhere.toml", "config-invalid"]);
}

#[test]
fn the_configuration_is_printed_with_every_default_and_reads_back() {
    let desk = desk("cells.queue = 7");
    let config = text(&desk.path().join("node.toml"));
    let printed = setup()
        .program
        .run(["config", "print", "--config", &config])
        .expect("ends");
    assert_eq!(printed.code, Some(0), "{}", printed.errors());
    assert!(printed.output().contains("queue = 7"), "{}", printed.output());
    fs::write(desk.path().join("again.toml"), &printed.stdout).expect("is written");
    let again = text(&desk.path().join("again.toml"));
    let again = setup()
        .program
        .run(["config", "print", "--config", &again])
        .expect("ends");
    assert_eq!(printed.stdout, again.stdout);
}

#[test]
fn trust_store_policies_and_places_must_be_good() {
    let bad_trust = desk("");
    fs::write(bad_trust.path().join("trust.store"), "no trust").expect("is written");
    says(&refused(bad_trust.path()), REJECTED, &["trust.store"]);
    let no_trust = desk("");
    fs::remove_file(no_trust.path().join("trust.store")).expect("is there");
    says(
        &refused(no_trust.path()),
        REJECTED,
        &["trust.store", "unreadable"],
    );
    let bad_policy = desk("policies = ['/nowhere.cedar']");
    says(
        &refused(bad_policy.path()),
        REJECTED,
        &["/nowhere.cedar", "policy-invalid"],
    );
    let no_state = desk("");
    fs::write(no_state.path().join("state"), "a file").expect("is written");
    says(
        &refused(no_state.path()),
        HOST_ERROR,
        &["opening the state directory"],
    );
    let no_log = desk("");
    fs::create_dir(no_log.path().join("audit.jsonl")).expect("is made");
    says(&refused(no_log.path()), HOST_ERROR, &["opening the audit log"]);
}

#[test]
fn a_socket_in_use_or_another_thing_in_its_place_is_left_alone() {
    let taken = desk("");
    let listener = UnixListener::bind(taken.path().join("api.sock")).expect("listens");
    says(
        &refused(taken.path()),
        REJECTED,
        &["api.sock", "another program listens there already"],
    );
    drop(listener);
    let file = desk("");
    fs::write(file.path().join("api.sock"), "mine").expect("is written");
    says(&refused(file.path()), REJECTED, &["api.sock", "is no socket"]);
    assert_eq!(
        fs::read_to_string(file.path().join("api.sock")).expect("is there"),
        "mine"
    );
}

#[test]
fn two_nodes_do_not_share_a_state_directory() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let other = desk("");
    let config = other.path().join("node.toml");
    let text = fs::read_to_string(&config).expect("is there");
    let state = |folder: &Path| folder.join("state").to_str().expect("is UTF-8").to_owned();
    fs::write(&config, text.replace(&state(other.path()), &state(node.folder()))).expect("is written");
    says(
        &refused(other.path()),
        HOST_ERROR,
        &["opening the state directory"],
    );
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}

#[test]
fn a_kept_bundle_that_changed_is_not_run() {
    let mut node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.stop().code(), Some(0));
    let kept: Vec<_> = fs::read_dir(node.path("state/bundles"))
        .expect("is there")
        .map(|entry| entry.expect("is one").path())
        .collect();
    let [kept] = kept.as_slice() else {
        panic!("{kept:?}");
    };
    // What a crash or a stranger may have left there.
    fs::write(node.path("state/bundles/.abc.new"), "half").expect("is written");
    let good = fs::read(kept).expect("is there");
    let other = fs::read(crate::bundle("reactor", "echoes")).expect("is there");
    for (bytes, name) in [(good[..100].to_vec(), "truncated"), (other, "bundle-changed")] {
        fs::write(kept, bytes).expect("is written");
        node.again();
        node.call("acts", "count", "[]").is(422, "rejected", name);
        assert_eq!(node.stop().code(), Some(0));
    }
    assert!(!node.path("state/bundles/.abc.new").exists());
    fs::remove_file(kept).expect("is there");
    node.again();
    node.call("acts", "count", "[]")
        .is(422, "rejected", "bundle-unknown");
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}

#[test]
fn a_damaged_state_is_an_error_with_a_name_and_never_a_panic() {
    let mut node = Node::start();
    for name in ["one", "two", "three"] {
        node.deploy(&acts(), name, &[]);
    }
    assert_eq!(node.stop().code(), Some(0));
    let file = node.path("state/node.redb");
    let good = fs::read(&file).expect("is there");
    let mut damaged: Vec<(String, Vec<u8>)> = [0, 1, 100, 4096, good.len() / 2, good.len() - 1]
        .map(|length| (format!("cut to {length}"), good[..length].to_vec()))
        .to_vec();
    damaged.push(("all ones".to_owned(), vec![0xff; good.len()]));
    // Where something is written: elsewhere nobody reads.
    let used: Vec<usize> = good
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte != 0)
        .map(|(at, _)| at)
        .collect();
    for place in used.iter().step_by(used.len() / 24) {
        let mut bytes = good.clone();
        bytes[*place] ^= 0xff;
        damaged.push((format!("flipped at {place}"), bytes));
    }
    for (how, bytes) in damaged {
        fs::write(&file, bytes).expect("is written");
        let is_cut = how.starts_with("cut") || how.starts_with("all");
        match starts(&node) {
            Started::Refused(ended) => {
                assert_eq!(ended.code, HOST_ERROR, "{how}: {}", ended.errors());
                assert!(ended.errors().contains("node.redb"), "{how}: {}", ended.errors());
                assert!(!ended.errors().contains("panicked"), "{how}: {}", ended.errors());
            }
            // It may have hit what redb has twice, or does not use.
            Started::Ready => assert!(!is_cut, "{how}: was taken"),
        }
    }
    fs::write(&file, &good).expect("is written");
    node.again();
    assert_eq!(node.call("two", "count", "[]").good(), b"0");
}

enum Started {
    Ready,
    Refused(Ended),
}

/// Starts the service where this node was, until it is ready or over.
fn starts(node: &Node) -> Started {
    let config = text(&node.path("node.toml"));
    let mut command = setup().program.command(["serve", "--config", &config]);
    let mut child = command.stdout(Stdio::null()).spawn().expect("starts");
    let begun = Instant::now();
    loop {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "neither ready nor over"
        );
        if child.try_wait().expect("is ours").is_some() {
            return Started::Refused(Ended::of(child).expect("ended"));
        }
        let ready = http::ask(&node.socket(), "GET", "/health/ready", &[], b"");
        if ready.is_ok_and(|ready| ready.status == 204) {
            child.kill().expect("is ours");
            child.wait().expect("is ours");
            return Started::Ready;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_user_may_do_what_policy_about_the_api_permits_and_connect_where_the_socket_s_mode_does() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can be somebody else");
        return;
    }
    const SOMEBODY: u32 = 61_234;
    let policies = tempfile::tempdir().expect("a folder");
    let named = policies.path().join("api.cedar");
    let owner = "@id(\"owner\") permit (principal is User, action, resource) when { principal.service };";
    let stats =
        "@id(\"desk\") permit (principal == User::\"61234\", action == Action::\"reload\", resource);";
    fs::write(&named, format!("{owner}\n{stats}\n")).expect("is written");
    let policy = format!("\napi.policies = ['{}']", named.display());
    for (mode, policy, expected) in [
        ("0666", "", REJECTED),
        ("0666", policy.as_str(), Some(0)),
        ("0600", policy.as_str(), HOST_ERROR),
    ] {
        let more = format!("api.mode = '{mode}'{policy}");
        let node = Node::with(&more);
        fs::set_permissions(node.folder(), fs::Permissions::from_mode(0o755)).expect("is ours");
        let program = node.path("client");
        fs::copy(setup().program.path(), &program).expect("is copied");
        let mut client = std::process::Command::new(program);
        client.args(["reload", "--host", &text(&node.socket())]);
        client.uid(SOMEBODY).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = Ended::of(client.spawn().expect("starts")).expect("ends");
        assert_eq!(ended.code, expected, "{more}: {}", ended.errors());
        if expected == REJECTED {
            assert!(
                ended
                    .errors()
                    .contains("policy does not permit uid:61234 to reload"),
                "{}",
                ended.errors()
            );
            assert!(node.managed().iter().any(|(op, _)| op == "deny-reload"));
        }
        wait_for("it goes on for others", || node.cli(&["ps"]).code == Some(0));
    }
}
