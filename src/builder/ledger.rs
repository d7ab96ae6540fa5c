//! From the ledger to a published generation.
//!
//! ```text
//! events [from, to) --read--> delta --compose--> table + subjects --publish--> store
//!                                     over the tables that it takes the place of
//! ```
//!
//! A generation has a base, and above it up to two overlays, each the whole difference over what
//! lies beneath for a contiguous range of the ledger. A small change rewrites the small upper
//! overlay ([`publish`]), under the lock that keeps publishers apart. When that has grown,
//! [`settle`] moves records down: it reads and writes without the lock, so that no revocation
//! waits for it, and takes it only to name what it made.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::compose::{Act, Delta, Plan, compose};
use super::{BuildError, MEMORY_BYTES_DEFAULT};
use crate::durable::{self, NewFile};
use crate::ledger::{
    Event, Issued, LedgerError, Opening, Openings, TILE_WIDTH, Tiles, What, read_event, segment_of,
};
use crate::manifest::{Manifest, TableLine};
use crate::store::{Home, Layer, NewTables, Next, Part, Previous, Published};
use crate::table::format::{Cold, FOREIGN, GRANTS_MAX, Record};
use crate::table::{Entry, Personal, SubjectsWriter, TableError};
use crate::time::TableTime;
use crate::token::{Digest, Domain};

/// Most records of an upper overlay.
const UPPER_RECORDS_MAX: u64 = 16_384;
/// Records of an upper overlay from which on it is worth moving down.
const UPPER_RECORDS_SETTLE: u64 = 8_192;
/// Records that a lower overlay may have under any base; and the share of a larger one.
const LOWER_RECORDS_MIN: u64 = 131_072;
const LOWER_SHARE: u64 = 100;
/// Bundles that are read and parsed at once: 16,384 events.
const BUNDLES_TOGETHER: u64 = 64;

/// Publishes all events of the ledger, if the current generation does not have them. Says what is
/// current then.
pub fn publish(home: &Home, progress: &mut dyn FnMut(u64)) -> Result<Published, BuildError> {
    {
        let lock = home.lock_publishing()?;
        let previous = home.current()?.ok_or_else(|| no_generation(home))?;
        let (checkpoint, tiles) = home.read_ledger()?;
        let manifest = &previous.judged.manifest;
        check_ledger_built(manifest)?;
        let published = Published { manifest: manifest.clone(), hash: previous.judged.hash };
        let from = manifest.ledger.0;
        if from >= checkpoint.size {
            // Whoever published it may have been stopped before it was durable.
            durable::sync_folder(home.store().root())?;
            return Ok(published);
        }
        if let Some(parts) = upper_anew(home, &previous, &tiles)? {
            let next = Next { parts, ledger: (checkpoint.size, checkpoint.root) };
            return Ok(home.publish(&lock, Some(&previous), next)?);
        }
    }
    settle(home, progress)
}

/// Signs the current generation anew, for another span of life.
pub fn renew(home: &Home) -> Result<Published, BuildError> {
    let lock = home.lock_publishing()?;
    let previous = home.current()?.ok_or_else(|| no_generation(home))?;
    let manifest = &previous.judged.manifest;
    let parts = manifest.tables.iter().cloned().map(Part::Kept).collect();
    let next = Next { parts, ledger: manifest.ledger };
    Ok(home.publish(&lock, Some(&previous), next)?)
}

/// Takes who a token is for out of every subjects file of the current generation, publishes that,
/// and removes the files of earlier ones.
pub fn forget(home: &Home, digest: &Digest) -> Result<Published, BuildError> {
    let lock = home.lock_publishing()?;
    let previous = home.current()?.ok_or_else(|| no_generation(home))?;
    let manifest = &previous.judged.manifest;
    let folder = home.store().tables();
    let mut parts = Vec::new();
    for line in &manifest.tables {
        let layer = previous.store.open_to_build(line)?;
        let found = layer.table.get(digest).map(|found| found.rank);
        let known = found.filter(|rank| layer.personal(*rank) != Personal::Erased);
        parts.push(match known {
            Some(rank) => {
                without_subject(&layer, rank, &folder).map_err(|err| err.located(&folder))?
            }
            None => Part::Kept(line.clone()),
        });
    }
    let is_new = parts.iter().any(|part| !matches!(part, Part::Kept(_)));
    let mut published = Published { manifest: manifest.clone(), hash: previous.judged.hash };
    if is_new {
        let next = Next { parts, ledger: manifest.ledger };
        published = home.publish(&lock, Some(&previous), next)?;
    }
    home.forget_old_subjects(&lock, &published.manifest)?;
    Ok(published)
}

