//! The subjects file, version 1: who each token is for, in a file of its own.
//!
//! The table does not depend on it. A host can do without it, an auditor can rebuild tables
//! without personal data, and erasing a person changes this file alone.
//!
//! | offset | bytes | field      | value |
//! |-------:|------:|------------|-------|
//! |      0 |     8 | `magic`    | [`MAGIC`] |
//! |      8 |     4 | `version`  | 1 |
//! |     12 |     4 | `flags`    | 0 |
//! |     16 |     8 | `records`  | number of records of the table |
//! |     24 | 2 x 32 | `sections` | offset, bytes, xxh3-64 and 0 of: offsets, values |
//! |     88 |  4000 | reserved   | 0 |
//! |   4088 |     8 | `check`    | xxh3-64 of bytes 0 to 4087 |
//!
//! - **offsets**: `records + 1` numbers (u32) in units of 4 bytes: where the value of the record
//!   of that rank begins and, in the next, ends.
//! - **values**: length of the subject (u16), length of the meta text (u16), subject, meta, zeros
//!   up to a multiple of 4. No bytes at all when both are empty; subject length 65,535 and meta
//!   length 0 when they were erased.
//!
//! Sections are placed as in a table ([`super::format`]).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::entry::Personal;
use super::error::TableError;
use super::format::{self, HEADER_BYTES, RECORDS_MAX, Section};
use super::map::{Load, Map};
use super::section::{SectionWriter, end_of};
use super::spool::Spool;
use super::writer::Written;
use crate::claims::{META_BYTES_MAX, SUBJECT_BYTES_MAX, check_meta, check_subject};
use crate::durable::NewFile;

/// Marks a subjects file.
const MAGIC: [u8; 8] = *b"ADMS\r\n\x1a\n";
/// The only version this build reads and writes.
const VERSION: u32 = 1;

const UNIT_BYTES: usize = 4;
const ERASED: u16 = u16::MAX;
const REST_BYTES: usize = 4000;
const SECTION_NAMES: [&str; 2] = ["offsets", "values"];

#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    flags: U32,
    records: U64,
    sections: [Section; 2],
    rest: [u8; REST_BYTES],
    check: U64,
}

const _: () = {
    assert!(size_of::<Header>() == HEADER_BYTES);
    assert!(std::mem::offset_of!(Header, sections) == 24);
    assert!(std::mem::offset_of!(Header, rest) == 88);
    assert!(std::mem::offset_of!(Header, check) == 4088);
    assert!(SUBJECT_BYTES_MAX < ERASED as usize);
    assert!(META_BYTES_MAX <= u16::MAX as usize);
};

/// An open subjects file.
#[derive(Debug)]
pub struct Subjects {
    map: Map,
    offsets: (usize, usize),
    values: (usize, usize),
}

impl Subjects {
    /// Maps a subjects file and checks its header. Reads no more of it.
    pub fn open(file: &File) -> Result<Subjects, TableError> {
        Subjects::load(file, Load::Map)
    }

    /// As [`Subjects::open`], mapped or copied.
    pub fn load(file: &File, load: Load) -> Result<Subjects, TableError> {
        let map = Map::of(file, load)?;
        let (header, _) = Header::ref_from_prefix(&map).map_err(|_| TableError::NotSubjects)?;
        let places = check_header(header, map.len() as u64)?;
        let [offsets, values] = places;
        Ok(Subjects { map, offsets, values })
    }

    /// The same file in memory of this process alone.
    pub fn to_private(&self) -> std::io::Result<Subjects> {
        let (offsets, values) = (self.offsets, self.values);
        Ok(Subjects { map: self.map.to_private()?, offsets, values })
    }

    /// Whether bytes of its file are gone while it is mapped.
    pub fn is_poisoned(&self) -> bool {
        self.map.is_poisoned()
    }

    /// Number of records of the table beside it.
    pub fn len(&self) -> usize {
        self.offsets().len() - 1
    }

