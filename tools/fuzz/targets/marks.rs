//! The file of marks: what is read is kept when a mark is recorded, and no mark goes back.

#![no_main]

use std::sync::LazyLock;

use adamant::signers::VerifierKey;
use adamant::store::{Mark, Marks};
use adamant_fuzz::{folder, put, verifier_key};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(folder);
static KEY: LazyLock<VerifierKey> = LazyLock::new(verifier_key);

fuzz_target!(|bytes: &[u8]| {
    let state = FOLDER.path();
    put(&Marks::path(state), bytes, 0o600);
    let Ok(before) = Marks::load(state) else { return };
    let mark = Mark { epoch: 1, generation: 7, hash: [7; 32] };
    let after = Marks::record(state, &[(KEY.clone(), mark)]).expect("what is read can be added to");
    assert_eq!(Marks::load(state).expect("what was recorded is read"), after);
    for (key, held) in before.iter() {
        let now = after.highest([key].into_iter()).expect("a mark is never lost");
        assert!((now.epoch, now.generation) >= (held.epoch, held.generation));
    }
    let ours = after.highest([&*KEY].into_iter()).expect("it was recorded");
    assert!((ours.epoch, ours.generation) >= (1, 7));
});
