//! What the daemon is told: `adamantd.toml`.
//!
//! Every setting stands once, with its unit, its default and what it does, in the file that is
//! installed as the example: `systemd/adamantd.toml`. It is part of the program, and is the
//! default; a file of the operator's lies over it, setting by setting.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use http::header::HeaderName;
use serde::Deserialize;
use toml::Table;

use super::callers::{Callers, Rule, RuleError};
use crate::table;

/// All settings with their defaults, as the example file.
pub const DEFAULTS: &str = include_str!("../../systemd/adamantd.toml");
/// The longest configuration that is read.
pub const CONFIG_BYTES_MAX: u64 = 256 << 10;
const MIB: usize = 1 << 20;

/// What a daemon is told, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The store.
    pub store: PathBuf,
    /// The policy file.
    pub policy: PathBuf,
    /// The folder of marks, which must be writable.
    pub state: PathBuf,
    /// Where to listen.
    pub sockets: Vec<PathBuf>,
    /// Where to answer HTTP.
    pub http_sockets: Vec<PathBuf>,
    /// Loopback addresses at which HTTP is answered when systemd passes them.
    pub http_loopback: Vec<SocketAddr>,
    /// The header field with the token, where `Authorization` carries none.
    pub http_token_header: Option<HeaderName>,
    /// Where the tables are held.
    pub load: table::Load,
    /// How often to look at store and policy.
    pub poll: Duration,
    /// Threads that answer.
    pub workers: usize,
    /// How long a drain may take.
    pub drain: Duration,
    /// Most connections at once.
    pub connections_max: usize,
    /// Most connections at once of one user.
    pub connections_uid_max: usize,
    /// Bytes that unfinished frames and untaken replies may hold.
    pub buffer_bytes_max: usize,
    /// How long a frame may stay unfinished, or a reply untaken.
    pub stalled: Duration,
    /// How long a worker looks for questions before it parks.
    pub spin: Duration,
    /// How long a connection may ask nothing; `None`: for ever.
    pub idle: Option<Duration>,
    /// Where log lines go.
    pub log: Log,
    /// The least level of log lines.
    pub log_level: tracing::Level,
    /// Who may ask what.
    pub callers: Callers,
}

/// Where log lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// To the journal when standard error is connected to it, else to standard error.
    Auto,
    /// To standard error.
    Stderr,
    /// To the journal, with its native fields.
    Journald,
}

impl Default for Config {
    fn default() -> Config {
        Config::parse("").expect("the example file is a configuration")
    }
}

impl Config {
    /// The defaults, with other places.
    pub fn new(
        store: impl Into<PathBuf>,
        policy: impl Into<PathBuf>,
        state: impl Into<PathBuf>,
    ) -> Config {
        Config {
            store: store.into(),
            policy: policy.into(),
            state: state.into(),
            ..Config::default()
        }
    }

    /// The defaults, for a home.
    pub fn of_home(home: &Path) -> Config {
        Config::new(home.join("store"), home.join("policy.toml"), home.join("state"))
    }

    /// Lays the text of a configuration file over the defaults.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let mut settings: Table = DEFAULTS.parse().expect("the example file is TOML");
        let own: Table = text.parse().map_err(ConfigError::toml)?;
        for (name, value) in own {
            match settings.get_mut(&name) {
                Some(setting) => *setting = value,
                None => return Err(ConfigError::Unknown { name }),
            }
        }
        File::deserialize(settings).map_err(ConfigError::toml)?.check()
    }
}

/// The file, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    store: PathBuf,
    policy: PathBuf,
    state: PathBuf,
    sockets: Vec<PathBuf>,
    http_sockets: Vec<PathBuf>,
    http_loopback: Vec<SocketAddr>,
    http_token_header: String,
    load: Load,
    poll_s: u64,
    workers: usize,
    drain_ms: u64,
    connections_max: usize,
    connections_uid_max: usize,
    buffers_mib: usize,
    stalled_ms: u64,
    spin_us: u64,
    idle_s: u64,
    log: Log,
    log_level: String,
    caller: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Load {
    Map,
    Copy,
}

