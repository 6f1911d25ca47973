//! Errors as clients see them: `application/problem+json` (RFC 9457) with a stable `code`. The list of
//! codes is closed but for refusals of policy, whose code is the plugin's. Knows HTTP, no routes.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::domain::MessageId;
use crate::plugin::Upgrade;

/// Stable names of what can go wrong. Programs branch on these; they are never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    InvalidJson,
    InvalidRequest,
    InvalidParameter,
    InvalidHeader,
    InvalidPolicy,
    InvalidPlugin,
    UntrustedPlugin,
    InvalidTable,
    InvalidCallback,
    CallbackNotVerified,
    Unauthorized,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    IdempotencyRunning,
    IdempotencyMismatch,
    BodyTooLarge,
    UnsupportedMediaType,
    Throttled,
    TooManyBadKeys,
    Busy,
    StorageFull,
    StoreUnavailable,
    Internal,
}

impl Code {
    pub const ALL: [Code; 26] = [
        Code::InvalidJson,
        Code::InvalidRequest,
        Code::InvalidParameter,
        Code::InvalidHeader,
        Code::InvalidPolicy,
        Code::InvalidPlugin,
        Code::UntrustedPlugin,
        Code::InvalidTable,
        Code::InvalidCallback,
        Code::CallbackNotVerified,
        Code::Unauthorized,
        Code::Forbidden,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::Conflict,
        Code::IdempotencyRunning,
        Code::IdempotencyMismatch,
        Code::BodyTooLarge,
        Code::UnsupportedMediaType,
        Code::Throttled,
        Code::TooManyBadKeys,
        Code::Busy,
        Code::StorageFull,
        Code::StoreUnavailable,
        Code::Internal,
    ];

    pub fn name(self) -> &'static str {
        self.entry().0
    }

    pub fn status(self) -> StatusCode {
        self.entry().1
    }

    fn entry(self) -> (&'static str, StatusCode) {
        match self {
            Code::InvalidJson => ("invalid_json", StatusCode::BAD_REQUEST),
            Code::InvalidRequest => ("invalid_request", StatusCode::BAD_REQUEST),
            Code::InvalidParameter => ("invalid_parameter", StatusCode::BAD_REQUEST),
            Code::InvalidHeader => ("invalid_header", StatusCode::BAD_REQUEST),
            Code::InvalidPolicy => ("invalid_policy", StatusCode::UNPROCESSABLE_ENTITY),
            Code::InvalidPlugin => ("invalid_plugin", StatusCode::UNPROCESSABLE_ENTITY),
            Code::UntrustedPlugin => ("untrusted_plugin", StatusCode::UNPROCESSABLE_ENTITY),
            Code::InvalidTable => ("invalid_table", StatusCode::UNPROCESSABLE_ENTITY),
            Code::InvalidCallback => ("invalid_callback", StatusCode::BAD_REQUEST),
            Code::CallbackNotVerified => ("callback_not_verified", StatusCode::FORBIDDEN),
            Code::Unauthorized => ("unauthorized", StatusCode::UNAUTHORIZED),
            Code::Forbidden => ("forbidden", StatusCode::FORBIDDEN),
            Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Code::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
            Code::RequestTimeout => ("request_timeout", StatusCode::REQUEST_TIMEOUT),
            Code::Conflict => ("conflict", StatusCode::CONFLICT),
            Code::IdempotencyRunning => ("idempotency_running", StatusCode::CONFLICT),
            Code::IdempotencyMismatch => ("idempotency_mismatch", StatusCode::UNPROCESSABLE_ENTITY),
            Code::BodyTooLarge => ("body_too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Code::UnsupportedMediaType => {
                ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE)
            }
            Code::Throttled => ("throttled", StatusCode::TOO_MANY_REQUESTS),
            Code::TooManyBadKeys => ("too_many_bad_keys", StatusCode::TOO_MANY_REQUESTS),
            Code::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE),
            Code::StorageFull => ("storage_full", StatusCode::SERVICE_UNAVAILABLE),
            Code::StoreUnavailable => ("store_unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

/// One broken rule: where (RFC 6901) and which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct FieldError {
    pub pointer: String,
    pub detail: String,
    /// Where a new version of a plugin wants more than was granted: what.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Box<Upgrade>>,
}

impl FieldError {
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> FieldError {
        FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
            upgrade: None,
        }
    }
}

/// An answer that is an error.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub status: StatusCode,
    /// Boxed: errors travel through every function's result.
    pub body: Box<ProblemBody>,
    pub retry_after: Option<Duration>,
}

/// The members of the body. `title` is the status in words, `code` is what programs read.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
#[schemars(rename = "Problem")]
pub struct ProblemBody {
    pub title: String,
    pub status: u16,
    pub code: String,
    pub detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem::with(code.status(), code.name(), detail.into())
    }

    /// A message that policy refused: the code is the plugin's or the host's own.
    pub fn refused(code: &str, detail: impl Into<String>, id: Option<MessageId>) -> Problem {
        let mut problem = Problem::with(StatusCode::UNPROCESSABLE_ENTITY, code, detail.into());
        problem.body.message_id = id.map(|id| id.to_string());
        problem
    }

    /// A body whose fields break rules.
    pub fn invalid(code: Code, errors: Vec<FieldError>) -> Problem {
        let detail = match errors.as_slice() {
            [one] if one.pointer.is_empty() => one.detail.clone(),
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields break a rule", many.len()),
        };
        let mut problem = Problem::new(code, detail);
        problem.body.errors = errors;
        problem
    }

    /// The same for an id that does not exist and for one of another account.
    pub fn not_found(what: &str) -> Problem {
        Problem::new(Code::NotFound, format!("no {what} has this id"))
    }

    pub fn retry_after(mut self, after: Duration) -> Problem {
        self.retry_after = Some(after);
        self
    }

    fn with(status: StatusCode, code: &str, detail: String) -> Problem {
        Problem {
            status,
            body: Box::new(ProblemBody {
                title: status.canonical_reason().unwrap_or("Error").to_owned(),
                status: status.as_u16(),
                code: code.to_owned(),
                detail,
                message_id: None,
                errors: Vec::new(),
            }),
            retry_after: None,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        // Strings and numbers alone: this cannot fail.
        let body = serde_json::to_vec(&self.body).unwrap_or_default();
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: a client that obeys is never told to come too early.
            let seconds = after.as_millis().div_ceil(1000).clamp(1, 86_400) as u64;
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"heliograph\""),
            );
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_lower_snake_case_and_each_its_own() {
        let mut seen = std::collections::HashSet::new();
        for code in Code::ALL {
            assert!(
                code.name()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b == b'_'),
                "{code:?}"
            );
            assert!(seen.insert(code.name()), "{code:?}");
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_rounded_up() {
        let problem = Problem::new(Code::Throttled, "x").retry_after(Duration::from_millis(1_200));
        let response = problem.into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "application/problem+json"
        );
    }

    #[test]
    fn a_missing_key_is_told_how_to_authenticate() {
        let response = Problem::new(Code::Unauthorized, "x").into_response();
        assert_eq!(
            response.headers()[header::WWW_AUTHENTICATE],
            "Bearer realm=\"heliograph\""
        );
    }

    #[test]
    fn one_broken_rule_is_told_in_the_detail() {
        let problem = Problem::invalid(
            Code::InvalidRequest,
            vec![FieldError::new("/to", "is empty")],
        );
        assert_eq!(problem.body.detail, "/to: is empty");
        let json = serde_json::to_value(&problem.body).unwrap();
        assert_eq!(json["errors"][0]["pointer"], "/to");
        assert!(json.get("message_id").is_none());
    }
}
