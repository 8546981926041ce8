//! Workers that say their muscle delegates what was never granted: ended, and nothing is recorded or done.

use muscle_abi::capability::delegate::CALL_MAX;
use referee_policy::{ChannelRole, FilesAccess, Narrowing, Power};

use super::*;
use crate::channel::{ChannelGrant, Delegating, Role};
use crate::delegation::Waits;

/// A directory, a slot that waits and is not to be delegated on, a channel for each way.
fn granted() -> Granted {
    let files = |max_bytes| Power::Files {
        path: "/srv".into(),
        access: FilesAccess::Read,
        within: Some("a".into()),
        max_bytes,
        max_files: 1,
    };
    let channel = |role| Power::Channel {
        channel: "news".into(),
        role,
        max_bytes: 1,
    };
    let grant = |slot: &str, role| ChannelGrant {
        slot: slot.into(),
        channel: "news".into(),
        role,
        max_bytes: 1,
    };
    let function = || "f".to_owned();
    let given = Given {
        channels: vec![
            grant("to", Role::Send { max_messages: 1 }),
            grant("in", Role::Receive { function: function() }),
        ],
        powers: vec![
            ("books".into(), files(8)),
            ("lent".into(), files(8)),
            ("to".into(), channel(ChannelRole::Send { max_messages: 1 })),
            (
                "in".into(),
                channel(ChannelRole::Receive { function: function() }),
            ),
        ],
        waits: [(
            "lent".to_owned(),
            Waits {
                from: "in".into(),
                onward: false,
            },
        )]
        .into(),
        ..Given::default()
    };
    Granted {
        deadline_ms: LITTLE_TIME,
        given,
    }
}

fn asked(by: &str, slot: &str, to: &str, narrowing: Option<Narrowing>) -> Delegating {
    Delegating {
        by: by.into(),
        slot: slot.into(),
        to: to.into(),
        narrowing,
    }
}

fn whole() -> Option<Narrowing> {
    Some(Narrowing::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delegation_of_what_was_never_granted_ends_the_worker() {
    let wider = |narrowing: Narrowing| asked("to", "books", "lent", Some(narrowing));
    let lies = [
        ("over no channel", asked("none", "books", "lent", whole())),
        ("over one that receives", asked("in", "books", "lent", whole())),
        ("over a slot that is none", asked("books", "books", "lent", None)),
        ("a slot that it has not", asked("to", "none", "lent", whole())),
        (
            "of a kind that nobody delegates",
            asked("to", "to", "lent", whole()),
        ),
        (
            "what is not to be delegated on",
            asked("to", "lent", "lent", whole()),
        ),
        (
            "a name that no slot has",
            asked("to", "books", &"x".repeat(1 << 20), whole()),
        ),
        ("another such name", asked("to", &"x".repeat(33), "lent", None)),
        (
            "more bytes",
            wider(Narrowing {
                max_bytes: Some(9),
                ..Narrowing::default()
            }),
        ),
        (
            "the whole directory",
            wider(Narrowing {
                within: Some("b".into()),
                ..Narrowing::default()
            }),
        ),
        (
            "a way out of it",
            wider(Narrowing {
                within: Some("a/../..".into()),
                ..Narrowing::default()
            }),
        ),
        (
            "names, which a directory has not",
            wider(Narrowing {
                names: Some(vec!["x".into()]),
                ..Narrowing::default()
            }),
        ),
    ];
    for (what, lie) in lies {
        let life = move |number: usize, mut worker: Worker| {
            worker.is_ready();
            if number == 0
                && let Some(call) = worker.next()
            {
                worker.stopped(call, Duration::ZERO, How::Delegates(lie.clone()));
            }
            worker.serve();
        };
        let stage = Stage::of(nursery(granted(), life), |_| {}).await;
        match stage.call().await {
            Err(NodeError::WorkerGone { how }) => assert!(how.contains("delegated"), "{what}: {how}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(stage.out_of_order(), 1, "{what}");
        stage.goes_on().await;
        let log = std::fs::read_to_string(stage.folder.path().join("audit.jsonl")).expect("is there");
        assert!(!log.contains("delegate"), "{what}");
        assert_eq!(stage.node.delegations().iter().count(), 0, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_delegates_without_end_is_ended() {
    let life = |number: usize, mut worker: Worker| {
        worker.is_ready();
        while let Some(call) = worker.next() {
            match number {
                // What is refused each time, as nobody receives.
                0 => worker.stopped(
                    call,
                    Duration::ZERO,
                    How::Delegates(asked("to", "books", "lent", whole())),
                ),
                _ => worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6])),
            }
        }
    };
    let stage = Stage::of(nursery(granted(), life), |_| {}).await;
    stage.loses_its_worker().await;
    assert_eq!(stage.out_of_order(), 1);
    stage.goes_on().await;
    let deployment = stage.node.deployment("demo").expect("is deployed");
    assert!(deployment.counters.read().slices <= u64::from(CALL_MAX) + 2);
}
