//! What a worker says of rings: of those that it has not, and of those that it has.

use std::time::{Duration, Instant};

use muscle_abi::ring::Role;
use referee_policy::Power;

use super::{Stage, Worker};
use crate::error::NodeError;
use crate::line::{Did, FromWorker, How};
use crate::ring::RingGrant;
use crate::settings::Settings;

/// What is granted to slots that are bound: `out` is to send, all others are to receive.
pub(super) fn powers(bindings: &[String]) -> Vec<(String, Power)> {
    let bound = bindings.iter().filter_map(|binding| binding.split_once("=ring:"));
    let power = |(slot, ring): (&str, &str)| {
        let role = if slot == "out" { Role::Send } else { Role::Receive };
        let power = Power::Ring {
            role,
            bytes: 4096,
            ring: Some(ring.to_owned()),
        };
        (slot.to_owned(), power)
    };
    bound.map(power).collect()
}

pub(super) fn grants(bindings: &[String]) -> Vec<RingGrant> {
    let powers = powers(bindings);
    let grants = powers
        .iter()
        .filter_map(|(slot, power)| RingGrant::of(slot, power));
    grants.collect()
}

fn bound(binding: &str) -> Settings {
    Settings {
        bindings: vec![binding.to_owned()],
        cells: 1,
        ..Settings::default()
    }
}

/// A node on which `demo` sends by a ring, and `other` is at its other end.
async fn with_a_ring(life: impl Fn(usize, Worker) + Send + Sync + 'static) -> Stage {
    let stage = Stage::set(life).await;
    stage.deploy("demo", bound("out=ring:x")).await;
    stage.deploy("other", bound("in=ring:x")).await;
    stage
}

fn waits(slot: &str) -> How {
    How::Waiting {
        slot: slot.to_owned(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_speaks_of_rings_which_it_does_not_have_is_ended() {
    type Lie = fn() -> How;
    let lies: [(&str, Lie); 3] = [
        ("joins", || How::Joins),
        ("waits", || waits("out")),
        ("waits for an absurd one", || waits(&"x".repeat(1 << 20))),
    ];
    for (what, lie) in lies {
        let stage = Stage::set(move |number, mut worker| {
            worker.is_ready();
            if number == 0 {
                let call = worker.next().expect("is called");
                worker.stopped(call, Duration::ZERO, lie());
            }
            worker.serve();
        })
        .await;
        match stage.call().await {
            Err(NodeError::WorkerGone { how }) => assert!(how.contains("ring"), "{what}: {how}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(stage.out_of_order(), 1, "{what}");
        stage.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_rings_at_a_ring_which_it_does_not_have_is_ended() {
    let stage = Stage::set(|number, mut worker| {
        worker.is_ready();
        if number == 0 {
            worker.next();
            worker.say(&FromWorker::Rings { slot: "out".into() });
        }
        worker.serve();
    })
    .await;
    stage.loses_its_worker().await;
    assert_eq!(stage.out_of_order(), 1);
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_begins_with_its_rings_once() {
    let stage = with_a_ring(|number, mut worker| {
        worker.is_ready();
        while let Some(call) = worker.next() {
            match number {
                0 => worker.stopped(call, Duration::ZERO, How::Joins),
                _ => worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6])),
            }
        }
    })
    .await;
    stage.loses_its_worker().await;
    assert_eq!(stage.out_of_order(), 1);
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_a_ring_for_ever_ends_at_its_deadline() {
    let stage = with_a_ring(|number, mut worker| {
        worker.is_ready();
        while let Some(call) = worker.next() {
            match number {
                0 => worker.stopped(call, Duration::ZERO, waits("out")),
                _ => worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6])),
            }
        }
    })
    .await;
    let begun = Instant::now();
    stage.loses_its_worker().await;
    assert!(begun.elapsed() >= Duration::from_millis(500), "its deadline");
    stage.goes_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_rings_again_before_its_bell_was_heard_is_ended() {
    let stage = with_a_ring(|number, mut worker| {
        worker.is_ready();
        while let Some(call) = worker.next() {
            // Nobody at the other end hears the first.
            for _ in 0..if number == 0 { 10_000 } else { 0 } {
                worker.say(&FromWorker::Rings { slot: "out".into() });
            }
            worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6]));
        }
    })
    .await;
    stage.loses_its_worker().await;
    assert_eq!(stage.out_of_order(), 1);
    for _ in 0..3 {
        stage.goes_on().await;
    }
    assert_eq!(stage.out_of_order(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_says_what_is_not_so_of_its_cell_harms_nobody() {
    let stage = with_a_ring(|_, mut worker| {
        worker.is_ready();
        while let Some(call) = worker.next() {
            let did = Did {
                left_rings: true,
                ..Did::default()
            };
            let (used, how) = (Duration::ZERO, How::Returned(vec![0xf6]));
            worker.say(&FromWorker::Stopped {
                call,
                used,
                did,
                how,
                output: Vec::new(),
            });
        }
    })
    .await;
    for _ in 0..3 {
        stage.goes_on().await;
    }
    assert_eq!(stage.out_of_order(), 0);
}
