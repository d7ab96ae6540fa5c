//! `tlog-proof`: as it is; and with its entry and hashes under a root that fits them, so that the
//! event behind it is reached.

#![no_main]

use std::sync::LazyLock;

use adamant::ledger::tree::{leaf_hash, verify_inclusion};
use adamant::ledger::{Checkpoint, Event, Proof};
use adamant::signers::{Signer, VerifierKey};
use adamant_fuzz::{signer, verifier_key};
use libfuzzer_sys::fuzz_target;

static KEY: LazyLock<VerifierKey> = LazyLock::new(verifier_key);
static SIGNER: LazyLock<Signer> = LazyLock::new(signer);

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut proof) = Proof::parse(bytes) else { return };
    assert_eq!(proof.to_bytes(), bytes, "one proof, one file");
    let unpinned = proof.verify_unpinned();
    if let Ok(proven) = proof.verify([&*KEY]) {
        assert_eq!(unpinned.as_ref(), Ok(&proven));
    }
    if let Ok(proven) = unpinned {
        let Checkpoint { size, root, .. } = proven.checkpoint;
        assert!(proven.index < size);
        let leaf = leaf_hash(&proof.entry);
        assert!(verify_inclusion(&leaf, proof.index, size, &proof.hashes, &root));
    }
    // A tree of one leaf is its own proof.
    let root = leaf_hash(&proof.entry);
    let checkpoint = Checkpoint { origin: "acme/adamant/ledger".to_owned(), size: 1, root };
    proof.checkpoint = checkpoint.sign(&[&SIGNER]).into_bytes();
    (proof.index, proof.hashes) = (0, Vec::new());
    let event = Event::parse(&proof.entry);
    assert_eq!(proof.verify([&*KEY]).is_ok(), event.is_ok());
    assert_eq!(Proof::parse(&proof.to_bytes()).ok(), Some(proof));
});
