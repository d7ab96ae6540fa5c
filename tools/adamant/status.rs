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
}

/// Exits 0 when the daemon answers from a generation, 69 when it answers `unavailable`.
pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let asked = Client::with_timeout(&arguments.socket, TIMEOUT).and_then(|mut c| c.status());
    let text = asked.with_context(|| format!("cannot ask {}", arguments.socket.display()))?;
    let status: Value = serde_json::from_str(&text).context("the daemon's status is not JSON")?;
    if json {
        println!("{status}")
    } else {
        print(&status)
    }
    Ok(if status["state"] == "unavailable" { exit::UNAVAILABLE } else { exit::OK })
}

fn print(status: &Value) {
    let text = |key: &str| status[key].as_str().unwrap_or("-").to_owned();
    let count = |key: &str| status[key].as_u64().map_or("-".to_owned(), thousands);
    println!("{}", text("state"));
    if let Some(reason) = status["reason"].as_str() {
        println!("  why          {reason}");
    }
    if let Some(refused) = status["refused"].as_str() {
        println!("  not accepted {refused}");
    }
    println!("  generation   {} of epoch {}", count("generation"), count("epoch"));
    println!("  issued       {}", text("issued"));
    println!("  expires      {}  (then: {})", text("expires"), text("stale_policy"));
    println!("  tokens       {}", count("records"));
    println!("  table        {} bytes", count("table_bytes"));
    println!(
        "  up           {} s, version {}, pid {}",
        count("uptime_s"),
        text("version"),
        status["pid"]
    );
    println!("  connections  {} open, {} so far", count("connections_open"), count("connections"));
    println!("  loads        {} accepted, {} refused", count("loads"), count("loads_failed"));
    println!("  refused      {} frames", count("frames_refused"));
    let verdicts = status["verdicts"].as_object().into_iter().flatten();
    for (verdict, count) in verdicts.filter(|(_, count)| count.as_u64() != Some(0)) {
        println!(
            "  answered     {verdict:<18} {}",
            count.as_u64().map_or_else(String::new, thousands)
        );
    }
}
