//! Workers that lie, in each way that their two lines have: the supervisor stays up, the caller has an answer or an error, and the log has nothing
//! that is not so.
//!
//! A nursery of this test makes them: threads that hold the ends which a worker process would, and say what a worker never would.

mod channels;
mod delegations;
mod rings;
mod snapshots;
mod streams;

use std::collections::HashMap;
use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use referee_audit::{AuditSink, Event, Kind, Value};
use referee_bundle::Digest;
use referee_trace::Trace;
use serde_json::Value as Json;

use crate::api::Deploy;
use crate::call::{Origin, Reply};
use crate::config::Config;
use crate::error::NodeError;
use crate::line::{self, Did, FLOW_OUT_MAX, FRAME_MAX, Flow, FromWorker, How, NotKept, ToWorker, frame};
use crate::node::{Node, Principal};
use crate::nursery::messages::{Ask, Given, Told};
use crate::nursery::{Nursery, blank_assessment, passing};
use crate::settings::Settings;
use crate::stream::ConsoleGrant;
use crate::vouching::Asking;

/// The end of a worker.
struct Worker {
    calls: UnixStream,
    log: UnixStream,
    /// Calls that were given up.
    cancelled: Vec<u64>,
}

impl Worker {
    fn of(calls: UnixStream, log: UnixStream) -> Worker {
        Worker {
            calls,
            log,
            cancelled: Vec::new(),
        }
    }

    fn say(&mut self, message: &FromWorker) {
        let bytes = frame(message).expect("is small");
        // The supervisor may be done with it.
        let _ = self.calls.write_all(&bytes);
    }

    fn is_ready(&mut self) {
        self.say(&FromWorker::Ready {
            not_confined_by: String::new(),
        });
    }

    /// The next call that is to run. None when the supervisor is done with it.
    fn next(&mut self) -> Option<u64> {
        self.next_with_flow().map(|(call, _)| call)
    }

    /// With what there is of its stream.
    fn next_with_flow(&mut self) -> Option<(u64, Option<Flow>)> {
        let mut buffer = Vec::new();
        loop {
            match line::read::<ToWorker>(&mut self.calls, &mut buffer)
                .ok()
                .flatten()?
            {
                ToWorker::Run { call, flow, .. } => return Some((call, flow)),
                ToWorker::Cancel { call } => self.cancelled.push(call),
                ToWorker::Preempt { .. } | ToWorker::Heard { .. } => {}
                ToWorker::Restrict { number, .. } | ToWorker::Lend { number, .. } => {
                    self.say(&FromWorker::Restricted {
                        number,
                        failure: None,
                    })
                }
                ToWorker::Keep => self.say(&FromWorker::Kept {
                    refused: Some(NotKept::NoCell),
                }),
                ToWorker::Rest { .. } => self.say(&FromWorker::Rested {
                    went: u64::MAX,
                    awake: u64::MAX,
                    asleep: u64::MAX,
                }),
            }
        }
    }

    fn stopped(&mut self, call: u64, used: Duration, how: How) {
        self.stopped_with(call, used, how, Vec::new());
    }

    fn stopped_with(&mut self, call: u64, used: Duration, how: How, output: Vec<u8>) {
        let did = Did {
            exits: u64::MAX,
            ..Did::default()
        };
        self.say(&FromWorker::Stopped {
            call,
            used,
            did,
            how,
            output,
        });
    }

    /// Answers calls as it should.
    fn serve(&mut self) {
        while let Some(call) = self.next() {
            self.stopped(call, Duration::ZERO, How::Returned(vec![0xf6]));
        }
    }

    /// The log as a worker has it, for a cell and a muscle.
    fn log(&self, cell: &str, muscle: &str) -> AuditSink {
        AuditSink::over(self.log.try_clone().expect("a descriptor"), cell, muscle)
    }
}

/// What is granted to workers that a nursery of this test makes.
#[derive(Clone)]
struct Granted {
    deadline_ms: u64,
    given: Given,
}

impl Granted {
    /// A console, with input or not.
    fn console(deadline_ms: u64, input: bool) -> Granted {
        let console = ConsoleGrant {
            slot: "console".into(),
            input,
        };
        Granted {
            deadline_ms,
            given: Given {
                console: vec![console],
                ..Given::default()
            },
        }
    }
}

const LITTLE_TIME: u64 = 500;

