//! `adamant erase`: who a token is for is forgotten. The token, and the ledger, stay as they are.

use adamant::issuing::forget;
use adamant::store::Home;
use serde_json::json;

use crate::ledger::{self, Common, parse_id};
use crate::{exit, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The id of the token
    id: String,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let id = parse_id(&arguments.id)?;
    let home = Home::open(&arguments.common.home)?;
    let mut registrar = ledger::open(&home)?;
    arguments.common.check_repeated(&registrar)?;
    let erasure = registrar.erase(&id, &arguments.common.origin())?;
    registrar.commit()?;
    drop(registrar);
    // Also where an event had said so before: that one may have been interrupted.
    let published = forget(&home, &erasure)?;
    let generation = published.manifest.generation;
    if json {
        output::json(
            &json!({ "id": id.to_string(), "generation": generation, "before": erasure.before }),
        )?;
    } else {
        say!("who {id} is for is forgotten, generation {generation}")?;
        say!("copies of the store that were made before still have it, and so have backups")?;
    }
    Ok(exit::OK)
}
