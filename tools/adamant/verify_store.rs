//! `adamant verify-store DIR`: every byte of a store, and who vouches for it.

use std::path::PathBuf;

use adamant::manifest::Manifest;
use adamant::note::Note;
use adamant::policy::Stale;
use adamant::store::{Judged, Marks, Refusal, Store, StoreError, judge, load_policy, now_unix_s};
use serde_json::json;

use crate::output::thousands;
use crate::{exit, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The store, or a home
    store: PathBuf,
    /// The policy that says whose signature counts
    #[arg(long)]
    policy: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let is_home = arguments.store.join("store").is_dir();
    let store =
        Store::at(if is_home { arguments.store.join("store") } else { arguments.store.clone() });
    let note = store.read_manifest()?;
    let note = note.ok_or_else(|| StoreError::NoManifest { path: store.root().to_owned() })?;
    let refused = |source| StoreError::Refused { path: store.manifest_path(), source };
    let judged = match &arguments.policy {
        Some(policy) => {
            let policy = load_policy(policy)?;
            let judged = judge(&note, &policy, &Marks::default(), now_unix_s()).map_err(refused)?;
            if judged.expired && policy.stale == Stale::Refuse {
                return Err(refused(Refusal::Expired { at: judged.manifest.expires }).into());
            }
            judged
        }
        None => unpinned(&note).map_err(refused)?,
    };
    let generation = store.open(&judged)?;
    let signers: Vec<String> = judged.signers.iter().map(|key| key.name().to_owned()).collect();
    let manifest = &generation.manifest;
    if json {
        output::json(&json!({
            "store": store.root(),
            "epoch": manifest.epoch,
            "generation": manifest.generation,
            "records": manifest.tables[0].records,
            "signers": signers,
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
                println!("signed by {}, trusted by {}", signers.join(", "), policy.display())
            }
            None => println!("self-consistent, signers not pinned: say --policy FILE"),
        }
    }
    Ok(exit::OK)
}

/// What the manifest says, whoever signed it.
fn unpinned(note: &[u8]) -> Result<Judged, Refusal> {
    let hash = *blake3::hash(note).as_bytes();
    let note = Note::parse(note)?;
    let text = note.unverified_text();
    let origin = text.lines().next().and_then(|line| line.strip_suffix("/manifest"));
    let manifest = Manifest::parse(text, origin.unwrap_or_default())?;
    let expired = now_unix_s() >= manifest.expires;
    Ok(Judged { manifest, hash, signers: Vec::new(), expired })
}
