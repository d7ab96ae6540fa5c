//! Damaged tables are refused; and those whose checksums were made anew are refused or harmless.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::{FromBytes, IntoBytes};

use super::*;
use crate::table::format::{FOREIGN, HEADER_BYTES, Header, Line};

/// Forty records with four grants, some revoked, some by schedule.
fn small() -> Vec<u8> {
    let entries: Vec<Entry<'_>> = (0..40_u8)
        .map(|i| {
            let mut record = record(*blake3::hash(&[i]).as_bytes());
            record.grant.set(u32::from(i) % 4);
            record.expires.set(1000 + u32::from(i));
            match i % 8 {
                0 => revoked(entry(record), Reason::Absent),
                1 => {
                    record.revoked_at.set(77);
                    let mut scheduled = entry(record);
                    scheduled.cold.reason = Reason::Policy as u8;
                    scheduled
                }
                _ => entry(record),
            }
        })
        .collect();
    let files = write(spec(grants(4)), &entries);
    Table::open(files.table.file()).unwrap().bytes().to_vec()
}

fn refused(bytes: &[u8]) -> Result<(), TableError> {
    open(bytes)?.verify()
}

/// Makes all checksums anew, so that the rules behind them are reached.
fn reseal(bytes: &mut [u8]) {
    let (header, _) = Header::read_from_prefix(bytes).unwrap();
    let mut header = header;
    for section in &mut header.sections {
        let from = usize::try_from(section.offset.get()).unwrap_or(usize::MAX);
        let to = from.saturating_add(usize::try_from(section.bytes.get()).unwrap_or(0));
        if let Some(part) = bytes.get(from..to) {
            section.check.set(xxh3_64(part));
        }
    }
    header.check.set(xxh3_64(&header.as_bytes()[..HEADER_BYTES - 8]));
    bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
}

fn section(bytes: &[u8], number: usize) -> Range<usize> {
    let (header, _) = Header::ref_from_prefix(bytes).unwrap();
    let section = &header.sections[number];
    let from = usize::try_from(section.offset.get()).unwrap();
    from..from + usize::try_from(section.bytes.get()).unwrap()
}

#[test]
fn every_bit_flip_and_every_cut_is_refused() {
    let whole = small();
    refused(&whole).unwrap();
    // The header's middle is 4 KiB of zeros: each of its bytes, and each bit of all others.
    for bit in 0..whole.len() * 8 {
        if (320 * 8..4088 * 8).contains(&bit) && bit % 8 != 0 {
            continue;
        }
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(refused(&bytes).is_err(), "bit {bit}");
    }
    for len in (0..whole.len()).step_by(7) {
        assert!(refused(&whole[..len]).is_err(), "cut to {len}");
    }
    assert!(refused(&[&whole[..], &[0]].concat()).is_err());
}

/// One wrong field at a time, with the checksums made anew.
#[test]
fn wrong_header_fields_are_named() {
    let said = |at: usize, bytes: &[u8]| {
        let mut table = small();
        table[at..at + bytes.len()].copy_from_slice(bytes);
        reseal(&mut table);
        open(&table).unwrap_err().to_string()
    };
    assert_eq!(said(0, b"X"), "not a table");
    assert_eq!(said(8, &[2]), "table version 2, this build reads 1");
    for (at, bytes, name) in [
        (12, &[1][..], "flags"),
        (16, b"sha256\0\0\0\0\0\0", "algorithm"),
        (64, b"ACME", "prefix"),
        (64, b"acme\0x", "prefix"),
        (80, b"md5", "foreign"),
        (96, b"sha256", "foreign"),
        (144, &[41], "buckets"),
        (144, &[0xFF; 8], "records"),
        (152, &[3], "buckets"),
        (160, &[0xFF; 8], "grants"),
        (168, &[1], "from"),
        (184, &[1], "reserved"),
        (192, &[1], "sections"),
        (200, &[1], "sections"),
        (192 + 24, &[1], "sections"),
        (320, &[1], "reserved"),
        (4087, &[1], "reserved"),
    ] {
        let expected = format!("header field `{name}` has a value that this build does not accept");
        // 41 records have 3 buckets, 40 have 2: what the count breaks first is a fact of the format.
        assert_eq!(said(at, bytes), expected, "at {at}");
    }
}

