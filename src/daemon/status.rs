//! How the daemon is, as JSON. The keys are a contract; more may be added.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::live::{DURATIONS_NS, Live, Serving, SurfaceCounts};
use crate::manifest::hex;
use crate::policy::Stale;
use crate::store::Protection;
use crate::time::{TableTime, to_rfc3339};
use crate::verdict::Verdict;

pub(super) fn to_json(live: &Live, serving: &Serving) -> String {
    let now = live.now(serving);
    let state = state(serving, now);
    let counts = live.counters.read();
    let [socket, http] = &counts.surfaces;
    let mut status = json!({
        "state": state,
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_s": live.counters.started.elapsed().as_secs(),
        "started": to_rfc3339(i64::try_from(live.counters.started_unix_s).unwrap_or(0)),
        "stale_policy": if serving.stale == Stale::Refuse { "refuse" } else { "serve-flagged" },
        "prefix": serving.domain.prefix.as_str(),
        "verdicts": verdicts(socket),
        "http_verdicts": verdicts(http),
        "durations": { "socket": durations(socket), "http": durations(http) },
        "frames_refused": counts.frames_refused,
        "connections": counts.connections,
        "connections_open": counts.connections_open,
        "connections_turned_away": counts.turned_away,
        "connections_cut": counts.cut,
        "callers_denied": counts.callers_denied,
        "accepts_failed": counts.accepts_failed,
        "loads": counts.loads,
        "loads_failed": counts.loads_failed,
    });
    if state == "unavailable" {
        status["reason"] = reason(serving).into();
    }
    if let Some(sandbox) = live.sandbox() {
        status["sandbox"] = sandbox.name().into();
    }
    if counts.propagation_ns > 0 {
        status["propagation_ns"] = counts.propagation_ns.into();
    }
    if let Some(refused) = live.refused.load_full() {
        status["refused"] = refused.as_str().into();
    }
    if let Some(judged) = &serving.judged {
        let manifest = &judged.manifest;
        status["epoch"] = manifest.epoch.into();
        status["generation"] = manifest.generation.into();
        status["manifest"] = hex(&judged.hash).into();
        status["revocations"] = serving.sequence.into();
        status["issued"] = to_rfc3339(manifest.issued).into();
        status["expires"] = to_rfc3339(manifest.expires).into();
        status["records"] = manifest.records().into();
        if let Some(generation) = &serving.generation {
            status["huge_page_bytes"] = generation.huge_bytes().into();
            status["protection"] = match generation.protection() {
                Protection::Lease => "lease",
                Protection::Copy => "copy",
                Protection::Mode { .. } => "mode",
            }
            .into();
        }
        status["table_bytes"] = manifest.tables.iter().map(|table| table.bytes).sum::<u64>().into();
    }
    status.to_string()
}

/// Whether there is a generation to answer from: `ok`, `stale` or `unavailable`.
pub(super) fn state(serving: &Serving, now: TableTime) -> &'static str {
    match (serving.usable(now).is_some(), serving.is_expired(now)) {
        (true, false) => "ok",
        (true, true) => "stale",
        (false, _) => "unavailable",
    }
}

fn verdicts(counts: &SurfaceCounts) -> Map<String, Value> {
    let count =
        |verdict: &Verdict| (verdict.name().to_owned(), counts.verdicts[*verdict as usize].into());
    Verdict::ALL.iter().map(count).collect()
}

/// How long answers took: by the bound of each bucket, in nanoseconds, how many took no longer.
fn durations(counts: &SurfaceCounts) -> Value {
    let mut below = 0;
    let bounds = DURATIONS_NS.iter().zip(&counts.buckets).map(|(bound, count)| {
        below += count;
        json!([bound, below])
    });
    let buckets: Vec<Value> = bounds.collect();
    let count: u64 = counts.buckets.iter().sum();
    json!({ "buckets_ns": buckets, "sum_ns": counts.sum_ns, "count": count })
}

/// How the daemon is, for people, on one line.
pub(super) fn line(live: &Live) -> String {
    let serving = Arc::clone(&live.serving());
    let now = live.now(&serving);
    let Some(judged) = &serving.judged else {
        return format!("unavailable: {}", reason(&serving));
    };
    let manifest = &judged.manifest;
    let records = manifest.records();
    let expires = to_rfc3339(manifest.expires);
    let mut line = match (serving.usable(now).is_some(), serving.is_expired(now)) {
        (true, false) => {
            format!("generation {}, {records} tokens, until {expires}", manifest.generation)
        }
        (true, true) => format!(
            "stale: generation {} expired {expires}, served as the policy says",
            manifest.generation
        ),
        (false, _) => format!("unavailable: {}", reason(&serving)),
    };
    if let Some(refused) = live.refused.load_full() {
        line.push_str("; not accepted: ");
        line.push_str(&refused);
    }
    line
}

/// Why there is nothing to answer from.
fn reason(serving: &Serving) -> String {
    match (&serving.unavailable, &serving.judged) {
        (Some(reason), _) => reason.clone(),
        (None, Some(judged)) => {
            crate::store::Refusal::Expired { at: judged.manifest.expires }.to_string()
        }
        (None, None) => "nothing was loaded yet".to_owned(),
    }
}
