//! Deployments: sent, made, looked at, paused, removed.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::{Extension, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, body};
use http_body_util::StreamBody;
use hyper::body::Frame;
use referee_policy::Access;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use crate::anomaly::Anomaly;
use crate::api::failure::{ApiError, ApiResult};
use crate::api::path::Named;
use crate::api::{Peer, body as bodies};
use crate::deployment::{Counted, Deployment};
use crate::error::{NodeError, OrHost};
use crate::histogram::Distribution;
use crate::logs::LogLine;
use crate::node::Node;
use crate::settings::Settings;

/// What is to be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// SHA-256 of a bundle that was sent, 64 hexadecimal digits.
    pub bundle: String,
    /// Settings.
    #[serde(default)]
    pub settings: Settings,
}

/// A deployment as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Its name.
    pub name: String,
    /// The muscle's name and version.
    pub muscle: String,
    /// Who signed it.
    pub publisher: String,
    /// SHA-256 of the bundle.
    pub bundle: String,
    /// One more with each deployment of this name.
    pub generation: u64,
    /// Seconds since 1970.
    pub deployed_at: u64,
    /// `idle`: no worker is there, and the next call starts one; `ready`; `paused`.
    pub state: String,
    /// Functions that can be called.
    pub exports: Vec<String>,
    /// Calls that wait for a cell.
    pub waiting: usize,
    /// Calls that have one.
    pub running: usize,
    /// Settings.
    pub settings: Settings,
    /// Since the node started.
    pub counted: Counted,
    /// How long calls took, from their taking to their end.
    #[serde(default)]
    pub called: Distribution,
    /// How long calls waited for their first turn.
    #[serde(default)]
    pub waited: Distribution,
    /// What is otherwise than it used to be.
    #[serde(default)]
    pub anomalies: Vec<Anomaly>,
    /// How often in a row its worker failed.
    #[serde(default)]
    pub worker_failures: u32,
    /// What policy said about each slot and limit when it was deployed; only for one deployment.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub decision: Option<serde_json::Value>,
}

impl Shown {
    fn of(deployment: &Deployment) -> Shown {
        let settings = deployment.deployed.settings.clone();
        let state = match deployment.present() {
            _ if deployment.paused.load(Ordering::Acquire) => "paused",
            Some(_) => "ready",
            None => "idle",
        };
        Shown {
            name: deployment.name.clone(),
            muscle: deployment.muscle(),
            publisher: deployment.assessment().publisher.clone(),
            bundle: deployment.deployed.bundle.clone(),
            generation: deployment.deployed.generation,
            deployed_at: deployment.deployed.deployed_at,
            state: state.into(),
            exports: deployment.assessment().exports.clone(),
            waiting: deployment.waiting(),
            running: deployment.running(),
            settings,
            counted: deployment.counters.read(),
            called: deployment.called.read(),
            waited: deployment.waited.read(),
            anomalies: deployment.anomalies(),
            worker_failures: deployment.failures(),
            decision: None,
        }
    }
}

/// `PUT /v1/bundles/{digest}`
pub(crate) async fn send(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(digest): Named<String>,
    request: Request,
) -> ApiResult<StatusCode> {
    node.allow(peer, Access::Node { action: "send" })?;
    let limit = usize::try_from(node.config().cells.bundle_bytes).unwrap_or(usize::MAX);
    let bytes = bodies::read(&node, limit, 1, request).await?.to_vec();
    to_its_end(async move { node.take_bundle(digest, bytes).await }).await?;
    Ok(StatusCode::CREATED)
}

/// `PUT /v1/deployments/{name}`
pub(crate) async fn deploy(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
    request: Request,
) -> ApiResult<Json<Shown>> {
    let wanted: Deploy = bodies::json(&node, request).await?;
    // As policies write it.
    let bundle = wanted.bundle.to_ascii_lowercase();
    node.allow(
        peer,
        Access::Deploy {
            name: &name,
            bundle: &bundle,
        },
    )?;
    let deployment = to_its_end(async move {
        node.deploy(&peer.principal(), &name, bundle, wanted.settings)
            .await
    })
    .await?;
    whole(&deployment)
}

