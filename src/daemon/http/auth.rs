//! `/auth`: what a proxy asks before it lets a request through.
//!
//! The location that asks says what is required in its query; the token stands in the request's
//! head, which the proxy passes on. 200, 401 and 403 mean what a proxy takes them for; whatever
//! else comes is for it no permission. The four `X-Token-` fields are in every answer, empty where
//! there is nothing to say, so that what a client sends under these names never reaches a service.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};

use super::bearer::{Presented, presented};
use super::visit::{Found, Visit};
use super::{Response, form, reply};
use crate::claims::Requirement;
use crate::daemon::Operation;
use crate::table::Personal;
use crate::verdict::Verdict;

const ID: HeaderName = HeaderName::from_static("x-token-id");
const SUBJECT: HeaderName = HeaderName::from_static("x-token-subject");
const SCOPES: HeaderName = HeaderName::from_static("x-token-scopes");
const AUDIENCE: HeaderName = HeaderName::from_static("x-token-audience");

/// Answers the question of a proxy.
pub(super) fn respond(visit: &Visit, headers: &HeaderMap, query: &str) -> Response {
    if !visit.caller.may(Operation::VerifyTokens) {
        return with_nothing(reply::text(StatusCode::FORBIDDEN, "this caller may not verify"));
    }
    let asked = match form::requirement(query) {
        Ok(asked) => asked,
        // The proxy's configuration is wrong: no answer that it could take for a yes or a no.
        Err(why) => return with_nothing(reply::text(StatusCode::BAD_REQUEST, &why)),
    };
    let token = match presented(headers, visit.token_header.as_ref()) {
        Presented::Token(token) => token,
        Presented::Nothing => return with_nothing(unauthorized("")),
        Presented::Confused => return with_nothing(unauthorized(r#"error="invalid_request""#)),
    };
    visit.ask(token, &asked, |verdict, found| match (verdict, found) {
        (Verdict::Valid, Some(found)) => allowed(&found, visit.caller.may(Operation::Claims)),
        (verdict, _) => with_nothing(denied(verdict, &asked)),
    })
}

fn allowed(found: &Found<'_>, claims: bool) -> Response {
    let mut response = with_nothing(reply::empty(StatusCode::OK));
    let fields = response.headers_mut();
    let mut set = |name: HeaderName, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            fields.insert(name, value);
        }
    };
    set(ID, found.id().to_string().as_bytes());
    if let Some(grant) = found.grant().filter(|_| claims) {
        let scopes: Vec<&[u8]> = grant.scopes().collect();
        set(SCOPES, &scopes.join(&b' '));
        set(AUDIENCE, grant.audience());
        if let Personal::Known { subject, .. } = found.personal() {
            set(SUBJECT, subject.as_bytes());
        }
    }
    response
}

fn denied(verdict: Verdict, asked: &Requirement) -> Response {
    match verdict {
        Verdict::Unavailable => reply::unavailable(),
        Verdict::InsufficientScope => {
            let scopes = asked.scopes.join(" ");
            let challenge = format!(r#"error="insufficient_scope", scope="{scopes}""#);
            reply::challenge(reply::empty(StatusCode::FORBIDDEN), &challenge)
        }
        // Whether it was ever issued is not told to whoever presents it.
        _ => unauthorized(r#"error="invalid_token""#),
    }
}

fn unauthorized(challenge: &str) -> Response {
    reply::challenge(reply::empty(StatusCode::UNAUTHORIZED), challenge)
}

fn with_nothing(mut response: Response) -> Response {
    for name in [ID, SUBJECT, SCOPES, AUDIENCE] {
        response.headers_mut().insert(name, HeaderValue::from_static(""));
    }
    response
}
