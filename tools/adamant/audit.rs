//! `adamant audit`: a store checked by somebody who trusts nobody.

use std::fs;
use std::path::PathBuf;

use adamant::audit::{Means, audit};
use adamant::ledger::Openings;
use adamant::store::{Store, load_policy};
use anyhow::Context;
use serde_json::json;

use crate::output::thousands;
use crate::{exit, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The store, or a home
    store: PathBuf,
    /// The policy that says whose signatures count
    #[arg(long)]
    policy: Option<PathBuf>,
    /// A checkpoint that was kept from before: nothing was taken back since
    #[arg(long)]
    checkpoint: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let is_home = arguments.store.join("store").is_dir();
    let root = if is_home { arguments.store.join("store") } else { arguments.store.clone() };
    let policy = arguments.policy.as_deref().map(load_policy).transpose()?;
    let kept = arguments
        .checkpoint
        .as_deref()
        .map(|path| fs::read(path).with_context(|| format!("cannot read {}", path.display())));
    let kept = kept.transpose()?;
    let openings = is_home.then(|| Openings::at(&arguments.store.join("private/openings")));
    let means = Means { policy: policy.as_ref(), kept: kept.as_deref(), openings };
    let report = audit(&Store::at(root), &means)?;
    let size = report.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
    if json {
        output::json(&json!({
            "clean": report.count == 0,
            "findings": report.findings,
            "finding_count": report.count,
            "entries": size,
            "events": report.events.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "tokens": report.tokens,
            "records": report.records,
            "manifests": report.manifests,
            "unchecked": report.unchecked,
        }))?;
    } else {
        for finding in &report.findings {
            say!("WRONG  {finding}")?;
        }
        let events: Vec<String> = report
            .events
            .iter()
            .map(|(name, count)| format!("{} {name}", thousands(*count)))
            .collect();
        say!("{} entries: {}", thousands(size), events.join(", "))?;
        say!(
            "{} tokens, {} records of tables compared, {} manifests",
            thousands(report.tokens),
            thousands(report.records),
            thousands(report.manifests)
        )?;
        for unchecked in &report.unchecked {
            say!("not checked: {unchecked}")?;
        }
        match report.count {
            0 => say!("clean")?,
            count => say!("{} findings", thousands(count))?,
        }
    }
    Ok(if report.count == 0 { exit::OK } else { exit::DATA })
}
