//! The revocations note: what kills tokens when nothing else can be published.
//!
//! ```text
//! acme/adamant/revocations
//! sequence 7
//! table <blake3> <bytes> <records>
//! ```
//!
//! A signed note, `store/revocations`, that names one cumulative list of digests,
//! `store/tables/<blake3>.rev`. Its signer signs nothing else: with that key, stolen, somebody can
//! deny service, and cannot mint trust, restore a base or stretch an expiry. The note applies on
//! its own, even while a manifest is refused, and each holds all that the one before held. The
//! ledger absorbs it later.
//!
//! The list, version 1, little-endian:
//!
//! | bytes | field | value |
//! |------:|-------|-------|
//! | 8 | `magic` | [`MAGIC`] |
//! | 4 | `version` | 1 |
//! | 4 | reserved | 0 |
//! | 8 | `records` | how many |
//! | 8 | `check` | xxh3-64 of the records |
//! | 40 each | records | digest (32), revoked-at (u32, seconds since 2020), number of the reason (u8), three zeros; strictly ascending by digest |

use xxhash_rust::xxh3::xxh3_64;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::manifest::{FileHash, hex, parse_hash};
use crate::table::Filter;
use crate::table::format::Reason;
use crate::time::TableTime;
use crate::token::Digest;

/// Marks a list of revocations.
pub const MAGIC: [u8; 8] = *b"ADMR\r\n\x1a\n";
const VERSION: u32 = 1;
const SUFFIX: &str = "/revocations";
/// Most records: 400 MB. The ledger absorbs them long before.
pub const RECORDS_MAX: u64 = 10_000_000;

/// The note's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationsNote {
    /// The deployment.
    pub origin: String,
    /// Raised with every note.
    pub sequence: u64,
    /// Identity of the list.
    pub hash: FileHash,
    /// Its length.
    pub bytes: u64,
    /// Its records.
    pub records: u64,
}

impl RevocationsNote {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let RevocationsNote { origin, sequence, hash, bytes, records } = self;
        format!("{origin}{SUFFIX}\nsequence {sequence}\ntable {} {bytes} {records}\n", hex(hash))
    }

    /// Reads the text of a note of `origin`.
    pub fn parse(text: &str, origin: &str) -> Option<RevocationsNote> {
        let mut lines = text.lines();
        let first = lines.next()?.strip_suffix(SUFFIX)?;
        let sequence = lines.next()?.strip_prefix("sequence ")?.parse().ok()?;
        let mut words = lines.next()?.strip_prefix("table ")?.split(' ');
        let note = RevocationsNote {
            origin: first.to_owned(),
            sequence,
            hash: parse_hash(words.next()?)?,
            bytes: words.next()?.parse().ok()?,
            records: words.next()?.parse().ok()?,
        };
        // More lines, leading zeros, another spelling: another note.
        (note.to_text() == text && first == origin).then_some(note)
    }
}

/// One token that is revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The token.
    pub digest: Digest,
    /// When its trust ends.
    pub at: TableTime,
    /// Why.
    pub reason: Reason,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    reserved: U32,
    records: U64,
    check: U64,
}

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Row {
    digest: Digest,
    at: U32,
    reason: u8,
    reserved: [u8; 3],
}

const _: () = assert!(size_of::<Header>() == 32 && size_of::<Row>() == 40);

/// A list of revocations in memory.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    rows: Vec<Row>,
    filter: Option<Filter>,
}

impl Revocations {
    /// A list of these, each once; of two about one token the earlier counts.
    pub fn of(mut list: Vec<Revocation>) -> Revocations {
        list.sort_by_key(|revocation| (revocation.digest, revocation.at));
        list.dedup_by_key(|revocation| revocation.digest);
        let rows = list.into_iter().map(|Revocation { digest, at, reason }| Row {
            digest,
            at: at.0.into(),
            reason: reason as u8,
            reserved: [0; 3],
        });
        Revocations::with(rows.collect())
    }

    /// Reads the bytes of a list, and refuses any that a writer would not have written.
    pub fn parse(bytes: &[u8]) -> Option<Revocations> {
        let (header, rest) = Header::ref_from_prefix(bytes).ok()?;
        let rows = <[Row]>::ref_from_bytes(rest).ok()?;
        let fits = header.magic == MAGIC
            && header.version.get() == VERSION
            && header.reserved.get() == 0
            && header.records.get() == rows.len() as u64
            && header.records.get() <= RECORDS_MAX
            && header.check.get() == xxh3_64(rest)
            && rows.is_sorted_by(|a, b| a.digest < b.digest)
            && rows.iter().all(|row| {
                row.at.get() != 0
                    && row.reserved == [0; 3]
                    && Reason::from_number(row.reason).is_some()
            });
        fits.then(|| Revocations::with(rows.to_vec()))
    }

