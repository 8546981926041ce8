//! Workers that lie about streams, and an honest one whose client speaks HTTP/2.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::client::conn::http2;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use referee_policy::Caller;
use referee_trace::Trace;

use super::*;
use crate::api::{self, Peer};
use crate::line::{Begin, Failure, Wants};
use crate::stream::{Broken, Ended, Streaming};

fn begin() -> Begin {
    Begin {
        function: "f".into(),
        payload: vec![0x80],
    }
}

impl Stage {
    fn stream(&self, body: Body) -> Streaming {
        let deployment = self.node.deployment("demo").expect("is deployed");
        let streaming = self.node.stream(deployment, begin(), body, Trace::none());
        streaming.expect("has a place")
    }

    /// What comes of a stream with this body, and how it ends.
    async fn streamed(&self, body: Body) -> (Vec<u8>, Ended) {
        let mut streaming = self.stream(body);
        if let Some(ended) = streaming.begins().await {
            return (Vec::new(), ended);
        }
        let mut all = Vec::new();
        while let Some(bytes) = streaming.next().await.expect("is taken in time") {
            all.extend_from_slice(&bytes);
        }
        (all, streaming.end().await)
    }
}

/// A lie of a worker in a stream: what it says of a call, and what of its stream it was given.
type StreamLie = fn(&mut Worker, u64, &Flow);

/// As much output as there is room for.
fn full(and: usize) -> Vec<u8> {
    vec![1; usize::try_from(FLOW_OUT_MAX).expect("is small") + and]
}