/// A nursery whose workers live as `life` says; the first number is 0.
fn nursery(granted: Granted, life: impl Fn(usize, Worker) + Send + Sync + 'static) -> Nursery {
    let (ours, theirs) = passing::pair().expect("a pair");
    let life = Arc::new(life);
    std::thread::spawn(move || {
        let mut lines: HashMap<u64, [UnixStream; 2]> = HashMap::new();
        let mut made = 0;
        while let Ok(Some((ask, descriptors))) = passing::receive::<Ask>(&theirs) {
            let told = match ask {
                Ask::Assess(order) => Told::Assessed(Box::new(crate::nursery::Assessment {
                    deadline_ms: granted.deadline_ms,
                    granted: rings::powers(&order.bindings),
                    ..blank_assessment()
                })),
                Ask::Spawn { worker, order, .. } => {
                    let mut ends = descriptors.into_iter().skip(1).map(UnixStream::from);
                    let (calls, log) = (ends.next().expect("a line"), ends.next().expect("a line"));
                    let both = [&calls, &log].map(|line| line.try_clone().expect("a descriptor"));
                    lines.insert(worker, both);
                    let (life, number) = (Arc::clone(&life), made);
                    made += 1;
                    std::thread::spawn(move || life(number, Worker::of(calls, log)));
                    let given = Given {
                        rings: rings::grants(&order.bindings),
                        ..granted.given.clone()
                    };
                    Told::Spawned(Box::new(given))
                }
                Ask::Life { .. } => Told::Lived,
                Ask::Reap { worker, .. } => {
                    // As when a process is killed.
                    for line in lines.remove(&worker).iter().flatten() {
                        let _ = line.shutdown(Shutdown::Both);
                    }
                    Told::Reaped {
                        how: "was killed by signal 9".into(),
                    }
                }
                Ask::Measure(_) | Ask::Evidence | Ask::Speak { .. } | Ask::LookAtTpm => Told::Failed {
                    message: "there is no TPM here".into(),
                },
                Ask::Reload => Told::Reloaded,
                Ask::Greet => Told::Greeted,
            };
            if passing::send(&theirs, &told, &[]).is_err() {
                return;
            }
        }
    });
    Nursery::new(ours)
}

/// A node whose one deployment has such workers.
struct Stage {
    node: Node,
    folder: tempfile::TempDir,
}

impl Stage {
    async fn set(life: impl Fn(usize, Worker) + Send + Sync + 'static) -> Stage {
        Stage::with(life, |_| {}).await
    }

    async fn with(
        life: impl Fn(usize, Worker) + Send + Sync + 'static,
        configure: impl FnOnce(&mut Config),
    ) -> Stage {
        let granted = Granted::console(LITTLE_TIME, true);
        Stage::of(nursery(granted, life), configure).await
    }

    async fn of(nursery: Nursery, configure: impl FnOnce(&mut Config)) -> Stage {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config {
            state: folder.path().join("state"),
            ..Config::default()
        };
        config.audit.file = folder.path().join("audit.jsonl");
        configure(&mut config);
        let node = Node::open(config, nursery).expect("opens");
        let digest = Digest::of(b"bundle").to_string();
        node.take_bundle(digest.clone(), b"bundle".to_vec())
            .await
            .expect("is kept");
        let stage = Stage { node, folder };
        stage.deploy("demo", Settings::default()).await;
        stage
    }

    async fn deploy(&self, name: &str, settings: Settings) {
        let by = Principal("test".into());
        let wanted = Deploy {
            bundle: Digest::of(b"bundle").to_string(),
            settings,
            reset_grants: false,
        };
        self.node.deploy(&by, name, wanted).await.expect("is deployed");
    }

    async fn call(&self) -> Result<Reply, NodeError> {
        let deployment = self.node.deployment("demo").expect("is deployed");
        self.node
            .call(
                deployment,
                "f".into(),
                vec![0x80],
                Trace::none(),
                Origin::default(),
            )
            .await
    }

    /// The call must fail because its worker is gone.
    async fn loses_its_worker(&self) {
        match self.call().await {
            Err(NodeError::WorkerGone { .. }) => {}
            other => panic!("{other:?}"),
        }
    }

    /// The next worker is honest, and its call is answered.
    async fn goes_on(&self) {
        let reply = self.call().await.expect("is answered");
        assert_eq!(reply.result, Ok(vec![0xf6]));
    }

    fn out_of_order(&self) -> u64 {
        let deployment = self.node.deployment("demo").expect("is deployed");
        deployment.counters.read().workers_out_of_order
    }

    /// Records about cells: which cell, of which muscle, of which kind. The log must hold together.
    fn told_of_cells(&self) -> Vec<(String, String, String)> {
        let log = self.folder.path().join("audit.jsonl");
        referee_audit::verify(&log).expect("holds together");
        let text = std::fs::read_to_string(log).expect("is there");
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Json>(line).expect("is JSON"));
        let word = |record: &Json, at: &str| record[at].as_str().unwrap_or_default().to_owned();
        records
            .map(|record| {
                (
                    word(&record, "cell"),
                    word(&record, "muscle"),
                    word(&record, "kind"),
                )
            })
            .filter(|(cell, _, _)| !cell.is_empty())
            .collect()
    }
}