#[test]
fn broken_rules_behind_good_checksums_are_refused() {
    let whole = small();
    let (records, directory, grants, cold) =
        (section(&whole, 0), section(&whole, 1), section(&whole, 2), section(&whole, 3));
    let said = |change: &dyn Fn(&mut [u8])| {
        let mut table = whole.clone();
        change(&mut table);
        reseal(&mut table);
        refused(&table).unwrap_err().to_string()
    };
    let at = |from: usize, byte: u8| said(&|table: &mut [u8]| table[from] = byte);
    let first = records.start;
    assert!(
        said(&|t| t.copy_within(first + 64..first + 96, first)).contains("not strictly ascending")
    );
    assert!(at(first + 32, 0xFF).contains("id is none that 14 base62 digits"));
    assert!(at(first + 43, 4 | FOREIGN).contains("flags that this build does not know"));
    assert!(at(first + 44, 1).contains("flags that this build does not know"));
    assert!(at(first + 51, 1).contains("grant is not in the table"));
    let disagree = "revocation and reason do not agree";
    assert!(at(cold.start + 11, 9).contains(disagree));
    for rank in 0..40 {
        let reason = cold.start + rank * 12 + 11;
        // Revoked without a reason, or the other way round.
        let other = if whole[reason] == 0 { Reason::Other as u8 } else { 0 };
        assert!(at(reason, other).contains(disagree), "record {rank}");
    }
    assert!(at(directory.start + 4, 1).contains("line 0 of the directory"));
    assert!(
        at(directory.start + 6, whole[directory.start + 6] ^ 1).contains("line 0 of the directory")
    );
    assert!(at(directory.start + 64 + 4, 0xFF).contains("line 1 of the directory"));
    assert!(at(directory.end - 1, 1).contains("of the directory"));
    assert!(at(grants.start, 1).contains("grant 0"));
    assert!(at(grants.start + 4, 0xFF).contains("grant"));
    assert!(at(grants.end - 1, b'0').contains("grant"));
    // One byte of the padding more than the grants have.
    let longer = at(192 + 2 * 32 + 8, whole[192 + 2 * 32 + 8] + 1);
    assert!(longer.contains("grants do not end with their section"), "{longer}");
    assert!(at(grants.end, 1).contains("bytes between the sections are not 0"));
    let unused = |t: &mut [u8]| {
        for at in records.clone().step_by(64) {
            t[at + 48] = t[at + 48].min(2);
        }
    };
    assert!(said(&unused).contains("grant 3: no record names it"));
}

/// Tables that were opened and never verified may find nothing; they must not panic, and both
/// ways of looking must agree.
#[test]
fn a_directory_that_lies_is_harmless() {
    let whole = small();
    let (records, directory) = (section(&whole, 0), section(&whole, 1));
    let digests: Vec<Digest> = whole[records]
        .chunks_exact(64)
        .map(|record| *record.first_chunk().unwrap())
        .chain([[0; 32], [0xFF; 32]])
        .collect();
    let mut next = numbers();
    for _ in 0..5000 {
        let mut table = whole.clone();
        for _ in 0..1 + next() % 8 {
            let at = directory.start + usize::try_from(next()).unwrap() % directory.len();
            table[at] = next().to_le_bytes()[0];
        }
        if next().is_multiple_of(4) {
            let line = directory.start + 64 * (usize::try_from(next()).unwrap() % 2);
            table[line..line + 6].copy_from_slice(&next().to_le_bytes()[..6]);
        }
        reseal(&mut table);
        let table = open(&table).unwrap();
        table.get_many(&digests, |index, found| {
            let alone = table.get(&digests[index]);
            assert_eq!(found.map(|found| found.rank), alone.map(|found| found.rank));
            assert!(found.is_none_or(|found| found.record.digest == digests[index]));
        });
    }
    assert_eq!(size_of::<Line>(), 64);
}

