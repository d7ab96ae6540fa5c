//! Instructions of a look-up with its verdict: in one table alone, in a generation of it, under two
//! overlays, and under a note as well. The same program runs once with look-ups and once without
//! under callgrind; what lies between is theirs. Seconds differ from hour to hour, instructions do
//! not.

use std::path::{Path, PathBuf};
use std::process::Command;

use adamant::builder::{self, publish_empty};
use adamant::claims::Grant;
use adamant::issuing::{Registrar, Wanted, actor};
use adamant::ledger::Origin;
use adamant::revocations::{Revocation, Revocations};
use adamant::store::Home;
use adamant::table::format::Reason;
use adamant::time::TableTime;
use adamant::token::Digest;
use adamant::verdict::{Verdict, judge};
use anyhow::{Context, ensure};

use crate::keys::Random;
use crate::report::{Figure, Report};

const BATCH: usize = 128;
const BASE: u64 = 100_000;
const OVERLAY: u64 = 16_000;
const NOTE: usize = 10_000;
/// Look-ups of one run, which takes seconds, so there is no smaller size for `--quick`: half of them hits in the base.
const LOOKUPS: usize = 100_000;

/// What is looked up in.
const WAYS: [&str; 4] = ["table", "generation", "overlays", "note"];

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let home = make(folder.path())?;
    report.section("Instructions a look-up with verdict, half of them hits (callgrind)");
    let mut first = None;
    for way in WAYS {
        let (with, without) = (count(&home, way, LOOKUPS)?, count(&home, way, 0)?);
        let each = Figure::of(vec![(with - without) / LOOKUPS as f64]);
        match &first {
            None => {
                report.base(way, "instructions", &each);
                first = Some(each);
            }
            Some(table) => {
                report.figure(way, "instructions", &each, ("table", table));
            }
        }
    }
    Ok(())
}

/// A home with a base; two overlays above a copy of it are in `overlays`.
fn make(folder: &Path) -> anyhow::Result<PathBuf> {
    let path = folder.join("home");
    let home = Home::init(&path, "bench".parse()?, "bench/adamant")?;
    publish_empty(&home)?;
    issue(&home, BASE)?;
    builder::rebuild(&home, &mut |_| {})?;
    let copied = Command::new("cp").arg("-a").arg(&path).arg(folder.join("overlays")).status()?;
    ensure!(copied.success(), "cp failed");
    let above = Home::open(&folder.join("overlays"))?;
    for _ in 0..2 {
        issue(&above, OVERLAY)?;
        builder::publish(&above, &mut |_| {})?;
    }
    Ok(path)
}

fn issue(home: &Home, count: u64) -> anyhow::Result<()> {
    let grant = Grant::new("live".parse()?, "", vec!["orders:read".to_owned()])?;
    let (subject, meta) = (String::new(), String::new());
    let wanted = Wanted { grant, subject, meta, not_before: None, expires: None };
    let mut registrar = Registrar::open(home, &mut |_| {})?;
    registrar.issue_many(&wanted, count, &Origin { actor: actor(), ..Origin::default() })?;
    registrar.commit()?;
    Ok(())
}

/// Instructions of this program when it is started again for `lookups` look-ups.
fn count(home: &Path, way: &str, lookups: usize) -> anyhow::Result<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["stack-once", way, &lookups.to_string()])
        .arg(home)
        .output()
        .context("valgrind is not installed")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    collected.context("callgrind counted nothing")?.trim().parse().context("not a number")
}

/// The look-ups of one way, in a process of their own.
pub(crate) fn once(way: &str, lookups: usize, home: &Path) -> anyhow::Result<()> {
    let is_above = way == "overlays" || way == "note";
    let home = if is_above { home.with_file_name("overlays") } else { home.to_owned() };
    let home = Home::open(&home)?;
    let previous = home.current()?.context("nothing was published")?;
    let generation = previous.store.open(&previous.judged)?;
    let expected = if is_above { 3 } else { 1 };
    ensure!(generation.layers().len() == expected, "{way}: not {expected} tables");
    let records = generation.base().table.records();
    let mut random = Random::new(7);
    let mut digest = |number: usize| match number % 2 {
        0 => records[random.below(records.len())].digest,
        _ => random.digest(),
    };
    let digests: Vec<Digest> = (0..lookups).map(&mut digest).collect();
    let mut noise = Random::new(9);
    let noted = |_| {
        let (at, reason) = (TableTime(1), Reason::Other);
        Revocation { digest: noise.digest(), at, reason }
    };
    let noted: Vec<Revocation> = (0..NOTE).map(noted).collect();
    let note = (way == "note").then(|| Revocations::of(noted));
    let now = TableTime(200_000_000);
    let mut valid = 0;
    for batch in digests.chunks(BATCH) {
        if way == "table" {
            generation.base().table.get_many(batch, |_, found| {
                let verdict = found.map(|found| judge(&found.record.standing(), now, || Ok(())));
                valid += usize::from(verdict == Some(Verdict::Valid));
            });
            continue;
        }
        generation.get_many(batch, |_, found| {
            let verdict = found.map(|found| {
                let mut standing = found.record.standing();
                if let Some(at) = note.as_ref().and_then(|note| note.get(&found.record.digest)) {
                    standing = standing.ending_at(at);
                }
                judge(&standing, now, || Ok(()))
            });
            valid += usize::from(verdict == Some(Verdict::Valid));
        });
    }
    ensure!(valid == lookups.div_ceil(2), "{valid} valid of {lookups}");
    Ok(())
}
