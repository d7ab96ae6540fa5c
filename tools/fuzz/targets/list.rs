//! A token list, NDJSON or CSV: however it arrives, the same lines are understood, or refused for
//! the same reasons.

#![no_main]

use std::io::{self, Read};
use std::sync::LazyLock;

use adamant::builder::{BuildError, read_lines};
use adamant::claims::{check_meta, check_subject};
use adamant::table::Personal;
use adamant::token::Domain;
use adamant_fuzz::sample::domain;
use libfuzzer_sys::fuzz_target;

static DOMAIN: LazyLock<Domain> = LazyLock::new(domain);

fuzz_target!(|list: &[u8]| {
    let whole = read(&mut &list[..]);
    assert_eq!(whole, read(&mut Trickle { rest: list, step: list.len() / 3 + 1 }));
});

/// Hands out a part at a time.
struct Trickle<'a> {
    rest: &'a [u8],
    step: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.step).min(self.rest.len());
        let (now, later) = self.rest.split_at(len);
        buffer[..len].copy_from_slice(now);
        self.rest = later;
        Ok(len)
    }
}

/// What was understood, and what was said.
fn read(list: &mut dyn Read) -> (Vec<(u64, [u8; 32])>, String) {
    let mut lines = Vec::new();
    let result = read_lines(list, &DOMAIN, true, &mut |listed| {
        if let Personal::Known { subject, meta } = listed.entry.personal {
            assert!(check_subject(subject).is_ok() && check_meta(meta).is_ok());
        }
        lines.push((listed.entry.line, listed.entry.record.digest));
        Ok(())
    });
    let said = match result {
        Ok(()) => String::new(),
        Err(BuildError::Rejected { rejects, .. }) => {
            assert!(lines.is_empty(), "of a short list all lines are given, or none");
            rejects.iter().map(|reject| format!("{}: {}\n", reject.line, reject.reason)).collect()
        }
        Err(err) => err.to_string(),
    };
    (lines, said)
}
