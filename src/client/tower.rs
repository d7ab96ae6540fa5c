//! A tower layer that lets only requests with a valid token through, and an axum extractor for
//! what is known of it.
//!
//! The token stands in `Authorization: Bearer` (RFC 6750, 2.1), once, and nowhere else: what is in
//! a query string ends up in logs. What is answered instead of the service (RFC 6750, 3):
//!
//! | case | status | `WWW-Authenticate` |
//! |---|---|---|
//! | no token | 401 | `Bearer` |
//! | more than one, or not a bearer token | 400 | `Bearer error="invalid_request"` |
//! | not valid | 401 | `Bearer error="invalid_token"` |
//! | valid, and of another kind or audience, or without a scope | 403 | `Bearer error="insufficient_scope"` |
//! | the daemon could not be asked | 503 | |
//!
//! A service that is let through finds an [`Access`] in the request's extensions; with the feature
//! `axum` it is the extractor [`Verified`]. A layer outside this one finds an
//! `Arc<`[`CouldNotAsk`]`>` in the extensions of a 503, to log.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tower_layer::Layer;
use tower_service::Service;

use super::aio::Client;
use super::{Access, Answer, CouldNotAsk};
use crate::claims::Requirement;
use crate::verdict::Verdict;

/// Lets only requests with a valid token through.
#[derive(Clone, Debug)]
pub struct RequireToken {
    client: Client,
    need: Requirement,
    claims_wanted: bool,
}

impl RequireToken {
    /// A layer that asks `client` for tokens that have what `need` names.
    pub fn new(client: Client, need: Requirement) -> RequireToken {
        RequireToken { client, need, claims_wanted: false }
    }

    /// The [`Access`] that is let through has its claims: subject, scopes and so on.
    pub fn with_claims(mut self) -> RequireToken {
        self.claims_wanted = true;
        self
    }

    async fn ask(&self, headers: &HeaderMap) -> Result<Access, Rejection> {
        let token = bearer(headers)?;
        let answer = if self.claims_wanted {
            self.client.verify_with_claims(token, &self.need).await
        } else {
            self.client.verify(token, &self.need).await
        };
        match answer.map_err(Rejection::CouldNotAsk)? {
            Answer::Valid(access) => Ok(access),
            Answer::Denied(denial) => Err(Rejection::Denied(denial.verdict)),
        }
    }
}

impl<S> Layer<S> for RequireToken {
    type Service = TokenRequired<S>;

    fn layer(&self, inner: S) -> TokenRequired<S> {
        TokenRequired { inner, layer: self.clone() }
    }
}

/// A service behind [`RequireToken`].
#[derive(Clone, Debug)]
pub struct TokenRequired<S> {
    inner: S,
    layer: RequireToken,
}

impl<S, B, R> Service<Request<B>> for TokenRequired<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready answers; its copy is made ready for the next request.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let layer = self.layer.clone();
        Box::pin(async move {
            let headers = std::mem::take(request.headers_mut());
            let asked = layer.ask(&headers).await;
            *request.headers_mut() = headers;
            match asked {
                Ok(access) => {
                    request.extensions_mut().insert(access);
                    inner.call(request).await
                }
                Err(rejection) => Ok(rejection.response()),
            }
        })
    }
}

/// Why a request is not let through.
#[derive(Debug)]
enum Rejection {
    NoToken,
    NotBearer,
    Denied(Verdict),
    CouldNotAsk(CouldNotAsk),
}

impl Rejection {
    fn response<R: Default>(self) -> Response<R> {
        let (status, challenge) = match &self {
            Self::NoToken => (StatusCode::UNAUTHORIZED, Some("Bearer")),
            Self::NotBearer => (StatusCode::BAD_REQUEST, Some("Bearer error=\"invalid_request\"")),
            Self::Denied(
                Verdict::WrongKind | Verdict::WrongAudience | Verdict::InsufficientScope,
            ) => (StatusCode::FORBIDDEN, Some("Bearer error=\"insufficient_scope\"")),
            Self::Denied(_) => (StatusCode::UNAUTHORIZED, Some("Bearer error=\"invalid_token\"")),
            Self::CouldNotAsk(_) => (StatusCode::SERVICE_UNAVAILABLE, None),
        };
        let mut response = Response::new(R::default());
        *response.status_mut() = status;
        if let Some(challenge) = challenge {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Self::CouldNotAsk(err) = self {
            response.extensions_mut().insert(Arc::new(err));
        }
        response
    }
}

/// The token of a request. The name of the scheme is in any case (RFC 9110, 11.1).
fn bearer(headers: &HeaderMap) -> Result<&[u8], Rejection> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(Rejection::NoToken)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len()).ok_or(Rejection::NotBearer)?;
    let is_one = values.next().is_none() && !token.is_empty();
    if is_one && scheme.eq_ignore_ascii_case(b"Bearer ") {
        Ok(token)
    } else {
        Err(Rejection::NotBearer)
    }
}

/// What is known of the token of a request, in a handler of axum behind [`RequireToken`].
#[cfg(feature = "axum")]
#[derive(Clone, Debug)]
pub struct Verified(pub Access);

#[cfg(feature = "axum")]
impl<S: Sync> axum_core::extract::FromRequestParts<S> for Verified {
    /// 500: a handler asks for what no layer has put there, which is a mistake in the service.
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        _: &S,
    ) -> Result<Verified, Self::Rejection> {
        let access = parts.extensions.get::<Access>().cloned();
        access.map(Verified).ok_or((
            StatusCode::INTERNAL_SERVER_ERROR,
            "this route is not behind the layer RequireToken",
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_bearer_token_is_taken_and_nothing_else() {
        let of = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, HeaderValue::from_static(value));
            }
            match bearer(&headers) {
                Ok(token) => Ok(String::from_utf8(token.to_vec()).unwrap()),
                Err(rejection) => Err(rejection.response::<()>().status().as_u16()),
            }
        };
        assert_eq!(of(&["Bearer abc"]), Ok("abc".to_owned()));
        assert_eq!(of(&["bEARER abc"]), Ok("abc".to_owned()));
        assert_eq!(of(&[]), Err(401));
        for wrong in ["Basic abc", "Bearer", "Bearer ", "abc", "Bearerabc"] {
            assert_eq!(of(&[wrong]), Err(400), "{wrong}");
        }
        assert_eq!(of(&["Bearer a", "Bearer b"]), Err(400));
    }
}
