//! Look-ups through the library, with the verdict evaluated, over the floor of one random line and
//! beside a binary search of the same digests: in 2 MiB pages, and again in 4 KiB pages, in a
//! process of its own that is given no others.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use adamant::durable::NewFile;
use adamant::table::format::{Cold, Record};
use adamant::table::{Entry, Load, Personal, Table, TableSpec, TableWriter};
use adamant::time::TableTime;
use adamant::token::{Digest, Domain, DomainKey};
use adamant::verdict::{Verdict, judge};
use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::floors::{Region, region_bytes};
use crate::keys::{Answers, BLOCK, Draw, Keys, Spread, Way, value_of};
use crate::lines::Counter;
use crate::machine;
use crate::peers::{Peer, Sorted};
use crate::report::{Fact, Figure, Report};
use crate::settings::Settings;

/// Digests of one call, as a busy socket brings them, where nothing else is said.
pub(crate) const BATCH: usize = 128;

/// Digests of one call that has many: what G1 and G3 are about, as G7 is.
const LARGE_BATCH: usize = 1024;

/// Below this share of 2 MiB pages, in percent, a map of the file is not what it could be.
const HUGE_PERCENT_MIN: f64 = 90.0;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    machine::pin(0)?;
    let mut over_floor = Vec::new();
    for &records in &settings.sizes.index {
        report.section(&format!(
            "Look-ups, {records} records, batches of {BATCH}, one core, verdict evaluated"
        ));
        match settings.leaves_out(records, memory_bytes(records), table_bytes(records)) {
            Some(why) => report.note(&format!("not measured: {why}")),
            None => over_floor.push((records, measure(settings, report, records)?)),
        }
    }
    let hit_of = |records| over_floor.iter().find(|(size, _)| *size == records).map(|(_, hit)| hit);
    let (middle, large) = (settings.sizes.middle, settings.sizes.large);
    if let (Some(middle), Some(large)) = (hit_of(middle), hit_of(large)) {
        report.fact(Fact::HitLargeOverMiddle, large.median() / middle.median());
    }
    uneven(settings, report)?;
    machine::unpin()
}

/// Digests that no hash would give, beside a binary search of the same ones.
fn uneven(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let records = settings.sizes.index[0];
    report.section(&format!("Look-ups of digests that are no hashes, {records} records"));
    for spread in Spread::UNEVEN {
        let folder = tempfile::tempdir()?;
        let keys = Keys::spread(records as u64, records, spread);
        let sorted = keys.sorted();
        let new = NewFile::create(folder.path())?;
        write(&new, folder.path(), &sorted)?;
        let table = Table::open(new.file())?;
        table.verify()?;
        let peer = Sorted::new(&sorted);
        let (mut ours, mut search) = (Vec::new(), Vec::new());
        for round in 0..settings.rounds {
            let mut draw = Draw::new(keys, round as u64 + 3);
            let lookups = settings.lookups / 10;
            let of_table = |block: &[Digest]| of_table(&table, block, BATCH);
            ours.push(look_up_ns(&mut draw, Way::Half, lookups, of_table)?);
            let of_peer = |block: &[Digest]| peer.look_up(block);
            search.push(look_up_ns(&mut draw, Way::Half, lookups, of_peer)?);
        }
        let [ours, search] = [ours, search].map(Figure::of);
        let name = spread.name();
        report.base(&format!("slice::binary_search, {name}, half of each"), "ns", &search);
        let beside = ("slice::binary_search", &search);
        report.figure(&format!("get_many, {name}, half of each"), "ns", &ours, beside);
    }
    Ok(())
}

/// Memory for the digests in order, the floor, and the map; once more for the copy in small pages,
/// when the digests are gone.
fn memory_bytes(records: usize) -> u64 {
    region_bytes(records)
        + table_bytes(records)
        + (records * size_of::<Digest>()) as u64
        + (1 << 30)
}

/// The file, with what its directory and padding may take.
pub(crate) fn table_bytes(records: usize) -> u64 {
    records as u64 * 80 + (8 << 20)
}

/// Measures in both sizes of pages. Gives the figure of a hit in the larger one.
fn measure(settings: &Settings, report: &mut Report, records: usize) -> anyhow::Result<Figure> {
    let folder = tempfile::tempdir()?;
    let keys = Keys::new(records as u64, records);
    let sorted = keys.sorted();
    let new = NewFile::create(folder.path())?;
    write(&new, folder.path(), &sorted)?;
    let table = open(new.file(), report)?;
    table.verify()?;
    let region = Region::new(records)?;
    let sides = Sides { table: &table, region: &region, keys, peer: Some(Sorted::new(&sorted)) };
    let measured =
        report.steady(settings.tries, || sides.measure(settings), |measured| &measured.floor)?;
    let hit = say(report, "2 MiB", &measured, records);
    count_lines(settings, report, &table, keys)?;
    drop((table, region, sorted));
    let small = report.steady(
        settings.tries,
        || in_small_pages(settings, new.file(), records),
        |measured| &measured.floor,
    )?;
    say(report, "4 KiB", &small, records);
    let ratio = hit.median() / Figure::of(measured.floor).median();
    if records == settings.sizes.middle {
        report.fact(Fact::HitMiddleOverFloor, ratio);
    }
    if records == settings.sizes.large {
        report.fact(Fact::HitLargeOverFloor, ratio);
    }
    Ok(hit)
}

