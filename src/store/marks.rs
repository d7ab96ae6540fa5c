//! Marks: the highest generation of each signer that this host ever accepted.
//!
//! Without them a host could be handed yesterday's manifest, which was signed and in force once.
//! There is one mark a signer, so that a stolen key that signed generation 2^63 does not lock out
//! its successor. The file has a line a mark, `<verifier key> <epoch> <generation> <blake3>`; of
//! a signer's the highest counts. New ones are appended, since that costs one fsync and is on the
//! way of every swap. A line that a power cut has torn has no line break, or zeros where a part of
//! it did not reach the medium before what follows: it is no line. A file of many lines is written
//! anew.

use std::fs::{self, OpenOptions};
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
        let mut marks = Marks::default();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let lines = whole.lines().enumerate().filter(|(_, line)| !line.contains('\0'));
        for (at, line) in lines {
            let line = parse_line(line);
            let (key, mark) =
                line.ok_or_else(|| StoreError::Marks { path: path.clone(), line: at + 1 })?;
            marks.raise(&key, &mark);
        }
        Ok(marks)
    }

    /// Stores, durably, what was accepted of these signers. A mark never goes back, even when two
    /// processes store at once.
    pub fn record(state: &Path, accepted: &[(VerifierKey, Mark)]) -> Result<Marks, StoreError> {
        let _lock = Lock::take(&state.join(LOCK))?;
        let mut marks = Marks::load(state)?;
        let mut raised = Marks::default();
        for (signer, mark) in accepted {
            if marks.raise(signer, mark) {
                raised.0.push((signer.clone(), *mark));
            }
        }
        if !raised.0.is_empty() {
            append(state, &marks, &raised)?;
        }
        Ok(marks)
    }

    /// Takes a mark. Whether it is higher than the signer's before.
    fn raise(&mut self, signer: &VerifierKey, mark: &Mark) -> bool {
        match self.0.iter_mut().find(|(key, _)| key == signer) {
            Some((_, held)) if position(held) >= position(mark) => return false,
            Some((_, held)) => *held = *mark,
            None => self.0.push((signer.clone(), *mark)),
        }
        true
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

/// Appends the `raised` marks; a file that has become long is written anew with all of them.
fn append(state: &Path, marks: &Marks, raised: &Marks) -> Result<(), StoreError> {
    let path = state.join(MARKS);
    let io = |source| StoreError::Io { action: "write", path: path.clone(), source };
    let anew = || Ok(durable::write(state, MARKS, marks.to_text().as_bytes(), 0o640)?);
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return anew(),
        Err(err) => return Err(io(err)),
    };
    let held = fs::read(&path).map_err(io)?;
    if held.len() > BYTES_MAX {
        return anew();
    }
    let end = held.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    let text = raised.to_text();
    let appended = durable::append(file, &path, false, end as u64, text.as_bytes());
    appended.and_then(|appended| appended.wait()).map_err(|err| {
        // What is not known to be on the medium must not count when it is read again.
        let cut = OpenOptions::new().write(true).open(&path);
        let _ = cut.and_then(|file| file.set_len(end as u64));
        err.into()
    })
}

