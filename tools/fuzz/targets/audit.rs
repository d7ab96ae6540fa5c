//! A store with its ledger, events and tables edited, with every hash, check, count and signature
//! made anew: what its operator could do. An auditor finds something, or nothing was changed.

#![no_main]

use std::cell::RefCell;
use std::sync::LazyLock;

use adamant::audit::{FINDINGS_MAX, Means, audit};
use adamant::builder::Source;
use adamant::ledger::{Openings, Tiles};
use adamant_fuzz::sample::{NOW_UNIX_S, domain, leaves};
use adamant_fuzz::shop::Shop;
use adamant_fuzz::{edit, put};
use libfuzzer_sys::fuzz_target;

static SAMPLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(sample);
thread_local!(static SHOP: RefCell<Shop> = RefCell::new(Shop::open()));

fuzz_target!(|edits: &[u8]| {
    let mut files = SAMPLE.clone();
    edit(&mut files, edits);
    let tables: Vec<Vec<u8>> = files.drain(..2).collect();
    SHOP.with_borrow_mut(|shop| {
        let ledger = shop.write_ledger(&files);
        let note = shop.sign(tables, 1, NOW_UNIX_S, Some(ledger));
        put(&shop.store().manifest_path(), note.as_bytes(), 0o444);
        // Edits are of six bytes: one more says that the auditor has no policy.
        let policy = edits.len().is_multiple_of(6).then(|| shop.policy());
        let openings = Some(Openings::at(&shop.store().root().join("openings")));
        let report = audit(&shop.store(), &Means { policy, kept: None, openings });
        let Ok(report) = report else { return };
        assert!(report.findings.len() <= FINDINGS_MAX);
        assert_eq!(report.count == 0, report.findings.is_empty());
    });
});

/// Table, subjects and leaves, which fit each other.
fn sample() -> Vec<Vec<u8>> {
    let shop = Shop::open();
    let leaves = leaves();
    let (size, _) = shop.write_ledger(&leaves);
    let tiles = Tiles::new(&shop.store().ledger(), size);
    let folder = shop.store().tables();
    let openings = Openings::at(&shop.store().root().join("openings"));
    let source = Source { tiles: &tiles, domain: domain(), openings, folder };
    let made = source.rebuild((0, size), &mut |_| {}).expect("the leaves are events");
    let read = |path| std::fs::read(path).expect("what was written");
    let tables = [read(made.table.path()), read(made.subjects.path())];
    tables.into_iter().chain(leaves).collect()
}
