//! A token's life by the commands that people type, over a real daemon: how long from the start of
//! `adamant issue` to the first `valid`, from the start of `adamant revoke` to the first `revoked`,
//! every fsync included. Beside it, in the same run, what one durable file costs here.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use adamant::claims::Requirement;
use adamant::client::Client;
use adamant::verdict::Verdict;
use anyhow::ensure;

use crate::programs::{Program, connect};
use crate::report::{Figure, Report};
use crate::settings::{Settings, text};

const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let records = settings.sizes.life;
    let folder = tempfile::tempdir()?;
    let adamant = Program::find()?;
    let home = folder.path().join("home");
    adamant.run(&["init", text(&home), "--prefix", "bench"])?;
    report.section(&format!("A token's life, {records} tokens and events, by the command line"));
    bulk(&adamant, &home, records, report)?;
    // What the bulk has written is not on the disk yet, and every fsync would wait behind it.
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    let socket = folder.path().join("socket");
    let daemon = adamant.serve(&home, &socket)?;
    let mut life = Life { adamant, home, client: connect(&socket)? };
    let (mut floors, mut issues, mut revokes) = (Vec::new(), Vec::new(), Vec::new());
    let written = written_mib();
    for _ in 0..settings.lives {
        let began = Instant::now();
        floors.push(durable_file_ms(folder.path())?);
        let (token, took) = life.issue_ms()?;
        issues.push(took);
        revokes.push(life.revoke_ms(&token)?);
        let pace = Duration::from_secs(settings.pace_s);
        thread::sleep(pace.saturating_sub(began.elapsed()));
    }
    let written = written_mib() - written;
    drop(daemon);
    let each = Figure::of(vec![written * 1024.0 / settings.lives as f64]);
    report.base("written by the machine for an issue and a revoke", "KiB", &each);
    let floor = Figure::of(floors);
    report.base("floor: one file written, synced, renamed, folder synced", "ms", &floor);
    for (name, took) in [("issue to first valid", issues), ("revoke to first revoked", revokes)] {
        let p99 = percentile(&took, 99);
        report.figure(&format!("{name}, p50"), "ms", &Figure::of(took), ("floor", &floor));
        report.base(&format!("{name}, p99"), "ms", &Figure::of(vec![p99]));
    }
    Ok(())
}

/// Bulk issue, and the build of that ledger.
fn bulk(adamant: &Program, home: &Path, records: usize, report: &mut Report) -> anyhow::Result<()> {
    let count = records.to_string();
    let began = Instant::now();
    let options = ["--scope", "orders:read", "--subject", "customer-42", "--expires", "90d"];
    let issue =
        ["issue", "--home", text(home), "--kind", "live", "--no-publish", "--count", &count];
    adamant.run(&[&issue[..], &options].concat())?;
    let rate = records as f64 / began.elapsed().as_secs_f64() / 1e3;
    report.base("bulk issue", "k/s", &Figure::of(vec![rate]));
    let began = Instant::now();
    adamant.run(&["build", "--home", text(home)])?;
    let rate = records as f64 / began.elapsed().as_secs_f64() / 1e3;
    report.base("build from that ledger, and publish", "k/s", &Figure::of(vec![rate]));
    Ok(())
}

struct Life {
    adamant: Program,
    home: PathBuf,
    client: Client,
}

impl Life {
    fn issue_ms(&mut self) -> anyhow::Result<(String, f64)> {
        let began = Instant::now();
        let token = self.adamant.run(&["issue", "--home", text(&self.home), "--kind", "live"])?;
        let token = token.trim_end().to_owned();
        self.wait_for(&token, Verdict::Valid)?;
        Ok((token, began.elapsed().as_secs_f64() * 1e3))
    }

    fn revoke_ms(&mut self, token: &str) -> anyhow::Result<f64> {
        let id = &token[token.len() - 50..token.len() - 36];
        let began = Instant::now();
        let home = text(&self.home);
        let mut revoking =
            self.adamant.spawn(&["revoke", id, "--home", home, "--reason", "other"])?;
        self.wait_for(token, Verdict::Revoked)?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        ensure!(revoking.wait()?.success(), "revoke failed");
        Ok(took)
    }

    fn wait_for(&mut self, token: &str, wanted: Verdict) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.client.verify(token.as_bytes(), &Requirement::any())?.verdict() != wanted {
            ensure!(began.elapsed() < PATIENCE, "never {wanted}");
            // A service asks now and then; one that asks without pause takes half the machine.
            thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }
}

fn durable_file_ms(folder: &Path) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut file = File::create(folder.join("new"))?;
    file.write_all(&[7; 4096])?;
    file.sync_all()?;
    fs::rename(folder.join("new"), folder.join("named"))?;
    File::open(folder)?.sync_all()?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

/// Bytes that all disks of the machine have written, in MiB.
fn written_mib() -> f64 {
    let stat = fs::read_to_string("/proc/diskstats").unwrap_or_default();
    let sectors = |line: &str| line.split_whitespace().nth(9)?.parse::<f64>().ok();
    stat.lines().filter_map(sectors).sum::<f64>() * 512.0 / (1024.0 * 1024.0)
}

fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}
