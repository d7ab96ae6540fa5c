//! `adamant verify-store DIR`: every byte of a store, and who vouches for it.

use std::path::PathBuf;

use adamant::audit::{Means, audit};
use adamant::store::{Store, load_policy};
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
    /// Make the tables anew from the ledger, and compare
    #[arg(long)]
    rebuild: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let opened = generation::open(&arguments.store, arguments.policy.as_deref())?;
    let manifest = &opened.generation.manifest;
    if arguments.rebuild {
        let policy = arguments.policy.as_deref().map(load_policy).transpose()?;
        let means = Means { policy: policy.as_ref(), kept: None, openings: None };
        let report = audit(&Store::at(&opened.store), &means)?;
        if let Some(first) = report.findings.first() {
            report.findings.iter().for_each(|finding| tell!("adamant: {finding}"));
            return Err(exit::Data(format!("not what the ledger makes it: {first}")).into());
        }
    }
    if json {
        output::json(&json!({
            "store": opened.store,
            "epoch": manifest.epoch,
            "generation": manifest.generation,
            "records": manifest.records(),
            "signers": opened.signers,
            "pinned": arguments.policy.is_some(),
        }))?;
    } else {
        let records = thousands(manifest.records());
        say!(
            "generation {} of epoch {}: {records} records, every byte checked",
            manifest.generation,
            manifest.epoch
        )?;
        if arguments.rebuild {
            say!("its tables are what events 0 to {} of the ledger make them", manifest.ledger.0)?;
        }
        match &arguments.policy {
            Some(policy) => {
                say!("signed by {}, trusted by {}", opened.signers.join(", "), policy.display())?
            }
            None => say!("self-consistent, signers not pinned: say --policy FILE")?,
        }
    }
    Ok(exit::OK)
}
