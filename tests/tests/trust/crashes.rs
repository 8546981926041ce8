//! SIGKILL to the process **and** its TPM, at every step of a rotation, over and over.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use referee_attest::{Bundle, Request};

use crate::host::{Host, bundle, measure, programs};

/// How often; a thousand by default.
pub fn rounds() -> u32 {
    std::env::var("REFEREE_CRASHES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(1000)
}

/// Starts a request and kills the process after a while; the TPM dies with it (`setpriv --pdeathsig KILL`).
pub fn killed_after(host: &Host, request: &Request, delay: Duration) {
    let mut process = Command::new(programs().tpm.path())
        .env("TSS2_LOG", "all+none")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut input = process.stdin.take().expect("is a pipe");
    for request in [&Request::Open(Box::new(host.open.clone())), request] {
        let mut line = serde_json::to_vec(request).expect("is JSON");
        line.push(b'\n');
        input.write_all(&line).expect("is written");
    }
    std::thread::sleep(delay);
    let _ = process.kill();
    let _ = process.wait();
}

/// How long a request takes undisturbed.
fn took(host: &Host, request: &Request) -> Duration {
    let begun = Instant::now();
    host.ask(request).expect("is answered");
    begun.elapsed()
}

#[test]
fn rotation_killed_anywhere_loses_no_key_and_leaves_no_old_one_good() {
    let host = Host::ready();
    let usual = (0..5)
        .map(|_| took(&host, &Request::Rotate { older_than: None }))
        .max()
        .unwrap_or_default();
    let (mut epoch, mut key) = host.keys();
    let (mut committed, mut old_files) = (0, 0);
    let rounds = rounds();
    for round in 0..rounds {
        let old = std::fs::read(host.path("state").join(format!("epoch-{epoch}"))).expect("is there");
        // Spread over all of the rotation and a little longer, as others may have the machine, in an order that does not depend on the round
        // before.
        let delay = usual * (round * 389 % 1000) / 800;
        killed_after(&host, &Request::Rotate { older_than: None }, delay);
        let (now, found) = host.keys();
        // A commit carries the old key one epoch on, and then has the new one in the next.
        if now < epoch + 2 {
            assert!(now >= epoch, "round {round}: {now} after {epoch}");
            assert_eq!(found, key, "round {round}: the key of epoch {epoch} changed");
        } else {
            assert_eq!(now, epoch + 2, "round {round}");
            assert_ne!(found, key, "round {round}");
            committed += 1;
            // The old file, wherever somebody puts it.
            if committed % 16 == 1 {
                let current = host.path("state").join(format!("epoch-{now}"));
                let new = std::fs::read(&current).expect("is there");
                std::fs::write(&current, &old).expect("is written");
                assert_eq!(host.refused(&Request::Status), "key-closed", "round {round}");
                std::fs::write(&current, &new).expect("is written");
                old_files += 1;
            }
        }
        (epoch, key) = (now, found);
    }
    assert!(
        rounds < 100 || (committed > rounds / 20 && committed < rounds),
        "{committed} of {rounds} got through"
    );
    assert!(committed == 0 || old_files > 0);
}

#[test]
fn measuring_killed_anywhere_leaves_log_and_registers_in_step() {
    let host = Host::ready();
    let request = |seed: u32| {
        let [.., high, low] = seed.to_be_bytes();
        let mut digest = [high; 32];
        digest[0] = low;
        measure(Bundle {
            digest,
            ..bundle("some", 0)
        })
    };
    let usual = (0..5)
        .map(|seed| took(&host, &request(10_000 + seed)))
        .max()
        .unwrap_or_default();
    for round in 0..rounds() / 10 {
        killed_after(&host, &request(round), usual * (round * 389 % 1000) / 1000);
        host.ask(&request(round)).expect("goes on");
    }
}
