//! `adamant import`: tokens that another system made become events, by what it stored of them.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;

use adamant::builder::{Listed, read_lines};
use adamant::issuing::{IssuingError, Wanted};
use adamant::store::Home;
use adamant::table::Personal;
use adamant::table::format::{FOREIGN, Reason};
use adamant::time::TableTime;
use adamant::token::{Digest, ForeignAlgorithm};
use anyhow::Context;
use serde_json::json;

use crate::ledger::{self, Common};
use crate::output::thousands;
use crate::{exit, output};

/// A line, owned: a chunk of them waits until the ledger is free.
struct Imported {
    line: u64,
    digest: Digest,
    wanted: Wanted,
    revoked: Option<(i64, Reason)>,
    is_foreign: bool,
}

impl Imported {
    fn of(listed: &Listed<'_>) -> Imported {
        let Listed { entry, grant } = listed;
        let (record, time) = (&entry.record, |seconds: u32| TableTime(seconds).unix_s());
        let (subject, meta) = match entry.personal {
            Personal::Known { subject, meta } => (subject.to_owned(), meta.to_owned()),
            Personal::Erased => Default::default(),
        };
        let (not_before, expires) = (time(record.not_before.get()), time(record.expires.get()));
        let reason = Reason::from_number(entry.cold.reason);
        Imported {
            line: entry.line,
            digest: record.digest,
            wanted: Wanted { grant: grant.clone(), subject, meta, not_before, expires },
            revoked: time(record.revoked_at.get()).zip(reason),
            is_foreign: record.flags & FOREIGN != 0,
        }
    }
}

/// Tokens of one append.
const CHUNK: usize = 65_536;

#[derive(Clone, Copy, clap::ValueEnum)]
enum Algorithm {
    /// A column of SHA-256
    Sha256,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// How the other system hashed
    #[arg(long, value_enum)]
    algorithm: Algorithm,
    /// The list, NDJSON or CSV with a header, with a column sha256; - is standard input
    #[arg(long)]
    from: PathBuf,
    /// The tokens behind the hashes have 128 random bits or more
    #[arg(long)]
    high_entropy: bool,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let Algorithm::Sha256 = arguments.algorithm;
    let home = Home::open(&arguments.common.home)?;
    let mut list: Box<dyn Read> = if arguments.from.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        let path = &arguments.from;
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Box::new(BufReader::new(file))
    };
    let mut found = Vec::new();
    read_lines(&mut list, &home.policy().domain, arguments.high_entropy, &mut |listed| {
        found.push(Imported::of(listed));
        Ok(())
    })?;
    let (mut imported, mut before) = (0_u64, 0_u64);
    for chunk in found.chunks(CHUNK) {
        let mut registrar = ledger::open(&home)?;
        let origin = arguments.common.origin();
        for Imported { line, digest, wanted, revoked, is_foreign } in chunk {
            if !is_foreign {
                let why = format!(
                    "line {line}: only the column sha256 is imported; tokens of this deployment are issued"
                );
                return Err(exit::Data(why).into());
            }
            let id = match registrar.import(ForeignAlgorithm::Sha256, digest, wanted, &origin) {
                Ok((id, _)) => id,
                // Imported again: it is as it was.
                Err(IssuingError::DigestTaken { .. }) => {
                    before += 1;
                    continue;
                }
                Err(err) => return Err(anyhow::Error::new(err).context(format!("line {line}"))),
            };
            imported += 1;
            if let Some((at, reason)) = revoked {
                registrar.revoke(&id, *at, *reason, &origin)?;
            }
        }
        registrar.commit()?;
    }
    let published = ledger::publish(&home, &arguments.common)?;
    let generation = published.as_ref().map(|published| published.manifest.generation);
    if json {
        output::json(&json!({ "imported": imported, "before": before, "generation": generation }))?;
    } else {
        say!("{} imported, {} had been before", thousands(imported), thousands(before))?;
    }
    ledger::settle(&home, published.as_ref())?;
    Ok(exit::OK)
}
