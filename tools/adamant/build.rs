//! `adamant build`: the ledger becomes one base; with `--from FILE` a token list becomes the next
//! generation.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use adamant::builder::{
    BuildError, Built, OnChange, Options, Progress, Reject, Source, build, rebuild,
};
use adamant::store::Home;
use anyhow::Context;
use serde_json::json;

use crate::output::thousands;
use crate::{exit, output};

/// Refused lines that are shown; `--rejects` gets the others as well.
const SHOWN_MAX: usize = 20;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The token list, NDJSON or CSV with a header; - is standard input. Without it, the ledger
    #[arg(long)]
    from: Option<PathBuf>,
    /// Make the table of the first so many events, and say what it is, without publishing it
    #[arg(long, conflicts_with = "from")]
    at: Option<u64>,
    /// Where to write that table
    #[arg(long, requires = "at")]
    out: Option<PathBuf>,
    /// The home
    #[arg(long, env = "ADAMANT_HOME")]
    home: PathBuf,
    /// There is no generation before
    #[arg(long, conflicts_with = "previous")]
    first: bool,
    /// The manifest to compare with, where it is not the home's own
    #[arg(long)]
    previous: Option<PathBuf>,
    /// What to do about a token of which something frozen changed
    #[arg(long, value_enum, default_value_t = Change::Fail)]
    on_change: Change,
    /// Consent to this many tokens dying at once
    #[arg(long)]
    allow_loss: Option<u64>,
    /// Where to write refused lines' numbers and reasons
    #[arg(long)]
    rejects: Option<PathBuf>,
    /// The tokens behind the column sha256 have 128 random bits or more
    #[arg(long)]
    high_entropy: bool,
    /// Memory to keep to, such as 512M or 2G
    #[arg(long, default_value = "2G", value_parser = parse_size)]
    memory: usize,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Change {
    /// Refuse the list
    Fail,
    /// Revoke the token as it was
    Revoke,
}

pub(crate) fn run(arguments: &Arguments, json: bool) -> anyhow::Result<u8> {
    let home = Home::open(&arguments.home)?;
    let Some(from) = &arguments.from else { return of_ledger(arguments, &home, json) };
    let mut list = open_list(from)?;
    let options = Options {
        previous: arguments.previous.clone(),
        first: arguments.first,
        on_change: match arguments.on_change {
            Change::Fail => OnChange::Fail,
            Change::Revoke => OnChange::Revoke,
        },
        allow_loss: arguments.allow_loss,
        high_entropy: arguments.high_entropy,
        memory_bytes: arguments.memory,
    };
    let counter = output::counter("tokens");
    let built = build(&home, &mut list, &options, &mut |progress| match progress {
        Progress::Read(rows) | Progress::Written(rows) => counter.set_position(rows),
    });
    counter.finish_and_clear();
    if let Err(BuildError::Rejected { rejects, .. }) = &built {
        report_rejects(from, arguments.rejects.as_deref(), rejects)?;
    }
    report(&built?, json)?;
    Ok(exit::OK)
}

/// The ledger alone makes the table.
fn of_ledger(arguments: &Arguments, home: &Home, json: bool) -> anyhow::Result<u8> {
    let counter = output::counter("tokens");
    let mut progress = |records| counter.set_position(records);
    let (checkpoint, tiles) = home.read_ledger()?;
    let Some(at) = arguments.at else {
        let published = rebuild(home, &mut progress)?;
        counter.finish_and_clear();
        let manifest = &published.manifest;
        if json {
            output::json(&json!({
                "generation": manifest.generation, "records": manifest.records(),
                "events": manifest.ledger.0, "table": adamant::manifest::hex(&manifest.tables[0].hash),
            }))?;
        } else {
            let records = thousands(manifest.records());
            say!("generation {}: {records} records from the ledger", manifest.generation)?;
        }
        return Ok(exit::OK);
    };
    if at > checkpoint.size {
        let why = format!("--at {at}: the ledger has {} events", checkpoint.size);
        return Err(exit::Usage(why).into());
    }
    let tiles = tiles.first(at);
    let made = Source::of(home, &tiles).rebuild((0, at), &mut progress)?;
    counter.finish_and_clear();
    if let Some(out) = &arguments.out {
        let failed = || format!("cannot write {}", out.display());
        let mut file = File::open(made.table.path()).with_context(failed)?;
        io::copy(&mut file, &mut File::create(out).with_context(failed)?).with_context(failed)?;
    }
    let hash = adamant::manifest::hex(&made.table_written.hash);
    if json {
        output::json(
            &json!({ "table": hash, "records": made.table_written.records, "events": at }),
        )?;
    } else {
        say!("{hash}  {} records of {at} events", thousands(made.table_written.records))?;
    }
    Ok(exit::OK)
}

fn open_list(from: &Path) -> anyhow::Result<Box<dyn Read>> {
    if from == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    Ok(Box::new(file))
}

fn report_rejects(from: &Path, file: Option<&Path>, rejects: &[Reject]) -> anyhow::Result<()> {
    let name =
        if from == Path::new("-") { "standard input".into() } else { from.to_string_lossy() };
    for Reject { line, reason } in rejects.iter().take(SHOWN_MAX) {
        tell!("{name}:{line}: {reason}");
    }
    if rejects.len() > SHOWN_MAX {
        tell!("... and {} more (--rejects FILE writes them)", rejects.len() - SHOWN_MAX);
    }
    let Some(path) = file else { return Ok(()) };
    let write = || -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for Reject { line, reason } in rejects {
            writeln!(out, "{}", json!({ "line": line, "reason": reason }))?;
        }
        out.flush()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn report(built: &Built, json: bool) -> anyhow::Result<()> {
    let (manifest, changes) = (&built.published.manifest, &built.changes);
    let table = &manifest.tables[0];
    if json {
        return output::json(&json!({
            "generation": manifest.generation,
            "epoch": manifest.epoch,
            "manifest": adamant::manifest::hex(&built.published.hash),
            "table": adamant::manifest::hex(&table.hash),
            "rows": built.rows,
            "records": table.records,
            "table_bytes": table.bytes,
            "added": changes.added,
            "died": changes.died,
            "absent": changes.absent,
            "kept_revoked": changes.kept_revoked,
            "changed": changes.changed,
            "left": changes.left,
        }));
    }
    say!(
        "generation {}: {} tokens ({} listed, {} new, {} died)",
        manifest.generation,
        thousands(table.records),
        thousands(built.rows),
        thousands(changes.added),
        thousands(changes.died),
    )?;
    if changes.absent > 0 {
        let absent = thousands(changes.absent);
        say!("  {absent} were missing from the list and are revoked now")?;
    }
    if changes.kept_revoked > 0 {
        let kept = thousands(changes.kept_revoked);
        let ids: Vec<String> = changes.kept_revoked_ids.iter().map(ToString::to_string).collect();
        let more = if changes.kept_revoked > ids.len() as u64 { ", ..." } else { "" };
        say!(
            "  {kept} are listed with more trust than they had, and keep less: {}{more}",
            ids.join(", ")
        )?;
    }
    if changes.changed > 0 {
        let changed = thousands(changes.changed);
        say!("  {changed} are revoked, since something frozen at issue has changed")?;
    }
    Ok(())
}

fn parse_size(text: &str) -> Result<usize, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 10),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 20),
        Some(b'G' | b'g') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| "a size such as 512M or 2G".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}
