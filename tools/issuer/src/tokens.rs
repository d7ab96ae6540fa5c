//! What each request asks for, and how its answer reads.

use adamant::claims::Grant;
use adamant::issuing::{History, Wanted};
use adamant::ledger::{Checkpoint, Event, Opening, Origin, Proof, Tiles, What, read_checkpoint};
use adamant::store::{Home, now_unix_s};
use adamant::table::format::Reason;
use adamant::time::{from_rfc3339, parse_span, to_rfc3339};
use adamant::token::{Domain, ForeignAlgorithm, Parts, TokenId, strip_scheme};
use anyhow::Context;
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::listing;
use crate::problem::Problem;
use crate::scribe::{Done, Reach, Wish};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueBody {
    kind: String,
    #[serde(default)]
    audience: String,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    meta: String,
    not_before: Option<String>,
    expires: Option<String>,
    request_id: Option<String>,
    on_behalf_of: Option<String>,
    ticket: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RevokeBody {
    reason: Option<String>,
    at: Option<String>,
    request_id: Option<String>,
    on_behalf_of: Option<String>,
    ticket: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RotateBody {
    overlap: Option<String>,
    expires: Option<String>,
    request_id: Option<String>,
    on_behalf_of: Option<String>,
    ticket: Option<String>,
}

/// `POST /tokens`.
pub(crate) fn issue(body: &[u8], uid: u32) -> Result<(Wish, Origin), Problem> {
    let body: IssueBody = parse(body)?;
    let kind = body.kind.parse();
    let kind =
        kind.map_err(|_| Problem::invalid("`kind`: 1 to 8 lower-case letters and digits"))?;
    let grant = Grant::new(kind, &body.audience, body.scopes);
    let wanted = Wanted {
        grant: grant.map_err(|err| Problem::invalid(err.to_string()))?,
        subject: body.subject,
        meta: body.meta,
        not_before: moment("not_before", body.not_before.as_deref())?,
        expires: moment("expires", body.expires.as_deref())?,
    };
    let origin = origin(uid, body.on_behalf_of, body.request_id, body.ticket);
    Ok((Wish::Issue(wanted), origin))
}

/// `POST /tokens/{id}/revoke`.
pub(crate) fn revoke(id: TokenId, body: &[u8], uid: u32) -> Result<(Wish, Origin), Problem> {
    let body: RevokeBody = parse_optional(body)?;
    let reason = body.reason.as_deref().unwrap_or(Reason::Other.name());
    let reason = Reason::from_name(reason).ok_or_else(|| {
        let names = Reason::ALL.map(Reason::name).join(", ");
        Problem::invalid(format!("`reason`: one of {names}"))
    })?;
    let at = moment("at", body.at.as_deref())?;
    let origin = origin(uid, body.on_behalf_of, body.request_id, body.ticket);
    Ok((Wish::Revoke { id, at, reason }, origin))
}

/// `POST /tokens/{id}/rotate`.
pub(crate) fn rotate(id: TokenId, body: &[u8], uid: u32) -> Result<(Wish, Origin), Problem> {
    let body: RotateBody = parse_optional(body)?;
    let overlap_s = match body.overlap.as_deref().map(parse_span) {
        None => 0,
        Some(Some(overlap_s)) => overlap_s,
        Some(None) => return Err(Problem::invalid("`overlap`: a span such as 24h or 90d")),
    };
    let expires = moment("expires", body.expires.as_deref())?;
    let origin = origin(uid, body.on_behalf_of, body.request_id, body.ticket);
    Ok((Wish::Rotate { id, overlap_s, expires }, origin))
}

/// The caller as the kernel knows it, and what it says of itself.
fn origin(
    uid: u32,
    on_behalf_of: Option<String>,
    request: Option<String>,
    ticket: Option<String>,
) -> Origin {
    Origin { actor: format!("uid:{uid}"), on_behalf_of, request, ticket }
}

/// `POST /revoke` (RFC 7009): what to revoke, if the text can be a token of this deployment.
pub(crate) fn revoke_presented(text: &str, domain: &Domain) -> Option<Wish> {
    let all = Domain { foreign: Some(ForeignAlgorithm::Sha256), ..domain.clone() };
    let digest = all.digest(text.as_bytes()).ok()?;
    let own = Parts::parse(strip_scheme(text.as_bytes())).ok().map(|parts| parts.id());
    let id = own.unwrap_or_else(|| TokenId::of_foreign(&digest));
    Some(Wish::RevokePresented { id, digest })
}

/// `GET /tokens?subject=`.
pub(crate) fn listing(query: &str) -> Result<listing::Wanted, Problem> {
    let (mut subject, mut limit, mut after) = (None, 100, None);
    for (name, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            "subject" if subject.is_none() && !value.is_empty() => {
                subject = Some(value.into_owned())
            }
            "limit" => {
                let parsed = value.parse().ok().filter(|n| (1..=listing::PAGE_MAX).contains(n));
                let why = format!("`limit`: 1 to {}", listing::PAGE_MAX);
                limit = parsed.ok_or_else(|| Problem::invalid(why))?;
            }
            "after" => {
                let cursor = listing::parse_cursor(&value);
                let why = "`after`: what `next` of the page before said";
                after = Some(cursor.ok_or_else(|| Problem::invalid(why))?);
            }
            _ => {
                return Err(Problem::invalid("`subject` once, and `limit` and `after` if need be"));
            }
        }
    }
    let subject = subject.ok_or_else(|| Problem::invalid("`subject` is missing"))?;
    Ok(listing::Wanted { subject, limit, after })
}

/// How an answer reads.
pub(crate) fn answer(done: &Done, reach: Reach) -> (StatusCode, Value) {
    let Reach { generation, served } = reach;
    match done {
        Done::Issued { token, event, expires, predecessor } => {
            let mut answer = json!({
                "token": token.expose(), "id": token.id().to_string(), "event": event,
                "generation": generation, "served": served, "expires": expires.map(to_rfc3339),
            });
            if let Some(predecessor) = predecessor {
                answer["predecessor"] = predecessor.to_string().into();
            }
            (StatusCode::CREATED, answer)
        }
        Done::Revoked { id, event, already } => {
            let answer = json!({
                "id": id.to_string(), "event": event, "already": already,
                "generation": generation, "served": served,
            });
            (StatusCode::OK, answer)
        }
        Done::Found { history, opening } => (StatusCode::OK, token(history, opening.as_ref())),
    }
}

fn token(history: &History, opening: Option<&Opening>) -> Value {
    let state = history.state();
    let issued = &state.issued;
    let revocation = history.events.iter().rev().find_map(|(_, event)| match &event.what {
        What::Revoke { reason, successor, .. } => Some((reason.name(), *successor)),
        _ => None,
    });
    let successor = history.events.iter().rev().find_map(|(_, event)| match &event.what {
        What::Revoke { successor, .. } => *successor,
        _ => None,
    });
    json!({
        "id": issued.id.to_string(),
        "state": state.name(now_unix_s()),
        "kind": issued.grant.kind.as_str(),
        "audience": issued.grant.audience,
        "scopes": issued.grant.scopes,
        "subject": opening.map(|opening| &opening.subject),
        "meta": opening.map(|opening| &opening.meta),
        "issued": to_rfc3339(history.issued_at()),
        "not_before": issued.not_before.map(to_rfc3339),
        "expires": issued.expires.map(to_rfc3339),
        "revoked_at": state.doom.map(to_rfc3339),
        "reason": revocation.map(|(reason, _)| reason),
        "predecessor": issued.predecessor.map(|id| id.to_string()),
        "successor": successor.map(|id| id.to_string()),
        "event": history.first(),
    })
}

/// `GET /tokens/{id}/history`: every event with a proof that stands alone.
pub(crate) fn history(home: &Home, id: &TokenId, history: &History) -> anyhow::Result<Value> {
    let folder = home.store().ledger();
    let note = read_checkpoint(&folder)?.context("the home has no ledger")?;
    let checkpoint = Checkpoint::open_unverified(&note)?;
    let mut tiles = Tiles::new(&folder, checkpoint.size);
    let mut events = Vec::new();
    for (index, event) in &history.events {
        let proof = Proof::of(*index, &mut tiles, note.clone())?.to_bytes();
        let proof = String::from_utf8(proof)?;
        events.push(json!({ "index": index, "event": leaf(event)?, "proof": proof }));
    }
    Ok(json!({
        "id": id.to_string(), "checkpoint": String::from_utf8(note)?, "events": events,
    }))
}

fn leaf(event: &Event) -> serde_json::Result<Value> {
    let mut entry = Vec::new();
    event.encode(&mut entry);
    serde_json::from_slice(&entry)
}

/// A time, or a span from now on.
fn moment(name: &str, text: Option<&str>) -> Result<Option<i64>, Problem> {
    let Some(text) = text else { return Ok(None) };
    let at = from_rfc3339(text).map(|(unix_s, _)| unix_s);
    let at = at.or_else(|| parse_span(text).map(|span_s| now_unix_s() + span_s));
    let why = || {
        Problem::invalid(format!("`{name}`: a time such as 2027-01-31T12:00:00Z, or a span as 90d"))
    };
    at.map(Some).ok_or_else(why)
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // The place, and not the text: there may be a token in it.
    serde_json::from_slice(body).map_err(|err| {
        let what = if err.is_data() { "a field is unknown, missing or wrong" } else { "no JSON" };
        Problem::invalid(format!("the body: {what}, at column {}", err.column()))
    })
}

/// No body at all asks for nothing in particular.
fn parse_optional<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() { Ok(T::default()) } else { parse(body) }
}
