//! From digests to records: two cache lines a hit, one a miss.
//!
//! A batch is looked up in three stages that run apart from each other: fetch the directory line,
//! read it and fetch the record it names, compare the record. While one digest waits for memory,
//! [`AHEAD`] others are on their way.
//!
//! Nothing here trusts the directory. Ranks and counts that lie, in a table that was never
//! verified, find nothing; they cannot read out of bounds.

#![allow(unsafe_code)]

use super::Table;
use super::directory::place_of;
use super::format::{COUNT_FROM_NEXT, LINE_TAGS, Line, Record};
use crate::token::Digest;

/// How many digests each stage runs before the next: about a memory access, 100 ns, in look-ups
/// of 10 ns each. A power of two, so that a slot is a mask.
const AHEAD: usize = 16;

/// [`LINE_TAGS`], as ranks are counted.
const TAGGED_MAX: u32 = 29;

/// Rank and count, in words of 16 bits.
const WORDS_BEFORE_TAGS: u32 = 3;

const _: () = assert!(AHEAD.is_power_of_two());
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
        let place = place_of(digest, parts.buckets);
        parts.find(digest, parts.candidates(place.bucket, place.tag))
    }

    /// Looks all of `digests` up and gives each result, with its index, to `each`, in order. The
    /// record is in the cache when `each` sees it.
    pub fn get_many<'a>(
        &'a self,
        digests: &[Digest],
        mut each: impl FnMut(usize, Option<Found<'a>>),
    ) {
        let parts = self.parts();
        let mut places = [(0_u64, 0_u16); AHEAD];
        let mut candidates = [Candidates::default(); AHEAD];
        for step in 0..digests.len() + 2 * AHEAD {
            // The stages of one step use one slot: each empties it for the one before.
            let slot = step % AHEAD;
            if let Some(index) = step.checked_sub(2 * AHEAD) {
                each(index, parts.find(&digests[index], candidates[slot]));
            }
            if step >= AHEAD && step - AHEAD < digests.len() {
                let (bucket, tag) = places[slot];
                candidates[slot] = parts.candidates(bucket, tag);
                parts.fetch_record(candidates[slot]);
            }
            if let Some(digest) = digests.get(step) {
                let place = place_of(digest, parts.buckets);
                places[slot] = (place.bucket, place.tag);
                parts.fetch_line(place.bucket);
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
    fn line(&self, bucket: u64) -> Option<&'a Line> {
        self.lines.get(usize::try_from(bucket).ok()?)
    }

    fn candidates(&self, bucket: u64, tag: u16) -> Candidates {
        let Some(line) = self.line(bucket) else {
            return Candidates::default();
        };
        let rank = line.rank.get();
        let count = match line.count.get() {
            COUNT_FROM_NEXT => {
                self.line(bucket + 1).map_or(0, |next| next.rank.get().saturating_sub(rank))
            }
            count => u32::from(count),
        };
        let in_use = (1_u64 << count.min(TAGGED_MAX)) - 1;
        let tagged = equal_tags(line, tag) & u32::try_from(in_use).expect("at most 29 bits");
        Candidates { rank, count, tagged }
    }

    #[inline]
    fn find(&self, digest: &Digest, candidates: Candidates) -> Option<Found<'a>> {
        let Candidates { rank, count, mut tagged } = candidates;
        while tagged != 0 {
            let rank = rank.checked_add(tagged.trailing_zeros())?;
            let record = self.records.get(usize::try_from(rank).ok()?)?;
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

    fn fetch_line(&self, bucket: u64) {
        if let Some(line) = self.line(bucket) {
            fetch(line);
        }
    }

    fn fetch_record(&self, candidates: Candidates) {
        if candidates.tagged == 0 {
            return;
        }
        let rank = u64::from(candidates.rank) + u64::from(candidates.tagged.trailing_zeros());
        if let Some(record) = usize::try_from(rank).ok().and_then(|rank| self.records.get(rank)) {
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
