//! The manifest: a signed note that says what a generation consists of.
//!
//! ```text
//! acme/adamant/manifest
//! epoch 1
//! generation 7
//! table <blake3> <bytes> <records> <from> <to> subjects <blake3> <bytes>
//! issued 2026-11-25T05:00:00Z
//! expires 2026-12-02T05:00:00Z
//! ledger 0 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=
//! previous <blake3 of the manifest before, or 64 zeros>
//! revocations 0
//! ```
//!
//! One `table` line each, base first. Digests are lower-case hex, times RFC 3339 in UTC to the
//! second, `ledger` the size and root of the tree that the tables were built from (0 and the empty
//! root without one), `revocations` the least sequence of a revocations note that goes with it. A
//! line that is missing, unknown, repeated, out of place or written in any other way is refused:
//! one meaning, one text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::ledger::tree::Hash;
use crate::table::format::RECORDS_MAX;
use crate::time::{from_rfc3339, to_rfc3339};

/// Base and two overlays.
pub const TABLES_MAX: usize = 3;
/// No file of a store is longer: a table of the most records has 350 GB. With it, and with the most
/// records of a table, whoever adds up what a manifest says stays far from overflow.
const FILE_BYTES_MAX: u64 = 1 << 40;
/// A file's identity: the BLAKE3 of all its bytes.
pub type FileHash = [u8; 32];

/// What a generation consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The deployment; see [`crate::policy::Policy::origin`].
    pub origin: String,
    /// Raised when signers are thrown out.
    pub epoch: u64,
    /// Raised with every manifest.
    pub generation: u64,
    /// Base first.
    pub tables: Vec<TableLine>,
    /// When it was signed, Unix seconds.
    pub issued: i64,
    /// When it ends, Unix seconds.
    pub expires: i64,
    /// Size and root of the ledger.
    pub ledger: (u64, Hash),
    /// The manifest before, if there was one.
    pub previous: Option<FileHash>,
    /// Least sequence of the revocations note.
    pub revocations: u64,
}

/// One table of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableLine {
    /// Identity of the table.
    pub hash: FileHash,
    /// Its length.
    pub bytes: u64,
    /// Its records.
    pub records: u64,
    /// Its ledger range, from the first index to the one after the last.
    pub range: (u64, u64),
    /// Identity of its subjects file.
    pub subjects_hash: FileHash,
    /// Length of its subjects file.
    pub subjects_bytes: u64,
}

impl Manifest {
    /// The text that is signed.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{}/manifest\nepoch {}\ngeneration {}\n",
            self.origin, self.epoch, self.generation
        );
        for table in &self.tables {
            text.push_str(&table.to_text());
        }
        text.push_str(&format!(
            "issued {}\nexpires {}\nledger {} {}\nprevious {}\nrevocations {}\n",
            to_rfc3339(self.issued),
            to_rfc3339(self.expires),
            self.ledger.0,
            BASE64.encode(self.ledger.1),
            hex(&self.previous.unwrap_or_default()),
            self.revocations,
        ));
        text
    }

    /// Records of all its tables; a token that two of them know counts twice.
    pub fn records(&self) -> u64 {
        self.tables.iter().map(|table| table.records).sum()
    }

    /// Reads the text of a manifest of `origin`.
    pub fn parse(text: &str, origin: &str) -> Result<Manifest, ManifestError> {
        let mut lines = Lines(text.lines());
        let first = lines.0.next().unwrap_or_default();
        if first.strip_suffix("/manifest") != Some(origin) {
            return Err(ManifestError::Origin { found: first.to_owned() });
        }
        let manifest = Manifest {
            origin: origin.to_owned(),
            epoch: lines.number("epoch")?,
            generation: lines.number("generation")?,
            tables: lines.tables()?,
            issued: lines.time("issued")?,
            expires: lines.time("expires")?,
            ledger: lines.ledger()?,
            previous: Some(lines.hash("previous")?).filter(|hash| *hash != [0; 32]),
            revocations: lines.number("revocations")?,
        };
        // Whatever else the text may have: another spelling, more lines, no last line break.
        if manifest.to_text() != text {
            return Err(ManifestError::Line { name: "the whole" });
        }
        Ok(manifest)
    }
}

