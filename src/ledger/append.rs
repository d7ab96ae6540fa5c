//! Writes the tree: entries, then tiles, then the checkpoint that makes them count.
//!
//! A [`Writer`] holds the ledger's lock. What it needs of the tree is its right edge, at most 255
//! hashes a level, so an append costs what it adds, whatever the size. Whatever lies beyond the
//! checkpoint when a writer opens was never acknowledged: it is cut, and reported.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::checkpoint::{Checkpoint, CheckpointError};
use super::tiles::{
    Kind, TILE_WIDTH, Tile, Tiles, complete_root, hashes_at, push_entry, root_of_edge,
};
use super::tree::{EMPTY_ROOT, Hash, leaf_hash};
use super::{CHECKPOINT, LedgerError, read_checkpoint};
use crate::durable::{self, Appended, Batch, Lock};
use crate::signers::{Signer, VerifierKey};

/// Levels of tiles: 256^8 is 2^64.
const LEVELS: u8 = 8;
const FILE_MODE: u32 = 0o444;
/// Entries from which on several threads hash.
const TOGETHER_MIN: usize = 1024;

/// What was found beyond the checkpoint and cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Files removed.
    pub files: u64,
}

/// A ledger that is open for appending.
pub struct Writer {
    folder: PathBuf,
    signers: Vec<Signer>,
    checkpoint: Checkpoint,
    /// The hashes of the partial tile of each level.
    edge: Vec<Vec<Hash>>,
    /// The partial bundle.
    bundle: Vec<u8>,
    /// What was cut when it was opened.
    pub recovered: Recovered,
    _lock: Lock,
}

