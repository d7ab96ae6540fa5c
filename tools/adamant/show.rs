//! `adamant show`, `log` and `list`: what the ledger says of a token, of the latest events, and of
//! all tokens, now or at an earlier time.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use adamant::builder::{BuildError, each_event};
use adamant::issuing::State;
use adamant::ledger::{Event, SEGMENT_EVENTS, What, read_event};
use adamant::store::{Home, now_unix_s};
use adamant::time::to_rfc3339;
use adamant::token::TokenId;
use anyhow::Context;
use serde_json::{Value, json};

use crate::issue::parse_time;
use crate::ledger::{self, parse_id};
use crate::prove::in_words;
use crate::{exit, output};

#[derive(clap::Args)]
pub(crate) struct ShowArguments {
    /// The id of the token
    id: String,
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
}

pub(crate) fn show(arguments: &ShowArguments, json: bool) -> anyhow::Result<u8> {
    let id = parse_id(&arguments.id)?;
    let home = Home::open(&arguments.home)?;
    let registrar = ledger::open(&home)?;
    let history = registrar.history(&id)?;
    let opening = registrar.opening(history.first())?;
    let state = history.state().name(now_unix_s());
    if json {
        let events: Result<Vec<Value>, _> =
            history.events.iter().map(|(index, event)| leaf(*index, event)).collect();
        output::json(&json!({
            "id": id.to_string(),
            "state": state,
            "subject": opening.as_ref().map(|opening| &opening.subject),
            "meta": opening.as_ref().map(|opening| &opening.meta),
            "events": events?,
        }))?;
        return Ok(exit::OK);
    }
    say!("{id}  {state}")?;
    if let Some(opening) = opening {
        for (name, text) in [("subject", opening.subject), ("meta", opening.meta)] {
            if !text.is_empty() {
                say!("  {name}  {text}")?;
            }
        }
    }
    for (index, event) in &history.events {
        say!("  event {index}  {}", in_words(event))?;
    }
    Ok(exit::OK)
}

#[derive(clap::Args)]
pub(crate) struct LogArguments {
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// The first event; the last 20 if it is not said
    #[arg(long)]
    from: Option<u64>,
    /// How many
    #[arg(long, default_value_t = 20)]
    count: u64,
}

pub(crate) fn log(arguments: &LogArguments, json: bool) -> anyhow::Result<u8> {
    let home = Home::open(&arguments.home)?;
    let (checkpoint, tiles) = home.read_ledger()?;
    let last = checkpoint.size.saturating_sub(arguments.count);
    let from = arguments.from.unwrap_or(last).min(checkpoint.size);
    let mut out = BufWriter::new(io::stdout().lock());
    for index in from..checkpoint.size.min(from.saturating_add(arguments.count)) {
        let event = read_event(&tiles, index)?;
        match json {
            true => writeln!(out, "{}", leaf(index, &event)?),
            false => writeln!(out, "{index:>8}  {}", in_words(&event)),
        }
        .context(output::UNWRITABLE)?;
    }
    out.flush().context(output::UNWRITABLE)?;
    Ok(exit::OK)
}

fn leaf(index: u64, event: &Event) -> io::Result<Value> {
    let mut entry = Vec::new();
    event.encode(&mut entry);
    let mut leaf: Value = serde_json::from_slice(&entry).map_err(io::Error::other)?;
    leaf["event"] = index.into();
    Ok(leaf)
}

#[derive(clap::Args)]
pub(crate) struct ListArguments {
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// Only those for this subject
    #[arg(long)]
    subject: Option<String>,
    /// Only those of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only those with this scope
    #[arg(long)]
    scope: Option<String>,
    /// Only those in this state: valid, revoked, expired or not_yet_valid
    #[arg(long)]
    state: Option<String>,
    /// As it was then: a time such as 2026-11-25T12:00:00Z
    #[arg(long)]
    at: Option<String>,
}

