//! Grants, as they stand in tables: what decodes encodes to the same bytes, and the view without a
//! copy sees the same.

#![no_main]

use adamant::claims::{Grant, GrantView};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let view = GrantView::new(bytes);
    if let Some(view) = &view {
        assert!(view.scopes().count() <= bytes.len());
    }
    let Ok(grant) = Grant::decode(bytes) else { return };
    let mut again = Vec::new();
    grant.encode(&mut again);
    assert_eq!(again, bytes, "one grant, one text");
    let view = view.expect("what decodes can be looked at");
    assert_eq!(view.kind(), grant.kind.as_str().as_bytes());
    assert_eq!(view.audience(), grant.audience.as_bytes());
    assert!(view.scopes().eq(grant.scopes.iter().map(String::as_bytes)));
    let audience = Some(view.audience()).filter(|audience| !audience.is_empty());
    let admitted = view.admits(Some(view.kind()), audience, view.scopes());
    assert_eq!(admitted, Ok(()), "a grant admits what it grants");
});