impl TableLine {
    fn to_text(&self) -> String {
        format!(
            "table {} {} {} {} {} subjects {} {}\n",
            hex(&self.hash),
            self.bytes,
            self.records,
            self.range.0,
            self.range.1,
            hex(&self.subjects_hash),
            self.subjects_bytes,
        )
    }

    fn parse(value: &str) -> Option<TableLine> {
        let mut words = value.split(' ');
        let mut word = || words.next();
        let line = TableLine {
            hash: parse_hash(word()?)?,
            bytes: word()?.parse().ok()?,
            records: word()?.parse().ok()?,
            range: (word()?.parse().ok()?, word()?.parse().ok()?),
            subjects_hash: word()
                .filter(|&word| word == "subjects")
                .and_then(|_| word())
                .and_then(parse_hash)?,
            subjects_bytes: word()?.parse().ok()?,
        };
        let fits = line.records <= RECORDS_MAX
            && line.bytes <= FILE_BYTES_MAX
            && line.subjects_bytes <= FILE_BYTES_MAX;
        (word().is_none() && fits).then_some(line)
    }
}

/// The lines of a manifest, in their order.
struct Lines<'a>(std::str::Lines<'a>);

impl<'a> Lines<'a> {
    fn value(&mut self, name: &'static str) -> Result<&'a str, ManifestError> {
        let line = self.0.next().unwrap_or_default();
        line.strip_prefix(name)
            .and_then(|rest| rest.strip_prefix(' '))
            .ok_or(ManifestError::Line { name })
    }

    fn number(&mut self, name: &'static str) -> Result<u64, ManifestError> {
        self.value(name)?.parse().map_err(|_| ManifestError::Line { name })
    }

    fn time(&mut self, name: &'static str) -> Result<i64, ManifestError> {
        let time = from_rfc3339(self.value(name)?);
        time.map(|(unix_s, _)| unix_s).ok_or(ManifestError::Line { name })
    }

    fn hash(&mut self, name: &'static str) -> Result<FileHash, ManifestError> {
        parse_hash(self.value(name)?).ok_or(ManifestError::Line { name })
    }

    fn ledger(&mut self) -> Result<(u64, Hash), ManifestError> {
        let wrong = ManifestError::Line { name: "ledger" };
        let parsed = self.value("ledger")?.split_once(' ').and_then(|(size, root)| {
            let root = BASE64.decode(root).ok()?.try_into().ok()?;
            Some((size.parse().ok()?, root))
        });
        parsed.ok_or(wrong)
    }

    fn tables(&mut self) -> Result<Vec<TableLine>, ManifestError> {
        let wrong = ManifestError::Line { name: "table" };
        let mut tables = Vec::new();
        while self.0.clone().next().is_some_and(|line| line.starts_with("table ")) {
            let value = self.value("table")?;
            tables.push(TableLine::parse(value).ok_or(ManifestError::Line { name: "table" })?);
        }
        if (1..=TABLES_MAX).contains(&tables.len()) { Ok(tables) } else { Err(wrong) }
    }
}

/// A hash as it stands in manifests and file names.
pub fn hex(hash: &FileHash) -> String {
    blake3::Hash::from_bytes(*hash).to_hex().to_string()
}

/// Reads what [`hex`] wrote.
pub fn parse_hash(text: &str) -> Option<FileHash> {
    let hash = blake3::Hash::from_hex(text).ok()?;
    (hash.to_hex().as_str() == text).then_some(*hash.as_bytes())
}

/// Why the text of a manifest is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// A note of another deployment, or of another kind.
    #[error("it is `{found}`, not a manifest of this deployment")]
    Origin {
        /// The first line found.
        found: String,
    },
    /// A line is missing, or not what this build reads.
    #[error("line `{name}` is missing, out of place, or not as this build writes it")]
    Line {
        /// The line.
        name: &'static str,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ledger::tree::EMPTY_ROOT;

    fn sample() -> Manifest {
        Manifest {
            origin: "acme/adamant".to_owned(),
            epoch: 1,
            generation: 7,
            tables: vec![TableLine {
                hash: [0xAA; 32],
                bytes: 4096,
                records: 3,
                range: (0, 0),
                subjects_hash: [0xBB; 32],
                subjects_bytes: 4100,
            }],
            issued: 1_795_582_800,
            expires: 1_796_187_600,
            ledger: (0, EMPTY_ROOT),
            previous: None,
            revocations: 0,
        }
    }

    /// Written out by hand on purpose: this text is signed, and read by other programs.
    #[test]
    fn the_text_is_that_of_the_format() {
        let (a, b, zeros) = ("aa".repeat(32), "bb".repeat(32), "00".repeat(32));
        let expected = format!(
            "acme/adamant/manifest\nepoch 1\ngeneration 7\n\
             table {a} 4096 3 0 0 subjects {b} 4100\n\
             issued 2026-11-25T05:00:00Z\nexpires 2026-12-02T05:00:00Z\n\
             ledger 0 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\
             previous {zeros}\nrevocations 0\n"
        );
        assert_eq!(sample().to_text(), expected);
        assert_eq!(Manifest::parse(&expected, "acme/adamant"), Ok(sample()));
    }

    #[test]
    fn lines_that_are_missing_repeated_added_or_swapped_are_refused() {
        let text = sample().to_text();
        let lines: Vec<&str> = text.lines().collect();
        let joined =
            |lines: &[&str]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        for at in 0..lines.len() {
            let mut less = lines.clone();
            less.remove(at);
            assert!(Manifest::parse(&joined(&less), "acme/adamant").is_err(), "without line {at}");
            let mut more = lines.clone();
            more.insert(at, "comment x");
            assert!(Manifest::parse(&joined(&more), "acme/adamant").is_err(), "a line at {at}");
            let mut swapped = lines.clone();
            swapped.swap(at, (at + 1) % lines.len());
            assert!(Manifest::parse(&joined(&swapped), "acme/adamant").is_err(), "swapped {at}");
        }
        for (from, to) in [
            ("epoch 1", "epoch 01"),
            ("epoch 1", "epoch +1"),
            ("epoch 1", "epoch  1"),
            ("05:00:00Z", "05:00:00.0Z"),
            ("05:00:00Z", "06:00:00+01:00"),
            ("aaaa", "AAaa"),
            ("subjects", "subject"),
            ("4100\n", "4100 \n"),
            ("revocations 0\n", "revocations 0"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(Manifest::parse(&changed, "acme/adamant").is_err(), "{from} -> {to}");
        }
    }

    /// Sums of what three tables say are taken in many places.
    #[test]
    fn numbers_that_no_table_has_are_refused() {
        let mut manifest = sample();
        manifest.tables = vec![sample().tables[0].clone(); TABLES_MAX];
        for table in &mut manifest.tables {
            table.records = RECORDS_MAX;
            (table.bytes, table.subjects_bytes) = (FILE_BYTES_MAX, FILE_BYTES_MAX);
        }
        let good = Manifest::parse(&manifest.to_text(), "acme/adamant");
        assert_eq!(good.map(|manifest| manifest.records()), Ok(3 * RECORDS_MAX));
        for (most, name) in [(RECORDS_MAX, "records"), (FILE_BYTES_MAX, "bytes")] {
            for more in [most + 1, u64::MAX] {
                let text = manifest.to_text().replacen(&most.to_string(), &more.to_string(), 1);
                let refused = Manifest::parse(&text, "acme/adamant");
                assert_eq!(refused, Err(ManifestError::Line { name: "table" }), "{name} {more}");
            }
        }
    }

    #[test]
    fn another_deployment_or_note_is_refused() {
        let text = sample().to_text();
        assert!(Manifest::parse(&text, "acne/adamant").is_err());
        let other = text.replacen("/manifest", "/revocations", 1);
        assert!(Manifest::parse(&other, "acme/adamant").is_err());
    }

    #[test]
    fn one_to_three_tables() {
        let mut manifest = sample();
        for count in 1..=TABLES_MAX {
            manifest.tables = vec![sample().tables[0].clone(); count];
            let text = manifest.to_text();
            assert_eq!(Manifest::parse(&text, "acme/adamant").as_ref(), Ok(&manifest));
        }
        manifest.tables = vec![sample().tables[0].clone(); 4];
        assert!(Manifest::parse(&manifest.to_text(), "acme/adamant").is_err());
    }
}
