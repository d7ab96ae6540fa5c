//! A good table whose directory, records and grants are overwritten, with the checks made anew: the
//! parts that lie about each other. Both ways to look up agree, whatever they say.

#![no_main]

use std::sync::LazyLock;

use adamant::table::Table;
use adamant::token::Digest;
use adamant_fuzz::sample::{TOKENS, digest, files};
use adamant_fuzz::{edit, file_of, number, reseal_table};
use libfuzzer_sys::fuzz_target;

static SAMPLE: LazyLock<Vec<u8>> = LazyLock::new(|| files().swap_remove(0));
static ASKED: LazyLock<Vec<Digest>> =
    LazyLock::new(|| (0..TOKENS + 10).map(digest).chain([[0; 32], [0xFF; 32]]).collect());

fuzz_target!(|edits: &[u8]| {
    let mut sections: Vec<Vec<u8>> = (0..4).map(|at| SAMPLE[place(at)].to_vec()).collect();
    edit(&mut sections, edits);
    let mut bytes = SAMPLE.clone();
    for (at, mut section) in sections.into_iter().enumerate() {
        // A section keeps its length: what lies about lengths is for the target `table`.
        section.resize(place(at).len(), 0);
        bytes[place(at)].copy_from_slice(&section);
    }
    reseal_table(&mut bytes);
    let table = Table::open(&file_of(&bytes)).expect("the header was left as it was");
    let is_good = table.verify().is_ok();
    table.get_many(&ASKED, |index, found| {
        let alone = table.get(&ASKED[index]);
        assert_eq!(found.map(|found| found.rank), alone.map(|found| found.rank));
        let is_right = |record: &adamant::table::format::Record| record.digest == ASKED[index];
        assert!(found.is_none_or(|found| is_right(found.record)));
        assert!(!is_good || found.is_some() == table.records().iter().any(is_right));
    });
});

fn place(section: usize) -> std::ops::Range<usize> {
    let field = |at| usize::try_from(number(&SAMPLE, at)).expect("a small file");
    let (from, len) = (field(192 + 32 * section), field(200 + 32 * section));
    from..from + len
}
