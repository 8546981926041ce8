//! Deployments: sent, made, looked at, paused, removed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use referee_policy::Access;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::anomaly::Anomaly;
use crate::api::Peer;
use crate::api::body::{self as bodies, Bound};
use crate::api::failure::ApiResult;
use crate::api::openapi::{Changing, DigestText, Looking, Name, Octets, Reloading, Sending};
use crate::api::path::Named;
use crate::deployment::{Counted, Deployment};
use crate::error::{NodeError, OrHost};
use crate::forms::from_map;
use crate::histogram::Distribution;
use crate::node::Node;
use crate::ring::RingGrant;
use crate::settings::Settings;

/// What is to be deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// SHA-256 of a bundle that was sent, 64 hexadecimal digits.
    #[schema(value_type = DigestText)]
    pub bundle: String,
    /// Settings; those that are left out have their defaults.
    #[serde(default, deserialize_with = "from_map")]
    pub settings: Settings,
    /// Whether grants that were revoked or narrowed under this name are whole again; otherwise they stay as they are, by the slots' names.
    #[serde(default)]
    pub reset_grants: bool,
}

/// Whether a deployment takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentState {
    /// No worker is there, and the next call starts one.
    Idle,
    /// Its worker is there.
    Ready,
    /// It takes none.
    Paused,
}

/// An end of a ring that a deployment has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RingShown {
    /// The slot.
    pub slot: String,
    /// The ring's name, which another deployment has the other end of.
    pub ring: String,
    /// `send` or `receive`.
    pub role: String,
    /// Bytes of its data.
    pub bytes: u64,
}

/// A deployment as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Shown {
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// The muscle's name and version.
    pub muscle: String,
    /// Who signed it.
    pub publisher: String,
    /// SHA-256 of the bundle.
    #[schema(value_type = DigestText)]
    pub bundle: String,
    /// One more with each deployment of this name.
    pub generation: u64,
    /// Seconds since 1970.
    pub deployed_at: u64,
    /// Whether it takes calls.
    pub state: DeploymentState,
    /// Functions that can be called.
    pub exports: Vec<String>,
    /// Calls that wait for a cell.
    pub waiting: usize,
    /// Calls that have one.
    pub running: usize,
    /// Messages of others that wait for a call.
    #[serde(default)]
    pub messages_waiting: usize,
    /// Ends of rings that it has.
    #[serde(default)]
    pub rings: Vec<RingShown>,
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
    #[schema(value_type = Option<Object>)]
    pub decision: Option<serde_json::Value>,
}

impl From<RingGrant> for RingShown {
    fn from(grant: RingGrant) -> RingShown {
        RingShown {
            role: grant.role().name().to_owned(),
            slot: grant.slot,
            ring: grant.ring,
            bytes: grant.bytes,
        }
    }
}

impl Shown {
    fn of(deployment: &Deployment) -> Shown {
        let settings = deployment.deployed.settings.clone();
        let state = match deployment.present() {
            _ if deployment.paused.load(Ordering::Acquire) => DeploymentState::Paused,
            Some(_) => DeploymentState::Ready,
            None => DeploymentState::Idle,
        };
        Shown {
            name: deployment.name.clone(),
            muscle: deployment.muscle(),
            publisher: deployment.assessment().publisher.clone(),
            bundle: deployment.deployed.bundle.clone(),
            generation: deployment.deployed.generation,
            deployed_at: deployment.deployed.deployed_at,
            state,
            exports: deployment.assessment().exports.clone(),
            waiting: deployment.waiting(),
            running: deployment.running(),
            messages_waiting: deployment.mailbox.waiting(),
            rings: deployment
                .ring_grants()
                .into_iter()
                .map(RingShown::from)
                .collect(),
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

/// Sends a bundle's bytes.
///
/// They are kept under their SHA-256. Of bundles that were sent and not deployed yet the last 64 are kept; one that was deployed goes with its
/// last deployment.
#[utoipa::path(
    put, path = "/v1/bundles/{digest}", tag = "deployments",
    params(("digest" = DigestText, Path, description = "SHA-256 of the bytes.")),
    request_body(content = Octets, content_type = "application/octet-stream", description = "The bundle."),
    responses((status = 201, description = "They are kept."), Sending),
)]
pub(crate) async fn send(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(digest): Named<String>,
    request: Request,
) -> ApiResult<StatusCode> {
    node.allow(&peer, Access::Node { action: "send" })?;
    let bound = Bound {
        bytes: usize::try_from(node.config().cells.bundle_bytes).unwrap_or(usize::MAX),
        weight: 1,
        beyond: bodies::TOO_LARGE,
    };
    let bytes = bodies::read(&node, bound, request).await?.to_vec();
    to_its_end(async move { node.take_bundle(digest, bytes).await }).await?;
    Ok(StatusCode::CREATED)
}

/// Deploys a bundle that was sent.
///
/// A name that is taken gets the new bundle: calls that are under way end in the old one's cells, and a paused deployment stays paused.
#[utoipa::path(
    put, path = "/v1/deployments/{name}", tag = "deployments",
    params(("name" = Name, Path, description = "The deployment, there or not.")),
    request_body(content = Deploy, content_type = "application/json"),
    responses((status = 200, description = "It is on the disk; with what policy said.", body = Shown), Sending),
)]
pub(crate) async fn deploy(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
    request: Request,
) -> ApiResult<Json<Shown>> {
    let mut wanted: Deploy = bodies::json(&node, request).await?;
    // As policies write it.
    wanted.bundle = wanted.bundle.to_ascii_lowercase();
    node.allow(
        &peer,
        Access::Deploy {
            name: &name,
            bundle: &wanted.bundle,
        },
    )?;
    // Whoever deploys it has what is in its memory.
    if let Some(id) = &wanted.settings.snapshot
        && let Ok(kept) = node.kept_snapshot(id).await
    {
        node.allow(&peer, with(&kept.deployment, "restore"))?;
    }
    let deployment = to_its_end(async move { node.deploy(&peer.principal(), &name, wanted).await }).await?;
    whole(&deployment)
}

