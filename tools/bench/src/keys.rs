//! Which digests are stored and which are asked for.
//!
//! Digest `n` is computed from `n` and never looked up: an array of all digests would be read for
//! each draw, and that line of memory would be in the figure of whatever is measured.

use adamant::token::Digest;

/// Digests drawn outside the timed region and looked up inside it. Small enough that reading them
/// back costs nothing beside a look-up, and large enough that reading the clock does not either.
pub(crate) const BLOCK: usize = 8192;

/// What peers store beside a digest.
pub(crate) type Value = [u8; 16];

/// The digests 0 to `count - 1`, in no order. Those from `count` on are of nobody.
#[derive(Clone, Copy)]
pub(crate) struct Keys {
    seed: u64,
    count: usize,
    spread: Spread,
}

/// How digests lie among all that there could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// As hashes do.
    Even,
    /// Their first eight bytes count: all are in one bucket of the directory.
    Counting,
    /// Their first sixteen bytes are the same: one bucket, and the sorter's first bytes say nothing.
    OnePrefix,
    /// Their first two bytes are the same: a few buckets hold all.
    Narrow,
}

impl Spread {
    pub(crate) const UNEVEN: [Spread; 3] = [Spread::Counting, Spread::OnePrefix, Spread::Narrow];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Spread::Even => "even digests",
            Spread::Counting => "digests that count",
            Spread::OnePrefix => "digests of one prefix",
            Spread::Narrow => "digests of a few buckets",
        }
    }
}

impl Keys {
    pub(crate) fn new(seed: u64, count: usize) -> Keys {
        Keys::spread(seed, count, Spread::Even)
    }

    /// As an attacker would choose them, who can choose digests.
    pub(crate) fn spread(seed: u64, count: usize, spread: Spread) -> Keys {
        Keys { seed: mixed(seed), count, spread }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Two numbers never have the same digest: bytes 16 to 23 already differ.
    pub(crate) fn digest(&self, number: u64) -> Digest {
        let mut digest = [0; 32];
        for (at, part) in digest.chunks_exact_mut(8).enumerate() {
            let counter = number.wrapping_mul(4).wrapping_add(at as u64);
            part.copy_from_slice(&mixed(self.seed.wrapping_add(counter)).to_le_bytes());
        }
        match self.spread {
            Spread::Even => {}
            Spread::Counting => digest[..8].copy_from_slice(&number.to_be_bytes()),
            Spread::OnePrefix => digest[..16].fill(7),
            Spread::Narrow => digest[..2].fill(7),
        }
        digest
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = Digest> + '_ {
        (0..self.count as u64).map(|number| self.digest(number))
    }

    /// A digest, drawn anew, and whether it is stored.
    pub(crate) fn draw(&self, random: &mut Random, way: Way) -> (Digest, bool) {
        let is_hit = match way {
            Way::Hits => true,
            Way::Misses => false,
            Way::Half => random.below(2) == 0,
        };
        let number = match is_hit {
            true => random.below(self.count),
            false => self.count + random.below(1 << 40),
        };
        (self.digest(number as u64), is_hit)
    }

    pub(crate) fn sorted(&self) -> Vec<Digest> {
        let mut digests: Vec<Digest> = self.all().collect();
        digests.sort_unstable();
        digests
    }
}

/// The second half of a digest.
pub(crate) fn value_of(digest: &Digest) -> Value {
    *digest.last_chunk().expect("a digest has 32 bytes")
}

/// The first half of a value, as a number: small enough for every peer to store.
pub(crate) fn number_of(value: &Value) -> u64 {
    u64::from_le_bytes(*value.first_chunk().expect("a value has 16 bytes"))
}

/// What look-ups of a block found: how many, and the sum of their values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    found: usize,
    sum: u64,
}

impl Answers {
    pub(crate) fn add(&mut self, number: u64) {
        self.found += 1;
        self.sum = self.sum.wrapping_add(number);
    }

    pub(crate) fn add_value(&mut self, value: &Value) {
        self.add(number_of(value));
    }
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Hits,
    Misses,
    /// Each is one or the other by the toss of a coin, so that nothing can learn the order.
    Half,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Hits, Way::Misses, Way::Half];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Hits => "hits",
            Way::Misses => "misses",
            Way::Half => "half of each",
        }
    }
}

/// Draws digests, each anew.
pub(crate) struct Draw {
    keys: Keys,
    random: Random,
}

impl Draw {
    pub(crate) fn new(keys: Keys, seed: u64) -> Draw {
        Draw { keys, random: Random::new(seed) }
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Fills `block` with that many digests and says what they must find.
    pub(crate) fn fill(&mut self, block: &mut Vec<Digest>, count: usize, way: Way) -> Answers {
        let mut expected = Answers::default();
        block.clear();
        for _ in 0..count {
            let (digest, is_hit) = self.keys.draw(&mut self.random, way);
            if is_hit {
                expected.add_value(&value_of(&digest));
            }
            block.push(digest);
        }
        expected
    }
}

/// xorshift64*: quick, and good enough for places to look at.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        let wide = u128::from(self.next()) * count as u128;
        usize::try_from(wide >> 64).expect("below a count")
    }

    pub(crate) fn digest(&mut self) -> Digest {
        let mut digest = [0; 32];
        digest
            .chunks_exact_mut(8)
            .for_each(|part| part.copy_from_slice(&self.next().to_le_bytes()));
        digest
    }
}

/// The n-th number of SplitMix64, by n: every n has another.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn digests_differ_and_draws_know_which_of_them_are_stored() {
        let keys = Keys::new(1, 10_000);
        let stored: HashSet<Digest> = keys.all().collect();
        assert_eq!(stored.len(), keys.count());
        let mut draw = Draw::new(keys, 2);
        let mut block = Vec::new();
        for (way, expected) in [(Way::Hits, BLOCK), (Way::Misses, 0)] {
            draw.fill(&mut block, BLOCK, way);
            let found = block.iter().filter(|digest| stored.contains(*digest)).count();
            assert_eq!(found, expected, "{}", way.name());
        }
        let answers = draw.fill(&mut block, BLOCK, Way::Half);
        let mut found = Answers::default();
        block
            .iter()
            .filter(|digest| stored.contains(*digest))
            .for_each(|digest| found.add_value(&value_of(digest)));
        assert_eq!(found, answers);
        assert!((BLOCK / 2 - 300..BLOCK / 2 + 300).contains(&found.found));
    }
}