    /// Whether the table beside it is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// What is known about the record of that rank. `None` for a rank past the end, and where an
    /// unverified file does not hold together.
    pub fn get(&self, rank: u32) -> Option<Personal<'_>> {
        let at = usize::try_from(rank).ok()?;
        let [from, to] = self.offsets().get(at..at + 2)? else { return None };
        let byte = |units: &U32| usize::try_from(units.get()).ok()?.checked_mul(UNIT_BYTES);
        read_value(self.values().get(byte(from)?..byte(to)?)?)
    }

    /// Reads everything and checks that each byte is what a writer would have written.
    pub fn verify(&self) -> Result<(), TableError> {
        let (header, _) = Header::ref_from_prefix(&self.map).expect("checked by open");
        let parts = [self.offsets, self.values];
        for ((section, (from, to)), part) in header.sections.iter().zip(parts).zip(SECTION_NAMES) {
            if xxh3_64(&self.map[from..to]) != section.check.get() {
                return Err(TableError::Damaged { part });
            }
        }
        let gaps = [HEADER_BYTES..self.offsets.0, self.offsets.1..self.values.0];
        if gaps.into_iter().any(|gap| self.map[gap].iter().any(|&byte| byte != 0)) {
            return Err(TableError::Padding);
        }
        self.verify_values()
    }

    fn verify_values(&self) -> Result<(), TableError> {
        let wrong = |rank, rule| TableError::Subject { rank, rule };
        let mut written = Vec::new();
        let mut end = 0_usize;
        for rank in 0..self.len() {
            let personal = u32::try_from(rank).ok().and_then(|rank| self.get(rank));
            let personal = personal.ok_or(wrong(rank, "no value that can be read"))?;
            if let Personal::Known { subject, meta } = personal
                && (check_subject(subject).is_err() || check_meta(meta).is_err())
            {
                return Err(wrong(rank, "too long, or it holds a control character"));
            }
            write_value(&personal, &mut written);
            if self.values().get(end..end + written.len()) != Some(&written[..]) {
                return Err(wrong(rank, "not the bytes of a value, or out of order"));
            }
            end += written.len();
        }
        let ends = [self.offsets().last().map(|units| units.get() as usize * UNIT_BYTES)];
        if ends != [Some(end)] || end != self.values().len() {
            return Err(wrong(self.len(), "values do not end with the last record"));
        }
        Ok(())
    }

    fn offsets(&self) -> &[U32] {
        let (from, to) = self.offsets;
        <[U32]>::ref_from_bytes(&self.map[from..to]).expect("checked by open")
    }

    fn values(&self) -> &[u8] {
        &self.map[self.values.0..self.values.1]
    }
}

fn check_header(header: &Header, file_bytes: u64) -> Result<[(usize, usize); 2], TableError> {
    let field = |name| TableError::Field { name };
    if header.magic != MAGIC {
        return Err(TableError::NotSubjects);
    }
    if header.version.get() != VERSION {
        return Err(TableError::Version { found: header.version.get() });
    }
    let (checked, _) = header.as_bytes().split_at(HEADER_BYTES - size_of::<u64>());
    if xxh3_64(checked) != header.check.get() {
        return Err(TableError::Damaged { part: "header" });
    }
    if header.flags.get() != 0 || header.rest.iter().any(|&byte| byte != 0) {
        return Err(field("flags"));
    }
    let records = header.records.get();
    if records > RECORDS_MAX {
        return Err(field("records"));
    }
    let sizes = [(records + 1) * UNIT_BYTES as u64, header.sections[1].bytes.get()];
    let (offsets, end) = format::place(sizes).ok_or(field("sections"))?;
    for (section, (offset, bytes)) in header.sections.iter().zip(offsets.into_iter().zip(sizes)) {
        if (section.offset.get(), section.bytes.get(), section.reserved.get()) != (offset, bytes, 0)
        {
            return Err(field("sections"));
        }
    }
    if end != file_bytes {
        return Err(TableError::Length { expected: end, actual: file_bytes });
    }
    let narrow = |n: u64| usize::try_from(n).expect("within the mapped file");
    Ok(std::array::from_fn(|i| (narrow(offsets[i]), narrow(offsets[i] + sizes[i]))))
}

