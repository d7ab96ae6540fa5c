//! A subjects file, as it is and with its checks made anew. What was verified has a value for each
//! record; what was only opened may have none, and reads nothing that is not there.

#![no_main]

use adamant::claims::{META_BYTES_MAX, SUBJECT_BYTES_MAX};
use adamant::table::{Personal, Subjects};
use adamant_fuzz::{file_of, reseal_subjects};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    look(bytes);
    let mut bytes = bytes.to_vec();
    reseal_subjects(&mut bytes);
    look(&bytes);
});

fn look(bytes: &[u8]) {
    let Ok(subjects) = Subjects::open(&file_of(bytes)) else { return };
    let is_good = subjects.verify().is_ok();
    let len = u32::try_from(subjects.len()).expect("at most 2^32 - 2 records");
    for rank in (0..len).take(300) {
        let personal = subjects.get(rank);
        assert!(personal.is_some() || !is_good);
        if let (true, Some(Personal::Known { subject, meta })) = (is_good, personal) {
            assert!(subject.len() <= SUBJECT_BYTES_MAX && meta.len() <= META_BYTES_MAX);
        }
    }
    assert_eq!(subjects.get(len), None);
    assert_eq!(subjects.get(u32::MAX), None);
}
