//! What is asked where. `openapi.json` beside the sources says the same to programs, and a test
//! holds the two equal.

use std::sync::Arc;

use adamant::issuing::History;
use adamant::ledger::Origin;
use adamant::store::Home;
use adamant::token::TokenId;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use serde_json::Value;

use crate::listing::Lister;
use crate::problem::Problem;
use crate::rights::CallerRights;
use crate::scribe::{Desk, Done, Wish};
use crate::tokens;

/// The longest body: claims and labels of the greatest lengths, each byte escaped.
const BODY_BYTES_MAX: usize = 64 << 10;
const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

pub(crate) type Response = hyper::Response<Full<Bytes>>;

/// What all requests are answered from.
pub(crate) struct Service {
    pub(crate) home: Arc<Home>,
    pub(crate) desk: Desk,
    pub(crate) lister: Lister,
}

/// Who asks.
pub(crate) struct Asker {
    pub(crate) uid: u32,
    pub(crate) rights: Arc<CallerRights>,
}

/// A path that is served, taken apart.
enum Path {
    Tokens,
    Revoke,
    Token(TokenId),
    TokenRevoke(TokenId),
    TokenRotate(TokenId),
    TokenHistory(TokenId),
}

impl Path {
    fn of(path: &str) -> Result<Path, Problem> {
        let nothing = || Problem::new(StatusCode::NOT_FOUND, "not_found", "nothing is here");
        match path {
            "/tokens" => return Ok(Path::Tokens),
            "/revoke" => return Ok(Path::Revoke),
            _ => {}
        }
        let rest = path.strip_prefix("/tokens/").ok_or_else(nothing)?;
        let (id, rest) = rest.split_once('/').map_or((rest, ""), |(id, rest)| (id, rest));
        // What is no id might be a token that was pasted: it is not repeated.
        let id = id.strip_prefix("foreign:").unwrap_or(id).parse().map_err(|_| {
            Problem::new(StatusCode::NOT_FOUND, "not_found", "no id: 14 letters and digits")
        })?;
        match rest {
            "" => Ok(Path::Token(id)),
            "revoke" => Ok(Path::TokenRevoke(id)),
            "rotate" => Ok(Path::TokenRotate(id)),
            "history" => Ok(Path::TokenHistory(id)),
            _ => Err(nothing()),
        }
    }

    fn allowed(&self) -> &'static str {
        match self {
            Path::Tokens => "GET, POST",
            Path::Token(_) | Path::TokenHistory(_) => "GET",
            Path::Revoke | Path::TokenRevoke(_) | Path::TokenRotate(_) => "POST",
        }
    }
}

/// Answers one request.
pub(crate) async fn respond(
    service: &Arc<Service>,
    asker: &Asker,
    request: hyper::Request<Incoming>,
) -> Response {
    match answer(service, asker, request).await {
        Ok(response) => response,
        Err(problem) => refusal(&problem),
    }
}

async fn answer(
    service: &Arc<Service>,
    asker: &Asker,
    request: hyper::Request<Incoming>,
) -> Result<Response, Problem> {
    let path = Path::of(request.uri().path())?;
    let (get, post) = (request.method() == Method::GET, request.method() == Method::POST);
    match path {
        Path::Tokens if get => {
            let wanted = tokens::listing(request.uri().query().unwrap_or_default())?;
            let (service, rights) = (Arc::clone(service), Arc::clone(&asker.rights));
            let page = in_background(move || service.lister.page(&wanted, &rights)).await?;
            Ok(json(StatusCode::OK, &page))
        }
        Path::Token(id) if get => service.ask(asker, Wish::Look { id }, Origin::default()).await,
        Path::TokenHistory(id) if get => {
            let history = service.history(asker, id).await?;
            let service = Arc::clone(service);
            let told = move || tokens::history(&service.home, &id, &history);
            Ok(json(StatusCode::OK, &in_background(told).await?))
        }
        Path::Tokens if post => {
            let (wish, origin) = tokens::issue(&body(request, JSON).await?, asker.uid)?;
            service.ask(asker, wish, origin).await
        }
        Path::TokenRevoke(id) if post => {
            let (wish, origin) = tokens::revoke(id, &body(request, JSON).await?, asker.uid)?;
            service.ask(asker, wish, origin).await
        }
        Path::TokenRotate(id) if post => {
            let (wish, origin) = tokens::rotate(id, &body(request, JSON).await?, asker.uid)?;
            service.ask(asker, wish, origin).await
        }
        Path::Revoke if post => service.revoke_presented(asker, request).await,
        _ => {
            let detail = format!("this path takes {}", path.allowed());
            let code = "method_not_allowed";
            let mut response = refusal(&Problem::new(StatusCode::METHOD_NOT_ALLOWED, code, detail));
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(path.allowed()));
            Ok(response)
        }
    }
}