    /// The bytes of the list.
    pub fn to_bytes(&self) -> Vec<u8> {
        let rows = self.rows.as_bytes();
        let header = Header {
            magic: MAGIC,
            version: VERSION.into(),
            reserved: 0.into(),
            records: (self.rows.len() as u64).into(),
            check: xxh3_64(rows).into(),
        };
        [header.as_bytes(), rows].concat()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// When trust in a token ends, if the list says so.
    pub fn get(&self, digest: &Digest) -> Option<TableTime> {
        if !self.filter.as_ref()?.may_hold(digest) {
            return None;
        }
        let at = self.rows.binary_search_by(|row| row.digest.cmp(digest)).ok()?;
        Some(TableTime(self.rows[at].at.get()))
    }

    /// All of them, ascending by digest.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        self.rows.iter().map(|row| Revocation {
            digest: row.digest,
            at: TableTime(row.at.get()),
            reason: Reason::from_number(row.reason).expect("checked when it was read"),
        })
    }

    /// The first token that `before` revokes, and this does not, or later.
    pub fn forgets(&self, before: &Revocations) -> Option<Digest> {
        let kept = |old: &Revocation| self.get(&old.digest).is_some_and(|at| at <= old.at);
        before.iter().find(|old| !kept(old)).map(|old| old.digest)
    }

    fn with(rows: Vec<Row>) -> Revocations {
        let filter = Filter::of(rows.len(), rows.iter().map(|row| &row.digest));
        let filter = (!rows.is_empty()).then_some(filter);
        Revocations { rows, filter }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn revocation(number: u32, at: u32) -> Revocation {
        let digest = *blake3::hash(&number.to_le_bytes()).as_bytes();
        Revocation { digest, at: TableTime(at), reason: Reason::Compromised }
    }

    #[test]
    fn a_list_has_what_it_was_made_of_and_nothing_else() {
        for count in [0_u32, 1, 7, 1000] {
            let list = Revocations::of((0..count).map(|n| revocation(n, n + 1)).collect());
            let list = Revocations::parse(&list.to_bytes()).unwrap();
            assert_eq!(list.len(), count as usize);
            for n in 0..count {
                assert_eq!(list.get(&revocation(n, 0).digest), Some(TableTime(n + 1)));
            }
            for n in count..count + 1000 {
                assert_eq!(list.get(&revocation(n, 0).digest), None);
            }
        }
    }

    #[test]
    fn every_other_byte_is_refused() {
        let whole = Revocations::of((0..3).map(|n| revocation(n, 9)).collect()).to_bytes();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                assert!(Revocations::parse(&changed).is_none(), "bit {bit} of byte {at}");
            }
            assert!(Revocations::parse(&whole[..at]).is_none(), "cut to {at}");
        }
    }

    #[test]
    fn a_list_that_forgets_or_delays_is_seen() {
        let list = |rows: &[(u32, u32)]| {
            Revocations::of(rows.iter().map(|(n, at)| revocation(*n, *at)).collect())
        };
        let before = list(&[(1, 5), (2, 5)]);
        assert_eq!(list(&[(1, 5), (2, 5), (3, 9)]).forgets(&before), None);
        assert_eq!(list(&[(1, 4), (2, 5)]).forgets(&before), None);
        assert_eq!(list(&[(1, 5)]).forgets(&before), Some(revocation(2, 0).digest));
        assert_eq!(list(&[(1, 6), (2, 5)]).forgets(&before), Some(revocation(1, 0).digest));
    }

    #[test]
    fn the_text_is_that_of_the_format() {
        let note = RevocationsNote {
            origin: "a/b".to_owned(),
            sequence: 7,
            hash: [0xAA; 32],
            bytes: 72,
            records: 1,
        };
        let text = format!("a/b/revocations\nsequence 7\ntable {} 72 1\n", "aa".repeat(32));
        assert_eq!(note.to_text(), text);
        assert_eq!(RevocationsNote::parse(&text, "a/b").as_ref(), Some(&note));
        assert_eq!(RevocationsNote::parse(&text, "a/c"), None);
        assert_eq!(RevocationsNote::parse(&(text + "more\n"), "a/b"), None);
    }

    /// Behind a good checksum, so that each rule is met on its own.
    #[test]
    fn rows_that_no_writer_writes_are_refused() {
        let of = |change: fn(&mut Vec<Row>)| {
            let mut list = Revocations::of((0..3).map(|n| revocation(n, 9)).collect());
            change(&mut list.rows);
            Revocations::parse(&list.to_bytes())
        };
        assert_eq!(of(|_| ()).unwrap().len(), 3);
        assert!(of(|rows| rows[1].at.set(0)).is_none(), "no time");
        for at in 0..3 {
            let mut list = Revocations::of((0..3).map(|n| revocation(n, 9)).collect());
            list.rows[1].reserved[at] = 1;
            assert!(Revocations::parse(&list.to_bytes()).is_none(), "reserved byte {at}");
        }
        assert!(of(|rows| rows[1].reason = 0).is_none(), "no reason");
        assert!(of(|rows| rows[1].reason = 200).is_none(), "an unknown reason");
        assert!(of(|rows| rows.swap(0, 1)).is_none(), "out of order");
        assert!(of(|rows| rows[1].digest = rows[0].digest).is_none(), "twice");
    }

    #[test]
    fn a_list_gives_back_what_it_holds_each_once_and_the_earlier_time() {
        let (first, second) = (revocation(1, 5), revocation(2, 7));
        let list = Revocations::of(vec![second, revocation(1, 6), first]);
        let mut expected = vec![first, second];
        expected.sort_by_key(|revocation| revocation.digest);
        assert_eq!(list.iter().collect::<Vec<_>>(), expected);
        assert!(!list.is_empty());
        assert!(Revocations::default().is_empty());
        assert!(Revocations::of(Vec::new()).is_empty());
    }
}
