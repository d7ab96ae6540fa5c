//! A status as OpenMetrics text, for a scraper. Timestamps instead of ages, and no token id in any
//! label. The format: OpenMetrics 1.0.

use std::fmt::Write as _;

use serde_json::Value;

use crate::time::from_rfc3339;

/// Counters, each with the key of the status that it is.
const COUNTERS: &[(&str, &str, &str)] = &[
    ("adamant_connections_opened", "connections", "Connections that were taken in."),
    ("adamant_connections_turned_away", "connections_turned_away", "Connections without a seat."),
    (
        "adamant_connections_cut",
        "connections_cut",
        "Connections closed since they stalled or idled.",
    ),
    ("adamant_callers_denied", "callers_denied", "Connections of callers whom no rule fits."),
    ("adamant_accepts_failed", "accepts_failed", "Failures to accept a connection."),
    ("adamant_frames_refused", "frames_refused", "Frames answered with an error."),
];

/// Gauges, likewise.
const GAUGES: &[(&str, &str, &str)] = &[
    ("adamant_connections", "connections_open", "Connections that are open."),
    ("adamant_epoch", "epoch", "Epoch of the generation that is served."),
    ("adamant_generation", "generation", "Number of the generation that is served."),
    ("adamant_table_bytes", "table_bytes", "Length of the tables that are served."),
    ("adamant_table_huge_page_bytes", "huge_page_bytes", "Bytes of them in 2 MiB pages."),
];

/// Moments, likewise, as Unix seconds.
const TIMESTAMPS: &[(&str, &str, &str)] = &[
    ("adamant_generation_issued_timestamp_seconds", "issued", "When the generation was issued."),
    ("adamant_generation_expires_timestamp_seconds", "expires", "When the generation expires."),
    ("adamant_start_timestamp_seconds", "started", "When the daemon started."),
];

const STATES: [&str; 3] = ["ok", "stale", "unavailable"];

/// The status of a daemon, as [`crate::client::Client::status`] gives it, in OpenMetrics. What it
/// does not say is left out.
pub fn openmetrics(status: &Value) -> String {
    let mut out = Text(String::new());
    out.family("adamant_build", "info", "What is running.");
    let version = status["version"].as_str().unwrap_or_default();
    out.sample("adamant_build_info", &format!("{{version=\"{version}\"}}"), 1);
    out.family("adamant_state", "stateset", "Whether there is a generation to answer from.");
    for state in STATES {
        let is_so = u64::from(status["state"] == state);
        out.sample("adamant_state", &format!("{{adamant_state=\"{state}\"}}"), is_so);
    }
    out.family("adamant_verify_requests", "counter", "Verdicts that were given.");
    for (surface, key) in [("socket", "verdicts"), ("http", "http_verdicts")] {
        for (verdict, count) in status[key].as_object().into_iter().flatten() {
            let labels = format!("{{surface=\"{surface}\",verdict=\"{verdict}\"}}");
            out.sample("adamant_verify_requests_total", &labels, count.as_u64().unwrap_or(0));
        }
    }
    out.durations(&status["durations"]);
    out.family("adamant_generation_loads", "counter", "Generations that were looked at.");
    for (result, key) in [("accepted", "loads"), ("refused", "loads_failed")] {
        let labels = format!("{{result=\"{result}\"}}");
        out.sample("adamant_generation_loads_total", &labels, status[key].as_u64().unwrap_or(0));
    }
    if let Some(records) = status["records"].as_u64() {
        out.family("adamant_tokens", "gauge", "Records in the tables that are served.");
        out.sample("adamant_tokens", "{state=\"all\"}", records);
    }
    if let Some(ns) = status["propagation_ns"].as_u64() {
        const NAME: &str = "adamant_revocation_propagation_seconds";
        out.family(NAME, "gauge", "From the last manifest in the store to answers from it.");
        let _ = writeln!(out.0, "{NAME} {}", seconds(ns));
    }
    for &(name, key, help) in COUNTERS {
        out.single(name, "counter", help, status[key].as_u64());
    }
    for &(name, key, help) in GAUGES {
        out.single(name, "gauge", help, status[key].as_u64());
    }
    for &(name, key, help) in TIMESTAMPS {
        let moment = status[key].as_str().and_then(from_rfc3339);
        out.single(name, "gauge", help, moment.and_then(|(unix_s, _)| u64::try_from(unix_s).ok()));
    }
    out.0.push_str("# EOF\n");
    out.0
}

/// Nanoseconds as seconds, exactly.
fn seconds(ns: u64) -> String {
    let text = format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

struct Text(String);

impl Text {
    fn family(&mut self, name: &str, sort: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {sort}");
        if let Some(unit) =
            ["seconds", "bytes"].iter().find(|unit| name.ends_with(&format!("_{unit}")))
        {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    /// A histogram a surface: of frames the time of the tick that answered them.
    fn durations(&mut self, durations: &Value) {
        const NAME: &str = "adamant_verify_duration_seconds";
        let surfaces = durations.as_object().into_iter().flatten();
        self.family(NAME, "histogram", "How long an answer took, without reading and writing.");
        for (surface, found) in surfaces {
            let number = |value: &Value| value.as_u64().unwrap_or(0);
            let count = number(&found["count"]);
            for bucket in found["buckets_ns"].as_array().into_iter().flatten() {
                let bound = seconds(number(&bucket[0]));
                let labels = format!("{{surface=\"{surface}\",le=\"{bound}\"}}");
                self.sample(&format!("{NAME}_bucket"), &labels, number(&bucket[1]));
            }
            let labels = format!("{{surface=\"{surface}\",le=\"+Inf\"}}");
            self.sample(&format!("{NAME}_bucket"), &labels, count);
            let labels = format!("{{surface=\"{surface}\"}}");
            let sum = seconds(number(&found["sum_ns"]));
            let _ = writeln!(self.0, "{NAME}_sum{labels} {sum}");
            self.sample(&format!("{NAME}_count"), &labels, count);
        }
    }

    fn single(&mut self, name: &str, sort: &str, help: &str, value: Option<u64>) {
        let Some(value) = value else { return };
        self.family(name, sort, help);
        let suffix = if sort == "counter" { "_total" } else { "" };
        self.sample(&format!("{name}{suffix}"), "", value);
    }
}
