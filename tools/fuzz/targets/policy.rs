//! `policy.toml`: what is read can be written, and read as the same.

#![no_main]

use adamant::policy::{Policy, Role};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let policy = match Policy::parse(text) {
        Ok(policy) => policy,
        Err(err) => return assert!(!err.to_string().is_empty()),
    };
    for role in [Role::Build, Role::Revoke, Role::Ledger, Role::Witness] {
        for now in [i64::MIN, 0, i64::MAX] {
            assert!(policy.trusted(role, now).count() <= policy.signers.len());
        }
    }
    let again = Policy::parse(&policy.to_toml());
    assert_eq!(again.expect("what was written is read"), policy);
});