impl Writer {
    /// Opens the ledger in `folder`, which may be empty, under its `lock`. `signers` are the
    /// halves of `trusted` keys; each of them signs.
    pub fn open<'k>(
        folder: &Path,
        origin: &str,
        signers: Vec<Signer>,
        trusted: impl IntoIterator<Item = &'k VerifierKey>,
        lock: Lock,
    ) -> Result<Writer, LedgerError> {
        let path = folder.join(CHECKPOINT);
        let refused = |source| LedgerError::Checkpoint { path: path.clone(), source };
        let checkpoint = match read_checkpoint(folder)? {
            Some(note) => Checkpoint::open(&note, trusted).map_err(refused)?,
            None => Checkpoint { origin: origin.to_owned(), size: 0, root: EMPTY_ROOT },
        };
        if checkpoint.origin != origin {
            return Err(refused(CheckpointError::Text));
        }
        durable::create_folder(folder, 0o755)?;
        durable::sweep(folder)?;
        let recovered = cut_tail(folder, checkpoint.size)?;
        let mut tiles = Tiles::new(folder, checkpoint.size);
        let edge = (0..LEVELS).map(|level| edge_at(level, &mut tiles)).collect::<Result<_, _>>()?;
        let bundle = match checkpoint.size % TILE_WIDTH {
            0 => Vec::new(),
            _ => tiles.bundle_of(checkpoint.size - 1)?.bytes().to_vec(),
        };
        let writer = Writer {
            folder: folder.to_owned(),
            signers,
            checkpoint,
            edge,
            bundle,
            recovered,
            _lock: lock,
        };
        if writer.root() != writer.checkpoint.root {
            return Err(LedgerError::Root { path: folder.to_owned(), size: writer.size() });
        }
        Ok(writer)
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// What the ledger says of itself.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The tree as it is.
    pub fn tiles(&self) -> Tiles {
        Tiles::new(&self.folder, self.size())
    }

    /// Makes what is there durable: whoever appended it may have been stopped before it was.
    pub fn confirm(&self) -> Result<(), LedgerError> {
        Ok(durable::sync_folder(&self.folder)?)
    }

    /// Appends entries, durably, and signs the new checkpoint. Entries rest on their `openings`,
    /// which become durable with them.
    pub fn append(
        &mut self,
        entries: &[Vec<u8>],
        openings: Vec<Appended>,
    ) -> Result<&Checkpoint, LedgerError> {
        let from = self.size();
        let mut batch = Batch::new(&self.folder);
        batch.also(openings);
        let mut filled = Vec::new();
        // Waking threads costs more than hashing a little.
        let hashes: Vec<Hash> = if entries.len() < TOGETHER_MIN {
            entries.iter().map(|entry| leaf_hash(entry)).collect()
        } else {
            entries.par_iter().with_min_len(256).map(|entry| leaf_hash(entry)).collect()
        };
        for (index, (entry, hash)) in (from..).zip(entries.iter().zip(hashes)) {
            push_entry(&mut self.bundle, entry);
            if (index + 1).is_multiple_of(TILE_WIDTH) {
                let tile =
                    Tile { kind: Kind::Entries, index: index / TILE_WIDTH, width: TILE_WIDTH };
                let bundle = std::mem::take(&mut self.bundle);
                batch.add(self.folder.join(tile.path()), bundle, FILE_MODE);
                filled.push(tile);
            }
            self.push_leaf(hash, index, &mut batch, &mut filled);
        }
        let size = from + entries.len() as u64;
        self.add_partials(from, size, &mut batch);
        self.checkpoint =
            Checkpoint { origin: self.checkpoint.origin.clone(), size, root: self.root() };
        let note = self.checkpoint.sign(&self.signers.iter().collect::<Vec<_>>());
        batch.add(self.folder.join(CHECKPOINT), note.into_bytes(), FILE_MODE);
        batch.commit_then_last()?;
        // Nobody needs the partial forms of what is full now, and to remove 255 files takes longer
        // than all the rest. A small append leaves that to `remove_partials`.
        if entries.len() as u64 >= TILE_WIDTH {
            filled.iter().for_each(|tile| {
                let _ = fs::remove_dir_all(self.folder.join(tile.partials()));
            });
        }
        Ok(&self.checkpoint)
    }

    fn push_leaf(&mut self, hash: Hash, index: u64, batch: &mut Batch, filled: &mut Vec<Tile>) {
        let (mut hash, mut index) = (hash, index);
        for (level, edge) in (0..).zip(&mut self.edge) {
            edge.push(hash);
            if (edge.len() as u64) < TILE_WIDTH {
                break;
            }
            index /= TILE_WIDTH;
            let tile = Tile { kind: Kind::Level(level), index, width: TILE_WIDTH };
            batch.add(self.folder.join(tile.path()), edge.as_flattened().to_vec(), FILE_MODE);
            filled.push(tile);
            hash = complete_root(edge);
            edge.clear();
        }
    }

    /// Adds the partial files of each level, and of the entries, that the append has changed.
    fn add_partials(&self, from: u64, size: u64, batch: &mut Batch) {
        let entries = (Kind::Entries, size, from != size, &self.bundle[..]);
        let levels = (0..).zip(&self.edge).map(|(level, edge)| {
            let (before, after) = (hashes_at(level, from), hashes_at(level, size));
            (Kind::Level(level), after, before != after, edge.as_flattened())
        });
        for (kind, count, is_changed, bytes) in std::iter::once(entries).chain(levels) {
            let (index, width) = (count / TILE_WIDTH, count % TILE_WIDTH);
            if is_changed && width > 0 {
                let tile = Tile { kind, index, width };
                batch.add(self.folder.join(tile.path()), bytes.to_vec(), FILE_MODE);
            }
        }
    }

    fn root(&self) -> Hash {
        root_of_edge(&self.edge)
    }
}

/// Removes the partial forms of the last full tile of each level, which a small append has left.
/// They are only clutter if they stay.
pub fn remove_partials(folder: &Path, size: u64) {
    let levels = (0..LEVELS).map(|level| (Kind::Level(level), hashes_at(level, size)));
    for (kind, count) in std::iter::once((Kind::Entries, size)).chain(levels) {
        if let Some(index) = (count / TILE_WIDTH).checked_sub(1) {
            let tile = Tile { kind, index, width: TILE_WIDTH };
            let _ = fs::remove_dir_all(folder.join(tile.partials()));
        }
    }
}