/// `GET /v1/deployments`
pub(crate) async fn list(State(node): State<Node>, Extension(peer): Extension<Peer>) -> Json<Vec<Shown>> {
    let all = node.deployments();
    let shown = all.iter().filter(|deployment| node.shows(peer, &deployment.name));
    Json(shown.map(|deployment| Shown::of(deployment)).collect())
}

/// `GET /v1/deployments/{name}`
pub(crate) async fn show(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<Json<Shown>> {
    node.allow(peer, with(&name, "see"))?;
    whole(&node.deployment(&name)?)
}

/// Does something whole, also when the client goes away meanwhile: a change that is half made would be recorded and not be there.
async fn to_its_end<T: Send + 'static>(
    act: impl Future<Output = Result<T, NodeError>> + Send + 'static,
) -> Result<T, NodeError> {
    tokio::spawn(act).await.or_host("making a change")?
}

fn with<'a>(name: &'a str, action: &'static str) -> Access<'a> {
    Access::Deployment { name, action }
}

fn whole(deployment: &Arc<Deployment>) -> ApiResult<Json<Shown>> {
    let mut shown = Shown::of(deployment);
    shown.decision = serde_json::from_str(&deployment.assessment().decision).ok();
    Ok(Json(shown))
}

/// `DELETE /v1/deployments/{name}`
pub(crate) async fn remove(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(peer, with(&name, "remove"))?;
    to_its_end(async move { node.remove(&peer.principal(), &name).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/deployments/{name}/pause`
pub(crate) async fn pause(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(peer, with(&name, "pause"))?;
    to_its_end(async move { node.pause(&peer.principal(), &name, true).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/deployments/{name}/resume`
pub(crate) async fn resume(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(peer, with(&name, "resume"))?;
    to_its_end(async move { node.pause(&peer.principal(), &name, false).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/deployments/{name}/kill`
pub(crate) async fn kill(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(peer, with(&name, "kill"))?;
    to_its_end(async move { node.kill(&peer.principal(), &name).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/reload`
pub(crate) async fn reload(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
) -> ApiResult<StatusCode> {
    node.allow(peer, Access::Node { action: "reload" })?;
    to_its_end(async move { node.reload(&peer.principal()).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Query of `logs`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Follow {
    /// Whether to go on with what comes.
    #[serde(default)]
    follow: bool,
}

/// `GET /v1/deployments/{name}/logs`
pub(crate) async fn logs(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
    query: Result<Query<Follow>, axum::extract::rejection::QueryRejection>,
) -> ApiResult<Response> {
    node.allow(peer, with(&name, "logs"))?;
    let Query(query) = query.map_err(|error| ApiError::bad_request("query-invalid", error.body_text()))?;
    let (kept, coming) = node.deployment(&name)?.logs.read();
    let mut text = Vec::new();
    for line in &kept {
        text.extend_from_slice(&json_line(line));
    }
    let body = match query.follow {
        false => Body::from(text),
        true => {
            let first = Some(Bytes::from(text));
            let lines = stream_of(first, coming);
            body::Body::new(StreamBody::new(lines))
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response())
}

/// What is kept, then what comes; a follower that is too slow is told how many lines it missed.
fn stream_of(
    first: Option<Bytes>,
    coming: tokio::sync::broadcast::Receiver<LogLine>,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> {
    futures_util::stream::unfold((first, coming), |(mut first, mut coming)| async move {
        if let Some(first) = first.take() {
            return Some((Ok(Frame::data(first)), (None, coming)));
        }
        let bytes = match coming.recv().await {
            Ok(line) => json_line(&line),
            Err(RecvError::Lagged(missed)) => format!("{{\"missed\":{missed}}}\n").into_bytes(),
            Err(RecvError::Closed) => return None,
        };
        Some((Ok(Frame::data(Bytes::from(bytes))), (None, coming)))
    })
}

fn json_line(line: &LogLine) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
