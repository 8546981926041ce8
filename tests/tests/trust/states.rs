//! What muscles keep from run to run: read by its owner alone, never an older one, through rotation, recovery and crashes.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use referee::{CellThread, Config, ConsoleStreams, Inputs, Referee, Tpm};
use referee_attest::{Bundle, KeptState, Reply, Request, StateOwner};
use referee_evidence::{from_hex, to_hex};
use referee_tests::{Ended, shop};

use crate::commands::assert_ends;
use crate::crashes::{killed_after, rounds};
use crate::embedded::name_of;
use crate::host::{Host, bundle, programs};
use crate::keys::{copied, offline_key};

fn owner() -> StateOwner {
    StateOwner {
        publisher: "acme".into(),
        muscle: "memo".into(),
        slot: "notes".into(),
    }
}

fn load_by(owner: StateOwner, epoch: u64) -> Request {
    Request::LoadState { owner, epoch }
}

fn save_by(epoch: u64, after: Option<&str>, bytes: &[u8]) -> Request {
    Request::SaveState {
        owner: owner(),
        bundle: Bundle {
            epoch,
            ..bundle("memo", 5)
        },
        after: after.map(str::to_owned),
        bytes: to_hex(bytes),
    }
}

fn loaded_as(host: &Host, owner: StateOwner, epoch: u64) -> (u64, Option<Vec<u8>>) {
    match host.ask(&load_by(owner, epoch)).expect("is loaded") {
        Reply::State { sequence, bytes, .. } => (
            sequence,
            bytes.map(|bytes| from_hex(&bytes).expect("is hexadecimal")),
        ),
        other => panic!("{other:?}"),
    }
}

fn loaded(host: &Host) -> (u64, Option<Vec<u8>>) {
    loaded_as(host, owner(), 1)
}

fn saved(host: &Host, bytes: &[u8]) {
    host.ask(&save_by(1, None, bytes)).expect("is saved");
}

fn kept(host: &Host) -> Vec<KeptState> {
    match host.ask(&Request::Status).expect("has a state") {
        Reply::Status { states, .. } => states,
        other => panic!("{other:?}"),
    }
}

/// Files with a muscle's state.
fn files(host: &Host) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(host.path("state")).expect("is there");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("is there").path()).collect();
    paths.retain(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("state-"))
    });
    paths
}

fn only_file(host: &Host) -> PathBuf {
    let files = files(host);
    assert_eq!(files.len(), 1, "{files:?}");
    files.into_iter().next().expect("is one")
}

#[test]
fn what_was_saved_is_loaded_by_its_owner_and_by_nobody_else() {
    let host = Host::ready();
    assert_eq!(loaded(&host), (0, None));
    saved(&host, b"the first secret");
    saved(&host, b"");
    saved(&host, b"the last secret");
    assert_eq!(loaded(&host), (3, Some(b"the last secret".to_vec())));
    for other in [
        StateOwner {
            publisher: "rival".into(),
            ..owner()
        },
        StateOwner {
            muscle: "memos".into(),
            ..owner()
        },
        StateOwner {
            slot: "note".into(),
            ..owner()
        },
    ] {
        assert_eq!(loaded_as(&host, other, 1), (0, None));
    }
    let file = std::fs::read(only_file(&host)).expect("is there");
    assert!(!file.windows(6).any(|window| window == b"secret"));
    let [state] = &kept(&host)[..] else {
        panic!("{:?}", kept(&host));
    };
    assert_eq!((state.sequence, state.epoch, state.bytes), (3, 1, 15));
}

