//! The tree on disk: C2SP `tlog-tiles`, so that any reader of transparency logs reads it.
//!
//! ```text
//! ledger/
//!   checkpoint                    signed size and root
//!   tile/<L>/<N>[.p/<W>]          256 hashes of 32 bytes, or the first W of them
//!   tile/entries/<N>[.p/<W>]      256 entries, each a big-endian u16 length and its bytes
//! ```
//!
//! N stands in groups of three digits, all but the last with an `x` before it: 1234067 is
//! `x001/x234/067`. Level 0 holds leaf hashes; a hash of level L + 1 is the tree hash of a *full*
//! tile of level L. A partial file says in its name how many it holds, so a file is never written
//! twice with another meaning.
//!
//! What a reader can rely on: nothing here is trusted. A [`Tiles`] is a size and a folder; whoever
//! reads compares the root with a checkpoint that was signed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::LedgerError;
use super::tree::{EMPTY_ROOT, Hash, Hashes, node_hash};

/// Hashes of a full tile, and entries of a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Levels of binary tree that a tile spans.
const TILE_HEIGHT: u32 = 8;
/// The longest entry that a bundle can hold.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;
/// Tiles that are kept in memory while a tree is read: 8 MiB.
const CACHED_MAX: usize = 1024;

const HASH_BYTES: usize = size_of::<Hash>();
const LEN_BYTES: usize = size_of::<u16>();
/// The longest file of a tree: a bundle of the longest entries, 16 MiB.
const FILE_BYTES_MAX: u64 = TILE_WIDTH * (LEN_BYTES + ENTRY_BYTES_MAX) as u64;

/// What a tile holds: hashes of a level, or entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Entries.
    Entries,
    /// Hashes of that level, 0 to 7: 2^64 leaves have no more.
    Level(u8),
}

/// One file of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tile {
    /// What it holds.
    pub kind: Kind,
    /// Its number.
    pub index: u64,
    /// How many hashes or entries: 256, or less in a partial one.
    pub width: u64,
}

impl Tile {
    /// Its path below the ledger's folder.
    pub fn path(&self) -> PathBuf {
        let full = self.full_path();
        if self.width == TILE_WIDTH { full } else { self.partials().join(self.width.to_string()) }
    }

    /// The folder of its partial forms.
    pub fn partials(&self) -> PathBuf {
        let mut path = self.full_path().into_os_string();
        path.push(".p");
        path.into()
    }

    fn full_path(&self) -> PathBuf {
        let kind = match self.kind {
            Kind::Entries => "entries".to_owned(),
            Kind::Level(level) => level.to_string(),
        };
        let mut groups = vec![format!("{:03}", self.index % 1000)];
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        Path::new("tile").join(kind).join(groups.join("/"))
    }

    /// The same tile, full.
    pub fn full(self) -> Tile {
        Tile { width: TILE_WIDTH, ..self }
    }
}

/// Hashes that a tree of `size` leaves has at a tile level.
pub fn hashes_at(level: u8, size: u64) -> u64 {
    size.checked_shr(u32::from(level) * TILE_HEIGHT).unwrap_or(0)
}

/// The files of a tree of `size` leaves that a tree of `from` leaves has not: what an append
/// writes. `from` is at most `size`.
pub fn tiles_between(from: u64, size: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut add = |kind, before: u64, after: u64| {
        for index in before / TILE_WIDTH..after.div_ceil(TILE_WIDTH) {
            let width = TILE_WIDTH.min(after - index * TILE_WIDTH);
            tiles.push(Tile { kind, index, width });
        }
    };
    if from < size {
        add(Kind::Entries, from, size);
    }
    for level in 0..8 {
        let (before, after) = (hashes_at(level, from), hashes_at(level, size));
        if before < after {
            add(Kind::Level(level), before, after);
        }
    }
    tiles
}

/// The tree of the first `size` entries in a folder.
#[derive(Debug)]
pub struct Tiles {
    folder: PathBuf,
    size: u64,
    /// Entries that the files hold: their names say how many.
    held: u64,
    cache: HashMap<(u8, u64), Vec<Hash>>,
}

impl Tiles {
    /// The first `size` entries of the ledger in `folder`.
    pub fn new(folder: &Path, size: u64) -> Tiles {
        Tiles { folder: folder.to_owned(), size, held: size, cache: HashMap::new() }
    }

