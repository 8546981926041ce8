//! The node's figures in the text format that Prometheus reads (exposition format 0.0.4). `docs/metrics.md` lists them; a test holds the
//! page against what a node says.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use referee_policy::Access;

use crate::anomaly::Signal;
use crate::api::Peer;
use crate::api::failure::ApiResult;
use crate::api::openapi::Counting;
use crate::deployment::{Counted, Deployment};
use crate::health::{Health, NAMES};
use crate::histogram::{BOUNDS_US, Distribution};
use crate::node::Node;

/// A figure of each deployment.
struct Figure<T> {
    name: &'static str,
    help: &'static str,
    read: fn(&T) -> u64,
}

const fn figure<T>(name: &'static str, help: &'static str, read: fn(&T) -> u64) -> Figure<T> {
    Figure { name, help, read }
}

/// What only grows.
const COUNTERS: [Figure<Counted>; 21] = [
    figure("calls", "Calls that were taken", |counted| counted.calls),
    figure("returned", "Calls with a result", |counted| counted.returned),
    figure(
        "function_errors",
        "Calls that the function answered with an error",
        |counted| counted.function_errors,
    ),
    figure("faults", "Calls in which the muscle broke a rule", |counted| {
        counted.faults
    }),
    figure("cancelled", "Calls that were given up", |counted| {
        counted.cancelled
    }),
    figure("host_errors", "Calls that failed by the host", |counted| {
        counted.host_errors
    }),
    figure(
        "refused",
        "Calls that were not taken, or refused before they ran",
        |counted| counted.refused,
    ),
    figure("denials", "Uses of a capability that were refused", |counted| {
        counted.denials
    }),
    figure("slices", "Pieces in which calls ran", |counted| counted.slices),
    figure("exits", "Times that cells stopped while calls ran", |counted| {
        counted.exits
    }),
    figure(
        "slot_microseconds",
        "Time for which calls had a slot",
        |counted| counted.used_us,
    ),
    figure(
        "argument_bytes",
        "Bytes of arguments and of streams' input",
        |counted| counted.bytes_in,
    ),
    figure(
        "result_bytes",
        "Bytes of results and of streams' output",
        |counted| counted.bytes_out,
    ),
    figure(
        "workers_started",
        "Worker processes that were started",
        |counted| counted.workers_started,
    ),
    figure(
        "cells_paged_out",
        "Cells whose memory was moved to swap because nobody called them",
        |counted| counted.cells_paged_out,
    ),
    figure(
        "cells_dropped",
        "Cells that were ended because nobody called them",
        |counted| counted.cells_dropped,
    ),
    figure(
        "workers_out_of_order",
        "Worker processes that were ended because of what they sent",
        |counted| counted.workers_out_of_order,
    ),
    figure(
        "messages_sent",
        "Messages that calls sent, or that were answered",
        |counted| counted.messages_sent,
    ),
    figure(
        "messages_refused",
        "Messages that calls could not send, or that had no answer",
        |counted| counted.messages_refused,
    ),
    figure(
        "messages_taken",
        "Messages of others whose call came to a good end",
        |counted| counted.messages_taken,
    ),
    figure(
        "messages_lost",
        "Messages of others whose call did not",
        |counted| counted.messages_lost,
    ),
];

/// What rises and falls.
const GAUGES: [Figure<Deployment>; 9] = [
    figure("waiting", "Calls that wait for a cell", |deployment| {
        count(deployment.waiting())
    }),
    figure(
        "messages_waiting",
        "Messages that wait for a call",
        |deployment| count(deployment.mailbox.waiting()),
    ),
    figure("running", "Calls that have a cell", |deployment| {
        count(deployment.running())
    }),
    figure("cells", "Calls that may be under way at once", |deployment| {
        count(deployment.deployed.settings.cells)
    }),
    figure("paused", "Whether it takes no calls", |deployment| {
        deployment.paused.load(Ordering::Acquire).into()
    }),
    figure("worker", "Whether it has a worker process", |deployment| {
        deployment.present().is_some().into()
    }),
    figure(
        "worker_failures",
        "How often in a row its worker failed",
        |deployment| deployment.failures().into(),
    ),
    figure(
        "memory_bytes",
        "Memory that its worker and cells may take",
        |deployment| deployment.present().map_or(0, |worker| worker.room().bytes()),
    ),
    figure("cells_asleep", "Cells whose memory is in swap", |deployment| {
        deployment.present().map_or(0, |worker| worker.room().asleep())
    }),
];

type ReadDurations = fn(&Deployment) -> Distribution;

/// Durations of each deployment, in seconds.
const DURATIONS: [(&str, &str, ReadDurations); 2] = [
    (
        "deployment_call",
        "From the taking of a call to its end",
        |deployment| deployment.called.read(),
    ),
    (
        "deployment_wait",
        "From the taking of a call to its first turn: for a cell, a worker and a slot",
        |deployment| deployment.waited.read(),
    ),
];

