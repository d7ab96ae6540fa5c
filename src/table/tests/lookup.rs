//! The table answers exactly like the set it was written from.

use std::collections::BTreeMap;

use super::*;

fn hashed(number: u32) -> Digest {
    *blake3::hash(&number.to_le_bytes()).as_bytes()
}

/// The digest before or after, as a number.
fn neighbour(digest: &Digest, up: bool) -> Option<Digest> {
    let mut next = *digest;
    for byte in next.iter_mut().rev() {
        let (value, carried) = if up { byte.overflowing_add(1) } else { byte.overflowing_sub(1) };
        *byte = value;
        if !carried {
            return Some(next);
        }
    }
    None
}

/// Every digest of the set is found with its rank, by both ways of looking; its neighbours, and
/// `absent`, are found only if they are in the set.
fn check(digests: &[Digest], absent: &[Digest]) {
    let table = table_of(digests.iter().copied());
    table.verify().unwrap();
    let mut sorted = digests.to_vec();
    sorted.sort_unstable();
    let model: BTreeMap<Digest, u32> = sorted.into_iter().zip(0..).collect();
    let mut asked: Vec<Digest> = Vec::new();
    for digest in digests {
        asked.push(*digest);
        asked.extend(neighbour(digest, true));
        asked.extend(neighbour(digest, false));
    }
    asked.extend_from_slice(absent);
    let mut seen = 0;
    table.get_many(&asked, |index, found| {
        assert_eq!(index, seen, "results come in order");
        seen += 1;
        let rank = found.map(|found| {
            assert_eq!(found.record.digest, asked[index]);
            found.rank
        });
        assert_eq!(rank, model.get(&asked[index]).copied());
        assert_eq!(table.get(&asked[index]).map(|found| found.rank), rank);
    });
    assert_eq!(seen, asked.len());
}

#[test]
fn every_small_size_answers_like_the_set() {
    let absent: Vec<Digest> = (10_000..10_050).map(hashed).collect();
    for size in 0..=2000 {
        let digests: Vec<Digest> = (0..size).map(hashed).collect();
        check(&digests, &absent);
    }
}

/// Promise 2.
#[test]
fn a_million_digests_and_as_many_strangers_answer_like_the_set() {
    let digests: Vec<Digest> = (0..1_000_000).map(hashed).collect();
    let absent: Vec<Digest> = (1_000_000..2_000_000).map(hashed).collect();
    check(&digests, &absent);
}

#[test]
fn batches_of_every_small_size_are_answered_whole() {
    let table = table_of((0..500).map(hashed));
    for size in 0..100 {
        let asked: Vec<Digest> = (0..size).map(|i| hashed(i * 10)).collect();
        let mut found = Vec::new();
        table.get_many(&asked, |_, record| found.push(record.is_some()));
        let expected: Vec<bool> = (0..size).map(|i| i * 10 < 500).collect();
        assert_eq!(found, expected);
    }
}

fn numbered(number: u64, at: usize, fill: u8) -> Digest {
    let mut digest = [fill; 32];
    digest[at..at + 8].copy_from_slice(&number.to_be_bytes());
    digest
}

/// Digests that are no hashes: they crowd into few buckets, and end in a binary search there.
#[test]
fn skewed_digests_answer_like_the_set() {
    let sequential: Vec<Digest> = (0..3000).map(|i| numbered(i, 0, 0)).collect();
    check(&sequential, &[[0xFF; 32]]);
    let one_prefix: Vec<Digest> = (0..3000).map(|i| numbered(i, 24, 7)).collect();
    check(&one_prefix, &[[0; 32], [0xFF; 32]]);
    let mut clusters: Vec<Digest> = (0..1000).map(|i| numbered(i, 24, 0)).collect();
    clusters.extend((0..1000).map(|i| numbered(i, 24, 0xFF)));
    clusters.extend([[0; 32], [0xFF; 32]]);
    clusters.sort_unstable();
    clusters.dedup();
    check(&clusters, &[[0x80; 32]]);
    // The same tag for all records of a bucket.
    let one_tag: Vec<Digest> = (0..60).map(|i| numbered(i, 20, 0x55)).collect();
    check(&one_tag, &[]);
}

/// More records in a bucket than its line can count.
#[test]
fn a_bucket_of_seventy_thousand_records_answers_like_the_set() {
    let count = 70_000_u64;
    let table = table_of((0..count).map(|i| numbered(i * 2, 24, 9)));
    table.verify().unwrap();
    let is_full = |line: &format::Line| line.count.get() == format::COUNT_FROM_NEXT;
    assert_eq!(table.lines().iter().filter(|line| is_full(line)).count(), 1);
    for i in (0..count).step_by(7).chain([0, 65_534, 65_535, 65_536, count - 1]) {
        let found = table.get(&numbered(i * 2, 24, 9)).unwrap();
        assert_eq!(u64::from(found.rank), i);
        assert!(table.get(&numbered(i * 2 + 1, 24, 9)).is_none());
    }
}