impl File {
    fn check(self) -> Result<Config, ConfigError> {
        check_range("poll_s", self.poll_s, 1..=3600)?;
        check_range("drain_ms", self.drain_ms, 0..=600_000)?;
        check_range("stalled_ms", self.stalled_ms, 100..=600_000)?;
        check_range("spin_us", self.spin_us, 0..=1000)?;
        check_range("idle_s", self.idle_s, 0..=604_800)?;
        check_range("workers", self.workers as u64, 0..=1024)?;
        check_range("connections_max", self.connections_max as u64, 1..=1_000_000)?;
        check_range("connections_uid_max", self.connections_uid_max as u64, 1..=1_000_000)?;
        check_range("buffers_mib", self.buffers_mib as u64, 4..=65_536)?;
        if self.sockets.is_empty() {
            return Err(ConfigError::Setting { name: "sockets", rule: "name at least one".into() });
        }
        if let Some(address) = self.http_loopback.iter().find(|it| !it.ip().is_loopback()) {
            let rule = format!("{address} is no loopback address");
            return Err(ConfigError::Setting { name: "http_loopback", rule });
        }
        let token_header = match &*self.http_token_header {
            "" => None,
            name => Some(HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
                let rule = "not the name of a header field".to_owned();
                ConfigError::Setting { name: "http_token_header", rule }
            })?),
        };
        let loopback = self.http_loopback.iter().map(|address| address.to_string().into());
        let named = self.sockets.iter().chain(&self.http_sockets).cloned().chain(loopback);
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Config {
            callers: Callers::new(self.caller, &named.collect::<Vec<_>>())?,
            store: self.store,
            policy: self.policy,
            state: self.state,
            sockets: self.sockets,
            http_sockets: self.http_sockets,
            http_loopback: self.http_loopback,
            http_token_header: token_header,
            load: match self.load {
                Load::Map => table::Load::Map,
                Load::Copy => table::Load::Copy,
            },
            poll: Duration::from_secs(self.poll_s),
            workers: if self.workers == 0 { cores() } else { self.workers },
            drain: Duration::from_millis(self.drain_ms),
            connections_max: self.connections_max,
            connections_uid_max: self.connections_uid_max,
            buffer_bytes_max: self.buffers_mib * MIB,
            stalled: Duration::from_millis(self.stalled_ms),
            spin: Duration::from_micros(self.spin_us),
            idle: (self.idle_s > 0).then(|| Duration::from_secs(self.idle_s)),
            log: self.log,
            log_level: tracing::Level::from_str(&self.log_level).map_err(|_| {
                let rule = "\"error\", \"warn\", \"info\" or \"debug\"".to_owned();
                ConfigError::Setting { name: "log_level", rule }
            })?,
        })
    }
}

fn check_range(
    name: &'static str,
    found: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<(), ConfigError> {
    if range.contains(&found) {
        return Ok(());
    }
    let rule = format!("{found} is not from {} to {}", range.start(), range.end());
    Err(ConfigError::Setting { name, rule })
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not TOML, or a value of another type than the setting's.
    #[error("{0}")]
    Toml(Said),
    /// No setting of that name.
    #[error("there is no setting `{name}`: the example file has them all")]
    Unknown {
        /// The name.
        name: String,
    },
    /// A value that the setting cannot have.
    #[error("`{name}`: {rule}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// What it must be.
        rule: String,
    },
    /// A rule about callers.
    #[error("a rule of `caller`")]
    Caller(#[from] RuleError),
}

impl ConfigError {
    fn toml(err: toml::de::Error) -> ConfigError {
        ConfigError::Toml(Said(err.to_string().trim_end().to_owned()))
    }
}

/// What the parser said: several lines, with the place.
#[derive(Debug)]
pub struct Said(String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_lies_over_the_defaults_setting_by_setting() {
        let defaults = Config::default();
        let config = Config::parse("poll_s = 60\nload = \"copy\"\n").unwrap();
        assert_eq!((config.poll, config.load), (Duration::from_secs(60), table::Load::Copy));
        assert_eq!((config.store, config.drain), (defaults.store, defaults.drain));
        assert_eq!(defaults.load, table::Load::Map);
        assert_eq!(defaults.idle, None);
    }

    #[test]
    fn each_wrong_setting_is_named() {
        let cases = [
            ("pol_s = 5", "no setting `pol_s`"),
            ("poll_s = 0", "`poll_s`: 0 is not from 1 to 3600"),
            ("poll_s = \"x\"", "invalid type: string \"x\""),
            ("poll_s = -1", "invalid value: integer `-1`"),
            ("poll_s =", "line 1, column"),
            ("sockets = []", "`sockets`: name at least one"),
            ("http_loopback = [\"10.0.0.1:80\"]", "`http_loopback`: 10.0.0.1:80 is no loopback"),
            ("http_loopback = [\"localhost\"]", "invalid socket address"),
            ("http_token_header = \"x api\"", "`http_token_header`"),
            ("stalled_ms = 1", "`stalled_ms`"),
            ("spin_us = 1001", "`spin_us`: 1001 is not from 0 to 1000"),
            ("connections_max = 0", "`connections_max`"),
            ("buffers_mib = 1", "`buffers_mib`"),
            ("log_level = \"loud\"", "`log_level`"),
            ("log = \"file\"", "unknown variant `file`"),
            ("load = \"mmap\"", "unknown variant `mmap`"),
            ("[[caller]]\nuser = [1]", "unknown field `user`"),
        ];
        for (text, said) in cases {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