/// Of the node.
const NODE: [Figure<Node>; 9] = [
    figure("deployments", "Deployments", |node| {
        count(node.deployments().len())
    }),
    figure("workers", "Deployments that have a worker process", |node| {
        let deployments = node.deployments();
        let staffed = deployments.iter().filter(|one| one.present().is_some());
        count(staffed.count())
    }),
    figure("slots", "Calls that may run at once", |node| {
        count(node.slot_count())
    }),
    figure("slots_free", "Slots that nobody has", |node| {
        count(node.turns().free(node.slot_count()))
    }),
    figure(
        "memory_budget_bytes",
        "Memory that cells and workers may have at once",
        |node| node.memory().figures().budget,
    ),
    figure(
        "memory_taken_bytes",
        "Memory that cells and workers may take now",
        |node| node.memory().figures().taken,
    ),
    figure(
        "memory_promised_bytes",
        "Memory that all deployments may take with every cell that they may have",
        |node| node.memory().figures().promised,
    ),
    figure("ready", "Whether the node takes calls", |node| {
        (!node.is_draining()).into()
    }),
    figure(
        "started_seconds",
        "When the service started, in seconds since 1970",
        |node| node.started(),
    ),
];

/// Gives the node and each deployment in numbers, for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "node",
    responses((status = 200, description = "Text exposition format 0.0.4.", body = String, content_type = "text/plain"), Counting),
)]
pub(crate) async fn metrics(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
) -> ApiResult<Response> {
    node.allow(&peer, Access::Node { action: "stats" })?;
    Ok(open_metrics(State(node)).await)
}

/// The same for whoever may connect.
pub(crate) async fn open_metrics(State(node): State<Node>) -> Response {
    let mut registry = Registry::with_prefix("referee");
    registry.register_collector(Box::new(Scrape(node)));
    let mut text = String::new();
    // A string takes whatever is written.
    let _ = prometheus_text::encode(&mut text, &registry);
    ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response()
}

