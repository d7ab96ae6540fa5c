//! A connection's way to a verdict: the same generation, rules and counts as those of frames.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderName;

use crate::claims::{GrantView, Requirement};
use crate::daemon::SharedLive;
use crate::daemon::callers::Caller;
use crate::daemon::live::Surface;
use crate::daemon::question::judge_one;
use crate::daemon::seats::Seat;
use crate::store::{Layer, Located};
use crate::table::Personal;
use crate::time::TableTime;
use crate::token::TokenId;
use crate::verdict::Verdict;

/// What every request of a connection is answered from.
pub(super) struct Visit {
    pub(super) live: SharedLive,
    pub(super) caller: Arc<Caller>,
    /// The address asked at, for a loopback connection.
    pub(super) loopback: Option<SocketAddr>,
    /// Where a token may stand that no `Authorization` carries.
    pub(super) token_header: Option<HeaderName>,
    pub(super) _seat: Seat,
}

impl Visit {
    /// Judges a token, as it was presented, and hands the verdict on with what was found.
    pub(super) fn ask<T>(
        &self,
        text: &[u8],
        asked: &Requirement,
        then: impl Fn(Verdict, Option<Found<'_>>) -> T,
    ) -> T {
        let began = Instant::now();
        let serving = self.live.serving();
        let now = self.live.now(&serving);
        let revoked = serving.revoking.as_ref().map(|revoking| &revoking.list);
        let usable = serving.usable(now);
        let (verdict, found) = match (usable, serving.domain.digest(text)) {
            (None, _) => (Verdict::Unavailable, None),
            (_, Err(_)) => (Verdict::Malformed, None),
            (Some(generation), Ok(digest)) => {
                judge_one(generation, revoked, &digest, &self.caller, asked, now)
            }
        };
        self.live.counters.verdict(Surface::Http, verdict, began.elapsed());
        let found = usable.zip(found).and_then(|(generation, found)| {
            let layer = generation.layer(found.layer)?;
            Some(Found { id: TokenId::from_bytes(found.record.id)?, layer, found })
        });
        let told = then(verdict, found);
        // What was read from a map whose file was cut meanwhile is no answer.
        if serving.is_poisoned() { then(Verdict::Unavailable, None) } else { told }
    }

    /// Who signs what is served.
    pub(super) fn issuer(&self) -> Option<String> {
        let serving = self.live.serving();
        serving.judged.as_ref().map(|judged| judged.manifest.origin.clone())
    }
}

/// A token that a table knows.
pub(super) struct Found<'a> {
    id: TokenId,
    layer: &'a Layer,
    found: Located<'a>,
}

impl<'a> Found<'a> {
    pub(super) fn id(&self) -> TokenId {
        self.id
    }

    pub(super) fn grant(&self) -> Option<GrantView<'a>> {
        self.layer.table.grant(self.found.record.grant.get())
    }

    pub(super) fn personal(&self) -> Personal<'a> {
        self.layer.personal(self.found.rank)
    }

    pub(super) fn issued_at(&self) -> TableTime {
        let cold = self.layer.table.cold(self.found.rank);
        cold.map_or(TableTime::NONE, |cold| TableTime(cold.issued_at.get()))
    }

    pub(super) fn not_before(&self) -> TableTime {
        TableTime(self.found.record.not_before.get())
    }

    pub(super) fn expires(&self) -> TableTime {
        TableTime(self.found.record.expires.get())
    }
}
