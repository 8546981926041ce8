//! The seccomp policies as data: their size, their reasons, and what is refused as a policy.
#![forbid(unsafe_code)]

use referee_jail::{Filter, FilterSet, NotARemoval, OnViolation, PolicyError, Removal};

const EACH: [Filter; 3] = [
    Filter::Vcpu { files: false },
    Filter::Vcpu { files: true },
    Filter::Io,
];

fn policy(entries: &str) -> Result<FilterSet, PolicyError> {
    FilterSet::from_json(&format!(
        r#"{{"x": {{"mismatch_action": "kill_process", "match_action": "allow", "filter": [{entries}]}}}}"#
    ))
}

#[test]
fn vcpu_thread_is_allowed_25_calls_at_most() {
    // Builds with debug assertions need one more, from `debug.json`.
    let extra = usize::from(cfg!(debug_assertions));
    let calls = Filter::Vcpu { files: true }.policy().expect("a policy").calls();
    assert!(calls <= 25 + extra, "{calls}");
}

#[test]
fn every_entry_has_a_reason() {
    for filter in EACH {
        for entry in filter.policy().expect("a policy").entries() {
            assert!(
                entry.reason().len() >= 7,
                "{}: {}",
                entry.syscall(),
                entry.reason()
            );
        }
    }
}

#[test]
fn no_filter_lists_a_call_that_would_undo_confinement() {
    let never = [
        "execve",
        "execveat",
        "fork",
        "vfork",
        "clone",
        "clone3",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "open",
        "openat",
        "mount",
        "setns",
        "unshare",
        "bpf",
        "io_uring_setup",
        "io_uring_enter",
        "userfaultfd",
        "prctl",
        "seccomp",
        "kill",
        "tkill",
        "pidfd_getfd",
        "memfd_create",
        "shmat",
        "personality",
        "chroot",
    ];
    for filter in EACH {
        for entry in filter.policy().expect("a policy").entries() {
            assert!(!never.contains(&entry.syscall()), "{}", entry.syscall());
        }
    }
}

#[test]
fn program_of_the_build_is_what_the_policy_compiles_to() {
    for filter in EACH {
        let now = filter.program_with(&[], OnViolation::Kill).expect("a program");
        assert_eq!(filter.program(), now);
        assert_ne!(
            filter.program(),
            filter.program_with(&[], OnViolation::Log).expect("a program")
        );
    }
}

#[test]
fn each_removal_gives_another_program_and_survives_its_text() {
    for filter in EACH {
        for removal in Removal::each(filter).expect("a policy") {
            let fewer = filter
                .program_with(std::slice::from_ref(&removal), OnViolation::Kill)
                .expect("a program");
            assert_ne!(fewer, filter.program(), "{removal}");
            assert_eq!(removal.to_string().parse(), Ok(removal));
        }
    }
}

#[test]
fn removal_for_another_thread_changes_nothing() {
    let removal = ["io:epoll_wait".parse().expect("a removal")];
    let vcpu = Filter::Vcpu { files: false };
    assert_eq!(
        vcpu.program_with(&removal, OnViolation::Kill).expect("a program"),
        vcpu.program()
    );
}

#[test]
fn refuses_a_removal_of_what_is_not_there() {
    for text in ["vcpu:execve", "vcpu:ioctl#9"] {
        let removal = [text.parse().expect("a removal")];
        let refused = Filter::Vcpu { files: true }.program_with(&removal, OnViolation::Kill);
        assert!(matches!(refused, Err(PolicyError::NoEntry { .. })), "{text}");
    }
    for text in [
        "",
        "read",
        "vcpu:",
        "gpu:read",
        "vcpu:read#",
        "vcpu:read#-1",
        "vcpu:#0",
    ] {
        assert_eq!(text.parse::<Removal>(), Err(NotARemoval), "{text}");
    }
}

#[test]
fn refuses_malformed_policies() {
    assert!(matches!(FilterSet::from_json("["), Err(PolicyError::Json(_))));
    assert!(matches!(
        FilterSet::from_json("{}"),
        Err(PolicyError::Policies { count: 0 })
    ));
    let two = r#"{"mismatch_action": "kill_process", "match_action": "allow", "filter": []}"#;
    let two = format!(r#"{{"a": {two}, "b": {two}}}"#);
    assert!(matches!(
        FilterSet::from_json(&two),
        Err(PolicyError::Policies { count: 2 })
    ));
    let open = r#"{"a": {"mismatch_action": "allow", "match_action": "kill_process", "filter": []}}"#;
    assert!(matches!(FilterSet::from_json(open), Err(PolicyError::Actions)));
    assert!(matches!(
        policy(r#"{"syscall": "read"}"#),
        Err(PolicyError::Json(_))
    ));
    assert!(matches!(
        policy(r#"{"syscall": "read", "comment": " "}"#),
        Err(PolicyError::NoReason { index: 0, .. })
    ));
    assert!(matches!(
        policy(r#"{"syscall": "read", "comment": "one"}, {"syscall": "read", "comment": "two"}"#),
        Err(PolicyError::Ambiguous { .. })
    ));
    assert!(policy(r#"{"syscall": "read", "comment": "one"}"#).is_ok());
}
