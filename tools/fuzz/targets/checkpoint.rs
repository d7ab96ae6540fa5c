//! Checkpoints: their text, and notes of them, also of witnesses.

#![no_main]

use std::sync::LazyLock;

use adamant::audit::witnesses_of;
use adamant::ledger::Checkpoint;
use adamant::policy::Policy;
use adamant::signers::{Signer, VerifierKey};
use adamant_fuzz::sample::policy;
use adamant_fuzz::{signer, verifier_key};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<VerifierKey> = LazyLock::new(verifier_key);
static SIGNER: LazyLock<Signer> = LazyLock::new(signer);
static POLICY: LazyLock<Policy> = LazyLock::new(policy);

fuzz_target!(|bytes: &[u8]| {
    let unverified = Checkpoint::open_unverified(bytes);
    if let Ok(opened) = Checkpoint::open(bytes, [&*KEY]) {
        assert_eq!(unverified, Ok(opened));
    }
    assert_eq!(witnesses_of(bytes, &POLICY), 0, "it trusts no witness");
    let Some(checkpoint) = std::str::from_utf8(bytes).ok().and_then(Checkpoint::parse) else {
        return;
    };
    assert_eq!(checkpoint.to_text().as_bytes(), bytes, "one checkpoint, one text");
    let note = checkpoint.sign(&[&SIGNER]);
    if let Ok(opened) = Checkpoint::open(note.as_bytes(), [&*KEY]) {
        assert_eq!(opened, checkpoint);
    }
});
