//! The table file, version 1. `docs/format.md` has the same for readers in other languages.
//!
//! A table is written once, named by the BLAKE3 of its bytes, and never changed. Integers are
//! little-endian.
//!
//! | offset | bytes | field       | value |
//! |-------:|------:|-------------|-------|
//! |      0 |     8 | `magic`     | [`MAGIC`] |
//! |      8 |     4 | `version`   | [`VERSION`] |
//! |     12 |     4 | `flags`     | 0; readers refuse anything else |
//! |     16 |    16 | `algorithm` | [`ALGORITHM`], zero-padded: how a token becomes a digest |
//! |     32 |    32 | `key`       | domain key |
//! |     64 |    16 | `prefix`    | prefix of the deployment's tokens, zero-padded |
//! |     80 | 4 x 16 | `foreign`  | names of foreign algorithms, ascending, zero-padded, then zeros |
//! |    144 |     8 | `records`   | number of records, below 2^32 - 1 |
//! |    152 |     8 | `buckets`   | number of directory buckets, [`buckets_for`] |
//! |    160 |     8 | `grants`    | number of grants, at most [`GRANTS_MAX`] |
//! |    168 |     8 | `from`      | first ledger index of the range, 0 for a list-built table |
//! |    176 |     8 | `to`        | first ledger index after the range, 0 for a list-built table |
//! |    184 |     8 | reserved    | 0 |
//! |    192 | 4 x 32 | `sections` | offset, bytes, xxh3-64 and 0 of: records, directory, grants, cold |
//! |    320 |  3768 | reserved    | 0 |
//! |   4088 |     8 | `check`     | xxh3-64 of bytes 0 to 4087 |
//!
//! Sections follow in that order, each at the next multiple of [`alignment_of`] its bytes; the
//! bytes between are 0, and the file ends with the last section. The xxh3 find torn writes and
//! bit rot; identity is the BLAKE3 in the file's name, and trust is the signature on the manifest.
//!
//! - **records**: 64 bytes each ([`Record`]), strictly ascending by digest.
//! - **directory**: one 64-byte line ([`Line`]) a bucket and a last one; see `directory.rs`.
//! - **grants**: `grants + 1` offsets (u32) into what follows them, then the canonical bytes of
//!   each grant ([`crate::claims`]), strictly ascending.
//! - **cold**: 12 bytes a record ([`Cold`]), in record order. Never read for a verdict.
//!
//! Why it looks like this:
//!
//! - A record is one cache line, and a verdict needs nothing else of the token.
//! - Sections of 2 MiB and more start at multiples of 2 MiB, so that they can be mapped in huge
//!   pages.
//! - The place of a section follows from the counts. It stands in the header as well, so that a
//!   reader in another language need not know the rule; this reader refuses any other place.

use std::mem::offset_of;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::time::TableTime;
use crate::token::{Digest, ID_BYTES};
use crate::verdict::Standing;

/// Marks a table. The line break and the 0x1A catch a transfer in text mode, as in PNG.
pub const MAGIC: [u8; 8] = *b"ADMT\r\n\x1a\n";
/// The only version this build reads and writes.
pub const VERSION: u32 = 1;
/// BLAKE3 in keyed mode, 32 bytes, over the token's text.
pub const ALGORITHM: &str = "blake3-keyed";
/// Bytes before the first section.
pub const HEADER_BYTES: usize = 4096;
/// Bytes of a record, and of a cache line.
pub const RECORD_BYTES: usize = 64;
/// Tags in a directory line.
pub const LINE_TAGS: usize = 29;
/// Bytes of a cold row.
pub const COLD_BYTES: usize = 12;
/// Records a bucket has on average: 2.2 % of buckets then outgrow their tags.
pub const BUCKET_MEAN: u64 = 20;
/// Most grants: with 1 KiB each, 1 GiB of them. More means that something unique was put in.
pub const GRANTS_MAX: usize = 1 << 20;
/// Most records: a rank fits four bytes, and [`u32::MAX`] is no rank.
pub const RECORDS_MAX: u64 = u32::MAX as u64 - 1;
/// Foreign algorithms that a header has room for.
pub const FOREIGN_MAX: usize = 4;
/// Bytes of a zero-padded name.
pub const NAME_BYTES: usize = 16;
/// Sections of this size and more start at a multiple of it.
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// Sections in a table.
pub const SECTIONS: usize = 4;