pub(crate) fn list(arguments: &ListArguments, json: bool) -> anyhow::Result<u8> {
    let now = now_unix_s();
    let at = arguments.at.as_deref().map(|text| parse_time("--at", text)).transpose()?;
    let at = at.unwrap_or(now);
    let home = Home::open(&arguments.home)?;
    let (_, tiles) = home.read_ledger()?;
    let mut tokens: Vec<(u64, i64, State)> = Vec::new();
    let mut places: HashMap<TokenId, usize> = HashMap::new();
    each_event(&tiles, 0, &mut |index, event| {
        if event.time > at {
            return Ok(());
        }
        match &event.what {
            What::Issue(issued) => {
                places.insert(issued.id, tokens.len());
                tokens.push((index, event.time, State::new(issued.clone())));
            }
            _ => {
                let place = event.token().and_then(|id| places.get(&id));
                if let Some(&place) = place {
                    tokens[place].2.take(index, event);
                }
            }
        }
        Ok::<_, BuildError>(())
    })?;
    let mut subjects = Subjects { home: &home, segment: None, held: HashMap::new() };
    let mut out = BufWriter::new(io::stdout().lock());
    for (index, time, state) in &tokens {
        let (subject, meta) = subjects.of(*index)?;
        if is_wanted(arguments, state, &subject, at) {
            let printed = print(&mut out, state, &subject, &meta, (*time, at), json);
            printed.context(output::UNWRITABLE)?;
        }
    }
    out.flush().context(output::UNWRITABLE)?;
    Ok(exit::OK)
}

fn is_wanted(arguments: &ListArguments, state: &State, subject: &str, at: i64) -> bool {
    let grant = &state.issued.grant;
    arguments.subject.as_deref().is_none_or(|wanted| wanted == subject)
        && arguments.kind.as_deref().is_none_or(|wanted| wanted == grant.kind.as_str())
        && arguments.scope.as_ref().is_none_or(|wanted| grant.scopes.contains(wanted))
        && arguments.state.as_deref().is_none_or(|wanted| wanted == state.name(at))
}

fn print(
    out: &mut impl io::Write,
    state: &State,
    subject: &str,
    meta: &str,
    (issued, at): (i64, i64),
    json: bool,
) -> io::Result<()> {
    let grant = &state.issued.grant;
    let expires = state.issued.expires.map(to_rfc3339);
    let id = match state.issued.algorithm {
        Some(_) => format!("foreign:{}", state.issued.id),
        None => state.issued.id.to_string(),
    };
    if json {
        let line = json!({
            "id": id, "state": state.name(at), "kind": grant.kind.as_str(),
            "audience": grant.audience, "scopes": grant.scopes, "subject": subject, "meta": meta,
            "issued": to_rfc3339(issued), "expires": expires,
            "revoked_at": state.doom.map(to_rfc3339),
        });
        return writeln!(out, "{line}");
    }
    let expires = expires.unwrap_or_else(|| "-".to_owned());
    writeln!(
        out,
        "{id}  {:<13}  {:<8}  {expires:<20}  {}  {subject}",
        state.name(at),
        grant.kind,
        grant.scopes.join(",")
    )
}

/// Who tokens are for, by segments.
struct Subjects<'a> {
    home: &'a Home,
    segment: Option<u64>,
    held: HashMap<u64, (String, String)>,
}

impl Subjects<'_> {
    fn of(&mut self, event: u64) -> anyhow::Result<(String, String)> {
        let segment = event / SEGMENT_EVENTS;
        if self.segment != Some(segment) {
            let openings = self.home.openings().segment(segment, u64::MAX)?;
            let pairs = openings.into_iter().map(|o| (o.index, (o.subject, o.meta)));
            self.held = pairs.collect();
            self.segment = Some(segment);
        }
        Ok(self.held.get(&event).cloned().unwrap_or_default())
    }
}
