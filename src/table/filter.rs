//! Which digests a small set may hold: two bits each, in one word, so that asking is one load.

use crate::token::Digest;

/// Bits a digest: with two of them set, one in some sixty absent digests seems to be there.
const BITS: usize = 16;
const WORDS_MIN: usize = 8;

/// A set of digests that errs on the side of yes.
#[derive(Clone, Debug)]
pub struct Filter {
    words: Vec<u64>,
    mask: usize,
}

impl Filter {
    /// The filter of `count` digests.
    pub fn of<'d>(count: usize, digests: impl Iterator<Item = &'d Digest>) -> Filter {
        let words = (count * BITS / 64).next_power_of_two().max(WORDS_MIN);
        let mut filter = Filter { words: vec![0; words], mask: words - 1 };
        for digest in digests {
            let (word, bits) = filter.place(digest);
            filter.words[word] |= bits;
        }
        filter
    }

    /// Whether the digest may be in the set. If not, it is not.
    #[inline]
    pub fn may_hold(&self, digest: &Digest) -> bool {
        let (word, bits) = self.place(digest);
        self.words[word] & bits == bits
    }

    /// Bytes that place no record in a directory, so that neighbours there are none here.
    #[inline]
    fn place(&self, digest: &Digest) -> (usize, u64) {
        let part = |at: usize| {
            u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]])
        };
        let (word, bits) = (part(16) as usize & self.mask, part(20));
        (word, 1 << (bits & 63) | 1 << (bits >> 6 & 63))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_is_seen_and_little_else() {
        let digest = |number: u32| *blake3::hash(&number.to_le_bytes()).as_bytes();
        for count in [0_u32, 1, 100, 20_000] {
            let set: Vec<Digest> = (0..count).map(digest).collect();
            let filter = Filter::of(set.len(), set.iter());
            assert!(set.iter().all(|digest| filter.may_hold(digest)));
            let wrong = (count..count + 20_000).filter(|n| filter.may_hold(&digest(*n))).count();
            assert!(wrong < 800, "{wrong} of 20,000 absent digests seem to be among {count}");
        }
    }
}
