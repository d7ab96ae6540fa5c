//! Why a request comes to nothing: problem details (RFC 9457), with a `code` for programs. None
//! holds a token.

use adamant::issuing::IssuingError;
use adamant::token::TokenId;
use http::StatusCode;
use serde_json::{Value, json};

/// One thing for the asker to do.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    detail: String,
    /// The event that stands in the way, and the token that it is about.
    event: Option<(u64, Option<TokenId>)>,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Problem {
        Problem { status, code, detail: detail.into(), event: None }
    }

    /// What was sent cannot be meant.
    pub(crate) fn invalid(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// No right of the caller's covers it.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, "forbidden", detail)
    }

    /// There is no such token, or none that this caller may see.
    pub(crate) fn not_found(id: &TokenId) -> Problem {
        let detail = format!("no token {id} that this caller may see was issued here");
        Problem::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// The request was made before: nothing was done, and the token is not told again.
    pub(crate) fn repeated(event: u64, id: Option<TokenId>) -> Problem {
        let detail = format!("this request id was used by event {event}");
        let problem = Problem::new(StatusCode::CONFLICT, "repeated", detail);
        Problem { event: Some((event, id)), ..problem }
    }

    /// Nothing was recorded; the same request may be sent again.
    pub(crate) fn busy(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
    }

    /// What the ledger said.
    pub(crate) fn of(err: &IssuingError) -> Problem {
        match err {
            IssuingError::Unknown { id } => Problem::not_found(id),
            IssuingError::Dead { id, event } => {
                let problem = Problem::new(StatusCode::CONFLICT, "dead", err.to_string());
                Problem { event: Some((*event, Some(*id))), ..problem }
            }
            IssuingError::Foreign { .. } => {
                Problem::new(StatusCode::CONFLICT, "foreign", err.to_string())
            }
            IssuingError::Claims(_) | IssuingError::Time | IssuingError::Label => {
                Problem::invalid(err.to_string())
            }
            // Said in full in the log: it may name files of the host.
            _ => Problem::busy("the ledger cannot be written now; the service's log says why"),
        }
    }

    /// The document.
    pub(crate) fn to_json(&self) -> Value {
        let title = self.status.canonical_reason().unwrap_or("Error");
        let mut document = json!({
            "title": title, "status": self.status.as_u16(), "code": self.code, "detail": self.detail,
        });
        if let Some((event, id)) = self.event {
            document["event"] = event.into();
            document["id"] = id.map(|id| id.to_string()).into();
        }
        document
    }
}
