//! Notaries that lie on the line of a question, in each way that it has: whoever asked has an answer that fits, or an error, and in time.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use referee_capabilities::Answer;
use referee_policy::{Loans, Standings};

use crate::error::NodeError;
use crate::line::{FRAME_MAX, frame};
use crate::notary::{Notary, Verdict};
use crate::nursery::messages::{Ask, Told};
use crate::nursery::{Nursery, Order, passing};
use crate::vouching::{Asking, TpmAnswer};

/// What is done with the line of a question.
type Lie = fn(UnixStream);
/// What is said on the line of each question.
type Life = dyn Fn(UnixStream) + Send + Sync;

/// A notary that the supervisor asks, whose TPM may take no time at all.
fn notary(life: impl Fn(UnixStream) + Send + Sync + 'static) -> Notary {
    let (ours, theirs) = passing::pair().expect("a pair");
    let life: Arc<Life> = Arc::new(life);
    std::thread::spawn(move || {
        while let Ok(Some((ask, descriptors))) = passing::receive::<Ask>(&theirs) {
            // Behind the bundle, if there is one.
            let line = descriptors.into_iter().next_back().map(UnixStream::from);
            let told = match (ask, line) {
                (Ask::Measure(_) | Ask::Evidence | Ask::Speak { .. } | Ask::LookAtTpm, Some(line)) => {
                    let life = Arc::clone(&life);
                    std::thread::spawn(move || life(line));
                    Told::OnTheLine
                }
                _ => Told::Greeted,
            };
            if passing::send(&theirs, &told, &[]).is_err() {
                return;
            }
        }
    });
    Notary::new(Nursery::new(ours), Duration::ZERO)
}

fn order() -> Order {
    Order {
        digest: [0; 32],
        bindings: Vec::new(),
        deadline_ms: None,
        cpu_ms: None,
        standings: Standings::default(),
        loans: Loans::default(),
        snapshot: None,
    }
}

/// Asks everything that there is to ask, and gives what went wrong; what did not is an empty text.
async fn asked(notary: &Notary) -> [String; 4] {
    let words = |error: NodeError| error.with_causes();
    let bundle = tempfile::tempfile().expect("a file");
    let asking = Asking {
        slot: "speak".into(),
        kind: 0,
        payload: vec![0x80],
        after: None,
    };
    let wrong = |result: Result<(), NodeError>| result.err().map(words).unwrap_or_default();
    [
        wrong(notary.measure(order(), bundle).await.map(drop)),
        wrong(notary.evidence(vec![0; 16], (0, String::new())).await.map(drop)),
        wrong(notary.speak(0, 0, asking).await.map(drop)),
        wrong(notary.look().await),
    ]
}

fn say(mut line: UnixStream, verdict: &Verdict) {
    // Whoever asked may be done with it.
    let _ = line.write_all(&frame(verdict).expect("is small"));
}

fn told(answer: TpmAnswer) -> impl Fn(UnixStream) + Send + Sync + 'static {
    move |line| say(line, &Verdict::Told(answer.clone()))
}

const FINE: &str = "";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_to_another_question_is_none() {
    let verdicts: [(fn() -> Verdict, usize); 4] = [
        (|| Verdict::Measured { first: true }, 0),
        (|| Verdict::Given(vec![1]), 1),
        (|| Verdict::Told(TpmAnswer::failed("no")), 2),
        (|| Verdict::AsMeasured, 3),
    ];
    for (verdict, fits) in verdicts {
        let wrong = asked(&notary(move |line| say(line, &verdict()))).await;
        for (question, wrong) in wrong.iter().enumerate() {
            match question == fits {
                true => assert_eq!(wrong, FINE, "{question}"),
                false => assert!(
                    wrong.contains("another question"),
                    "{question} as {fits}: {wrong}"
                ),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_answer_is_an_error() {
    let lies: [(&str, Lie); 6] = [
        ("nothing", drop),
        ("half of it", |mut line| drop(line.write_all(&[200, 0, 0, 0, 1]))),
        ("garbage", |mut line| {
            drop(line.write_all(&[2, 0, 0, 0, 0xff, 0xff]))
        }),
        ("more than a frame", |mut line| {
            let length = u32::try_from(FRAME_MAX + 1).expect("is small");
            drop(line.write_all(&length.to_le_bytes()));
        }),
        ("more than its length", |mut line| {
            let mut bytes = frame(&Verdict::AsMeasured).expect("is small");
            bytes.push(0);
            bytes[0] += 1;
            drop(line.write_all(&bytes));
        }),
        ("an end that was read from", |line| {
            drop(line.shutdown(std::net::Shutdown::Both))
        }),
    ];
    for (what, lie) in lies {
        for (question, wrong) in asked(&notary(lie)).await.iter().enumerate() {
            assert_ne!(wrong, FINE, "{what}: {question}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_answer_is_nobody_s() {
    let twice = |mut line: UnixStream| {
        let verdicts = [Verdict::AsMeasured, Verdict::Measured { first: true }];
        let bytes: Vec<u8> = verdicts
            .iter()
            .flat_map(|verdict| frame(verdict).expect("is small"))
            .collect();
        drop(line.write_all(&bytes));
    };
    let notary = notary(twice);
    for _ in 0..3 {
        let [measured, _, _, looked] = asked(&notary).await;
        assert_ne!(measured, FINE);
        assert_eq!(looked, FINE);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_late_or_silent_is_waited_for_as_long_as_was_said() {
    let silent = |mut line: UnixStream| {
        // Until whoever asked is done with it.
        let _ = line.read_to_end(&mut Vec::new());
        say(line, &Verdict::AsMeasured);
    };
    let begun = Instant::now();
    for wrong in asked(&notary(silent)).await {
        assert!(wrong.contains("does not answer"), "{wrong}");
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_could_not_be_told_is_not_passed_on() {
    let answer = |kind: u8, bytes: usize, version: Option<usize>| TpmAnswer {
        kind,
        bytes: vec![7; bytes],
        version: version.map(|length| "v".repeat(length)),
    };
    let kind = Answer::Failed as u8;
    let most = FRAME_MAX - 4096;
    for (answer, is_fine) in [
        (answer(kind, most, Some(128)), true),
        (answer(kind, most + 1, None), false),
        (answer(kind, 0, Some(129)), false),
        (answer(u8::MAX, 0, None), false),
    ] {
        let [_, _, spoken, _] = asked(&notary(told(answer))).await;
        assert_eq!(spoken == FINE, is_fine, "{spoken}");
    }
}