fn read_value(value: &[u8]) -> Option<Personal<'_>> {
    let Some((lens, texts)) = value.split_first_chunk::<UNIT_BYTES>() else {
        return Some(Personal::NOTHING);
    };
    let [s0, s1, m0, m1] = *lens;
    let subject_bytes = u16::from_le_bytes([s0, s1]);
    let meta_bytes = usize::from(u16::from_le_bytes([m0, m1]));
    if subject_bytes == ERASED {
        return Some(Personal::Erased);
    }
    let (subject, rest) = texts.split_at_checked(usize::from(subject_bytes))?;
    let subject = std::str::from_utf8(subject).ok()?;
    let meta = std::str::from_utf8(rest.get(..meta_bytes)?).ok()?;
    Some(Personal::Known { subject, meta })
}

fn write_value(personal: &Personal<'_>, out: &mut Vec<u8>) {
    out.clear();
    let (subject_bytes, subject, meta) = match *personal {
        Personal::Erased => (ERASED, "", ""),
        Personal::NOTHING => return,
        Personal::Known { subject, meta } => (short(subject), subject, meta),
    };
    out.extend_from_slice(&subject_bytes.to_le_bytes());
    out.extend_from_slice(&short(meta).to_le_bytes());
    out.extend_from_slice(subject.as_bytes());
    out.extend_from_slice(meta.as_bytes());
    out.resize(out.len().next_multiple_of(UNIT_BYTES), 0);
}

fn short(text: &str) -> u16 {
    u16::try_from(text.len()).expect("subject and meta are bounded")
}

/// Writes a subjects file, record by record in the order of the table.
pub struct SubjectsWriter<'a> {
    new: &'a NewFile,
    offsets: SectionWriter<'a>,
    /// Values stand behind the offsets, whose number is known at the end: they wait here.
    values: Spool,
    value: Vec<u8>,
    units: u64,
    records: u64,
}

impl<'a> SubjectsWriter<'a> {
    /// Writes into `new`, with a scratch file in `folder`.
    pub fn new(new: &'a NewFile, folder: &Path) -> io::Result<SubjectsWriter<'a>> {
        Ok(SubjectsWriter {
            new,
            offsets: SectionWriter::new(new.file(), HEADER_BYTES as u64),
            values: Spool::new(folder),
            value: Vec::new(),
            units: 0,
            records: 0,
        })
    }

    /// Takes the next record's.
    pub fn push(&mut self, personal: &Personal<'_>) -> Result<(), TableError> {
        self.push_offset()?;
        write_value(personal, &mut self.value);
        self.values.push(&self.value)?;
        self.units += (self.value.len() / UNIT_BYTES) as u64;
        self.records += 1;
        Ok(())
    }

    /// Completes the file.
    pub fn finish(mut self) -> Result<Written, TableError> {
        self.push_offset()?;
        let file = self.new.file();
        let offsets = self.offsets.finish()?;
        let mut values = SectionWriter::new(file, end_of(&offsets));
        self.values.drain(UNIT_BYTES, |chunk| values.push(chunk))?;
        let values = values.finish()?;
        let mut header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            flags: 0.into(),
            records: self.records.into(),
            sections: [offsets, values],
            rest: [0; REST_BYTES],
            check: 0.into(),
        };
        let checked = HEADER_BYTES - size_of::<u64>();
        header.check.set(xxh3_64(&header.as_bytes()[..checked]));
        file.write_all_at(header.as_bytes(), 0)?;
        file.set_len(end_of(&values))?;
        Written::of(file, self.records)
    }

    fn push_offset(&mut self) -> Result<(), TableError> {
        let units = u32::try_from(self.units).map_err(|_| TableError::TooManyRecords)?;
        self.offsets.push(&units.to_le_bytes()).map_err(TableError::from)
    }
}
