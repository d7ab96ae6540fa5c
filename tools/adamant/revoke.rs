//! `adamant revoke`: trust in tokens ends, now or at a time.

use std::collections::HashSet;

use adamant::issuing::Revoked;
use adamant::policy::Role;
use adamant::revocations::Revocation;
use adamant::store::{Home, StoreError};
use adamant::table::format::Reason;
use adamant::time::TableTime;
use adamant::token::TokenId;
use serde_json::json;

use crate::issue::parse_time;
use crate::ledger::{self, Common, parse_reason, read_ids};
use crate::output::thousands;
use crate::{exit, output};

/// More than this many at once asks for consent.
const UNEXPECTED_MAX: usize = 1000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Ids; or - for ids and tokens on standard input, one a line
    #[arg(required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    common: Common,
    /// Why: compromised, superseded, unused, owner-request, policy, absent or other
    #[arg(long, value_parser = parse_reason)]
    reason: Reason,
    /// When: a time, or from now on, such as 24h; now if it is not said
    #[arg(long)]
    at: Option<String>,
    /// How many ids there are, when they are more than 1,000
    #[arg(long)]
    expect: Option<usize>,
}

/// The revocations note: for a home that cannot sign manifests, or has no ledger.
fn by_note(
    home: &Home,
    ids: &[TokenId],
    at: Option<i64>,
    reason: Reason,
    json: bool,
) -> anyhow::Result<u8> {
    let previous =
        home.current()?.ok_or_else(|| exit::Data("nothing was published yet".to_owned()))?;
    let generation = previous.store.open(&previous.judged)?;
    // The earliest time there is means at once, whatever a clock says.
    let at = match at {
        None => TableTime(1),
        Some(at) => TableTime::end(at).ok_or_else(|| exit::Usage("--at: after 2156".to_owned()))?,
    };
    let wanted: HashSet<[u8; 11]> = ids.iter().map(TokenId::bytes).collect();
    let records = generation.layers().iter().flat_map(|layer| layer.table.records());
    let found = records.filter(|record| wanted.contains(&record.id));
    let list: Vec<Revocation> =
        found.map(|record| Revocation { digest: record.digest, at, reason }).collect();
    let known: HashSet<_> = list.iter().map(|revocation| revocation.digest).collect();
    if known.len() < wanted.len() {
        let why = format!(
            "{} of {} ids are in the current generation; nothing revoked",
            known.len(),
            wanted.len()
        );
        return Err(exit::Data(why).into());
    }
    let sequence = home.revoke_by_note(list)?;
    if json {
        output::json(&json!({ "revoked": wanted.len(), "sequence": sequence }))?;
    } else {
        say!("{} revoked, revocations note {sequence}", thousands(wanted.len() as u64))?;
    }
    Ok(exit::OK)
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let ids = read_ids(&arguments.ids)?;
    let is_expected = arguments.expect.is_none_or(|expected| expected == ids.len());
    if !is_expected || (arguments.expect.is_none() && ids.len() > UNEXPECTED_MAX) {
        let why = format!("{} ids; if that is meant, say --expect {0}", ids.len());
        return Err(exit::Usage(why).into());
    }
    let at = arguments.at.as_deref().map(|text| parse_time("--at", text)).transpose()?;
    let home = Home::open(&arguments.common.home)?;
    let can_publish = match home.signers(Role::Build) {
        Err(StoreError::NoSigner { .. }) => false,
        signers => signers.map(|_| true)?,
    };
    if !can_publish || !home.has_ledger() {
        return by_note(&home, &ids, at, arguments.reason, json);
    }
    let mut registrar = ledger::open(&home)?;
    arguments.common.check_repeated(&registrar)?;
    let origin = arguments.common.origin();
    let mut already = Vec::new();
    for id in &ids {
        let at = at.unwrap_or(registrar.now());
        if let Revoked::Already { event } = registrar.revoke(id, at, arguments.reason, &origin)? {
            already.push((id, event));
        }
    }
    registrar.commit()?;
    drop(registrar);
    let published = ledger::publish(&home, &arguments.common)?;
    let generation = published.as_ref().map(|published| published.manifest.generation);
    let revoked = ids.len() - already.len();
    if json {
        let already: Vec<_> = already
            .iter()
            .map(|(id, event)| json!({ "id": id.to_string(), "event": event }))
            .collect();
        output::json(&json!({ "revoked": revoked, "already": already, "generation": generation }))?;
    } else {
        for (id, event) in &already {
            say!("{id} was revoked before, by event {event}")?;
        }
        let generation = generation.map_or_else(|| "no".to_owned(), |number| number.to_string());
        say!("{} revoked, generation {generation}", thousands(revoked as u64))?;
    }
    ledger::settle(&home, published.as_ref())?;
    Ok(exit::OK)
}
