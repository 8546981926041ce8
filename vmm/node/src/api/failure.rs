//! Errors as the API gives them out.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};

use crate::error::NodeError;
use crate::line::Failure;

/// Most bytes of a fault's report.
const REPORT_MAX: usize = 64 << 10;

/// An error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The error.
    pub error: Explanation,
}

/// What went wrong, and by whose fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// `rejected`: bundle, policy or request says no. `function`: the function's own error. `fault`: the muscle broke a rule.
    /// `time`: its time was over. `busy`, `draining`: try again. `host-error`: this host failed.
    pub kind: String,
    /// A stable name for machines.
    pub name: String,
    /// What, where and what to do. May hold a muscle's words: escape them before a terminal shows them.
    pub message: String,
    /// A fault's registers and backtrace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub report: Option<serde_json::Value>,
}

/// A refusal with its status.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: Box<Explanation>,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, kind: &str, name: &str, message: impl Into<String>) -> ApiError {
        ApiError {
            status,
            body: Box::new(Explanation {
                kind: kind.into(),
                name: name.into(),
                message: message.into(),
                report: None,
            }),
        }
    }

    /// The stable name of why.
    pub(crate) fn name(&self) -> &str {
        &self.body.name
    }

    /// A request that is none.
    pub(crate) fn bad_request(name: &str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, "rejected", name, message)
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> ApiError {
        let (status, kind, name) = match &error {
            NodeError::Rejected { name, message } => {
                return ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "rejected",
                    name,
                    message.clone(),
                );
            }
            NodeError::Config(_) => (StatusCode::INTERNAL_SERVER_ERROR, "host-error", "config"),
            NodeError::NoDeployment(_) => (StatusCode::NOT_FOUND, "rejected", "no-deployment"),
            NodeError::NoFunction(_) => (StatusCode::NOT_FOUND, "rejected", "no-function"),
            NodeError::NotPermitted { .. } => (StatusCode::FORBIDDEN, "rejected", "not-permitted"),
            NodeError::Paused(_) => (StatusCode::CONFLICT, "rejected", "paused"),
            NodeError::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "busy", "busy"),
            NodeError::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining", "draining"),
            NodeError::WorkerGone { .. } => (StatusCode::BAD_GATEWAY, "host-error", "worker-gone"),
            NodeError::Host { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "host-error", "host"),
        };
        ApiError::new(status, kind, name, error.with_causes())
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        match failure {
            Failure::Function { code, message } => {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "function", &code, message)
            }
            Failure::Fault {
                name,
                time_limit,
                message,
                report,
            } => {
                let (status, kind) = match time_limit {
                    true => (StatusCode::GATEWAY_TIMEOUT, "time"),
                    false => (StatusCode::BAD_GATEWAY, "fault"),
                };
                let mut error = ApiError::new(status, kind, &name, message);
                // A worker that is not itself might send anything.
                if report.len() <= REPORT_MAX {
                    error.body.report = serde_json::from_str(&report).ok();
                }
                error
            }
            Failure::Exited(code) => ApiError::new(
                StatusCode::BAD_GATEWAY,
                "fault",
                "exited",
                format!("the muscle exited with code {code} and answered nothing"),
            ),
            Failure::Cancelled => ApiError::new(
                StatusCode::CONFLICT,
                "rejected",
                "cancelled",
                "the call was given up",
            ),
            Failure::TooLarge { limit } => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "rejected",
                "call-too-large",
                format!("the call is too large for a frame of {limit} bytes"),
            ),
            Failure::Host(message) => {
                ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "host-error", "host", message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(Explained { error: *self.body })).into_response();
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

pub(crate) async fn no_such_path() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "rejected",
        "no-path",
        "the API has no such path",
    )
}

pub(crate) async fn no_such_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "rejected",
        "no-method",
        "the path has no such method",
    )
}
