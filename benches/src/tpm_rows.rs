//! What the host's TPM costs, where it is a program: each row is one request to `referee-tpm`, which is started for it, starts the TPM,
//! and ends both.

use std::collections::BTreeMap;

use anyhow::Context;
use referee::{HostTpm, Tpm};
use referee_attest::{Bundle, Component, Facts, Request, StateOwner, to_hex};

use crate::rows::{Bench, timed};

/// A host with a key, whose state directory is gone with it.
pub struct TpmHost {
    tpm: HostTpm,
    _folder: tempfile::TempDir,
}

impl TpmHost {
    /// Makes TPM and key, and saves a state.
    pub fn new() -> anyhow::Result<TpmHost> {
        let folder = tempfile::tempdir()?;
        let program = std::env::current_exe()?.with_file_name("referee-tpm");
        let tpm = Tpm::new(format!("swtpm:{}", folder.path().display()), program);
        let component = Component {
            name: "bench".into(),
            digest: [1; 32],
        };
        let tpm = HostTpm::new(tpm, vec![component], 1);
        for request in [Request::Init { replace: false }, measure(), save()] {
            tpm.ask(&request).context("setting a software TPM up")?;
        }
        Ok(TpmHost { tpm, _folder: folder })
    }
}

fn bundle() -> Bundle {
    Bundle {
        muscle: "bench 1.0.0".into(),
        digest: [2; 32],
        signer: [3; 32],
        epoch: 1,
    }
}

fn measure() -> Request {
    Request::Measure {
        bundle: bundle(),
        to_be_signed: true,
    }
}

fn owner() -> StateOwner {
    StateOwner {
        publisher: "bench".into(),
        muscle: "bench".into(),
        slot: "state".into(),
    }
}

fn save() -> Request {
    Request::SaveState {
        owner: owner(),
        bundle: bundle(),
        after: None,
        bytes: to_hex(&[5; 4096]),
    }
}

fn asked(bench: &mut Bench, count: usize, samples: &mut Vec<f64>, request: &Request) -> anyhow::Result<()> {
    let host = bench.tpm()?;
    for _ in 0..count {
        timed(samples, || host.tpm.ask(request))?;
    }
    Ok(())
}

/// A bundle that this boot has run before.
pub fn measured(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    asked(bench, count, samples, &measure())
}

/// A receipt.
pub fn receipt(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let facts = Facts {
        bundle: bundle(),
        grants: [1; 32],
        policy: [2; 32],
        function: Some("echo".into()),
        input: [3; 32],
        output: [4; 32],
        outcome: "answered".into(),
        wall_us: 100,
        cpu_us: 100,
        exits: 2,
        heap_bytes: 0,
        log_records: 3,
        log_hash: to_hex(&[5; 32]),
        nondeterminism: Vec::new(),
    };
    let facts = Box::new(facts);
    asked(bench, count, samples, &Request::Receipt { facts })
}

/// Evidence.
pub fn evidence(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let request = Request::Evidence {
        nonce: to_hex(&[7; 16]),
        spoke: BTreeMap::new(),
        audit_head: None,
    };
    asked(bench, count, samples, &request)
}

/// A muscle's state, loaded.
pub fn load(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let request = Request::LoadState {
        owner: owner(),
        epoch: 1,
    };
    asked(bench, count, samples, &request)
}

/// A muscle's state, saved.
pub fn saved(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    asked(bench, count, samples, &save())
}