    /// The first `size` entries of these. No checkpoint need ever have had that size.
    pub fn first(&self, size: u64) -> Tiles {
        assert!(size <= self.size, "no more than there are");
        Tiles { folder: self.folder.clone(), size, held: self.held, cache: HashMap::new() }
    }

    /// How many entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The bundle of entries that holds entry `index`, which is below the size.
    pub fn bundle_of(&self, index: u64) -> Result<Bundle, LedgerError> {
        assert!(index < self.size, "an entry of this tree");
        let number = index / TILE_WIDTH;
        let width = TILE_WIDTH.min(self.held - number * TILE_WIDTH);
        let tile = Tile { kind: Kind::Entries, index: number, width };
        let (path, bytes) = self.read(tile)?;
        let lens = cut(&bytes).ok_or_else(|| LedgerError::damaged(&path, "a bundle of entries"))?;
        if (lens.len() as u64) < width
            || (path.ends_with(tile.path()) && lens.len() as u64 != width)
        {
            return Err(LedgerError::damaged(
                &path,
                "a bundle of as many entries as its name says",
            ));
        }
        Ok(Bundle { first: number * TILE_WIDTH, bytes, lens, path })
    }

    /// Entry `index`, which is below the size.
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, LedgerError> {
        let bundle = self.bundle_of(index)?;
        Ok(bundle.entry(index).expect("the bundle that holds it").to_vec())
    }

    /// The first `width` hashes of a tile of any level; none for 0.
    pub(super) fn edge(
        &mut self,
        level: u8,
        index: u64,
        width: u64,
    ) -> Result<Vec<Hash>, LedgerError> {
        if width == 0 {
            return Ok(Vec::new());
        }
        let width = usize::try_from(width).expect("at most 256");
        Ok(self.tile(level, index)?[..width].to_vec())
    }

    fn tile(&mut self, level: u8, index: u64) -> Result<&[Hash], LedgerError> {
        if !self.cache.contains_key(&(level, index)) {
            let held = hashes_at(level, self.held);
            let width = TILE_WIDTH.min(held.saturating_sub(index * TILE_WIDTH));
            let tile = Tile { kind: Kind::Level(level), index, width };
            let (path, bytes) = self.read(tile)?;
            let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
            let exact = path.ends_with(tile.path());
            let found = hashes.len() as u64;
            if !rest.is_empty() || found < width || (exact && found != width) {
                return Err(LedgerError::damaged(
                    &path,
                    "a tile of as many hashes as its name says",
                ));
            }
            if self.cache.len() >= CACHED_MAX {
                self.cache.clear();
            }
            self.cache.insert((level, index), hashes.to_vec());
        }
        Ok(&self.cache[&(level, index)])
    }

    /// A file, and where it was: a partial one may be gone when the full one is there.
    fn read(&self, tile: Tile) -> Result<(PathBuf, Vec<u8>), LedgerError> {
        let path = self.folder.join(tile.path());
        match read_file(&path) {
            Err(err) if err.kind() == io::ErrorKind::NotFound && tile.width < TILE_WIDTH => {
                let full = self.folder.join(tile.full().path());
                let bytes = read_file(&full).map_err(|_| LedgerError::io("read", &path, err))?;
                Ok((full, bytes))
            }
            Err(err) => Err(LedgerError::io("read", &path, err)),
            Ok(bytes) => Ok((path, bytes)),
        }
    }
}

/// A file of a ledger, and no more of it than one has: whoever fetched a ledger holds what its host
/// gave, whatever its length. What is cut here is no tile and no bundle.
pub(super) fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Hashes for Tiles {
    type Error = LedgerError;

    fn hash(&mut self, height: u32, index: u64) -> Result<Hash, LedgerError> {
        let level = u8::try_from(height / TILE_HEIGHT).expect("a tree has at most 64 heights");
        let within = height % TILE_HEIGHT;
        let first = index << within;
        let hashes = self.tile(level, first / TILE_WIDTH)?;
        let at = usize::try_from(first % TILE_WIDTH).expect("below 256");
        Ok(complete_root(&hashes[at..at + (1 << within)]))
    }
}

/// The tree hash of a power of two of hashes.
pub fn complete_root(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len() / 2);
            node_hash(&complete_root(left), &complete_root(right))
        }
    }
}