fn without_subject(layer: &Layer, erased: u32, folder: &Path) -> Result<Part, BuildError> {
    let subjects = NewFile::create(folder)?;
    let mut writer = SubjectsWriter::new(&subjects, folder)?;
    for rank in 0..u32::try_from(layer.table.records().len()).expect("at most 2^32 records") {
        let personal = if rank == erased { Personal::Erased } else { layer.personal(rank) };
        writer.push(&personal)?;
    }
    let written = writer.finish()?;
    Ok(Part::Subjects { line: layer.line.clone(), subjects, written })
}

/// Whether records had better be moved down soon.
pub fn is_settling_due(manifest: &Manifest) -> bool {
    matches!(&manifest.tables[..], [_, _, upper] if upper.records > UPPER_RECORDS_SETTLE)
}

/// Moves the records of the overlays, and of all events that are not in a table yet, down into a
/// lower overlay or a new base, and publishes that.
pub fn settle(home: &Home, progress: &mut dyn FnMut(u64)) -> Result<Published, BuildError> {
    let _settling = home.lock_settling()?;
    let previous = home.current()?.ok_or_else(|| no_generation(home))?;
    check_ledger_built(&previous.judged.manifest)?;
    let (_, tiles) = home.read_ledger()?;
    let tables = &previous.judged.manifest.tables;
    let from = previous.judged.manifest.ledger.0;
    let moved: u64 = tables[1..].iter().map(|table| table.records).sum();
    let above = moved + (tiles.size() - from);
    let is_base = above > LOWER_RECORDS_MIN.max(tables[0].records / LOWER_SHARE);
    let kept = if is_base { 0 } else { 1 };
    let bottom = kept_end(&tables[..kept]);
    let source = Source::of(home, &tiles);
    let made = source.table(&tables[kept..], &previous, (bottom, tiles.size()), from, progress)?;

    let lock = home.lock_publishing()?;
    let current = home.current()?.ok_or_else(|| no_generation(home))?;
    // Whoever published meanwhile rewrote the upper overlay only: the others are ours to move.
    let mut parts: Vec<Part> = tables[..kept].iter().cloned().map(Part::Kept).collect();
    parts.push(Part::New(made));
    let (checkpoint, tiles_now) = home.read_ledger()?;
    if checkpoint.size > tiles.size() {
        let source = Source::of(home, &tiles_now);
        let range = (tiles.size(), checkpoint.size);
        parts.push(Part::New(source.table(&[], &current, range, range.0, progress)?));
    }
    let next = Next { parts, ledger: (checkpoint.size, checkpoint.root) };
    Ok(home.publish(&lock, Some(&current), next)?)
}

/// Makes one base from the whole ledger, and publishes that.
pub fn rebuild(home: &Home, progress: &mut dyn FnMut(u64)) -> Result<Published, BuildError> {
    let _settling = home.lock_settling()?;
    let (checkpoint, tiles) = home.read_ledger()?;
    let made = Source::of(home, &tiles).rebuild((0, tiles.size()), progress)?;
    let lock = home.lock_publishing()?;
    let current = home.current()?.ok_or_else(|| no_generation(home))?;
    check_ledger_built(&current.judged.manifest)?;
    if current.judged.manifest.ledger.0 > checkpoint.size {
        return Err(crate::store::StoreError::LostRace.into());
    }
    let parts = vec![Part::New(made)];
    let next = Next { parts, ledger: (checkpoint.size, checkpoint.root) };
    Ok(home.publish(&lock, Some(&current), next)?)
}

/// The parts of a generation whose upper overlay also has the events that are not in a table yet.
/// `None` when that would be too large.
fn upper_anew(
    home: &Home,
    previous: &Previous,
    tiles: &Tiles,
) -> Result<Option<Vec<Part>>, BuildError> {
    let tables = &previous.judged.manifest.tables;
    let from = previous.judged.manifest.ledger.0;
    let events = tiles.size() - from;
    let (kept, old) = tables.split_at((tables.len() - 1).max(1));
    let upper_records = old.first().map_or(0, |upper| upper.records);
    let (kept, old) = match upper_records + events <= UPPER_RECORDS_MAX {
        true => (kept, old),
        // A second overlay above a full first one moves nothing.
        false if tables.len() == 2 && events <= UPPER_RECORDS_MAX => (&tables[..], &tables[2..]),
        false => return Ok(None),
    };
    let range = (kept_end(kept), tiles.size());
    let source = Source::of(home, tiles);
    let made = source.table(old, previous, range, from, &mut |_| {})?;
    let mut parts: Vec<Part> = kept.iter().cloned().map(Part::Kept).collect();
    parts.push(Part::New(made));
    Ok(Some(parts))
}

fn kept_end(kept: &[TableLine]) -> u64 {
    kept.last().map_or(0, |table| table.range.1)
}

