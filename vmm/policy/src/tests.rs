//! Decisions: each rule by a case that breaks just it.

use std::time::Duration;

use std::os::unix::fs::PermissionsExt;

use cedar_policy::SchemaFragment;
use muscle_abi::boot::Style;
use muscle_abi::capability::CapabilityKind;
use proptest::prelude::*;
use referee_bundle::{Arch, CapabilityRequest, Limits, Manifest, Slot};

use crate::policies::{DEFAULT_POLICIES, SCHEMA_JSON, shipped_policies, speaks_of};
use crate::*;

const FILES: CapabilityRequest = CapabilityRequest::Files {
    access: FilesAccess::Read,
    max_bytes: 1 << 20,
    max_files: 10,
};
const FILES_RW: CapabilityRequest = CapabilityRequest::Files {
    access: FilesAccess::ReadWrite,
    max_bytes: 1 << 20,
    max_files: 10,
};

fn manifest(slots: &[(&str, CapabilityRequest)]) -> Manifest {
    Manifest {
        name: "com.example.demo".to_owned(),
        version: "1.2.3".to_owned(),
        security_epoch: 4,
        abi: muscle_abi::ABI_VERSION,
        arch: Arch::X86_64,
        style: Style::Command,
        entry: 0,
        segments: Vec::new(),
        parts: Vec::new(),
        slots: slots
            .iter()
            .map(|(name, request)| Slot {
                name: (*name).to_owned(),
                request: request.clone(),
                delegated: None,
            })
            .collect(),
        limits: Limits {
            memory_bytes: 16 << 20,
            stack_bytes: 1 << 20,
            cpu_ms: None,
            deadline_ms: Some(5000),
        },
        exports: Vec::new(),
        description: String::new(),
    }
}

fn applicant(manifest: &Manifest) -> Applicant<'_> {
    Applicant {
        manifest,
        publisher: "acme",
        key_id: "ab".repeat(32),
    }
}

fn bind(texts: &[&str]) -> Vec<Binding> {
    texts
        .iter()
        .map(|text| Binding::parse(text).expect("a binding"))
        .collect()
}

/// Policies that permit everything but what `more` forbids.
fn all_but(more: &str) -> PolicySet {
    let text = format!("@id(\"all\") permit (principal, action, resource);\n{more}");
    PolicySet::parse(&[("test.cedar", &text)]).expect("policies")
}

fn refusal(slots: &[(&str, CapabilityRequest)], binds: &[&str], policies: &PolicySet) -> Rejected {
    decide(&applicant(&manifest(slots)), &bind(binds), policies).expect_err("a refusal")
}

#[test]
fn the_two_forms_of_the_schema_are_one() {
    let (fragment, warnings) = SchemaFragment::from_cedarschema_str(SCHEMA).expect("a schema");
    assert_eq!(warnings.count(), 0);
    let from_text: serde_json::Value =
        serde_json::from_str(&fragment.to_json_string().expect("JSON")).expect("JSON");
    if std::env::var_os("REFEREE_BLESS").is_some() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../policies/referee.cedarschema.json"
        );
        let text = serde_json::to_string(&from_text).expect("JSON") + "\n";
        std::fs::write(path, text).expect("written");
        return;
    }
    let shipped: serde_json::Value = serde_json::from_str(SCHEMA_JSON).expect("JSON");
    assert_eq!(from_text, shipped, "run this test once with REFEREE_BLESS=1");
}

#[test]
fn the_shipped_policies_pass_the_check_that_is_left_out_for_them() {
    let checked = PolicySet::parse(&[("default.cedar", DEFAULT_POLICIES)]).expect("checked");
    let shipped = PolicySet::shipped().expect("shipped");
    assert_eq!(checked.cedar, shipped.cedar);
    assert_eq!(checked.digest(), shipped.digest());
}

