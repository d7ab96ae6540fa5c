//! `slice::binary_search` in an array of the digests.

use adamant::token::Digest;

use super::Peer;
use crate::keys::{Answers, value_of};
use crate::report::Fact;

pub(crate) struct Sorted<'a> {
    digests: &'a [Digest],
}

impl<'a> Sorted<'a> {
    pub(crate) fn new(digests: &'a [Digest]) -> Sorted<'a> {
        Sorted { digests }
    }
}

impl Peer for Sorted<'_> {
    fn name(&self) -> &'static str {
        "slice::binary_search"
    }

    fn look_up(&self, block: &[Digest]) -> anyhow::Result<Answers> {
        let mut answers = Answers::default();
        for digest in block {
            if let Ok(at) = self.digests.binary_search(digest) {
                answers.add_value(&value_of(&self.digests[at]));
            }
        }
        Ok(answers)
    }

    fn fact(&self) -> Option<Fact> {
        Some(Fact::BinarySearchOverOurs)
    }
}
