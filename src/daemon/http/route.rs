//! What is answered where.

use std::net::SocketAddr;

use http::header::HOST;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};

use super::visit::Visit;
use super::{Request, Response, auth, introspect, reply};
use crate::daemon::{Operation, openmetrics, status};

/// Answers one request.
pub(super) async fn respond(visit: &Visit, request: Request) -> Response {
    let (path, method) = (request.uri().path(), request.method());
    if visit.loopback.is_some_and(|address| !is_addressed(request.headers(), address)) {
        return reply::text(StatusCode::MISDIRECTED_REQUEST, "another host was asked for");
    }
    match path {
        "/auth" if reply::is_read(method) || method == Method::POST => {
            auth::respond(visit, request.headers(), request.uri().query().unwrap_or_default())
        }
        "/auth" => reply::not_allowed("GET, HEAD, POST"),
        "/introspect" if method == Method::POST => introspect::respond(visit, request).await,
        "/introspect" => reply::not_allowed("POST"),
        "/health/live" | "/health/ready" | "/metrics" | "/status" if !reply::is_read(method) => {
            reply::not_allowed("GET, HEAD")
        }
        "/health/live" => reply::text(StatusCode::OK, "ok"),
        "/health/ready" => ready(visit),
        // What loopback offers: nobody says there who asks.
        "/metrics" | "/status" if visit.loopback.is_none() => told(visit, path),
        _ => reply::text(StatusCode::NOT_FOUND, "nothing is here"),
    }
}

/// Whether there is a generation to answer from: 200 `ok`, 203 `stale` (one that has expired, as
/// the policy says), 503 `unavailable`.
fn ready(visit: &Visit) -> Response {
    let serving = visit.live.serving();
    let state = status::state(&serving, visit.live.now(&serving));
    let code = match state {
        "ok" => StatusCode::OK,
        "stale" => StatusCode::NON_AUTHORITATIVE_INFORMATION,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let generation = serving.judged.as_ref().map(|judged| judged.manifest.generation);
    reply::json(code, &json!({ "state": state, "generation": generation }))
}

fn told(visit: &Visit, path: &str) -> Response {
    if !visit.caller.may(Operation::Status) {
        return reply::text(StatusCode::FORBIDDEN, "this caller may not see the status");
    }
    let status = status::to_json(&visit.live, &visit.live.serving());
    let status: Value = serde_json::from_str(&status).expect("written as JSON");
    match path {
        "/metrics" => reply::openmetrics(openmetrics(&status)),
        _ => reply::json(StatusCode::OK, &status),
    }
}

/// Whether a request means this host: a page in a browser can send requests to loopback under any
/// name that it resolves to it.
fn is_addressed(headers: &HeaderMap, address: SocketAddr) -> bool {
    let port = address.port();
    let names = [format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")];
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    names.iter().any(|name| host.as_bytes().eq_ignore_ascii_case(name.as_bytes()))
}
