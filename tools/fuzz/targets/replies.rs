//! Frames from a daemon: what decodes is, written again, the same bytes.

#![no_main]

use adamant::wire::{
    EncodedRow, PREFIX_BYTES, Reply, push_error, push_hello, push_status, push_verdicts,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let reply = match Reply::decode(body) {
        Ok(reply) => reply,
        Err(err) => return assert!(!err.to_string().is_empty()),
    };
    let mut again = Vec::new();
    match reply {
        Reply::Hello(hello) => push_hello(&mut again, &hello),
        Reply::Verdicts(verdicts) => {
            let rows: Vec<EncodedRow> = verdicts.rows.map(|row| row.encode()).collect();
            push_verdicts(&mut again, &verdicts.head, &rows, &verdicts.claims);
        }
        Reply::Status(json) => push_status(&mut again, json),
        Reply::Error { code, message } => push_error(&mut again, code, message),
    }
    assert_eq!(&again[PREFIX_BYTES..], body, "one reply, one frame");
});
