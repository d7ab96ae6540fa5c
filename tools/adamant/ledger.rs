//! What the commands that write to the ledger have in common.

use std::io::{self, Read as _};
use std::path::PathBuf;

use adamant::builder;
use adamant::issuing::{Registrar, actor};
use adamant::ledger::Origin;
use adamant::store::{Home, Published};
use adamant::table::format::Reason;
use adamant::token::{Parts, TokenId, strip_scheme};
use anyhow::Context;
use zeroize::Zeroizing;

use crate::{exit, output};

/// The longest standard input with ids and tokens: a million of them.
const INPUT_BYTES_MAX: u64 = 80 << 20;

/// Who does it, why, and whether it is published at once.
#[derive(clap::Args)]
pub(crate) struct Common {
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    pub(crate) home: PathBuf,
    /// A name for this request: made again, it changes nothing, and exits 73 with what it did
    #[arg(long)]
    pub(crate) request_id: Option<String>,
    /// On whose behalf
    #[arg(long)]
    on_behalf_of: Option<String>,
    /// Where the reasons stand
    #[arg(long)]
    ticket: Option<String>,
    /// Record it in the ledger alone; the next command publishes it
    #[arg(long)]
    pub(crate) no_publish: bool,
}

impl Common {
    pub(crate) fn origin(&self) -> Origin {
        Origin {
            actor: actor(),
            on_behalf_of: self.on_behalf_of.clone(),
            request: self.request_id.clone(),
            ticket: self.ticket.clone(),
        }
    }

    /// What the request did, if it was made before: ends the command.
    pub(crate) fn check_repeated(&self, registrar: &Registrar<'_>) -> anyhow::Result<()> {
        let Some(request) = &self.request_id else { return Ok(()) };
        let Some(event) = registrar.request(request)? else { return Ok(()) };
        let mut ids = Vec::new();
        for index in event..registrar.size() {
            let event = registrar.event(index)?;
            if event.origin.request.as_ref() != Some(request) {
                break;
            }
            ids.extend(event.token().map(|id| id.to_string()));
        }
        Err(exit::Repeated { request: request.clone(), event, ids }.into())
    }
}

/// Opens the ledger, and says so when that takes a while or cuts something.
pub(crate) fn open(home: &Home) -> anyhow::Result<Registrar<'_>> {
    let counter = output::counter("events indexed");
    let opened = Registrar::open(home, &mut |events| counter.set_position(events));
    counter.finish_and_clear();
    let registrar = opened?;
    if registrar.recovered_files > 0 {
        tell!(
            "adamant: cut {} files of an append that was interrupted and never acknowledged",
            registrar.recovered_files
        );
    }
    Ok(registrar)
}

/// Publishes what was recorded. A failure leaves it recorded, and says so.
pub(crate) fn publish(home: &Home, common: &Common) -> anyhow::Result<Option<Published>> {
    if common.no_publish {
        return Ok(None);
    }
    let counter = output::counter("tokens");
    let published = builder::publish(home, &mut |records| counter.set_position(records));
    counter.finish_and_clear();
    published.map(Some).map_err(|err| anyhow::Error::new(err).context(exit::Unpublished))
}

/// Moves records down, and collects, when that is due: after the answer was given.
pub(crate) fn settle(home: &Home, published: Option<&Published>) -> anyhow::Result<()> {
    let Some(published) = published else { return Ok(()) };
    if builder::is_settling_due(&published.manifest) {
        builder::settle(home, &mut |_| {})?;
    }
    adamant::ledger::remove_partials(&home.store().ledger(), published.manifest.ledger.0);
    Ok(home.collect(&published.manifest)?)
}

/// The ids that are meant by arguments; for `-` those on standard input, one a line, where a token
/// stands for its id.
pub(crate) fn read_ids(arguments: &[String]) -> anyhow::Result<Vec<TokenId>> {
    if arguments != ["-"] {
        return arguments.iter().map(|text| parse_id(text)).collect();
    }
    let mut text = Zeroizing::new(String::new());
    io::stdin()
        .lock()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut text)
        .context("cannot read standard input")?;
    let lines = text.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    lines
        .map(|(at, line)| {
            let text = line.strip_prefix("foreign:").unwrap_or(line);
            let id = text
                .parse()
                .or_else(|_| Parts::parse(strip_scheme(line.as_bytes())).map(|parts| parts.id()));
            // Not the line: there may be a token in it.
            id.map_err(|err| {
                exit::Data(format!("line {}: neither an id nor a token: {err}", at + 1)).into()
            })
        })
        .collect()
}

/// An id on the command line. A token there is refused: others have seen it.
pub(crate) fn parse_id(text: &str) -> anyhow::Result<TokenId> {
    let id = text.strip_prefix("foreign:").unwrap_or(text).parse();
    id.map_err(|_| {
        let why = if Parts::parse(text.as_bytes()).is_ok() {
            "a token must not be an argument: other users see it in the process list, and it stays \
             in the shell's history. Give its id, or pipe the token in and say -"
        } else {
            "an id is 14 base62 characters, such as 3vK9Qz0aTnB7xW"
        };
        exit::Usage(why.to_owned()).into()
    })
}

/// A reason code.
pub(crate) fn parse_reason(text: &str) -> Result<Reason, String> {
    Reason::from_name(text)
        .ok_or_else(|| format!("one of {}", Reason::ALL.map(Reason::name).join(", ")))
}
