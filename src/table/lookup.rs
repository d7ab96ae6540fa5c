//! From digests to records: two cache lines a hit, one a miss.
//!
//! A batch is looked up in three stages: fetch the directory line, read it and fetch the record it
//! names, compare the record. While one [`GROUP`] waits for memory, others are at their stages.
//!
//! Nothing here trusts the directory. Ranks and counts that lie, in a table that was never
//! verified, find nothing; they cannot read out of bounds.

#![allow(unsafe_code)]

use super::Table;
use super::directory::{Place, place_of};
use super::format::{COUNT_FROM_NEXT, LINE_TAGS, Line, Record};
use crate::token::Digest;

/// Digests of a group: a stage is run for all of one before the next stage. A processor has dozens
/// of lines on their way at once, and is idle with fewer: of 16 M records, a hit took 22 ns in
/// groups of 16, 16 of 32, 12 of 64 and 10 of 128.
const GROUP: usize = 128;

/// [`LINE_TAGS`], as ranks are counted.
const TAGGED_MAX: u32 = 29;

/// Records without a tag that are asked for ahead. Hardly a bucket has more.
const UNTAGGED_FETCHED: u32 = 4;

/// Rank and count, in words of 16 bits.
const WORDS_BEFORE_TAGS: u32 = 3;

const _: () = assert!(std::mem::offset_of!(Line, tags) == 2 * WORDS_BEFORE_TAGS as usize);
const _: () = assert!(TAGGED_MAX as usize == LINE_TAGS && TAGGED_MAX <= u32::BITS);

/// A record and its place in the table.
#[derive(Clone, Copy)]
pub struct Found<'a> {
    /// The record.
    pub record: &'a Record,
    /// Its rank, by which cold row and subject are found.
    pub rank: u32,
}

/// What a directory line says about a digest.
#[derive(Clone, Copy, Default)]
struct Candidates {
    /// Rank of the bucket's first record.
    rank: u32,
    /// Records in the bucket.
    count: u32,
    /// A bit for each of the bucket's first records whose tag is that of the digest.
    tagged: u32,
}

impl Table {
    /// Looks one digest up.
    pub fn get(&self, digest: &Digest) -> Option<Found<'_>> {
        let parts = self.parts();
        parts.find(digest, parts.candidates(place_of(digest, parts.buckets)))
    }

    /// Looks all of `digests` up and gives each result, with its index, to `each`, in order. The
    /// record is in the cache when `each` sees it.
    pub fn get_many<'a>(
        &'a self,
        digests: &[Digest],
        mut each: impl FnMut(usize, Option<Found<'a>>),
    ) {
        if let [digest] = digests {
            return each(0, self.get(digest));
        }
        let parts = self.parts();
        let mut places = [Place::default(); GROUP];
        let mut candidates = [Candidates::default(); GROUP];
        let mut groups = digests.chunks(GROUP);
        // The groups whose lines, and whose records, are on their way.
        let (mut fetching_lines, mut fetching_records): (&[Digest], &[Digest]) = (&[], &[]);
        let mut index = 0;
        loop {
            // The last stage first: each empties its slots for the one before.
            for (digest, &candidates) in fetching_records.iter().zip(&candidates) {
                each(index, parts.find(digest, candidates));
                index += 1;
            }
            for ((_, &place), slot) in fetching_lines.iter().zip(&places).zip(&mut candidates) {
                *slot = parts.candidates(place);
                parts.fetch_records(*slot);
            }
            let group = groups.next().unwrap_or_default();
            for (digest, slot) in group.iter().zip(&mut places) {
                *slot = place_of(digest, parts.buckets);
                parts.fetch_line(slot.bucket);
            }
            (fetching_records, fetching_lines) = (fetching_lines, group);
            if fetching_records.is_empty() && fetching_lines.is_empty() {
                return;
            }
        }
    }
}

/// The two sections that a look-up reads.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) buckets: u64,
    pub(super) lines: &'a [Line],
    pub(super) records: &'a [Record],
}