/// The hashes of the partial tile of a level.
fn edge_at(level: u8, tiles: &mut Tiles) -> Result<Vec<Hash>, LedgerError> {
    let held = hashes_at(level, tiles.size());
    let mut edge = tiles.edge(level, held / TILE_WIDTH, held % TILE_WIDTH)?;
    edge.reserve(256 - edge.len());
    Ok(edge)
}

/// Removes the files of an append that has no checkpoint.
fn cut_tail(folder: &Path, size: u64) -> Result<Recovered, LedgerError> {
    let mut recovered = Recovered::default();
    let levels = (0..LEVELS).map(|level| (Kind::Level(level), hashes_at(level, size)));
    for (kind, count) in std::iter::once((Kind::Entries, size)).chain(levels) {
        let mut kept = count % TILE_WIDTH;
        for index in count / TILE_WIDTH.. {
            let removed = cut_tile(folder, Tile { kind, index, width: TILE_WIDTH }, kept)?;
            recovered.files += removed;
            // Files of one append are contiguous; the first place may hold what is kept.
            if removed == 0 && index > count / TILE_WIDTH {
                break;
            }
            kept = 0;
        }
    }
    Ok(recovered)
}

/// Removes a full tile and its partial forms of more than `kept`. Says how many files that were.
fn cut_tile(folder: &Path, tile: Tile, kept: u64) -> Result<u64, LedgerError> {
    let mut doomed = Vec::new();
    let full = folder.join(tile.path());
    if full.exists() {
        doomed.push(full);
    }
    let partials = folder.join(tile.partials());
    let list = match fs::read_dir(&partials) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => None,
        other => Some(other.map_err(|err| LedgerError::io("list", &partials, err))?),
    };
    for entry in list.into_iter().flatten() {
        let entry = entry.map_err(|err| LedgerError::io("list", &partials, err))?;
        let width = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if width.is_none_or(|width| width > kept) {
            doomed.push(entry.path());
        }
    }
    for path in &doomed {
        fs::remove_file(path).map_err(|err| LedgerError::io("remove", path, err))?;
    }
    Ok(doomed.len() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tiles::tiles_between;
    use super::super::tree::{Hashes as _, consistency_proof, inclusion_proof, root};
    use super::super::tree::{verify_consistency, verify_inclusion};
    use super::*;

    struct Home {
        folder: tempfile::TempDir,
        key: String,
    }

    impl Home {
        fn new() -> Home {
            let key = Signer::generate("a/ledger").unwrap().to_file().to_string();
            Home { folder: tempfile::tempdir().unwrap(), key }
        }

        fn ledger(&self) -> PathBuf {
            self.folder.path().join("ledger")
        }

        fn open(&self) -> Result<Writer, LedgerError> {
            let path = self.folder.path().join("key");
            durable::write(self.folder.path(), "key", self.key.as_bytes(), 0o600).unwrap();
            let signer = Signer::load(&path).unwrap();
            let key = signer.verifier_key();
            let lock = Lock::take(&self.folder.path().join("lock")).unwrap();
            Writer::open(&self.ledger(), "a/ledger", vec![signer], [&key], lock)
        }
    }

    fn entries(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        range.map(|i| format!("entry {i}").into_bytes()).collect()
    }

    /// All files of a ledger, sorted.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
        }
        found.sort();
        found
    }

    /// Appends of all sorts of sizes; after each, the tree on disk has the root of the checkpoint,
    /// all proofs hold, the files are those that the specification names, and no others.
    #[test]
    fn any_sequence_of_appends_leaves_the_tree_of_its_entries() {
        let home = Home::new();
        let mut last = (0, EMPTY_ROOT);
        let mut size = 0;
        for step in [1, 1, 3, 250, 1, 1, 255, 256, 300, 65_000, 1, 600] {
            let mut writer = home.open().unwrap();
            assert_eq!((writer.size(), writer.recovered.files), (size, 0));
            writer.append(&entries(size..size + step), Vec::new()).unwrap();
            size += step;
            let checkpoint = writer.checkpoint().clone();
            assert_eq!(checkpoint.size, size);
            let mut tiles = writer.tiles();
            assert_eq!(root(size, &mut tiles).unwrap(), checkpoint.root);
            for index in [0, size / 2, size - 1] {
                let entry = tiles.entry(index).unwrap();
                assert_eq!(entry, format!("entry {index}").as_bytes());
                let proof = inclusion_proof(index, size, &mut tiles).unwrap();
                let leaf = leaf_hash(&entry);
                assert!(verify_inclusion(&leaf, index, size, &proof, &checkpoint.root));
                assert_eq!(tiles.hash(0, index).unwrap(), leaf);
            }
            let proof = consistency_proof(last.0, size, &mut tiles).unwrap();
            assert!(verify_consistency((last.0, &last.1), (size, &checkpoint.root), &proof));
            last = (size, checkpoint.root);
            remove_partials(&home.ledger(), size);
            // A partial form has at least one entry.
            assert!(files(&home.ledger()).iter().all(|path| !path.ends_with("0")));
            for tile in tiles_between(0, size) {
                assert!(home.ledger().join(tile.path()).is_file(), "{tile:?}");
                let is_full = tile.width == TILE_WIDTH;
                assert!(!is_full || !home.ledger().join(tile.partials()).exists(), "{tile:?}");
            }
        }
    }

    /// A crash after the tiles and before the checkpoint: the old checkpoint holds, what lies
    /// beyond it is cut, and the next append takes its place.
    #[test]
    fn what_has_no_checkpoint_is_cut_and_reported() {
        for (before, lost) in [(0, 3), (5, 2), (250, 20), (256, 700), (300, 66_000)] {
            let home = Home::new();
            home.open().unwrap().append(&entries(0..before), Vec::new()).unwrap();
            let old: Vec<PathBuf> =
                tiles_between(0, before).iter().map(|tile| tile.path()).collect();
            let old = [old, vec![CHECKPOINT.into()]].concat();
            let old: Vec<_> = old
                .into_iter()
                .map(|path| home.ledger().join(path))
                .map(|path| {
                    let bytes = fs::read(&path).unwrap();
                    (path, bytes)
                })
                .collect();
            let lost: Vec<_> = (0..lost).map(|_| b"never acknowledged".to_vec()).collect();
            home.open().unwrap().append(&lost, Vec::new()).unwrap();
            // As before the new checkpoint took its name, and partial files were removed.
            let mut kept: Vec<PathBuf> = old.iter().map(|(path, _)| path.clone()).collect();
            kept.sort();
            for (path, bytes) in old {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let _ = fs::remove_file(&path);
                fs::write(&path, bytes).unwrap();
            }

            let mut writer = home.open().unwrap();
            assert!(writer.recovered.files >= 2, "{:?}", writer.recovered);
            assert_eq!(writer.size(), before);
            assert_eq!(files(&home.ledger()), kept);
            writer.append(&entries(before..before + 1), Vec::new()).unwrap();
            let (root_now, size) = (writer.checkpoint().root, writer.size());
            drop(writer);
            assert_eq!(home.open().unwrap().recovered.files, 0);
            assert_eq!(root(size, &mut Tiles::new(&home.ledger(), size)).unwrap(), root_now);
        }
    }

    #[test]
    fn a_changed_edge_or_a_foreign_checkpoint_is_refused() {
        let home = Home::new();
        home.open().unwrap().append(&entries(0..3), Vec::new()).unwrap();
        let tile = home.ledger().join("tile/0/000.p/3");
        let mut bytes = fs::read(&tile).unwrap();
        bytes[40] ^= 1;
        fs::remove_file(&tile).unwrap();
        fs::write(&tile, bytes).unwrap();
        assert!(matches!(home.open(), Err(LedgerError::Root { size: 3, .. })));

        let other = Home { key: Home::new().key, folder: home.folder };
        assert!(matches!(other.open(), Err(LedgerError::Checkpoint { .. })));
    }
}