/// Lies about streams, and what the worker is ended for.
const LIES: [(StreamLie, &str); 5] = [
    (
        |worker, call, _| worker.stopped_with(call, Duration::ZERO, How::Preempted, full(1)),
        "sent more of a stream than there was room for",
    ),
    (
        |worker, call, _| worker.stopped_with(call, Duration::ZERO, How::Returned(vec![0xf6]), full(1)),
        "sent more of a stream than there was room for",
    ),
    (
        |worker, call, _| worker.stopped_with(call, Duration::ZERO, How::Waits(Wants::Room), vec![1]),
        "waited for room that it had",
    ),
    (
        |worker, call, _| worker.stopped(call, Duration::ZERO, How::Waits(Wants::Room)),
        "waited for room that it had",
    ),
    (
        |worker, mut call, _| {
            // The body is empty, and it is told so.
            loop {
                worker.stopped(call, Duration::ZERO, How::Waits(Wants::Input));
                match worker.next() {
                    Some(next) => call = next,
                    None => return,
                }
            }
        },
        "asked for input behind its end",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_worker_cannot_honestly_say_of_a_stream_ends_it() {
    for (lie, what) in LIES {
        let stage = Stage::set(move |number, mut worker| {
            worker.is_ready();
            if number == 0
                && let Some((call, flow)) = worker.next_with_flow()
            {
                lie(&mut worker, call, &flow.expect("is a stream"));
            }
            worker.serve();
        })
        .await;
        let (bytes, ended) = stage.streamed(Body::empty()).await;
        assert!(bytes.is_empty(), "{what}: {} bytes", bytes.len());
        match ended.result {
            Err(NodeError::WorkerGone { how }) => assert_eq!(how, format!("{what} and was ended")),
            other => panic!("{what}: {other:?}"),
        }
        assert_eq!(stage.out_of_order(), 1, "{what}");
        stage.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_speaks_of_a_stream_in_another_call_is_ended() {
    let lies: [StreamLie; 3] = [
        |worker, call, _| worker.stopped_with(call, Duration::ZERO, How::Returned(vec![0xf6]), vec![1]),
        |worker, call, _| worker.stopped(call, Duration::ZERO, How::Waits(Wants::Input)),
        |worker, call, _| worker.stopped(call, Duration::ZERO, How::Waits(Wants::Room)),
    ];
    for lie in lies {
        let stage = Stage::set(move |number, mut worker| {
            worker.is_ready();
            if number == 0
                && let Some((call, flow)) = worker.next_with_flow()
            {
                assert!(flow.is_none(), "it is no stream");
                lie(&mut worker, call, &Flow::default());
            }
            worker.serve();
        })
        .await;
        match stage.call().await {
            Err(NodeError::WorkerGone { how }) => {
                assert_eq!(how, "spoke of a stream in a call that is none and was ended");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(stage.out_of_order(), 1);
        stage.goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_that_was_not_granted_is_given_to_nobody() {
    let life = |number: usize, mut worker: Worker| {
        worker.is_ready();
        while let Some((call, flow)) = worker.next_with_flow() {
            assert!(
                flow.is_none_or(|flow| flow.input.is_empty()),
                "was granted no input"
            );
            match number {
                0 => worker.stopped(call, Duration::ZERO, How::Waits(Wants::Input)),
                _ => worker.stopped(call, Duration::ZERO, How::Returned(vec![0xf6])),
            }
        }
    };
    let stage = Stage::of(nursery(Granted::console(LITTLE_TIME, false), life), |_| {}).await;
    let (_, ended) = stage.streamed(Body::from("secret")).await;
    match ended.result {
        Err(NodeError::WorkerGone { how }) => {
            assert_eq!(how, "asked for input that it was not granted and was ended");
        }
        other => panic!("{other:?}"),
    }
    stage.goes_on().await;
}

/// Long enough on a host that others use, too.
const MUCH_TIME: u64 = 60_000;

/// Answers each stream with what it reads, piece by piece.
fn echo(_: usize, mut worker: Worker) {
    worker.is_ready();
    let mut streams: HashMap<u64, (Vec<u8>, bool)> = HashMap::new();
    while let Some((call, flow)) = worker.next_with_flow() {
        let flow = flow.expect("is a stream");
        // It is told once that the input is over.
        let (kept, is_over) = streams.entry(call).or_default();
        *is_over |= flow.ended;
        kept.extend_from_slice(&flow.input);
        let room = usize::try_from(flow.room).expect("is small");
        let output: Vec<u8> = kept.drain(..kept.len().min(room)).collect();
        let how = match (kept.is_empty(), *is_over) {
            _ if worker.cancelled.contains(&call) => How::Failed(Failure::Cancelled),
            (true, true) => How::Returned(vec![0xf6]),
            (true, false) => How::Waits(Wants::Input),
            // It says that it has no room only when that is so.
            (false, _) => How::Preempted,
        };
        worker.stopped_with(call, Duration::ZERO, how, output);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_not_taken_for_its_end() {
    let stage = Stage::set(|_, mut worker| {
        worker.is_ready();
        while let Some((call, flow)) = worker.next_with_flow() {
            // Its next piece after it was given up is its last.
            let how = match flow.expect("is a stream") {
                Flow { ended: true, .. } => How::Returned(vec![0xf6]),
                _ if worker.cancelled.contains(&call) => How::Failed(Failure::Cancelled),
                _ => How::Waits(Wants::Input),
            };
            worker.stopped(call, Duration::ZERO, how);
        }
    })
    .await;
    let pieces = [Ok(Bytes::from("half")), Err(std::io::Error::other("broke"))];
    let body = Body::from_stream(stream::iter(pieces));
    let (_, ended) = stage.streamed(body).await;
    assert_eq!(ended.broken, Some(Broken::Cut));
    assert_eq!(
        ended.result.expect("its worker is there").result,
        Err(Failure::Cancelled)
    );
}

/// A client of the API over HTTP/2, as the node's own user.
async fn http2_client<B>(stage: &Stage) -> http2::SendRequest<B>
where
    B: hyper::body::Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static,
{
    let (ours, theirs) = tokio::net::UnixStream::pair().expect("a pair");
    let peer = Peer(Caller::User {
        uid: 0,
        gid: 0,
        service: true,
    });
    let router = api::router(stage.node.clone());
    let config = stage.node.config().api.clone();
    tokio::spawn(async move { api::serve_one(theirs, router, config, peer).await });
    let (client, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(ours))
        .await
        .expect("they agree");
    tokio::spawn(connection);
    client
}

fn request<B>(body: B) -> Request<B> {
    Request::post("http://node/v1/deployments/demo/stream/f")
        .header("te", "trailers")
        .body(body)
        .expect("is one")
}

/// Reads an answer to its end: length, sum of the bytes, outcome.
async fn read_whole(answer: Response<Incoming>) -> (usize, u64, Option<String>) {
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    let (mut length, mut sum, mut outcome) = (0, 0, None);
    while let Some(frame) = body.frame().await {
        match frame.expect("does not break off").into_data() {
            Ok(data) => {
                length += data.len();
                sum += data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            }
            Err(frame) => {
                let trailers = frame.into_trailers().expect("are trailers");
                outcome = trailers.get("referee-outcome").cloned();
            }
        }
    }
    let outcome = outcome.map(|outcome| outcome.to_str().expect("is text").to_owned());
    (length, sum, outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_pass_by_http_2_two_at_once_on_one_connection() {
    const PIECES: u64 = 64;
    let stage = Stage::of(nursery(Granted::console(MUCH_TIME, true), echo), |_| {}).await;
    let client = http2_client(&stage).await;
    let one = |letter: u8| {
        let mut client = client.clone();
        async move {
            let pieces = (0..PIECES).map(move |_| Ok(Frame::data(Bytes::from(vec![letter; 1 << 16]))));
            let body = StreamBody::new(stream::iter(pieces));
            let answer = client.send_request(request(body)).await.expect("is answered");
            read_whole(answer).await
        }
    };
    let (a, b) = tokio::join!(one(1), one(2));
    let length = usize::try_from(PIECES << 16).expect("is small");
    assert_eq!(a, (length, PIECES << 16, Some("returned".into())));
    assert_eq!(b, (length, 2 * (PIECES << 16), Some("returned".into())));
}
