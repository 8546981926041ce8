//! Keys of the epoch, and copies of them from before.

use referee_attest::{Bundle, Request};

use crate::host::{COUNTER, Host, bundle, measure, programs};

#[test]
fn rotation_makes_a_new_key_and_the_old_file_never_opens_again() {
    let host = Host::ready();
    let (epoch, key) = host.keys();
    let old = std::fs::read(host.path("state").join(format!("epoch-{epoch}"))).expect("is there");
    host.ask(&Request::Rotate { older_than: None }).expect("rotates");
    let (next, new_key) = host.keys();
    assert_eq!(next, epoch + 2);
    assert_ne!(new_key, key);
    let current = host.path("state").join(format!("epoch-{next}"));
    let new = std::fs::read(&current).expect("is there");
    // The old file under the new one's name.
    std::fs::write(&current, &old).expect("is written");
    assert_eq!(host.refused(&Request::Status), "key-closed");
    // The whole directory as it was before the rotation.
    std::fs::remove_file(&current).expect("is removed");
    std::fs::write(host.path("state").join(format!("epoch-{epoch}")), &old).expect("is written");
    for request in [
        Request::Status,
        Request::Rotate { older_than: None },
        Request::Init { replace: false },
    ] {
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
    host.ask(&Request::Rotate { older_than: None }).expect("rotates");
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

fn grown(epoch: u64, signer: u8) -> Request {
    measure(Bundle {
        epoch,
        signer: [signer; 32],
        // Another version, another file.
        digest: [u8::try_from(epoch % 251).unwrap_or(0); 32],
        ..bundle("grown", 0)
    })
}

#[test]
fn an_older_bundle_does_not_run_again_whatever_is_put_back() {
    let host = Host::ready();
    host.ask(&grown(3, 1)).expect("runs");
    let state = host.path("state");
    let (before, key) = host.keys();
    let old = std::fs::read(state.join(format!("epoch-{before}"))).expect("is there");
    host.ask(&grown(3, 1)).expect("runs again");
    assert_eq!(host.keys().0, before, "nothing new, so nothing is counted");
    host.ask(&grown(5, 1)).expect("a newer one runs");
    let (after, _) = host.keys();
    assert_eq!(after, before + 2);
    assert_eq!(
        host.keys().1,
        key,
        "the instance key is the same: receipts of before stay checkable by evidence of after"
    );
    assert_eq!(host.refused(&grown(4, 1)), "epoch-rolled-back");
    assert_eq!(host.refused(&grown(3, 1)), "epoch-rolled-back");
    // The floors of before, with their key.
    let current = state.join(format!("epoch-{after}"));
    let new = std::fs::read(&current).expect("is there");
    std::fs::rename(&current, host.path("kept")).expect("is moved");
    std::fs::write(state.join(format!("epoch-{before}")), &old).expect("is written");
    assert_eq!(host.refused(&grown(3, 1)), "state-rolled-back");
    std::fs::write(&current, &old).expect("is written");
    assert_eq!(host.refused(&grown(3, 1)), "key-closed");
    // And one changed by hand: every byte of the file matters.
    for at in 0..new.len() {
        if at % 16 != 0 && at + 60 < new.len() {
            continue;
        }
        let mut changed = new.clone();
        changed[at] ^= 1;
        std::fs::write(&current, &changed).expect("is written");
        let refused = host.ask(&grown(3, 1)).expect_err("is refused");
        assert!(!refused.to_string().is_empty(), "byte {at}");
    }
    std::fs::write(&current, &new).expect("is written");
    assert_eq!(host.refused(&grown(4, 1)), "epoch-rolled-back");
    host.ask(&grown(5, 1)).expect("goes on");
}

#[test]
fn a_stolen_key_cannot_lock_the_owners_next_key_out() {
    let host = Host::ready();
    host.ask(&grown(3, 1)).expect("runs");
    assert_eq!(host.refused(&grown(u64::MAX, 1)), "epoch-jump");
    assert_eq!(host.refused(&grown(3 + 257, 1)), "epoch-jump");
    host.ask(&grown(3 + 256, 1)).expect("a step is allowed");
    // The owner's next key has a floor of its own.
    host.ask(&grown(4, 2)).expect("runs");
    assert_eq!(host.refused(&grown(3, 2)), "epoch-rolled-back");
}

#[test]
fn an_older_trust_store_is_refused_even_when_it_was_prepared_for() {
    let mut host = Host::ready();
    host.open.trust_version = 7;
    host.ask(&grown(1, 1)).expect("runs");
    host.open.trust_version = 6;
    assert_eq!(host.refused(&grown(1, 1)), "trust-store-rolled-back");
    host.open.trust_version = 7;
    host.ask(&grown(1, 1)).expect("runs");
}

#[test]
fn an_update_that_was_prepared_keeps_the_key() {
    let mut host = Host::ready();
    let (_, key) = host.keys();
    let (before, mut after) = (host.open.components.clone(), host.open.components.clone());
    after[0].digest = [77; 32];
    host.ask(&Request::PrepareUpdate {
        components: after.clone(),
    })
    .expect("is prepared");
    assert_eq!(host.keys().1, key, "nothing changes before the restart");
    let restart = |host: &Host| {
        host.ask(&Request::Restart {
            tpm: host.open.tpm.clone(),
        })
        .expect("restarts")
    };
    // A rotation in between does not lose it.
    host.ask(&Request::Rotate { older_than: None }).expect("rotates");
    let (epoch, key) = host.keys();
    restart(&host);
    host.open.components = after;
    assert_eq!(host.keys(), (epoch, key.clone()), "the update has the key");
    // From now on the old program has it no more.
    restart(&host);
    host.open.components = before;
    assert_eq!(host.refused(&Request::Status), "key-closed");
    // An update that nobody prepared for has none.
    host.open.components[0].digest = [78; 32];
    restart(&host);
    assert_eq!(host.refused(&Request::Status), "key-closed");
}

/// A regular rotation may be asked for every hour: it happens when it is due.
#[test]
fn a_key_is_rotated_when_it_is_older_than_asked() {
    let host = Host::ready();
    let before = host.keys();
    let rotate = |seconds| {
        let older_than = Some(seconds);
        host.ask(&Request::Rotate { older_than }).expect("is answered");
    };
    rotate(3600);
    assert_eq!(host.keys(), before);
    // A floor that went up does not make the key younger.
    std::thread::sleep(std::time::Duration::from_secs(2));
    host.ask(&measure(Bundle {
        epoch: 7,
        ..bundle("first", 8)
    }))
    .expect("is measured");
    let (raised, key) = host.keys();
    assert_eq!((raised, &key), (before.0 + 2, &before.1));
    rotate(1);
    let (rotated, other) = host.keys();
    assert_eq!(rotated, raised + 2);
    assert_ne!(other, key);
}

pub fn offline_key() -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("recovery.key");
    let shown = path.display().to_string();
    let made = programs()
        .verify
        .run(["recovery-key", "--secret", &shown])
        .expect("ends");
    assert_eq!(made.code, Some(0), "{}", made.errors());
    let private = std::fs::read_to_string(&path)
        .expect("is there")
        .trim()
        .to_owned();
    (private, made.output().trim().to_owned())
}

pub fn copied(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("is made");
    for entry in std::fs::read_dir(from).expect("is there") {
        let path = entry.expect("is there").path();
        std::fs::copy(&path, to.join(path.file_name().expect("has one"))).expect("is copied");
    }
}

#[test]
fn a_key_comes_back_by_the_offline_key_on_another_tpm_and_under_another_identity() {
    let mut host = Host::ready();
    let (private, public) = offline_key();
    let set = Request::SetRecovery { public: Some(public) };
    let recover = |private: &str| Request::Recover {
        private: private.to_owned(),
    };
    assert_eq!(host.refused(&recover(&private)), "nothing-to-recover");
    host.ask(&set).expect("is set");
    // What came before and what comes after: raised, rotated.
    host.ask(&measure(Bundle {
        epoch: 9,
        ..bundle("first", 8)
    }))
    .expect("is measured");
    host.ask(&Request::Rotate { older_than: None }).expect("rotates");
    let (_, key) = host.keys();
    let (another, _) = offline_key();
    assert_eq!(host.refused(&recover(&another)), "recovery-refused");
    assert_eq!(host.refused(&recover("00")), "tpm-request");

    // The TPM is gone; what was beside it is not.
    let heir = Host::new();
    copied(&host.path("state"), &heir.path("state"));
    std::fs::remove_file(heir.path("state/boot.cel")).expect("is there");
    assert_eq!(heir.refused(&recover(&another)), "recovery-refused");
    heir.ask(&recover(&private)).expect("is recovered");
    assert_eq!(heir.keys().1, key);
    // Its floors came along, and so did the offline key.
    let older = measure(Bundle {
        epoch: 8,
        ..bundle("first", 9)
    });
    assert_eq!(heir.refused(&older), "epoch-rolled-back");
    heir.ask(&recover(&private)).expect("is recovered again");
    assert_eq!(heir.keys().1, key);

    // Another identity, that nobody announced.
    host.ask(&Request::Restart {
        tpm: host.open.tpm.clone(),
    })
    .expect("starts anew");
    host.open.components[0].digest = [0xEE; 32];
    assert_eq!(host.refused(&Request::Status), "key-closed");
    host.ask(&recover(&private)).expect("is recovered");
    assert_eq!(host.keys().1, key);
    // Without an offline key nothing is wrapped any more.
    host.ask(&Request::SetRecovery { public: None }).expect("is set");
    assert_eq!(host.refused(&recover(&private)), "nothing-to-recover");
}

#[test]
fn floors_that_were_changed_are_not_recovered() {
    let host = Host::ready();
    let (private, public) = offline_key();
    host.ask(&Request::SetRecovery { public: Some(public) })
        .expect("is set");
    let (epoch, _) = host.keys();
    let recover = Request::Recover { private };
    for (name, refused) in [("epoch", "floors-forged"), ("recovery", "recovery-refused")] {
        let path = host.path("state").join(format!("{name}-{epoch}"));
        let whole = std::fs::read(&path).expect("is there");
        let mut changed = whole.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        std::fs::write(&path, changed).expect("is written");
        assert_eq!(host.refused(&recover), refused);
        std::fs::write(&path, whole).expect("is written");
    }
    host.ask(&recover).expect("is recovered");
}
