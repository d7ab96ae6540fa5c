//! Writes a table, record by record in ascending order of digests, in one pass and a short second
//! one.
//!
//! Memory does not grow with the table: records go straight into the file, cold rows wait in a
//! scratch file, and the directory is made in the second pass, which reads the records back from
//! the page cache. The bytes depend on the entries and the [`TableSpec`] alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{FromBytes, IntoBytes};

use super::directory::LineMaker;
use super::entry::Entry;
use super::error::TableError;
use super::format::{
    ALGORITHM, COLD_BYTES, FOREIGN_MAX, GRANTS_MAX, HEADER_BYTES, HEADER_REST_BYTES, Header, Line,
    MAGIC, NAME_BYTES, RECORD_BYTES, RECORDS_MAX, Record, Section, VERSION, buckets_for, padded,
};
use super::map::{Load, Map};
use super::section::{SectionWriter, each_chunk, end_of};
use super::spool::Spool;
use crate::durable::NewFile;
use crate::token::{Digest, Domain, ForeignAlgorithm};

/// What a table says besides its entries.
pub struct TableSpec {
    /// The deployment.
    pub domain: Domain,
    /// Canonical bytes of the grants that entries may name, strictly ascending. Those that none
    /// names are left out of the table.
    pub grants: Vec<Vec<u8>>,
    /// Ledger range; 0 0 for a list.
    pub range: (u64, u64),
}

/// Bytes from which on several threads hash.
const HASHED_TOGETHER_MIN: usize = 1 << 20;

/// A file that was written whole and has no name yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// BLAKE3 of all its bytes: its name.
    pub hash: [u8; 32],
    /// Its length.
    pub bytes: u64,
    /// Its records.
    pub records: u64,
}

impl Written {
    pub(super) fn of(file: &File, records: u64) -> Result<Written, TableError> {
        let map = Map::of(file, Load::Map)?;
        let mut hasher = blake3::Hasher::new();
        // Waking threads costs more than hashing a little.
        if map.len() < HASHED_TOGETHER_MIN {
            hasher.update(&map)
        } else {
            hasher.update_rayon(&map)
        };
        let hash = *hasher.finalize().as_bytes();
        Ok(Written { hash, bytes: map.len() as u64, records })
    }
}

/// Writes a table.
pub struct TableWriter<'a> {
    new: &'a NewFile,
    spec: TableSpec,
    records: SectionWriter<'a>,
    cold: Spool,
    count: u64,
    last: Option<Digest>,
    used: Vec<bool>,
}

impl<'a> TableWriter<'a> {
    /// Writes into `new`, with a scratch file in `folder`.
    pub fn new(
        new: &'a NewFile,
        spec: TableSpec,
        folder: &Path,
    ) -> Result<TableWriter<'a>, TableError> {
        assert!(spec.grants.is_sorted_by(|a, b| a < b), "grants are strictly ascending");
        Ok(TableWriter {
            new,
            records: SectionWriter::new(new.file(), HEADER_BYTES as u64),
            cold: Spool::new(folder),
            count: 0,
            last: None,
            used: vec![false; spec.grants.len()],
            spec,
        })
    }

    /// Takes the next entry. Its digest is above that of the one before.
    pub fn push(&mut self, entry: &Entry<'_>) -> Result<(), TableError> {
        let record = &entry.record;
        assert!(self.last < Some(record.digest), "digests are strictly ascending");
        if self.count == RECORDS_MAX {
            return Err(TableError::TooManyRecords);
        }
        self.used[record.grant.get() as usize] = true;
        self.records.push(record.as_bytes())?;
        self.cold.push(entry.cold.as_bytes())?;
        self.last = Some(record.digest);
        self.count += 1;
        Ok(())
    }

    /// Says that records of that algorithm are among the entries, or none.
    pub fn set_foreign(&mut self, foreign: Option<ForeignAlgorithm>) {
        self.spec.domain.foreign = foreign;
    }

    /// Completes the file.
    pub fn finish(mut self) -> Result<Written, TableError> {
        let file = self.new.file();
        let grants = UsedGrants::of(std::mem::take(&mut self.spec.grants), &self.used);
        if grants.kept.len() > GRANTS_MAX {
            return Err(TableError::TooManyGrants);
        }
        let mut records = self.records.finish()?;
        let (directory, check) = second_pass(file, &records, self.count, &grants)?;
        records.check.set(check);
        let grants_section = write_grants(file, end_of(&directory), &grants.kept)?;
        let cold = copy_cold(file, end_of(&grants_section), self.cold)?;
        let sections = [records, directory, grants_section, cold];
        let header = header(&self.spec, self.count, grants.kept.len(), sections);
        file.write_all_at(header.as_bytes(), 0)?;
        // An empty last section leaves the file short of where it would be.
        file.set_len(end_of(&cold))?;
        Written::of(file, self.count)
    }
}

