//! Tables in whole: written, opened, verified, looked up, damaged.

mod damage;
mod lookup;

use std::fs::File;

use tempfile::TempDir;
use zerocopy::FromZeros;

use super::format::{Cold, FOREIGN, REVOKED, Reason, Record};
use super::*;
use crate::claims::Grant;
use crate::durable::NewFile;
use crate::time::TableTime;
use crate::token::Digest;
use crate::verdict::Standing;

/// An entry of the default sort: trusted, with the first grant.
fn record(digest: Digest) -> Record {
    let mut record = Record::new_zeroed();
    record.digest = digest;
    record.id[2..].copy_from_slice(&blake3::hash(&digest).as_bytes()[..9]);
    record
}

fn entry(record: Record) -> Entry<'static> {
    Entry { record, cold: Cold::new_zeroed(), personal: Personal::NOTHING, line: 0 }
}

fn revoked(mut entry: Entry<'static>, reason: Reason) -> Entry<'static> {
    entry.record.flags |= REVOKED;
    entry.cold.reason = reason as u8;
    entry
}

fn grants(count: usize) -> Vec<Vec<u8>> {
    let grant = |number: usize| {
        let scopes = vec![format!("scope:{number:06}")];
        let mut bytes = Vec::new();
        Grant::new("live".parse().unwrap(), "api", scopes).unwrap().encode(&mut bytes);
        bytes
    };
    (0..count).map(grant).collect()
}

fn spec(grants: Vec<Vec<u8>>) -> TableSpec {
    let domain =
        Domain { key: DomainKey([0xD0; 32]), prefix: "acme".parse().unwrap(), foreign: None };
    TableSpec { domain, grants, range: (0, 0) }
}

/// A table and its subjects file, which have no name.
struct Files {
    table: NewFile,
    table_written: Written,
    subjects: NewFile,
    _folder: TempDir,
}

/// Writes `entries`, sorted by digest here.
fn write(spec: TableSpec, entries: &[Entry<'_>]) -> Files {
    let folder = tempfile::tempdir().unwrap();
    let (table, subjects) =
        (NewFile::create(folder.path()).unwrap(), NewFile::create(folder.path()).unwrap());
    let mut entries: Vec<&Entry<'_>> = entries.iter().collect();
    entries.sort_by_key(|entry| entry.record.digest);
    let mut writer = TableWriter::new(&table, spec, folder.path()).unwrap();
    let mut personal = SubjectsWriter::new(&subjects, folder.path()).unwrap();
    for entry in entries {
        writer.push(entry).unwrap();
        personal.push(&entry.personal).unwrap();
    }
    let table_written = writer.finish().unwrap();
    personal.finish().unwrap();
    Files { table, table_written, subjects, _folder: folder }
}

fn table_of(digests: impl IntoIterator<Item = Digest>) -> Table {
    let entries: Vec<Entry<'_>> = digests.into_iter().map(|digest| entry(record(digest))).collect();
    let grants = if entries.is_empty() { Vec::new() } else { grants(1) };
    Table::open(write(spec(grants), &entries).table.file()).unwrap()
}

/// Opens bytes as a table.
fn open(bytes: &[u8]) -> Result<Table, TableError> {
    Table::open(&file_of(bytes))
}

fn file_of(bytes: &[u8]) -> File {
    use std::os::unix::fs::FileExt;
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// Written out by hand on purpose: if writer and reader are wrong in the same way, a round trip
/// still passes and every table in the field stops opening.
#[test]
fn the_bytes_are_those_of_the_format() {
    let mut first = entry(record([0x11; 32]));
    first.record.id = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2];
    first.record.not_before.set(0x0102_0304);
    first.record.expires.set(5);
    first.record.revoked_at.set(6);
    first.cold.issued_at.set(7);
    first.cold.reason = Reason::Unused as u8;
    let second = revoked(entry(record([0xEE; 32])), Reason::Absent);
    let files = write(spec(grants(1)), &[second, first]);
    let table = Table::open(files.table.file()).unwrap();
    table.verify().unwrap();
    let bytes = table.bytes();
    assert_eq!(&bytes[0..8], b"ADMT\r\n\x1a\n");
    assert_eq!(&bytes[8..16], &[1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[16..32], b"blake3-keyed\0\0\0\0");
    assert_eq!(&bytes[32..64], &[0xD0; 32]);
    assert_eq!(&bytes[64..80], b"acme\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(&bytes[80..144], &[0; 64]);
    assert_eq!(&bytes[144..160], &[2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[160..168], &[1, 0, 0, 0, 0, 0, 0, 0]);
    // Records: at 4096, two of 64 bytes. Directory: two lines behind them. Then the grants.
    assert_eq!(&bytes[192..208], &[0, 16, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[224..240], &[128, 16, 0, 0, 0, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&bytes[256..264], &[0, 17, 0, 0, 0, 0, 0, 0]);
    let record = &bytes[4096..4160];
    assert_eq!(&record[..32], &[0x11; 32]);
    assert_eq!(&record[32..43], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(&record[43..48], &[0; 5]);
    assert_eq!(&record[48..64], &[0, 0, 0, 0, 4, 3, 2, 1, 5, 0, 0, 0, 6, 0, 0, 0]);
    assert_eq!(bytes[4160 + 43], 1);
    // One bucket with both; the tag is the next 16 bits of the digest, since there is one bucket.
    let line = &bytes[4224..4288];
    assert_eq!(&line[..10], &[0, 0, 0, 0, 2, 0, 0x11, 0x11, 0xEE, 0xEE]);
    assert!(line[10..].iter().all(|&byte| byte == 0));
    assert_eq!(&bytes[4288..4294], &[2, 0, 0, 0, 0, 0]);
    let cold = &bytes[bytes.len() - 24..];
    assert_eq!(cold[..12], [7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(cold[12..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6]);
    assert_eq!(files.table_written.hash, *blake3::hash(bytes).as_bytes());
}

/// Sections of 2 MiB and more begin at multiples of 2 MiB, so that huge pages can hold them.
#[test]
fn large_sections_are_aligned_to_huge_pages() {
    let count = 40_000_u32;
    let table = table_of((0..count).map(|i| *blake3::hash(&i.to_le_bytes()).as_bytes()));
    table.verify().unwrap();
    let huge = usize::try_from(format::HUGE_PAGE_BYTES).unwrap();
    let (records, directory) = (table.places.sections[0], table.places.sections[1]);
    assert_eq!(records, (huge, huge + count as usize * 64));
    assert_eq!(directory.0, records.1);
    assert_eq!(table.records().len(), count as usize);
}

/// What no record names is left out, and the others are renumbered.
#[test]
fn only_grants_in_use_are_written() {
    let entries: Vec<Entry<'_>> = (0..100_u32)
        .map(|i| {
            let mut record = record(*blake3::hash(&i.to_le_bytes()).as_bytes());
            record.grant.set(i % 10 * 3);
            entry(record)
        })
        .collect();
    let table = Table::open(write(spec(grants(40)), &entries).table.file()).unwrap();
    table.verify().unwrap();
    assert_eq!(table.grant_count(), 10);
    let all = grants(40);
    for entry in &entries {
        let found = table.get(&entry.record.digest).unwrap();
        let expected = &all[entry.record.grant.get() as usize];
        assert_eq!(table.grant_bytes(found.record.grant.get()), Some(&expected[..]));
    }
    assert_eq!(table.grant_bytes(10), None);
    assert_eq!(table.grant_bytes(u32::MAX), None);
}

#[test]
fn subjects_are_found_by_rank() {
    let long = "é".repeat(127);
    let meta = "m".repeat(1024);
    let personal = [
        Personal::Known { subject: "customer-42", meta: "" },
        Personal::NOTHING,
        Personal::Erased,
        Personal::Known { subject: "", meta: "note" },
        Personal::Known { subject: &long, meta: &meta },
    ];
    let entries: Vec<Entry<'_>> = (0..200_u8)
        .map(|i| Entry {
            personal: personal[usize::from(i) % personal.len()],
            ..entry(record([i; 32]))
        })
        .collect();
    let files = write(spec(grants(1)), &entries);
    let subjects = Subjects::open(files.subjects.file()).unwrap();
    subjects.verify().unwrap();
    assert_eq!(subjects.len(), 200);
    for (rank, entry) in (0..).zip(&entries) {
        assert_eq!(subjects.get(rank), Some(entry.personal));
    }
    assert_eq!(subjects.get(200), None);
    assert_eq!(subjects.get(u32::MAX), None);
    let empty = write(spec(Vec::new()), &[]);
    let empty = Subjects::open(empty.subjects.file()).unwrap();
    empty.verify().unwrap();
    assert!(empty.is_empty());
}

/// The flag, and each time, goes where it belongs.
#[test]
fn a_record_says_what_it_knows_of_trust() {
    let mut record = record([1; 32]);
    record.not_before.set(2);
    record.expires.set(3);
    record.revoked_at.set(4);
    let standing = Standing {
        revoked: false,
        not_before: TableTime(2),
        expires: TableTime(3),
        revoked_at: TableTime(4),
    };
    assert_eq!(record.standing(), standing);
    record.flags = FOREIGN;
    assert_eq!(record.standing(), standing);
    for flags in [REVOKED, REVOKED | FOREIGN] {
        record.flags = flags;
        assert_eq!(record.standing(), Standing { revoked: true, ..standing });
    }
}

#[test]
fn a_cold_row_has_the_index_in_its_seven_bytes() {
    let mut cold = Cold::new_zeroed();
    assert_eq!(cold.event(), 0);
    (cold.ledger_index, cold.reason) = ([1, 2, 3, 4, 5, 6, 7], 0xFF);
    assert_eq!(cold.event(), 0x07_06_05_04_03_02_01);
}

/// They are in lists, events and files.
#[test]
fn reasons_have_their_names_and_numbers() {
    let names =
        ["compromised", "superseded", "unused", "owner-request", "policy", "absent", "other"];
    for (number, (reason, name)) in (1..).zip(Reason::ALL.into_iter().zip(names)) {
        assert_eq!((reason as u8, reason.name()), (number, name));
        assert_eq!(Reason::from_number(number), Some(reason));
        assert_eq!(Reason::from_name(name), Some(reason));
    }
    assert_eq!((Reason::from_number(0), Reason::from_number(8)), (None, None));
    assert_eq!((Reason::from_name(""), Reason::from_name("Policy")), (None, None));
}

#[test]
fn a_name_is_padded_with_zeros_and_nothing_else() {
    assert_eq!(format::padded("acme"), *b"acme\0\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(format::unpadded(&format::padded("acme")), Some("acme"));
    assert_eq!(format::unpadded(b"sixteen letters!"), Some("sixteen letters!"));
    assert_eq!(format::unpadded(&[0; format::NAME_BYTES]), Some(""));
    for wrong in [b"acme\0\0\0\0\0\0\0\0\0\0\0x", b"acm\xE9\0\0\0\0\0\0\0\0\0\0\0\0"] {
        assert_eq!(format::unpadded(wrong), None);
    }
}

/// A section of two mebibytes begins at a multiple of them; a smaller one at a cache line.
#[test]
fn sections_stand_where_their_size_asks_for() {
    let huge = format::HUGE_PAGE_BYTES;
    assert_eq!(huge, 2 << 20);
    assert_eq!((format::alignment_of(huge - 1), format::alignment_of(huge)), (64, huge));
    assert_eq!(format::place([1, huge, 5]), Some(([4096, huge, 2 * huge], 2 * huge + 5)));
    assert_eq!(format::place([u64::MAX, 1]), None);
    assert_eq!(format::section_sizes(41, 7), [41 * 64, 4 * 64, 7, 41 * 12]);
    assert_eq!([0, 1, 20, 21].map(format::buckets_for), [1, 1, 1, 2]);
}