#[test]
fn an_older_copy_is_not_loaded_wherever_it_is_put() {
    let host = Host::ready();
    saved(&host, b"older");
    let old_file = only_file(&host);
    let old = std::fs::read(&old_file).expect("is there");
    saved(&host, b"newer");
    let new_file = only_file(&host);
    let new = std::fs::read(&new_file).expect("is there");
    // Beside the new one, under its own name.
    std::fs::write(&old_file, &old).expect("is written");
    assert_eq!(loaded(&host), (2, Some(b"newer".to_vec())));
    assert!(!old_file.exists(), "what does not count is deleted");
    // Under the new one's name; cut; changed; gone.
    let mut changed = new.clone();
    *changed.last_mut().expect("has bytes") ^= 1;
    for bad in [Some(&old[..]), Some(&new[..20]), Some(&changed[..]), None] {
        match bad {
            Some(bytes) => std::fs::write(&new_file, bytes).expect("is written"),
            None => std::fs::remove_file(&new_file).expect("is removed"),
        }
        assert_eq!(host.refused(&load_by(owner(), 1)), "muscle-state-lost");
        // Nor is the key changed over it: nothing may be lost by the way.
        let rotate = Request::Rotate { older_than: None };
        assert_eq!(host.refused(&rotate), "muscle-state-lost");
    }
    std::fs::write(&new_file, &new).expect("is written");
    assert_eq!(loaded(&host), (2, Some(b"newer".to_vec())));
}

#[test]
fn a_change_that_was_aborted_is_no_way_back() {
    let host = Host::ready();
    saved(&host, b"older");
    let (_, public) = offline_key();
    host.ask(&Request::SetRecovery { public: Some(public) })
        .expect("is set");
    let (epoch, _) = host.keys();
    let named = |name: &str| host.path("state").join(name);
    // With this in its way, a change gets as far as its sealed file and not to the counter.
    let obstacle = named(&format!("recovery-{}.tmp", epoch + 2));
    std::fs::create_dir(&obstacle).expect("is made");
    let change = Request::Measure {
        bundle: Bundle {
            epoch: 2,
            ..bundle("some", 9)
        },
        to_be_signed: false,
    };
    assert_eq!(host.refused(&change), "tpm-state");
    let aborted = std::fs::read(named(&format!("epoch-{}", epoch + 2))).expect("was sealed");
    let old_state = only_file(&host);
    let old = std::fs::read(&old_state).expect("is there");
    std::fs::remove_dir(&obstacle).expect("is removed");

    saved(&host, b"newer");
    let (now, _) = host.keys();
    let new_file = named(&format!("epoch-{now}"));
    let new = std::fs::read(&new_file).expect("is there");
    std::fs::write(&old_state, &old).expect("is written");
    for epoch in epoch..=now {
        std::fs::write(named(&format!("epoch-{epoch}")), &aborted).expect("is written");
    }
    assert_eq!(host.refused(&load_by(owner(), 1)), "key-closed");
    std::fs::write(&new_file, &new).expect("is written");
    assert_eq!(loaded(&host), (2, Some(b"newer".to_vec())));
}

#[test]
fn a_lost_state_can_be_given_up_or_replaced() {
    let host = Host::ready();
    saved(&host, b"state");
    std::fs::remove_file(only_file(&host)).expect("is removed");
    saved(&host, b"anew");
    assert_eq!(loaded(&host), (2, Some(b"anew".to_vec())));
    host.ask(&Request::ForgetState { owner: owner() })
        .expect("is given up");
    assert_eq!((loaded(&host), files(&host)), ((0, None), Vec::new()));
    assert_eq!(
        host.refused(&Request::ForgetState { owner: owner() }),
        "no-such-state"
    );
}

#[test]
fn a_version_reads_what_older_ones_saved_and_never_what_newer_ones_did() {
    let host = Host::ready();
    host.ask(&save_by(3, None, b"by three")).expect("is saved");
    for older in [0, 2] {
        assert_eq!(host.refused(&load_by(owner(), older)), "state-newer");
        assert_eq!(host.refused(&save_by(older, None, b"older")), "state-newer");
    }
    assert_eq!(loaded_as(&host, owner(), 3), (1, Some(b"by three".to_vec())));
    assert_eq!(loaded_as(&host, owner(), 9), (1, Some(b"by three".to_vec())));
    host.ask(&save_by(9, None, b"by nine")).expect("is saved");
    assert_eq!(host.refused(&load_by(owner(), 3)), "state-newer");
    // Reading it is no reason to become it: nine still reads, and there is a highest version.
    assert_eq!(loaded_as(&host, owner(), 4096), (2, Some(b"by nine".to_vec())));
    assert_eq!(host.refused(&load_by(owner(), 4097)), "epoch-beyond-ladder");
    assert_eq!(host.refused(&save_by(u64::MAX, None, b"")), "epoch-beyond-ladder");
    assert_eq!(loaded_as(&host, owner(), 9), (2, Some(b"by nine".to_vec())));
}