/// A file of marks that is longer is written anew: some hundred of them.
const BYTES_MAX: usize = 16 << 10;

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

    /// The parts of an append reach the medium in any order, so its end may be there alone.
    #[test]
    fn a_line_that_a_power_cut_has_torn_is_none() {
        let state = tempfile::tempdir().unwrap();
        let key = Signer::generate("a").unwrap().verifier_key();
        let record = |generation| {
            Marks::record(state.path(), &[(key.clone(), mark(1, generation))]).unwrap();
        };
        let path = Marks::path(state.path());
        record(5);
        let good = fs::read(&path).unwrap();
        record(6);
        let whole = fs::read(&path).unwrap();
        for end in good.len() + 1..whole.len() {
            let mut torn = whole.clone();
            torn[good.len()..end].fill(0);
            fs::write(&path, &torn).unwrap();
            let marks = Marks::load(state.path()).unwrap();
            assert_eq!(marks.highest([&key].into_iter()), Some(mark(1, 5)), "zeros up to {end}");
        }
        record(7);
        let marks = Marks::load(state.path()).unwrap();
        assert_eq!(marks.highest([&key].into_iter()), Some(mark(1, 7)));
    }

    #[test]
    fn a_damaged_file_is_named_with_its_line() {
        let state = tempfile::tempdir().unwrap();
        let key = Signer::generate("a").unwrap().verifier_key();
        Marks::record(state.path(), &[(key, mark(1, 5))]).unwrap();
        let path = Marks::path(state.path());
        let good = fs::read_to_string(&path).unwrap();
        // Torn by a crash: no line.
        fs::write(&path, good.clone() + "nonsense").unwrap();
        assert_eq!(Marks::load(state.path()).unwrap().iter().count(), 1);
        fs::write(&path, good + "nonsense\n").unwrap();
        let said = Marks::load(state.path()).unwrap_err().to_string();
        assert!(said.contains("marks: line 2"), "{said}");
    }

    /// Found by the fuzz target `marks`. It used to be read as if it were not there, and to spoil
    /// the file as soon as a mark was appended behind it.
    #[test]
    fn an_empty_last_line_is_named_before_anything_is_appended() {
        let state = tempfile::tempdir().unwrap();
        let path = Marks::path(state.path());
        let key = Signer::generate("a").unwrap().verifier_key();
        Marks::record(state.path(), &[(key.clone(), mark(1, 5))]).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        for (text, line) in [("\n".to_owned(), 1), (good + "\n", 2)] {
            fs::write(&path, &text).unwrap();
            let said = Marks::record(state.path(), &[(key.clone(), mark(1, 6))]);
            let said = said.unwrap_err().to_string();
            assert!(said.contains(&format!("marks: line {line}")), "{said}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn a_mark_is_raised_by_its_epoch_first() {
        let state = tempfile::tempdir().unwrap();
        let key = Signer::generate("a").unwrap().verifier_key();
        let record = |mark| {
            Marks::record(state.path(), &[(key.clone(), mark)]).unwrap();
            Marks::load(state.path()).unwrap().highest([&key].into_iter()).unwrap()
        };
        assert_eq!(record(mark(1, 9)), mark(1, 9));
        assert_eq!(record(mark(2, 1)), mark(2, 1));
        assert_eq!(record(mark(1, 10)), mark(2, 1));
        // Of one number the first stays: the second is another manifest.
        assert_eq!(record(Mark { hash: [8; 32], ..mark(2, 1) }), mark(2, 1));
    }

    /// What follows the last whole line is cut before the next is appended.
    #[test]
    fn a_torn_end_is_cut_before_the_next_mark() {
        let state = tempfile::tempdir().unwrap();
        let key = Signer::generate("a").unwrap().verifier_key();
        let record = |generation| {
            Marks::record(state.path(), &[(key.clone(), mark(1, generation))]).unwrap();
        };
        record(5);
        let path = Marks::path(state.path());
        let good = fs::read_to_string(&path).unwrap();
        fs::write(&path, good.clone() + &good[..good.len() - 1]).unwrap();
        record(6);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, good.clone() + &good.replacen(" 5 ", " 6 ", 1));
    }

    /// One fsync a mark, and not a file that grows for ever.
    #[test]
    fn marks_are_appended_until_the_file_is_long() {
        use std::os::unix::fs::MetadataExt as _;
        let state = tempfile::tempdir().unwrap();
        let (key, other) = (signer("a"), signer("b"));
        fn signer(name: &str) -> VerifierKey {
            Signer::generate(name).unwrap().verifier_key()
        }
        let path = Marks::path(state.path());
        let file = || fs::metadata(&path).map(|facts| (facts.ino(), facts.len())).unwrap();
        Marks::record(state.path(), &[(other.clone(), mark(1, 1))]).unwrap();
        let first = file().0;
        let mut generation = 1;
        while file().1 <= 16 << 10 {
            generation += 1;
            assert!(generation < 1000, "the file does not grow");
            Marks::record(state.path(), &[(key.clone(), mark(1, generation))]).unwrap();
            assert_eq!(file().0, first, "appended: generation {generation}");
        }
        Marks::record(state.path(), &[(key.clone(), mark(1, generation + 1))]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
        let marks = Marks::load(state.path()).unwrap();
        assert_eq!(marks.highest([&key].into_iter()), Some(mark(1, generation + 1)));
        assert_eq!(marks.highest([&other].into_iter()), Some(mark(1, 1)));
        // Nothing is written where nothing is raised.
        let before = file();
        Marks::record(state.path(), &[(key, mark(1, generation))]).unwrap();
        assert_eq!(file(), before);
    }

    #[test]
    fn a_line_has_four_words() {
        let key = Signer::generate("a").unwrap().verifier_key();
        let hash = "07".repeat(32);
        let good = format!("{key} 1 5 {hash}");
        assert_eq!(parse_line(&good), Some((key.clone(), mark(1, 5))));
        let wrong = [
            format!("{good} more"),
            format!("{key} 1 {hash}"),
            format!("{key} 1 x {hash}"),
            format!("{key} 1 5 07"),
            format!("1 5 {hash}"),
        ];
        for line in wrong {
            assert_eq!(parse_line(&line), None, "{line}");
        }
    }

    /// No marks are those that were never stored, and not those that cannot be read: a host that
    /// forgets what it accepted takes any old generation.
    #[test]
    fn marks_that_cannot_be_read_are_not_none() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(Marks::load(state.path()).unwrap(), Marks::default());
        fs::create_dir(Marks::path(state.path())).unwrap();
        assert!(matches!(Marks::load(state.path()), Err(StoreError::Io { action: "read", .. })));
        let key = Signer::generate("a").unwrap().verifier_key();
        assert!(Marks::record(state.path(), &[(key, mark(1, 5))]).is_err());
    }
}
