//! The file of the openings: rows up to the first that is not whole, and appending after them.

#![no_main]

use std::sync::LazyLock;

use adamant::ledger::{Opening, Openings};
use adamant_fuzz::{folder, put};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);
const FIXED_BYTES: usize = 44;

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    let mut bytes = bytes.to_vec();
    reseal(&mut bytes);
    look(&bytes);
});

fn look(bytes: &[u8]) {
    let openings = Openings::at(FOLDER.path());
    put(&FOLDER.path().join("0"), bytes, 0o600);
    let rows = openings.segment(0, u64::MAX).expect("a file that can be read");
    let first = rows.iter().map(|row| row.index).find(|&index| index >= 9).unwrap_or(9);
    let new =
        Opening { index: first.min(4095), salt: [7; 32], subject: "s".into(), meta: "".into() };
    let appended = openings.append(new.index, std::slice::from_ref(&new));
    for appended in appended.expect("a file that can be written") {
        appended.wait().expect("a file that can be written");
    }
    let after = openings.segment(0, u64::MAX).expect("a file that can be read");
    let kept = rows.iter().take_while(|row| row.index < new.index).count();
    assert_eq!(after[..kept], rows[..kept], "what is whole stays");
    assert_eq!(after[kept..], [new], "and the new one follows it");
}

/// Makes the check of each row anew.
fn reseal(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(fixed) = bytes.get(at..at + FIXED_BYTES) {
        let short = |at: usize| usize::from(u16::from_le_bytes([fixed[at], fixed[at + 1]]));
        let end = at + FIXED_BYTES + short(40) + short(42);
        let Some(check) = bytes.get(at..end).map(xxh3_64) else { return };
        let Some(place) = bytes.get_mut(end..end + 8) else { return };
        place.copy_from_slice(&check.to_le_bytes());
        at = end + 8;
    }
}
