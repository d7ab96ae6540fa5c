//! A hash table in memory: hashbrown, with a hasher that takes the first eight bytes of a digest.
//! They are uniform already, so any other hasher would only be slower.

use std::hash::{BuildHasherDefault, Hasher};

use adamant::token::Digest;
use hashbrown::HashMap;

use super::Peer;
use crate::keys::{Answers, Value, value_of};

pub(crate) struct Hash {
    map: HashMap<Digest, Value, BuildHasherDefault<FirstEight>>,
}

impl Hash {
    pub(crate) fn new(digests: &[Digest]) -> Hash {
        let mut map =
            HashMap::with_capacity_and_hasher(digests.len(), BuildHasherDefault::default());
        map.extend(digests.iter().map(|digest| (*digest, value_of(digest))));
        Hash { map }
    }
}

impl Peer for Hash {
    fn name(&self) -> &'static str {
        "hashbrown, first 8 bytes as hash"
    }

    fn look_up(&self, block: &[Digest]) -> anyhow::Result<Answers> {
        let mut answers = Answers::default();
        block.iter().filter_map(|digest| self.map.get(digest)).for_each(|it| answers.add_value(it));
        Ok(answers)
    }
}

#[derive(Default)]
pub(crate) struct FirstEight(u64);

impl Hasher for FirstEight {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    /// The length, which comes before the bytes of an array.
    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
