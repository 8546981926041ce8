//! Traces: where the time of a call went, sent to a collector as OTLP.
//!
//! ```text
//!   call ─┬─ authorise          Trace::stage: a guard, its span ends with it
//!         ├─ queue
//!         ├─ worker
//!         ├─ slot
//!         ├─ piece ─┬─ cell     Stage::step: told afterwards, with its times
//!         │         └─ run ─ use console.out
//!         └─ answer
//! ```
//! A trace has names of stages, deployment, function and capabilities, and numbers. Nothing that a client sent as an argument or a muscle
//! answered is ever in it. A collector that is slow, full or dead costs a full queue: then spans are dropped and nobody waits.
#![forbid(unsafe_code)]

mod export;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer as _, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider,
};

use crate::export::Client;
pub use crate::export::{Endpoint, NoEndpoint};

/// Spans that may wait for the collector; more are dropped.
const QUEUE: usize = 4096;
/// Spans in one request.
const BATCH: usize = 512;
/// How long spans wait for others to go with.
const DELAY: Duration = Duration::from_secs(1);
/// How long a collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last spans may take at the end.
const LAST: Duration = Duration::from_secs(1);

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The exporter cannot be made.
    #[error("the exporter of traces cannot be made")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Makes traces, or none. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    failures: Arc<AtomicU64>,
}

impl Tracer {
    /// Makes none.
    pub fn off() -> Tracer {
        Tracer(None)
    }

    /// Sends this part, 0 to 1, of all traces to a collector, and those that the caller of a call has recorded. Must be called on a Tokio
    /// runtime, on which the collector is spoken to.
    ///
    /// # Errors
    /// [`TraceError`].
    pub fn start(endpoint: &Endpoint, part: f64) -> Result<Tracer, TraceError> {
        let failures = Arc::new(AtomicU64::new(0));
        let client = Client::new(tokio::runtime::Handle::current(), TIMEOUT, Arc::clone(&failures));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(endpoint.to_string())
            .with_timeout(TIMEOUT)
            .build()?;
        let limits = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(limits)
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(part))))
            .with_resource(Resource::builder_empty().with_service_name("referee").build())
            .build();
        let tracer = provider.tracer("referee");
        Ok(Tracer(Some(Arc::new(On {
            provider,
            tracer,
            failures,
        }))))
    }

    /// Begins the trace of a call, within that of the caller if `header` gives one (W3C Trace Context: `traceparent`, `tracestate`).
    pub fn call<'a>(&self, header: impl Fn(&str) -> Option<&'a str>) -> Trace {
        let Some(on) = &self.0 else {
            return Trace(None);
        };
        let headers =
            Headers(["traceparent", "tracestate"].map(|name| (name, header(name).map(str::to_owned))));
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        let span = on
            .tracer
            .span_builder("call")
            .with_kind(SpanKind::Server)
            .start_with_context(&on.tracer, &parent);
        match span.span_context().is_sampled() {
            true => Trace(Some(Running {
                on: Arc::clone(on),
                context: Context::new().with_span(span),
            })),
            false => Trace(None),
        }
    }

    /// How often the collector did not take what it was sent.
    pub fn failures(&self) -> u64 {
        let count = |on: &Arc<On>| on.failures.load(Ordering::Relaxed);
        self.0.as_ref().map_or(0, count)
    }

    /// Sends what is left, as far as the collector takes it at once. It waits on the calling thread, which must not be one of the runtime's.
    pub fn end(&self) {
        if let Some(on) = &self.0 {
            // Traces that are lost at the end are no reason for the end to fail.
            let _ = on.provider.shutdown_with_timeout(LAST);
        }
    }
}