/// The grants that records name, and what their numbers became.
struct UsedGrants {
    kept: Vec<Vec<u8>>,
    /// New number by old one.
    numbers: Vec<u32>,
    renumbered: bool,
}

impl UsedGrants {
    fn of(grants: Vec<Vec<u8>>, used: &[bool]) -> UsedGrants {
        let renumbered = used.contains(&false);
        let mut kept = Vec::new();
        let mut numbers = Vec::with_capacity(grants.len());
        for (grant, &used) in grants.into_iter().zip(used) {
            numbers.push(u32::try_from(kept.len()).expect("grants are numbered by u32"));
            if used {
                kept.push(grant);
            }
        }
        UsedGrants { kept, numbers, renumbered }
    }
}

/// Reads the records back: renumbers their grants if some were left out, and makes the directory.
/// Gives the directory's section and the checksum of the records.
fn second_pass(
    file: &File,
    records: &Section,
    count: u64,
    grants: &UsedGrants,
) -> Result<(Section, u64), TableError> {
    let mut lines = LineMaker::new(buckets_for(count));
    let mut directory = SectionWriter::new(file, end_of(records));
    let mut put = |line: &Line| directory.push(line.as_bytes());
    let mut check = xxhash_rust::xxh3::Xxh3::new();
    let (at, bytes) = (records.offset.get(), records.bytes.get());
    each_chunk(file, at, bytes, RECORD_BYTES, |at, chunk| {
        let records = <[Record]>::mut_from_bytes(chunk).expect("whole records");
        for record in &mut *records {
            record.grant.set(grants.numbers[record.grant.get() as usize]);
            lines.push(&record.digest, &mut put)?;
        }
        check.update(records.as_bytes());
        if grants.renumbered { file.write_all_at(records.as_bytes(), at) } else { Ok(()) }
    })?;
    lines.finish(&mut put)?;
    Ok((directory.finish()?, check.digest()))
}

fn write_grants(file: &File, earliest: u64, grants: &[Vec<u8>]) -> Result<Section, TableError> {
    let mut section = SectionWriter::new(file, earliest);
    let mut end = 0_u32;
    section.push(&end.to_le_bytes())?;
    for grant in grants {
        let bytes = u32::try_from(grant.len()).expect("a grant is bounded");
        end = end.checked_add(bytes).ok_or(TableError::TooManyGrants)?;
        section.push(&end.to_le_bytes())?;
    }
    grants.iter().try_for_each(|grant| section.push(grant))?;
    Ok(section.finish()?)
}

fn copy_cold(file: &File, earliest: u64, cold: Spool) -> Result<Section, TableError> {
    let mut section = SectionWriter::new(file, earliest);
    cold.drain(COLD_BYTES, |chunk| section.push(chunk))?;
    Ok(section.finish()?)
}

fn header(spec: &TableSpec, records: u64, grants: usize, sections: [Section; 4]) -> Header {
    let mut foreign = [[0; NAME_BYTES]; FOREIGN_MAX];
    if let Some(algorithm) = spec.domain.foreign {
        foreign[0] = padded(algorithm.name());
    }
    let mut header = Header {
        magic: MAGIC,
        version: VERSION.into(),
        flags: 0.into(),
        algorithm: padded(ALGORITHM),
        key: spec.domain.key.0,
        prefix: padded(spec.domain.prefix.as_str()),
        foreign,
        records: records.into(),
        buckets: buckets_for(records).into(),
        grants: (grants as u64).into(),
        from: spec.range.0.into(),
        to: spec.range.1.into(),
        reserved: 0.into(),
        sections,
        rest: [0; HEADER_REST_BYTES],
        check: 0.into(),
    };
    let checked = HEADER_BYTES - size_of::<u64>();
    header.check.set(xxh3_64(&header.as_bytes()[..checked]));
    header
}
