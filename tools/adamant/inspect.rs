//! `adamant inspect FILE`: what a file of the store says about itself.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use adamant::manifest::Manifest;
use adamant::note::{NOTE_BYTES_MAX, Note};
use adamant::table::{Subjects, Table, TableError};
use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::{exit, output};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A table, a subjects file, or a manifest
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let path = &arguments.file;
    let found = look_at(path).with_context(|| format!("{}", path.display()));
    let found = match found {
        Err(err) if err.chain().any(|err| err.is::<TableError>()) => {
            tell!("adamant: {err:#}");
            return Ok(exit::DATA);
        }
        other => other?,
    };
    if json {
        output::json(&found)?;
    } else {
        for (name, value) in found.as_object().into_iter().flatten() {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            say!("{name:<14}{plain}")?;
        }
    }
    Ok(exit::OK)
}

fn look_at(path: &Path) -> anyhow::Result<Value> {
    let file = File::open(path)?;
    let mut head = Vec::new();
    (&file).take(NOTE_BYTES_MAX as u64).read_to_end(&mut head)?;
    if head.starts_with(&adamant::table::format::MAGIC) {
        return table(&file);
    }
    match Subjects::open(&file) {
        Ok(subjects) => return self::subjects(&subjects),
        Err(TableError::NotSubjects | TableError::Io(_)) => {}
        Err(err) => return Err(err.into()),
    }
    manifest(&head)
}

fn table(file: &File) -> anyhow::Result<Value> {
    let table = Table::open(file)?;
    table.verify()?;
    let domain = table.domain();
    let foreign = domain.foreign.map(|algorithm| algorithm.name());
    let (from, to) = table.range();
    Ok(json!({
        "file": "table, version 1, every byte checked",
        "blake3": blake3::hash(table.bytes()).to_string(),
        "bytes": table.bytes().len(),
        "records": table.records().len(),
        "grants": table.grant_count(),
        "prefix": domain.prefix.as_str(),
        "domain key": format!("{:?}", domain.key),
        "foreign": foreign.unwrap_or("none"),
        "ledger range": format!("{from} to {to}"),
    }))
}

fn subjects(subjects: &Subjects) -> anyhow::Result<Value> {
    subjects.verify()?;
    Ok(json!({
        "file": "subjects, version 1, every byte checked",
        "blake3": blake3::hash(subjects.bytes()).to_string(),
        "bytes": subjects.bytes().len(),
        "records": subjects.len(),
    }))
}

fn manifest(bytes: &[u8]) -> anyhow::Result<Value> {
    let Ok(note) = Note::parse(bytes) else {
        bail!(TableError::NotATable);
    };
    let text = note.unverified_text();
    let origin = text.lines().next().and_then(|line| line.strip_suffix("/manifest"));
    let manifest = Manifest::parse(text, origin.unwrap_or_default())?;
    let signers: Vec<&str> = note.signer_names().collect();
    Ok(json!({
        "file": "manifest (signatures not checked: see verify-store --policy)",
        "blake3": blake3::hash(bytes).to_string(),
        "origin": manifest.origin,
        "epoch": manifest.epoch,
        "generation": manifest.generation,
        "issued": adamant::time::to_rfc3339(manifest.issued),
        "expires": adamant::time::to_rfc3339(manifest.expires),
        "table": adamant::manifest::hex(&manifest.tables[0].hash),
        "records": manifest.tables[0].records,
        "signed by": signers.join(", "),
    }))
}