/// What the caller said of its own trace.
struct Headers([(&'static str, Option<String>); 2]);

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        found.1.as_deref()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

#[derive(Debug, Clone)]
struct Running {
    on: Arc<On>,
    context: Context,
}

/// The trace of one call, or none. It is over when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub struct Trace(Option<Running>);

/// A stage of a call, until it is dropped.
#[derive(Debug)]
pub struct Stage(Option<Running>);

impl Trace {
    /// None.
    pub fn none() -> Trace {
        Trace(None)
    }

    /// Whether somebody will see it.
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Says something of the call: a name or a number, never what was in it.
    pub fn note(&self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(running) = &self.0 {
            running
                .context
                .span()
                .set_attribute(KeyValue::new(key, value.into()));
        }
    }

    /// Says that the call failed, by the stable name of why.
    pub fn failed(&self, name: &str) {
        if let Some(running) = &self.0 {
            running.context.span().set_status(Status::error(name.to_owned()));
        }
    }

    /// Begins a stage.
    pub fn stage(&self, name: &'static str) -> Stage {
        Stage(self.0.as_ref().map(|running| {
            let span = running
                .on
                .tracer
                .span_builder(name)
                .start_with_context(&running.on.tracer, &running.context);
            Running {
                on: Arc::clone(&running.on),
                context: running.context.with_span(span),
            }
        }))
    }
}

impl Stage {
    /// A call within this stage, which may outlive it.
    pub fn call(&self) -> Trace {
        Trace(self.0.as_ref().map(|running| {
            let span = running
                .on
                .tracer
                .span_builder("call")
                .with_kind(SpanKind::Internal)
                .start_with_context(&running.on.tracer, &running.context);
            Running {
                on: Arc::clone(&running.on),
                context: running.context.with_span(span),
            }
        }))
    }

    /// Adds a step that began then and lasted so long; it gives itself as a stage in which others may lie.
    pub fn step(&self, name: String, began: SystemTime, lasted: Duration) -> Stage {
        Stage(self.0.as_ref().map(|running| {
            let mut span = running
                .on
                .tracer
                .span_builder(name)
                .with_start_time(began)
                .start_with_context(&running.on.tracer, &running.context);
            span.end_with_timestamp(began + lasted);
            Running {
                on: Arc::clone(&running.on),
                context: running.context.with_span(span),
            }
        }))
    }

    /// Says something of the stage.
    pub fn note(&self, key: &'static str, value: impl Into<opentelemetry::Value>) {
        if let Some(running) = &self.0 {
            running
                .context
                .span()
                .set_attribute(KeyValue::new(key, value.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn nothing(_: &str) -> Option<&'static str> {
        None
    }

    #[test]
    fn without_a_collector_there_is_no_trace() {
        let trace = Tracer::off().call(|_| Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
        assert!(!trace.is_recorded());
        trace.note("referee.deployment", "d");
        trace
            .stage("queue")
            .step("run".into(), SystemTime::now(), DELAY)
            .note("n", 1i64);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_dead_collector_stops_nobody() {
        // A port that was free a moment ago: nobody listens.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("is free");
        let address = free.local_addr().expect("has one");
        drop(free);
        let endpoint = format!("http://{address}").parse().expect("is one");
        let tracer = Tracer::start(&endpoint, 1.0).expect("starts");
        let began = Instant::now();
        for _ in 0..3 * QUEUE {
            let trace = tracer.call(nothing);
            assert!(trace.is_recorded());
            drop(trace.stage("queue"));
        }
        // Each would wait for the collector, which takes far longer, if any did.
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        let ended = tracer.clone();
        tokio::task::spawn_blocking(move || ended.end())
            .await
            .expect("ends");
        assert!(tracer.failures() > 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_caller_decides_and_else_chance() {
        let endpoint = "http://127.0.0.1:9".parse().expect("is one");
        let tracer = Tracer::start(&endpoint, 0.0).expect("starts");
        let from = |header: &'static str| tracer.call(|name| (name == "traceparent").then_some(header));
        assert!(!tracer.call(nothing).is_recorded());
        assert!(from("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").is_recorded());
        assert!(!from("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00").is_recorded());
        // What is none counts as none.
        for header in [
            "",
            "00",
            "00-zz-b7ad6b7169203331-01",
            "\u{0}",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        ] {
            assert!(!from(header).is_recorded(), "{header:?}");
        }
        assert!(!tracer.call(nothing).is_recorded());
        let all = Tracer::start(&endpoint, 1.0).expect("starts");
        assert!(all.call(nothing).is_recorded());
    }
}
