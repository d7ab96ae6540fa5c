//! `adamant publish`: what is recorded becomes a generation; or the current one is signed anew.

use std::path::PathBuf;

use adamant::builder;
use adamant::store::{Current, Home};
use serde_json::json;

use crate::ledger;
use crate::output::thousands;
use crate::{exit, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// Sign the current generation anew, even where nothing has changed: daily, by a timer
    #[arg(long)]
    renew: bool,
}

/// What the revocations note says becomes events.
fn absorb(home: &Home) -> anyhow::Result<()> {
    let Current::Note(revoking) = home.revocations()? else { return Ok(()) };
    let mut registrar = ledger::open(home)?;
    let absorbed = registrar.absorb(&revoking.list)?;
    if absorbed > 0 {
        registrar.commit()?;
        tell!("adamant: {absorbed} revocations of note {} absorbed", revoking.note.sequence);
    }
    Ok(())
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let home = Home::open(&arguments.home)?;
    let before = home.current()?.map(|previous| previous.judged.hash);
    let counter = output::counter("tokens");
    let mut published = None;
    if home.has_ledger() {
        absorb(&home)?;
        let made = builder::publish(&home, &mut |records| counter.set_position(records))?;
        published = Some(made);
    }
    counter.finish_and_clear();
    let is_new = published.as_ref().is_some_and(|published| Some(published.hash) != before);
    if arguments.renew && !is_new {
        published = Some(builder::renew(&home)?);
    }
    let Some(published) = published else {
        let why = "this home has no ledger: `adamant build --from LIST` publishes, and --renew signs anew";
        return Err(exit::Usage(why.to_owned()).into());
    };
    let manifest = &published.manifest;
    if json {
        output::json(&json!({
            "generation": manifest.generation,
            "epoch": manifest.epoch,
            "manifest": adamant::manifest::hex(&published.hash),
            "tables": manifest.tables.len(),
            "records": manifest.records(),
            "events": manifest.ledger.0,
        }))?;
    } else {
        say!(
            "generation {}: {} records in {} tables, {} events",
            manifest.generation,
            thousands(manifest.records()),
            manifest.tables.len(),
            thousands(manifest.ledger.0)
        )?;
    }
    Ok(exit::OK)
}
