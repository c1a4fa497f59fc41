//! Refusals: RFC 9457 problems, with a code for programs and a hint for people.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// Why a request is refused. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    hint: Option<String>,
    retry_after_s: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), hint: None, retry_after_s: None }
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    pub(super) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .hint("send a line of the agent's token file: Authorization: Bearer TOKEN")
    }

    pub(super) fn forbidden(detail: impl Into<String>, hint: &str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", detail).hint(hint)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    pub(super) fn not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "not_allowed", "the method is not allowed here")
    }

    pub(super) fn not_leader(holder: Option<&str>) -> Self {
        let detail = match holder {
            Some(holder) => format!("another replica holds the lock: {holder}"),
            None => "this replica does not hold the lock".to_owned(),
        };
        Self::new(StatusCode::CONFLICT, "not_leader", detail).hint("ask the replica that holds it")
    }

    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", detail)
    }

    pub(super) fn too_large(len_max_bytes: usize) -> Self {
        let detail = format!("the body is longer than {len_max_bytes} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    pub(super) fn unsupported() -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", "the body must be application/json")
            .hint("send Content-Type: application/json")
    }

    pub(super) fn rate_limited(retry_after_s: u64) -> Self {
        let mut problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", "too many requests");
        problem.retry_after_s = Some(retry_after_s);
        problem
    }

    pub(super) fn misdirected() -> Self {
        Self::new(StatusCode::MISDIRECTED_REQUEST, "misdirected", "the Host header names another server")
            .hint("use an IP address, localhost, or a name that the agent's configuration allows (hosts)")
    }

    pub(super) fn time_out(detail: &str) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "time_out", detail)
    }

    pub(super) fn unavailable(detail: impl Into<String>, hint: Option<String>) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail);
        problem.hint = hint;
        problem
    }

    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "a fault of the agent; its log says more")
    }

    pub(super) fn hint(mut self, hint: &str) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "code": self.code,
            "detail": self.detail,
            "hint": self.hint,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"hah-vault\""));
        }
        if let Some(s) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(s));
        }
        response
    }
}
