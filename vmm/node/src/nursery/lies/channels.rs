//! Workers that send what their muscle was never granted: ended and counted, and nobody gets it.

use super::*;
use crate::channel::{ChannelGrant, Role, Sending};

const MOST: u64 = 8;

/// A channel to send by, one message in a call; one to ask by, and one to receive by.
fn granted() -> Granted {
    let grant = |slot: &str, role| ChannelGrant {
        slot: slot.into(),
        channel: "news".into(),
        role,
        max_bytes: MOST,
    };
    let given = Given {
        channels: vec![
            grant("to", Role::Send { max_messages: 1 }),
            grant("ask", Role::Request { max_messages: 1 }),
            grant("in", Role::Receive { function: "f".into() }),
        ],
        ..Given::default()
    };
    Granted {
        deadline_ms: LITTLE_TIME,
        given,
    }
}

fn sent(slot: &str, asks: bool, bytes: u64) -> Sending {
    Sending {
        slot: slot.into(),
        asks,
        bytes: vec![0; usize::try_from(bytes).expect("is small")],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_sends_what_it_was_not_granted_is_ended_and_counted() {
    let lies = [
        ("by no slot", vec![sent("none", false, 1)]),
        ("by an absurd slot", vec![sent(&"x".repeat(1 << 20), false, 1)]),
        ("by one that receives", vec![sent("in", false, 1)]),
        ("a request by one that sends", vec![sent("to", true, 1)]),
        ("a message by one that asks", vec![sent("ask", false, 1)]),
        ("one that is too long", vec![sent("to", false, MOST + 1)]),
        ("one too many", vec![sent("to", false, 1), sent("to", false, 1)]),
    ];
    for (what, lie) in lies {
        let life = move |number: usize, mut worker: Worker| {
            worker.is_ready();
            if number == 0 {
                for sending in &lie {
                    let Some(call) = worker.next() else { return };
                    worker.stopped(call, Duration::ZERO, How::Sends(sending.clone()));
                }
            }
            worker.serve();
        };
        let stage = Stage::of(nursery(granted(), life), |_| {}).await;
        match stage.call().await {
            Err(NodeError::WorkerGone { how }) => assert!(how.contains("sent"), "{what}: {how}"),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(stage.out_of_order(), 1, "{what}");
        stage.goes_on().await;
    }
}
