//! A leaf of the ledger: what parses encodes to the same bytes.

#![no_main]

use adamant::ledger::{Event, What};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|leaf: &[u8]| {
    let event = match Event::parse(leaf) {
        Ok(event) => event,
        Err(err) => return assert!(!err.to_string().is_empty()),
    };
    let mut again = Vec::new();
    event.encode(&mut again);
    assert_eq!(again, leaf, "one event, one leaf");
    assert_eq!(event.token().is_some(), event.digest().is_some());
    let type_name = format!("\"type\":\"{}\"", event.type_name());
    assert!(again.windows(type_name.len()).any(|bytes| bytes == type_name.as_bytes()));
    if let What::Issue(issued) = event.what {
        let mut grant = Vec::new();
        issued.grant.encode(&mut grant);
        assert_eq!(adamant::claims::Grant::decode(&grant), Ok(issued.grant));
    }
});