impl Service {
    async fn ask(&self, asker: &Asker, wish: Wish, origin: Origin) -> Result<Response, Problem> {
        let (done, reach) = self.desk.ask(wish, origin, &asker.rights).await?;
        let (status, answer) = tokens::answer(&done, reach);
        let mut response = json(status, &answer);
        if let Done::Issued { token, .. } = &done
            && let Ok(location) = HeaderValue::from_str(&format!("/tokens/{}", token.id()))
        {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }

    async fn history(&self, asker: &Asker, id: TokenId) -> Result<History, Problem> {
        let found = self.desk.ask(Wish::Look { id }, Origin::default(), &asker.rights).await?;
        match found {
            (Done::Found { history, .. }, _) => Ok(*history),
            _ => unreachable!("a look finds, or fails"),
        }
    }

    /// RFC 7009: 200 whatever the token was, unless nothing could be recorded.
    async fn revoke_presented(
        &self,
        asker: &Asker,
        request: hyper::Request<Incoming>,
    ) -> Result<Response, Problem> {
        let form = body(request, FORM).await?;
        let mut tokens = form_urlencoded::parse(&form).filter(|(name, _)| name == "token");
        let token = match (tokens.next(), tokens.next()) {
            (Some((_, token)), None) if !token.is_empty() => token,
            _ => return Err(Problem::invalid("`token`, once")),
        };
        if let Some(wish) = tokens::revoke_presented(&token, &self.home.policy().domain) {
            let origin = Origin { actor: format!("uid:{}", asker.uid), ..Origin::default() };
            match self.desk.ask(wish, origin, &asker.rights).await {
                Err(problem) if problem.status == StatusCode::SERVICE_UNAVAILABLE => {
                    return Err(problem);
                }
                _ => {}
            }
        }
        Ok(bytes(StatusCode::OK, JSON, Bytes::new()))
    }
}

/// The body, if it is of that type.
async fn body(request: hyper::Request<Incoming>, expected: &str) -> Result<Bytes, Problem> {
    let is_expected = essence(request.headers()).eq_ignore_ascii_case(expected.as_bytes());
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
    let body = tokio::time::timeout(crate::server::STALLED, body).await;
    let bytes = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(err)) if err.is::<LengthLimitError>() => {
            let detail = format!("a body has at most {BODY_BYTES_MAX} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail));
        }
        Ok(Err(_)) => return Err(Problem::invalid("the body broke off")),
        Err(_) => return Err(Problem::invalid("the body did not arrive in time")),
    };
    if !bytes.is_empty() && !is_expected {
        let detail = format!("the body must be {expected}");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "unsupported_media_type", detail));
    }
    Ok(bytes)
}

fn essence(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

/// What reads files waits on a thread of its own.
async fn in_background(
    read: impl FnOnce() -> anyhow::Result<Value> + Send + 'static,
) -> Result<Value, Problem> {
    let read = tokio::task::spawn_blocking(read).await;
    read.map_err(anyhow::Error::new).flatten().map_err(|err| {
        tell!("cannot read: {err:#}");
        Problem::busy("the store cannot be read now; the service's log says why")
    })
}

fn refusal(problem: &Problem) -> Response {
    let document = Bytes::from(problem.to_json().to_string());
    let mut response = bytes(problem.status, "application/problem+json", document);
    if problem.status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

fn json(status: StatusCode, answer: &Value) -> Response {
    bytes(status, JSON, Bytes::from(answer.to_string()))
}

fn bytes(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