const MUSCLE: &str = "demo 1.0.0";

fn event<'a>(kind: Kind, detail: &'a [(&'a str, Value<'a>)]) -> Event<'a> {
    Event::of_cell(kind, detail)
}

/// Something that a worker does with its lines while a call is under way.
type Lie = fn(&mut Worker);

/// Records that are not a worker's to make, each after one that is.
const FALSE_RECORDS: [(&str, Lie); 8] = [
    ("about a cell that it does not have", |worker| {
        let _ = worker.log("bbbb", MUSCLE).record(&event(Kind::Use, &[]));
    }),
    ("about another muscle", |worker| {
        let _ = worker.log("aaaa", "other 1.0.0").record(&event(Kind::Use, &[]));
    }),
    ("a cell begun twice", |worker| {
        let _ = worker.log("aaaa", MUSCLE).record(&event(Kind::Start, &[]));
    }),
    ("a cell whose name has a line's end", |worker| {
        let _ = worker.log("a\n{}", MUSCLE).record(&event(Kind::Start, &[]));
    }),
    ("as if an operator had done something", |worker| {
        let _ = worker.log("aaaa", MUSCLE).record(&event(Kind::Manage, &[]));
    }),
    ("as if a log had been rotated", |worker| {
        let _ = worker.log("", "").record(&event(Kind::Rotate, &[]));
    }),
    ("a length beyond any record", |worker| {
        let _ = worker.log.write_all(&[0xff; 64]);
    }),
    ("bytes that are no request", |worker| {
        let _ = worker.log.write_all(&[3, 0, 0, 0, 0xff, 0xff, 0xff]);
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_not_its_own_end_the_worker_and_are_not_in_the_log() {
    for (what, lie) in FALSE_RECORDS {
        let stage = Stage::set(move |number, mut worker| {
            worker.is_ready();
            if number > 0 {
                return worker.serve();
            }
            worker.next();
            worker
                .log("aaaa", MUSCLE)
                .record(&event(Kind::Start, &[]))
                .expect("is its own");
            lie(&mut worker);
            worker.serve();
        })
        .await;
        stage.loses_its_worker().await;
        assert_eq!(stage.out_of_order(), 1, "{what}");
        stage.goes_on().await;
        let cell = |kind: &str| ("aaaa".to_owned(), MUSCLE.to_owned(), kind.to_owned());
        assert_eq!(stage.told_of_cells(), [cell("start"), cell("end")], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_asks_the_tpm_without_a_grant_is_ended() {
    for kind in [0, 1, 2, 9] {
        let stage = Stage::set(move |number, mut worker| {
            worker.is_ready();
            if number > 0 {
                return worker.serve();
            }
            let Some(call) = worker.next() else { return };
            let asking = Asking {
                slot: "speak".into(),
                kind,
                payload: vec![0x81, 0x60],
                after: None,
            };
            worker.stopped(call, Duration::ZERO, How::Asks(asking));
            worker.serve();
        })
        .await;
        stage.loses_its_worker().await;
        assert_eq!(stage.out_of_order(), 1, "{kind}");
        stage.goes_on().await;
    }
}

/// What breaks the line of calls.
const BROKEN_FRAMES: [(&str, Lie); 4] = [
    ("a frame beyond the largest", |worker| {
        let length = u32::try_from(FRAME_MAX + 1).expect("is small");
        let _ = worker.calls.write_all(&length.to_le_bytes());
    }),
    ("bytes that are no message", |worker| {
        let _ = worker.calls.write_all(&[2, 0, 0, 0, 0xff, 0xff]);
    }),
    ("more than a message", |worker| {
        let mut bytes = frame(&FromWorker::Ready {
            not_confined_by: String::new(),
        })
        .expect("is small");
        bytes.push(0);
        bytes[0] += 1;
        let _ = worker.calls.write_all(&bytes);
    }),
    ("half a frame", |worker| {
        let _ = worker.calls.write_all(&[200, 0, 0, 0, 1]);
        let _ = worker.calls.shutdown(Shutdown::Both);
    }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_none_end_the_worker() {
    for (what, lie) in BROKEN_FRAMES {
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
async fn answers_that_nobody_asked_for_are_nobody_s() {
    let stage = Stage::set(|_, mut worker| {
        worker.is_ready();
        // Of calls that were never given. (What it says of one that it was given is its answer, however early it knew it.)
        for call in [0, 1 << 20, u64::MAX] {
            worker.stopped(call, Duration::ZERO, How::Returned(vec![0x01]));
        }
        worker.is_ready();
        worker.say(&FromWorker::Unfit {
            rejected: Some("lie".into()),
            message: "too late".into(),
        });
        worker.say(&FromWorker::Rested {
            went: 7,
            awake: u64::MAX,
            asleep: u64::MAX,
        });
        while let Some(call) = worker.next() {
            worker.stopped(call.wrapping_add(1), Duration::ZERO, How::Returned(vec![0x02]));
            worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6]));
            // And once more.
            worker.stopped(call, Duration::ZERO, How::Returned(vec![0x03]));
        }
    })
    .await;
    for _ in 0..3 {
        stage.goes_on().await;
    }
    assert_eq!(stage.out_of_order(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_has_used_more_than_the_time_that_passed() {
    let stage = Stage::set(|_, mut worker| {
        worker.is_ready();
        while let Some(call) = worker.next() {
            worker.stopped(call, Duration::MAX, How::Returned(vec![0xf6]));
        }
    })
    .await;
    let begun = std::time::Instant::now();
    let reply = stage.call().await.expect("is answered");
    let passed = begun.elapsed();
    assert!(reply.used <= passed, "{:?} of {passed:?}", reply.used);
    let deployment = stage.node.deployment("demo").expect("is deployed");
    let exits = u128::from(deployment.counters.read().exits);
    assert!(
        exits <= passed.as_nanos() / 100 + 1,
        "{exits} exits in {passed:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_sleeps_for_ever_ends_at_its_deadline() {
    let stage = Stage::set(|number, mut worker| {
        worker.is_ready();
        while let Some(call) = worker.next() {
            match number {
                0 => worker.stopped(call, Duration::ZERO, How::Sleeping(Duration::MAX)),
                _ => worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6])),
            }
        }
    })
    .await;
    stage.loses_its_worker().await;
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_says_nothing_is_not_waited_for_longer_than_was_said() {
    let silent = |number: usize, mut worker: Worker| {
        worker.is_ready();
        match number {
            // It reads, and does not answer.
            0 => while worker.next().is_some() {},
            _ => worker.serve(),
        }
    };
    let stage = Stage::with(silent, |config| config.cells.stuck_seconds = 1).await;
    stage.loses_its_worker().await;
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_of_calls_that_are_not_its_own_is_kept_within_its_bound() {
    let stage = Stage::with(
        |_, mut worker| {
            worker.is_ready();
            while let Some(call) = worker.next() {
                for number in 0..64 {
                    worker.say(&FromWorker::Output {
                        call: number,
                        errors: number % 2 == 0,
                        bytes: vec![b'x'; 1 << 20],
                    });
                }
                worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6]));
            }
        },
        |config| config.cells.log_bytes = 10_000,
    )
    .await;
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_records_ends_the_worker_and_not_the_disk() {
    let flood = |number: usize, mut worker: Worker| {
        worker.is_ready();
        if number > 0 {
            return worker.serve();
        }
        worker.next();
        let log = worker.log("aaaa", MUSCLE);
        log.record(&event(Kind::Start, &[])).expect("is its own");
        let text = "x".repeat(1000);
        let detail = [("message", Value::Text(&text))];
        // It never stops by itself.
        while log.record(&event(Kind::Use, &detail)).is_ok() {}
        worker.serve();
    };
    for per_call in [true, false] {
        let stage = Stage::with(flood, |config| {
            config.audit.bytes_per_second = if per_call { 0 } else { 100_000 };
            config.audit.bytes_per_call = if per_call { 100_000 } else { 0 };
        })
        .await;
        stage.loses_its_worker().await;
        assert_eq!(stage.out_of_order(), 1);
        stage.goes_on().await;
        let told = stage.told_of_cells();
        assert_eq!(told.last().map(|(_, _, kind)| kind.as_str()), Some("end"));
        // Eight seconds of the rate at once and what grows meanwhile, or nine calls' allowance.
        let log = std::fs::metadata(stage.folder.path().join("audit.jsonl")).expect("is there");
        if per_call {
            assert!(log.len() < 2_000_000, "{} bytes", log.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_says_of_cells_at_rest_gives_nobody_else_s_memory() {
    let stage = Stage::set(|_, mut worker| {
        worker.is_ready();
        worker.serve();
    })
    .await;
    stage.goes_on().await;
    let before = stage.node.memory().figures().taken;
    let deployment = stage.node.deployment("demo").expect("is deployed");
    let worker = deployment.present().expect("is there");
    worker.let_rest(Duration::ZERO, crate::line::Rest::Asleep).await;
    assert!(stage.node.memory().figures().taken <= before);
}
