//! Other indexes over the same keys: each has a file, and each is given the best conditions that it
//! has. Their look-ups share one transaction, their files lie in memory, their keys came in order.

mod finite;
mod hash;
pub(crate) mod lmdb;
mod redb;
mod sorted;

use adamant::durable::NewFile;
use adamant::table::{Load, Table};
use adamant::token::Digest;

use crate::floors::{Region, region_bytes};
use crate::index::{BATCH, look_up_ns, of_table, table_bytes, write};
use crate::keys::{Answers, Draw, Keys, Way};
use crate::machine;
use crate::report::{Fact, Figure, Report};
use crate::settings::Settings;

pub(crate) use sorted::Sorted;

/// Bytes a key that an index may take, generously.
const PEER_BYTES: u64 = 150;
const PEERS: u64 = 5;
/// Look-ups of a peer in a round: they are slow, and need no more to be measured as well.
const FEWER: usize = 10;

/// An index of digests.
pub(crate) trait Peer {
    fn name(&self) -> &'static str;

    /// Looks a block of digests up, in batches.
    fn look_up(&self, block: &[Digest]) -> anyhow::Result<Answers>;

    /// Which goal it is for.
    fn fact(&self) -> Option<Fact> {
        None
    }
}

/// What is asked, in the order of the columns below.
const WAYS: [Way; 2] = [Way::Half, Way::Hits];

struct Measured {
    floor: Vec<f64>,
    ours: [Vec<f64>; 2],
    peers: Vec<[Vec<f64>; 2]>,
}

pub(crate) fn run(settings: &Settings, report: &mut Report) -> anyhow::Result<()> {
    let records = settings.sizes.peers;
    report.section(&format!(
        "Index peers, {records} keys of 32 bytes, values of 16, batches of {BATCH}, one core"
    ));
    let needed = records as u64 * PEER_BYTES * PEERS + region_bytes(records) + table_bytes(records);
    if let Some(why) = settings.leaves_out(records, needed, needed) {
        report.note(&format!("not measured: {why}"));
        return Ok(());
    }
    machine::pin(0)?;
    let folder = tempfile::tempdir()?;
    let keys = Keys::new(records as u64, records);
    let sorted = keys.sorted();
    let new = NewFile::create(folder.path())?;
    write(&new, folder.path(), &sorted)?;
    let table = Table::load(new.file(), Load::Map)?;
    let region = Region::new(records)?;
    let peers: Vec<Box<dyn Peer + '_>> = vec![
        Box::new(Sorted::new(&sorted)),
        Box::new(hash::Hash::new(&sorted)),
        Box::new(lmdb::Lmdb::new(folder.path(), &sorted)?),
        Box::new(redb::Redb::new(folder.path(), &sorted)?),
        Box::new(finite::Finite::new(&sorted)?),
    ];
    let measured = report.steady(
        settings.tries,
        || measure(settings, keys, &table, &region, &peers),
        |measured| &measured.floor,
    )?;
    let huge = 100.0 * table.huge_bytes() as f64 / table.bytes().len() as f64;
    report.note(&format!("{huge:.0} % of our map in 2 MiB pages; peers as they allocate or map"));
    say(report, &peers, measured);
    machine::unpin()
}

fn measure(
    settings: &Settings,
    keys: Keys,
    table: &Table,
    region: &Region,
    peers: &[Box<dyn Peer + '_>],
) -> anyhow::Result<Measured> {
    let empty = || [const { Vec::new() }; 2];
    let mut measured =
        Measured { floor: vec![], ours: empty(), peers: peers.iter().map(|_| empty()).collect() };
    let lookups = settings.lookups;
    for round in 0..settings.rounds {
        let mut draw = Draw::new(keys, round as u64 + 3);
        measured.floor.push(region.prefetched_ns(lookups, draw.random()));
        for (column, way) in WAYS.into_iter().enumerate() {
            let ours = look_up_ns(&mut draw, way, lookups, |block| of_table(table, block, BATCH))?;
            measured.ours[column].push(ours);
            for (peer, times) in peers.iter().zip(&mut measured.peers) {
                let look_up = |block: &[Digest]| peer.look_up(block);
                times[column].push(look_up_ns(&mut draw, way, lookups / FEWER, look_up)?);
            }
        }
    }
    Ok(measured)
}

fn say(report: &mut Report, peers: &[Box<dyn Peer + '_>], measured: Measured) {
    let floor = Figure::of(measured.floor);
    report.base("floor: one random line, prefetched", "ns", &floor);
    let ours = measured.ours.map(Figure::of);
    for (way, ours) in WAYS.into_iter().zip(&ours) {
        report.figure(&format!("get_many, {}", way.name()), "ns", ours, ("floor", &floor));
    }
    for (peer, times) in peers.iter().zip(measured.peers) {
        for ((way, ours), times) in WAYS.into_iter().zip(&ours).zip(times) {
            let name = format!("{}, {}", peer.name(), way.name());
            let beside = (format!("get_many, {}", way.name()), ours);
            let times = report.figure(&name, "ns", &Figure::of(times), (&beside.0, beside.1));
            if let (Way::Half, Some(fact)) = (way, peer.fact()) {
                report.fact(fact, times);
            }
        }
    }
}
