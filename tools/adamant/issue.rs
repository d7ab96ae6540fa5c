//! `adamant issue`: new tokens, recorded in the ledger and published, or for a release pipeline
//! with `--list FILE`, which makes no event.
//!
//! A token is printed once, after it is durable that it was issued: as an event, or in the list. So
//! no token that somebody holds can be missing there. A list holds digests and claims, never a
//! token.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use adamant::claims::{self, Grant};
use adamant::issuing::Wanted;
use adamant::store::{Home, now_unix_s};
use adamant::time::{from_rfc3339, parse_span, to_rfc3339};
use adamant::token::{Kind, Token};
use anyhow::Context;
use serde_json::{Value, json};

use crate::ledger::{self, Common};
use crate::{exit, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The sort of token, such as live or test
    #[arg(long)]
    kind: Kind,
    /// Who the token is for
    #[arg(long, default_value = "")]
    subject: String,
    /// A note about it: a label, or a JSON object
    #[arg(long, default_value = "")]
    meta: String,
    /// What it may do; may be given several times
    #[arg(long)]
    scope: Vec<String>,
    /// Who may accept it
    #[arg(long, default_value = "")]
    audience: String,
    /// From when on it is valid: a time, or from now on, such as 2h
    #[arg(long)]
    not_before: Option<String>,
    /// When it expires: a time such as 2027-01-31T12:00:00Z, or from now on, such as 90d, 12h, 30m
    #[arg(long)]
    expires: Option<String>,
    /// How many
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Append to this token list instead of the ledger; build from it next
    #[arg(long)]
    list: Option<PathBuf>,
}

/// Tokens that are minted, recorded and printed at once: enough that the fsyncs cost nothing beside
/// them, few enough to hold, and done so soon that another command can wait for the ledger.
const CHUNK: u64 = 65_536;

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let home = Home::open(&arguments.common.home)?;
    let usage = |err: &dyn std::fmt::Display| exit::Usage(err.to_string());
    let grant = Grant::new(arguments.kind, &arguments.audience, arguments.scope.clone())
        .map_err(|err| usage(&err))?;
    claims::check_subject(&arguments.subject).map_err(|err| usage(&err))?;
    claims::check_meta(&arguments.meta).map_err(|err| usage(&err))?;
    let time = |option, text: &Option<String>| {
        text.as_deref().map(|text| parse_time(option, text)).transpose()
    };
    let wanted = Wanted {
        grant,
        subject: arguments.subject.clone(),
        meta: arguments.meta.clone(),
        not_before: time("--not-before", &arguments.not_before)?,
        expires: time("--expires", &arguments.expires)?,
    };
    match &arguments.list {
        Some(list) => list_tokens(arguments, list, &home, &wanted, json),
        None => record(arguments, &home, &wanted, json),
    }
}

fn record(arguments: &Arguments, home: &Home, wanted: &Wanted, json: bool) -> anyhow::Result<u8> {
    let common = &arguments.common;
    if common.request_id.is_some() && arguments.count > CHUNK {
        let why = format!("--request-id goes with a --count of at most {CHUNK}");
        return Err(exit::Usage(why).into());
    }
    if arguments.count == 1 {
        return record_one(common, home, wanted, json);
    }
    let counter = output::counter("tokens");
    let mut left = arguments.count;
    while left > 0 {
        // Opened for each chunk, so that others have their turn in between.
        let mut registrar = ledger::open(home)?;
        common.check_repeated(&registrar)?;
        let tokens = registrar.issue_many(wanted, left.min(CHUNK), &common.origin())?;
        registrar.commit()?;
        drop(registrar);
        print(&tokens, json)?;
        left -= tokens.len() as u64;
        counter.set_position(arguments.count - left);
    }
    counter.finish_and_clear();
    let published = ledger::publish(home, common)?;
    if let Some(published) = &published
        && !json
    {
        tell!("generation {}", published.manifest.generation);
    }
    ledger::settle(home, published.as_ref())?;
    Ok(exit::OK)
}

fn record_one(common: &Common, home: &Home, wanted: &Wanted, json: bool) -> anyhow::Result<u8> {
    let mut registrar = ledger::open(home)?;
    common.check_repeated(&registrar)?;
    let (token, event) = registrar.issue(wanted, &common.origin())?;
    registrar.commit()?;
    drop(registrar);
    let published = ledger::publish(home, common);
    // Issued is issued: the token is shown even where it is not valid anywhere yet.
    let generation = published.as_ref().ok().and_then(Option::as_ref);
    let generation = generation.map(|published| published.manifest.generation);
    print_issued(&token, event, generation, json)?;
    ledger::settle(home, published?.as_ref())?;
    Ok(exit::OK)
}

/// One token, with what is known of it.
pub(crate) fn print_issued(
    token: &Token,
    event: u64,
    generation: Option<u64>,
    json: bool,
) -> anyhow::Result<()> {
    let id = token.id().to_string();
    if json {
        return output::json(&json!({
            "token": token.expose(), "id": id, "event": event, "generation": generation,
        }));
    }
    say!("{}", token.expose())?;
    match generation {
        Some(generation) => tell!("id {id}, event {event}, generation {generation}"),
        None => tell!("id {id}, event {event}, in no generation yet"),
    }
    Ok(())
}

fn list_tokens(
    arguments: &Arguments,
    path: &Path,
    home: &Home,
    wanted: &Wanted,
    json: bool,
) -> anyhow::Result<u8> {
    let claims = claims_json(wanted);
    let failed = || format!("cannot write {}", path.display());
    let list = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let list = list.with_context(failed)?;
    let mut left = arguments.count;
    while left > 0 {
        let tokens = mint(home, arguments.kind, left.min(CHUNK))?;
        write_list(&list, home, &claims, &tokens).with_context(failed)?;
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
fn claims_json(wanted: &Wanted) -> Value {
    let grant = &wanted.grant;
    let mut line = json!({ "kind": grant.kind.as_str() });
    for (name, text) in
        [("subject", &wanted.subject), ("audience", &grant.audience), ("meta", &wanted.meta)]
    {
        if !text.is_empty() {
            line[name] = text.as_str().into();
        }
    }
    if !grant.scopes.is_empty() {
        line["scopes"] = grant.scopes.clone().into();
    }
    for (name, time) in [("not_before", wanted.not_before), ("expires", wanted.expires)] {
        if let Some(time) = time {
            line[name] = to_rfc3339(time).into();
        }
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

fn print(tokens: &[Token], json: bool) -> anyhow::Result<()> {
    let write = || {
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
    };
    write().context(output::UNWRITABLE)
}

/// A time, or a whole number of days, hours, minutes or seconds from now on.
pub(crate) fn parse_time(option: &str, text: &str) -> Result<i64, exit::Usage> {
    if let Some((unix_s, _)) = from_rfc3339(text) {
        return Ok(unix_s);
    }
    match parse_span(text) {
        Some(span_s) => Ok(now_unix_s() + span_s),
        None => Err(exit::Usage(format!(
            "{option} {text}: neither a time such as 2027-01-31T12:00:00Z nor one from now on such as 90d"
        ))),
    }
}