/// Mapped, or copied where the file system has no 2 MiB pages.
fn open(file: &File, report: &mut Report) -> anyhow::Result<Table> {
    let table = Table::load(file, Load::Map)?;
    let percent = huge_percent(&table);
    if percent >= HUGE_PERCENT_MIN {
        return Ok(table);
    }
    report.note(&format!("{percent:.0} % of a map in 2 MiB pages: copied into private memory"));
    Ok(Table::load(file, Load::Copy)?)
}

fn huge_percent(table: &Table) -> f64 {
    100.0 * table.huge_bytes() as f64 / table.bytes().len() as f64
}

fn count_lines(
    settings: &Settings,
    report: &mut Report,
    table: &Table,
    keys: Keys,
) -> anyhow::Result<()> {
    let counter = Counter::new(table)?;
    let mut draw = Draw::new(keys, 11);
    for (way, fact) in [(Way::Hits, Fact::HitLines), (Way::Misses, Fact::MissLines)] {
        let mean = counter.mean(&mut draw, way, settings.lookups / 2);
        report.base(
            &format!("cache lines a look-up, {}", way.name()),
            "lines",
            &Figure::once(mean),
        );
        report.fact(fact, mean);
    }
    Ok(())
}

/// What takes part in a round.
struct Sides<'a> {
    table: &'a Table,
    region: &'a Region,
    keys: Keys,
    peer: Option<Sorted<'a>>,
}

/// Nanoseconds of all rounds.
struct Measured {
    table_huge_percent: f64,
    floor_huge_percent: f64,
    floor: Vec<f64>,
    /// By [`Way`].
    ours: [Vec<f64>; 3],
    /// Hits in large batches.
    large: Vec<f64>,
    peer: Vec<f64>,
}

impl Sides<'_> {
    fn measure(&self, settings: &Settings) -> anyhow::Result<Measured> {
        let mut measured = Measured {
            table_huge_percent: huge_percent(self.table),
            floor_huge_percent: self.region.huge_percent(),
            floor: Vec::new(),
            ours: [const { Vec::new() }; 3],
            large: Vec::new(),
            peer: Vec::new(),
        };
        let lookups = settings.lookups;
        for round in 0..settings.rounds {
            let mut draw = Draw::new(self.keys, round as u64 + 3);
            measured.floor.push(self.region.prefetched_ns(lookups, draw.random()));
            let of_table = |batch| move |block: &[Digest]| of_table(self.table, block, batch);
            for (way, ours) in Way::ALL.into_iter().zip(&mut measured.ours) {
                ours.push(look_up_ns(&mut draw, way, lookups, of_table(BATCH))?);
            }
            measured.large.push(look_up_ns(&mut draw, Way::Hits, lookups, of_table(LARGE_BATCH))?);
            if let Some(peer) = &self.peer {
                let search = |block: &[Digest]| peer.look_up(block);
                measured.peer.push(look_up_ns(&mut draw, Way::Hits, lookups / 10, search)?);
            }
        }
        Ok(measured)
    }
}

/// Prints what was measured, and gives the figure of a hit in a large batch.
fn say(report: &mut Report, pages: &'static str, measured: &Measured, records: usize) -> Figure {
    let Measured { table_huge_percent, floor_huge_percent, .. } = measured;
    report.note(&format!(
        "{pages} pages: {table_huge_percent:.0} % of the table in 2 MiB pages, \
         {floor_huge_percent:.0} % of the floor"
    ));
    let floor = Figure::of(measured.floor.clone());
    let [hits, misses, half] = measured.ours.clone().map(Figure::of);
    report.base(&format!("{pages}: floor, one random line, prefetched"), "ns", &floor);
    let name = |way: Way| format!("{pages}: get_many, {}", way.name());
    report.figure(&name(Way::Hits), "ns", &hits, ("floor", &floor));
    report.figure(&name(Way::Misses), "ns", &misses, ("floor", &floor));
    report.figure(&name(Way::Half), "ns", &half, ("floor", &floor));
    let large = Figure::of(measured.large.clone());
    let name = format!("{pages}: get_many, hits, batches of {LARGE_BATCH}");
    report.figure(&name, "ns", &large, ("floor", &floor));
    let lines = match pages {
        "2 MiB" => ["floor, 2 MiB pages", "Adamant, 2 MiB pages"],
        _ => ["floor, 4 KiB pages", "Adamant, 4 KiB pages"],
    };
    report.point(lines[0], records, &floor);
    report.point(lines[1], records, &hits);
    if !measured.peer.is_empty() {
        let peer = Figure::of(measured.peer.clone());
        report.figure("slice::binary_search, hits", "ns", &peer, ("get_many, hits", &hits));
        report.point("binary search", records, &peer);
    }
    large
}

