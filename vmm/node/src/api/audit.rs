//! The node's audit log, for whoever keeps a copy of it elsewhere or checks it there.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use referee_audit::Reader;
use referee_policy::Access;
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;

use crate::api::Peer;
use crate::api::failure::{ApiError, ApiResult};
use crate::api::openapi::Auditing;
use crate::error::{NodeError, OrHost};
use crate::node::Node;

/// Most records of an answer that does not follow, and how many it has when nothing is said.
const LIMIT_MAX: u64 = 10_000;
/// The largest number that a record may be asked for by: what a 64-bit integer of the document's format holds.
const AFTER_MAX: u64 = i64::MAX.unsigned_abs();
/// Bytes that are in memory for one reader at a time, beside one record.
const PIECE: usize = 256 << 10;
/// How often a follower looks whether there is more.
const LOOK: Duration = Duration::from_millis(200);

/// How many records the log had when the answer began, and the hash of the last.
const RECORDS: HeaderName = HeaderName::from_static("referee-audit-records");
const HASH: HeaderName = HeaderName::from_static("referee-audit-hash");

/// Query of `audit`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only records after the one with this number; from the first that there is when left out.
    #[param(required = false)]
    after: Option<u64>,
    /// At most so many: 10,000 when left out, or any number with `follow`.
    #[param(required = false, minimum = 1, maximum = 10000)]
    limit: Option<u64>,
    /// Whether to go on with what comes.
    #[serde(default)]
    #[param(required = false)]
    follow: bool,
}

/// Gives records of the audit log.
///
/// JSON lines, as they stand in the log: each with its number, the hash of the one before and its own, so that the chain can be checked wherever they are
/// kept. Those that were rotated away are given too, as long as they lie beside the log.
#[utoipa::path(
    get, path = "/v1/audit", tag = "node", operation_id = "audit",
    params(Wanted),
    responses(
        (
            status = 200, description = "JSON lines.", body = String, content_type = "application/x-ndjson",
            headers(
                ("referee-audit-records" = u64, description = "How many records the log had when the answer began."),
                ("referee-audit-hash" = String, description = "The hash of the last of them."),
            ),
        ),
        Auditing,
    ),
)]
pub(crate) async fn records(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> ApiResult<Response> {
    // From before it is asked: a reload that comes later is not missed.
    let reloads = node.reloads();
    node.allow(&peer, ACCESS)?;
    let Query(query) = query.map_err(|error| ApiError::bad_request("query-invalid", error.body_text()))?;
    if query.limit.is_some_and(|limit| !(1..=LIMIT_MAX).contains(&limit)) {
        return Err(ApiError::bad_request(
            "query-invalid",
            format!("limit is 1 to {LIMIT_MAX}; ask again after the last record for more"),
        ));
    }
    if query.after.is_some_and(|after| after > AFTER_MAX) {
        return Err(ApiError::bad_request(
            "query-invalid",
            format!("after is the number of a record, at most {AFTER_MAX}"),
        ));
    }
    let head = node.audit().head();
    let mut reading = Reading {
        reader: Reader::after(&node.config().audit.file, query.after),
        left: match (query.limit, query.follow) {
            (Some(limit), _) => limit,
            (None, true) => u64::MAX,
            (None, false) => LIMIT_MAX,
        },
        follow: query.follow,
        reloads,
        node,
        peer,
        first: None,
    };
    // What cannot be read is told by the status, not by an answer that breaks off.
    reading.first = Some(reading.piece().await?);
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        ),
        (RECORDS, HeaderValue::from(head.records)),
        (
            HASH,
            HeaderValue::try_from(head.hash.to_string()).or_host("writing a hash")?,
        ),
    ];
    let body = Body::new(StreamBody::new(reading.pieces()));
    Ok((headers, body).into_response())
}

const ACCESS: Access<'static> = Access::Node { action: "audit" };

/// Somebody who reads the log. Whoever does not take what was read has no more read for them.
struct Reading {
    reader: Reader,
    /// Records that may still be given.
    left: u64,
    follow: bool,
    reloads: watch::Receiver<()>,
    node: Node,
    peer: Peer,
    /// What was read already.
    first: Option<Bytes>,
}

impl Reading {
    fn pieces(self) -> impl Stream<Item = Result<Frame<Bytes>, NodeError>> {
        futures_util::stream::unfold(Some(self), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(Some(bytes)) => Some((Ok(Frame::data(bytes)), Some(reading))),
                Ok(None) => None,
                // The answer breaks off, so that nobody takes what there is for all.
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    /// The next piece; none when there are no more, or, to a follower, when policy does not permit it any more.
    async fn next(&mut self) -> Result<Option<Bytes>, NodeError> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Ok(Some(first));
        }
        let mut looks = tokio::time::interval(LOOK);
        loop {
            if self.left == 0 || self.node.is_draining() {
                return Ok(None);
            }
            tokio::select! {
                biased;
                // The node outlives its answers.
                _ = self.reloads.changed() => {
                    if self.node.allow(&self.peer, ACCESS).is_err() {
                        return Ok(None);
                    }
                }
                _ = looks.tick() => {
                    let bytes = self.piece().await?;
                    match bytes.is_empty() {
                        false => return Ok(Some(bytes)),
                        true if !self.follow => return Ok(None),
                        true => {}
                    }
                }
            }
        }
    }

    /// What the log has of the next records.
    async fn piece(&mut self) -> Result<Bytes, NodeError> {
        let (mut reader, left) = (self.reader.clone(), self.left);
        let read = move || reader.read(left, PIECE).map(|lines| (reader, lines));
        let doing = "reading the audit log";
        let (reader, lines) = tokio::task::spawn_blocking(read)
            .await
            .or_host(doing)?
            .or_host(doing)?;
        let records = lines.iter().filter(|byte| **byte == b'\n').count();
        self.left = self
            .left
            .saturating_sub(u64::try_from(records).unwrap_or(u64::MAX));
        self.reader = reader;
        Ok(Bytes::from(lines))
    }
}
