//! What opens the commitments: salt, subject and meta of each issued token. It never travels.
//!
//! ```text
//! private/openings/<N>           the events 4096 N to 4096 N + 4095, ascending
//! ```
//!
//! | bytes | field |
//! |------:|-------|
//! | 8 | index of the event, little-endian |
//! | 32 | salt |
//! | 2 | length of the subject, little-endian |
//! | 2 | length of the meta text, little-endian |
//! | .. | subject, then meta |
//! | 8 | xxh3-64 of all before |
//!
//! An opening is durable before the event that needs it. One of an event that never came to be is
//! cut off by the next append. Erasing writes a file anew without the row.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use super::LedgerError;
use crate::durable::{self, Appended};

/// Events of one file.
pub const SEGMENT_EVENTS: u64 = 4096;
const FIXED_BYTES: usize = 8 + 32 + 2 + 2;
const CHECK_BYTES: usize = size_of::<u64>();

/// Who a token is for, and the salt of the commitment to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Index of the event that issued the token.
    pub index: u64,
    /// 32 random bytes.
    pub salt: [u8; 32],
    /// Who the token is for.
    pub subject: String,
    /// What its issuer noted.
    pub meta: String,
}

/// The folder of the openings.
#[derive(Clone, Debug)]
pub struct Openings {
    folder: PathBuf,
}

impl Openings {
    /// The openings in `folder`.
    pub fn at(folder: &Path) -> Openings {
        Openings { folder: folder.to_owned() }
    }

    /// Appends openings, ascending; they are durable when the files are. `first` is the first event
    /// of the append: whatever is there from it on belongs to no event, and is cut.
    pub fn append(&self, first: u64, openings: &[Opening]) -> Result<Vec<Appended>, LedgerError> {
        durable::create_folder(&self.folder, 0o700)?;
        let mut appended = Vec::new();
        for group in openings.chunk_by(|a, b| segment_of(a.index) == segment_of(b.index)) {
            let path = self.path(segment_of(group[0].index));
            let is_new = !path.exists();
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .mode(0o600)
                .open(&path);
            let file = file.map_err(|err| LedgerError::io("open", &path, err))?;
            let (_, end) = read(&file, &path, first)?;
            let mut bytes = Vec::new();
            group.iter().for_each(|opening| encode(opening, &mut bytes));
            appended.push(durable::append(file, &path, is_new, end, &bytes)?);
        }
        Ok(appended)
    }

    /// The openings of the events of one segment, ascending; those before `end` alone.
    pub fn segment(&self, segment: u64, end: u64) -> Result<Vec<Opening>, LedgerError> {
        let path = self.path(segment);
        let file = match File::open(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|err| LedgerError::io("open", &path, err))?,
        };
        Ok(read(&file, &path, end)?.0)
    }

    /// The opening of one event.
    pub fn get(&self, index: u64) -> Result<Option<Opening>, LedgerError> {
        let segment = self.segment(segment_of(index), index + 1)?;
        Ok(segment.into_iter().rev().find(|opening| opening.index == index))
    }

    /// Forgets the opening of one event, durably. Whether there was one.
    pub fn erase(&self, index: u64) -> Result<bool, LedgerError> {
        let segment = segment_of(index);
        let mut openings = self.segment(segment, u64::MAX)?;
        let before = openings.len();
        openings.retain(|opening| opening.index != index);
        if openings.len() == before {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        openings.iter().for_each(|opening| encode(opening, &mut bytes));
        durable::write(&self.folder, &segment.to_string(), &bytes, 0o600)?;
        Ok(true)
    }

    fn path(&self, segment: u64) -> PathBuf {
        self.folder.join(segment.to_string())
    }
}

/// The segment that holds the opening of an event.
pub fn segment_of(index: u64) -> u64 {
    index / SEGMENT_EVENTS
}

fn encode(opening: &Opening, out: &mut Vec<u8>) {
    let from = out.len();
    let short = |text: &str| u16::try_from(text.len()).expect("both are bounded").to_le_bytes();
    out.extend_from_slice(&opening.index.to_le_bytes());
    out.extend_from_slice(&opening.salt);
    out.extend_from_slice(&short(&opening.subject));
    out.extend_from_slice(&short(&opening.meta));
    out.extend_from_slice(opening.subject.as_bytes());
    out.extend_from_slice(opening.meta.as_bytes());
    out.extend_from_slice(&xxh3_64(&out[from..]).to_le_bytes());
}

/// All whole rows of events before `end`, and where they end.
fn read(file: &File, path: &Path, end: u64) -> Result<(Vec<Opening>, u64), LedgerError> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut &*file, &mut bytes)
        .map_err(|err| LedgerError::io("read", path, err))?;
    let (mut openings, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((opening, after)) = decode(rest).filter(|(opening, _)| opening.index < end) {
        openings.push(opening);
        rest = after;
    }
    Ok((openings, (bytes.len() - rest.len()) as u64))
}

fn decode(bytes: &[u8]) -> Option<(Opening, &[u8])> {
    let (fixed, rest) = bytes.split_first_chunk::<FIXED_BYTES>()?;
    let short = |at: usize| usize::from(u16::from_le_bytes([fixed[at], fixed[at + 1]]));
    let (subject, rest) = rest.split_at_checked(short(40))?;
    let (meta, rest) = rest.split_at_checked(short(42))?;
    let (check, after) = rest.split_first_chunk::<CHECK_BYTES>()?;
    let whole = &bytes[..FIXED_BYTES + subject.len() + meta.len()];
    if xxh3_64(whole).to_le_bytes() != *check {
        return None;
    }
    let opening = Opening {
        index: u64::from_le_bytes(*fixed.first_chunk()?),
        salt: fixed[8..40].try_into().ok()?,
        subject: String::from_utf8(subject.to_vec()).ok()?,
        meta: String::from_utf8(meta.to_vec()).ok()?,
    };
    Some((opening, after))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn opening(index: u64) -> Opening {
        let subject = format!("customer-{index}");
        let salt = *blake3::hash(&index.to_le_bytes()).as_bytes();
        Opening {
            index,
            salt,
            subject,
            meta: if index.is_multiple_of(2) { "m" } else { "" }.to_owned(),
        }
    }

    #[test]
    fn openings_are_read_as_written_across_segments_and_erased() {
        let folder = tempfile::tempdir().unwrap();
        let openings = Openings::at(&folder.path().join("openings"));
        let all: Vec<Opening> = (4090..4100).map(opening).collect();
        openings.append(4090, &all).unwrap();
        for index in 4090..4100 {
            assert_eq!(openings.get(index).unwrap(), Some(opening(index)));
        }
        assert!(openings.erase(4095).unwrap());
        assert!(!openings.erase(4095).unwrap());
        assert_eq!(openings.get(4095).unwrap(), None);
        assert_eq!(openings.get(4094).unwrap(), Some(opening(4094)));
    }

    /// A crash between openings and event leaves rows of no event; a torn write leaves half a row.
    #[test]
    fn rows_of_no_event_and_torn_rows_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let openings = Openings::at(folder.path());
        openings.append(0, &[opening(0), opening(1)]).unwrap();
        let path = folder.path().join("0");
        let whole = fs::read(&path).unwrap();
        for len in 0..whole.len() {
            fs::write(&path, &whole[..len]).unwrap();
            openings.append(1, &[Opening { subject: "other".to_owned(), ..opening(1) }]).unwrap();
            assert_eq!(openings.get(1).unwrap().unwrap().subject, "other");
        }
    }
}
