//! Log lines: for people on standard error, or with the journal's native fields.
//!
//! What an operator may want to be woken by has a message id, by which the journal finds all lines
//! of its kind (`journalctl MESSAGE_ID=...`). docs/operations.md says what each means.

use std::io::{self, IsTerminal};
use std::os::unix::fs::MetadataExt;

use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::config::{Config, Log};

/// A generation is served.
pub(super) const SERVING: &str = "5e55450f473f4016be0345d0106ce9e2";
/// What is current was refused; what is served stays.
pub(super) const NOT_ACCEPTED: &str = "89a15ae6662f409bb8b55261de22fd13";
/// The revocations note was refused; what it said before stays.
pub(super) const REVOCATIONS_NOT_APPLIED: &str = "1f3b77a2c64d4fd29a1d0f5e8c3b6a90";
/// What was served may not be served any more.
pub(super) const UNAVAILABLE: &str = "1359188461334e89a150f75b92fda302";
/// Somebody writes to a file that is served.
pub(super) const WRITTEN_TO: &str = "e39399baba7a450b9fbfdfa493df7e5a";
/// The policy cannot be read; the last good one stays.
pub(super) const POLICY_UNREADABLE: &str = "c31f2eae2b874f20ae4ba26501662640";
/// Connections cannot be accepted.
pub(super) const CANNOT_ACCEPT: &str = "ead462fdf8c247beabf76881b730b50b";
/// A caller whom no rule fits was refused.
pub(super) const CALLER_REFUSED: &str = "3adebb4eefe34bb4a1bc4e0ce529d90d";
/// The daemon does not answer itself.
pub(super) const PROBE_FAILED: &str = "9d5a36507120474f9ac1f00428010534";
/// The daemon drains.
pub(super) const DRAINING: &str = "bc80f2e4405148f8a73ee9adfd015747";

/// The field of message ids, as events name it. The journal writes it in capitals.
const MESSAGE_ID: &str = "message_id";

/// Sends log lines where `config` says. `ADAMANT_LOG` sets another least level.
pub fn init_log(config: &Config) {
    let level = std::env::var("ADAMANT_LOG").ok().and_then(|level| level.parse().ok());
    let level = LevelFilter::from_level(level.unwrap_or(config.log_level));
    let wants_journal = match config.log {
        Log::Auto => stderr_is_the_journal(),
        Log::Stderr => false,
        Log::Journald => true,
    };
    let journal = wants_journal.then(tracing_journald::layer).and_then(Result::ok);
    match journal {
        // Without a prefix, so that MESSAGE_ID is the journal's own field.
        Some(layer) => tracing_subscriber::registry()
            .with(layer.with_field_prefix(None).with_filter(level))
            .init(),
        None => tracing_subscriber::registry().with(to_stderr().with_filter(level)).init(),
    }
}

fn to_stderr<S>() -> impl Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let is_plain = !io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
    // A message id says nothing to a person that the line does not.
    let fields = debug_fn(|writer, field, value| match field.name() {
        MESSAGE_ID => Ok(()),
        "message" => write!(writer, "{value:?}"),
        name => write!(writer, " {name}={value:?}"),
    });
    tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        // It would panic where the log cannot be written.
        .log_internal_errors(false)
        .with_ansi(!is_plain)
        .with_target(false)
        .fmt_fields(fields)
}

/// `JOURNAL_STREAM` names the device and inode of the stream to the journal, systemd.exec(5). Only
/// if standard error is still that stream does nobody expect lines on it.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(facts) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", facts.dev(), facts.ino())
}
