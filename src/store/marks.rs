//! Marks: the highest generation of each signer that this host ever accepted.
//!
//! Without them a host could be handed yesterday's manifest, which was signed and in force once.
//! There is one mark a signer, so that a stolen key that signed generation 2^63 does not lock out
//! its successor. The file has a line a signer: `<verifier key> <epoch> <generation> <blake3>`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::durable::{self, Lock};
use crate::manifest::{FileHash, hex, parse_hash};
use crate::signers::VerifierKey;

const MARKS: &str = "marks";
const LOCK: &str = "marks.lock";

/// What was accepted last from a signer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Its epoch.
    pub epoch: u64,
    /// Its generation.
    pub generation: u64,
    /// The manifest.
    pub hash: FileHash,
}

/// All marks of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(Vec<(VerifierKey, Mark)>);

impl Marks {
    /// Reads the marks in the folder `state`. None were stored yet: no marks.
    pub fn load(state: &Path) -> Result<Marks, StoreError> {
        let path = state.join(MARKS);
        let text = match fs::read_to_string(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Marks::default()),
            other => other.map_err(|source| StoreError::Io {
                action: "read",
                path: path.clone(),
                source,
            })?,
        };
        let lines = text.lines().enumerate().map(|(at, line)| {
            let line = parse_line(line);
            line.ok_or_else(|| StoreError::Marks { path: path.clone(), line: at + 1 })
        });
        lines.collect::<Result<_, _>>().map(Marks)
    }

    /// Stores, durably, what was accepted of these signers. A mark never goes back, even when two
    /// processes store at once.
    pub fn record(state: &Path, accepted: &[(VerifierKey, Mark)]) -> Result<Marks, StoreError> {
        let _lock = Lock::take(&state.join(LOCK))?;
        let mut marks = Marks::load(state)?;
        let before = marks.clone();
        for (signer, mark) in accepted {
            match marks.0.iter_mut().find(|(key, _)| key == signer) {
                Some((_, held)) if position(held) >= position(mark) => {}
                Some((_, held)) => *held = *mark,
                None => marks.0.push((signer.clone(), *mark)),
            }
        }
        if marks != before {
            durable::write(state, MARKS, marks.to_text().as_bytes(), 0o640)?;
        }
        Ok(marks)
    }

    /// Signers with marks.
    pub fn iter(&self) -> impl Iterator<Item = &(VerifierKey, Mark)> {
        self.0.iter()
    }

    /// The highest mark of those signers.
    pub fn highest<'k>(&self, of: impl Iterator<Item = &'k VerifierKey> + Clone) -> Option<Mark> {
        let trusted = |key: &VerifierKey| of.clone().any(|trusted| trusted == key);
        let marks = self.0.iter().filter(|(key, _)| trusted(key)).map(|(_, mark)| *mark);
        marks.max_by_key(position)
    }

    /// Where the marks are, for messages.
    pub fn path(state: &Path) -> PathBuf {
        state.join(MARKS)
    }

    fn to_text(&self) -> String {
        let line = |(key, mark): &(VerifierKey, Mark)| {
            format!("{key} {} {} {}\n", mark.epoch, mark.generation, hex(&mark.hash))
        };
        self.0.iter().map(line).collect()
    }
}

fn position(mark: &Mark) -> (u64, u64) {
    (mark.epoch, mark.generation)
}

fn parse_line(line: &str) -> Option<(VerifierKey, Mark)> {
    let mut words = line.split(' ');
    let key = words.next()?.parse().ok()?;
    let mark = Mark {
        epoch: words.next()?.parse().ok()?,
        generation: words.next()?.parse().ok()?,
        hash: parse_hash(words.next()?)?,
    };
    words.next().is_none().then_some((key, mark))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::signers::Signer;

    fn mark(epoch: u64, generation: u64) -> Mark {
        Mark { epoch, generation, hash: [7; 32] }
    }

    #[test]
    fn marks_are_kept_by_signer_and_never_go_back() {
        let state = tempfile::tempdir().unwrap();
        let key = |name: &str| Signer::generate(name).unwrap().verifier_key();
        let (a, b) = (key("a"), key("b"));
        let record = |keys: &[&VerifierKey], mark| {
            let accepted: Vec<_> = keys.iter().map(|key| ((*key).clone(), mark)).collect();
            Marks::record(state.path(), &accepted).unwrap();
        };
        record(&[&a, &b], mark(1, 5));
        record(&[&a], mark(1, 9));
        record(&[&a, &b], mark(1, 7));
        let marks = Marks::load(state.path()).unwrap();
        assert_eq!(marks.highest([&a].into_iter()), Some(mark(1, 9)));
        assert_eq!(marks.highest([&b].into_iter()), Some(mark(1, 7)));
        assert_eq!(marks.highest([&a, &b].into_iter()), Some(mark(1, 9)));
        assert_eq!(marks.highest([&key("c")].into_iter()), None);
        record(&[&b], mark(2, 1));
        let marks = Marks::load(state.path()).unwrap();
        assert_eq!(marks.highest([&a, &b].into_iter()), Some(mark(2, 1)));
    }

    #[test]
    fn a_damaged_file_is_named_with_its_line() {
        let state = tempfile::tempdir().unwrap();
        let key = Signer::generate("a").unwrap().verifier_key();
        Marks::record(state.path(), &[(key, mark(1, 5))]).unwrap();
        let path = Marks::path(state.path());
        fs::write(&path, fs::read_to_string(&path).unwrap() + "nonsense\n").unwrap();
        let said = Marks::load(state.path()).unwrap_err().to_string();
        assert!(said.contains("marks: line 2"), "{said}");
    }
}
