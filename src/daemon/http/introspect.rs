//! `/introspect`: RFC 7662. For a token that is not valid, whatever the reason, the answer is
//! `{"active":false}` and nothing else.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};

use super::bearer::{Presented, presented};
use super::visit::{Found, Visit};
use super::{Request, Response, form, in_time, reply};
use crate::claims::Requirement;
use crate::daemon::Operation;
use crate::table::Personal;
use crate::time::TableTime;
use crate::token::TEXT_BYTES_MAX;
use crate::verdict::Verdict;

/// The longest form: a token, each byte as `%XX`, and a hint.
const FORM_BYTES_MAX: usize = 3 * TEXT_BYTES_MAX + 1024;
const FORM: &str = "application/x-www-form-urlencoded";
/// What a token must be allowed whose holder introspects over loopback, where nothing else says
/// who asks.
const SCOPE: &str = "adamant:introspect";

/// Answers the question of a resource server.
pub(super) async fn respond(visit: &Visit, request: Request) -> Response {
    if let Some(refused) = refuse(visit, &request) {
        return refused;
    }
    let invalid = |status, why: &str| reply::oauth_error(status, "invalid_request", why);
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |it| it.as_bytes());
    let essence = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    if !essence.trim_ascii().eq_ignore_ascii_case(FORM.as_bytes()) {
        return invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, &format!("the body must be {FORM}"));
    }
    let body = Limited::new(request.into_body(), FORM_BYTES_MAX).collect();
    let body = match in_time(body).await {
        Some(Ok(body)) => body.to_bytes(),
        Some(Err(err)) if err.is::<http_body_util::LengthLimitError>() => {
            let why = format!("the body has more than {FORM_BYTES_MAX} bytes");
            return invalid(StatusCode::PAYLOAD_TOO_LARGE, &why);
        }
        Some(Err(_)) => return invalid(StatusCode::BAD_REQUEST, "the body broke off"),
        None => return invalid(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"),
    };
    match form::single(&body, "token") {
        Ok(token) => visit.ask(token.as_bytes(), &Requirement::any(), answer(visit)),
        Err(why) => invalid(StatusCode::BAD_REQUEST, &why),
    }
}

/// Why the caller may not introspect, if so.
fn refuse(visit: &Visit, request: &Request) -> Option<Response> {
    let may = |operation| visit.caller.may(operation);
    if !may(Operation::VerifyTokens) || !may(Operation::Claims) {
        return Some(reply::text(StatusCode::FORBIDDEN, "this caller may not introspect"));
    }
    visit.loopback?;
    let Presented::Token(token) = presented(request.headers(), None) else {
        return Some(reply::challenge(reply::empty(StatusCode::UNAUTHORIZED), ""));
    };
    let asked = Requirement::any().scope(SCOPE);
    visit.ask(token, &asked, |verdict, _| match verdict {
        Verdict::Valid => None,
        Verdict::Unavailable => Some(reply::unavailable()),
        _ => {
            let challenge = format!(r#"error="invalid_token", scope="{SCOPE}""#);
            Some(reply::challenge(reply::empty(StatusCode::UNAUTHORIZED), &challenge))
        }
    })
}

fn answer(visit: &Visit) -> impl Fn(Verdict, Option<Found<'_>>) -> Response {
    |verdict, found| match (verdict, found) {
        (Verdict::Unavailable, _) => reply::unavailable(),
        (Verdict::Valid, Some(found)) => {
            reply::json(StatusCode::OK, &active(&found, visit.issuer().as_deref()))
        }
        _ => reply::json(StatusCode::OK, &json!({ "active": false })),
    }
}

fn active(found: &Found<'_>, issuer: Option<&str>) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let moment = |at: TableTime| at.unix_s().filter(|_| at != TableTime::NONE);
    let mut answer = json!({
        "active": true,
        "token_type": "Bearer",
        "jti": found.id().to_string(),
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            answer[name] = value;
        }
    };
    if let Some(grant) = found.grant() {
        let scopes: Vec<String> = grant.scopes().map(text).collect();
        set("scope", Some(scopes.join(" ").into()));
        set("aud", (!grant.audience().is_empty()).then(|| text(grant.audience()).into()));
    }
    if let Personal::Known { subject, .. } = found.personal()
        && !subject.is_empty()
    {
        // Who a key is for is also who asks with it: there is no client between.
        set("sub", Some(subject.into()));
        set("client_id", Some(subject.into()));
    }
    set("iss", issuer.map(Value::from));
    set("iat", moment(found.issued_at()).map(Value::from));
    set("nbf", moment(found.not_before()).map(Value::from));
    set("exp", moment(found.expires()).map(Value::from));
    answer
}
