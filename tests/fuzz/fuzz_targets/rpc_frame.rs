//! Frames from a muscle, through header, handle, operation and payload: each is answered or ends the cell, and
//! the log stays whole.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use muscle_abi::boot::Style;
use muscle_abi::frame::{FrameHeader, HEADER_SIZE};
use referee_audit::{AuditLog, AuditSink, Options};
use referee_bundle::{Arch, CapabilityRequest, ClockGrade, FilesAccess, Limits, Manifest, Slot};
use referee_capabilities::{Broker, BrokerLimits, CellClock, ConsoleStreams, Resources};
use referee_policy::{Applicant, Binding, Grants, PolicySet, decide};

static GRANTS: LazyLock<(tempfile::TempDir, Grants)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let slot = |name: &str, request| Slot {
        name: name.to_owned(),
        request,
        delegated: None,
    };
    let files = CapabilityRequest::Files {
        access: FilesAccess::ReadWrite,
        max_bytes: 1 << 16,
        max_files: 16,
    };
    let manifest = Manifest {
        name: "fuzz".to_owned(),
        version: "1".to_owned(),
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
                    grade: ClockGrade::Fine,
                },
            ),
            slot("console", CapabilityRequest::Console { input: true }),
            slot("files", files),
            slot("random", CapabilityRequest::Random),
        ],
        limits: Limits {
            memory_bytes: 1 << 20,
            stack_bytes: 1 << 16,
            cpu_ms: None,
            deadline_ms: None,
        },
        exports: Vec::new(),
        description: String::new(),
    };
    let applicant = Applicant {
        manifest: &manifest,
        publisher: "fuzz",
        key_id: String::new(),
    };
    let all =
        PolicySet::parse(&[("all", "@id(\"all\") permit (principal, action, resource);")]).expect("Cedar");
    let bind = format!("files=dir:{}:rw", folder.path().display());
    let bind = Binding::parse(&bind)
        .and_then(Binding::resolve)
        .expect("a binding");
    let grants = decide(&applicant, &[bind], &all)
        .and_then(|decision| decision.grants())
        .expect("granted");
    (folder, grants)
});

// Frames one after the other. The high byte of the handle picks a grant, so that the fuzzer gets past the handles that
// it cannot guess; with 0 the handle stays as it is.
fuzz_target!(|bytes: &[u8]| {
    let grants = &GRANTS.1;
    let audit = AuditSink::new(AuditLog::in_memory(Options::default()), "fuzz", "fuzz 1");
    let (streams, ..) = ConsoleStreams::memory(b"input".to_vec());
    let resources = Resources::acquire(grants, streams).expect("opened");
    let mut broker = Broker::new(
        grants,
        resources,
        audit.clone(),
        CellClock::start(),
        BrokerLimits::default(),
    )
    .expect("a broker");
    let entries = broker.entries();
    let (mut rest, mut reply) = (bytes, Vec::new());
    while let Some((header, after)) = rest.split_first_chunk::<HEADER_SIZE>() {
        let Ok(header) = FrameHeader::parse(header, 4096) else {
            break;
        };
        let Some((body, after)) = after.split_at_checked(header.body_len()) else {
            break;
        };
        let Some((name, payload)) = body.split_at_checked(usize::from(header.name_len)) else {
            break;
        };
        let picked = usize::try_from(header.handle >> 56).unwrap_or(0);
        let handle = picked
            .checked_sub(1)
            .and_then(|at| entries.get(at % entries.len()));
        let handle = handle.map_or(header.handle, |entry| entry.handle);
        if let Ok(name) = std::str::from_utf8(name) {
            let answered = broker.call(handle, name, payload, &mut reply);
            if answered.is_ok() {
                assert!(!reply.is_empty(), "an answer has a payload");
            }
        }
        rest = after;
    }
    let log = audit.memory().expect("in memory");
    referee_audit::verify_bytes(&log).expect("the log stays whole");
});