/// Lists the deployments that the caller may see.
#[utoipa::path(
    get, path = "/v1/deployments", tag = "deployments",
    responses((status = 200, description = "By name.", body = Vec<Shown>)),
)]
pub(crate) async fn list(State(node): State<Node>, Extension(peer): Extension<Peer>) -> Json<Vec<Shown>> {
    let all = node.deployments();
    let shown = all
        .iter()
        .filter(|deployment| node.shows(&peer, &deployment.name));
    Json(shown.map(|deployment| Shown::of(deployment)).collect())
}

/// Shows a deployment.
#[utoipa::path(
    get, path = "/v1/deployments/{name}", tag = "deployments",
    params(("name" = Name, Path, description = "The deployment.")),
    responses((status = 200, description = "With what policy said when it was deployed.", body = Shown), Looking),
)]
pub(crate) async fn show(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<Json<Shown>> {
    node.allow(&peer, with(&name, "see"))?;
    whole(&node.deployment(&name)?)
}

/// Does something whole, also when the client goes away meanwhile: a change that is half made would be recorded and not be there.
pub(super) async fn to_its_end<T: Send + 'static>(
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

/// Removes a deployment.
///
/// Calls that are under way end in peace.
#[utoipa::path(
    delete, path = "/v1/deployments/{name}", tag = "deployments",
    params(("name" = Name, Path, description = "The deployment.")),
    responses((status = 204, description = "Done."), Changing),
)]
pub(crate) async fn remove(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(&peer, with(&name, "remove"))?;
    to_its_end(async move { node.remove(&peer.principal(), &name).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a deployment take no calls, until it is resumed.
///
/// Survives the service, and a new bundle under the name.
#[utoipa::path(
    post, path = "/v1/deployments/{name}/pause", tag = "deployments",
    params(("name" = Name, Path, description = "The deployment.")),
    responses((status = 204, description = "Done."), Changing),
)]
pub(crate) async fn pause(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(&peer, with(&name, "pause"))?;
    to_its_end(async move { node.pause(&peer.principal(), &name, true).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a paused deployment take calls again.
#[utoipa::path(
    post, path = "/v1/deployments/{name}/resume", tag = "deployments",
    params(("name" = Name, Path, description = "The deployment.")),
    responses((status = 204, description = "Done."), Changing),
)]
pub(crate) async fn resume(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(&peer, with(&name, "resume"))?;
    to_its_end(async move { node.pause(&peer.principal(), &name, false).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a deployment's worker.
///
/// Calls that are under way fail with 502. The next call starts a new worker.
#[utoipa::path(
    post, path = "/v1/deployments/{name}/kill", tag = "deployments",
    params(("name" = Name, Path, description = "The deployment.")),
    responses((status = 204, description = "Done."), Changing),
)]
pub(crate) async fn kill(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(&peer, with(&name, "kill"))?;
    to_its_end(async move { node.kill(&peer.principal(), &name).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Has trust store and all policies read again.
#[utoipa::path(
    post, path = "/v1/reload", tag = "node",
    responses((status = 204, description = "They were read; workers are made anew under them."), Reloading),
)]
pub(crate) async fn reload(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
) -> ApiResult<StatusCode> {
    node.allow(&peer, Access::Node { action: "reload" })?;
    to_its_end(async move { node.reload(&peer.principal()).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}
