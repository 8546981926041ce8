//! Traces of calls, as a collector gets them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use crate::node::{Node, call_path};
use crate::{SOON, acts, http, wait_for};

/// A collector that keeps what it gets.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("is free");
        let address = listener.local_addr().expect("has one");
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let kept = Arc::clone(&spans);
        // It goes with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let request = take(stream);
                let all = request
                    .resource_spans
                    .into_iter()
                    .flat_map(|resource| resource.scope_spans);
                kept.lock()
                    .expect("is whole")
                    .extend(all.flat_map(|scope| scope.spans));
            }
        });
        Collector { address, spans }
    }

    /// The spans of a trace, once that of the call is there: it ends last.
    fn trace(&self, id: &str) -> Vec<Span> {
        let mut found = Vec::new();
        wait_for("the trace comes", || {
            let spans = self.spans.lock().expect("is whole");
            let of_it = spans.iter().filter(|span| hex(&span.trace_id) == id);
            found = of_it.cloned().collect();
            found.iter().any(|span| span.name == "call")
        });
        found
    }

    fn count(&self) -> usize {
        self.spans.lock().expect("is whole").len()
    }
}

/// Reads one request and answers it.
fn take(mut stream: TcpStream) -> ExportTraceServiceRequest {
    stream.set_read_timeout(Some(SOON)).expect("is set");
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        if let Some(end) = end {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
            assert!(head.contains("content-type: application/x-protobuf"), "{head}");
            let length = head
                .split("content-length: ")
                .nth(1)
                .and_then(|rest| rest.split("\r\n").next());
            let length: usize = length.and_then(|length| length.parse().ok()).expect("has one");
            if bytes.len() >= end + 4 + length {
                let body = &bytes[end + 4..];
                let request = ExportTraceServiceRequest::decode(body).expect("is one");
                let answer =
                    "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer.as_bytes()).expect("is sent");
                return request;
            }
        }
        let got = stream.read(&mut buffer).expect("comes");
        assert!(got > 0, "the request ends too early");
        bytes.extend_from_slice(&buffer[..got]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traced(sample: &str) -> (Node, Collector) {
    let collector = Collector::start();
    let more = format!(
        "[traces]\nendpoint = 'http://{}'\nsample = {sample}",
        collector.address
    );
    (Node::with(&more), collector)
}

/// Calls within a trace of the caller's.
fn call_within(node: &Node, function: &str, arguments: &str, traceparent: &str) -> http::Answer {
    http::ask(
        &node.socket(),
        "POST",
        &call_path("acts", function),
        &[("traceparent", traceparent)],
        arguments.as_bytes(),
    )
    .expect("is answered")
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn sampled(trace: &str) -> String {
    format!("00-{trace}-{PARENT}-01")
}

/// Names by where they lie: the children of a span, by when they began.
fn children<'a>(spans: &'a [Span], parent: &[u8]) -> Vec<&'a Span> {
    let mut found: Vec<&Span> = spans
        .iter()
        .filter(|span| span.parent_span_id == parent)
        .collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

fn names(spans: &[&Span]) -> Vec<String> {
    spans.iter().map(|span| span.name.clone()).collect()
}

#[test]
fn a_call_is_one_trace_with_its_stages_in_order_and_none_of_its_words() {
    let (node, collector) = traced("0.0");
    node.deploy(&acts(), "acts", &["--keep-memory"]);
    let secret = "[\"very-secret-argument\"]";
    assert_eq!(
        call_within(&node, "arguments", secret, &sampled(TRACE)).status,
        200
    );
    let spans = collector.trace(TRACE);
    let [call] = children(
        &spans,
        &(0..8)
            .map(|at| u8::from_str_radix(&PARENT[2 * at..2 * at + 2], 16).expect("hex"))
            .collect::<Vec<_>>(),
    )[..] else {
        panic!("one call within the caller's span: {spans:?}");
    };
    assert_eq!(call.name, "call");
    let stages = children(&spans, &call.span_id);
    // On a busy host a call may be cut into several pieces.
    let mut named = names(&stages);
    while let Some(at) = named
        .windows(4)
        .position(|four| four == ["slot", "piece", "slot", "piece"])
    {
        named.drain(at..at + 2);
    }
    assert_eq!(
        named,
        [
            "authorise",
            "arguments",
            "queue",
            "worker",
            "slot",
            "piece",
            "end",
            "answer"
        ]
    );
    for pair in stages.windows(2) {
        assert!(
            pair[0].end_time_unix_nano <= pair[1].end_time_unix_nano,
            "{pair:?}"
        );
    }
    for span in &spans {
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{span:?}");
        assert!(!format!("{span:?}").contains("secret"), "{span:?}");
    }
    let piece = stages.iter().find(|span| span.name == "piece").expect("is there");
    let steps = children(&spans, &piece.span_id);
    assert_eq!(names(&steps), ["cell start", "run"], "{spans:?}");
    let attributes: BTreeMap<String, String> = call
        .attributes
        .iter()
        .map(|one| (one.key.clone(), format!("{:?}", one.value)))
        .collect();
    assert!(
        attributes["referee.deployment"].contains("\"acts\""),
        "{attributes:?}"
    );
    assert!(
        attributes["referee.function"].contains("\"arguments\""),
        "{attributes:?}"
    );
    assert_eq!(attributes.len(), 2, "{attributes:?}");
    // The next finds the cell there, and uses something.
    let second = "1af7651916cd43dd8448eb211c80319c";
    assert_eq!(call_within(&node, "log", "[]", &sampled(second)).status, 200);
    let spans = collector.trace(second);
    let by_name = |name: &str| {
        spans
            .iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("no {name}: {spans:?}"))
    };
    by_name("cell take");
    // In whichever of its pieces that was.
    let runs = spans.iter().filter(|span| span.name == "run");
    let used: Vec<&Span> = runs.flat_map(|run| children(&spans, &run.span_id)).collect();
    assert_eq!(names(&used), ["use console.out"]);
}

#[test]
fn a_call_that_fails_says_by_which_name_and_a_muscle_s_own_words_are_not_told() {
    let (node, collector) = traced("0.0");
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(call_within(&node, "deny", "[]", &sampled(TRACE)).status, 502);
    let spans = collector.trace(TRACE);
    let call = spans.iter().find(|span| span.name == "call").expect("is there");
    let status = call.status.as_ref().expect("has one");
    assert_eq!((status.code, status.message.as_str()), (2, "denial-limit"));
    let used: Vec<&Span> = spans
        .iter()
        .filter(|span| span.name.starts_with("use "))
        .collect();
    // A thousand were refused; of each piece, of which there may be one or many, the first 64 are told.
    let runs = spans.iter().filter(|span| span.name == "run").count();
    assert!((64..=64 * runs).contains(&used.len()), "{} in {runs}", used.len());
    assert!(used.iter().all(|span| span.name == "use refused"), "{used:?}");
    // What is refused at the door is a trace too.
    let other = "2af7651916cd43dd8448eb211c80319c";
    assert_eq!(call_within(&node, "nothing", "[]", &sampled(other)).status, 404);
    let spans = collector.trace(other);
    let call = spans.iter().find(|span| span.name == "call").expect("is there");
    assert_eq!(
        call.status.as_ref().map(|status| status.message.as_str()),
        Some("no-function")
    );
}

#[test]
fn a_call_of_many_pieces_is_told_of_in_part() {
    let (node, collector) = traced("0.0");
    node.deploy(&acts(), "acts", &["--cpu-ms", "1500"]);
    // Turns are of 10 ms at most.
    assert_eq!(call_within(&node, "spin", "[]", &sampled(TRACE)).status, 504);
    let spans = collector.trace(TRACE);
    let count = |name: &str| spans.iter().filter(|span| span.name == name).count();
    assert!(node.counted("acts", "slices") > 64);
    assert_eq!((count("piece"), count("run")), (64, 64));
}

#[test]
fn what_the_caller_does_not_trace_is_traced_as_often_as_configured() {
    let (node, collector) = traced("0.0");
    node.deploy(&acts(), "acts", &[]);
    for _ in 0..20 {
        node.call("acts", "count", "[]").good();
    }
    call_within(&node, "count", "[]", &format!("00-{TRACE}-{PARENT}-00"));
    // A trace that is wanted comes after those that are not, so that these would have come.
    let wanted = "3af7651916cd43dd8448eb211c80319c";
    call_within(&node, "count", "[]", &sampled(wanted));
    let spans = collector.trace(wanted).len();
    assert_eq!(collector.count(), spans);
    let (node, collector) = traced("1.0");
    node.deploy(&acts(), "acts", &[]);
    for _ in 0..5 {
        node.call("acts", "count", "[]").good();
    }
    wait_for("all come", || {
        let spans = collector.spans.lock().expect("is whole");
        spans.iter().filter(|span| span.name == "call").count() == 5
    });
    drop(node);
}

#[test]
fn a_dead_collector_leaves_calls_as_they_are() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("is free");
    let hangs = taken.local_addr().expect("has one");
    let free = TcpListener::bind("127.0.0.1:0").expect("is free");
    let nobody = free.local_addr().expect("has one");
    drop(free);
    // One that never answers, though the kernel takes its connections; and one that is not there.
    for address in [hangs, nobody] {
        let node = Node::with(&format!("[traces]\nendpoint = 'http://{address}'\nsample = 1.0"));
        node.deploy(&acts(), "acts", &[]);
        let began = Instant::now();
        for call in 0..200 {
            assert_eq!(node.call("acts", "count", "[]").good(), b"0", "{call}");
        }
        // If one in ten waited for the collector's 5 s, this would take 100 s.
        assert!(began.elapsed() < SOON * 2, "{:?}", began.elapsed());
        wait_for("it is counted", || {
            let metrics = String::from_utf8(node.ask("GET", "/metrics", b"").good()).expect("is text");
            !metrics.contains("referee_trace_failures_total 0\n")
        });
    }
}

