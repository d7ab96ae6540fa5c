//! `adamant rotate`: a new token with the same claims, and an end for the old one.

use adamant::store::Home;
use adamant::time::parse_span;

use crate::exit;
use crate::issue::{parse_time, print_issued};
use crate::ledger::{self, Common, parse_id};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The id of the old token
    id: String,
    #[command(flatten)]
    common: Common,
    /// How long both are valid, such as 24h
    #[arg(long, default_value = "0s")]
    overlap: String,
    /// When the new one expires; after as long a life as the old one was given, if it is not said
    #[arg(long)]
    expires: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let id = parse_id(&arguments.id)?;
    let overlap_s = parse_span(&arguments.overlap).ok_or_else(|| {
        exit::Usage(format!("--overlap {}: such as 24h, 30m or 0s", arguments.overlap))
    })?;
    let expires = arguments.expires.as_deref().map(|text| parse_time("--expires", text));
    let home = Home::open(&arguments.common.home)?;
    let mut registrar = ledger::open(&home)?;
    arguments.common.check_repeated(&registrar)?;
    let (token, event) =
        registrar.rotate(&id, overlap_s, expires.transpose()?, &arguments.common.origin())?;
    registrar.commit()?;
    drop(registrar);
    let published = ledger::publish(&home, &arguments.common);
    let generation = published.as_ref().ok().and_then(Option::as_ref);
    let generation = generation.map(|published| published.manifest.generation);
    print_issued(&token, event, generation, json)?;
    ledger::settle(&home, published?.as_ref())?;
    Ok(exit::OK)
}
