//! The text of a manifest: what parses is the text that is written.

#![no_main]

use adamant::manifest::{Manifest, TABLES_MAX};
use adamant_fuzz::ORIGIN;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(manifest) = Manifest::parse(text, ORIGIN) else { return };
    assert_eq!(manifest.to_text(), text, "one manifest, one text");
    assert!((1..=TABLES_MAX).contains(&manifest.tables.len()));
    let _ = manifest.records();
});