#[test]
fn leaving_out_shipped_policies_about_other_actions_leaves_out_nothing_that_matters() {
    use cedar_policy::ActionConstraint;
    let whole = PolicySet::shipped().expect("shipped");
    let texts: Vec<&str> = shipped_policies().collect();
    assert_eq!(
        texts.len(),
        whole.cedar.policies().count(),
        "each text is one policy"
    );
    let limits = ["memory", "cpu", "deadline"];
    let actions: Vec<&str> = CapabilityKind::ALL
        .iter()
        .map(|kind| kind.name())
        .chain(limits)
        .collect();
    for text in texts {
        let policy = cedar_policy::Policy::parse(None, text).expect("one policy");
        for action in &actions {
            let may_match = match policy.action_constraint() {
                ActionConstraint::Any => true,
                ActionConstraint::Eq(uid) => uid.id().unescaped() == *action,
                ActionConstraint::In(uids) => uids.iter().any(|uid| uid.id().unescaped() == *action),
            };
            assert!(
                !may_match || speaks_of(text, &[action]),
                "{action} is left out of {text}"
            );
        }
    }
    let small = manifest(&[("console", CapabilityRequest::Console { input: true })]);
    let part = PolicySet::shipped_for(&small).expect("shipped");
    assert_eq!(part.cedar.policies().count(), 3);
    assert_eq!(
        assess(&applicant(&small), &[], &part),
        assess(&applicant(&small), &[], &whole),
        "also the digest of what decided"
    );
}

