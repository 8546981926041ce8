//! What muscles write: what is kept, and what comes.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use referee_policy::Access;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use utoipa::IntoParams;

use crate::api::Peer;
use crate::api::failure::{ApiError, ApiResult};
use crate::api::openapi::{Looking, Name};
use crate::api::path::Named;
use crate::logs::LogLine;
use crate::node::Node;

/// Query of `logs`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Follow {
    /// Whether to go on with what comes.
    #[serde(default)]
    #[param(required = false)]
    follow: bool,
}

/// Gives what the muscles of a deployment wrote.
///
/// JSON lines, each a `LogLine`: the last that is kept and, with `follow`, what comes; a follower that was too slow has `{"missed": N}` between them.
#[utoipa::path(
    get, path = "/v1/deployments/{name}/logs", tag = "deployments",
    params(("name" = Name, Path, description = "The deployment."), Follow),
    responses((status = 200, description = "JSON lines.", body = String, content_type = "application/x-ndjson"), Looking),
)]
pub(crate) async fn logs(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
    query: Result<Query<Follow>, QueryRejection>,
) -> ApiResult<Response> {
    // From before it is asked: a reload that comes later is not missed.
    let reloads = node.reloads();
    node.allow(&peer, access(&name))?;
    let Query(query) = query.map_err(|error| ApiError::bad_request("query-invalid", error.body_text()))?;
    let (kept, coming) = node.deployment(&name)?.logs.read();
    let mut text = Vec::new();
    for line in &kept {
        text.extend_from_slice(&json_line(line));
    }
    let body = match query.follow {
        false => Body::from(text),
        true => {
            let following = Following {
                first: Some(Bytes::from(text)),
                coming,
                reloads,
                node,
                peer,
                name,
            };
            Body::new(StreamBody::new(following.lines()))
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// Somebody who follows a deployment's output.
struct Following {
    /// What is kept.
    first: Option<Bytes>,
    coming: broadcast::Receiver<LogLine>,
    reloads: watch::Receiver<()>,
    node: Node,
    peer: Peer,
    name: String,
}

impl Following {
    /// What is kept, then what comes, until the deployment is gone or policy does not permit it any more.
    fn lines(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
        futures_util::stream::unfold(self, |mut following| async move {
            let bytes = following.next().await?;
            Some((Ok(Frame::data(bytes)), following))
        })
    }

    /// The next piece; a follower that is too slow is told how many lines it missed.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            tokio::select! {
                biased;
                // The node outlives its answers.
                _ = self.reloads.changed() => self.node.allow(&self.peer, access(&self.name)).ok()?,
                line = self.coming.recv() => {
                    let bytes = match line {
                        Ok(line) => json_line(&line),
                        Err(RecvError::Lagged(missed)) => format!("{{\"missed\":{missed}}}\n").into_bytes(),
                        Err(RecvError::Closed) => return None,
                    };
                    return Some(Bytes::from(bytes));
                }
            }
        }
    }
}

fn json_line(line: &LogLine) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn access(name: &str) -> Access<'_> {
    Access::Deployment { name, action: "logs" }
}
