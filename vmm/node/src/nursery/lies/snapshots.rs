//! What a worker says of snapshots: of one that nobody asked for, of more than its muscle has, of none for ever.

use std::io::Read as _;
use std::time::Duration;

use super::{Stage, Worker};
use crate::error::NodeError;
use crate::line::{self, FromWorker, How, NotKept, SNAPSHOT_PIECE_MAX, ToWorker};
use crate::node::Principal;
use crate::settings::Settings;

/// A node whose deployment keeps its memory in one cell.
async fn keeping(life: impl Fn(usize, Worker) + Send + Sync + 'static) -> Stage {
    let stage = Stage::with(life, |config| config.snapshots.max_bytes = 64 << 20).await;
    let settings = Settings {
        cells: 1,
        fresh: false,
        ..Settings::default()
    };
    stage.deploy("demo", settings).await;
    stage
}

/// Answers calls as it should, and does something else when it is to keep its muscle.
fn serve(mut worker: Worker, keep: impl Fn(&mut Worker)) {
    worker.is_ready();
    let mut buffer = Vec::new();
    while let Ok(Some(message)) = line::read::<ToWorker>(&mut worker.calls, &mut buffer) {
        match message {
            ToWorker::Run { call, .. } => {
                worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6]));
            }
            ToWorker::Keep => keep(&mut worker),
            _ => {}
        }
    }
}

fn piece(worker: &mut Worker, length: usize) {
    worker.say(&FromWorker::Snapshot {
        bytes: vec![7; length],
    });
}

async fn keep(stage: &Stage) -> Result<String, NodeError> {
    let made = stage.node.snapshot(&Principal("test".into()), "demo").await;
    made.map(|made| made.snapshot)
}

fn files(stage: &Stage) -> usize {
    let folder = stage.folder.path().join("state/snapshots");
    std::fs::read_dir(folder).expect("is there").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_gives_is_kept_as_it_is_and_believed_nothing() {
    let stage = keeping(|_, worker| {
        serve(worker, |worker| {
            piece(worker, 1000);
            piece(worker, SNAPSHOT_PIECE_MAX);
            worker.say(&FromWorker::Kept { refused: None });
        });
    })
    .await;
    match keep(&stage).await {
        Err(NodeError::Rejected { name, .. }) => assert_eq!(name, "snapshot-no-cell"),
        other => panic!("{other:?}"),
    }
    stage.goes_on().await;
    let id = keep(&stage).await.expect("is kept");
    let mut file = stage.node.store().open_snapshot(&id).expect("is there");
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).expect("is read");
    assert!(bytes == vec![7; 1000 + SNAPSHOT_PIECE_MAX]);
    stage.goes_on().await;
    assert_eq!(stage.out_of_order(), 0);
}

/// Something that a worker says of a snapshot.
type Lie = fn(&mut Worker);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_sends_other_than_it_was_asked_for_is_ended_and_leaves_nothing() {
    let lies: [(&str, Lie); 4] = [
        ("more than its muscle has memory", |worker| {
            // A deployment of this stage has a megabyte.
            for _ in 0..64 {
                piece(worker, SNAPSHOT_PIECE_MAX);
            }
        }),
        ("pieces without bytes", |worker| piece(worker, 0)),
        ("pieces that are too large", |worker| {
            piece(worker, SNAPSHOT_PIECE_MAX + 1)
        }),
        ("an end twice", |worker| {
            worker.say(&FromWorker::Kept {
                refused: Some(NotKept::NoCell),
            });
            worker.say(&FromWorker::Kept { refused: None });
        }),
    ];
    for (what, lie) in lies {
        let stage = keeping(move |_, worker| serve(worker, lie)).await;
        stage.goes_on().await;
        let kept = keep(&stage).await;
        assert!(
            matches!(
                kept,
                Err(NodeError::WorkerGone { .. } | NodeError::Rejected { .. })
            ),
            "{what}: {kept:?}"
        );
        // The next call may be the one that finds it ended.
        let _ = stage.call().await;
        stage.goes_on().await;
        assert_eq!(stage.out_of_order(), 1, "{what}");
        assert_eq!(files(&stage), 0, "{what}");
        assert_eq!(stage.node.store().snapshots().expect("is read"), [], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_speaks_of_a_snapshot_unasked_is_ended() {
    let lies: [(&str, Lie); 2] = [
        ("bytes", |worker| piece(worker, 10)),
        ("an end", |worker| {
            worker.say(&FromWorker::Kept { refused: None });
        }),
    ];
    for (what, lie) in lies {
        let stage = Stage::set(move |number, mut worker| {
            worker.is_ready();
            if number == 0 {
                worker.next();
                lie(&mut worker);
            }
            worker.serve();
        })
        .await;
        stage.loses_its_worker().await;
        assert_eq!(stage.out_of_order(), 1, "{what}");
        stage.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_ends_in_the_middle_leaves_nothing() {
    let stage = keeping(|_, worker| {
        serve(worker, |worker| {
            piece(worker, SNAPSHOT_PIECE_MAX);
            let _ = worker.calls.shutdown(std::net::Shutdown::Both);
        });
    })
    .await;
    stage.goes_on().await;
    let kept = keep(&stage).await;
    assert!(matches!(kept, Err(NodeError::WorkerGone { .. })), "{kept:?}");
    assert_eq!(files(&stage), 0);
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_leaves_nothing_and_the_worker_goes_on() {
    let stage = Stage::with(
        |_, worker| {
            serve(worker, |worker| {
                for _ in 0..4 {
                    piece(worker, SNAPSHOT_PIECE_MAX);
                }
                worker.say(&FromWorker::Kept { refused: None });
            });
        },
        |config| {
            config.snapshots.max_bytes = 1 << 20;
            config.snapshots.max_count = 1;
        },
    )
    .await;
    let settings = Settings {
        cells: 1,
        fresh: false,
        ..Settings::default()
    };
    stage.deploy("demo", settings).await;
    stage.goes_on().await;
    let id = keep(&stage).await.expect("has just room");
    let full = keep(&stage).await;
    assert!(matches!(full, Err(NodeError::Busy { limit: 1, .. })), "{full:?}");
    let by = Principal("test".into());
    stage.node.forget_snapshot(&by, &id).await.expect("is given up");
    assert_eq!(files(&stage), 0);
    keep(&stage).await.expect("has room again");
    assert_eq!(stage.out_of_order(), 0);
}