/// Where records stand in [`Header::sections`], and so on.
pub const RECORDS: usize = 0;
/// See [`RECORDS`].
pub const DIRECTORY: usize = 1;
/// See [`RECORDS`].
pub const GRANTS: usize = 2;
/// See [`RECORDS`].
pub const COLD: usize = 3;
/// The sections' names in messages.
pub const SECTION_NAMES: [&str; SECTIONS] = ["records", "directory", "grants", "cold"];

/// The header as it stands in the file.
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: U32,
    /// 0.
    pub flags: U32,
    /// [`ALGORITHM`].
    pub algorithm: [u8; NAME_BYTES],
    /// The domain key.
    pub key: [u8; 32],
    /// The prefix.
    pub prefix: [u8; NAME_BYTES],
    /// Names of foreign algorithms.
    pub foreign: [[u8; NAME_BYTES]; FOREIGN_MAX],
    /// Number of records.
    pub records: U64,
    /// Number of buckets.
    pub buckets: U64,
    /// Number of grants.
    pub grants: U64,
    /// First ledger index of the range.
    pub from: U64,
    /// First ledger index after the range.
    pub to: U64,
    /// 0.
    pub reserved: U64,
    /// Place and check of each section.
    pub sections: [Section; SECTIONS],
    /// 0.
    pub rest: [u8; HEADER_REST_BYTES],
    /// xxh3-64 of all before.
    pub check: U64,
}

/// Reserved bytes of a header.
pub const HEADER_REST_BYTES: usize = 3768;

/// Place and check of one section.
#[derive(Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Section {
    /// First byte, from the beginning of the file.
    pub offset: U64,
    /// Bytes.
    pub bytes: U64,
    /// xxh3-64 of the bytes.
    pub check: U64,
    /// 0.
    pub reserved: U64,
}

/// One token.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Record {
    /// What the token is asked about as.
    pub digest: Digest,
    /// The public name, big-endian.
    pub id: [u8; ID_BYTES],
    /// [`REVOKED`] and [`FOREIGN`]; readers refuse any other bit.
    pub flags: u8,
    /// 0.
    pub reserved: U32,
    /// Number of the grant.
    pub grant: U32,
    /// Valid from this second of [`TableTime`] on; 0 = always was.
    pub not_before: U32,
    /// Dead from this second on; 0 = never.
    pub expires: U32,
    /// Revoked from this second on; 0 = not by schedule.
    pub revoked_at: U32,
}

/// Flag of a record: revoked, whatever the clock says.
pub const REVOKED: u8 = 1;
/// Flag of a record: the token was made by another system, and its id from its digest.
pub const FOREIGN: u8 = 2;
/// All flags of a record.
pub const FLAGS_KNOWN: u8 = REVOKED | FOREIGN;

impl Record {
    /// What the record says about trust.
    pub fn standing(&self) -> Standing {
        Standing {
            revoked: self.flags & REVOKED != 0,
            not_before: TableTime(self.not_before.get()),
            expires: TableTime(self.expires.get()),
            revoked_at: TableTime(self.revoked_at.get()),
        }
    }
}

/// One bucket of the directory.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Line {
    /// Rank of the bucket's first record.
    pub rank: U32,
    /// Records in the bucket; [`COUNT_FROM_NEXT`] = subtract from the next line's rank.
    pub count: U16,
    /// Tags of the first records of the bucket, then zeros.
    pub tags: [U16; LINE_TAGS],
}

/// A count that does not fit a line.
pub const COUNT_FROM_NEXT: u16 = u16::MAX;

/// What is known of a token and not needed for a verdict.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Cold {
    /// When the token was issued, second of [`TableTime`]; 0 in a list-built table.
    pub issued_at: U32,
    /// Ledger index of the event that issued it, 56 bits; 0 in a list-built table.
    pub ledger_index: [u8; 7],
    /// Number of the [`Reason`] of its revocation; 0 = not revoked, not even by schedule.
    pub reason: u8,
}

impl Cold {
    /// Index of the event that issued the token; 0 in a table that was built from a list.
    pub fn event(&self) -> u64 {
        let mut index = [0; size_of::<u64>()];
        index[..self.ledger_index.len()].copy_from_slice(&self.ledger_index);
        u64::from_le_bytes(index)
    }
}

