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
use adamant::token::Digest;
use adamant::verdict::Verdict;
use anyhow::{Context, ensure};

use crate::disk::Rates;
use crate::homes::{self, List};
use crate::keys::{Keys, Spread};
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
/// Memory in which all of a list is sorted.
const IN_MEMORY: &str = "8G";
/// Rounds of what takes many seconds.
const ROUNDS_MAX: usize = 7;
const MIB: f64 = (1 << 20) as f64;
/// How often memory is looked at, which does not remember its own peak.
const LOOK: Duration = Duration::from_millis(5);

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    tenth(settings, report, folder.path())?;
    in_memory(settings, report, folder.path())?;
    uneven(settings, report, folder.path())?;
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
    if let Some(why) = settings.leaves_out(records, records as u64 * (RUN_BYTES + PEER_BYTES), disk)
    {
        report.note(&format!("not measured: {why}"));
        return Ok(());
    }
    let keys = Keys::new(9, records);
    let inputs = Inputs::write(folder, keys)?;
    let mut rounds = Rounds::default();
    for _ in 0..settings.rounds.min(ROUNDS_MAX) {
        rounds.add(&inputs, disk_bytes(settings))?;
    }
    inputs.remove()?;
    let home = rounds.say(report, records)?;
    say_bytes(report, &home, records)?;
    let (start, private) = first_answer(settings, report, &home, &keys)?;
    report.fact(Fact::DaemonStart, start.median());
    report.fact(Fact::DaemonPrivate, private.median());
    Ok(fs::remove_dir_all(&home)?)
}

/// The lines of the plot.
const BUILD_LINE: &str = "build";
const START_LINE: &str = "daemon's first answer";
const MEMORY_LINE: &str = "daemon's memory";

/// A tenth of the list, for the plot.
fn tenth(settings: &Settings, report: &mut Report, folder: &Path) -> anyhow::Result<()> {
    let records = settings.sizes.build / 10;
    report.section(&format!("Building from a list of {records} tokens, in memory"));
    let keys = Keys::new(9, records);
    let list = folder.join("list.ndjson");
    List::of_keys(&keys, 0, true).write(&list)?;
    let mut seconds = Vec::new();
    for _ in 0..settings.rounds.min(ROUNDS_MAX) {
        seconds.push(Build::run(folder, &list, IN_MEMORY)?.seconds);
    }
    let seconds = Figure::of(seconds);
    report.base("adamant build --from", "s", &seconds);
    report.point(BUILD_LINE, records, &seconds);
    first_answer(settings, report, &folder.join("home"), &keys)?;
    Ok(fs::remove_file(list)?)
}

/// Digests that no hash would give, which fall into few of the sorter's buckets: half as many, so
/// that what grows faster than the list is seen.
fn uneven(settings: &Settings, report: &mut Report, folder: &Path) -> anyhow::Result<()> {
    let records = settings.sizes.build / 10;
    report.section(&format!("Building from {records} digests that are no hashes, and from half"));
    let mut rates = [Vec::new(), Vec::new()];
    for spread in std::iter::once(Spread::Even).chain(Spread::UNEVEN) {
        for (records, rates) in [records, records / 2].into_iter().zip(&mut rates) {
            let list = folder.join("list.ndjson");
            List::of_keys(&Keys::spread(9, records, spread), 0, true).write(&list)?;
            let build = Build::run(folder, &list, IN_MEMORY)?;
            rates.push(records as f64 / build.seconds / 1e6);
            fs::remove_file(list)?;
        }
        let [whole, half] = rates.each_mut().map(|rates| Figure::of(std::mem::take(rates)));
        let name = spread.name();
        report.base(&format!("{name}, half of them"), "M/s", &half);
        report.figure(&format!("{name}, all"), "M/s", &whole, ("half of them", &half));
    }
    Ok(())
}

/// The same digests, as each side takes them.
struct Inputs {
    folder: PathBuf,
    list: PathBuf,
    hex: PathBuf,
    sorted: Vec<Digest>,
}

impl Inputs {
    fn write(folder: &Path, keys: Keys) -> anyhow::Result<Inputs> {
        let (list, hex) = (folder.join("list.ndjson"), folder.join("hex"));
        List::of_keys(&keys, 0, true).write(&list)?;
        let mut out = BufWriter::with_capacity(1 << 20, File::create(&hex)?);
        for digest in keys.all() {
            writeln!(out, "{}", blake3::Hash::from_bytes(digest))?;
        }
        out.flush()?;
        Ok(Inputs { folder: folder.to_owned(), list, hex, sorted: keys.sorted() })
    }

    fn remove(self) -> anyhow::Result<()> {
        fs::remove_file(self.list)?;
        Ok(fs::remove_file(self.hex)?)
    }
}

/// Millions of tokens a second of each side, by rounds.
#[derive(Default)]
struct Rounds {
    disk: Vec<f64>,
    ours: Vec<f64>,
    sort: Vec<f64>,
    lmdb: Vec<f64>,
    last: Option<Build>,
}

