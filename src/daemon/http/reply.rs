//! Answers, with what every one of them has: nothing may be kept by a cache.

use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{Method, StatusCode};
use hyper::body::Bytes;
use serde_json::Value;

use super::Response;

/// Seconds after which asking again may help.
const AGAIN_AFTER_S: HeaderValue = HeaderValue::from_static("1");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OPENMETRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// A status and nothing else.
pub(super) fn empty(status: StatusCode) -> Response {
    with(status, Bytes::new())
}

/// A line for people.
pub(super) fn text(status: StatusCode, line: &str) -> Response {
    let mut response = with(status, Bytes::from(format!("{line}\n")));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

/// A document.
pub(super) fn json(status: StatusCode, document: &Value) -> Response {
    let mut response = with(status, Bytes::from(document.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// Metrics.
pub(super) fn openmetrics(metrics: String) -> Response {
    let mut response = with(StatusCode::OK, Bytes::from(metrics));
    response.headers_mut().insert(CONTENT_TYPE, OPENMETRICS);
    response
}

/// There is nothing to answer from: neither yes nor no.
pub(super) fn unavailable() -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "unavailable");
    response.headers_mut().insert(RETRY_AFTER, AGAIN_AFTER_S);
    response
}

/// Another method is meant.
pub(super) fn not_allowed(allowed: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// An OAuth error (RFC 6749, 5.2).
pub(super) fn oauth_error(status: StatusCode, error: &str, description: &str) -> Response {
    json(status, &serde_json::json!({ "error": error, "error_description": description }))
}

/// Asks for a token (RFC 6750, 3). `challenge` goes behind `Bearer`.
pub(super) fn challenge(mut response: Response, challenge: &str) -> Response {
    let value = HeaderValue::from_str(format!("Bearer {challenge}").trim_end());
    let value = value.unwrap_or(HeaderValue::from_static("Bearer"));
    response.headers_mut().insert(WWW_AUTHENTICATE, value);
    response
}

/// Whether the method only reads.
pub(super) fn is_read(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn with(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(http_body_util::Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}
