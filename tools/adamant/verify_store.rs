//! `adamant verify-store DIR`: every byte of a store, and who vouches for it.

use std::path::PathBuf;

use serde_json::json;

use crate::output::thousands;
use crate::{exit, generation, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The store, a home, or a manifest
    store: PathBuf,
    /// The policy that says whose signature counts
    #[arg(long)]
    policy: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let opened = generation::open(&arguments.store, arguments.policy.as_deref())?;
    let manifest = &opened.generation.manifest;
    if json {
        output::json(&json!({
            "store": opened.store,
            "epoch": manifest.epoch,
            "generation": manifest.generation,
            "records": manifest.tables[0].records,
            "signers": opened.signers,
            "pinned": arguments.policy.is_some(),
        }))?;
    } else {
        let records = thousands(manifest.tables[0].records);
        println!(
            "generation {} of epoch {}: {records} tokens, every byte checked",
            manifest.generation, manifest.epoch
        );
        match &arguments.policy {
            Some(policy) => {
                println!("signed by {}, trusted by {}", opened.signers.join(", "), policy.display())
            }
            None => println!("self-consistent, signers not pinned: say --policy FILE"),
        }
    }
    Ok(exit::OK)
}
