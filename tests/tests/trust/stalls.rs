//! A TPM that does not answer, answers nonsense, or is not there.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use referee_attest::{AttestError, Attester, Request};

use crate::host::{Host, programs};

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
