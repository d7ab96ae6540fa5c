//! From a token list to a served table: `adamant build --from`, in memory and with files, beside
//! `sort(1)` and an LMDB that is appended to, over what the disk allows; then what a token takes,
//! and how long the daemon needs until its first answer.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use adamant::claims::Requirement;
use adamant::verdict::Verdict;
use anyhow::{Context, ensure};

use crate::disk::Rates;
use crate::homes::{self, List};
use crate::keys::Keys;
use crate::machine;
use crate::peers::lmdb::Lmdb;
use crate::programs::{Daemon, Program, connect};
use crate::report::{Fact, Figure, Report};
use crate::settings::{Settings, text};

/// Bytes of a line of the list: digest, id, kind, a subject of twelve bytes.
const LINE_BYTES: u64 = 160;
/// Bytes of a token in the table and its subjects, of a run while it is sorted, and of a peer.
const MADE_BYTES: u64 = 110;
const RUN_BYTES: u64 = 130;
const PEER_BYTES: u64 = 200;
const MIB: f64 = (1 << 20) as f64;
/// How often memory is looked at, which does not remember its own peak.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    in_memory(settings, report, folder.path())?;
    with_files(settings, report, folder.path())
}

/// A finished build.
struct Build {
    home: PathBuf,
    seconds: f64,
    /// Most private memory, and most of all that was mapped, in bytes.
    private_bytes: u64,
    mapped_bytes: u64,
}

impl Build {
    /// Builds the list into a new home.
    fn run(folder: &Path, list: &Path, memory: &str) -> anyhow::Result<Build> {
        let home = folder.join("home");
        if home.exists() {
            fs::remove_dir_all(&home)?;
        }
        homes::init(&home)?;
        let adamant = Program::find()?;
        let began = Instant::now();
        let mut child = adamant.spawn(&[
            "build",
            "--home",
            text(&home),
            "--from",
            text(list),
            "--memory",
            memory,
        ])?;
        let (private_bytes, mapped_bytes) = watch(&mut child)?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(child.wait()?.success(), "adamant build failed");
        Ok(Build { home, seconds, private_bytes, mapped_bytes })
    }
}

/// Waits for the end, and gives the most memory that was seen.
fn watch(child: &mut Child) -> anyhow::Result<(u64, u64)> {
    let (mut private, mut mapped) = (0, 0);
    while child.try_wait()?.is_none() {
        private = private.max(machine::process_bytes(child.id(), "RssAnon:"));
        mapped = mapped.max(machine::process_bytes(child.id(), "VmHWM:"));
        thread::sleep(LOOK);
    }
    Ok((private, mapped))
}

fn in_memory(settings: &Settings, report: &mut Report, folder: &Path) -> anyhow::Result<()> {
    let records = settings.sizes.build;
    report.section(&format!("Building from a list of {records} tokens, in memory"));
    let disk = records as u64 * (LINE_BYTES + 2 * MADE_BYTES + 2 * PEER_BYTES);
    if let Some(lack) = settings.sizes.lacks(records as u64 * (RUN_BYTES + PEER_BYTES), disk) {
        report.note(&format!("not measured: {lack}"));
        return Ok(());
    }
    let keys = Keys::new(9, records);
    let list = folder.join("list.ndjson");
    List::of_keys(&keys, 0, true).write(&list)?;
    let hex = folder.join("hex");
    write_hex(&keys, &hex)?;
    let sorted = keys.sorted();
    let rate = |seconds: f64| records as f64 / seconds / 1e6;
    let (mut ours, mut sort, mut lmdb) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = None;
    for _ in 0..settings.rounds.min(7) {
        // A list that is sorted in memory needs some five times the records' own size.
        let build = Build::run(folder, &list, "8G")?;
        ours.push(rate(build.seconds));
        last = Some(build);
        sort.push(rate(sort_s(&hex)?));
        let began = Instant::now();
        drop(Lmdb::new(folder, &sorted)?);
        lmdb.push(rate(began.elapsed().as_secs_f64()));
        fs::remove_dir_all(folder.join("lmdb"))?;
    }
    let last = last.context("at least one round")?;
    let [ours, sort, lmdb] = [ours, sort, lmdb].map(Figure::of);
    report.base("sort(1), 2 threads, the digests in hex", "M/s", &sort);
    report.base("LMDB, the digests appended in order", "M/s", &lmdb);
    let over = report.figure("adamant build --from", "M/s", &ours, ("sort(1)", &sort));
    report.fact(Fact::BuildOverSort, over);
    report.fact(Fact::BuildOverLmdb, ours.median() / lmdb.median());
    report.fact(Fact::BuildRate, ours.median());
    say_memory(report, &last);
    fs::remove_file(&list)?;
    fs::remove_file(&hex)?;
    say_bytes(report, &last.home, records)?;
    first_answer(settings, report, &last.home, &keys)?;
    Ok(fs::remove_dir_all(&last.home)?)
}

fn say_memory(report: &mut Report, build: &Build) {
    let private = Figure::once(build.private_bytes as f64 / MIB);
    let mapped = Figure::once(build.mapped_bytes as f64 / MIB);
    report.base("    private memory, at most", "MiB", &private);
    report.base("    the same with files that are mapped", "MiB", &mapped);
}

