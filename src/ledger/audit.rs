//! Reads a whole ledger and checks every byte of it: entries against leaf hashes, each tile against
//! what lies below it, and the tree against the checkpoint's root.

use super::LedgerError;
use super::tiles::{
    Kind, TILE_WIDTH, Tile, Tiles, complete_root, hashes_at, read_file, root_of_edge,
};
use super::tree::{EMPTY_ROOT, Hash, leaf_hash};
use crate::chain::chain;

/// What is wrong, and where, for people.
pub type Finding = String;

/// So many bundles in a row that cannot be read are the end of a ledger, 262,144 entries. A
/// checkpoint may claim 2^64 of them, and nobody shall look for each.
const MISSING_MAX: u64 = 1024;

/// Reads all entries of `tiles` in order, gives each to `each`, and says what of the files does
/// not fit. What cannot be read is found, and the reading goes on behind it, up to
/// `MISSING_MAX`.
pub fn check_tree(
    tiles: &Tiles,
    root: &Hash,
    each: &mut dyn FnMut(u64, &[u8]),
    found: &mut dyn FnMut(Finding),
) {
    let mut levels: Vec<Vec<Hash>> = vec![Vec::new(); 9];
    let mut missing = 0;
    for bundle in 0..tiles.size().div_ceil(TILE_WIDTH) {
        let first = bundle * TILE_WIDTH;
        let end = tiles.size().min(first + TILE_WIDTH);
        match tiles.bundle_of(first) {
            Ok(bundle) => {
                missing = 0;
                for (index, entry) in bundle.entries().take_while(|(index, _)| *index < end) {
                    levels[0].push(leaf_hash(entry));
                    each(index, entry);
                }
            }
            Err(_) if missing == MISSING_MAX => {
                let size = tiles.size();
                return found(format!(
                    "nothing from entry {} on can be read, of {size}: looked no further",
                    first - MISSING_MAX * TILE_WIDTH
                ));
            }
            Err(err) => {
                missing += 1;
                found(chain(&err));
                // The tile stands in, so that the rest of the tree can still be checked.
                let hashes = read(tiles, 0, bundle, end - first).unwrap_or_default();
                levels[0].extend(hashes);
                levels[0].resize(usize::try_from(end - first).expect("at most 256"), EMPTY_ROOT);
            }
        }
        if end - first == TILE_WIDTH {
            carry(tiles, bundle, &mut levels, found);
        }
    }
    for (level, edge) in (0..).zip(&levels) {
        if !edge.is_empty() {
            let index = hashes_at(level, tiles.size()) / TILE_WIDTH;
            compare(tiles, level, index, edge, found);
        }
    }
    if root_of_edge(&levels) != *root {
        found(format!(
            "the tree of the {} entries has another root than the checkpoint: entries were changed, \
             removed or added",
            tiles.size()
        ));
    }
}

/// A tile of level 0 is full: compares it, and carries its hash up.
fn carry(tiles: &Tiles, index: u64, levels: &mut [Vec<Hash>], found: &mut dyn FnMut(Finding)) {
    let mut index = index;
    for level in 0_u8..8 {
        let at = usize::from(level);
        compare(tiles, level, index, &levels[at], found);
        let hash = complete_root(&levels[at]);
        levels[at].clear();
        levels[at + 1].push(hash);
        if (levels[at + 1].len() as u64) < TILE_WIDTH {
            return;
        }
        index /= TILE_WIDTH;
    }
}

fn compare(
    tiles: &Tiles,
    level: u8,
    index: u64,
    computed: &[Hash],
    found: &mut dyn FnMut(Finding),
) {
    let width = computed.len() as u64;
    let tile = Tile { kind: Kind::Level(level), index, width };
    match read(tiles, level, index, width) {
        Err(err) => found(chain(&err)),
        Ok(hashes) => {
            for (at, (held, is)) in hashes.iter().zip(computed).enumerate() {
                if held != is {
                    let number = index * TILE_WIDTH + at as u64;
                    let what = if level == 0 { "entry" } else { "subtree" };
                    found(format!("{}: {what} {number} has another hash", tile.path().display()));
                }
            }
        }
    }
}

fn read(tiles: &Tiles, level: u8, index: u64, width: u64) -> Result<Vec<Hash>, LedgerError> {
    let tile = Tile { kind: Kind::Level(level), index, width };
    let path = tiles.folder().join(tile.path());
    let bytes = read_file(&path).or_else(|err| {
        read_file(&tiles.folder().join(tile.full().path()))
            .map_err(|_| LedgerError::io("read", &path, err))
    })?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    let fits =
        rest.is_empty() && (hashes.len() as u64 == width || hashes.len() as u64 == TILE_WIDTH);
    match hashes.get(..usize::try_from(width).expect("at most 256")).filter(|_| fits) {
        Some(hashes) => Ok(hashes.to_vec()),
        None => Err(LedgerError::damaged(&path, "a tile of as many hashes as its name says")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Found by the fuzz target `tiles`: an audit looked for every entry that a checkpoint claims.
    #[test]
    fn a_checkpoint_that_claims_more_entries_than_anybody_has_does_not_keep_an_auditor() {
        let folder = tempfile::tempdir().unwrap();
        for size in [u64::MAX, (MISSING_MAX + 2) * TILE_WIDTH] {
            let tiles = Tiles::new(folder.path(), size);
            let mut findings = Vec::new();
            let mut each = |_: u64, _: &[u8]| panic!("there is no entry");
            check_tree(&tiles, &EMPTY_ROOT, &mut each, &mut |finding| findings.push(finding));
            let last = findings.last().unwrap();
            assert!(last.contains("nothing from entry 0 on can be read"), "{last}");
        }
    }
}
