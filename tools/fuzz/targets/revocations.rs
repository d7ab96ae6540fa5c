//! The revocations note, and its list, as it is and with its check made anew.

#![no_main]

use adamant::revocations::{Revocations, RevocationsNote};
use adamant_fuzz::ORIGIN;
use libfuzzer_sys::fuzz_target;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a list before its records; the last eight are their check.
const HEADER_BYTES: usize = 32;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some(note) = RevocationsNote::parse(text, ORIGIN)
    {
        assert_eq!(note.to_text(), text, "one note, one text");
    }
    look(bytes);
    let mut bytes = bytes.to_vec();
    if let Some((header, records)) = bytes.split_at_mut_checked(HEADER_BYTES) {
        header[24..].copy_from_slice(&xxh3_64(records).to_le_bytes());
    }
    look(&bytes);
});

fn look(bytes: &[u8]) {
    let Some(list) = Revocations::parse(bytes) else { return };
    assert_eq!(list.to_bytes(), bytes, "one list, one file");
    assert_eq!(list.iter().count(), list.len());
    for revocation in list.iter() {
        assert_eq!(list.get(&revocation.digest), Some(revocation.at));
    }
    assert_eq!(list.forgets(&list), None);
    assert_eq!(list.forgets(&Revocations::default()), None);
    assert_eq!(Revocations::of(list.iter().collect()).to_bytes(), bytes);
}