/// The root of a tree by its right edge, the hashes of the partial tile of each level: its complete
/// subtrees, smallest first, folded leftwards.
pub(super) fn root_of_edge(levels: &[Vec<Hash>]) -> Hash {
    let mut root: Option<Hash> = None;
    for edge in levels {
        let mut rest = &edge[..];
        while !rest.is_empty() {
            let (before, subtree) = rest.split_at(rest.len() - (1 << rest.len().trailing_zeros()));
            let hash = complete_root(subtree);
            root = Some(root.map_or(hash, |right| node_hash(&hash, &right)));
            rest = before;
        }
    }
    root.unwrap_or(EMPTY_ROOT)
}

/// Up to 256 entries, read at once.
#[derive(Debug)]
pub struct Bundle {
    /// Index of the first entry.
    pub first: u64,
    bytes: Vec<u8>,
    /// Where each entry stands in the bytes.
    lens: Vec<(usize, usize)>,
    /// The file.
    pub path: PathBuf,
}

impl Bundle {
    /// The entry of that index, if it is in the bundle.
    pub fn entry(&self, index: u64) -> Option<&[u8]> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        let &(from, to) = self.lens.get(at)?;
        Some(&self.bytes[from..to])
    }

    /// All entries with their indices.
    pub fn entries(&self) -> impl Iterator<Item = (u64, &[u8])> {
        (self.first..).zip(self.lens.iter().map(|&(from, to)| &self.bytes[from..to]))
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Appends an entry to the bytes of a bundle.
pub(super) fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    let len = u16::try_from(entry.len()).expect("an entry has at most 65,535 bytes");
    bundle.extend_from_slice(&len.to_be_bytes());
    bundle.extend_from_slice(entry);
}

fn cut(bytes: &[u8]) -> Option<Vec<(usize, usize)>> {
    let mut lens = Vec::with_capacity(256);
    let mut at = 0;
    while at < bytes.len() {
        let len = u16::from_be_bytes(*bytes[at..].first_chunk()?);
        let from = at + LEN_BYTES;
        at = from + usize::from(len);
        if at > bytes.len() || lens.len() as u64 == TILE_WIDTH {
            return None;
        }
        lens.push((from, at));
    }
    Some(lens)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A terabyte of nothing: reading all of it would take all memory.
    #[test]
    fn a_file_that_is_longer_than_any_is_refused_without_reading_it() {
        let folder = tempfile::tempdir().unwrap();
        for kind in [Kind::Entries, Kind::Level(0)] {
            let path = folder.path().join(Tile { kind, index: 0, width: 3 }.path());
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::create(path).unwrap().set_len(1 << 40).unwrap();
        }
        let mut tiles = Tiles::new(folder.path(), 3);
        let said = tiles.bundle_of(0).unwrap_err().to_string();
        assert!(said.contains("not a bundle of entries"), "{said}");
        let said = tiles.hash(0, 0).unwrap_err().to_string();
        assert!(said.contains("not a tile of as many hashes"), "{said}");
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |kind, index, width| Tile { kind, index, width }.path().display().to_string();
        assert_eq!(path(Kind::Level(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(Kind::Level(2), 0, 256), "tile/2/000");
        assert_eq!(path(Kind::Entries, 5, 17), "tile/entries/005.p/17");
        assert_eq!(path(Kind::Level(1), 1000, 1), "tile/1/x001/000.p/1");
    }

    #[test]
    fn the_files_of_a_tree_are_those_of_the_specification() {
        let tile = |kind, index, width| Tile { kind, index, width };
        let (entries, zero, one) = (Kind::Entries, Kind::Level(0), Kind::Level(1));
        assert_eq!(tiles_between(0, 0), []);
        assert_eq!(tiles_between(0, 1), [tile(entries, 0, 1), tile(zero, 0, 1)]);
        assert_eq!(
            tiles_between(0, 256),
            [tile(entries, 0, 256), tile(zero, 0, 256), tile(one, 0, 1)]
        );
        assert_eq!(
            tiles_between(255, 257),
            [
                tile(entries, 0, 256),
                tile(entries, 1, 1),
                tile(zero, 0, 256),
                tile(zero, 1, 1),
                tile(one, 0, 1)
            ]
        );
        assert_eq!(tiles_between(300, 300), []);
        // 65,536 leaves fill a tile of level 1, which has a hash of its own at level 2.
        assert_eq!(tiles_between(65_535, 65_536).last(), Some(&tile(Kind::Level(2), 0, 1)));
    }
}
