//! What a decision costs a process that makes one: each line is a first time, cold caches and all.
//!
//! `cargo run --release -p referee-policy --example cost`, or with a policy file or folder as argument.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use muscle_abi::boot::Style;
use referee_bundle::{Arch, CapabilityRequest, ClockGrade, FilesAccess, Limits, Manifest, Slot};
use referee_policy::{Applicant, Binding, PolicySet, decide};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let paths: Vec<_> = std::env::args_os().skip(1).collect();
    let manifest = manifest();
    let applicant = Applicant {
        manifest: &manifest,
        publisher: "acme",
        key_id: "ab".repeat(32),
    };
    let binds = [Binding::parse("in=dir:/srv/in:ro")?];
    let mut rounds: Vec<[Duration; 3]> = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let policies = if paths.is_empty() {
            PolicySet::shipped_for(&manifest)?
        } else {
            PolicySet::load(&paths)?
        };
        let loaded = start.elapsed();
        let decision = decide(&applicant, &binds, &policies)?;
        let decided = start.elapsed();
        let grants = decision.grants()?;
        drop((policies, decision));
        rounds.push([loaded, decided.saturating_sub(loaded), start.elapsed()]);
        assert_eq!(grants.slots().len(), 3);
    }
    for (name, round) in [("first", rounds.first()), ("twentieth", rounds.last())] {
        if let Some([load, decide, all]) = round {
            println!("{name}: load {load:?}, decide 6 questions {decide:?}, all with drop {all:?}");
        }
    }
    Ok(())
}

fn manifest() -> Manifest {
    let slot = |name: &str, request| Slot {
        name: name.to_owned(),
        request,
        delegated: None,
    };
    let files = CapabilityRequest::Files {
        access: FilesAccess::Read,
        max_bytes: 1 << 20,
        max_files: 10,
    };
    Manifest {
        name: "demo".to_owned(),
        version: "1.0.0".to_owned(),
        security_epoch: 1,
        abi: muscle_abi::ABI_VERSION,
        arch: Arch::X86_64,
        style: Style::Command,
        entry: 0,
        segments: Vec::new(),
        parts: Vec::new(),
        slots: vec![
            slot(
                "clock",
                CapabilityRequest::Clock {
                    grade: ClockGrade::Coarse,
                },
            ),
            slot("console", CapabilityRequest::Console { input: true }),
            slot("in", files),
        ],
        limits: Limits {
            memory_bytes: 1 << 24,
            stack_bytes: 1 << 20,
            cpu_ms: None,
            deadline_ms: None,
        },
        exports: Vec::new(),
        description: String::new(),
    }
}
