//! The node in the text format that Prometheus reads (exposition format 0.0.4).

use std::fmt::{self, Write};

use axum::extract::{Extension, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use referee_policy::Access;

use crate::api::Peer;
use crate::api::failure::ApiResult;
use crate::deployment::Counted;
use crate::node::Node;

/// A counter of each deployment.
struct Counter {
    name: &'static str,
    help: &'static str,
    read: fn(&Counted) -> u64,
}

/// As [`Counted`] says; `docs/api.md` lists them.
const COUNTERS: [Counter; 12] = [
    counter("calls", "Calls that were taken.", |counted| counted.calls),
    counter("returned", "Calls with a result.", |counted| counted.returned),
    counter(
        "function_errors",
        "Calls that the function answered with an error.",
        |counted| counted.function_errors,
    ),
    counter("faults", "Calls in which the muscle broke a rule.", |counted| {
        counted.faults
    }),
    counter("cancelled", "Calls that were given up.", |counted| {
        counted.cancelled
    }),
    counter("host_errors", "Calls that failed by the host.", |counted| {
        counted.host_errors
    }),
    counter(
        "refused",
        "Calls that were not taken, or refused before they ran.",
        |counted| counted.refused,
    ),
    counter("slices", "Pieces in which calls ran.", |counted| counted.slices),
    counter(
        "slot_microseconds",
        "Time for which calls had a slot.",
        |counted| counted.used_us,
    ),
    counter("argument_bytes", "Bytes of arguments.", |counted| {
        counted.bytes_in
    }),
    counter("result_bytes", "Bytes of results.", |counted| counted.bytes_out),
    counter(
        "workers_started",
        "Worker processes that were started.",
        |counted| counted.workers_started,
    ),
];

const fn counter(name: &'static str, help: &'static str, read: fn(&Counted) -> u64) -> Counter {
    Counter { name, help, read }
}

/// `GET /metrics`
pub(crate) async fn metrics(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
) -> ApiResult<Response> {
    node.allow(peer, Access::Node { action: "stats" })?;
    Ok(open_metrics(State(node)).await)
}

/// The same for whoever may connect.
pub(crate) async fn open_metrics(State(node): State<Node>) -> Response {
    let mut text = String::new();
    // A string takes whatever is written.
    let _ = write_all(&mut text, &node);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

fn write_all(text: &mut String, node: &Node) -> fmt::Result {
    let deployments = node.deployments();
    let counted: Vec<(&str, Counted)> = deployments
        .iter()
        .map(|deployment| (deployment.name.as_str(), deployment.counters.read()))
        .collect();
    for Counter { name, help, read } in &COUNTERS {
        head(text, &format!("deployment_{name}_total"), "counter", help)?;
        for (deployment, counted) in &counted {
            let value = read(counted);
            // A deployment's name has nothing to escape.
            writeln!(
                text,
                "referee_deployment_{name}_total{{deployment=\"{deployment}\"}} {value}"
            )?;
        }
    }
    head(text, "deployment_waiting", "gauge", "Calls that wait for a cell.")?;
    for deployment in &deployments {
        let (name, waiting) = (&deployment.name, deployment.waiting());
        writeln!(
            text,
            "referee_deployment_waiting{{deployment=\"{name}\"}} {waiting}"
        )?;
    }
    head(text, "deployment_running", "gauge", "Calls that have a cell.")?;
    for deployment in &deployments {
        let (name, running) = (&deployment.name, deployment.running());
        writeln!(
            text,
            "referee_deployment_running{{deployment=\"{name}\"}} {running}"
        )?;
    }
    head(
        text,
        "tenant_held_microseconds_total",
        "counter",
        "Slot time of a publisher's calls by the supervisor's clock.",
    )?;
    let tenants = node.turns().usage();
    for (name, usage) in &tenants {
        let (name, held) = (escaped(name), usage.held.as_ns() / 1000);
        writeln!(
            text,
            "referee_tenant_held_microseconds_total{{publisher=\"{name}\"}} {held}"
        )?;
    }
    head(
        text,
        "tenant_late_total",
        "counter",
        "Jobs of real-time deployments that missed their deadline.",
    )?;
    for (name, usage) in &tenants {
        let (name, late) = (escaped(name), usage.late);
        writeln!(text, "referee_tenant_late_total{{publisher=\"{name}\"}} {late}")?;
    }
    let workers = deployments
        .iter()
        .filter(|deployment| deployment.present().is_some());
    for (name, help, value) in [
        ("deployments", "Deployments.", deployments.len()),
        (
            "workers",
            "Deployments that have a worker process.",
            workers.count(),
        ),
        ("slots", "Calls that may run at once.", node.slot_count()),
        (
            "slots_free",
            "Slots that nobody has.",
            node.turns().free(node.slot_count()),
        ),
    ] {
        head(text, name, "gauge", help)?;
        writeln!(text, "referee_{name} {value}")?;
    }
    head(
        text,
        "audit_records_total",
        "counter",
        "Records in the audit log.",
    )?;
    writeln!(
        text,
        "referee_audit_records_total {}",
        node.audit().head().records
    )
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(text, "# HELP referee_{name} {help}")?;
    writeln!(text, "# TYPE referee_{name} {kind}")
}

/// A label's value.
fn escaped(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publisher_s_name_cannot_end_its_label() {
        assert_eq!(escaped("a\"} 1\nb\\"), "a\\\"} 1\\nb\\\\");
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
            slices: 8,
            used_us: 9,
            bytes_in: 10,
            bytes_out: 11,
            workers_started: 12,
        };
        let read: Vec<u64> = COUNTERS.iter().map(|counter| (counter.read)(&counted)).collect();
        assert_eq!(read, (1..=12).collect::<Vec<u64>>());
    }
}