/// Pseudo-random numbers, the same in each run: xorshift64.
fn numbers() -> impl FnMut() -> u64 {
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    }
}

/// On every push; before a release, with `ADAMANT_RELEASE=1`, a million.
fn damages() -> usize {
    if std::env::var_os("ADAMANT_RELEASE").is_some() { 1_000_000 } else { 20_000 }
}

/// Promise 3: a table of a mebibyte, cut, or with bytes changed, copied or zeroed.
#[test]
fn damages_of_a_mebibyte_are_refused_and_with_checksums_made_anew_refused_or_right() {
    let digests: Vec<Digest> =
        (0..13_200_u32).map(|n| *blake3::hash(&n.to_le_bytes()).as_bytes()).collect();
    let whole = table_of(digests.iter().copied()).bytes().to_vec();
    assert!(whole.len() > 1 << 20);
    let mut next = numbers();
    let mut below = move |end: usize| usize::try_from(next()).unwrap() % end;
    let mut unchanged = 0;
    for _ in 0..damages() {
        let mut bytes = whole.clone();
        let (at, len) = (below(whole.len()), 1 + below(200));
        let end = whole.len().min(at + len);
        match below(5) {
            0 => bytes.truncate(at),
            1 => bytes[at..end].fill(0),
            2 => bytes[at] ^= 1 << below(8),
            3 => bytes.copy_within(at..end, below(whole.len() - len)),
            // Half of the records' fields are zeros: damage what the header says as well.
            _ => bytes[below(320)] = below(256).to_le_bytes()[0],
        }
        if bytes == whole {
            unchanged += 1;
            continue;
        }
        assert!(refused(&bytes).is_err());
        if bytes.len() >= HEADER_BYTES {
            reseal(&mut bytes);
            refused_or_right(&bytes, &digests[below(digests.len() - 50)..][..50]);
        }
    }
    assert!(unchanged < damages() / 4);
}

/// What is accepted answers like the set of its own records.
fn refused_or_right(bytes: &[u8], asked: &[Digest]) {
    let Ok(table) = open(bytes) else { return };
    let is_good = table.verify().is_ok();
    table.get_many(asked, |index, found| {
        assert!(found.is_none_or(|found| found.record.digest == asked[index]));
        if is_good {
            let held = table.records().binary_search_by(|record| record.digest.cmp(&asked[index]));
            assert_eq!(found.map(|found| found.rank as usize), held.ok());
        }
    });
}

#[test]
fn damaged_subjects_are_refused() {
    let personal = Personal::Known { subject: "customer", meta: "note" };
    let entries: Vec<Entry<'_>> =
        (0..20_u8).map(|i| Entry { personal, ..entry(record([i; 32])) }).collect();
    let files = write(spec(grants(1)), &entries);
    let whole = Subjects::open(files.subjects.file()).unwrap().bytes().to_vec();
    let verdict = |bytes: &[u8]| Subjects::open(&file_of(bytes)).and_then(|s| s.verify());
    verdict(&whole).unwrap();
    for at in (0..whole.len()).filter(|at| !(96..4080).contains(at)) {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(verdict(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
    for len in (0..whole.len()).step_by(11) {
        assert!(verdict(&whole[..len]).is_err(), "cut to {len}");
    }
    // With good checksums: an offset that points elsewhere, and a value that overlaps.
    for (at, byte) in [(4096, 1), (4096 + 4, 9), (4096 + 20 * 4, 1), (whole.len() - 16, 99)] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        reseal_subjects(&mut bytes);
        assert!(verdict(&bytes).is_err(), "byte {at}");
    }
}

fn reseal_subjects(bytes: &mut [u8]) {
    for section in [24, 56] {
        let number = |at: usize| {
            usize::try_from(u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())).unwrap()
        };
        let (from, len) = (number(section), number(section + 8));
        let check = xxh3_64(&bytes[from..from + len]).to_le_bytes();
        bytes[section + 16..section + 24].copy_from_slice(&check);
    }
    let check = xxh3_64(&bytes[..4088]).to_le_bytes();
    bytes[4088..4096].copy_from_slice(&check);
}
