//! Keys: the line of a verifier key, and the file of a private one.

#![no_main]

use std::sync::LazyLock;

use adamant::signers::{Signer, VerifierKey};
use adamant_fuzz::{folder, put};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = text.parse::<VerifierKey>()
    {
        assert_eq!(key.to_string(), text, "one key, one line");
        assert!(!key.verifies(b"", b"") && !key.verifies(bytes, &[0; 72]));
    }
    let path = FOLDER.path().join("key");
    put(&path, bytes, 0o600);
    let Ok(signer) = Signer::load(&path) else { return };
    let file = signer.to_file();
    assert_eq!(file.trim_end().as_bytes(), bytes.trim_ascii_end(), "one key, one file");
    assert!(signer.verifier_key().verifies(bytes, &signer.sign(bytes)));
    let printed = format!("{signer:?}");
    assert!(!printed.contains(file.trim_end().rsplit('+').next().expect("a key")));
});