impl Rounds {
    fn add(&mut self, inputs: &Inputs, disk_bytes: usize) -> anyhow::Result<()> {
        let records = inputs.sorted.len() as f64;
        let rate = |seconds: f64| records / seconds / 1e6;
        let build = Build::run(&inputs.folder, &inputs.list, IN_MEMORY)?;
        self.ours.push(rate(build.seconds));
        let disk = Rates::measure(&inputs.folder, disk_bytes)?;
        self.disk.push(rate(made_bytes(&build.home)? as f64 / disk.write));
        self.last = Some(build);
        self.sort.push(rate(sort_s(&inputs.hex)?));
        let began = Instant::now();
        drop(Lmdb::new(&inputs.folder, &inputs.sorted)?);
        self.lmdb.push(rate(began.elapsed().as_secs_f64()));
        Ok(fs::remove_dir_all(inputs.folder.join("lmdb"))?)
    }

    /// Prints all, and gives the home that was built last.
    fn say(self, report: &mut Report, records: usize) -> anyhow::Result<PathBuf> {
        let [disk, ours, sort, lmdb] = [self.disk, self.ours, self.sort, self.lmdb].map(Figure::of);
        report.base("floor: as many bytes written and synced", "M/s", &disk);
        report.base("sort(1), 2 threads, the digests in hex", "M/s", &sort);
        report.base("LMDB, the digests appended in order", "M/s", &lmdb);
        report.figure("adamant build --from", "M/s", &ours, ("floor", &disk));
        let over_sort = report.figure("    the same", "M/s", &ours, ("sort(1)", &sort));
        let over_lmdb = report.figure("    the same", "M/s", &ours, ("LMDB", &lmdb));
        report.fact(Fact::BuildRate, ours.median());
        report.fact(Fact::BuildOverSort, over_sort);
        report.fact(Fact::BuildOverLmdb, over_lmdb);
        let last = self.last.context("at least one round")?;
        let seconds = Figure::once(records as f64 / ours.median() / 1e6);
        report.point(BUILD_LINE, records, &seconds);
        say_memory(report, &last);
        Ok(last.home)
    }
}

/// Bytes that are written to learn what the disk does.
fn disk_bytes(settings: &Settings) -> usize {
    if settings.is_quick { 16 << 20 } else { 1 << 30 }
}

fn say_memory(report: &mut Report, build: &Build) {
    let private = Figure::once(build.private_bytes as f64 / MIB);
    let mapped = Figure::once(build.mapped_bytes as f64 / MIB);
    report.base("    private memory, at most", "MiB", &private);
    report.base("    the same with files that are mapped", "MiB", &mapped);
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

/// Seconds from the start of the daemon to its first answer, with the files in the page cache, and
/// its private memory in MiB.
fn first_answer(
    settings: &Settings,
    report: &mut Report,
    home: &Path,
    keys: &Keys,
) -> anyhow::Result<(Figure, Figure)> {
    let (mut starts, mut private) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds.min(ROUNDS_MAX) {
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
    report.point(START_LINE, keys.count(), &starts);
    report.point(MEMORY_LINE, keys.count(), &private);
    Ok((starts, private))
}

/// A list that does not fit the memory it is given: sorted runs are written and merged.
fn with_files(settings: &Settings, report: &mut Report, folder: &Path) -> anyhow::Result<()> {
    let records = settings.sizes.build_large;
    let (memory, memory_bytes) = if settings.is_quick { ("2M", 2 << 20) } else { ("2G", 2 << 30) };
    report.section(&format!("Building from a list of {records} tokens, --memory {memory}"));
    let disk = records as u64 * (LINE_BYTES + RUN_BYTES + MADE_BYTES);
    if let Some(why) = settings.leaves_out(records, 2 * memory_bytes, disk) {
        report.note(&format!("not measured: {why}"));
        return Ok(());
    }
    let keys = Keys::new(9, records);
    let list = folder.join("list.ndjson");
    let list_bytes = List::of_keys(&keys, 0, true).write(&list)?;
    let before = Rates::measure(folder, disk_bytes(settings))?;
    let build = Build::run(folder, &list, memory)?;
    let after = Rates::measure(folder, disk_bytes(settings))?;
    let both = |rate: fn(&Rates) -> f64| vec![rate(&before) / 1e6, rate(&after) / 1e6];
    report.base("disk, written and synced", "MB/s", &Figure::of(both(|rates| rates.write)));
    report.base("disk, read", "MB/s", &Figure::of(both(|rates| rates.read)));
    let rate = |seconds: f64| Figure::once(records as f64 / seconds / 1e6);
    let allowed = rate(two_passes_s(before.mean(after), list_bytes, made_bytes(&build.home)?));
    report.base("what the disk allows in two passes", "M/s", &allowed);
    let ours = rate(build.seconds);
    let part = report.figure("adamant build --from", "M/s", &ours, ("the disk", &allowed));
    report.fact(Fact::BuildOverDisk, part);
    say_memory(report, &build);
    let part = build.private_bytes as f64 / memory_bytes as f64;
    report.fact(Fact::BuildMemoryOverLimit, part);
    report.point(BUILD_LINE, records, &Figure::once(build.seconds));
    fs::remove_file(list)?;
    first_answer(settings, report, &build.home, &keys)?;
    Ok(())
}

/// Pass one reads the list and writes runs, as large as the tables. Pass two reads the runs and
/// writes the tables.
fn two_passes_s(disk: Rates, list_bytes: u64, made_bytes: u64) -> f64 {
    (list_bytes + made_bytes) as f64 / disk.read + (2 * made_bytes) as f64 / disk.write
}

/// All files of tables.
fn made_bytes(home: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(home.join("store/tables"))? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes)
}
