//! A generation of a base and an overlay, edited, with every check, hash, count and signature made
//! anew, so that the edits get past them: it is refused, or it answers like its own records. What
//! is accepted is then compared with the generation as it was.

#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use adamant::store::{Generation, Succession};
use adamant::table::Personal;
use adamant::token::Digest;
use adamant_fuzz::edit;
use adamant_fuzz::sample::{TOKENS, digest, files};
use adamant_fuzz::shop::Shop;
use libfuzzer_sys::fuzz_target;

static SAMPLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(files);
static BEFORE: LazyLock<Generation> =
    LazyLock::new(|| Shop::open().publish(SAMPLE.clone(), 1).expect("the sample is good"));
static ASKED: LazyLock<Vec<Digest>> =
    LazyLock::new(|| (0..TOKENS + 10).map(digest).chain([[0; 32], [0xFF; 32]]).collect());
thread_local!(static SHOP: RefCell<Shop> = RefCell::new(Shop::open()));

fuzz_target!(|edits: &[u8]| {
    let mut files = SAMPLE.clone();
    edit(&mut files, edits);
    let generation = SHOP.with_borrow_mut(|shop| shop.publish(files, 2));
    let Some(generation) = generation else { return };
    answers_like_its_records(&generation);
    let succession = Succession::between(&BEFORE, &generation);
    assert!(succession.first.len() as u64 <= succession.violations);
    for violation in &succession.first {
        assert!(!violation.to_string().is_empty());
    }
});

fn answers_like_its_records(generation: &Generation) {
    generation.get_many(&ASKED, |index, found| {
        let alone = generation.get(&ASKED[index]);
        let place = found.map(|found| (found.layer, found.rank));
        assert_eq!(place, alone.map(|found| (found.layer, found.rank)));
        let topmost = generation.layers().iter().enumerate().rev().find_map(|(layer, held)| {
            let rank = held.table.records().iter().position(|it| it.digest == ASKED[index])?;
            Some((u8::try_from(layer).ok()?, u32::try_from(rank).ok()?))
        });
        assert_eq!(place, topmost);
    });
    for layer in generation.layers() {
        for rank in 0..u32::try_from(layer.table.records().len()).expect("a small table") {
            let entry = layer.entry(rank);
            assert!(layer.table.grant(entry.record.grant.get()).is_some());
            assert!(
                !matches!(entry.personal, Personal::Known { subject, .. } if subject.len() > 255)
            );
        }
    }
}