/// One digest a line, in hex.
fn write_hex(keys: &Keys, path: &Path) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    for digest in keys.all() {
        writeln!(out, "{}", blake3::Hash::from_bytes(digest))?;
    }
    Ok(out.flush()?)
}

fn sort_s(hex: &Path) -> anyhow::Result<f64> {
    let mut sort = Command::new("sort");
    sort.env("LC_ALL", "C").args(["--parallel=2", "-S", "2G", "-o"]).arg(hex.with_extension("out"));
    let began = Instant::now();
    ensure!(sort.arg(hex).stderr(Stdio::inherit()).status()?.success(), "sort failed");
    let took = began.elapsed().as_secs_f64();
    fs::remove_file(hex.with_extension("out"))?;
    Ok(took)
}

/// What a token takes in each file.
fn say_bytes(report: &mut Report, home: &Path, records: usize) -> anyhow::Result<()> {
    for (extension, name, fact) in [
        ("tbl", "table, bytes a token", Fact::TableBytes),
        ("sub", "subjects of 12 unique bytes, bytes a token", Fact::SubjectBytes),
    ] {
        let mut most = 0;
        for entry in fs::read_dir(home.join("store/tables"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|found| found == extension) {
                most = most.max(path.metadata()?.len());
            }
        }
        let bytes = most as f64 / records as f64;
        report.base(name, "B", &Figure::once(bytes));
        report.fact(fact, bytes);
    }
    Ok(())
}

/// From the start of the daemon to its first answer, with the files in the page cache.
fn first_answer(
    settings: &Settings,
    report: &mut Report,
    home: &Path,
    keys: &Keys,
) -> anyhow::Result<()> {
    let (mut starts, mut private) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds.min(7) {
        let began = Instant::now();
        let mut daemon = Daemon::start(home, "")?;
        let mut client = connect(&daemon.socket())?;
        let batch = client.verify_digests(&[keys.digest(0)], &Requirement::any())?;
        ensure!(batch.rows[0].verdict == Verdict::Valid, "{}", batch.rows[0].verdict);
        starts.push(began.elapsed().as_secs_f64());
        private.push(daemon.running().private_bytes() as f64 / MIB);
    }
    let [starts, private] = [starts, private].map(Figure::of);
    report.base("start of the daemon to its first answer", "s", &starts);
    report.base("private memory of the daemon", "MiB", &private);
    report.fact(Fact::DaemonStart, starts.median());
    report.fact(Fact::DaemonPrivate, private.median());
    Ok(())
}

/// A list that does not fit the memory it is given: sorted runs are written and merged.
fn with_files(settings: &Settings, report: &mut Report, folder: &Path) -> anyhow::Result<()> {
    let records = settings.sizes.build_large;
    let memory = if settings.is_quick { "2M" } else { "2G" };
    report.section(&format!("Building from a list of {records} tokens, --memory {memory}"));
    if let Some(why) = settings.leaves_out(records) {
        report.note(&format!("not measured: {why}"));
        return Ok(());
    }
    let disk = records as u64 * (LINE_BYTES + RUN_BYTES + MADE_BYTES);
    if let Some(lack) = settings.sizes.lacks(4 << 30, disk) {
        report.note(&format!("not measured: {lack}"));
        return Ok(());
    }
    let keys = Keys::new(9, records);
    let list = folder.join("list.ndjson");
    let list_bytes = List::of_keys(&keys, 0, true).write(&list)? as f64;
    let rates = Rates::measure(folder, if settings.is_quick { 16 << 20 } else { 2 << 30 })?;
    let build = Build::run(folder, &list, memory)?;
    let again = Rates::measure(folder, if settings.is_quick { 16 << 20 } else { 2 << 30 })?;
    report.base(
        "disk, written and synced",
        "MB/s",
        &Figure::of(vec![rates.write / 1e6, again.write / 1e6]),
    );
    report.base("disk, read", "MB/s", &Figure::of(vec![rates.read / 1e6, again.read / 1e6]));
    let made_bytes = made_bytes(&build.home)? as f64;
    // Pass one reads the list and writes runs, as large as the tables; pass two reads the runs and
    // writes the tables.
    let rates = Rates {
        write: f64::midpoint(rates.write, again.write),
        read: f64::midpoint(rates.read, again.read),
    };
    let allowed_s = (list_bytes + made_bytes) / rates.read + 2.0 * made_bytes / rates.write;
    let rate = |seconds: f64| Figure::once(records as f64 / seconds / 1e6);
    let (allowed, ours) = (rate(allowed_s), rate(build.seconds));
    report.base("what the disk allows in two passes", "M/s", &allowed);
    let part = report.figure("adamant build --from", "M/s", &ours, ("the disk", &allowed));
    report.fact(Fact::BuildOverDisk, part);
    say_memory(report, &build);
    let limit = if settings.is_quick { 2 << 20 } else { 2_u64 << 30 };
    report.fact(Fact::BuildMemoryOverLimit, build.private_bytes as f64 / limit as f64);
    Ok(())
}

/// All files of tables.
fn made_bytes(home: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(home.join("store/tables"))? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
