//! Keys of the epoch, and copies of them from before.

use referee_attest::Request;

use crate::host::{COUNTER, Host};

#[test]
fn rotation_makes_a_new_key_and_the_old_file_never_opens_again() {
    let host = Host::ready();
    let (epoch, key) = host.keys();
    let old = std::fs::read(host.path("state").join(format!("epoch-{epoch}"))).expect("is there");
    host.ask(&Request::Rotate).expect("rotates");
    let (next, new_key) = host.keys();
    assert_eq!(next, epoch + 1);
    assert_ne!(new_key, key);
    let current = host.path("state").join(format!("epoch-{next}"));
    let new = std::fs::read(&current).expect("is there");
    // The old file under the new one's name.
    std::fs::write(&current, &old).expect("is written");
    assert_eq!(host.refused(&Request::Status), "key-closed");
    // The whole directory as it was before the rotation.
    std::fs::remove_file(&current).expect("is removed");
    std::fs::write(host.path("state").join(format!("epoch-{epoch}")), &old).expect("is written");
    for request in [Request::Status, Request::Rotate, Request::Init { replace: false }] {
        assert_eq!(host.refused(&request), "state-rolled-back");
    }
    std::fs::write(&current, &new).expect("is written");
    assert_eq!(host.keys(), (next, new_key));
}

#[test]
fn a_key_is_made_once_unless_it_is_replaced() {
    let host = Host::ready();
    let (epoch, key) = host.keys();
    assert_eq!(
        host.refused(&Request::Init { replace: false }),
        "tpm-already-initialised"
    );
    assert_eq!(host.keys(), (epoch, key.clone()));
    host.ask(&Request::Init { replace: true }).expect("is replaced");
    let (next, new_key) = host.keys();
    assert!(next > epoch && new_key != key);
}

#[test]
fn a_counter_that_was_defined_anew_does_not_go_back() {
    let host = Host::ready();
    host.ask(&Request::Rotate).expect("rotates");
    let (epoch, _) = host.keys();
    let old = std::fs::read(host.path("state").join(format!("epoch-{epoch}"))).expect("is there");
    let index = format!("{COUNTER:#x}");
    let tools = host.tools();
    tools.run("tpm2_nvundefine", &["-C", "o", &index]);
    drop(tools);
    assert_eq!(host.refused(&Request::Status), "tpm-not-initialised");
    let tools = host.tools();
    tools.run(
        "tpm2_nvdefine",
        &[
            "-C",
            "o",
            "-s",
            "8",
            "-a",
            "authwrite|authread|ownerread|no_da|nt=counter",
            &index,
        ],
    );
    tools.run("tpm2_nvincrement", &["-C", &index, &index]);
    drop(tools);
    let name = host.refused(&Request::Status);
    assert!(
        ["state-rolled-back", "tpm-not-initialised"].contains(&name.as_str()),
        "{name}"
    );
    // Whatever it counts now, the old key's file does not open for it.
    for epoch in epoch..epoch + 4 {
        std::fs::write(host.path("state").join(format!("epoch-{epoch}")), &old).expect("is written");
    }
    assert_eq!(host.refused(&Request::Status), "key-closed");
}

#[test]
fn an_index_that_is_no_counter_is_refused() {
    let host = Host::new();
    assert_eq!(host.refused(&Request::Status), "tpm-not-initialised");
    let index = format!("{COUNTER:#x}");
    let tools = host.tools();
    tools.run(
        "tpm2_nvdefine",
        &[
            "-C",
            "o",
            "-s",
            "8",
            "-a",
            "authwrite|authread|ownerread|no_da",
            &index,
        ],
    );
    std::fs::write(host.path("one"), 1u64.to_be_bytes()).expect("is written");
    let file = host.path("one").display().to_string();
    tools.run("tpm2_nvwrite", &["-C", &index, "-i", &file, &index]);
    drop(tools);
    assert_eq!(host.refused(&Request::Init { replace: false }), "counter-unsound");
    assert_eq!(host.refused(&Request::Init { replace: true }), "counter-unsound");
}

#[test]
fn a_key_of_another_tpm_does_not_open() {
    let (host, other) = (Host::ready(), Host::ready());
    let (epoch, _) = host.keys();
    let name = format!("epoch-{epoch}");
    std::fs::copy(other.path("state").join(&name), host.path("state").join(&name)).expect("is copied");
    assert_eq!(host.refused(&Request::Status), "key-closed");
}

#[test]
fn no_file_is_for_others_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let host = Host::ready();
    for folder in ["state", "tpm"] {
        let mode = |path: &std::path::Path| std::fs::metadata(path).expect("is there").permissions().mode();
        assert_eq!(mode(&host.path(folder)) & 0o077, 0, "{folder}");
        for entry in std::fs::read_dir(host.path("state")).expect("is there") {
            let path = entry.expect("is there").path();
            assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
        }
    }
}