#[test]
fn an_endpoint_that_is_none_is_refused_before_anything_starts() {
    let mut node = Node::start();
    assert_eq!(node.stop().code(), Some(0));
    crate::node::configure(node.folder(), "[traces]\nendpoint = 'https://collector'");
    let mut child = crate::node::spawn(node.folder());
    assert_eq!(child.wait().expect("is ours").code(), crate::REJECTED);
    assert!(
        node.words().contains("traces.endpoint `https://collector`"),
        "{}",
        node.words()
    );
}

#[test]
fn one_trace_goes_over_channels_and_over_the_steps_of_a_pipeline() {
    let (node, collector) = traced("0.0");
    let courier = crate::bundle("reactor", "courier");
    node.deploy(
        &courier,
        "acts",
        &[
            "-b=ask=channel:orders",
            "-b=from=channel:none",
            "-b=to=channel:news",
        ],
    );
    node.deploy(
        &courier,
        "desk",
        &[
            "-b=ask=channel:none-2",
            "-b=from=channel:orders",
            "-b=to=channel:none-3",
        ],
    );
    node.deploy(
        &courier,
        "reader",
        &[
            "-b=ask=channel:none-4",
            "-b=from=channel:news",
            "-b=to=channel:none-5",
        ],
    );
    // [bytes] with the text "e" in them.
    let message: [u8; 4] = [0x81, 0x42, 0x61, b'e'];
    let tell = |function: &str, trace: &str| {
        let headers = [
            ("traceparent", sampled(trace)),
            ("content-type", "application/cbor".to_owned()),
            ("accept", "application/json".to_owned()),
        ];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let path = call_path("acts", function);
        http::ask(&node.socket(), "POST", &path, &headers, &message)
            .expect("is answered")
            .good();
    };
    // What a stage is within, by its name, up to the caller's span.
    let ancestors = |spans: &[Span], deployment: &str| {
        let of = |span: &&Span| {
            let mut attributes = span.attributes.iter();
            attributes.any(|one| {
                one.key == "referee.deployment"
                    && format!("{:?}", one.value).contains(&format!("\"{deployment}\""))
            })
        };
        let mut names = Vec::new();
        let mut span = spans.iter().find(of);
        while let Some(found) = span {
            names.push(found.name.clone());
            span = spans.iter().find(|other| other.span_id == found.parent_span_id);
        }
        names
    };
    let trace = "4af7651916cd43dd8448eb211c80319c";
    tell("ask", trace);
    let spans = collector.trace(trace);
    assert_eq!(
        ancestors(&spans, "desk"),
        ["call", "message", "call"],
        "{spans:?}"
    );
    let trace = "5af7651916cd43dd8448eb211c80319c";
    tell("send", trace);
    wait_for("it is taken", || node.counted("reader", "messages_taken") == 1);
    wait_for("its trace comes", || {
        ancestors(&collector.trace(trace), "reader") == ["call", "message", "call"]
    });
    let ended = node.cli(&["pipeline", "define", "p", "desk/take | reader/take"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    let trace = "6af7651916cd43dd8448eb211c80319c";
    let header = [("traceparent", sampled(trace))];
    let header = header.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = http::ask(
        &node.socket(),
        "POST",
        "/v1/pipelines/p/call",
        &header,
        b"[\"e\"]",
    );
    assert_eq!(answer.expect("is answered").good(), b"\"e\"");
    for name in ["desk", "reader"] {
        wait_for("its trace comes", || {
            ancestors(&collector.trace(trace), name) == ["call", "step", "call"]
        });
    }
}