/// This program again, in a process that is given no 2 MiB pages.
fn in_small_pages(settings: &Settings, file: &File, records: usize) -> anyhow::Result<Measured> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["small-pages", "--records", &records.to_string()]);
    if settings.is_quick {
        command.arg("--quick");
    }
    // The file has no name yet, so it is handed over open.
    let output = command.stdin(Stdio::from(file.try_clone()?)).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the process with small pages failed");
    Measured::from_json(&serde_json::from_slice(&output.stdout)?).context("figures are missing")
}

/// That process: a table on standard input, figures on standard output.
pub(crate) fn run_in_small_pages(settings: &Settings) -> anyhow::Result<()> {
    rustix::thread::disable_transparent_huge_pages(true).context("cannot refuse 2 MiB pages")?;
    machine::pin(0)?;
    let records = settings.sizes.index[0];
    let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let table = Table::load(&file, Load::Copy)?;
    let region = Region::new(records)?;
    let keys = Keys::new(records as u64, records);
    let sides = Sides { table: &table, region: &region, keys, peer: None };
    println!("{}", sides.measure(settings)?.to_json());
    Ok(())
}

impl Measured {
    fn to_json(&self) -> Value {
        json!({
            "table_huge_percent": self.table_huge_percent,
            "floor_huge_percent": self.floor_huge_percent,
            "floor": self.floor, "hits": self.ours[0], "misses": self.ours[1],
            "half": self.ours[2], "large": self.large,
        })
    }

    fn from_json(value: &Value) -> Option<Measured> {
        let rounds = |name: &str| -> Option<Vec<f64>> {
            value[name].as_array()?.iter().map(Value::as_f64).collect()
        };
        Some(Measured {
            table_huge_percent: value["table_huge_percent"].as_f64()?,
            floor_huge_percent: value["floor_huge_percent"].as_f64()?,
            floor: rounds("floor")?,
            ours: [rounds("hits")?, rounds("misses")?, rounds("half")?],
            large: rounds("large")?,
            peer: Vec::new(),
        })
    }
}

/// Nanoseconds a look-up; fails when the answers are not the expected ones. Digests are drawn in
/// blocks, outside the timed region.
pub(crate) fn look_up_ns(
    draw: &mut Draw,
    way: Way,
    lookups: usize,
    mut look_up: impl FnMut(&[Digest]) -> anyhow::Result<Answers>,
) -> anyhow::Result<f64> {
    let mut block = Vec::with_capacity(BLOCK);
    let (mut took, mut done) = (Duration::ZERO, 0);
    while done < lookups {
        let expected = draw.fill(&mut block, BLOCK.min(lookups), way);
        let began = Instant::now();
        let answers = look_up(&block);
        took += began.elapsed();
        let answers = answers?;
        ensure!(answers == expected, "{}: {answers:?}, expected {expected:?}", way.name());
        done += block.len();
    }
    Ok(took.as_secs_f64() * 1e9 / done as f64)
}

/// Adamant: each record is judged, and those that are valid are summed up.
pub(crate) fn of_table(table: &Table, block: &[Digest], batch: usize) -> anyhow::Result<Answers> {
    let now = TableTime(200_000_000);
    let mut answers = Answers::default();
    for batch in block.chunks(batch) {
        table.get_many(batch, |_, found| {
            if let Some(found) = found
                && judge(&found.record.standing(), now, || Ok(())) == Verdict::Valid
            {
                answers.add(number_in(&found.record.id));
            }
        });
    }
    Ok(answers)
}

/// Writes a table in whose ids the numbers stand that peers keep as values.
pub(crate) fn write(new: &NewFile, folder: &Path, sorted: &[Digest]) -> anyhow::Result<()> {
    let domain = Domain { key: DomainKey([1; 32]), prefix: "bench".parse()?, foreign: None };
    let grant = b"\x04live\x00\x00\x00\x00".to_vec();
    let spec = TableSpec { domain, grants: vec![grant], range: (0, 0) };
    let mut writer = TableWriter::new(new, spec, folder)?;
    for digest in sorted {
        let record = Record {
            digest: *digest,
            id: id_of(digest),
            flags: 0,
            reserved: 0.into(),
            grant: 0.into(),
            not_before: 0.into(),
            expires: 1_000_000_000.into(),
            revoked_at: 0.into(),
        };
        let cold = Cold { issued_at: 0.into(), ledger_index: [0; 7], reason: 0 };
        writer.push(&Entry { record, cold, personal: Personal::NOTHING, line: 0 })?;
    }
    writer.finish()?;
    Ok(())
}

/// An id is a number below 62^14, so its first byte stays 0.
fn id_of(digest: &Digest) -> [u8; 11] {
    let mut id = [0; 11];
    id[3..].copy_from_slice(&value_of(digest)[..8]);
    id
}

fn number_in(id: &[u8; 11]) -> u64 {
    u64::from_le_bytes(*id.last_chunk().expect("an id has 11 bytes"))
}
