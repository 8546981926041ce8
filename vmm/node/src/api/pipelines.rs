//! Pipelines: defined, looked at, called, removed.

use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use referee_policy::Access;
use referee_trace::Trace;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::api::Peer;
use crate::api::body as bodies;
use crate::api::calls::{answered, read_arguments};
use crate::api::deployments::to_its_end;
use crate::api::failure::{ApiError, ApiResult};
use crate::api::openapi::{Calling, Changing, Looking, Name, Octets, Sending};
use crate::api::path::Named;
use crate::node::Node;
use crate::pipeline::{Pipeline, Step, Stuck, place};
use crate::release::{in_ticks, release};

/// A pipeline as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownPipeline {
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// What is called, one after another.
    pub steps: Vec<Step>,
}

fn with<'a>(name: &'a str, action: &'static str) -> Access<'a> {
    Access::Pipeline { name, action }
}

/// Defines a pipeline.
///
/// Every step must be there. A name that is taken gets the new steps.
#[utoipa::path(
    put, path = "/v1/pipelines/{name}", tag = "pipelines",
    params(("name" = Name, Path, description = "The pipeline, there or not.")),
    request_body(content = Pipeline, content_type = "application/json"),
    responses((status = 204, description = "It is on the disk."), Sending),
)]
pub(crate) async fn define_pipeline(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
    request: Request,
) -> ApiResult<StatusCode> {
    let pipeline: Pipeline = bodies::json(&node, request).await?;
    node.allow(&peer, with(&name, "define"))?;
    to_its_end(async move { node.define(&peer.principal(), &name, Some(pipeline)).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the pipelines that the caller may see.
#[utoipa::path(
    get, path = "/v1/pipelines", tag = "pipelines",
    responses((status = 200, description = "By name.", body = Vec<ShownPipeline>)),
)]
pub(crate) async fn list_pipelines(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
) -> Json<Vec<ShownPipeline>> {
    let all = node.pipelines().all().into_iter();
    let shown = all.filter(|(name, _)| node.permits(&peer, with(name, "see")));
    let shown = shown.map(|(name, pipeline)| ShownPipeline {
        name,
        steps: pipeline.steps.clone(),
    });
    Json(shown.collect())
}

/// Shows a pipeline.
#[utoipa::path(
    get, path = "/v1/pipelines/{name}", tag = "pipelines",
    params(("name" = Name, Path, description = "The pipeline.")),
    responses((status = 200, description = "Its steps.", body = ShownPipeline), Looking),
)]
pub(crate) async fn show_pipeline(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<Json<ShownPipeline>> {
    node.allow(&peer, with(&name, "see"))?;
    let pipeline = node.pipelines().named(&name)?;
    Ok(Json(ShownPipeline {
        name,
        steps: pipeline.steps.clone(),
    }))
}

/// Removes a pipeline.
///
/// Its deployments stay, and calls that are under way go on.
#[utoipa::path(
    delete, path = "/v1/pipelines/{name}", tag = "pipelines",
    params(("name" = Name, Path, description = "The pipeline.")),
    responses((status = 204, description = "Done."), Changing),
)]
pub(crate) async fn remove_pipeline(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<StatusCode> {
    node.allow(&peer, with(&name, "remove"))?;
    to_its_end(async move { node.define(&peer.principal(), &name, None).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Calls a pipeline: its first step with these arguments, each other one with the answer of the one before.
///
/// The caller must be permitted to call each step. An error's message begins with the step that had it; those before had their effect.
/// Forms are those of a call of a deployment.
#[utoipa::path(
    post, path = "/v1/pipelines/{name}/call", tag = "pipelines",
    params(("name" = Name, Path, description = "The pipeline.")),
    request_body(
        description = "The arguments; none when it is left out. JSON of at most 1 MiB.",
        content((Option<serde_json::Value> = "application/json"), (Octets = "application/cbor")),
    ),
    responses(
        (
            status = 200, description = "The last step's result.",
            content((serde_json::Value = "application/json"), (Octets = "application/cbor")),
            headers(
                ("referee-call" = u64, description = "The last step's number in the logs."),
                ("referee-used-us" = u64, description = "Microseconds for which the steps had a processor."),
                ("referee-retried" = u32, description = "0: a pipeline is called once."),
            ),
        ),
        Calling,
    ),
)]
pub(crate) async fn call_pipeline(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
    request: Request,
) -> ApiResult<Response> {
    let arrived = Instant::now();
    let headers = request.headers();
    let trace = node
        .tracer()
        .call(|name| headers.get(name).and_then(|value| value.to_str().ok()));
    trace.note("referee.pipeline", name.clone());
    let mut tick = None;
    let answer = traced(node, peer, &name, request, (&trace, &mut tick)).await;
    if let Err(error) = &answer {
        trace.failed(error.name());
    }
    let _stage = tick.is_some().then(|| trace.stage("release"));
    release(arrived, tick).await;
    answer
}

/// Sets the ticks at which the reply leaves, once the caller may call all of it: the longest of its steps'.
async fn traced(
    node: Node,
    peer: Peer,
    name: &str,
    request: Request,
    (trace, tick): (&Trace, &mut Option<Duration>),
) -> ApiResult<Response> {
    let stage = trace.stage("authorise");
    // Whoever may call none of its steps hears of a pipeline no more than of one that is not there.
    let pipeline = match node.pipelines().named(name) {
        Ok(pipeline) => pipeline,
        Err(error) => {
            node.allow(&peer, with(name, "see"))?;
            return Err(error.into());
        }
    };
    for (at, step) in pipeline.steps.iter().enumerate() {
        let access = Access::Call {
            name: &step.deployment,
            function: &step.function,
        };
        let allowed = node.allow(&peer, access);
        allowed.map_err(|error| ApiError::from(error).at(&place(&pipeline, at)))?;
    }
    drop(stage);
    let steps = pipeline.steps.iter();
    let ticks = steps.filter_map(|step| node.deployment(&step.deployment).ok()?.tick());
    *tick = ticks.max();
    let arguments = read_arguments(&node, request, trace).await?;
    let flowed = node.flow(&pipeline, arguments.payload, trace).await;
    let flowed = flowed.map_err(|stuck| match stuck {
        Stuck::Node(at, error) => ApiError::from(error).at(&place(&pipeline, at)),
        Stuck::Muscle(at, failure) => ApiError::from(failure).at(&place(&pipeline, at)),
    })?;
    let _stage = trace.stage("answer");
    let used = tick.map_or(flowed.used, |tick| in_ticks(flowed.used, tick));
    answered(flowed.result, arguments.wants_cbor, flowed.call, used, 0)
}
