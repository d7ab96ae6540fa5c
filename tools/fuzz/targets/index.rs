//! The files of the ledger's index, with headers that fit the ledger: what they say of it may be
//! wrong, and then an event about something else is named; nothing is read that is not there.

#![no_main]

use std::fs;
use std::sync::LazyLock;

use adamant::ledger::tree::root;
use adamant::ledger::{Index, Key, Tiles, read_event};
use adamant::token::TokenId;
use adamant_fuzz::sample::{digest, leaves};
use adamant_fuzz::shop::Shop;
use adamant_fuzz::{folder, parts, put};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static LEAVES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(leaves);
static LEDGER: LazyLock<Shop> = LazyLock::new(|| {
    let shop = Shop::open();
    shop.write_ledger(&LEAVES);
    shop
});
static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

fuzz_target!(|input: &[u8]| {
    let size = LEAVES.len() as u64;
    let mut tiles = Tiles::new(&LEDGER.store().ledger(), size);
    let index = FOLDER.path().join("index");
    let _ = fs::remove_dir_all(&index);
    fs::create_dir(&index).expect("a folder in a temporary folder");
    for (name, bytes) in ["base", "upper", "tail"].into_iter().zip(parts(input)) {
        let bytes = if name == "tail" { bytes.to_vec() } else { sorted(bytes, &mut tiles) };
        put(&index.join(name), &bytes, 0o600);
    }
    let mut index = Index::open(&index, &mut tiles, &mut |_| {}).expect("the ledger is good");
    for token in 0..12 {
        let mut id = [0; 11];
        id[10] = token;
        let id = TokenId::from_bytes(id).expect("a small number");
        for key in [Key::id(&id), Key::digest(&digest(token)), Key::request("r")] {
            if let Some(event) = index.get(&key) {
                assert!(read_event(&tiles, event).is_ok() || event >= size);
            }
        }
    }
    index.write(&mut tiles).expect("a folder that can be written");
});

/// A sorted file: how many events it covers in the first byte, then its rows of 24 bytes. Its
/// header is made to fit: magic, version, 0, events, rows, and the root of that many events.
fn sorted(input: &[u8], tiles: &mut Tiles) -> Vec<u8> {
    let Some((&events, rows)) = input.split_first() else { return Vec::new() };
    let events = u64::from(events) % (tiles.size() + 1);
    let mut file = b"ADMI\r\n\x1a\n\x01\0\0\0\0\0\0\0".to_vec();
    file.extend_from_slice(&events.to_le_bytes());
    file.extend_from_slice(&(rows.len() as u64 / 24).to_le_bytes());
    file.extend_from_slice(&root(events, tiles).expect("the ledger is good"));
    file.extend_from_slice(&rows[..rows.len() / 24 * 24]);
    file
}