/// One look at everything.
#[derive(Debug)]
struct Scrape(Node);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let node = &self.0;
        page.deployments(&node.deployments())?;
        page.tenants(node)?;
        page.node(node)
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn deployments(&mut self, deployments: &[Arc<Deployment>]) -> fmt::Result {
        let counted: Vec<(&str, Counted)> = deployments
            .iter()
            .map(|deployment| (deployment.name.as_str(), deployment.counters.read()))
            .collect();
        for Figure { name, help, read } in &COUNTERS {
            let rows = counted
                .iter()
                .map(|(name, counted)| ([("deployment", *name)], read(counted)));
            self.counters(&format!("deployment_{name}"), help, rows)?;
        }
        for Figure { name, help, read } in &GAUGES {
            let rows = deployments
                .iter()
                .map(|deployment| ([("deployment", deployment.name.as_str())], read(deployment)));
            self.gauges(&format!("deployment_{name}"), help, rows)?;
        }
        for (name, help, read) in DURATIONS {
            let rows = deployments
                .iter()
                .map(|deployment| ([("deployment", deployment.name.as_str())], read(deployment)));
            self.durations(name, help, rows)?;
        }
        let anomalies = deployments.iter().flat_map(|deployment| {
            let found = deployment.anomalies();
            Signal::ALL.map(|signal| {
                let is_found = found.iter().any(|anomaly| anomaly.signal == signal);
                let labels = [
                    ("deployment", deployment.name.as_str()),
                    ("signal", signal.name()),
                ];
                (labels, u64::from(is_found))
            })
        });
        self.gauges(
            "deployment_anomalous",
            "Whether a signal is otherwise than it used to be",
            anomalies,
        )
    }

    fn tenants(&mut self, node: &Node) -> fmt::Result {
        let tenants = node.turns().usage();
        let of = |read: fn(&referee_scheduler::Usage) -> u64| {
            tenants
                .iter()
                .map(move |(name, usage)| ([("publisher", name.as_str())], read(usage)))
        };
        self.counters(
            "tenant_held_microseconds",
            "Slot time of a publisher's calls by the supervisor's clock",
            of(|usage| usage.held.as_ns() / 1000),
        )?;
        self.counters(
            "tenant_preempted",
            "Turns of a publisher's calls that were cut short for somebody else",
            of(|usage| usage.preempted),
        )?;
        self.counters(
            "tenant_late",
            "Jobs of real-time deployments that missed their deadline",
            of(|usage| usage.late),
        )?;
        let memory = node.memory().by_publisher();
        let rows = memory
            .iter()
            .map(|(name, bytes)| ([("publisher", name.as_str())], *bytes));
        self.gauges(
            "tenant_memory_bytes",
            "Memory that a publisher's workers and cells may take now",
            rows,
        )
    }

    fn node(&mut self, node: &Node) -> fmt::Result {
        for Figure { name, help, read } in &NODE {
            self.one(name, help, &ConstGauge::new(read(node)))?;
        }
        let health = Health::of(node);
        let reasons = NAMES.map(|name| {
            let is_so = health.degraded.iter().any(|one| one.name == name);
            ([("reason", name)], u64::from(is_so))
        });
        self.gauges("degraded", "Whether something is not as it should be", reasons)?;
        let disks = node.watch().disks();
        let known: Vec<_> = [("state", disks.state), ("log", disks.log)]
            .into_iter()
            .filter_map(|(of, disk)| Some((of, disk?)))
            .collect();
        let free = known.iter().map(|(of, disk)| ([("of", *of)], disk.free));
        self.gauges(
            "disk_free_bytes",
            "Room in the file system of state or audit log",
            free,
        )?;
        let size = known.iter().map(|(of, disk)| ([("of", *of)], disk.size));
        self.gauges(
            "disk_size_bytes",
            "Size of the file system of state or audit log",
            size,
        )?;
        self.one(
            "audit_records",
            "Records in the audit log",
            &ConstCounter::new(node.audit().head().records),
        )?;
        self.one(
            "audit_failures",
            "Records and flushes that the audit log did not take",
            &ConstCounter::new(node.audit().failures()),
        )?;
        self.one(
            "trace_failures",
            "Requests that the collector of traces did not take",
            &ConstCounter::new(node.tracer().failures()),
        )?;
        self.one(
            "memory_refusals",
            "Deployments and calls for which there was not enough memory to give out",
            &ConstCounter::new(node.memory().refused()),
        )?;
        let version = [([("version", env!("CARGO_PKG_VERSION"))], 1)];
        self.gauges("build_info", "The program's version", version)
    }

    fn one(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn counters<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'a str, &'a str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<'a, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'a str, &'a str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn durations<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = ([(&'a str, &'a str); 1], Distribution)>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut family = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (labels, counted) in rows {
            let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound));
            let buckets: Vec<(f64, u64)> = bounds
                .chain(std::iter::once(f64::INFINITY))
                .zip(counted.counts.iter().copied())
                .collect();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                seconds(counted.sum_us),
                counted.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn seconds(micros: u64) -> f64 {
    // That a sum beyond 2^53 is rounded does not matter.
    let micros = micros as f64;
    micros / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Test(fn(&mut Page<'_>) -> fmt::Result);

    impl Collector for Test {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            (self.0)(&mut Page(encoder))
        }
    }

    fn text(fill: fn(&mut Page<'_>) -> fmt::Result) -> String {
        let mut registry = Registry::with_prefix("referee");
        registry.register_collector(Box::new(Test(fill)));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("a string takes it");
        text
    }

    #[test]
    fn a_publisher_s_name_cannot_end_its_label() {
        let text = text(|page| page.counters("late", "Help", [([("publisher", "a\"} 1\nb\\")], 7)]));
        assert!(
            text.contains("referee_late_total{publisher=\"a\\\"} 1\\nb\\\\\"} 7\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn durations_are_cumulative_seconds_and_end_with_all() {
        let text = text(|page| {
            let mut counts = vec![0; BOUNDS_US.len() + 1];
            counts[0] = 2;
            counts[2] = 1;
            counts[BOUNDS_US.len()] = 1;
            let counted = Distribution {
                counts,
                sum_us: 70_000_500,
            };
            page.durations("call", "Help", [([("deployment", "d")], counted)])
        });
        for line in [
            "# TYPE referee_call_seconds histogram",
            "referee_call_seconds_sum{deployment=\"d\"} 70.0005",
            "referee_call_seconds_count{deployment=\"d\"} 4",
            "referee_call_seconds_bucket{deployment=\"d\",le=\"0.0001\"} 2",
            "referee_call_seconds_bucket{deployment=\"d\",le=\"0.0005\"} 3",
            "referee_call_seconds_bucket{deployment=\"d\",le=\"60\"} 3",
            "referee_call_seconds_bucket{deployment=\"d\",le=\"+Inf\"} 4",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}: {text}");
        }
    }

    #[test]
    fn each_counter_reads_its_own_field() {
        let counted = Counted {
            calls: 1,
            returned: 2,
            function_errors: 3,
            faults: 4,
            cancelled: 5,
            host_errors: 6,
            refused: 7,
            denials: 8,
            slices: 9,
            exits: 10,
            used_us: 11,
            bytes_in: 12,
            bytes_out: 13,
            workers_started: 14,
            cells_paged_out: 15,
            cells_dropped: 16,
            workers_out_of_order: 17,
            messages_sent: 18,
            messages_refused: 19,
            messages_taken: 20,
            messages_lost: 21,
        };
        let read: Vec<u64> = COUNTERS.iter().map(|counter| (counter.read)(&counted)).collect();
        assert_eq!(read, (1..=21).collect::<Vec<u64>>());
    }
}