/// Why a token was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// The secret is known to somebody else.
    Compromised = 1,
    /// Another token took its place.
    Superseded = 2,
    /// Nobody used it.
    Unused = 3,
    /// Its owner asked for it.
    OwnerRequest = 4,
    /// A rule demanded it.
    Policy = 5,
    /// It was missing from a later list.
    Absent = 6,
    /// None of these.
    Other = 7,
}

impl Reason {
    /// All reasons, by number from 1 on.
    pub const ALL: [Reason; 7] = [
        Reason::Compromised,
        Reason::Superseded,
        Reason::Unused,
        Reason::OwnerRequest,
        Reason::Policy,
        Reason::Absent,
        Reason::Other,
    ];

    /// The name in lists and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Compromised => "compromised",
            Self::Superseded => "superseded",
            Self::Unused => "unused",
            Self::OwnerRequest => "owner-request",
            Self::Policy => "policy",
            Self::Absent => "absent",
            Self::Other => "other",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Reason> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// The reason of that number.
    pub fn from_number(number: u8) -> Option<Reason> {
        Self::ALL.into_iter().find(|&reason| reason as u8 == number)
    }
}

/// Buckets of a table with that many records. At least one, so that every digest has a bucket.
pub fn buckets_for(records: u64) -> u64 {
    records.div_ceil(BUCKET_MEAN).max(1)
}

/// What a section's offset is a multiple of.
pub fn alignment_of(section_bytes: u64) -> u64 {
    if section_bytes >= HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { RECORD_BYTES as u64 }
}

/// Where sections of these sizes stand, one after the other behind a header, and the length of
/// the file. `None` when no file can be that long.
pub fn place<const N: usize>(sizes: [u64; N]) -> Option<([u64; N], u64)> {
    let mut end = HEADER_BYTES as u64;
    let mut offsets = [0; N];
    for (offset, bytes) in offsets.iter_mut().zip(sizes) {
        *offset = end.checked_next_multiple_of(alignment_of(bytes))?;
        end = offset.checked_add(bytes)?;
    }
    Some((offsets, end))
}

/// Sizes of records, directory and cold rows, in the order of the sections; `grants_bytes` is as
/// found.
pub fn section_sizes(records: u64, grants_bytes: u64) -> [u64; SECTIONS] {
    let lines = buckets_for(records) + 1;
    let line_bytes = size_of::<Line>() as u64;
    [records * RECORD_BYTES as u64, lines * line_bytes, grants_bytes, records * COLD_BYTES as u64]
}

/// `text` as a zero-padded name.
pub fn padded(text: &str) -> [u8; NAME_BYTES] {
    let mut name = [0; NAME_BYTES];
    name[..text.len()].copy_from_slice(text.as_bytes());
    name
}

/// The text of a zero-padded name, if it is one.
pub fn unpadded(name: &[u8; NAME_BYTES]) -> Option<&str> {
    let len = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_BYTES);
    let zeros = name[len..].iter().all(|&byte| byte == 0);
    std::str::from_utf8(&name[..len]).ok().filter(|_| zeros)
}

// The tables above, checked by the compiler.
const _: () = {
    assert!(size_of::<Header>() == HEADER_BYTES);
    assert!(offset_of!(Header, algorithm) == 16);
    assert!(offset_of!(Header, key) == 32);
    assert!(offset_of!(Header, prefix) == 64);
    assert!(offset_of!(Header, foreign) == 80);
    assert!(offset_of!(Header, records) == 144);
    assert!(offset_of!(Header, sections) == 192);
    assert!(offset_of!(Header, rest) == 320);
    assert!(offset_of!(Header, check) == 4088);
    assert!(size_of::<Record>() == RECORD_BYTES);
    assert!(offset_of!(Record, id) == 32);
    assert!(offset_of!(Record, flags) == 43);
    assert!(offset_of!(Record, grant) == 48);
    assert!(offset_of!(Record, not_before) == 52);
    assert!(offset_of!(Record, expires) == 56);
    assert!(offset_of!(Record, revoked_at) == 60);
    assert!(size_of::<Line>() == RECORD_BYTES);
    assert!(offset_of!(Line, tags) == 6);
    assert!(size_of::<Cold>() == COLD_BYTES);
    assert!(offset_of!(Cold, reason) == 11);
    assert!(HEADER_BYTES.is_multiple_of(RECORD_BYTES));
    assert!(ALGORITHM.len() <= NAME_BYTES);
};
