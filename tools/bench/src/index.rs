//! Look-ups through the library, with the verdict evaluated, over the floor of one random line and
//! beside a binary search of the same digests.

use std::time::Instant;

use adamant::durable::NewFile;
use adamant::table::format::{Cold, Record};
use adamant::table::{Entry, Personal, Table, TableSpec, TableWriter};
use adamant::time::TableTime;
use adamant::token::{Digest, Domain, DomainKey};
use adamant::verdict::{Verdict, judge};
use anyhow::ensure;

use crate::floors::Region;
use crate::report::{Figure, Report};
use crate::{Settings, machine};

/// Digests of one call, as a busy socket brings them.
const BATCH: usize = 128;

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    machine::pin(0)?;
    for &records in &settings.records {
        measure(settings, report, records)?;
    }
    machine::unpin()
}

fn measure(settings: &Settings, report: &mut Report, records: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let mut random = Random::new(records as u64);
    let mut digests: Vec<Digest> = (0..records).map(|_| random.digest()).collect();
    digests.sort_unstable();
    let table = write(folder.path(), &digests)?;
    let name = folder.path().to_string_lossy().into_owned();
    let huge = machine::huge_kib(&name) * 1024;
    let share = 100.0 * huge as f64 / table.bytes().len() as f64;
    report.section(&format!(
        "Look-ups, {records} records, batches of {BATCH}, one core, {share:.0} % of the map in 2 MiB pages"
    ));
    let floor_region = Region::new(records)?;
    let (mut floor, mut hits, mut misses, mut half, mut peer) =
        (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..settings.rounds {
        floor.push(floor_region.prefetched_ns(settings, &mut random));
        let count = settings.lookups;
        let present: Vec<Digest> = (0..count).map(|_| digests[random.below(records)]).collect();
        let absent: Vec<Digest> = (0..count).map(|_| random.digest()).collect();
        let mixed: Vec<Digest> =
            present.iter().zip(&absent).flat_map(|(a, b)| [*a, *b]).take(count).collect();
        hits.push(lookups_ns(&table, &present, count)?);
        misses.push(lookups_ns(&table, &absent, 0)?);
        half.push(lookups_ns(&table, &mixed, count.div_ceil(2))?);
        peer.push(binary_search_ns(&digests, &present[..count / 10])?);
    }
    let floor = Figure::of(floor);
    let hits = Figure::of(hits);
    report.base("floor: one random line, prefetched", "ns", &floor);
    report.figure("get_many, hits, with verdict", "ns", &hits, ("floor", &floor));
    report.figure("get_many, misses", "ns", &Figure::of(misses), ("floor", &floor));
    report.figure("get_many, half of each", "ns", &Figure::of(half), ("floor", &floor));
    report.figure("slice::binary_search, hits", "ns", &Figure::of(peer), ("get_many, hits", &hits));
    Ok(())
}

/// Nanoseconds a look-up; fails when the answers are not the expected ones.
fn lookups_ns(table: &Table, digests: &[Digest], expected: usize) -> anyhow::Result<f64> {
    let now = TableTime(200_000_000);
    let mut valid = 0;
    let began = Instant::now();
    for batch in digests.chunks(BATCH) {
        table.get_many(batch, |_, found| {
            let verdict = found.map(|found| judge(&found.record.standing(), now, || Ok(())));
            valid += usize::from(verdict == Some(Verdict::Valid));
        });
    }
    let took = began.elapsed();
    ensure!(valid == expected, "{valid} valid answers, expected {expected}");
    Ok(took.as_secs_f64() * 1e9 / digests.len() as f64)
}

fn binary_search_ns(sorted: &[Digest], asked: &[Digest]) -> anyhow::Result<f64> {
    let began = Instant::now();
    let found = asked.iter().filter(|digest| sorted.binary_search(digest).is_ok()).count();
    let took = began.elapsed();
    ensure!(found == asked.len(), "a digest was not found");
    Ok(took.as_secs_f64() * 1e9 / asked.len() as f64)
}

pub(crate) fn write(folder: &std::path::Path, digests: &[Digest]) -> anyhow::Result<Table> {
    let domain = Domain { key: DomainKey([1; 32]), prefix: "bench".parse()?, foreign: None };
    let grant = b"\x04live\x00\x00\x00\x00".to_vec();
    let spec = TableSpec { domain, grants: vec![grant], range: (0, 0) };
    let new = NewFile::create(folder)?;
    let mut writer = TableWriter::new(&new, spec, folder)?;
    for digest in digests {
        let record = Record {
            digest: *digest,
            id: [0; 11],
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
    let table = Table::open(new.file())?;
    table.verify()?;
    Ok(table)
}

/// xorshift64*: quick, and good enough for places to look at.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        let wide = u128::from(self.next()) * count as u128;
        usize::try_from(wide >> 64).expect("below a count")
    }

    pub(crate) fn digest(&mut self) -> Digest {
        let mut digest = [0; 32];
        digest
            .chunks_exact_mut(8)
            .for_each(|part| part.copy_from_slice(&self.next().to_le_bytes()));
        digest
    }
}
