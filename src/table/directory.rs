//! The directory: from a digest to the few records that it can be, in one cache line.
//!
//! The first eight bytes of a digest, as a big-endian number, are spread over the buckets in
//! order: `bucket = (number x buckets) >> 64`. No division, and buckets follow each other as the
//! records do. The *tag* is the next 16 bits of the same product: it tells the records of a bucket
//! apart without touching them.
//!
//! A line holds the tags of its first 29 records. Records past those, and digests that are no
//! uniform hashes, end in a binary search inside the bucket.

use super::format::{COUNT_FROM_NEXT, LINE_TAGS, Line};
use crate::token::Digest;

/// Where a digest belongs in a directory of some size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) bucket: u64,
    pub(super) tag: u16,
}

#[expect(clippy::cast_possible_truncation, reason = "the high half, and the 16 bits below it")]
pub(super) fn place_of(digest: &Digest, buckets: u64) -> Place {
    let (head, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    let product = u128::from(u64::from_be_bytes(*head)) * u128::from(buckets);
    Place { bucket: (product >> 64) as u64, tag: (product >> 48) as u16 }
}

/// Makes the lines from the digests of all records, in their order.
pub(super) struct LineMaker {
    buckets: u64,
    bucket: u64,
    rank: u32,
    line: Line,
    count: u64,
}

impl LineMaker {
    pub(super) fn new(buckets: u64) -> LineMaker {
        LineMaker { buckets, bucket: 0, rank: 0, line: empty_line(0), count: 0 }
    }

    /// Takes the next digest and gives the lines that it completes to `out`.
    pub(super) fn push<E>(
        &mut self,
        digest: &Digest,
        out: &mut impl FnMut(&Line) -> Result<(), E>,
    ) -> Result<(), E> {
        let place = place_of(digest, self.buckets);
        while self.bucket < place.bucket {
            self.complete(out)?;
        }
        if let Some(tag) =
            usize::try_from(self.count).ok().and_then(|at| self.line.tags.get_mut(at))
        {
            tag.set(place.tag);
        }
        self.count += 1;
        self.rank += 1;
        Ok(())
    }

    /// Gives the remaining lines to `out`, and last the one that only bears the record count.
    pub(super) fn finish<E>(
        mut self,
        out: &mut impl FnMut(&Line) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.bucket <= self.buckets {
            self.complete(out)?;
        }
        Ok(())
    }

    fn complete<E>(&mut self, out: &mut impl FnMut(&Line) -> Result<(), E>) -> Result<(), E> {
        self.line.count.set(u16::try_from(self.count).unwrap_or(COUNT_FROM_NEXT));
        out(&self.line)?;
        self.bucket += 1;
        self.line = empty_line(self.rank);
        self.count = 0;
        Ok(())
    }
}

fn empty_line(rank: u32) -> Line {
    Line { rank: rank.into(), count: 0.into(), tags: [0.into(); LINE_TAGS] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_digests_and_tags_tell_them_apart() {
        let place = |begins: &[u8]| {
            let mut digest = [0; 32];
            digest[..begins.len()].copy_from_slice(begins);
            let Place { bucket, tag } = place_of(&digest, 10);
            (bucket, tag)
        };
        assert_eq!(place(&[]), (0, 0));
        assert_eq!(place(&[0, 1]), (0, 10));
        assert_eq!(place(&[0x80]), (5, 0));
        assert_eq!(place(&[0xFF; 8]), (9, 0xFFFF));
        // The rest of a digest has no part in it.
        assert_eq!(place(&[0, 0, 0, 0, 0, 0, 0, 0, 0xFF]), (0, 0));
    }
}