/// What distinguishes the state that is kept from all others.
fn version(host: &Host) -> String {
    match host.ask(&load_by(owner(), 1)).expect("is loaded") {
        Reply::State { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

#[test]
fn of_two_cells_that_loaded_the_same_one_saves() {
    let host = Host::ready();
    host.ask(&save_by(1, Some(""), b"first")).expect("is saved");
    assert_eq!(host.refused(&save_by(1, Some(""), b"late")), "state-conflict");
    let first = version(&host);
    host.ask(&save_by(1, Some(&first), b"second")).expect("is saved");
    assert_eq!(host.refused(&save_by(1, Some(&first), b"late")), "state-conflict");
    assert_eq!(loaded(&host), (2, Some(b"second".to_vec())));
    // A rotation between loading and saving changes nothing of it.
    let second = version(&host);
    host.ask(&Request::Rotate { older_than: None }).expect("rotates");
    host.ask(&save_by(1, Some(&second), b"third")).expect("is saved");
    // Given up and saved anew, as often and the same: it is another one all the same.
    host.ask(&Request::ForgetState { owner: owner() })
        .expect("is given up");
    host.ask(&save_by(1, Some(""), b"first")).expect("is saved");
    assert_eq!(host.refused(&save_by(1, Some(&first), b"late")), "state-conflict");
}

#[test]
fn rotation_seals_states_anew_and_an_update_and_recovery_take_them_along() {
    let host = Host::ready();
    saved(&host, b"kept");
    let before = only_file(&host);
    let bytes = std::fs::read(&before).expect("is there");
    host.ask(&Request::Rotate { older_than: None }).expect("rotates");
    let after = only_file(&host);
    assert_ne!(before, after);
    assert_eq!(loaded(&host), (1, Some(b"kept".to_vec())));
    // What the old key sealed is not what counts.
    std::fs::write(&after, bytes).expect("is written");
    assert_eq!(host.refused(&load_by(owner(), 1)), "muscle-state-lost");
    saved(&host, b"kept on");

    let (private, public) = offline_key();
    host.ask(&Request::SetRecovery { public: Some(public) })
        .expect("is set");
    let other = Host::new();
    copied(&host.path("state"), &other.path("state"));
    std::fs::remove_file(other.path("state/boot.cel")).expect("is there");
    other.ask(&Request::Recover { private }).expect("is recovered");
    assert_eq!(loaded(&other), (2, Some(b"kept on".to_vec())));

    host.ask(&Request::Init { replace: true }).expect("begins anew");
    assert_eq!((loaded(&host), files(&host)), ((0, None), Vec::new()));
}

#[test]
fn a_host_keeps_only_so_many_states() {
    let host = Host::ready();
    let mut session = host.session();
    let save = |slot: usize| Request::SaveState {
        owner: StateOwner {
            publisher: format!("publisher-{}", slot / 64),
            slot: format!("slot-{slot}"),
            ..owner()
        },
        bundle: bundle("memo", 5),
        after: None,
        bytes: "00".into(),
    };
    let mut greedy = save(63);
    for slot in 0..256 {
        session.ask(&save(slot)).expect("is saved");
        if slot == 63 {
            // One publisher leaves room for the others.
            let Request::SaveState { owner, .. } = &mut greedy else {
                unreachable!("it saves");
            };
            owner.slot = "one-more".into();
            assert_eq!(host_refusal(session.ask(&greedy)), "too-many-states");
        }
    }
    assert_eq!(host_refusal(session.ask(&save(256))), "too-many-states");
    let (mut long, mut large) = (save(7), save(7));
    if let (Request::SaveState { owner, .. }, Request::SaveState { bytes, .. }) = (&mut long, &mut large) {
        owner.slot = "x".repeat(33);
        *bytes = "00".repeat((256 << 10) + 1);
    }
    for request in [long, large] {
        assert_eq!(host_refusal(session.ask(&request)), "tpm-request");
    }
    session.ask(&save(7)).expect("one that is kept is saved again");
    session
        .ask(&Request::Rotate { older_than: None })
        .expect("rotates them all");
}

fn host_refusal(answer: referee_attest::Answer) -> String {
    answer.expect_err("is refused").name().to_owned()
}

#[test]
fn saving_and_rotating_killed_anywhere_leave_the_old_or_the_new_state() {
    let host = Host::ready();
    let timed = |request: &Request| {
        let begun = Instant::now();
        host.ask(request).expect("is answered");
        begun.elapsed()
    };
    let rotate = Request::Rotate { older_than: None };
    let usual = (0..3)
        .map(|_| timed(&save_by(1, None, b"begin")).max(timed(&rotate)))
        .max()
        .unwrap_or_default();
    let (mut sequence, mut state) = loaded(&host);
    let (mut changed, rounds) = (0, rounds() / 5);
    for round in 0..rounds {
        let delay: Duration = usual * (round * 389 % 1000) / 1000;
        let next = format!("round {round}").into_bytes();
        if round % 2 == 0 {
            killed_after(&host, &save_by(1, None, &next), delay);
        } else {
            killed_after(&host, &rotate, delay);
        }
        let (now, found) = loaded(&host);
        if now != sequence {
            assert_eq!((now, &found), (sequence + 1, &Some(next)), "round {round}");
            changed += 1;
        } else {
            assert_eq!(found, state, "round {round}");
        }
        only_file(&host);
        (sequence, state) = (now, found);
    }
    assert!(
        rounds < 100 || (changed > 0 && changed < rounds / 2),
        "{changed} of {rounds} got through"
    );
}

/// A host at whose shell `memo` is run.
struct Shell {
    folder: tempfile::TempDir,
}

impl Shell {
    fn new() -> Shell {
        let shell = Shell {
            folder: tempfile::tempdir().expect("a folder"),
        };
        assert_ends(&shell.vmm(&["tpm", "init"], &[]), 0);
        shell
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn trust(&self) -> String {
        shop().expect("builds").join("trust.store").display().to_string()
    }

    fn tpm(&self) -> String {
        format!("swtpm:{}", self.file("tpm"))
    }

    fn vmm(&self, words: &[&str], more: &[&str]) -> Ended {
        let (tpm, trust) = (self.tpm(), self.trust());
        let options = ["--tpm", &tpm, "--trust", &trust];
        let words = words.iter().chain(&options).chain(more);
        programs().vmm.run(words).expect("ends")
    }

    fn memo(&self, words: &[&str]) -> Ended {
        let (audit, memo) = (self.file("audit.jsonl"), memo().display().to_string());
        self.vmm(&["run", "--audit", &audit], &[&[&memo[..]][..], words].concat())
    }

    fn audit(&self) -> String {
        std::fs::read_to_string(self.file("audit.jsonl")).expect("is there")
    }
}

fn memo() -> PathBuf {
    shop().expect("builds").join("memo.muscle")
}

#[test]
fn a_muscle_remembers_from_run_to_run() {
    let shell = Shell::new();
    assert_eq!(assert_ends(&shell.memo(&[]), 0), "");
    assert_eq!(assert_ends(&shell.memo(&["buy", "milk"]), 0), "buy milk\n");
    assert_eq!(assert_ends(&shell.memo(&["call"]), 0), "buy milk\ncall\n");
    assert_eq!(assert_ends(&shell.memo(&[]), 0), "buy milk\ncall\n");
    let status = assert_ends(&shell.vmm(&["tpm", "status"], &[]), 0);
    assert!(
        status.contains("demo memo notes: 14 bytes, saved 2 times"),
        "{status}"
    );
    // Each use is in the log, with its length and without a word of it.
    let log = shell.audit();
    assert!(log.contains("state.load") && log.contains("state.save"), "{log}");
    for folder in [shell.folder.path(), &shell.folder.path().join("tpm/referee")] {
        assert!(!any_file_has(folder, b"milk"), "{}", folder.display());
    }

    // Without its file the muscle is told that it cannot be had, and the operator why.
    for entry in std::fs::read_dir(shell.folder.path().join("tpm/referee")).expect("is there") {
        let path = entry.expect("is there").path();
        if path.display().to_string().contains("/state-") {
            std::fs::remove_file(path).expect("is removed");
        }
    }
    let text = assert_ends(&shell.memo(&[]), 1);
    assert!(
        text.contains("muscle-state-lost") && text.contains("tpm forget-state"),
        "{text}"
    );
    assert!(shell.audit().contains("muscle-state-lost"));
    let forget = "tpm forget-state --publisher demo --muscle memo --slot notes";
    let forget: Vec<&str> = forget.split(' ').collect();
    assert_ends(&shell.vmm(&forget, &[]), 0);
    assert_eq!(assert_ends(&shell.memo(&[]), 0), "");
}

fn any_file_has(folder: &Path, word: &[u8]) -> bool {
    let entries = std::fs::read_dir(folder).expect("is there");
    entries
        .filter_map(|entry| std::fs::read(entry.ok()?.path()).ok())
        .any(|bytes| bytes.windows(word.len()).any(|window| window == word))
}

#[test]
fn without_a_tpm_nothing_is_kept_and_nothing_runs() {
    let shell = Shell::new();
    let (audit, memo_file) = (shell.file("audit.jsonl"), memo().display().to_string());
    let shell_trust = shell.trust();
    let words = ["run", "--trust", &shell_trust, "--audit", &audit, &memo_file];
    let ended = programs().vmm.run(words).expect("ends");
    assert!(assert_ends(&ended, 101).contains("[no-tpm]"));

    // One whose TPM has no key could keep nothing.
    let mut words = vec!["run", "--trust", &shell_trust, "--audit", &audit];
    let keyless = format!("swtpm:{}", shell.file("keyless"));
    words.extend(["--tpm", &keyless, &memo_file]);
    let ended = programs().vmm.run(&words).expect("ends");
    assert!(assert_ends(&ended, 104).contains("[tpm-not-initialised]"));
    assert!(!shell.audit().contains("\"start\""), "{}", shell.audit());

    // The identity of this program is another one than that of `referee-vmm`.
    let mut tpm = Tpm::new(keyless, programs().tpm.path());
    (tpm.registers.identity, tpm.registers.muscles) = (12, 11);
    tpm.state = Some(shell.folder.path().join("own"));
    let mut config = Config::new(shell.trust(), shell.file("library.jsonl"));
    config.tpm = Some(tpm);
    let referee = Referee::open(&config).expect("opens");
    let muscle = referee.admit_file(&memo()).expect("is admitted");
    let refused = muscle.permit(&[]).expect_err("is refused");
    assert_eq!(name_of(&refused), "tpm-not-initialised");

    config.tpm = None;
    let referee = Referee::open(&config).expect("opens");
    let muscle = referee.admit_file(&memo()).expect("is admitted");
    let refused = muscle.permit(&[]).expect_err("is refused");
    assert!(refused.to_string().contains("Config::tpm"), "{refused}");
}

#[test]
fn an_embedded_muscle_remembers_too() {
    let shell = Shell::new();
    let mut config = Config::new(shell.trust(), shell.file("audit.jsonl"));
    config.tpm = Some(Tpm {
        // The identity of this program is another one than that of `referee-vmm` in this boot.
        state: Some(shell.folder.path().join("own")),
        registers: referee::Registers {
            identity: 12,
            muscles: 11,
            allow_resettable: false,
        },
        counter: 0x0180_0101,
        ..Tpm::new(shell.tpm(), programs().tpm.path())
    });
    let referee = Referee::open(&config).expect("opens");
    referee.tpm().expect("was named").init().expect("makes a key");
    let muscle = referee.admit_file(&memo()).expect("is admitted");
    let permit = muscle.permit(&[]).expect("is permitted");
    let thread = CellThread::enter().expect("enters");
    let run = |words: &[&str]| {
        let (console, out, _) = ConsoleStreams::memory(Vec::new());
        let arguments = [&["memo"][..], words].concat();
        let inputs = Inputs {
            arguments: arguments.iter().map(|word| word.as_bytes().to_vec()).collect(),
            console,
            ..Inputs::default()
        };
        let mut cell = permit.start_main(inputs).expect("starts");
        assert_eq!(cell.run(&thread).expect("runs"), 0);
        let out = out.lock().expect("nobody panicked");
        String::from_utf8(out.clone()).expect("is text")
    };
    assert_eq!(run(&["once"]), "once\n");
    assert_eq!(run(&["twice"]), "once\ntwice\n");
    // The other program of this host keeps its own.
    assert_eq!(assert_ends(&shell.memo(&[]), 0), "");
}
