//! A TPM that does not answer, answers nonsense, or is not there.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use referee_attest::{AttestError, Attester, Open, Reply, Request};

use crate::host::{Host, NONCE, Tools, programs};

/// A host whose TPM is this function: each piece of what is sent to it, and what it answers.
fn with_tpm(answer: impl Fn(&[u8]) -> Vec<u8> + Send + Clone + 'static) -> Host {
    let mut host = Host::new();
    let socket = host.path("false.sock");
    for path in [socket.clone(), host.path("false.sock.ctrl")] {
        let listener = UnixListener::bind(path).expect("listens");
        let answer = answer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let answer = answer.clone();
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count) = stream.read(&mut buffer) {
                        if count == 0 || stream.write_all(&answer(&buffer[..count])).is_err() {
                            return;
                        }
                    }
                });
            }
        });
    }
    host.open.tpm = format!("tcti:swtpm:path={}", socket.display());
    host
}

fn asked(host: &Host, patience: Duration) -> AttestError {
    Attester::start(programs().tpm.path(), host.open.clone(), patience)
        .and_then(|mut attester| attester.ask(&Request::Status))
        .expect_err("cannot be answered")
}

#[test]
fn a_tpm_that_stalls_is_given_up() {
    let host = with_tpm(|_| Vec::new());
    let begun = Instant::now();
    let error = asked(&host, Duration::from_millis(300));
    assert!(matches!(error, AttestError::Stalled(_)), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_tpm_that_answers_nonsense_is_an_error_and_nothing_worse() {
    for seed in 0..48u64 {
        let host = with_tpm(move |sent| {
            // A small generator, so that a failure can be repeated.
            let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ sent.len() as u64;
            let mut next = move || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_le_bytes()[5]
            };
            let length = usize::from(next()) % 64 + 10;
            let mut bytes: Vec<u8> = (0..length).map(|_| next()).collect();
            // Every second one has a sound head: tag, size, success.
            if seed % 2 == 0 {
                bytes[..2].copy_from_slice(&[0x80, 0x01]);
                let size = u32::try_from(length).unwrap_or(0);
                bytes[2..6].copy_from_slice(&size.to_be_bytes());
                bytes[6..10].fill(0);
            }
            bytes
        });
        match asked(&host, Duration::from_secs(1)) {
            AttestError::Failed { name, .. } => {
                let known = ["tpm-unreachable", "tpm-refused", "tpm-malformed"];
                assert!(known.contains(&name.as_str()), "seed {seed}: {name}");
            }
            AttestError::Stalled(_) => {}
            other => panic!("seed {seed}: {other}"),
        }
    }
}

#[test]
fn a_tpm_that_is_not_there_is_named() {
    let mut host = Host::new();
    host.open.tpm = "device:/dev/no-such-tpm".into();
    let error = asked(&host, Duration::from_secs(10));
    let text = error.to_string();
    assert!(
        matches!(&error, AttestError::Failed { name, .. } if name == "tpm-unreachable"),
        "{error}"
    );
    assert!(
        text.contains("No such file") && text.contains("swtpm:DIR"),
        "{text}"
    );
}

/// What a host answers while other tools have its TPM, without a resource manager between.
fn beside(host: &Host, tools: &Tools, request: &Request) -> Result<Reply, AttestError> {
    let open = Open {
        tpm: format!("tcti:swtpm:path={}", tools.socket().display()),
        ..host.open.clone()
    };
    Attester::start(programs().tpm.path(), open, Duration::from_secs(20))?.ask(request)
}

#[test]
fn a_tpm_whose_memory_others_hold_is_named_and_serves_again() {
    let host = Host::ready();
    let tools = host.tools();
    let (file, sessions) = (host.path("object").display().to_string(), host.path("session"));
    for object in 0..3 {
        tools.run(
            "tpm2_createprimary",
            &["-C", "o", "-c", &format!("{file}{object}")],
        );
    }
    let full = beside(&host, &tools, &Request::Status).expect_err("has no room");
    assert_eq!(full.name(), "tpm-refused", "{full}");
    assert!(full.to_string().contains("out of memory"), "{full}");
    tools.run("tpm2_flushcontext", &["--transient-object"]);
    beside(&host, &tools, &Request::Status).expect("has room again");

    // Every session that it can keep count of, wherever they are saved.
    let start = |number: u32| {
        let path = format!("{}{number}", sessions.display());
        tools.try_run("tpm2_startauthsession", &["-S", &path])
    };
    let started = (0..200).take_while(|number| start(*number)).count();
    assert!((3..200).contains(&started), "{started}");
    let full = beside(&host, &tools, &Request::Status).expect_err("has no session");
    assert_eq!(full.name(), "tpm-refused", "{full}");
    tools.run("tpm2_flushcontext", &["--saved-session"]);
    beside(&host, &tools, &Request::Status).expect("has sessions again");
}

#[test]
fn a_tpm_in_lockout_still_serves() {
    let host = Host::ready();
    let tools = host.tools();
    tools.run(
        "tpm2_dictionarylockout",
        &[
            "--setup-parameters",
            "--max-tries=1",
            "--recovery-time=1000",
            "--lockout-recovery-time=1000",
        ],
    );
    let (parent, key) = (
        host.path("parent").display().to_string(),
        host.path("key").display().to_string(),
    );
    tools.run("tpm2_createprimary", &["-C", "o", "-c", &parent]);
    tools.run("tpm2_create", &["-C", &parent, "-p", "secret", "-c", &key]);
    tools.run("tpm2_flushcontext", &["--transient-object"]);
    // A wrong password, once, and the TPM takes no more.
    assert!(!tools.try_run(
        "tpm2_sign",
        &["-c", &key, "-p", "wrong", "-o", "/dev/null", "/dev/null"]
    ));
    let state = tools.run("tpm2_getcap", &["properties-variable"]);
    assert!(
        state
            .lines()
            .any(|line| line.contains("inLockout") && line.contains('1')),
        "{state}"
    );
    for request in [
        Request::Status,
        Request::Rotate { older_than: None },
        Request::Evidence {
            nonce: referee_evidence::to_hex(&NONCE),
            spoke: BTreeMap::new(),
            audit_head: None,
        },
    ] {
        beside(&host, &tools, &request).expect("serves");
    }
}