impl<'a> Parts<'a> {
    #[inline]
    fn line(&self, bucket: u64) -> Option<&'a Line> {
        self.lines.get(usize::try_from(bucket).ok()?)
    }

    #[inline]
    fn record(&self, rank: u32) -> Option<&'a Record> {
        self.records.get(usize::try_from(rank).ok()?)
    }

    #[inline]
    fn candidates(&self, Place { bucket, tag }: Place) -> Candidates {
        let Some(line) = self.line(bucket) else {
            return Candidates::default();
        };
        let rank = line.rank.get();
        let count = match line.count.get() {
            COUNT_FROM_NEXT => self.count_from_next(bucket, rank),
            count => u32::from(count),
        };
        let in_use = (1_u64 << count.min(TAGGED_MAX)) - 1;
        let tagged = equal_tags(line, tag) & u32::try_from(in_use).expect("at most 29 bits");
        Candidates { rank, count, tagged }
    }

    /// Records of a bucket whose count does not fit its line.
    #[cold]
    fn count_from_next(&self, bucket: u64, rank: u32) -> u32 {
        self.line(bucket + 1).map_or(0, |next| next.rank.get().saturating_sub(rank))
    }

    #[inline]
    fn find(&self, digest: &Digest, candidates: Candidates) -> Option<Found<'a>> {
        let Candidates { rank, count, mut tagged } = candidates;
        while tagged != 0 {
            let rank = rank.checked_add(tagged.trailing_zeros())?;
            let record = self.record(rank)?;
            if record.digest == *digest {
                return Some(Found { record, rank });
            }
            tagged &= tagged - 1;
        }
        if count <= TAGGED_MAX {
            return None;
        }
        self.search(digest, rank.checked_add(TAGGED_MAX)?, count - TAGGED_MAX)
    }

    /// The rest of a bucket that outgrew its tags.
    #[cold]
    fn search(&self, digest: &Digest, rank: u32, count: u32) -> Option<Found<'a>> {
        let first = usize::try_from(rank).ok()?;
        let records = self.records.get(first..)?;
        let records = records.get(..usize::try_from(count).ok()?)?;
        let at = records.binary_search_by(|record| record.digest.cmp(digest)).ok()?;
        Some(Found { record: &records[at], rank: rank + u32::try_from(at).ok()? })
    }

    #[inline]
    fn fetch_line(&self, bucket: u64) {
        if let Some(line) = self.line(bucket) {
            fetch(line);
        }
    }

    #[inline]
    fn fetch_records(&self, candidates: Candidates) {
        let Candidates { rank, count, tagged } = candidates;
        if tagged != 0 {
            self.fetch_record(rank.saturating_add(tagged.trailing_zeros()));
        } else if count > TAGGED_MAX {
            self.fetch_untagged(rank, count);
        }
    }

    /// Asks for what will be searched. One bucket of a hundred has records without a tag, and waits
    /// in a search cost as much as a hundred look-ups.
    #[cold]
    fn fetch_untagged(&self, rank: u32, count: u32) {
        for behind in TAGGED_MAX..count.min(TAGGED_MAX + UNTAGGED_FETCHED) {
            self.fetch_record(rank.saturating_add(behind));
        }
    }

    #[inline]
    fn fetch_record(&self, rank: u32) {
        if let Some(record) = self.record(rank) {
            fetch(record);
        }
    }
}

/// A bit for each tag of a line that is `tag`; bits from [`LINE_TAGS`] on say nothing.
#[cfg(target_arch = "x86_64")]
fn equal_tags(line: &Line, tag: u16) -> u32 {
    // SAFETY: SSE2 belongs to every x86-64.
    unsafe { equal_tags_sse2(line, tag) }
}

/// All of a line in four compares.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn equal_tags_sse2(line: &Line, tag: u16) -> u32 {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
    };
    let parts: [__m128i; 4] = zerocopy::transmute!(*line);
    let tag = _mm_set1_epi16(tag.cast_signed());
    let [a, b, c, d] = parts.map(|words| _mm_cmpeq_epi16(words, tag));
    // A word that is equal is -1, and so is the byte that it is packed to.
    let low = _mm_movemask_epi8(_mm_packs_epi16(a, b)).cast_unsigned();
    let high = _mm_movemask_epi8(_mm_packs_epi16(c, d)).cast_unsigned();
    (low | high << 16) >> WORDS_BEFORE_TAGS
}

#[cfg(not(target_arch = "x86_64"))]
use equal_tags_portably as equal_tags;

/// The same without vectors.
#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_tags_portably(line: &Line, tag: u16) -> u32 {
    let tags = line.tags.iter().enumerate();
    tags.fold(0, |equal, (at, candidate)| equal | u32::from(candidate.get() == tag) << at)
}

/// Asks for the cache line of `target`, without waiting for it. `adamant-bench index` shows what
/// it is worth.
#[cfg(target_arch = "x86_64")]
fn fetch<T>(target: &T) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing and faults on no address; this one is of a live reference.
    unsafe { _mm_prefetch(std::ptr::from_ref(target).cast(), _MM_HINT_T0) };
}

#[cfg(not(target_arch = "x86_64"))]
fn fetch<T>(_target: &T) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_find_the_tags_that_are_found_without() {
        let mut random = 0x9E37_79B9_7F4A_7C15_u64;
        for round in 0..10_000_u32 {
            let mut word = || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                // Few values, so that many tags are equal, and both signs of each byte.
                [0x0000, 0x00FF, 0xFF00, 0xFFFF, 0x7FFF, 0x8000][(random % 6) as usize]
            };
            let tags = std::array::from_fn(|_| word().into());
            let line = Line { rank: (round * 65_537).into(), count: word().into(), tags };
            for tag in [0, 0x00FF, 0xFF00, 0xFFFF, 0x7FFF, 0x8000, 1] {
                let used = (1 << LINE_TAGS) - 1;
                assert_eq!(equal_tags(&line, tag) & used, equal_tags_portably(&line, tag));
            }
        }
    }
}
