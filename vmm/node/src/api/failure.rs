//! Errors as the API gives them out.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::NodeError;
use crate::line::Failure;

/// Most bytes of a fault's report.
const REPORT_MAX: usize = 64 << 10;

/// By whose fault there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// Bundle, policy or request says no.
    Rejected,
    /// The function's own error.
    Function,
    /// The muscle broke a rule.
    Fault,
    /// The muscle's time was over.
    Time,
    /// Too much at once: try again.
    Busy,
    /// The node ends: try again.
    Draining,
    /// This host failed.
    HostError,
}

/// An error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// The error.
    pub error: Explanation,
}

/// What went wrong, and by whose fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// By whose fault.
    pub kind: ErrorKind,
    /// A stable name for machines.
    pub name: String,
    /// What, where and what to do. May hold a muscle's words: escape them before a terminal shows them.
    pub message: String,
    /// A fault's registers and backtrace.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
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
    pub(crate) fn new(
        status: StatusCode,
        kind: ErrorKind,
        name: &str,
        message: impl Into<String>,
    ) -> ApiError {
        ApiError {
            status,
            body: Box::new(Explanation {
                kind,
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

    /// What went wrong.
    pub(crate) fn explanation(&self) -> &Explanation {
        &self.body
    }

    /// The same, said of a place.
    pub(crate) fn at(mut self, place: &str) -> ApiError {
        self.body.message = format!("{place}: {}", self.body.message);
        self
    }

    /// A request that is none.
    pub(crate) fn bad_request(name: &str, message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, ErrorKind::Rejected, name, message)
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> ApiError {
        let (status, kind, name) = match &error {
            NodeError::Rejected { name, message } => {
                return ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    ErrorKind::Rejected,
                    name,
                    message.clone(),
                );
            }
            NodeError::Config(_) => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::HostError, "config"),
            NodeError::NoDeployment(_) => (StatusCode::NOT_FOUND, ErrorKind::Rejected, "no-deployment"),
            NodeError::NoSlot(_) => (StatusCode::NOT_FOUND, ErrorKind::Rejected, "no-slot"),
            NodeError::NoPipeline(_) => (StatusCode::NOT_FOUND, ErrorKind::Rejected, "no-pipeline"),
            NodeError::NoSnapshot(_) => (StatusCode::NOT_FOUND, ErrorKind::Rejected, "no-snapshot"),
            NodeError::NoFunction(_) => (StatusCode::NOT_FOUND, ErrorKind::Rejected, "no-function"),
            NodeError::NotPermitted { .. } => (StatusCode::FORBIDDEN, ErrorKind::Rejected, "not-permitted"),
            NodeError::Paused(_) => (StatusCode::CONFLICT, ErrorKind::Rejected, "paused"),
            NodeError::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, ErrorKind::Busy, "busy"),
            NodeError::Memory { .. } => (StatusCode::TOO_MANY_REQUESTS, ErrorKind::Busy, "memory"),
            NodeError::Draining => (StatusCode::SERVICE_UNAVAILABLE, ErrorKind::Draining, "draining"),
            NodeError::WorkerGone { .. } => (StatusCode::BAD_GATEWAY, ErrorKind::HostError, "worker-gone"),
            NodeError::Host { .. } => (StatusCode::INTERNAL_SERVER_ERROR, ErrorKind::HostError, "host"),
        };
        ApiError::new(status, kind, name, error.with_causes())
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        match failure {
            Failure::Function { code, message } => ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                ErrorKind::Function,
                &code,
                message,
            ),
            Failure::Fault {
                name,
                time_limit,
                message,
                report,
            } => {
                let (status, kind) = match time_limit {
                    true => (StatusCode::GATEWAY_TIMEOUT, ErrorKind::Time),
                    false => (StatusCode::BAD_GATEWAY, ErrorKind::Fault),
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
                ErrorKind::Fault,
                "exited",
                format!("the muscle exited with code {code} and answered nothing"),
            ),
            Failure::Cancelled => ApiError::new(
                StatusCode::CONFLICT,
                ErrorKind::Rejected,
                "cancelled",
                "the call was given up",
            ),
            Failure::TooLarge { limit } => ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                ErrorKind::Rejected,
                "call-too-large",
                format!("the call is too large for a frame of {limit} bytes"),
            ),
            Failure::Host(message) => ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorKind::HostError,
                "host",
                message,
            ),
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
        ErrorKind::Rejected,
        "no-path",
        "the API has no such path",
    )
}

pub(crate) async fn no_such_method() -> ApiError {
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::Rejected,
        "no-method",
        "the path has no such method",
    )
}
