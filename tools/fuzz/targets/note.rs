//! Signed notes: as they are; and a text of the fuzzer's, signed, which must be read as it was.

#![no_main]

use std::sync::LazyLock;

use adamant::note::{NOTE_BYTES_MAX, Note, sign};
use adamant::signers::{Signer, VerifierKey};
use adamant_fuzz::{signer, verifier_key};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<VerifierKey> = LazyLock::new(verifier_key);
static SIGNER: LazyLock<Signer> = LazyLock::new(signer);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(note) = Note::parse(bytes) {
        assert!(bytes.len() <= NOTE_BYTES_MAX && note.signer_names().count() > 0);
        if let Ok((text, signed_by)) = note.verify([&*KEY]) {
            assert_eq!((text, signed_by), (note.unverified_text(), vec![&*KEY]));
            assert!(bytes.starts_with(text.as_bytes()));
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if !text.ends_with('\n') {
        return;
    }
    let signed = sign(text, &[&SIGNER]);
    let is_plain = !text.chars().any(|char| char.is_control() && char != '\n');
    match Note::parse(signed.as_bytes()) {
        Ok(note) => assert_eq!(note.verify([&*KEY]).map(|(text, _)| text), Ok(text)),
        Err(_) => assert!(!is_plain || signed.len() > NOTE_BYTES_MAX),
    }
});
