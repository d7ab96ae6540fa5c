//! `adamant issue --list FILE`: new tokens for a release pipeline.
//!
//! The list holds digests and claims, never a token. It is on the disk before the first token is
//! printed, so no token that somebody holds can be missing from it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use adamant::claims::{self, Grant};
use adamant::store::{Home, now_unix_s};
use adamant::time::{from_rfc3339, to_rfc3339};
use adamant::token::{Kind, Token};
use anyhow::Context;
use serde_json::{Value, json};

use crate::exit;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// The sort of token, such as live or test
    #[arg(long)]
    kind: Kind,
    /// Who the token is for
    #[arg(long, default_value = "")]
    subject: String,
    /// What it may do; may be given several times
    #[arg(long)]
    scope: Vec<String>,
    /// Who may accept it
    #[arg(long, default_value = "")]
    audience: String,
    /// When it expires: a time such as 2027-01-31T12:00:00Z, or from now on, such as 90d, 12h, 30m
    #[arg(long)]
    expires: Option<String>,
    /// How many
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// The token list to append to; build from it next
    #[arg(long)]
    list: PathBuf,
}

/// Tokens that are minted, listed and printed at once: enough that the fsync costs nothing beside
/// them, and few enough to hold.
const CHUNK: u64 = 100_000;

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let home = Home::open(&arguments.home)?;
    let usage = |err: &dyn std::fmt::Display| exit::Usage(err.to_string());
    let grant = Grant::new(arguments.kind, &arguments.audience, arguments.scope.clone())
        .map_err(|err| usage(&err))?;
    claims::check_subject(&arguments.subject).map_err(|err| usage(&err))?;
    let expires = arguments.expires.as_deref().map(parse_expiry).transpose()?;
    let claims = claims_json(arguments, &grant, expires);
    let failed = || format!("cannot write {}", arguments.list.display());
    let list = OpenOptions::new().create(true).append(true).mode(0o600).open(&arguments.list);
    let list = list.with_context(failed)?;
    let mut left = arguments.count;
    while left > 0 {
        let tokens = mint(&home, arguments.kind, left.min(CHUNK))?;
        write_list(&list, &home, &claims, &tokens).with_context(failed)?;
        print(&tokens, json)?;
        left -= tokens.len() as u64;
    }
    Ok(exit::OK)
}

fn mint(home: &Home, kind: Kind, count: u64) -> anyhow::Result<Vec<Token>> {
    let prefix = home.policy().domain.prefix;
    let minted = (0..count).map(|_| Token::mint(prefix, kind));
    minted.collect::<Result<_, _>>().context("the operating system has no randomness to give")
}

/// What all lines have in common.
fn claims_json(arguments: &Arguments, grant: &Grant, expires: Option<i64>) -> Value {
    let mut line = json!({ "kind": grant.kind.as_str() });
    if !arguments.subject.is_empty() {
        line["subject"] = arguments.subject.as_str().into();
    }
    if !grant.audience.is_empty() {
        line["audience"] = grant.audience.as_str().into();
    }
    if !grant.scopes.is_empty() {
        line["scopes"] = grant.scopes.clone().into();
    }
    if let Some(expires) = expires {
        line["expires"] = to_rfc3339(expires).into();
    }
    line
}

fn write_list(file: &File, home: &Home, claims: &Value, tokens: &[Token]) -> io::Result<()> {
    let mut list = BufWriter::with_capacity(1 << 20, file);
    let mut line = claims.clone();
    for token in tokens {
        let digest = token.digest(&home.policy().domain.key);
        line["digest"] = adamant::manifest::hex(&digest).into();
        line["id"] = token.id().to_string().into();
        writeln!(list, "{line}")?;
    }
    list.flush()?;
    file.sync_all()
}

fn print(tokens: &[Token], json: bool) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    for token in tokens {
        if json {
            let line = json!({ "token": token.expose(), "id": token.id().to_string() });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{}", token.expose())?;
        }
    }
    out.flush()
}

/// A time, or a whole number of days, hours, minutes or seconds from now on.
pub(crate) fn parse_expiry(text: &str) -> Result<i64, exit::Usage> {
    if let Some((unix_s, _)) = from_rfc3339(text) {
        return Ok(unix_s);
    }
    let unit_s = match text.as_bytes().last() {
        Some(b'd') => 86_400,
        Some(b'h') => 3600,
        Some(b'm') => 60,
        Some(b's') => 1,
        _ => 0,
    };
    let number = text.get(..text.len().saturating_sub(1)).and_then(|n| n.parse::<u32>().ok());
    match number {
        Some(number) if unit_s > 0 => Ok(now_unix_s() + i64::from(number) * unit_s),
        _ => Err(exit::Usage(format!(
            "--expires {text}: neither a time such as 2027-01-31T12:00:00Z nor one from now on such as 90d"
        ))),
    }
}
