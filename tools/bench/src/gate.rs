//! Instructions of the verdict path's kernels, beside those that are kept in `instructions.json`.
//!
//! Seconds differ from hour to hour and machine to machine, instructions do not: so these can be
//! held, and a change that costs more than [`TOLERANCE`] is seen before it is merged. Each kernel
//! runs twice under callgrind, many times over and not at all; what lies between is its own.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::process::Command;

use adamant::claims::Requirement;
use adamant::durable::NewFile;
use adamant::table::Table;
use adamant::time::TableTime;
use adamant::token::Digest;
use adamant::verdict::{Standing, Verdict, judge};
use adamant::wire::{Request, cut_frame, push_verify};
use anyhow::{Context, bail, ensure};

use crate::index::write;
use crate::keys::Random;
use crate::report::{Figure, Report};

/// Kept beside the source: what each kernel took when it was last changed.
const KEPT: &str = include_str!("../instructions.json");
/// How much more than that is a regression.
const TOLERANCE: f64 = 0.03;
/// Operations of one run.
const TIMES: usize = 200_000;
/// Records of the table: all of it is in the cache, and nothing here waits for memory.
const RECORDS: usize = 20_000;
const BATCH: usize = 128;
/// Digests of the largest frame.
const FRAME_DIGESTS: usize = 1024;

type Kernel = fn(usize) -> anyhow::Result<usize>;

/// Each kernel, and what it is counted by.
const KERNELS: [(&str, Kernel); 4] = [
    ("get_many, a digest", get_many),
    ("frame of one digest", |times| decode(times, 1)),
    ("frame of 1,024 digests", |times| decode(times / 100, FRAME_DIGESTS)),
    ("verdict", verdicts),
];

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let kept: BTreeMap<String, f64> = serde_json::from_str(KEPT).context("instructions.json")?;
    report.section("Instructions (callgrind), beside those that are kept");
    let mut grown = Vec::new();
    for (number, (name, _)) in KERNELS.iter().enumerate() {
        let kept = kept.get(*name).with_context(|| format!("instructions.json lacks `{name}`"))?;
        let ((with, done), (without, _)) = (counted(number, TIMES)?, counted(number, 0)?);
        let found = (with - without) / done as f64;
        let figure = Figure::of(vec![found]);
        report.figure(name, "instructions", &figure, ("kept", &Figure::of(vec![*kept])));
        if found > kept * (1.0 + TOLERANCE) {
            grown.push(format!("{name}: {found:.1}, kept {kept:.1}"));
        }
    }
    if !grown.is_empty() {
        bail!(
            "more than {:.0} % above tools/bench/instructions.json: {}. If that buys something, put \
             the new figures there and say what",
            TOLERANCE * 100.0,
            grown.join("; ")
        );
    }
    Ok(())
}

/// Instructions of this program when it is started again for a kernel, and how often it ran.
fn counted(kernel: usize, times: usize) -> anyhow::Result<(f64, usize)> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["gate-once", &kernel.to_string(), &times.to_string()])
        .output()
        .context("valgrind is not installed")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split("Collected : ").nth(1));
    let collected = collected.context("callgrind counted nothing")?.trim().parse()?;
    let done =
        String::from_utf8_lossy(&output.stdout).lines().last().unwrap_or_default().parse()?;
    Ok((collected, done))
}

/// One kernel, in a process of its own. Says how often it ran.
pub(crate) fn once(kernel: usize, times: usize) -> anyhow::Result<()> {
    let (_, run) = KERNELS.get(kernel).context("no such kernel")?;
    println!("{}", run(times)?);
    Ok(())
}

/// Half of them hits.
fn get_many(times: usize) -> anyhow::Result<usize> {
    let folder = tempfile::tempdir()?;
    let mut random = Random::new(5);
    let mut present: Vec<Digest> = (0..RECORDS).map(|_| random.digest()).collect();
    present.sort_unstable();
    let new = NewFile::create(folder.path())?;
    write(&new, folder.path(), &present)?;
    let table = Table::open(new.file())?;
    let digest = |number: usize| match number % 2 {
        0 => present[random.below(RECORDS)],
        _ => random.digest(),
    };
    let asked: Vec<Digest> = (0..RECORDS).map(digest).collect();
    let (rounds, mut found) = (times / RECORDS, 0);
    for batch in (0..rounds).flat_map(|_| asked.chunks(BATCH)) {
        table.get_many(black_box(batch), |_, record| found += usize::from(record.is_some()));
    }
    ensure!(found == rounds * RECORDS / 2, "{found} found in {rounds} rounds");
    Ok(rounds * RECORDS)
}

fn decode(times: usize, digests: usize) -> anyhow::Result<usize> {
    let mut frame = Vec::new();
    push_verify(&mut frame, false, &Requirement::any(), &vec![[7; 32]; digests])?;
    for _ in 0..times {
        let cut = cut_frame(black_box(&frame)).ok().flatten().context("a whole frame")?;
        let Ok(Request::Verify(verify)) = Request::decode(cut.0) else { bail!("no VERIFY") };
        ensure!(verify.digests.len() == digests, "another number of digests");
    }
    Ok(times)
}

fn verdicts(times: usize) -> anyhow::Result<usize> {
    let standing = Standing {
        revoked: false,
        not_before: TableTime(100),
        expires: TableTime(200),
        revoked_at: TableTime::NONE,
    };
    let mut valid = 0;
    for number in 0..times {
        let now = TableTime(u32::try_from(number % 250)?);
        valid += usize::from(judge(black_box(&standing), now, || Ok(())) == Verdict::Valid);
    }
    ensure!(valid == times / 250 * 100 + (times % 250).saturating_sub(100).min(100), "{valid}");
    Ok(times)
}
