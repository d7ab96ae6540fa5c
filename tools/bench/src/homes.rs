//! Homes to measure with, and the token lists that they are built from.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use adamant::builder::{Options, build, publish_empty};
use adamant::store::Home;
use adamant::token::{Digest, Token};

use crate::keys::Keys;

/// The prefix of the tokens: with it they have 61 bytes.
pub(crate) const PREFIX: &str = "acme";

/// A home with a generation.
pub(crate) struct Made {
    pub(crate) path: PathBuf,
}

/// A home without tokens.
pub(crate) fn init(path: &Path) -> anyhow::Result<Home> {
    let home = Home::init(path, PREFIX.parse()?, "bench/adamant")?;
    publish_empty(&home)?;
    Ok(home)
}

/// A home in which the digests of `keys` are live.
pub(crate) fn of_keys(path: &Path, keys: &Keys) -> anyhow::Result<Made> {
    let home = init(path)?;
    build(&home, &mut List::of_keys(keys, 0, false), &Options::default(), &mut |_| {})?;
    Ok(Made { path: path.to_owned() })
}

/// Makes tokens live, in a home that has none.
pub(crate) fn fill(home: &Home, path: &Path, tokens: &[Token]) -> anyhow::Result<Made> {
    let mut lines = tokens.iter().map(|token| format!("{{\"token\":\"{}\"}}\n", token.expose()));
    let mut list = List::new(&mut lines);
    build(home, &mut list, &Options::default(), &mut |_| {})?;
    Ok(Made { path: path.to_owned() })
}

/// A token list that is made while it is read.
pub(crate) struct List<'a> {
    lines: Box<dyn Iterator<Item = String> + 'a>,
    line: Vec<u8>,
    read: usize,
}

impl<'a> List<'a> {
    fn new(lines: impl Iterator<Item = String> + 'a) -> List<'a> {
        List { lines: Box::new(lines), line: Vec::new(), read: 0 }
    }

    /// The digests of `keys`, the first of them revoked, with subjects of twelve bytes or none.
    pub(crate) fn of_keys(keys: &'a Keys, revoked: usize, with_subjects: bool) -> List<'a> {
        let line = move |(number, digest): (usize, Digest)| {
            let digest = blake3::Hash::from_bytes(digest);
            let mut line =
                format!("{{\"digest\":\"{digest}\",\"id\":\"{number:014}\",\"kind\":\"live\"");
            if with_subjects {
                line.push_str(&format!(",\"subject\":\"c{number:011}\""));
            }
            if number < revoked {
                line.push_str(",\"revoked_at\":\"2024-01-01T00:00:00Z\",\"reason\":\"other\"");
            }
            line.push_str("}\n");
            line
        };
        List::new(keys.all().enumerate().map(line))
    }

    /// Writes it to a file, and gives the bytes written.
    pub(crate) fn write(mut self, path: &Path) -> anyhow::Result<u64> {
        let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
        let bytes = io::copy(&mut self, &mut out)?;
        out.flush()?;
        Ok(bytes)
    }
}

impl Read for List<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < out.len() {
            if self.read == self.line.len() {
                let Some(line) = self.lines.next() else { break };
                (self.line, self.read) = (line.into_bytes(), 0);
            }
            let count = (self.line.len() - self.read).min(out.len() - filled);
            out[filled..filled + count].copy_from_slice(&self.line[self.read..self.read + count]);
            filled += count;
            self.read += count;
        }
        Ok(filled)
    }
}
