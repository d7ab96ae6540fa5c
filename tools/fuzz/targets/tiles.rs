//! The files of a tree: its size, then the bytes of each file of its right edge.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use adamant::ledger::tree::{
    Hashes as _, consistency_proof, inclusion_proof, root, verify_consistency, verify_inclusion,
};
use adamant::ledger::{Kind, TILE_WIDTH, Tile, Tiles, check_tree, hashes_at, read_event};
use adamant_fuzz::{folder, parts, put};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// Entries up to which all of a tree is checked: what is missing is looked for, bundle by bundle.
const CHECKED_MAX: u64 = 16 * TILE_WIDTH;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

fuzz_target!(|input: &[u8]| {
    let Some((size, files)) = input.split_first_chunk() else { return };
    let size = u64::from_le_bytes(*size);
    let _ = fs::remove_dir_all(FOLDER.path().join("tile"));
    for (tile, bytes) in edge(size).into_iter().zip(parts(files)) {
        let path = FOLDER.path().join(tile.path());
        fs::create_dir_all(path.parent().expect("a tile is in a folder")).expect("a folder");
        put(&path, bytes, 0o444);
    }
    look(size);
});

/// The last file of each sort, and the full one in the place of a partial one.
fn edge(size: u64) -> Vec<Tile> {
    let kinds = [(Kind::Entries, 0), (Kind::Level(0), 0), (Kind::Level(1), 1), (Kind::Level(2), 2)];
    let edge = kinds.into_iter().map(|(kind, level)| {
        let last = hashes_at(level, size).saturating_sub(1);
        Tile { kind, index: last / TILE_WIDTH, width: last % TILE_WIDTH + 1 }
    });
    let edge: Vec<Tile> = edge.collect();
    edge.iter().copied().chain(edge.iter().map(|tile| tile.full())).collect()
}

fn look(size: u64) {
    let mut tiles = Tiles::new(FOLDER.path(), size);
    let root = root(size, &mut tiles).ok();
    if let Some(last) = size.checked_sub(1) {
        if let Ok(bundle) = tiles.bundle_of(last) {
            assert!(bundle.entry(last).is_some());
            assert_eq!(tiles.entry(last).ok().as_deref(), bundle.entry(last));
        }
        let _ = read_event(&tiles, last);
        let proof = inclusion_proof(last, size, &mut tiles);
        // In a tree of one tile, nothing can contradict itself.
        if let (Ok(proof), Some(root), true) = (proof, &root, size <= TILE_WIDTH) {
            let leaf = tiles.hash(0, last).expect("it was read");
            assert!(verify_inclusion(&leaf, last, size, &proof, root));
        }
        let half = size / 2;
        let proof = consistency_proof(half, size, &mut tiles);
        if let (Ok(proof), Some(new), true) = (proof, &root, size <= TILE_WIDTH) {
            let old = adamant::ledger::tree::root(half, &mut tiles).expect("it was read");
            assert!(verify_consistency((half, &old), (size, new), &proof));
        }
    }
    if size > CHECKED_MAX {
        return;
    }
    let mut seen = 0;
    check_tree(&tiles, &root.unwrap_or([0; 32]), &mut |_, _| seen += 1, &mut |finding| {
        assert!(!finding.is_empty());
    });
    assert!(seen <= size);
}