fn no_generation(home: &Home) -> BuildError {
    BuildError::NoPrevious { store: home.store().root().to_owned() }
}

/// A home is list-built from its first list on.
pub fn check_ledger_built(manifest: &Manifest) -> Result<(), BuildError> {
    let is_list = manifest.ledger.0 == 0 && manifest.records() > 0;
    if is_list { Err(BuildError::ListBuilt) } else { Ok(()) }
}

/// Where events and subjects come from.
pub struct Source<'a> {
    /// The events.
    pub tiles: &'a Tiles,
    /// The deployment that the tables are of.
    pub domain: Domain,
    /// Who tokens are for; without them, all subjects are as if they had been erased.
    pub openings: Openings,
    /// Where files are written until they have a name.
    pub folder: PathBuf,
}

impl<'a> Source<'a> {
    /// Those of a home.
    pub fn of(home: &Home, tiles: &'a Tiles) -> Source<'a> {
        let (domain, openings) = (home.policy().domain.clone(), home.openings());
        Source { tiles, domain, openings, folder: home.store().tables() }
    }

    /// Makes a table from its ledger range alone, as anybody can who has the ledger. It has no
    /// name.
    pub fn rebuild(
        &self,
        range: (u64, u64),
        progress: &mut dyn FnMut(u64),
    ) -> Result<NewTables, BuildError> {
        self.compose(&[], range, range.0, progress)
    }

    /// The table of `range`, from `old` tables of it and the events from `from` on.
    fn table(
        &self,
        old: &[TableLine],
        previous: &Previous,
        range: (u64, u64),
        from: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<NewTables, BuildError> {
        let open = |line| previous.store.open_to_build(line);
        let old: Vec<Layer> = old.iter().map(open).collect::<Result<_, _>>()?;
        let old: Vec<&Layer> = old.iter().collect();
        self.compose(&old, range, from, progress)
    }

    fn compose(
        &self,
        sources: &[&Layer],
        range: (u64, u64),
        from: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<NewTables, BuildError> {
        let reference = match range {
            (0, to) if to > 0 => TableTime::end(read_event(self.tiles, to - 1)?.time),
            _ => None,
        };
        let domain = self.domain.clone();
        let plan = Plan { domain, sources, range, reference };
        let delta = self.delta(range.0, from, progress);
        let made = delta.and_then(|delta| compose(&self.folder, &plan, delta, progress));
        made.map_err(|err| err.located(&self.folder))
    }

    /// The events from `from` on, for a table that begins at `bottom`.
    fn delta(
        &self,
        bottom: u64,
        from: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Delta, BuildError> {
        let mut reading = Reading {
            tiles: self.tiles,
            subjects: Subjects::of(self.openings.clone()),
            delta: Delta::new(MEMORY_BYTES_DEFAULT / 2, &self.folder),
            numbers: HashMap::new(),
            grant: Vec::new(),
            bottom,
        };
        each_event(self.tiles, from, &mut |index, event| {
            if index.is_multiple_of(1 << 14) {
                progress(index - from);
            }
            reading.push(index, event)
        })?;
        Ok(reading.delta)
    }
}

/// Events on their way into a delta.
struct Reading<'a> {
    tiles: &'a Tiles,
    subjects: Subjects,
    delta: Delta,
    numbers: HashMap<Vec<u8>, u32>,
    /// Bytes of the grant at hand.
    grant: Vec<u8>,
    bottom: u64,
}

impl Reading<'_> {
    fn push(&mut self, index: u64, event: &Event) -> Result<(), BuildError> {
        // A token that lies beneath the new table and that none of its sources has: all that
        // happened to it before comes along.
        if let Some(previous) = event.previous().filter(|previous| *previous < self.bottom) {
            let mut next = Some(previous);
            while let Some(index) = next {
                let event = read_event(self.tiles, index)?;
                self.push_one(index, &event)?;
                // Towards its issue, which has no event before.
                next = event.previous().filter(|previous| *previous < index);
            }
        }
        self.push_one(index, event)
    }

    fn push_one(&mut self, index: u64, event: &Event) -> Result<(), BuildError> {
        match &event.what {
            What::Issue(issued) => self.issue(index, event.time, issued),
            What::Revoke { digest, at, reason, .. } => {
                let now = *at <= event.time;
                let at = TableTime::end(*at).ok_or(BuildError::Time { index })?;
                let act = Act::Revoke { at, now, reason: *reason as u8 };
                Ok(self.delta.act(index, digest, act)?)
            }
            What::Erase { digest, .. } => Ok(self.delta.act(index, digest, Act::Erase)?),
            _ => Ok(()),
        }
    }

    fn issue(&mut self, index: u64, time: i64, issued: &Issued) -> Result<(), BuildError> {
        let out_of_range = BuildError::Time { index };
        let start = issued.not_before.map(|at| TableTime::start(at, 0));
        let end = issued.expires.map(TableTime::end);
        let (Some(start), Some(end)) =
            (start.unwrap_or(Some(TableTime::NONE)), end.unwrap_or(Some(TableTime::NONE)))
        else {
            return Err(out_of_range);
        };
        let grant = self.number(issued)?;
        let [ledger_index @ .., _] = index.to_le_bytes();
        let record = Record {
            digest: issued.digest,
            id: issued.id.bytes(),
            flags: if issued.algorithm.is_some() { FOREIGN } else { 0 },
            reserved: 0.into(),
            grant: grant.into(),
            not_before: start.0.into(),
            expires: end.0.into(),
            revoked_at: 0.into(),
        };
        let issued_at = TableTime::end(time).ok_or(BuildError::Time { index })?;
        let cold = Cold { issued_at: issued_at.0.into(), ledger_index, reason: 0 };
        let personal = match issued.commitment {
            None => Personal::NOTHING,
            Some(_) => self.subjects.get(index)?,
        };
        Ok(self.delta.issue(index, &Entry { record, cold, personal, line: 0 })?)
    }

    fn number(&mut self, issued: &Issued) -> Result<u32, BuildError> {
        self.grant.clear();
        issued.grant.encode(&mut self.grant);
        if let Some(&number) = self.numbers.get(&self.grant) {
            return Ok(number);
        }
        let grant = self.grant.clone();
        if self.delta.grants.len() == GRANTS_MAX {
            return Err(TableError::TooManyGrants.into());
        }
        let number = u32::try_from(self.delta.grants.len()).expect("at most 2^20");
        self.delta.grants.push(grant.clone());
        self.numbers.insert(grant, number);
        Ok(number)
    }
}

/// Openings, read by segments.
struct Subjects {
    openings: Openings,
    segment: Option<u64>,
    held: Vec<Opening>,
}

impl Subjects {
    fn of(openings: Openings) -> Subjects {
        Subjects { openings, segment: None, held: Vec::new() }
    }

    /// Who the token of an event is for; where there is no opening, it was erased.
    fn get(&mut self, index: u64) -> Result<Personal<'_>, LedgerError> {
        let segment = segment_of(index);
        if self.segment != Some(segment) {
            self.held = self.openings.segment(segment, u64::MAX)?;
            self.segment = Some(segment);
        }
        let at = self.held.binary_search_by_key(&index, |opening| opening.index);
        Ok(at.map_or(Personal::Erased, |at| {
            let Opening { subject, meta, .. } = &self.held[at];
            Personal::Known { subject, meta }
        }))
    }
}

/// Gives all events from `from` on to `each`, in order. While it takes some, others are parsed.
pub fn each_event(
    tiles: &Tiles,
    from: u64,
    each: &mut dyn FnMut(u64, &Event) -> Result<(), BuildError>,
) -> Result<(), BuildError> {
    let (first, end) = (from / TILE_WIDTH, tiles.size().div_ceil(TILE_WIDTH));
    let group = |at: u64| at..end.min(at + BUNDLES_TOGETHER);
    let mut next = group(first);
    let mut parsed = parse_group(tiles, next.clone(), from)?;
    while !next.is_empty() {
        next = group(next.end);
        let mut following = Ok(Vec::new());
        let mut take =
            || parsed.iter().flatten().try_for_each(|(index, event)| each(*index, event));
        if next.is_empty() {
            take()?;
        } else {
            rayon::in_place_scope(|scope| {
                scope.spawn(|_| following = parse_group(tiles, next.clone(), from));
                take()
            })?;
        }
        parsed = following?;
    }
    Ok(())
}

type Parsed = Vec<Vec<(u64, Event)>>;

fn parse_group(tiles: &Tiles, group: Range<u64>, from: u64) -> Result<Parsed, LedgerError> {
    // Waking threads costs more than parsing a little.
    if group.end - group.start <= 1 {
        return group.map(|bundle| parse(tiles, bundle, from)).collect();
    }
    group.into_par_iter().map(|bundle| parse(tiles, bundle, from)).collect()
}

fn parse(tiles: &Tiles, bundle: u64, from: u64) -> Result<Vec<(u64, Event)>, LedgerError> {
    let bundle = tiles.bundle_of(bundle * TILE_WIDTH)?;
    let wanted = from..tiles.size();
    let within = bundle.entries().filter(|(index, _)| wanted.contains(index));
    within
        .map(|(index, entry)| {
            let event = Event::parse(entry);
            Ok((index, event.map_err(|source| LedgerError::Event { index, source })?))
        })
        .collect()
}
