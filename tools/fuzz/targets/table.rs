//! A table file, as it is and with its checks made anew: it is refused, or it answers. What was
//! verified answers exactly like the set of its records; what was only opened reads nothing that
//! is not there.

#![no_main]

use adamant::table::{Load, Table};
use adamant::token::Digest;
use adamant_fuzz::{file_of, reseal_table};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    look(bytes, Load::Map);
    let mut bytes = bytes.to_vec();
    reseal_table(&mut bytes);
    look(&bytes, Load::Copy);
});

fn look(bytes: &[u8], load: Load) {
    let Ok(table) = Table::load(&file_of(bytes), load) else { return };
    assert_eq!(table.bytes(), bytes);
    let is_good = table.verify().is_ok();
    let records = table.records();
    let held = records.iter().take(300).map(|record| record.digest);
    let asked: Vec<Digest> = held.chain([[0; 32], [0x80; 32], [0xFF; 32]]).collect();
    table.get_many(&asked, |index, found| {
        let digest = &asked[index];
        let alone = table.get(digest).map(|found| found.rank);
        assert_eq!(found.map(|found| found.rank), alone);
        assert!(found.is_none_or(|found| found.record.digest == *digest));
        if is_good {
            let held = records.binary_search_by(|record| record.digest.cmp(digest)).ok();
            assert_eq!(found.map(|found| found.rank as usize), held);
        }
    });
    for (rank, record) in (0..).zip(records).take(300) {
        assert!(table.cold(rank).is_some());
        let grant = table.grant(record.grant.get());
        assert!(grant.is_some() || !is_good);
    }
    let grants = u32::try_from(table.grant_count()).expect("at most 2^20");
    assert!(table.grant_bytes(grants).is_none() && table.grant_bytes(u32::MAX).is_none());
}