#[test]
fn the_schema_has_an_action_for_every_capability_and_limit() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA_JSON).expect("JSON");
    let actions = schema[""]["actions"].as_object().expect("actions");
    let mut expected: Vec<&str> = CapabilityKind::ALL.iter().map(|kind| kind.name()).collect();
    expected.extend(["memory", "cpu", "deadline", "spin", "delegate"]);
    expected.sort_unstable();
    assert_eq!(actions.keys().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[test]
fn spinning_is_asked_apart_and_changes_nothing_else() {
    let manifest = manifest(&[]);
    let applicant = applicant(&manifest);
    let spin = r#"@id("spin") permit (principal, action == Action::"spin", resource) when { context.idle_us <= 50 };"#;
    let limits = r#"@id("limits") permit (principal, action in [Action::"memory", Action::"cpu", Action::"deadline"], resource);"#;
    let policies = PolicySet::parse(&[("spin.cedar", spin), ("limits.cedar", limits)]).expect("policies");
    let mut decision = assess(&applicant, &[], &policies);
    let before = (decision.grants(), decision.items().len());
    for refused in [Duration::from_micros(51), Duration::MAX] {
        assert!(decision.ask_spin(&applicant, refused, &policies).is_err());
        assert_eq!((decision.grants(), decision.items().len()), before);
    }
    let shortest = Duration::from_micros(50);
    decision
        .ask_spin(&applicant, shortest, &policies)
        .expect("is permitted");
    assert_eq!(decision.grants(), before.0);
    assert_eq!(decision.items().last().map(|item| item.capability), Some("spin"));
    let mut decision = assess(&applicant, &[], &PolicySet::shipped().expect("shipped"));
    assert!(
        decision
            .ask_spin(&applicant, shortest, &PolicySet::shipped().expect("shipped"))
            .is_err()
    );
}

#[test]
fn every_capability_can_be_granted_and_every_request_fits_the_schema() {
    let slots = [
        ("args", CapabilityRequest::Args),
        (
            "clock",
            CapabilityRequest::Clock {
                grade: ClockGrade::Fine,
            },
        ),
        ("console", CapabilityRequest::Console { input: true }),
        (
            "env",
            CapabilityRequest::Env {
                names: vec!["LANG".to_owned(), "TZ".to_owned()],
            },
        ),
        ("input", FILES),
        ("listen", CapabilityRequest::VsockListen { port: 2000 }),
        ("out", FILES_RW),
        ("peer", CapabilityRequest::VsockConnect { port: 3000 }),
        ("random", CapabilityRequest::Random),
        (
            "serial",
            CapabilityRequest::Pio {
                first: 0x3f8,
                last: 0x3ff,
            },
        ),
    ];
    let binds = bind(&[
        "input=dir:/srv/in:ro",
        "listen=unix:/srv/l.sock",
        "out=dir:/srv/out:rw",
        "peer=unix:/srv/p.sock",
        "serial=serial:stdout",
    ]);
    let manifest = manifest(&slots);
    // These policies were checked, so that each request is checked against the schema too.
    let decision = decide(&applicant(&manifest), &binds, &all_but("")).expect("granted");
    let mut grants = decision.grants().expect("granted");
    assert_eq!(grants.slots().len(), slots.len());
    for (grant, (name, request)) in grants.slots().iter().zip(&slots) {
        assert_eq!((grant.slot(), grant.power().kind()), (*name, request.kind()));
    }
    assert_eq!(
        grants.slots()[4].power(),
        &Power::Files {
            path: "/srv/in".into(),
            access: FilesAccess::Read,
            within: None,
            max_bytes: 1 << 20,
            max_files: 10
        }
    );
    assert_eq!(grants.slots()[9].power().detail(), 0x3f8 | (0x3ff << 32));
    assert!(grants.allows_args() && grants.allows_random());
    assert_eq!(grants.clock(), Some(ClockGrade::Fine));
    assert_eq!(grants.env_names().collect::<Vec<_>>(), ["LANG", "TZ"]);
    assert_eq!(
        grants.listen_ports().map(|(port, _)| port).collect::<Vec<_>>(),
        [2000]
    );
    assert_eq!(
        grants.connect_ports().map(|(port, _)| port).collect::<Vec<_>>(),
        [3000]
    );
    assert_eq!(grants.limits().cpu_ms, DEFAULT_CPU_MS);
    grants.narrow_deadline(100);
    grants.narrow_deadline(200);
    grants.narrow_cpu(u64::MAX);
    assert_eq!(
        (grants.limits().deadline_ms, grants.limits().cpu_ms),
        (100, DEFAULT_CPU_MS)
    );
}

#[test]
fn an_empty_policy_grants_nothing() {
    let empty = PolicySet::parse(&[]).expect("no policies");
    let manifest = manifest(&[("console", CapabilityRequest::Console { input: false })]);
    let decision = assess(&applicant(&manifest), &[], &empty);
    for item in decision.items() {
        assert!(
            matches!(&item.answer, Answer::Refused(Rejected::NotPermitted { .. })),
            "{item:?}"
        );
    }
    assert_eq!(decision.items().len(), 4, "the slot, memory, cpu, deadline");
    assert!(decision.grants().is_err());
}

#[test]
fn the_policy_that_a_refusal_proposes_permits_just_what_was_asked() {
    let empty = PolicySet::parse(&[]).expect("no policies");
    let slots = [
        ("in", FILES),
        (
            "env",
            CapabilityRequest::Env {
                names: vec!["TZ".to_owned()],
            },
        ),
    ];
    let manifest = manifest(&slots);
    let binds = bind(&["in=dir:/srv/a\"b\\c:ro"]);
    let decision = assess(&applicant(&manifest), &binds, &empty);
    let proposed: Vec<String> = decision.refusals().filter_map(Rejected::needed).collect();
    assert_eq!(proposed.len(), 5);
    let policies = PolicySet::parse(&[("p.cedar", &proposed.join("\n"))]).expect("policies");
    decide(&applicant(&manifest), &binds, &policies).expect("all permitted");
    let other = Applicant {
        publisher: "other",
        ..applicant(&manifest)
    };
    assert!(matches!(
        decide(&other, &binds, &policies),
        Err(Rejected::NotPermitted { .. })
    ));
    let elsewhere = bind(&["in=dir:/srv/other:ro"]);
    assert!(matches!(
        decide(&applicant(&manifest), &elsewhere, &policies),
        Err(Rejected::NotPermitted { what, .. }) if what == "in"
    ));
}

#[test]
fn bindings_that_do_not_fit_are_refused_each_by_its_name() {
    let all = all_but("");
    assert_eq!(
        refusal(&[("in", FILES)], &[], &all),
        Rejected::SlotUnbound {
            slot: "in".to_owned(),
            capability: CapabilityKind::Files,
            how: "in=dir:PATH:ro".to_owned()
        }
    );
    assert_eq!(
        refusal(&[("in", FILES)], &["in=dir:/a:ro", "out=dir:/a:ro"], &all),
        Rejected::NoSuchSlot {
            slot: "out".to_owned(),
            declared: vec!["in".to_owned()]
        }
    );
    assert_eq!(
        refusal(&[("in", FILES)], &["in=dir:/a:ro", "in=dir:/b:ro"], &all),
        Rejected::BoundTwice {
            slot: "in".to_owned()
        }
    );
    assert_eq!(
        refusal(
            &[("random", CapabilityRequest::Random)],
            &["random=dir:/a:ro"],
            &all
        ),
        Rejected::NotBindable {
            slot: "random".to_owned(),
            capability: CapabilityKind::Random
        }
    );
    assert_eq!(
        refusal(&[("in", FILES)], &["in=unix:/a"], &all),
        Rejected::WrongThing {
            slot: "in".to_owned(),
            capability: CapabilityKind::Files,
            found: "unix",
            how: "in=dir:PATH:ro".to_owned()
        }
    );
    assert_eq!(
        refusal(&[("out", FILES_RW)], &["out=dir:/a:ro"], &all),
        Rejected::BoundReadOnly {
            slot: "out".to_owned()
        }
    );
    for path in ["/srv/../etc", "srv", "/srv/", "/srv//x"] {
        let bound = format!("dir:{path}:ro");
        assert_eq!(
            refusal(&[("in", FILES)], &[&format!("in={bound}")], &all),
            Rejected::PathNotPlain {
                slot: "in".to_owned(),
                bound
            }
        );
    }
    let serial = |first, last| CapabilityRequest::Pio { first, last };
    assert_eq!(
        refusal(
            &[("a", serial(0x3f8, 0x3ff)), ("b", serial(0x3ff, 0x400))],
            &["a=serial:stdout", "b=serial:stdout"],
            &all
        ),
        Rejected::SamePorts {
            first: "a".to_owned(),
            second: "b".to_owned()
        }
    );
}

#[test]
fn a_read_request_stays_one_on_a_directory_bound_for_writing() {
    let manifest = manifest(&[("in", FILES)]);
    let decision = decide(&applicant(&manifest), &bind(&["in=dir:/a:rw"]), &all_but("")).expect("granted");
    let grants = decision.grants().expect("granted");
    assert!(matches!(
        grants.slots()[0].power(),
        Power::Files {
            access: FilesAccess::Read,
            ..
        }
    ));
}

#[test]
fn a_forbidding_policy_wins_and_is_named_with_its_reason() {
    let policies = all_but(
        "@id(\"no-etc\") @reason(\"secrets\") forbid (principal, action == Action::\"files\", resource) \
         when { context.path like \"/etc*\" };",
    );
    assert_eq!(
        refusal(&[("in", FILES)], &["in=dir:/etc/ssl:ro"], &policies),
        Rejected::Forbidden {
            what: "in".to_owned(),
            by: vec![PolicyRef {
                id: "no-etc".to_owned(),
                reason: Some("secrets".to_owned())
            }]
        }
    );
}

#[test]
fn one_forbidden_variable_refuses_the_whole_slot() {
    let names = vec!["LANG".to_owned(), "MY_SECRET".to_owned()];
    let shipped = PolicySet::shipped().expect("shipped");
    let rejected = refusal(&[("env", CapabilityRequest::Env { names })], &[], &shipped);
    assert!(matches!(rejected, Rejected::Forbidden { what, by }
        if what == "env" && by[0].id == "environment-secrets"));
    // A slot that asks nothing is permitted nothing.
    let rejected = refusal(
        &[("env", CapabilityRequest::Env { names: Vec::new() })],
        &[],
        &all_but(""),
    );
    assert_eq!(
        rejected,
        Rejected::Undecidable {
            what: "env".to_owned(),
            errors: Vec::new()
        }
    );
}

#[test]
fn a_forbidding_policy_that_fails_to_evaluate_refuses() {
    let policies = all_but(
        "@id(\"overflows\") forbid (principal, action == Action::\"cpu\", resource) \
         when { context.ms * 9223372036854775807 > 5 };",
    );
    let rejected = refusal(&[], &[], &policies);
    let Rejected::Undecidable { what, errors } = rejected else {
        panic!("{rejected}")
    };
    assert_eq!(what, "cpu");
    assert!(errors[0].contains("overflow"), "{errors:?}");
}

#[test]
fn limits_are_granted_by_policy_too_and_to_the_byte() {
    let shipped = PolicySet::shipped().expect("shipped");
    let with = |memory_bytes, stack_bytes, cpu_ms, deadline_ms| {
        let mut manifest = manifest(&[]);
        manifest.limits = Limits {
            memory_bytes,
            stack_bytes,
            cpu_ms,
            deadline_ms,
        };
        decide(&applicant(&manifest), &[], &shipped).map(|_| ())
    };
    assert_eq!(with(256 << 20, 16 << 20, Some(60_000), Some(60_000)), Ok(()));
    let names = |result: Result<(), Rejected>| match result {
        Err(Rejected::NotPermitted { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(names(with((256 << 20) + 1, 1 << 20, None, None)), "memory");
    assert_eq!(names(with(256 << 20, (16 << 20) + 1, None, None)), "memory");
    assert_eq!(names(with(1 << 20, 1 << 20, Some(60_001), None)), "cpu");
    assert_eq!(names(with(1 << 20, 1 << 20, None, Some(60_001))), "deadline");
    assert_eq!(
        with(1 << 63, 0, None, None),
        Err(Rejected::NumberTooLarge {
            what: "memory".to_owned(),
            value: 1 << 63
        })
    );
}

#[test]
fn the_shipped_policies_keep_the_hosts_own_places_from_muscles() {
    let shipped = PolicySet::shipped().expect("shipped");
    let try_path = |request: &CapabilityRequest, path: &str, rights: &str| {
        let manifest = manifest(&[("d", request.clone())]);
        decide(
            &applicant(&manifest),
            &bind(&[&format!("d=dir:{path}:{rights}")]),
            &shipped,
        )
        .is_ok()
    };
    for path in [
        "/",
        "/etc",
        "/etc/ssl",
        "/proc/1",
        "/sys",
        "/dev/shm",
        "/home/u/.ssh",
        "/home/u/.aws/x",
    ] {
        assert!(!try_path(&FILES, path, "ro"), "{path}");
    }
    for path in ["/home/u/photos", "/usr/share/zoneinfo", "/etcetera", "/srv"] {
        assert!(try_path(&FILES, path, "ro"), "{path}");
    }
    assert!(!try_path(&FILES_RW, "/usr/share", "rw"));
    assert!(try_path(&FILES_RW, "/srv/out", "rw"));
    let socket = |path: &str| {
        let manifest = manifest(&[("s", CapabilityRequest::VsockConnect { port: 1024 })]);
        decide(
            &applicant(&manifest),
            &bind(&[&format!("s=unix:{path}")]),
            &shipped,
        )
        .is_ok()
    };
    assert!(socket("/srv/app.sock") && !socket("/run/docker.sock") && !socket("/run/systemd/private"));
    let fine = manifest(&[(
        "clock",
        CapabilityRequest::Clock {
            grade: ClockGrade::Fine,
        },
    )]);
    assert!(decide(&applicant(&fine), &[], &shipped).is_err());
}

#[test]
fn policy_files_that_are_none_are_refused_each_by_its_name() {
    let parse = |text: &str| PolicySet::parse(&[("x.cedar", text)]).expect_err("refused");
    assert!(matches!(parse("permit"), PolicyError::Syntax { .. }));
    assert!(matches!(
        parse("@id(\"a\") permit (principal, action, resource); permit (principal, action, resource);"),
        PolicyError::NoId { number: 2, .. }
    ));
    assert!(matches!(
        parse("@id(\"a\") permit (principal, action, resource); @id(\"a\") forbid (principal, action, resource);"),
        PolicyError::SameId { id, .. } if id == "a"
    ));
    assert!(matches!(
        parse("@id(\"a\") permit (principal == ?principal, action, resource);"),
        PolicyError::Template { .. }
    ));
    for misspelt in [
        "context.byte <= 5",
        "context.bytes <= \"5\"",
        "principal.nme == \"acme\"",
        "context.path == resource",
        "principal in Group::\"g\"",
    ] {
        let text = format!(
            "@id(\"a\") permit (principal, action == Action::\"files\", resource) when {{ {misspelt} }};"
        );
        assert!(matches!(parse(&text), PolicyError::Invalid { .. }), "{misspelt}");
    }
    assert!(matches!(
        parse("@id(\"a\") permit (principal, action == Action::\"filez\", resource);"),
        PolicyError::Invalid { .. }
    ));
}

#[test]
fn policies_load_from_files_and_folders_that_others_cannot_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let load = || PolicySet::load(&[folder.path()]);
    assert!(matches!(load(), Err(PolicyError::NoPolicies { .. })));
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    file("b.cedar", b"@id(\"b\") permit (principal, action, resource);");
    let a = file("a.cedar", b"@id(\"a\") permit (principal, action, resource);");
    file("ignored.txt", b"not Cedar");
    let set = load().expect("loads");
    assert!(set.sources()[0].ends_with("a.cedar") && set.sources().len() == 2);
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set");
    };
    mode(&a, 0o646);
    assert!(matches!(
        load(),
        Err(PolicyError::WritableByAll { mode: 0o646, .. })
    ));
    mode(&a, 0o600);
    mode(folder.path(), 0o1777);
    assert!(matches!(
        load(),
        Err(PolicyError::WritableByAll { mode: 0o1777, .. })
    ));
    mode(folder.path(), 0o700);
    file("c.cedar", b"\xff");
    assert!(matches!(load(), Err(PolicyError::NotUtf8 { .. })));
    file("c.cedar", &vec![b' '; 1 << 20 | 1]);
    assert!(matches!(load(), Err(PolicyError::TooLarge { .. })));
    assert!(matches!(
        PolicySet::load(&["/nowhere"]),
        Err(PolicyError::Read { .. })
    ));
}

#[test]
fn a_decision_reads_well_and_is_json() {
    let slots = [
        ("console", CapabilityRequest::Console { input: false }),
        ("in", FILES),
        (
            "time",
            CapabilityRequest::Clock {
                grade: ClockGrade::Fine,
            },
        ),
    ];
    let manifest = manifest(&slots);
    let decision = assess(
        &applicant(&manifest),
        &bind(&["in=dir:/srv/a\x1b[2J:ro"]),
        &PolicySet::shipped().expect("shipped"),
    );
    let text = decision.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(
        words.join(" ").contains("console console output - yes: terminal"),
        "{text}"
    );
    assert!(
        text.contains("yes: files-bound") && text.contains("no: no policy permits it"),
        "{text}"
    );
    assert!(
        text.contains("May not run:") && text.contains("context.grade == \"fine\""),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "no control characters reach a terminal");
    let json: serde_json::Value = serde_json::from_str(&decision.to_json().expect("JSON")).expect("JSON");
    assert_eq!(json["permitted"], false);
    assert_eq!(json["asks"][1]["policies"][0]["id"], "files-bound");
    assert_eq!(json["refusals"][0]["code"], "not-permitted");
    assert_eq!(json["policies"]["sha256"].as_str().map(str::len), Some(64));
}

proptest! {
    #[test]
    fn no_text_makes_the_policy_reader_panic(text in "\\PC{0,200}") {
        let _ = PolicySet::parse(&[("x", &text)]);
        let _ = Binding::parse(&text);
    }

    /// Whatever is bound and asked: with no policy there are no grants.
    #[test]
    fn nothing_is_granted_without_a_policy(port in 1024u32.., bytes: u64, path in "/[a-z./]{0,20}") {
        let empty = PolicySet::parse(&[]).expect("no policies");
        let request = CapabilityRequest::Files { access: FilesAccess::Read, max_bytes: bytes, max_files: 1 };
        let manifest = manifest(&[("a", request), ("b", CapabilityRequest::VsockConnect { port })]);
        let binds = [
            Binding { slot: "a".into(), bound: Bound::Directory { path: path.clone().into(), access: FilesAccess::Read } },
            Binding { slot: "b".into(), bound: Bound::Socket { path: path.into() } },
        ];
        prop_assert!(assess(&applicant(&manifest), &binds, &empty).grants().is_err());
    }
}

#[test]
fn a_channel_is_bound_by_its_name_and_policy_hears_which_way_and_how_much() {
    let channel = |role| CapabilityRequest::Channel { role, max_bytes: 100 };
    let slots = [
        ("ask", channel(ChannelRole::Request { max_messages: 7 })),
        (
            "from",
            channel(ChannelRole::Receive {
                function: "f".to_owned(),
            }),
        ),
    ];
    let policy = r#"@id("one") permit (principal, action == Action::"channel", resource) when {
        context.channel == "orders" && context.role == "request" && context.bytes == 100 && context.messages == 7 ||
        context.channel == "news" && context.role == "receive" && context.bytes == 100 && context.messages == 0
    };
    @id("limits") permit (principal, action in [Action::"memory", Action::"cpu", Action::"deadline"], resource);"#;
    let policies = PolicySet::parse(&[("channels", policy)]).expect("Cedar");
    let bound = ["ask=channel:orders", "from=channel:news"];
    let decision = decide(&applicant(&manifest(&slots)), &bind(&bound), &policies).expect("is granted");
    let grants = decision.grants().expect("are granted");
    let channels: Vec<_> = grants
        .channels()
        .map(|(slot, channel, ..)| (slot, channel))
        .collect();
    assert_eq!(channels, [("ask", "orders"), ("from", "news")]);
    // The other way round, or elsewhere, nobody said yes.
    let swapped = refusal(&slots, &["ask=channel:news", "from=channel:orders"], &policies);
    assert!(matches!(swapped, Rejected::NotPermitted { what, .. } if what == "ask"));
    let unbound = refusal(&slots, &["from=channel:news"], &policies);
    assert!(
        matches!(unbound, Rejected::SlotUnbound { slot, how, .. } if slot == "ask" && how == "ask=channel:CHANNEL")
    );
    let wrong = refusal(&slots, &["ask=unix:/run/x", "from=channel:news"], &policies);
    assert!(matches!(wrong, Rejected::WrongThing { found: "unix", .. }));
}

#[test]
fn a_slot_that_is_delegated_is_asked_about_as_any_other_and_waits() {
    let delegated = |onward| {
        let mut manifest = manifest(&[("dice", CapabilityRequest::Random)]);
        manifest.slots[0].delegated = Some(Delegated {
            from: "in".to_owned(),
            onward,
        });
        manifest
    };
    let shipped = PolicySet::shipped().expect("shipped");
    let decision = decide(&applicant(&delegated(false)), &[], &shipped).expect("permitted");
    assert_eq!(decision.items()[0].asked, "random bytes, when delegated over in");
    let grants = decision.grants().expect("permitted");
    assert_eq!(grants.slots()[0].waits(), Some(Lent::NotYet));
    assert!(!grants.allows_random());
    // To be delegated on, it is asked about once more.
    let refused = decide(&applicant(&delegated(true)), &[], &shipped).expect_err("no policy");
    assert!(
        matches!(&refused, Rejected::NotPermitted { what, would } if what == "dice" && would.contains("Action::\"delegate\"")),
        "{refused}"
    );
    let onward = all_but(
        "@id(\"no\") forbid (principal, action == Action::\"delegate\", resource) when { context.capability == \"files\" };",
    );
    assert!(decide(&applicant(&delegated(true)), &[], &onward).is_ok());
    let from = all_but(
        "@id(\"no\") forbid (principal, action == Action::\"delegate\", resource) when { context.from == \"in\" };",
    );
    assert!(matches!(
        decide(&applicant(&delegated(true)), &[], &from),
        Err(Rejected::Forbidden { .. })
    ));
    assert!(decide(&applicant(&delegated(false)), &[], &from).is_ok());
    let random = all_but("@id(\"no\") forbid (principal, action == Action::\"random\", resource);");
    assert!(
        decide(&applicant(&delegated(false)), &[], &random).is_err(),
        "the bound stays"
    );
}

#[test]
fn what_was_taken_stays_taken_whatever_is_lent() {
    let mut manifest = manifest(&[("dice", CapabilityRequest::Random)]);
    manifest.slots[0].delegated = Some(Delegated {
        from: "in".to_owned(),
        onward: false,
    });
    let granted = decide(&applicant(&manifest), &[], &all_but("")).and_then(|decision| decision.grants());
    let granted = granted.expect("permitted");
    let mut loans = Loans::default();
    loans.put(
        "dice",
        Loan {
            number: 1,
            power: Some(Power::Random),
        },
    );
    let mut standings = Standings::default();
    let waits = |standings: &Standings, loans: &Loans| {
        let left = granted.left(standings, loans);
        left.slot("dice").map(Grant::waits)
    };
    assert_eq!(waits(&standings, &Loans::default()), Some(Some(Lent::NotYet)));
    assert_eq!(waits(&standings, &loans), Some(None));
    standings.revoke("dice");
    assert_eq!(waits(&standings, &loans), None);
}
