//! `adamant status`: how the daemon is, for a person who was woken up.

use std::path::PathBuf;
use std::time::Duration;

use adamant::client::{Client, DEFAULT_SOCKET};
use anyhow::Context;
use serde_json::Value;

use crate::exit;
use crate::output::thousands;

const TIMEOUT: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where the daemon listens
    #[arg(long, env = "ADAMANT_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
    /// Print it as OpenMetrics text, for a scraper
    #[arg(long)]
    openmetrics: bool,
}

/// Exits 0 when the daemon answers from a generation, 69 when it answers `unavailable`.
pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let asked = Client::with_timeout(&arguments.socket, TIMEOUT).and_then(|mut c| c.status());
    let text = asked.with_context(|| format!("cannot ask {}", arguments.socket.display()))?;
    let status: Value = serde_json::from_str(&text).context("the daemon's status is not JSON")?;
    if arguments.openmetrics {
        say!("{}", adamant::daemon::openmetrics(&status).trim_end())?;
    } else if json {
        say!("{status}")?;
    } else {
        print(&status)?;
    }
    Ok(if status["state"] == "unavailable" { exit::UNAVAILABLE } else { exit::OK })
}

fn print(status: &Value) -> anyhow::Result<()> {
    let text = |key: &str| status[key].as_str().unwrap_or("-").to_owned();
    let count = |key: &str| status[key].as_u64().map_or("-".to_owned(), thousands);
    say!("{}", headline(&text("state")))?;
    for (label, key) in [("why", "reason"), ("not accepted", "refused")] {
        if let Some(said) = status[key].as_str() {
            say!("  {label:<12} {said}")?;
        }
    }
    say!("  generation   {} of epoch {}", count("generation"), count("epoch"))?;
    say!("  issued       {}", text("issued"))?;
    say!("  expires      {}  (then: {})", text("expires"), text("stale_policy"))?;
    say!("  tokens       {}", count("records"))?;
    say!("  table        {} bytes, {}", count("table_bytes"), held(status))?;
    let (up, version) = (count("uptime_s"), text("version"));
    say!("  up           {up} s, version {version}, pid {}", status["pid"])?;
    say!("  connections  {} open, {} so far", count("connections_open"), count("connections"))?;
    say!("  loads        {} accepted, {} refused", count("loads"), count("loads_failed"))?;
    let troubles = [
        ("frames_refused", "frames answered with an error"),
        ("connections_turned_away", "connections for which there was no seat"),
        ("connections_cut", "connections closed since they stalled or idled"),
        ("callers_denied", "connections of callers whom no rule fits"),
        ("accepts_failed", "failures to accept a connection"),
    ];
    for (key, what) in troubles {
        if status[key].as_u64() != Some(0) {
            say!("  trouble      {} {what}", count(key))?;
        }
    }
    let verdicts = status["verdicts"].as_object().into_iter().flatten();
    for (verdict, count) in verdicts.filter(|(_, count)| count.as_u64() != Some(0)) {
        let count = count.as_u64().map_or_else(String::new, thousands);
        say!("  answered     {verdict:<18} {count}")?;
    }
    Ok(())
}

/// The state, and what it means to those who ask.
fn headline(state: &str) -> String {
    let meaning = match state {
        "ok" => "answers from a generation that the policy accepts",
        "stale" => "answers from a generation that has expired, and says so: publish a new one",
        "unavailable" => "gives no verdicts: services cannot tell good tokens from bad",
        _ => "a state that this version does not know",
    };
    format!("{state}: {meaning}")
}

/// How the tables are held.
fn held(status: &Value) -> String {
    let bytes = status["table_bytes"].as_u64().unwrap_or(0).max(1);
    let huge = status["huge_page_bytes"].as_u64().unwrap_or(0) * 100 / bytes;
    let protection = match status["protection"].as_str() {
        Some("lease") => "mapped, writers kept away",
        Some("copy") => "in private memory",
        Some("mode") => "mapped, and nothing but owner and mode keeps writers away",
        _ => return "not in use".to_owned(),
    };
    format!("{protection}, {huge} % in 2 MiB pages")
}
